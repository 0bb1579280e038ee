"""The order of an audit: check, attack every model alike, test the tests, decide, speak.

::

    subjects (tables of outputs) -> evidence: model x label x attack, controls -> C1 C2 C3 C5 -> headline
                                 -> further (standard, full): after transforms, few-shot -> C4, C6

Nothing here runs a model or reads a file.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from unlabel.audit.attacks import controls
from unlabel.audit.attacks.canaries import attack_canaries, canary_rows
from unlabel.audit.attacks.cross_fit import crossed
from unlabel.audit.attacks.evasion import gather_suspicion, suspicion_rows
from unlabel.audit.attacks.few_shot import Tuned
from unlabel.audit.attacks.head_consistency import tampered
from unlabel.audit.attacks.outputs import restored
from unlabel.audit.attacks.utility import answerable, measurable, read_utility
from unlabel.audit.claims.c1_disabled import claim_disabled
from unlabel.audit.claims.c2_retrain_equivalent import claim_equivalent
from unlabel.audit.claims.c3_erased import claim_erased
from unlabel.audit.claims.c4_durable import claim_durable
from unlabel.audit.claims.c5_useful import claim_useful
from unlabel.audit.claims.c6_memorised import claim_canaries
from unlabel.audit.claims.evasion import condemned
from unlabel.audit.claims.headline import headline, limitations, not_tested, untested_claims
from unlabel.audit.claims.validity import controls_record, judge_decoys, objections
from unlabel.audit.evidence import gather
from unlabel.audit.figures import LABEL_MEMBERSHIP
from unlabel.audit.inputs import Altered, AuditOptions, Canaries, Question, Subject, ask, check, check_altered
from unlabel.audit.larger_budgets import further_rows, gather_further
from unlabel.audit.memory import Memory
from unlabel.audit.metric_rows import floor_rows, label_rows, utility_rows
from unlabel.audit.results import Audit
from unlabel.core.errors import DataError, OptionError
from unlabel.core.progress import SILENT, Log
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.models.features import Outputs


def audit_outputs(
    before: Subject,
    after: Subject,
    references: Sequence[Subject],
    request: Request,
    probe: Dataset,
    test: Dataset,
    train: Dataset,
    *,
    options: AuditOptions | None = None,
    altered: Sequence[Altered] = (),
    canaries: Sequence[Canaries] = (),
    tuned: Sequence[Tuned] = (),
    random_init: tuple[Outputs, Outputs] | None = None,
    overlap: str | None = None,
    deterministic: bool | None = None,
    facts: Mapping[str, Any] | None = None,
    models: Mapping[str, Any] | None = None,
    start_known: bool = True,
    log: Log = SILENT,
    memory: Memory | None = None,
) -> Audit:
    """Audits how far a model has forgotten, from what it and its relatives say about three sets of images.

    Same inputs and seed, same machine: the same audit, bit for bit, on any number of cores.

    Args:
        before: The original.
        after: The unlearned model.
        references: Models retrained without the labels; none leaves C2 open, one or two are provisional.
        request: What was to be forgotten. Labels forgotten earlier are audited again.
        probe: P, with the label columns of the request.
        test: E, the same columns; no identity in common with P or the training images.
        train: T_in, the images behind `Subject.train`.
        options: Margins, sizes and seed.
        altered: The unlearned and the retrained models after each transform of their weights, for the
            standard and the full budget: C4 is only as wide as these.
        canaries: Planted annotations of forgotten labels, for the same budgets: what C6 is judged by.
        tuned: Every model after it was trained on few annotated images, for the full budget; without, the
            audit says that this was not tested.
        random_init: Outputs on P and E of the network before any training, for a control.
        overlap: What images or identities the splits share, in a sentence; None: none.
        deterministic: Whether a second pass gave equal outputs; None: not checked.
        facts: JSON-plain record of the data, written into the report.
        models: JSON-plain records of before, after and references, written into the report.
        start_known: Whether the weights are known from which the original's training began; if not, C2
            stays provisional.
        log: Receives progress.
        memory: Attacks on the original and the references that earlier audits made; new ones are kept.

    Returns:
        The audit; ``to_json()`` is the content of ``audit.json``.

    Raises:
        DataError: A split has too few images of a kind, or no retained label can be measured.
        ModelError: Outputs that do not fit the images or are not finite.
        OptionError: A Subject's role is not the one it is passed as, or there is nothing to judge C4 by.
    """
    started = time.perf_counter()
    options = options or AuditOptions()
    subjects = [before, after, *references]
    roles = ["before", "after", *("reference" for _ in references)]
    if [subject.role for subject in subjects] != roles:
        raise OptionError(f"roles are {[subject.role for subject in subjects]}, expected {roles}")
    probe, test, train = (data.with_labels(request.labels) for data in (probe, test, train))
    for subject in subjects:
        check(subject, len(request.labels), probe, test, train)
    questions = crossed({name: ask(name, probe, test, train) for name in request.masked}, options)
    both_ways = any(question.crossed for question in questions.values())
    judged_on = answerable(test, request.retained_columns)
    names = measurable(judged_on, request.retained)
    if not names:
        raise DataError(
            "no retained label has two present and two absent images in E; add images, or keep two classes"
            if test.exclusive
            else "no retained label has two present and two absent images in E; add images"
        )

    evidence = gather(subjects, questions, request, probe, test, random_init, options, log, memory)
    further = None
    if options.budget != "quick":
        check_altered(altered, subjects, probe, test)
        further = gather_further(subjects, altered, questions, request, test, train, options, log, tuned)
        for readings, found in zip(evidence.readings, further.labels, strict=True):
            for name, item in found.items():
                readings[name] = {**readings[name], LABEL_MEMBERSHIP.id: item}
    suspicion = gather_suspicion(
        subjects[1:], questions, request, options, log, memory, exclusive=test.exclusive
    )
    attacked = time.perf_counter()

    put_back = {
        name: restored(after, before, question, exclusive=test.exclusive)
        for name, question in questions.items()
    }
    utilities = [
        read_utility(subject, judged_on, names, options, request.retained_columns) for subject in subjects
    ]
    frequent = measurable(judged_on, request.retained, max(options.rare, 2))
    floors = None if test.exclusive else evidence.floors
    original, unlearned, *retrained = evidence.readings
    positive = {name: controls.best_attack(original[name], options.level) for name in questions}
    decoy = {name: controls.head_zero(original[name]) for name in questions}
    bounds = {name: bound for name, (_, bound) in positive.items()}
    c2, judged, removed = claim_equivalent(unlearned, retrained, decoy, bounds, questions, options)
    if not start_known:
        c2 = replace(c2, provisional=True, notes={**c2.notes, "start": "unknown"})
    c1 = claim_disabled(evidence.owns[1], questions, put_back, options)
    c1, c2, near = condemned(c1, c2, suspicion, questions, options)
    claims = untested_claims(options.budget) | {
        "C1": c1,
        "C2": c2,
        "C3": claim_erased(unlearned, retrained, floors, questions, options),
        "C5": claim_useful(
            utilities[1],
            utilities[0],
            utilities[2:],
            frequent,
            options,
            [item.auc for item in further.samples] if further else (),
        ),
    }
    more = suspicion_rows(subjects[1:], suspicion)
    comparisons = [item for found in (judged, near) if found for item in found.comparisons(options)]
    if further is not None:
        claims["C4"], recovered = claim_durable(further.recovery, unlearned, retrained, questions, options)
        comparisons += recovered.comparisons(options)
        guesses = [
            guess
            for item in canaries
            for guess in attack_canaries(item, subjects, questions[item.label], options)
        ]
        planted = {item.label: len(item.planted) for item in canaries}
        claims["C6"] = claim_canaries(guesses, planted, list(questions), options)
        more += [*further_rows(further, subjects), *canary_rows(guesses, options)]
    claims = dict(sorted(claims.items()))
    decoys = judge_decoys(evidence, questions, removed, options)
    odd = [*after.odd, *tampered(after, request.labels)]
    invalid = objections(evidence, decoys, questions, overlap, deterministic, odd, options)

    metrics = floor_rows(evidence.floors)
    for index, subject in enumerate(subjects):
        for name, question in questions.items():
            own, readings = evidence.owns[index][name], evidence.readings[index][name]
            back = put_back[name] if subject is after else None
            metrics += label_rows(subject, own, readings, back, question, options)
        metrics += utility_rows(subject, utilities[index])
    raw = {name: item.value for name, item in evidence.raw.items()}
    left_out = [name for name in request.retained if name not in names]
    return Audit(
        headline=headline(claims, valid=not invalid, references=len(references)),
        valid=not invalid,
        invalid_because=invalid,
        request={
            "labels": list(request.forget),
            "forgotten_earlier": list(request.forgotten),
            "retained": list(request.retained),
        },
        claims=claims,
        metrics=(*metrics, *more),
        comparisons=tuple(comparisons),
        controls=controls_record(evidence, positive, decoys, questions, options, exclusive=test.exclusive),
        data={
            **(facts or {}),
            "exclusive": test.exclusive,
            "splits": {
                key: _counts(data, questions) for key, data in (("P", probe), ("E", test), ("T_in", train))
            },
            "cross_fitted": both_ways,
            "overlap": overlap,
            "deterministic": deterministic,
        },
        options=options.to_json(),
        models=dict(models or {}),
        not_tested=not_tested(claims, options.budget),
        limitations=limitations(
            request,
            test,
            train,
            len(references),
            raw,
            left_out,
            deterministic,
            options,
            start_known=start_known,
            crossed=both_ways,
        ),
        seconds={"attacks": attacked - started, "verdicts": time.perf_counter() - attacked},
    )


def _counts(data: Dataset, questions: Mapping[str, Question]) -> dict[str, Any]:
    """How many images, people and present labels a split has."""
    return {
        "n": len(data),
        "n_clusters": len(np.unique(data.cluster)),
        "n_present": {
            name: int(np.sum(data.target[:, question.column] == 1)) for name, question in questions.items()
        },
    }
