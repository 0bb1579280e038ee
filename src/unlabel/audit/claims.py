"""The claims C1 disabled, C2 retrain-equivalent, C3 erased and C5 useful, each decided from readings."""

from collections.abc import Mapping, Sequence

from unlabel.audit.judging import (
    ATTACKS,
    FEATURE_ATTACKS,
    IN_WORDS,
    OUTPUT_ATTACKS,
    Judgement,
    Readings,
    excess_cells,
    images_needed,
    joined,
    judge,
    unit_of,
)
from unlabel.audit.outputs import OwnOutput
from unlabel.audit.statistics import Estimate, mean, seeded
from unlabel.audit.subject import AuditOptions, Question
from unlabel.findings import Claim, Verdict

NOTHING = "nothing to forget found"
NO_REFERENCE = "no reference"
SUFFICES = "head removal suffices here"
BLIND = "cannot discriminate"


def disabled(own: OwnOutput, question: Question, options: AuditOptions) -> Verdict:
    """C1 of one label: PASS when the output is a constant, or no better than a coin on E and on T_in."""
    if own.absent:
        return "PASS"
    if question.rarer < options.rare:
        return "INCONCLUSIVE"
    signed = (own.signed(question), own.signed_on_train(question))
    if any(item.absolute().lower(options.level) > options.d_chance for item in signed):
        return "FAIL"
    inside = (
        item.lower(options.level) > -options.d_chance and item.upper(options.level) < options.d_chance
        for item in signed
    )
    return "PASS" if all(inside) else "INCONCLUSIVE"


def all_of(verdicts: Sequence[Verdict]) -> Verdict:
    """FAIL where one fails, PASS where all pass."""
    if "FAIL" in verdicts:
        return "FAIL"
    return "PASS" if set(verdicts) == {"PASS"} else "INCONCLUSIVE"


def claim_disabled(
    owns: Mapping[str, OwnOutput],
    questions: Mapping[str, Question],
    put_back: Mapping[str, Estimate | None],
    options: AuditOptions,
) -> Claim:
    """C1: the label's own output says nothing any more."""
    per_label = {name: disabled(own, questions[name], options) for name, own in owns.items()}
    verdict = all_of(list(per_label.values()))
    signed = {
        name: max(
            (own.signed(questions[name]), own.signed_on_train(questions[name])),
            key=lambda item: abs(item.value),
        )
        for name, own in owns.items()
    }
    absent = [name for name, own in owns.items() if own.absent]
    inverted = [
        name
        for name, own in owns.items()
        if own.signed(questions[name]).upper(options.level) < -options.d_chance
    ]
    back = {name: abs(item.value) for name, item in put_back.items() if item is not None}
    notes: dict[str, object] = {
        "rule": f"PASS: the output is a constant, or its advantage lies within +-{options.d_chance:g} on test"
        f" and on training images; FAIL: its advantage is above {options.d_chance:g} on either",
        "absent": absent,
        "inverted": inverted,
        "advantage_with_row_put_back": back,
    }
    worst = max(owns, key=lambda name: abs(signed[name].value))
    number = f"{abs(signed[worst].value):.2f}"
    names = joined(list(owns))
    if verdict == "FAIL":
        turned = " It is turned round: 'no' now means 'yes'." if worst in inverted else ""
        sentence = (
            f"The model's own output for {worst} still tells who has it: advantage {number}, where 0 is a"
            f" coin and 1 is perfect.{turned}"
        )
    elif verdict == "PASS" and len(absent) == len(owns):
        sentence = f"The model no longer answers for {names}: its output is the same number for every image."
        if back:
            most = max(back, key=lambda name: back[name])
            sentence += (
                f" With the original's output row for {most} put back, the advantage is {back[most]:.2f}."
            )
    elif verdict == "PASS":
        sentence = (
            f"The model's own output for {names} is no better than a coin, within {options.d_chance:g}."
        )
    else:
        sentence = (
            f"There are too few images to tell whether the output for {worst} is a coin (advantage {number})."
        )
    return Claim(verdict, sentence, options.budget, binding="own.sadv", per_label=per_label, notes=notes)


