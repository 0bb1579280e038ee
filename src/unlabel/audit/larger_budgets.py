"""What the standard and the full budget measure beyond the quick one, before anything is decided."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from unlabel.audit.attacks.attribute_inference import attribute_inference, code_rows
from unlabel.audit.attacks.cross_fit import both
from unlabel.audit.attacks.distances import distance_rows
from unlabel.audit.attacks.few_shot import few_shot
from unlabel.audit.attacks.groups import group_rows
from unlabel.audit.attacks.membership import Membership, label_membership, membership_rows, sample_membership
from unlabel.audit.attacks.outputs import OwnOutput, read_others_linear
from unlabel.audit.attacks.probes import read_features
from unlabel.audit.attacks.recovery import REPEATED, Recovery
from unlabel.audit.attacks.tuned import Tuned
from unlabel.audit.attacks.whole_model import WeightAttacks, learners, stage_readings, weight_rows
from unlabel.audit.evidence import Job, side_by_side
from unlabel.audit.figures import FEW_SHOT, OTHERS_LINEAR, OWN, RECOVERED, Readings
from unlabel.audit.inputs import Altered, AuditOptions, Context, Question, Subject
from unlabel.audit.metric_rows import row
from unlabel.audit.results import Metric
from unlabel.statistics.estimate import Estimate


@dataclass(frozen=True)
class Larger:
    """What was measured; see the modules that judge it."""

    altered: Mapping[tuple[str, str], Mapping[str, Readings]]  # (transform, run) -> label -> attack
    recovery: Recovery
    labels: Sequence[Mapping[str, Estimate]]  # of each model: label-level membership, by label
    samples: Sequence[Membership]  # of each model: sample-level membership
    described: Sequence[Metric]  # figures that no verdict rests on


def gather_larger(
    subjects: Sequence[Subject],
    context: Context,
    altered: Sequence[Altered] = (),
    tuned: Sequence[Tuned] = (),
) -> Larger:
    """Runs every test that the budget includes beyond the quick one, on every model alike.

    Args:
        subjects: The models, the original first and the unlearned one second.
        context: The labels, the data and the sizes.
        altered: Unlearned and retrained models after each transform.
        tuned: Every model after it was trained on few annotated images, for the full budget.
    """
    includes, questions = context.options.includes, context.questions
    done = side_by_side(_jobs(subjects, context, altered, tuned), context.log)
    changed = {
        (item.transform, item.subject.run): {
            name: done["altered", name, item.transform, item.subject.run] for name in questions
        }
        for item in (altered if includes.transforms else ())
    }

    def of(subject: Subject) -> dict[str, Mapping[str, Readings]]:
        return {transform: rows for (transform, run), rows in changed.items() if run == subject.run}

    def each(what: str, *, measured: bool) -> dict[str, list[Any]]:
        names = questions if measured else ()
        return {name: [done[what, name, subject.run] for subject in subjects] for name in names}

    weights = WeightAttacks(
        each("tuned", measured=includes.fine_tuning), each("stages", measured=includes.early_layers)
    )
    recovery = Recovery(
        of(subjects[1]),
        [of(subject) for subject in subjects[2:]],
        each("few", measured=includes.few_shot),
        weights if includes.fine_tuning or includes.early_layers else None,
    )
    members = subjects if includes.membership else ()
    samples = [done["sample", "", subject.run] for subject in members]
    described = [
        metric
        for place, found in done.items()
        if place[0] in ("aia", "mdl", "groups", "distances")
        for metric in found
    ]
    for subject, found in zip(members, samples, strict=True):
        described += membership_rows(subject, found)
    return Larger(
        changed,
        recovery,
        [{name: done["label", name, subject.run] for name in questions} for subject in members],
        samples,
        sorted(described, key=lambda item: (item.id, item.label or "")),
    )


def _jobs(
    subjects: Sequence[Subject], context: Context, altered: Sequence[Altered], tuned: Sequence[Tuned]
) -> dict[Any, Job]:
    """Every test that the budget includes, on every model and label."""
    options, hidden, test, train = context.options, context.hidden, context.test, context.train
    includes, kept = options.includes, context.request.retained_columns
    jobs: dict[Any, Job] = {}
    for name, question in context.questions.items():
        own = OwnOutput.of(subjects[0], question, exclusive=context.exclusive)
        for item in altered if includes.transforms else ():
            jobs["altered", name, item.transform, item.subject.run] = lambda s=item.subject, q=question: (
                reread(s, hidden, q, options, exclusive=context.exclusive)
            )
        each: dict[str, Callable[[Subject], Any]] = {}
        if includes.few_shot:
            each["few"] = lambda s, q=question: few_shot(s.probe, s.test, q, options)
        if includes.membership:
            each["label"] = lambda s, q=question: label_membership(s, q, options)
        if includes.described:
            each["aia"] = lambda s, q=question: attribute_inference(s, hidden, q)
        if includes.code_length:
            each["mdl"] = lambda s, q=question: code_rows(s, q, options)
        if includes.fine_tuning:
            each["tuned"] = lambda s, q=question, o=own: learners(s, tuned, o, q)
        if includes.early_layers:
            each["stages"] = lambda s, q=question: stage_readings(s, q, options)
        jobs |= {
            (what, name, subject.run): partial(job, subject)
            for subject in subjects
            for what, job in each.items()
        }
    if includes.membership:
        for subject in subjects:
            jobs["sample", "", subject.run] = lambda s=subject: sample_membership(s, train, test, kept)
    if includes.groups:
        retained, questions = context.request.retained, context.questions
        jobs["groups", "", ""] = lambda: group_rows(subjects, test, retained, questions)
    if includes.described:
        jobs["distances", "", ""] = lambda: distance_rows(subjects, test, train, kept)
    return jobs


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


def larger_rows(larger: Larger, subjects: Sequence[Subject]) -> list[Metric]:
    """Every figure as a row of ``metrics[]``."""
    rows: list[Metric] = []
    by_run = {subject.run: subject for subject in subjects}
    for (transform, run), labels in larger.altered.items():
        for label, readings in labels.items():
            rows += [
                row(RECOVERED.of(figure), label, by_run[run], readings[figure], transform=transform)
                for figure in REPEATED
            ]
    for label, models in larger.recovery.few.items():
        for subject, sizes in zip(subjects, models, strict=True):
            rows += [row(FEW_SHOT.of(n), label, subject, found.mean) for n, found in sizes.items()]
    weights = larger.recovery.weights
    return [*rows, *(weight_rows(weights, subjects) if weights else ()), *larger.described]
