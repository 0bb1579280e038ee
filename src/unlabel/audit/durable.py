"""The claim C4: the label does not come back when the model is compressed, trained further or shown a few."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unlabel.audit.contrasts import seeded
from unlabel.audit.equivalent import NO_REFERENCE
from unlabel.audit.judging import (
    FEATURE_ATTACKS,
    IN_WORDS,
    Cell,
    Judgement,
    Readings,
    images_needed,
    joined,
    judge,
    unit_of,
)
from unlabel.audit.relearn import Relearnt, faster
from unlabel.audit.subject import AuditOptions, Question
from unlabel.findings import Claim, Verdict

RECOVERED = ("own.adv", "others.adv.lin", *FEATURE_ATTACKS)
FEW = "few.auc@"
TRANSFORMS: Mapping[str, str] = {  # in words; `transforms` does them
    "fp16": "storing the weights in 16 bits",
    "int8": "storing the weights in 8 bits",
    "int4": "storing the weights in 4 bits",
    "prune20": "removing the smallest fifth of the weights",
    "prune50": "removing the smallest half of the weights",
    "bn": "recalibrating BatchNorm",
    "retain_ft": "training on with the retained labels",
}

Rows = Mapping[str, Readings]  # label -> attack -> figure


@dataclass(frozen=True)
class Recovery:
    """What the durability tests measured.

    Args:
        after: Of the unlearned model, by transform and label: every attack of `RECOVERED` after it.
        references: The same of each retrained model.
        few: By label, of every model in the audit's order (before, after, references): few-shot probes.
    """

    after: Mapping[str, Rows]
    references: Sequence[Mapping[str, Rows]]
    few: Mapping[str, Sequence[Mapping[int, Relearnt]]]


def recovery_cells(after: Mapping[str, Rows], untouched: Rows, options: AuditOptions) -> list[Cell]:
    """What each transform brought back, attack by attack: the figure after it less the figure before."""
    return [
        Cell(
            label,
            f"recover.{figure}",
            seeded(rows[figure] - untouched[label][figure], ()),
            options.d_recover,
            transform=name,
        )
        for name, labels in after.items()
        for label, rows in labels.items()
        for figure in RECOVERED
    ]


def few_cells(few: Mapping[str, Sequence[Mapping[int, Relearnt]]], options: AuditOptions) -> list[Cell]:
    """How much faster the model relearns each label than the retrained ones, for every judged size."""
    return [
        Cell(label, f"{FEW}{n}", faster(after[n], [reference[n] for reference in references]), options.d_few)
        for label, (_, after, *references) in few.items()
        if references
        for n in after
        if n >= options.few_judged
    ]


def claim_durable(
    recovery: Recovery,
    untouched: Rows,
    references: Sequence[Rows],
    questions: Mapping[str, Question],
    options: AuditOptions,
) -> tuple[Claim, Judgement]:
    """C4: no transform brings the label back, and few images teach it no better than retrained models.

    Args:
        recovery: What was measured.
        untouched: Readings of the unlearned model as it is, by label.
        references: Readings of every retrained model as it is.
        questions: The labels' annotations.
        options: Margins.
    """
    rare = frozenset(name for name, question in questions.items() if question.rarer < options.rare)
    cells = [*recovery_cells(recovery.after, untouched, options), *few_cells(recovery.few, options)]
    judged = judge(cells, rare, options)
    wanted = [n for n in options.few_sizes if n >= options.few_judged]
    lacking = {
        name: [n for n in wanted if n not in models[1]]
        for name, models in recovery.few.items()
        if any(n not in models[1] for n in wanted)
    }
    notes: dict[str, object] = {
        "rule": f"PASS: no transform raises an attack by {options.d_recover:g} advantage or bits, and probes"
        f" on {joined([str(n) for n in wanted])} annotated images exceed those on retrained models by less"
        f" than {options.d_few:g} AUC; FAIL: some test is above its margin, corrected for their number",
        "transforms": list(recovery.after),
        "not_applicable": [name for name in TRANSFORMS if name not in recovery.after],
        "recoveries": _recoveries(recovery, untouched, references, options),
        "few_shot": _few_table(recovery.few, options),
        "draws": options.draws,
        "too_few_in_p": lacking,
        "references": len(references),
        "rare": sorted(rare),
    }
    verdict: Verdict = judged.verdict
    if verdict == "PASS" and lacking:
        verdict = "INCONCLUSIVE"
    if verdict == "PASS" and not references:
        verdict = "NOT_EVALUATED"
        notes["finding"] = NO_REFERENCE
    if verdict == "INCONCLUSIVE":
        notes["images_needed"] = _images_needed(judged, questions, options)
    per_label: dict[str, Verdict] = {
        name: verdict if each == "PASS" and (not references or name in lacking) else each
        for name, each in judged.per_label.items()
    }
    sentence = _sentence(verdict, judged, lacking, rare, list(questions), notes, options)
    provisional = 0 < len(references) < 3
    claim = Claim(verdict, sentence, options.budget, provisional, judged.binding.figure, per_label, notes)
    return claim, judged


def _recoveries(
    recovery: Recovery, untouched: Rows, references: Sequence[Rows], options: AuditOptions
) -> dict[str, dict[str, dict[str, object]]]:
    """By transform and label, the attack that gained most, and what it gained on the retrained models."""
    found: dict[str, dict[str, dict[str, object]]] = {}
    for name, labels in recovery.after.items():
        for label, rows in labels.items():
            gains = {figure: rows[figure] - untouched[label][figure] for figure in RECOVERED}
            most = max(gains, key=lambda figure: gains[figure].value)
            retrained = [
                changed[name][label][most].value - plain[label][most].value
                for changed, plain in zip(recovery.references, references, strict=True)
                if name in changed
            ]
            found.setdefault(name, {})[label] = {
                "attack": most,
                "gain": gains[most].value,
                "upper": gains[most].upper(options.level),
                "gain_of_retrained": sum(retrained) / len(retrained) if retrained else None,
            }
    return found


def _few_table(
    few: Mapping[str, Sequence[Mapping[int, Relearnt]]], options: AuditOptions
) -> dict[str, dict[str, dict[str, object]]]:
    """By label and size: D of the unlearned model, and D of the original, which must be plain to see."""
    table: dict[str, dict[str, dict[str, object]]] = {}
    for label, (before, after, *references) in few.items():
        for n in after if references else ():
            others = [reference[n] for reference in references]
            ours, original = faster(after[n], others), faster(before[n], others)
            table.setdefault(label, {})[str(n)] = {
                "excess": ours.value,
                "upper": ours.upper(options.level),
                "excess_of_original": original.value,
                "original_would_fail": original.lower(options.level) > options.d_few,
            }
    return table


def _images_needed(
    judged: Judgement, questions: Mapping[str, Question], options: AuditOptions
) -> dict[str, int | None]:
    return {
        name: images_needed(judged.cells, questions[name], options)
        for name, each in judged.per_label.items()
        if each == "INCONCLUSIVE"
    }


def _sentence(
    verdict: Verdict,
    judged: Judgement,
    lacking: Mapping[str, Sequence[int]],
    rare: frozenset[str],
    names: Sequence[str],
    notes: Mapping[str, object],
    options: AuditOptions,
) -> str:
    cell = judged.binding
    what, gain = _spoken(cell), f"{cell.contrast.value:.3f} {_unit(cell)}"
    bound = f"{cell.contrast.upper(options.level):.3f}"
    if verdict == "PASS":
        return (
            f"Compressing the model, pruning it or training it on brings {joined(names)} back nowhere, and"
            f" few annotated images teach it no better than a retrained model; the closest is {what}: at most"
            f" {bound} {_unit(cell)} more (margin {cell.margin:g})."
        )
    if verdict == "FAIL":
        return f"{cell.label} comes back: {what} gains {gain} (margin {cell.margin:g})."
    if verdict == "NOT_EVALUATED":
        return (
            f"Compressing the model, pruning it or training it on brings {joined(names)} back nowhere;"
            " whether few annotated images teach it faster than they teach a retrained model needs one."
        )
    if rare:
        return (
            f"Fewer than {options.rare} test images have, or lack, {joined(sorted(rare))}: too few to decide."
        )
    if lacking:
        name = next(iter(lacking))
        return (
            f"P has too few images of a kind for probes on {joined([str(n) for n in lacking[name]])} images"
            f" with annotations of {name}."
        )
    needed = notes.get("images_needed")
    enough = needed.get(cell.label) if isinstance(needed, dict) else None
    more = f"; about {enough:,} test images would decide" if enough else ""
    return (
        f"The data cannot decide whether {cell.label} comes back: {what} gains {gain}, possibly up to {bound}"
        f" (margin {cell.margin:g}){more}."
    )


def _unit(cell: Cell) -> str:
    return {"adv": "advantage", "bits": "bits", "auc": "AUC"}[unit_of(cell.figure)]


def _spoken(cell: Cell) -> str:
    """A test in words."""
    if cell.transform is None:
        return f"a probe on {cell.figure.removeprefix(FEW)} annotated images, against retrained models,"
    attack = IN_WORDS[cell.figure.removeprefix("recover.")]
    return f"{attack}, after {TRANSFORMS.get(cell.transform, cell.transform)},"
