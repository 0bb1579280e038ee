"""The claim C4, durable: the label stays unpredictable after compression, training, or a few examples.

An attacker who has the weights can do all of this. For what the full budget adds, see `c4_full_budget`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from unlabel.audit.attacks.prediction import Prediction
from unlabel.audit.attacks.recovery import Recovery
from unlabel.audit.attacks.whole_model import WeightAttacks
from unlabel.audit.claims.c2_retrain_equivalent import NO_REFERENCE
from unlabel.audit.claims.c4_beside import notes_beside
from unlabel.audit.claims.c4_full_budget import place_in_words, stage_table, tuned_table
from unlabel.audit.claims.c4_margins import choices, margins
from unlabel.audit.claims.c4_recovery import few_table, nearest, recoveries
from unlabel.audit.claims.c4_sizes import Sizes, sizes_of
from unlabel.audit.claims.judging import Cell, Judgement, few_people, judge, place_of, unit_words
from unlabel.audit.claims.predicted import made_from, relearning_notes
from unlabel.audit.claims.sample_size import Need, needs, notes_of, too_rare, too_thin
from unlabel.audit.document.results import Claim, Verdict
from unlabel.audit.figures import TRANSFORMS, Readings, transform
from unlabel.audit.figures import figure as entry
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.core.wording import beside_margin, joined

UNPREDICTED = (
    "Probes on few annotated images did no better than is predicted for one. For training the whole model and"
    " for earlier stages no level is predicted."
)
Rows = Mapping[str, Readings]  # label -> attack -> figure


def claim_durable(
    recovery: Recovery,
    untouched: Rows,
    references: Sequence[Rows],
    questions: Mapping[str, Question],
    options: AuditOptions,
    prediction: Prediction | None = None,
) -> tuple[Claim, Judgement]:
    """C4: no transform restores the label, and relearning it is no easier than for retrained models.

    Args:
        recovery: What was measured.
        untouched: Readings of the unlearned model as it is, by label.
        references: Readings of every retrained model as it is.
        questions: The labels' annotations.
        options: Margins.
        prediction: Without references: what attacks would find in one. It has no level for what the full
            budget adds, so that budget cannot pass by it.
    """
    given = len(references)
    if prediction is not None:
        assert not references, "a level that was measured needs no prediction"
        references, recovery = [prediction.levels], _with_levels(recovery, prediction)
    rare = _rare(questions, options)
    weights = recovery.weights or WeightAttacks()
    thin = frozenset(name for name, question in questions.items() if question.thin(options))
    tests = choices(recovery, untouched, references, options, thin)
    judged = judge([nearest(choice, options) for choice in tests], rare, options)
    sizes = sizes_of(recovery, questions, options)
    notes: dict[str, object] = {
        "rule": _rule(sizes, weights, options),
        "transforms": list(recovery.after),
        "not_applicable": [name for name in TRANSFORMS if name not in recovery.after],
        "recoveries": recoveries(recovery, untouched, references, judged, options),
        "few_shot": few_table(recovery.few, options),
        "draws": options.draws,
        **sizes.notes(),
        **margins(recovery, tests, references, rare, options, open_=bool(sizes.lacking)),
        "references": given,
        "rare": sorted(rare),
        "whole_model": tuned_table(weights, options),
        "tune_draws": options.tune_draws,
        "rated_draws": min(options.rated_draws, options.tune_draws),
        "earlier_stages": stage_table(weights, options),
        **notes_beside(recovery.beside, options),
        **relearning_notes(prediction),
        **place_of(judged.binding, questions),
    }
    verdict: Verdict = judged.verdict
    if verdict == "PASS" and sizes.lacking:
        verdict = "INCONCLUSIVE"
    compared = bool(given) or (
        prediction is not None and recovery.weights is None and _all_levels(recovery, options)
    )
    if verdict == "PASS" and not compared:
        verdict = "NOT_EVALUATED"
        notes["finding"] = NO_REFERENCE
    need: dict[str, Need] = {}
    if verdict == "INCONCLUSIVE":
        open_ = {name: questions[name] for name, each in judged.per_label.items() if each == "INCONCLUSIVE"}
        need = needs(judged.cells, open_, given, options)
        notes |= notes_of(need)
    per_label: dict[str, Verdict] = {
        name: _of_label(each, lacking=name in sizes.lacking, compared=compared)
        for name, each in judged.per_label.items()
    }
    than = "for a retrained model" if prediction is None else "is predicted for a retrained model"
    sentence = _sentence(verdict, judged, sizes, questions, need, weights, options, than)
    if prediction is not None and verdict == "NOT_EVALUATED":
        sentence = f"{sentence} {UNPREDICTED}"
    elif prediction is not None and than in sentence:
        sentence = f"{sentence} {made_from(prediction)}"
    provisional = 0 < given < 3 or (prediction is not None and verdict != "NOT_EVALUATED")
    claim = Claim(verdict, sentence, options.budget, provisional, judged.binding.figure, per_label, notes)
    return claim, judged


def _of_label(verdict: Verdict, *, lacking: bool, compared: bool) -> Verdict:
    """A label's verdict by its own tests, without a PASS for what was not tried or not compared."""
    if verdict == "PASS" and lacking:
        return "INCONCLUSIVE"
    return "NOT_EVALUATED" if verdict == "PASS" and not compared else verdict


