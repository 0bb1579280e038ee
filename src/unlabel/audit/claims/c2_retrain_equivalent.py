"""The claim C2, retrain-equivalent: the model leaks no more than models retrained without the label."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from unlabel.audit.attacks.controls import best_attack
from unlabel.audit.attacks.prediction import Prediction
from unlabel.audit.claims.judging import (
    Judgement,
    counts,
    excess_cells,
    few_people,
    judge,
    place_of,
    reference_margin,
    unit_words,
)
from unlabel.audit.claims.margins import Limits, limits, smallest
from unlabel.audit.claims.predicted import made_from, prediction_notes
from unlabel.audit.claims.sample_size import Need, needs, notes_of, too_rare, too_thin, worded
from unlabel.audit.document.reasons import CANNOT_TELL
from unlabel.audit.document.results import Claim, Verdict
from unlabel.audit.figures import LABEL_MEMBERSHIP, Readings, judged_by
from unlabel.audit.figures import figure as entry
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.core.wording import beside_margin, joined

NOTHING = "nothing to forget found"
NO_REFERENCE = "no reference"
SUFFICES = "head removal suffices here"
BLIND = "cannot discriminate"
DECIDED = ("PASS", "FAIL")  # of the original without its output: only then does a PASS say something


def weigh(
    model: Mapping[str, Readings],
    references: Sequence[Mapping[str, Readings]],
    rare: frozenset[str],
    options: AuditOptions,
    thin: frozenset[str] = frozenset(),
) -> Judgement:
    """Every attack on a model against the mean of the retrained ones.

    Args:
        model, references: Readings by label.
        rare: Labels whose tests decide nothing.
        options: Margins.
        thin: Labels of which membership, read on the test split alone, decides nothing.
    """
    measured = next(iter(model.values()))
    figures = [figure for figure in judged_by("C2") if figure in measured]
    cells = excess_cells(
        model, references, figures, lambda figure: reference_margin(figure, options), pooled=True
    )
    few = thin & model.keys()
    cells = [
        replace(cell, few_people=bool(few) if cell.label is None else cell.label in few)
        if cell.figure == LABEL_MEMBERSHIP.id
        else cell
        for cell in cells
    ]
    return judge(cells, rare, options, mean_passes=True)


def claim_equivalent(
    after: Mapping[str, Readings],
    references: Sequence[Mapping[str, Readings]],
    decoy: Mapping[str, Readings],
    positive: Mapping[str, float],
    questions: Mapping[str, Question],
    options: AuditOptions,
    prediction: Prediction | None = None,
) -> tuple[Claim, Judgement | None, Judgement | None]:
    """C2: no attack recovers more from the model than from models retrained without the label.

    Args:
        after: Readings of the unlearned model, by label.
        references: Readings of every retrained model.
        decoy: Readings of the original with the output row removed.
        positive: Lower bound of the best attack on the original, by label. If neither it nor that on the
            unlearned model reaches `d_chance`, there is nothing to forget.
        questions: The labels' annotations.
        options: Margins.
        prediction: Without references: what attacks would find in one.

    Returns:
        The claim, and the judgements of the model and of the decoy where there was something to judge.
    """
    provisional, given = len(references) < 3, len(references)
    if prediction is not None:
        assert not references, "a level that was measured needs no prediction"
        references = [prediction.levels]
    rare = frozenset(name for name in after if questions[name].rare(options))
    sought = _sought(after, positive, rare, options)
    if not (references and sought):
        finding = NOTHING if references else NO_REFERENCE
        return _open(finding, after, options, provisional=provisional), None, None

    model, original, *models = [{name: rows[name] for name in sought} for rows in (after, decoy, *references)]
    thin = frozenset(name for name in sought if questions[name].thin(options))
    judged = weigh(model, models, rare, options, thin)
    removed = weigh(original, models, rare, options, thin)
    per_label: dict[str, Verdict] = {name: "NOT_EVALUATED" for name in after if name not in sought}
    per_label |= _per_label(judged, removed)
    verdict, finding = _decided(judged, removed)
    open_ = {name: questions[name] for name, each in per_label.items() if each == "INCONCLUSIVE"}
    notes: dict[str, object] = {
        "rule": _rule(options),
        "head_zero": removed.verdict,
        "references": given,
        "nothing_to_forget": [name for name in after if name not in sought],
        "rare": sorted(rare),
        **prediction_notes(prediction),
        **place_of(judged.binding, sought),
        **_margins(judged, removed, models, rare, options),
        **({"finding": finding} if finding else {}),
        **({"open_labels": list(open_)} if open_ and verdict == "PASS" else {}),
    }
    need = _need(judged, removed, open_, given, options)
    notes |= notes_of(need) if open_ or verdict == "INCONCLUSIVE" else {}
    sentence = _sentence_equivalent(verdict, judged, notes, joined(sought), rare, need, options)
    if prediction is not None:
        sentence = f"{sentence} {made_from(prediction)}"
    figure = judged.binding.figure
    return (
        Claim(verdict, sentence, options.budget, provisional, figure, per_label, notes),
        judged,
        removed,
    )


def _sought(
    after: Mapping[str, Readings],
    positive: Mapping[str, float],
    rare: frozenset[str],
    options: AuditOptions,
) -> list[str]:
    """Labels that are rare, or that an attack finds in the original or in the unlearned model."""

    def most(name: str) -> float:
        return max(positive[name], best_attack(after[name], options.level)[1])

    return [name for name in after if name in rare or most(name) >= options.d_chance]


def _rule(options: AuditOptions) -> str:
    """When the claim passes and when it fails, in words."""
    return (
        f"PASS if every attack's excess over the retrained models is below {options.d_reference:g} advantage"
        f" and {options.d_reference_bits:g} bits, and the same data decide whether removing the original's"
        " output row alone achieves that; FAIL if some attack's excess is above, corrected for the number of"
        " attacks"
    )


def _decided(judged: Judgement, removed: Judgement) -> tuple[Verdict, str | None]:
    """The verdict, which a PASS keeps only if the original without its output is decided, and the finding."""
    if judged.verdict == "PASS" and removed.verdict == "PASS":
        return "PASS", SUFFICES
    if judged.verdict == "PASS" and removed.verdict not in DECIDED:
        return "INCONCLUSIVE", BLIND
    return judged.verdict, None


def _per_label(judged: Judgement, removed: Judgement) -> dict[str, Verdict]:
    """The same of each label."""
    return {
        name: "INCONCLUSIVE" if verdict == "PASS" and removed.per_label[name] not in DECIDED else verdict
        for name, verdict in judged.per_label.items()
    }


def _need(
    judged: Judgement,
    removed: Judgement,
    open_: Mapping[str, Question],
    references: int,
    options: AuditOptions,
) -> dict[str, Need]:
    """What would decide the labels that are open, by the tests that leave them so."""
    blind = [cell for cell in removed.cells if judged.per_label.get(cell.label or "") == "PASS"]
    own = [cell for cell in judged.cells if judged.per_label.get(cell.label or "") != "PASS"]
    return needs([*blind, *own], open_, references, options)


def _margins(
    judged: Judgement,
    removed: Judgement,
    references: Sequence[Mapping[str, Readings]],
    rare: frozenset[str],
    options: AuditOptions,
) -> dict[str, object]:
    """The smallest margins that would pass, and those of the original and of each retrained model."""
    thin = few_people(judged.cells)
    published = {"adv": options.d_reference, "bits": options.d_reference_bits}

    def of(judgement: Judgement) -> Limits:
        cells = [[cell] for cell in judgement.cells if counts(cell, rare)]
        open_ = any(not counts(cell, rare) for cell in judgement.cells)
        return limits(cells or [[cell] for cell in judgement.cells], options, published, open_=open_)

    own = of(judged)
    rows = [own.row("after"), of(removed).row("head_zero")]
    for at, one in enumerate(references if len(references) > 1 else ()):
        others = [*references[:at], *references[at + 1 :]]
        rows.append(of(weigh(one, others, rare, options, thin)).row("reference"))
    return {"smallest_margin": smallest(own, published), "margin_curve": rows}


def _open(finding: str, labels: Iterable[str], options: AuditOptions, *, provisional: bool) -> Claim:
    """C2 where there is nothing to judge, with why."""
    per_label: dict[str, Verdict] = dict.fromkeys(labels, "NOT_EVALUATED")
    names = joined(list(per_label))
    sentence = {
        NO_REFERENCE: f"No model retrained without {names} was given, so the audit cannot separate a leak"
        " from what the other labels reveal by themselves.",
        NOTHING: f"No attack recovers {names} from the original model or from this one, so there is nothing"
        " to forget.",
    }[finding]
    notes = {"finding": finding, "rule": _rule(options)}
    return Claim("NOT_EVALUATED", sentence, options.budget, provisional, None, per_label, notes)


def _not_passed(notes: Mapping[str, Any]) -> str:
    """Labels that a PASS of the others says nothing of, in sentences."""
    text = ""
    if names := notes.get("open_labels"):
        text += (
            f" That is their mean: {joined(names)} alone {'is' if len(names) == 1 else 'are'} not decided."
        )
    if names := notes["nothing_to_forget"]:
        was = "was" if len(names) == 1 else "were"
        text += f" {joined(names)} {was} not judged: no attack finds {'it' if len(names) == 1 else 'them'}."
    return text


def _sentence_equivalent(
    verdict: Verdict,
    judged: Judgement,
    notes: Mapping[str, object],
    names: str,
    rare: frozenset[str],
    need: Mapping[str, Need],
    options: AuditOptions,
) -> str:
    cell = judged.binding
    attack, of, unit = entry(cell.figure).in_words, cell.label or names, unit_words(cell)
    bound, excess = (
        beside_margin(value, cell.margin) for value in (cell.upper(options), cell.contrast.value)
    )
    predicted = "is predicted for " if notes.get("predicted") else ""
    source = predicted or "from "
    if verdict == "PASS":
        enough = (
            " The same holds for the original without that output: removing it was enough here, and nothing"
            " shows that this method forgets."
        )
        return (
            f"No attack on the outputs or the last features recovers more about {names} from this model than"
            f" {source}models retrained without it, within the margins. The closest is {attack}: at most"
            f" {bound} {unit} more (margin {cell.margin:g})."
            f"{enough if notes.get('finding') == SUFFICES else ''}{_not_passed(notes)}"
        )
    if verdict == "FAIL":
        return (
            f"This model leaks more about {of} than {predicted}models retrained without it: {attack} recovers"
            f" {excess} {unit} more (margin {cell.margin:g})."
        )
    if notes.get("finding") == BLIND:
        return worded(
            f"This model passes, but the pass does not count: the data cannot show that the original without"
            f" its output for {names} would fail.",
            need,
        )
    if rare:
        return too_rare(rare, need, options)
    if thin := few_people(judged.cells):
        return too_thin(thin, need)
    would_decide = need[cell.label].words() if cell.label and cell.label in need else ""
    blind = f" {CANNOT_TELL}" if notes["head_zero"] == "INCONCLUSIVE" else ""
    return (
        f"The data cannot decide whether this model leaks more about {of} than retrained models: {attack}"
        f" recovers {excess} {unit} more, possibly up to {bound} (margin"
        f" {cell.margin:g}){would_decide}.{blind}"
    )
