"""All that is measured before anything is decided: every attack on every model, and the controls."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from unlabel.audit import controls
from unlabel.audit.contrasts import Contrast
from unlabel.audit.judging import Readings
from unlabel.audit.outputs import OwnOutput, floor, read_others
from unlabel.audit.probes import read_features
from unlabel.audit.statistics import Estimate, advantage
from unlabel.audit.subject import AuditOptions, Question, Subject
from unlabel.data.dataset import Dataset
from unlabel.log import Log
from unlabel.models.features import Outputs
from unlabel.request import Request

Job = Callable[[], Any]


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
    """
    hidden, retained = request.masked_columns, list(request.retained_columns)
    truth = probe.target[:, retained], test.target[:, retained]
    jobs: dict[tuple[str, str, int], Job] = {}
    if options.raw_image:
        jobs["pictures", "", 0] = lambda: controls.raw_images(probe, test, options.seed)
    for name, question in questions.items():
        for index, subject in enumerate(subjects):
            jobs["features", name, index] = lambda s=subject, q=question: read_features(
                s.probe, s.test, q, options
            )
            jobs["others", name, index] = lambda s=subject, q=question: read_others(s, hidden, q, options)
        if test.exclusive:
            silence = np.zeros(len(test))
            jobs["floor", name, 0] = lambda q=question, s=silence: advantage(s, q.test, q.test_cluster)
        else:
            jobs["floor", name, 0] = lambda q=question: floor(*truth, q, options)
        jobs["permuted", name, 0] = lambda q=question: controls.permuted(subjects[0], hidden, q, options)
        if random_init is not None:
            jobs["random", name, 0] = lambda pair=random_init, q=question: controls.read_random_init(
                pair, q, options
            )
    done = side_by_side(jobs, log)
    owns = [
        {name: OwnOutput.of(subject, q, exclusive=test.exclusive) for name, q in questions.items()}
        for subject in subjects
    ]
    readings: list[dict[str, Readings]] = [
        {
            name: {
                "own.adv": owns[index][name].signed(question).absolute(),
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
        {name: done["floor", name, 0] for name in questions},
        {name: done["permuted", name, 0] for name in questions},
        raw,
        {name: done["random", name, 0] for name in questions if random_init is not None},
    )


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
