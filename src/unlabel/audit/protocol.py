"""The order of an audit: check, attack every model alike, test the tests, decide, speak.

::

    subjects (tables of outputs) -> readings: model x label x attack -> controls -> C1 C2 C3 C5 -> headline

Nothing here runs a model or reads a file.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from unlabel.audit import controls
from unlabel.audit.claims import claim_disabled, claim_equivalent, claim_erased, disabled
from unlabel.audit.judging import layer_of, unit_of
from unlabel.audit.outputs import OwnOutput, decision_bits, floor, read_others, restored
from unlabel.audit.probes import read_features
from unlabel.audit.statistics import Estimate
from unlabel.audit.subject import AuditOptions, Question, Subject, ask, check
from unlabel.audit.useful import claim_useful
from unlabel.audit.utility import IDS, Utility, measurable, read_utility
from unlabel.audit.verdicts import headline, limitations, not_tested, untested_claims
from unlabel.data.dataset import Dataset
from unlabel.errors import DataError, OptionError
from unlabel.findings import Audit, Metric
from unlabel.log import SILENT, Log
from unlabel.models.features import Outputs
from unlabel.request import Request

Job = Callable[[], Any]


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
    random_init: tuple[Outputs, Outputs] | None = None,
    overlap: str | None = None,
    deterministic: bool | None = None,
    facts: Mapping[str, Any] | None = None,
    models: Mapping[str, Any] | None = None,
    log: Log = SILENT,
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
        random_init: Outputs on P and E of the network before any training, for a control.
        overlap: What images or identities the splits share, in a sentence; None: none.
        deterministic: Whether a second pass gave equal outputs; None: not checked.
        facts: JSON-plain record of the data, written into the report.
        models: JSON-plain records of before, after and references, written into the report.
        log: Receives progress.

    Returns:
        The audit; ``to_json()`` is the content of ``audit.json``.

    Raises:
        DataError: A split has too few images of a kind, or no retained label can be measured.
        ModelError: Outputs that do not fit the images or are not finite.
        OptionError: A Subject's role is not the one it is passed as.
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
    questions = {name: ask(name, probe, test, train) for name in request.masked}
    hidden, retained = request.masked_columns, list(request.retained_columns)
    names = measurable(test, request.retained)
    if not names:
        raise DataError("no retained label has two present and two absent images in E; add images")

    jobs: dict[tuple[str, int, str], Job] = {}
    for name, question in questions.items():
        for index, subject in enumerate(subjects):
            jobs["features", index, name] = lambda s=subject, q=question: read_features(
                s.probe, s.test, q, options
            )
            jobs["others", index, name] = lambda s=subject, q=question: read_others(s, hidden, q, options)
        jobs["floor", 0, name] = lambda q=question: floor(
            probe.target[:, retained], test.target[:, retained], q, options
        )
        jobs["permuted", 0, name] = lambda q=question: controls.permuted(before, hidden, q, options)
        if random_init is not None:
            jobs["random_init", 0, name] = lambda q=question: controls.read_random_init(
                random_init, q, options
            )
    if options.raw_image:
        jobs["raw_image", 0, ""] = lambda: controls.raw_images(probe, test, options.seed)
    done = _run(jobs, log)
    attacked = time.perf_counter()

    owns = [{name: OwnOutput.of(subject, q) for name, q in questions.items()} for subject in subjects]
    readings = [
        {
            name: {
                "own.adv": owns[index][name].signed(question).absolute(),
                **done["others", index, name],
                **done["features", index, name],
            }
            for name, question in questions.items()
        }
        for index in range(len(subjects))
    ]
    floors = {name: done["floor", 0, name] for name in questions}
    utilities = [read_utility(subject, test, names, options) for subject in subjects]
    put_back = {name: restored(after, before, question) for name, question in questions.items()}

    positive = {name: controls.best_attack(readings[0][name], options.level) for name in questions}
    decoy = {name: controls.head_zero(readings[0][name], question) for name, question in questions.items()}
    c2, judged, removed = claim_equivalent(
        readings[1],
        readings[2:],
        decoy,
        {name: bound for name, (_, bound) in positive.items()},
        questions,
        options,
    )
    frequent = tuple(name for name in measurable(test, request.retained, max(options.rare, 2)))
    claims = {
        "C1": claim_disabled(owns[1], questions, put_back, options),
        "C2": c2,
        "C3": claim_erased(readings[1], readings[2:], floors, questions, options),
        "C5": claim_useful(utilities[1], utilities[0], utilities[2:], frequent, options),
        **untested_claims(options.budget),
    }
    claims = dict(sorted(claims.items()))

    raw: dict[str, Estimate] = {}
    if options.raw_image:
        pictures = done["raw_image", 0, ""]
        raw = dict(_run({name: lambda q=q: controls.read_raw(pictures, q) for name, q in questions.items()}))
    tests = {name: controls.decoys(owns[0][name]) for name in questions}
    decoys: dict[str, dict[str, str]] = {
        name: {
            **{kind: disabled(own, questions[name], options) for kind, own in each.items()},
            "head_zero": removed.per_label.get(name, "NOT_EVALUATED") if removed else "NOT_EVALUATED",
        }
        for name, each in tests.items()
    }
    invalid: list[str] = []
    for name, each in decoys.items():
        if disabled(owns[0][name], questions[name], options) != "PASS":
            invalid += [
                f"The decoy '{kind}' of {name}, an original that only hides its output, counted as disabled."
                for kind, verdict in each.items()
                if kind != "head_zero" and verdict == "PASS"
            ]
        invalid += [
            f"An attack ({kind}) trained on shuffled labels found {name}: it sees what it must not."
            for kind, found in done["permuted", 0, name].items()
            if found.lower(options.level) > options.d_permuted
        ]
    if overlap:
        invalid.append(f"The splits overlap: {overlap}")
    if deterministic is False:
        invalid.append("Two passes of one model over the same images gave different outputs.")

    metrics: list[Metric] = []
    for index, subject in enumerate(subjects):
        for name, question in questions.items():
            metrics += _label_metrics(subject, owns[index][name], readings[index][name], question, options)
            if index == 1 and (item := put_back[name]) is not None:
                metrics.append(_metric("own.sadv@restored", name, subject, item, "adv", -1.0))
        metrics += _utility_metrics(subject, utilities[index])
    for name, item in floors.items():
        metrics.append(
            Metric(
                "floor.adv",
                name,
                "reference",
                "ground-truth labels",
                item.value,
                item.interval(0.95, -1.0, 1.0),
                item.n,
                "adv",
            )
        )
    splits = {"P": probe, "E": test, "T_in": train}
    return Audit(
        headline=headline(claims, valid=not invalid, references=len(references)),
        valid=not invalid,
        invalid_because=tuple(invalid),
        request={
            "labels": list(request.forget),
            "forgotten_earlier": list(request.forgotten),
            "retained": list(request.retained),
        },
        claims=claims,
        metrics=tuple(metrics),
        comparisons=judged.comparisons(options) if judged else (),
        controls={
            "positive": {
                name: {"attack": attack, "lower": bound, "passed": bound >= options.d_chance}
                for name, (attack, bound) in positive.items()
            },
            "permuted": {
                name: {
                    kind: controls.spread(found, questions[name].n)
                    for kind, found in done["permuted", 0, name].items()
                }
                for name in questions
            },
            "decoys": decoys,
            "floor": {name: controls.context(item) for name, item in floors.items()},
            "raw_image": {name: controls.context(item) for name, item in raw.items()},
            "random_init": {
                name: controls.context(done["random_init", 0, name]) for name in questions if random_init
            },
        },
        data={
            **(facts or {}),
            "splits": {
                key: {
                    "n": len(data),
                    "n_clusters": len(np.unique(data.cluster)),
                    "n_present": {
                        name: int(np.sum(data.target[:, question.column] == 1))
                        for name, question in questions.items()
                    },
                }
                for key, data in splits.items()
            },
            "overlap": overlap,
            "deterministic": deterministic,
        },
        options=options.to_json(),
        models=dict(models or {}),
        not_tested=not_tested(options.budget),
        limitations=limitations(
            request,
            test,
            train,
            len(references),
            {name: item.value for name, item in raw.items()},
            [name for name in request.retained if name not in names],
            deterministic,
            options,
        ),
        seconds={"attacks": attacked - started, "rest": time.perf_counter() - attacked},
    )


def _run(jobs: Mapping[Any, Job], log: Log = SILENT) -> dict[Any, Any]:
    """Runs independent jobs side by side, one core each.

    Every library inside is held to one thread: the jobs are many and small, threads inside them would
    wait for each other far longer than they work, and a sum's order would depend on their number.
    """
    cores = torch.get_num_threads()

    def alone() -> None:
        torch.set_num_threads(1)
        threadpool_limits(1)

    results: dict[Any, Any] = {}
    with threadpool_limits(1), log.track("audit", len(jobs), "attacks") as advance:
        try:
            with ThreadPoolExecutor(cores, initializer=alone) as pool:
                waiting = {pool.submit(job): key for key, job in jobs.items()}
                for future in as_completed(waiting):
                    results[waiting[future]] = future.result()
                    advance(1)
        finally:
            torch.set_num_threads(cores)
    return results


def _metric(
    figure: str,
    label: str | None,
    subject: Subject,
    item: Estimate,
    unit: str,
    low: float = 0.0,
    high: float = 1.0,
) -> Metric:
    """An estimate as a row of the report, its interval cut to the figure's range."""
    return Metric(
        figure,
        label,
        subject.role,
        subject.run,
        item.value,
        item.interval(0.95, low, high),
        item.n,
        unit,
        layer_of(figure),
    )


