"""What the standard and the full budget measure beyond the quick one, before anything is decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unlabel.audit.attacks.attribute_inference import attribute_inference, code_rows
from unlabel.audit.attacks.cross_fit import both
from unlabel.audit.attacks.distances import distance_rows
from unlabel.audit.attacks.few_shot import Tuned, few_shot
from unlabel.audit.attacks.groups import group_rows
from unlabel.audit.attacks.membership import Membership, label_membership, membership_rows, sample_membership
from unlabel.audit.attacks.outputs import OwnOutput, read_others_linear
from unlabel.audit.attacks.probes import read_features
from unlabel.audit.attacks.recovery import REPEATED, Recovery
from unlabel.audit.attacks.whole_model import Deeper, deeper_rows, learners, stage_readings
from unlabel.audit.evidence import Job, side_by_side
from unlabel.audit.figures import FEW_SHOT, OTHERS_LINEAR, OWN, RECOVERED, Readings
from unlabel.audit.inputs import Altered, AuditOptions, Question, Subject
from unlabel.audit.metric_rows import row
from unlabel.audit.results import Metric
from unlabel.core.progress import Log
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.statistics.estimate import Estimate


@dataclass(frozen=True)
class Further:
    """What was measured; see the modules that judge it."""

    altered: Mapping[tuple[str, str], Mapping[str, Readings]]  # (transform, run) -> label -> attack
    recovery: Recovery
    labels: Sequence[Mapping[str, Estimate]]  # of each model: label-level membership, by label
    samples: Sequence[Membership]  # of each model: sample-level membership
    described: Sequence[Metric]  # figures that no verdict rests on


def gather_further(
    subjects: Sequence[Subject],
    altered: Sequence[Altered],
    questions: Mapping[str, Question],
    request: Request,
    test: Dataset,
    train: Dataset,
    options: AuditOptions,
    log: Log,
    tuned: Sequence[Tuned] = (),
) -> Further:
    """Runs every further test on every model alike.

    Args:
        subjects: The models, the original first and the unlearned one second.
        altered: Unlearned and retrained models after each transform.
        questions: The labels to be guessed.
        request: Which columns are hidden from attacks on other outputs, and which are retained.
        test: E.
        train: T_in.
        options: Sizes and seed.
        log: Receives progress.
        tuned: Every model after it was trained on few annotated images, for the full budget.
    """
    hidden, kept = request.masked_columns, request.retained_columns
    jobs: dict[Any, Job] = {}
    for name, question in questions.items():
        own = OwnOutput.of(subjects[0], question, exclusive=test.exclusive)
        for item in altered:
            jobs["altered", name, item.transform, item.subject.run] = lambda s=item.subject, q=question: (
                reread(s, hidden, q, options, exclusive=test.exclusive)
            )
        for subject in subjects:
            jobs["few", name, subject.run] = lambda s=subject, q=question: few_shot(
                s.probe, s.test, q, options
            )
            jobs["label", name, subject.run] = lambda s=subject, q=question: label_membership(s, q, options)
            jobs["aia", name, subject.run] = lambda s=subject, q=question: attribute_inference(s, hidden, q)
            if options.budget == "full":
                jobs["mdl", name, subject.run] = lambda s=subject, q=question: code_rows(s, q, options)
                jobs["tuned", name, subject.run] = lambda s=subject, q=question, o=own: learners(
                    s, tuned, o, q
                )
                jobs["stages", name, subject.run] = lambda s=subject, q=question: stage_readings(
                    s, q, options
                )
    for subject in subjects:
        jobs["sample", "", subject.run] = lambda s=subject: sample_membership(s, train, test, kept)
    jobs["groups", "", ""] = lambda: group_rows(subjects, test, request.retained, questions)
    jobs["distances", "", ""] = lambda: distance_rows(subjects, test, train, kept)
    done = side_by_side(jobs, log)
    changed = {
        (item.transform, item.subject.run): {
            name: done["altered", name, item.transform, item.subject.run] for name in questions
        }
        for item in altered
    }

    def of(subject: Subject) -> dict[str, Mapping[str, Readings]]:
        return {transform: rows for (transform, run), rows in changed.items() if run == subject.run}

    def each(what: str) -> dict[str, list[Any]]:
        return {name: [done[what, name, subject.run] for subject in subjects] for name in questions}

    recovery = Recovery(
        of(subjects[1]),
        [of(subject) for subject in subjects[2:]],
        each("few"),
        Deeper(each("tuned"), each("stages")) if options.budget == "full" else None,
    )
    samples = [done["sample", "", subject.run] for subject in subjects]
    described = [
        metric
        for place, found in done.items()
        if place[0] in ("aia", "mdl", "groups", "distances")
        for metric in found
    ]
    for subject, found in zip(subjects, samples, strict=True):
        described += membership_rows(subject, found)
    return Further(
        changed,
        recovery,
        [{name: done["label", name, subject.run] for name in questions} for subject in subjects],
        samples,
        sorted(described, key=lambda item: (item.id, item.label or "")),
    )


def reread(
    subject: Subject, hidden: tuple[int, ...], question: Question, options: AuditOptions, *, exclusive: bool
) -> Readings:
    """The attacks of `REPEATED` on a model that was changed."""

    def fitted(model: Subject, asked: Question) -> Readings:
        return {
            OTHERS_LINEAR.id: read_others_linear(model, hidden, asked),
            **read_features(model.probe, model.test, asked, options),
        }

    own = OwnOutput.of(subject, question, exclusive=exclusive)
    return {OWN.id: own.signed(question).absolute(), **both(fitted, subject, question)}


def further_rows(further: Further, subjects: Sequence[Subject]) -> list[Metric]:
    """Every figure as a row of ``metrics[]``."""
    rows: list[Metric] = []
    by_run = {subject.run: subject for subject in subjects}
    for (transform, run), labels in further.altered.items():
        for label, readings in labels.items():
            rows += [
                row(RECOVERED.of(figure), label, by_run[run], readings[figure], transform=transform)
                for figure in REPEATED
            ]
    for label, models in further.recovery.few.items():
        for subject, sizes in zip(subjects, models, strict=True):
            rows += [row(FEW_SHOT.of(n), label, subject, found.mean) for n, found in sizes.items()]
    deeper = further.recovery.deeper
    return [*rows, *(deeper_rows(deeper, subjects) if deeper else ()), *further.described]
