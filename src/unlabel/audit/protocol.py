"""Steps of an audit: validate inputs, attack all models, run controls, decide the claims, write the headline.

::

    inputs (tables of outputs) -> measure: evidence, evasion, utility, what a larger budget adds
                               -> decide: C1 to C6, and the comparisons behind them
                               -> the headline, and what keeps the audit from being valid

Nothing here runs a model or reads a file.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from unlabel.audit.attacks import controls
from unlabel.audit.attacks.canaries import Guesses, attack_canaries, canary_rows
from unlabel.audit.attacks.cross_fit import crossed
from unlabel.audit.attacks.evasion import evasion_rows, gather_evasion, too_few
from unlabel.audit.attacks.evidence import Evidence, Larger, apart, gather, gather_larger, larger_rows
from unlabel.audit.attacks.explained import explained
from unlabel.audit.attacks.head_consistency import tampered
from unlabel.audit.attacks.membership import membership_untested
from unlabel.audit.attacks.metric_rows import floor_rows, label_rows, utility_rows
from unlabel.audit.attacks.outputs import restored
from unlabel.audit.attacks.prediction import Prediction, on_other_images, predict_all, predict_relearning
from unlabel.audit.attacks.residual_shares import Found, find_residual
from unlabel.audit.attacks.utility import Utility, answerable, measurable, read_utility
from unlabel.audit.claims.c1_disabled import claim_disabled, thin_on_train
from unlabel.audit.claims.c2_bound import bound_notes
from unlabel.audit.claims.c2_retrain_equivalent import claim_equivalent
from unlabel.audit.claims.c3_erased import claim_erased
from unlabel.audit.claims.c4_durable import claim_durable
from unlabel.audit.claims.c4_information import with_information
from unlabel.audit.claims.c5_groups import with_groups
from unlabel.audit.claims.c5_left_out import lines_of, unpredicted, with_left_out, without
from unlabel.audit.claims.c5_useful import claim_useful, outside_mean
from unlabel.audit.claims.c6_memorised import claim_canaries, plantable
from unlabel.audit.claims.evasion import condemned, unattacked
from unlabel.audit.claims.fair_references import Standing, standings, undecided
from unlabel.audit.claims.headline import headline, limitations, not_tested, untested_claims
from unlabel.audit.claims.judging import Judgement
from unlabel.audit.claims.outputs_only import restricted, untested
from unlabel.audit.claims.own_check import unread_sites, with_own_check
from unlabel.audit.claims.validity import Decoys, controls_record, judge_decoys, objections
from unlabel.audit.document.results import Audit, Claim, Comparison, Metric
from unlabel.audit.figures import LABEL_MEMBERSHIP, Readings
from unlabel.audit.inputs.memory import Memory
from unlabel.audit.inputs.options import AuditOptions, check_thresholds
from unlabel.audit.inputs.question import Context, Question, ask
from unlabel.audit.inputs.short_pair import ShortPair
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.core.errors import DataError
from unlabel.core.progress import SILENT, Log
from unlabel.data.dataset import Dataset
from unlabel.data.splits import TRAIN_SET
from unlabel.statistics.estimate import Estimate

T = TypeVar("T")


def audit_outputs(
    inputs: AuditInputs,
    options: AuditOptions | None = None,
    log: Log = SILENT,
    memory: Memory | None = None,
) -> Audit:
    """Audits how far a model has forgotten, from what it and its relatives say about three sets of images.

    Same inputs and seed, same machine: the same audit, bit for bit, on any number of cores.

    Args:
        inputs: The models' outputs, the images' annotations, and what is on record.
        options: Margins, sizes and seed.
        log: Receives progress.
        memory: Attacks on the original and the references that earlier audits made; new ones are kept.

    Returns:
        The audit; ``to_json()`` is the content of ``audit.json``.

    Raises:
        DataError: A split has too few images of a kind, or no retained label can be measured.
        ModelError: Outputs that do not fit the images or are not finite.
        OptionError: A Subject's role is not the one it is passed as, a threshold or canaries are of another
            label, or there is nothing to judge C4 by.
    """
    started = time.perf_counter()
    options = options or AuditOptions()
    inputs = inputs.checked(options.includes)
    context = context_of(inputs, options, log, memory)
    names = measurable_labels(context)
    measured = measure(inputs, context, names)
    attacked = time.perf_counter()

    decided = decide(inputs, context, measured)
    evidence, claims, questions = measured.evidence, decided.claims, context.questions
    decoys = judge_decoys(evidence, questions, decided.removed, options)
    odd = [*inputs.after.odd, *tampered(inputs.after, inputs.request.labels)]
    invalid = objections(evidence, decoys, questions, inputs.overlap, inputs.deterministic, odd, options)
    return Audit(
        headline=headline(claims, valid=not invalid, references=len(inputs.references)),
        valid=not invalid,
        invalid_because=invalid,
        request={
            "labels": list(inputs.request.forget),
            "forgotten_earlier": list(inputs.request.forgotten),
            "retained": list(inputs.request.retained),
        },
        claims=claims,
        metrics=(*metrics_of(inputs, context, measured, decided.guesses),),
        comparisons=decided.comparisons,
        controls=_controls(measured, decoys, context),
        data=_data_record(inputs, context),
        options=options.to_json(),
        models=dict(inputs.models),
        not_tested=_not_tested(inputs, claims, measured, context),
        limitations=_limitations(inputs, context, measured),
        seconds={"attacks": attacked - started, "verdicts": time.perf_counter() - attacked},
    )


def context_of(inputs: AuditInputs, options: AuditOptions, log: Log, memory: Memory | None) -> Context:
    """What the attacks have in common: the questions, asked both ways where a label is rare, and the data.

    Raises:
        DataError: A split has too few images of a kind.
        OptionError: A threshold is of another label.
    """
    check_thresholds(options, inputs.request.labels)
    probe, test, train = inputs.probe, inputs.test, inputs.train
    questions = crossed({name: ask(name, probe, test, train) for name in inputs.request.masked}, options)
    return Context(questions, inputs.request, probe, test, train, options, inputs.random_init, log, memory)


def measurable_labels(context: Context) -> tuple[str, ...]:
    """Retained labels that can be measured.

    Raises:
        DataError: There is none.
    """
    request, test = context.request, context.test
    names = measurable(answerable(test, request.retained_columns), request.retained)
    if not names:
        raise DataError(
            "no retained label has two present and two absent test images; add images, or retain two classes"
            if test.exclusive
            else "no retained label has two present and two absent test images; add images"
        )
    return names


@dataclass(frozen=True)
class Measured:
    """All that was measured, before anything is decided.

    Args:
        evidence: Attacks of every budget, and controls; with label-level membership where it was measured.
        larger: What a larger budget adds; None for the quick one.
        evasion: Of the unlearned and the retrained models, by label: attacks that detect a cheat.
        restored: By label: the original's output row on the unlearned model's features.
        utilities: Of each model: how well the retained labels work.
        frequent: Retained labels with enough images and people to be judged one by one.
        prediction: What attacks would find in retrained models, if only short trainings were given.
        residual: Without references, by label: the shares of its residual; see `find_residual`.
        unpredicted: With references: retained labels that the original does not predict.
    """

    evidence: Evidence
    larger: Larger | None
    evasion: list[dict[str, Readings]]
    restored: dict[str, Estimate | None]
    utilities: list[Utility]
    frequent: tuple[str, ...]
    prediction: Prediction | None = None
    residual: Mapping[str, Found] = field(default_factory=dict)
    unpredicted: tuple[str, ...] = ()

    def best(self, options: AuditOptions) -> dict[str, tuple[str, float]]:
        """By label, the attack that tells most of the original, and its lower bound."""
        original = self.evidence.readings[0]
        return {name: controls.best_attack(original[name], options.level) for name in original}


def measure(inputs: AuditInputs, context: Context, names: tuple[str, ...]) -> Measured:
    """Every attack that the budget includes, on every model alike, and every control.

    Args:
        inputs: The models.
        context: The labels, the data and the sizes.
        names: Retained labels to measure.
    """
    options, subjects, retained = context.options, inputs.subjects, context.request.retained_columns
    evidence, short = apart(gather([*subjects, *inputs.short_subjects], context), len(subjects))
    larger = None
    if options.includes.durability:
        larger = gather_larger(
            subjects, context, inputs.altered, inputs.tuned, inputs.predicted, inputs.short_subjects
        )
        for readings, found in zip(evidence.readings, larger.labels, strict=False):
            for name, item in found.items():
                readings[name] = {**readings[name], LABEL_MEMBERSHIP.id: item}
    judged_on = answerable(context.test, retained)
    utilities = [read_utility(subject, judged_on, names, options, retained) for subject in subjects]
    return Measured(
        evidence,
        larger,
        gather_evasion(subjects[1:], context),
        {
            name: restored(inputs.after, inputs.before, question, exclusive=context.exclusive)
            for name, question in context.questions.items()
        },
        utilities,
        measurable(judged_on, context.request.retained, max(options.rare, 2), options.least_people),
        _predicted(inputs, context, evidence, short, larger) if inputs.shorts else None,
        {} if inputs.references else find_residual(inputs, context),
        unpredicted(utilities[0], options) if inputs.references else (),
    )


def _predicted(
    inputs: AuditInputs,
    context: Context,
    evidence: Evidence,
    short: Sequence[Mapping[str, Readings]],
    larger: Larger | None,
) -> Prediction:
    """What attacks would find in a model retrained in full.

    Args:
        inputs: The models.
        context: The labels and the data.
        evidence: Attacks on the original.
        short: The same on the short trainings, pair by pair.
        larger: Probes on few annotated images, of a larger budget.
    """
    questions = context.questions.items()
    known = {name: explained(inputs.before, question, context) for name, question in questions}
    shares = [pair.share for pair in inputs.shorts]

    def pairs(models: Sequence[T]) -> list[ShortPair[T]]:
        return [ShortPair(share, *models[2 * at : 2 * at + 2]) for at, share in enumerate(shares)]

    prediction = predict_all(evidence.readings[0], pairs(short), known)
    if larger is None:
        return prediction
    few = {
        name: predict_relearning(larger.recovery.few[name][0], pairs(found), known[name])
        for name, found in larger.shorts.items()
    }
    return replace(prediction, few=few)


@dataclass(frozen=True)
class Decided:
    """The claims, the comparisons behind them, and what else was found on the way.

    Args:
        claims: C1 to C6.
        comparisons: Tests against retrained models, or of a model with itself.
        removed: The original without its output row, against retrained models; None without any.
        guesses: Attacks on canaries.
    """

    claims: dict[str, Claim]
    comparisons: tuple[Comparison, ...]
    removed: Judgement | None
    guesses: Sequence[Guesses]


def decide(inputs: AuditInputs, context: Context, measured: Measured) -> Decided:
    """The verdict of every claim.

    Args:
        inputs: The models, and what is on record.
        context: The labels and the margins.
        measured: What was measured.
    """
    options, questions, evidence = context.options, context.questions, measured.evidence
    prediction, evasion = measured.prediction, measured.evasion
    original, unlearned, *retrained = evidence.readings
    decoy = {name: controls.head_zero(original[name]) for name in questions}
    bounds = {name: bound for name, (_, bound) in measured.best(options).items()}
    c2, judged, removed = claim_equivalent(
        unlearned, retrained, decoy, bounds, questions, options, prediction
    )
    if not inputs.start_known:
        c2 = replace(c2, provisional=True, notes={**c2.notes, "start": "unknown"})
    if not inputs.references:
        bound = bound_notes(measured.residual, questions, options, exclusive=context.exclusive)
        c2 = replace(c2, notes={**c2.notes, "bound": bound})
    c1 = claim_disabled(evidence.owns[1], questions, measured.restored, options)
    if prediction is not None:
        evasion = [*evasion, on_other_images(evasion[0], prediction.levels)]
    c1, c2, caught = condemned(c1, c2, evasion, too_few(inputs.after, questions, options), options)
    floors = None if context.exclusive else evidence.floors
    larger = measured.larger
    fair, c5 = _useful(inputs, measured, options)
    claims = untested_claims(options.budget) | {
        "C1": c1,
        "C2": undecided(c2, fair),
        "C3": claim_erased(unlearned, retrained, floors, questions, options),
        "C5": c5,
    }
    tables = [judged, caught]
    guesses: list[Guesses] = []
    if larger is not None:
        c4, recovered = claim_durable(larger.recovery, unlearned, retrained, questions, options, prediction)
        c4 = with_information(c4, larger.recovery, evidence.readings, options)
        unread = unread_sites(inputs.models.get("after"), options.includes)
        claims["C4"] = with_own_check(undecided(c4, fair), unread)
        tables.append(recovered)
    if options.includes.canaries:
        for item in inputs.canaries:
            guesses += attack_canaries(item, inputs.subjects, questions[item.label], options)
        planted = {item.label: len(item.planted) for item in inputs.canaries}
        most = plantable(inputs.facts, inputs.train)
        claims["C6"] = claim_canaries(guesses, planted, list(questions), options, most)
    comparisons = [row for table in tables if table for row in table.comparisons(options)]
    claims["C5"] = with_groups(claims["C5"], larger.hits if larger else None, options)
    claims = restricted(claims, inputs)
    return Decided(dict(sorted(claims.items())), tuple(comparisons), removed, guesses)


def _useful(inputs: AuditInputs, measured: Measured, options: AuditOptions) -> tuple[list[Standing], Claim]:
    """How far each reference lies below the original, and C5."""
    samples = measured.larger.samples if measured.larger else ()
    left_out = measured.unpredicted
    original, _, *retrained = measured.utilities
    before, after, *others = (without(item, left_out) for item in measured.utilities)
    runs = [subject.run for subject in inputs.references]
    fair = standings(before, others, runs, options, elsewhere=inputs.adopted)
    frequent = tuple(name for name in measured.frequent if name not in left_out)
    c5 = claim_useful(after, before, others, frequent, options, [item.auc for item in samples], fair)
    return fair, with_left_out(c5, original, retrained, left_out, options)


def metrics_of(
    inputs: AuditInputs, context: Context, measured: Measured, guesses: Sequence[Guesses]
) -> Iterator[Metric]:
    """Every figure as a row of ``metrics[]``."""
    evidence, options, subjects = measured.evidence, context.options, inputs.subjects
    yield from floor_rows(evidence.floors)
    for index, subject in enumerate(subjects):
        for name, question in context.questions.items():
            own, readings = evidence.owns[index][name], evidence.readings[index][name]
            back = measured.restored[name] if subject is inputs.after else None
            yield from label_rows(subject, own, readings, back, question, options)
        yield from utility_rows(subject, measured.utilities[index])
    yield from evasion_rows(subjects[1:], measured.evasion)
    if measured.larger is not None:
        yield from larger_rows(measured.larger, subjects, options)
    yield from canary_rows(guesses, options)


def _controls(measured: Measured, decoys: Decoys, context: Context) -> dict[str, Any]:
    best = measured.best(context.options)
    return controls_record(
        measured.evidence, best, decoys, context.questions, context.options, exclusive=context.exclusive
    )


def _not_tested(
    inputs: AuditInputs, claims: Mapping[str, Claim], measured: Measured, context: Context
) -> tuple[str, ...]:
    """What the budget leaves out, what was not given, and what the training images do not allow."""
    options, retained = context.options, context.request.retained_columns
    return (
        *not_tested(claims, options.includes),
        *untested(inputs),
        *thin_on_train(measured.evidence.owns[1], context.questions, options),
        *unattacked(measured.evasion[0], len(inputs.train)),
        *(
            membership_untested(inputs.train, inputs.test, retained, options)
            if options.includes.membership
            else ()
        ),
    )


def _limitations(inputs: AuditInputs, context: Context, measured: Measured) -> tuple[str, ...]:
    """What limits the figures, and which retained labels are not measured, or not judged in the mean."""
    utility = measured.utilities[0]
    left_out = [name for name in inputs.request.retained if name not in utility.labels]
    unread = unread_sites(inputs.models.get("after"), context.options.includes)
    own_check = (unread,) if unread else ()
    lines = limitations(inputs, context, measured.evidence.raw, left_out)
    return (*lines, *outside_mean(utility), *lines_of(measured.unpredicted), *own_check)


def _data_record(inputs: AuditInputs, context: Context) -> dict[str, Any]:
    """What is known of the data, and the sizes of the three sets."""
    splits = {"P": context.probe, "E": context.test, TRAIN_SET: context.train}
    return {
        **inputs.facts,
        "exclusive": context.exclusive,
        "splits": {key: _counts(data, context.questions) for key, data in splits.items()},
        "cross_fitted": any(question.crossed for question in context.questions.values()),
        "overlap": inputs.overlap,
        "deterministic": inputs.deterministic,
    }


def _counts(data: Dataset, questions: Mapping[str, Question]) -> dict[str, Any]:
    """How many images, people and present labels a split has."""
    return {
        "n": len(data),
        "n_clusters": len(np.unique(data.cluster)),
        "n_present": {
            name: int(np.sum(data.target[:, question.column] == 1)) for name, question in questions.items()
        },
    }