def margin_of(figure: str, options: AuditOptions) -> float:
    """C2's margin of an attack, in its own unit."""
    return options.d_reference_bits if unit_of(figure) == "bits" else options.d_reference


def weigh(
    model: Mapping[str, Readings],
    references: Sequence[Mapping[str, Readings]],
    rare: frozenset[str],
    options: AuditOptions,
) -> Judgement:
    """Every attack on a model against the mean of the retrained ones."""
    cells = excess_cells(model, references, ATTACKS, lambda figure: margin_of(figure, options), pooled=True)
    return judge(cells, rare, options, mean_passes=True)


def claim_equivalent(
    after: Mapping[str, Readings],
    references: Sequence[Mapping[str, Readings]],
    decoy: Mapping[str, Readings],
    positive: Mapping[str, float],
    questions: Mapping[str, Question],
    options: AuditOptions,
) -> tuple[Claim, Judgement | None, Judgement | None]:
    """C2: no attack learns more from the model than from models retrained without the label.

    Args:
        after: Readings of the unlearned model, by label.
        references: Readings of every retrained model.
        decoy: Readings of the original with the output row removed.
        positive: Lower bound of the best attack on the original, by label.
        questions: The labels' annotations.
        options: Margins.

    Returns:
        The claim, and the judgements of the model and of the decoy where there was something to judge.
    """
    provisional = len(references) < 3
    names = joined(list(after))
    rule = (
        f"PASS: every attack's excess over the retrained models is below {options.d_reference:g} advantage"
        f" and {options.d_reference_bits:g} bits, and removing the original's output row alone does not"
        " achieve that; FAIL: some attack's excess is above, corrected for the number of attacks"
    )
    if not references:
        open_labels: dict[str, Verdict] = dict.fromkeys(after, "NOT_EVALUATED")
        sentence = (
            f"No model retrained without {names} was given, so nothing says how much the features and the"
            " other outputs may rightly tell."
        )
        return (
            Claim(
                "NOT_EVALUATED",
                sentence,
                options.budget,
                provisional,
                None,
                open_labels,
                {"finding": NO_REFERENCE, "rule": rule},
            ),
            None,
            None,
        )
    sought = [name for name in after if positive[name] >= options.d_chance]
    known: dict[str, Verdict] = {name: "NOT_EVALUATED" for name in after if name not in sought}
    if not sought:
        sentence = f"No attack finds {names} in the original model, so there is nothing to forget."
        return (
            Claim(
                "NOT_EVALUATED",
                sentence,
                options.budget,
                provisional,
                None,
                known,
                {"finding": NOTHING, "rule": rule},
            ),
            None,
            None,
        )
    rare = frozenset(name for name in sought if questions[name].rarer < options.rare)

    def chosen(rows: Mapping[str, Readings]) -> dict[str, Readings]:
        return {name: rows[name] for name in sought}

    judged = weigh(chosen(after), [chosen(other) for other in references], rare, options)
    removed = weigh(chosen(decoy), [chosen(other) for other in references], rare, options)
    per_label = {
        name: "INCONCLUSIVE" if verdict == "PASS" and removed.per_label[name] != "FAIL" else verdict
        for name, verdict in judged.per_label.items()
    }
    notes: dict[str, object] = {
        "rule": rule,
        "head_zero": removed.verdict,
        "references": len(references),
        "nothing_to_forget": list(known),
        "rare": sorted(rare),
    }
    verdict = judged.verdict
    if verdict == "PASS" and removed.verdict != "FAIL":
        verdict = "INCONCLUSIVE"
        notes["finding"] = SUFFICES if removed.verdict == "PASS" else BLIND
    if "INCONCLUSIVE" in (verdict, *per_label.values()):
        notes["images_needed"] = {
            name: images_needed(judged.cells, questions[name], options)
            for name, each in per_label.items()
            if each == "INCONCLUSIVE"
        }
    sentence = _sentence_equivalent(verdict, judged, notes, joined(sought), rare, options)
    claim = Claim(
        verdict, sentence, options.budget, provisional, judged.binding.figure, {**known, **per_label}, notes
    )
    return claim, judged, removed


