"""All that is measured before anything is decided: every attack on every model, and the controls."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from unlabel.audit.attacks import controls
from unlabel.audit.attacks.cross_fit import both
from unlabel.audit.attacks.outputs import OwnOutput, floor, read_others
from unlabel.audit.attacks.probes import read_features
from unlabel.audit.figures import OWN, Readings
from unlabel.audit.inputs import Context, Subject
from unlabel.audit.memory import Memory, digest, key_of
from unlabel.core.progress import Log
from unlabel.models.features import PENULTIMATE, Outputs
from unlabel.statistics.contrast import Contrast
from unlabel.statistics.estimate import Estimate, advantage

Job = Callable[[], Any]
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
        done = side_by_side(jobs, context.log)
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
                **done["features", name, index],
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


def _jobs(subjects: Sequence[Subject], context: Context) -> dict[Place, Job]:
    """Every attack on every model and label, and every control."""
    options, hidden, test = context.options, context.hidden, context.test
    truth, random_init = _truth(context), context.random_init
    jobs: dict[Place, Job] = {}
    if options.raw_image:
        jobs["pictures", "", 0] = lambda: controls.raw_images(context.probe, test, options.seed)
    for name, question in context.questions.items():
        for index, subject in enumerate(subjects):
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
    """Annotations of the retained labels on P and E."""
    retained = list(context.request.retained_columns)
    return context.probe.target[:, retained], context.test.target[:, retained]


def keys_of(jobs: Mapping[Place, Job], subjects: Sequence[Subject], context: Context) -> dict[Place, str]:
    """Key of every job whose finding another audit may need: a hash of all that it reads.

    Args:
        jobs: All jobs.
        subjects: The models; on an unlearned one, nothing is worth keeping.
        context: The labels, the data and the sizes.
    """
    fixed = (context.options.to_json(), context.hidden, context.exclusive)
    shared = [index for index, subject in enumerate(subjects) if subject.role != "after"]
    models = {index: (subjects[index].probe, subjects[index].test) for index in shared}

    def tables(pair: tuple[Outputs, Outputs]) -> str:
        return digest(*(table for part in pair for table in (part.logits, part.features[PENULTIMATE])))

    said = {index: tables(pair) for index, pair in models.items()}
    asked = {
        name: digest(q.column, q.probe, q.test, q.probe_cluster, q.test_cluster, q.crossed)
        for name, q in context.questions.items()
    }
    read: dict[str, str] = {"floor": digest(*_truth(context))}
    if context.random_init is not None:
        read["random"] = tables(context.random_init)
    return {
        (what, name, index): key_of(what, read.get(what) or said[index], asked[name], fixed)
        for what, name, index in jobs
        if what != "pictures" and (what in read or index in said)
    }


def remembered(
    jobs: Mapping[Place, Job], keys: Mapping[Place, str], memory: Memory, log: Log
) -> dict[Place, Any]:
    """Runs the jobs whose finding is not in memory, and keeps those that have a key."""
    found: dict[Place, Any] = {}
    for place, key in keys.items():
        if (known := memory.recall(key)) is not None:
            found[place] = known
    fresh = side_by_side({place: job for place, job in jobs.items() if place not in found}, log)
    for place, value in fresh.items():
        if place in keys:
            memory.keep(keys[place], value)
    return found | fresh


def side_by_side(jobs: Mapping[Any, Job], log: Log) -> dict[Any, Any]:
    """Runs independent jobs, one core each.

    Every library inside is held to one thread: the jobs are many and small, threads inside them would
    wait for each other far longer than they work, and the order of a sum would depend on their number.
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
    return {key: results[key] for key in jobs}
