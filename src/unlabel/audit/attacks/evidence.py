"""All that is measured before anything is decided: every attack on every model, and the controls.

`gather` runs what every audit runs, `gather_larger` what the larger budgets add.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from unlabel.audit.attacks import controls
from unlabel.audit.attacks.attribute_inference import attribute_inference, code_rows
from unlabel.audit.attacks.cross_fit import both
from unlabel.audit.attacks.distances import distance_rows, nearer_rows
from unlabel.audit.attacks.few_shot import Relearnt, few_shot
from unlabel.audit.attacks.groups import group_rows
from unlabel.audit.attacks.held_out import HeldOut, depth_readings, foretold, held_out_rows
from unlabel.audit.attacks.hits import Hits, hit_rows, served
from unlabel.audit.attacks.membership import (
    Membership,
    label_membership,
    membership_rows,
    membership_untested,
    sample_membership,
)
from unlabel.audit.attacks.metric_rows import row
from unlabel.audit.attacks.outputs import OwnOutput, floor, read_others, read_others_linear
from unlabel.audit.attacks.persons import persons
from unlabel.audit.attacks.probes import read_features
from unlabel.audit.attacks.prototypes import by_prototypes
from unlabel.audit.attacks.recovery import REPEATED, Recovery
from unlabel.audit.attacks.whole_model import WeightAttacks, judged, stage_readings, taught, weight_rows
from unlabel.audit.attacks.within_groups import Masks, leaks, parts_of
from unlabel.audit.document.results import Metric
from unlabel.audit.figures import FEW_SHOT, OTHERS_LINEAR, OWN, RECOVERED, Readings
from unlabel.audit.inputs.attackers import POSITIONS, PROTOTYPES, STITCHED, TANGENT, UNTRAINED
from unlabel.audit.inputs.memory import Memory, digest, key_of
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Context, Question
from unlabel.audit.inputs.subject import Altered, Subject, has_features
from unlabel.audit.inputs.tuned import Predicted, Tuned
from unlabel.core.parallel import Job, run_jobs
from unlabel.core.progress import Log
from unlabel.models.outputs import Outputs
from unlabel.statistics.contrast import Contrast
from unlabel.statistics.estimate import Estimate, advantage

Place = tuple[str, str, int]  # what is measured, of which label, on which model


@dataclass(frozen=True)
class Evidence:
    """What was measured.

    Args:
        owns: Of each model, by label: its own output.
        readings: Of each model, by label: every attack.
        floors: By label: what the true retained labels tell; 0 for exclusive classes, where it is no measure.
        permuted: By label: attacks on the original trained on permuted labels.
        raw: By label: the attack on pixels; empty where not asked for.
        random_init: By label: the probe on an untrained network; empty where not given.
    """

    owns: list[dict[str, OwnOutput]]
    readings: list[dict[str, Readings]]
    floors: dict[str, Estimate]
    permuted: dict[str, dict[str, Contrast]]
    raw: dict[str, Estimate]
    random_init: dict[str, Estimate]


def gather(subjects: Sequence[Subject], context: Context) -> Evidence:
    """Runs every attack on every model alike, and the controls.

    Args:
        subjects: The models, the original first.
        context: The labels, the data and the sizes.
    """
    questions, exclusive = context.questions, context.exclusive
    jobs = _jobs(subjects, context)
    if context.memory is None:
        done = run_jobs(jobs, context.log)
    else:
        done = remembered(jobs, keys_of(jobs, subjects, context), context.memory, context.log)
    owns = [
        {name: OwnOutput.of(subject, q, exclusive=exclusive) for name, q in questions.items()}
        for subject in subjects
    ]
    readings: list[dict[str, Readings]] = [
        {
            name: {
                OWN.id: owns[index][name].signed(question).absolute(),
                **done["others", name, index],
                **done.get(("features", name, index), {}),
            }
            for name, question in questions.items()
        }
        for index in range(len(subjects))
    ]
    raw: dict[str, Estimate] = {}
    if context.options.raw_image:
        pictures = done["pictures", "", 0]
        raw = {name: controls.read_raw(pictures, question) for name, question in questions.items()}
    untrained = questions if context.random_init is not None else ()
    return Evidence(
        owns,
        readings,
        {name: done["floor", name, 0]["floor"] for name in questions},
        {name: done["permuted", name, 0] for name in questions},
        raw,
        {name: done["random", name, 0]["random"] for name in untrained},
    )


def apart(evidence: Evidence, count: int) -> tuple[Evidence, list[dict[str, Readings]]]:
    """The evidence of the first models alone, and the readings of those after them."""
    first = replace(evidence, owns=evidence.owns[:count], readings=evidence.readings[:count])
    return first, evidence.readings[count:]


def _jobs(subjects: Sequence[Subject], context: Context) -> dict[Place, Job]:
    """Every attack on every model and label, and every control."""
    options, hidden, test = context.options, context.hidden, context.test
    truth, random_init = _truth(context), context.random_init
    jobs: dict[Place, Job] = {}
    if options.raw_image:
        jobs["pictures", "", 0] = lambda: controls.raw_images(context.probe, test, options.seed)
    for name, question in context.questions.items():
        for index, subject in enumerate(subjects):
            if has_features(subject):
                jobs["features", name, index] = lambda s=subject, q=question: both(
                    lambda s, q: read_features(s.probe, s.test, q, options), s, q
                )
            jobs["others", name, index] = lambda s=subject, q=question: both(
                lambda s, q: read_others(s, hidden, q, options), s, q
            )
        if test.exclusive:
            silence = np.zeros(len(test))
            jobs["floor", name, 0] = lambda q=question, s=silence: {
                "floor": advantage(s, q.test, q.test_cluster)
            }
        else:
            jobs["floor", name, 0] = lambda q=question: {"floor": floor(*truth, q, options)}
        jobs["permuted", name, 0] = lambda q=question: controls.permuted(subjects[0], hidden, q, options)
        if random_init is not None:
            jobs["random", name, 0] = lambda pair=random_init, q=question: {
                "random": controls.read_random_init(pair, q, options)
            }
    return jobs


def _truth(context: Context) -> tuple[Any, Any]:
    """Annotations of the retained labels on the probe and test splits."""
    retained = list(context.request.retained_columns)
    return context.probe.target[:, retained], context.test.target[:, retained]


def keys_of(jobs: Mapping[Place, Job], subjects: Sequence[Subject], context: Context) -> dict[Place, str]:
    """Key of every job whose finding another audit may need: a hash of all that it reads.

    Args:
        jobs: All jobs.
        subjects: The models; on an unlearned one, nothing is worth keeping.
        context: The labels, the data and the sizes.
    """
    fixed = (replace(context.options, attackers=()).to_json(), context.hidden, context.exclusive)
    shared = [index for index, subject in enumerate(subjects) if subject.role != "after"]
    models = {index: (subjects[index].probe, subjects[index].test) for index in shared}

    def tables(pair: tuple[Outputs, Outputs]) -> str:
        return digest(*(table for part in pair for table in part.ends))

    hashes = {index: tables(pair) for index, pair in models.items()}
    asked = {
        name: digest(q.column, q.probe, q.test, q.probe_cluster, q.test_cluster, q.crossed)
        for name, q in context.questions.items()
    }
    read: dict[str, str] = {"floor": digest(*_truth(context))}
    if context.random_init is not None:
        read["random"] = tables(context.random_init)
    return {
        (what, name, index): key_of(what, read.get(what) or hashes[index], asked[name], fixed)
        for what, name, index in jobs
        if what != "pictures" and (what in read or index in hashes)
    }


def remembered(
    jobs: Mapping[Place, Job], keys: Mapping[Place, str], memory: Memory, log: Log
) -> dict[Place, Any]:
    """Runs the jobs whose finding is not in memory, and keeps those that have a key."""
    findings: dict[Place, Any] = {}
    for place, key in keys.items():
        if (recalled := memory.recall(key)) is not None:
            findings[place] = recalled
    fresh = run_jobs({place: job for place, job in jobs.items() if place not in findings}, log)
    for place, value in fresh.items():
        if place in keys:
            memory.keep(keys[place], value)
    return findings | fresh


@dataclass(frozen=True)
class Larger:
    """What was measured; see the modules that judge it."""

    altered: Mapping[tuple[str, str], Mapping[str, Readings]]  # (transform, run) -> label -> attack
    recovery: Recovery
    labels: Sequence[Mapping[str, Estimate]]  # of each model: label-level membership, by label
    samples: Sequence[Membership]  # of each model: sample-level membership; none if it cannot be measured
    described: Sequence[Metric]  # figures that no verdict rests on
    hits: Hits | None = None  # within groups and by person; None among classes, or where not asked for
    shorts: Mapping[str, Sequence[Mapping[int, Relearnt]]] = field(default_factory=dict)
    # by label, of each short training: few-shot probes


def gather_larger(
    subjects: Sequence[Subject],
    context: Context,
    altered: Sequence[Altered] = (),
    tuned: Sequence[Tuned] = (),
    predicted: Sequence[Predicted] = (),
    shorts: Sequence[Subject] = (),
) -> Larger:
    """Runs every test that the budget includes beyond the quick one, on every model alike.

    Args:
        subjects: The models, the original first and the unlearned one second.
        context: The labels, the data and the sizes.
        altered: Unlearned and retrained models after each transform.
        tuned: Every model after it was trained on few annotated images, for the full budget.
        predicted: What training every model is predicted to find, if it is asked for.
        shorts: Short trainings, on which few annotated images are tried as well.
    """
    includes, questions = context.options.includes, context.questions
    jobs = _larger_jobs(subjects, context, altered, (tuned, predicted))
    done = run_jobs(jobs | (_few_jobs(shorts, context) if includes.few_shot else {}), context.log)
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
    asked = context.options.asked
    beside = HeldOut(
        each("taught", measured=any(name not in UNTRAINED for name in asked)),
        each("depth", measured=POSITIONS in asked or STITCHED in asked),
        each("foretold", measured=TANGENT in asked),
        each("handful", measured=PROTOTYPES in asked),
    )
    recovery = Recovery(
        of(subjects[1]),
        [of(subject) for subject in subjects[2:]],
        each("few", measured=includes.few_shot),
        weights if includes.fine_tuning or includes.early_layers else None,
        beside,
    )
    members = subjects if includes.membership else ()
    told = [subject for subject in members if ("sample", "", subject.run) in done]
    samples = [done["sample", "", subject.run] for subject in told]
    described = [
        metric
        for place, found in done.items()
        if place[0] in ("aia", "mdl", "groups", "distances", "nearer")
        for metric in found
    ]
    for subject, found in zip(told, samples, strict=True):
        described += membership_rows(subject, found)
    return Larger(
        changed,
        recovery,
        [{name: done["label", name, subject.run] for name in questions} for subject in members],
        samples,
        sorted(described, key=lambda item: (item.id, item.label or "")),
        _hits(done, subjects, context),
        {
            name: [done["few", name, subject.run] for subject in shorts]
            for name in (questions if includes.few_shot else ())
        },
    )


def groups_of(context: Context) -> Masks:
    """The groups within which every model is measured; none where the budget has none, or among classes."""
    request = context.request
    return (
        parts_of(context.test, (*request.retained, *request.masked))
        if context.options.includes.groups
        else {}
    )


def _hits(done: Mapping[Any, Any], subjects: Sequence[Subject], context: Context) -> Hits | None:
    masks = groups_of(context)
    if not masks:
        return None

    def of_each(what: str, name: str) -> list[Any]:
        return [done[what, name, subject.run] for subject in subjects]

    return Hits(
        len(masks),
        {name: of_each("leaks", name) for name in context.questions},
        of_each("served", ""),
        done["persons", "", ""],
    )


def _larger_jobs(
    subjects: Sequence[Subject],
    context: Context,
    altered: Sequence[Altered],
    learnt: tuple[Sequence[Tuned], Sequence[Predicted]],
) -> dict[Any, Job]:
    """Every test that the budget includes, on every model and label."""
    tuned, predicted = learnt
    options, hidden, test, train = context.options, context.hidden, context.test, context.train
    includes, columns = options.includes, context.request.retained_columns
    jobs: dict[Any, Job] = {}
    for name, question in context.questions.items():
        own_output = OwnOutput.of(subjects[0], question, exclusive=context.exclusive)
        for item in altered if includes.transforms else ():
            jobs["altered", name, item.transform, item.subject.run] = lambda s=item.subject, q=question: (
                reread(s, hidden, q, options, exclusive=context.exclusive)
            )
        each: dict[str, Callable[[Subject], Any]] = {}
        if includes.membership:
            each["label"] = lambda s, q=question: label_membership(s, q, options)
        if includes.described:
            each["aia"] = lambda s, q=question: attribute_inference(s, hidden, q)
        if includes.code_length:
            each["mdl"] = lambda s, q=question: code_rows(s, q, options)
        if includes.fine_tuning:
            each["tuned"] = lambda s, q=question, o=own_output: judged(taught(s, tuned, o, q), q, options)
        if includes.early_layers:
            each["stages"] = lambda s, q=question: stage_readings(s, q, options)
        if any(name not in UNTRAINED for name in options.asked):
            each["taught"] = lambda s, q=question, o=own_output: taught(s, tuned, o, q)
        if POSITIONS in options.asked or STITCHED in options.asked:
            each["depth"] = lambda s, q=question: depth_readings(s, q, options)
        if TANGENT in options.asked:
            each["foretold"] = lambda s, q=question: foretold(s, predicted, q)
        if PROTOTYPES in options.asked:
            each["handful"] = lambda s, q=question: by_prototypes(s.probe, s.test, q, options)
        jobs |= {
            (what, name, subject.run): partial(job, subject)
            for subject in subjects
            for what, job in each.items()
        }
    if includes.few_shot:
        jobs |= _few_jobs(subjects, context)
    if includes.membership and not membership_untested(train, test, columns, options):
        for subject in subjects:
            jobs["sample", "", subject.run] = lambda s=subject: sample_membership(s, train, test, columns)
    if includes.groups:
        jobs |= _group_jobs(subjects, context)
        retained, questions = context.request.retained, context.questions
        jobs["groups", "", ""] = lambda: group_rows(subjects, test, retained, questions)
    if includes.described:
        jobs["distances", "", ""] = lambda: distance_rows(subjects, test, train, columns)
        jobs["nearer", "", ""] = lambda: nearer_rows(subjects, test, columns)
    return jobs


def _few_jobs(subjects: Sequence[Subject], context: Context) -> dict[Any, Job]:
    """Probes on few annotated images, of every model and label."""
    return {
        ("few", name, subject.run): partial(few_shot, subject.probe, subject.test, question, context.options)
        for name, question in context.questions.items()
        for subject in subjects
    }


def _group_jobs(subjects: Sequence[Subject], context: Context) -> dict[Any, Job]:
    """What is measured within groups and by person; nothing among classes, which have no such groups."""
    request, test, options, masks = context.request, context.test, context.options, groups_of(context)
    if not masks:
        return {}
    inner = {part: mask for part, mask in masks.items() if part.label in request.retained}
    jobs: dict[Any, Job] = {
        ("leaks", name, subject.run): partial(leaks, subject, question, inner, options)
        for name, question in context.questions.items()
        for subject in subjects
    }
    jobs |= {
        ("served", "", subject.run): partial(served, subject, subjects[0], test, request, masks, options)
        for subject in subjects
    }
    jobs["persons", "", ""] = partial(persons, subjects[1], subjects[2:], test, request.retained_columns)
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

    own_output = OwnOutput.of(subject, question, exclusive=exclusive)
    return {OWN.id: own_output.signed(question).absolute(), **both(fitted, subject, question)}


def larger_rows(larger: Larger, subjects: Sequence[Subject], options: AuditOptions) -> list[Metric]:
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
    rows += weight_rows(weights, subjects) if weights else ()
    rows += hit_rows(larger.hits, subjects) if larger.hits else ()
    return [*rows, *held_out_rows(larger.recovery.beside, subjects, options), *larger.described]