def _with_levels(recovery: Recovery, prediction: Prediction) -> Recovery:
    """What was measured, with what probes on few annotated images are predicted to tell of a Retrain."""
    few = {
        name: [*models, prediction.few[name].levels] if name in prediction.few else models
        for name, models in recovery.few.items()
    }
    return replace(recovery, few=few)


def _all_levels(recovery: Recovery, options: AuditOptions) -> bool:
    """Whether a level is predicted for every number of annotated images that is judged."""
    return all(
        n in level
        for _, after, *levels in recovery.few.values()
        for level in levels
        for n in after
        if n >= options.few_judged
    )


def _rare(questions: Mapping[str, Question], options: AuditOptions) -> frozenset[str]:
    """Labels of which there are too few images of a kind for their tests to decide anything."""
    return frozenset(name for name, question in questions.items() if question.rare(options))


def _sentence(
    verdict: Verdict,
    judged: Judgement,
    sizes: Sizes,
    questions: Mapping[str, Question],
    need: Mapping[str, Need],
    weights: WeightAttacks,
    options: AuditOptions,
    than: str,
) -> str:
    cell, names = judged.binding, list(questions)
    what, gain = _test_words(cell), f"{beside_margin(cell.contrast.value, cell.margin)} {unit_words(cell)}"
    bound = beside_margin(cell.upper(options), cell.margin)
    if verdict == "PASS":
        learner = ", by a probe or the whole model," if weights.sizes else ""
        early = (
            " All stages together tell no more than a retrained model's."
            if weights.places
            else " Earlier stages were not read."
        )
        return (
            f"No tried compression, pruning or fine-tuning made {joined(names)} more predictable. Relearning"
            f" it from few images{learner} was no easier than {than}.{early} The closest test:"
            f" {what} at most {bound} {unit_words(cell)} more {_than(cell, than)} (margin {cell.margin:g})."
            f"{sizes.attacker(options)}"
        )
    if verdict == "FAIL":
        how = " from earlier layers" if cell.stage else ""
        return (
            f"{cell.label} can be recovered{how}: {what} {gain} more {_than(cell, than)}"
            f" (margin {cell.margin:g})."
        )
    if verdict == "NOT_EVALUATED":
        return (
            f"No tried compression, pruning or fine-tuning made {joined(names)} more predictable. Whether"
            " relearning it is as hard as for a retrained model is open: no retrained model was given."
        )
    if rare := _rare(questions, options):
        return too_rare(rare, need, options)
    if thin := few_people(judged.cells):
        return too_thin(thin, need)
    if sizes.lacking:
        return sizes.sentence(questions, options)
    would_decide = need[cell.label].words() if cell.label and cell.label in need else ""
    return (
        f"The data cannot decide whether {cell.label} can be recovered: {what} {gain} more"
        f" {_than(cell, than)}, possibly up to {bound} (margin {cell.margin:g}){would_decide}."
    )


def _rule(sizes: Sizes, weights: WeightAttacks, options: AuditOptions) -> str:
    """When the claim passes and when it fails, in words."""
    few = sorted({n for item in sizes.few.values() for n in item.measured or item.wanted})
    alone = ", or a linear probe on a single stage," if weights.places else ""
    return (
        f"PASS if after each transform every attack gains less than {options.d_recover:g} advantage or bits,"
        " or exceeds the same attack on retrained models, before or after it, by less than"
        f" {options.d_reference:g} advantage and {options.d_reference_bits:g} bits, and probes on"
        f" {joined([str(n) for n in few])} annotated images exceed those on retrained models by less than"
        f" {options.d_few:g} AUC{_full_budget_rules(weights, options)}; FAIL if some test{alone} is above its"
        " margin (after a transform: above both), corrected for their number"
    )


def _full_budget_rules(weights: WeightAttacks, options: AuditOptions) -> str:
    """What the full budget also requires."""
    text = ""
    if weights.sizes:
        text += f", and so does the whole model, trained on {joined([str(n) for n in weights.sizes])}"
    if weights.places:
        text += (
            f", and linear probes on all stages and the last features together exceed those on retrained"
            f" models by less than {options.d_reference:g} advantage and {options.d_reference_bits:g} bits"
        )
    return text


def _test_words(cell: Cell) -> str:
    """A test in words, up to its figure."""
    if cell.stage:
        return f"a linear probe on {place_in_words(cell.stage)} recovers"
    attack = entry(cell.figure).in_words
    if cell.transform is None:
        return f"{attack} recovers"
    return f"{attack}, after {transform(cell.transform).in_words}, recovers"


def _than(cell: Cell, than: str) -> str:
    """What a test compares with, in words.

    Args:
        cell: The test.
        than: What C4 compares with: retrained models, or what is predicted for one.
    """
    if cell.against == "itself":
        return "than before the transform"
    return f"than {than}" if "predicted" in than else "than on retrained models"
