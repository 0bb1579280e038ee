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
from unlabel.audit.inputs import AuditOptions, Question, Subject
from unlabel.audit.memory import Memory, digest, key_of
from unlabel.core.progress import Log
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
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


def gather(
    subjects: Sequence[Subject],
    questions: Mapping[str, Question],
    request: Request,
    probe: Dataset,
    test: Dataset,
    random_init: tuple[Outputs, Outputs] | None,
    options: AuditOptions,
    log: Log,
    memory: Memory | None = None,
) -> Evidence:
    """Runs every attack on every model alike, and the controls.

    Args:
        subjects: The models, the original first.
        questions: The labels to be guessed.
        request: Names the columns to hide from the attacks on other outputs.
        probe: P.
        test: E.
        random_init: Outputs on P and E of an untrained network.
        options: Sizes and seed.
        log: Receives progress.
        memory: Where attacks on the original and the references are looked up and kept; of the unlearned
            model, which no other audit has, nothing is.
    """
    hidden, retained = request.masked_columns, list(request.retained_columns)
    truth = probe.target[:, retained], test.target[:, retained]
    jobs: dict[Place, Job] = {}
    if options.raw_image:
        jobs["pictures", "", 0] = lambda: controls.raw_images(probe, test, options.seed)
    for name, question in questions.items():
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
    if memory is None:
        done = side_by_side(jobs, log)
    else:
        fixed = (options.to_json(), hidden, test.exclusive)
        keys = keys_of(jobs, subjects, questions, truth, random_init, fixed)
        done = remembered(jobs, keys, memory, log)
    owns = [
        {name: OwnOutput.of(subject, q, exclusive=test.exclusive) for name, q in questions.items()}
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
    if options.raw_image:
        pictures = done["pictures", "", 0]
        raw = {name: controls.read_raw(pictures, question) for name, question in questions.items()}
    return Evidence(
        owns,
        readings,
        {name: done["floor", name, 0]["floor"] for name in questions},
        {name: done["permuted", name, 0] for name in questions},
        raw,
        {name: done["random", name, 0]["random"] for name in questions if random_init is not None},
    )


def keys_of(
    jobs: Mapping[Place, Job],
    subjects: Sequence[Subject],
    questions: Mapping[str, Question],
    truth: tuple[Any, Any],
    random_init: tuple[Outputs, Outputs] | None,
    fixed: tuple[Any, ...],
) -> dict[Place, str]:
    """Key of every job whose finding another audit may need: a hash of all that it reads.

    Args:
        jobs: All jobs.
        subjects: The models; on an unlearned one, nothing is worth keeping.
        questions: The labels.
        truth: The retained labels on P and E.
        random_init: Outputs of an untrained network.
        fixed: Plain values that every job may depend on.
    """
    shared = [index for index, subject in enumerate(subjects) if subject.role != "after"]
    models = {index: (subjects[index].probe, subjects[index].test) for index in shared}

    def tables(pair: tuple[Outputs, Outputs]) -> str:
        return digest(*(table for part in pair for table in (part.logits, part.features[PENULTIMATE])))

    said = {index: tables(pair) for index, pair in models.items()}
    asked = {
        name: digest(q.column, q.probe, q.test, q.probe_cluster, q.test_cluster, q.crossed)
        for name, q in questions.items()
    }
    read: dict[str, str] = {"floor": digest(*truth)}
    if random_init is not None:
        read["random"] = tables(random_init)
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
    return results