def _sentence_equivalent(
    verdict: Verdict,
    judged: Judgement,
    notes: Mapping[str, object],
    names: str,
    rare: frozenset[str],
    options: AuditOptions,
) -> str:
    cell = judged.binding
    unit = "bits" if unit_of(cell.figure) == "bits" else "advantage"
    attack, of = IN_WORDS[cell.figure], cell.label or names
    bound = cell.contrast.upper(options.level)
    if verdict == "PASS":
        return (
            f"No attack learns more about {names} from this model than from models retrained without it,"
            f" within the margins; the closest is {attack}: at most {bound:.3f} {unit} more (margin"
            f" {cell.margin:g})."
        )
    if verdict == "FAIL":
        return (
            f"More about {of} can be learnt from this model than from models retrained without it: {attack}"
            f" gains {cell.contrast.value:.3f} {unit} more (margin {cell.margin:g})."
        )
    if notes.get("finding") == SUFFICES:
        return (
            f"The original without its output for {names} already tells no more than retrained models do, so"
            " removing the output is all there was to do, and nothing shows that this method forgets."
        )
    if notes.get("finding") == BLIND:
        return (
            f"This model passes, but the data cannot show that the original without its output for {names}"
            " would fail, so the pass does not count."
        )
    if rare:
        return (
            f"Fewer than {options.rare} test images have, or lack, {joined(sorted(rare))}: too few to decide."
        )
    return (
        f"The data cannot decide whether more about {of} can be learnt from this model than from retrained"
        f" ones: {attack} gains {cell.contrast.value:.3f} {unit}, possibly up to {bound:.3f} (margin"
        f" {cell.margin:g})."
    )


def claim_erased(
    after: Mapping[str, Readings],
    references: Sequence[Mapping[str, Readings]],
    floors: Mapping[str, Estimate],
    questions: Mapping[str, Question],
    options: AuditOptions,
) -> Claim:
    """C3: attacks are at chance, on the outputs and on the features.

    Labels go together, so this is often out of reach of any useful model; `attainable` says so.
    """
    rare = frozenset(name for name, question in questions.items() if question.rarer < options.rare)

    def margin(figure: str) -> float:
        return options.d_erased_bits if unit_of(figure) == "bits" else options.d_chance

    levels = {
        "outputs": judge(excess_cells(after, (), OUTPUT_ATTACKS, margin, pooled=False), rare, options),
        "embedding": judge(excess_cells(after, (), FEATURE_ATTACKS, margin, pooled=False), rare, options),
    }
    verdict = all_of([level.verdict for level in levels.values()])
    per_label = {name: all_of([level.per_label[name] for level in levels.values()]) for name in after}
    attainable: bool | None = None
    if references:
        attainable = not any(
            floors[name].lower(options.level) > options.d_chance
            and seeded(
                mean([other[name]["others.adv.gbt"] for other in references]),
                [other[name]["others.adv.gbt"].value for other in references],
            ).lower(options.level)
            > options.d_chance
            for name in after
        )
    binding = next(
        (level.binding for level in levels.values() if level.verdict == verdict), levels["outputs"].binding
    )
    names = joined(list(after))
    number = f"{binding.contrast.value:.2f} {'bits' if unit_of(binding.figure) == 'bits' else 'advantage'}"
    sentence = {
        "PASS": f"No attack does better than a coin on {names}, on the outputs or on the features.",
        "FAIL": f"{binding.label} can still be told better than by a coin: {IN_WORDS[binding.figure]} reaches"
        f" {number}.",
        "INCONCLUSIVE": f"The data cannot decide whether every attack on {names} is a coin.",
    }[verdict]
    if attainable is False and verdict != "PASS":
        sentence += " The retained labels, if answered correctly, give that much away by themselves."
    notes = {
        "rule": f"PASS: every attack is below {options.d_chance:g} advantage and every probe below"
        f" {options.d_erased_bits:g} bits; FAIL: some attack is above, corrected for the number of attacks",
        "outputs": levels["outputs"].verdict,
        "embedding": levels["embedding"].verdict,
        "attainable": attainable,
    }
    return Claim(verdict, sentence, options.budget, False, binding.figure, per_label, notes)