def _label_metrics(
    subject: Subject,
    own: OwnOutput,
    readings: Mapping[str, Estimate],
    question: Question,
    options: AuditOptions,
) -> list[Metric]:
    """All rows of one model and one forgotten label."""
    name = question.label
    value, interval = decision_bits(own, question, options)
    signed = own.signed(question)
    return [
        _metric("own.ppr", name, subject, own.positive_rate(question), "fraction"),
        _metric("own.sadv", name, subject, signed, "adv", -1.0),
        _metric("own.sadv@train", name, subject, own.signed_on_train(question), "adv", -1.0),
        Metric("own.mi_bits", name, subject.role, subject.run, value, interval, signed.n, "bits"),
        *(
            _metric(
                figure,
                name,
                subject,
                item,
                unit_of(figure),
                0.0 if "bits" in figure or figure == "own.adv" else -1.0,
            )
            for figure, item in readings.items()
        ),
    ]


def _utility_metrics(subject: Subject, utility: Utility) -> list[Metric]:
    """All rows of one model's retained labels."""
    units = dict(zip(IDS, ("auc", "fraction", "fraction", "fraction", "fraction"), strict=True))
    rows = [
        _metric(figure, name, subject, item, units[figure])
        for name, row in utility.labels.items()
        for figure, item in row.items()
    ]
    return [
        *rows,
        _metric("util.auc.macro", None, subject, utility.macro("util.auc"), "auc"),
        _metric("util.ece.macro", None, subject, utility.macro("util.ece"), "fraction"),
    ]
