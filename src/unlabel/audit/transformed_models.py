"""What only the larger budgets read: models after each transform of their weights, and models on canaries.

With `tuning` and `stages`, the part of those tests that holds a model: what it makes are tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np

from unlabel.audit.attacks.few_shot import Tuned
from unlabel.audit.attacks.transforms import TRANSFORMS, Use
from unlabel.audit.cached_outputs import cached_outputs
from unlabel.audit.figures import BATCHNORM
from unlabel.audit.inputs import Altered, Canaries, Subject
from unlabel.audit.setup import Case, Sets
from unlabel.core.engine import Run
from unlabel.core.randomness import uniform
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset, Source
from unlabel.models.features import PENULTIMATE, Outputs
from unlabel.runs.folder import Loaded

CALIBRATION = 2048  # images that recalibrate BatchNorm or train on


@dataclass(frozen=True)
class Used:
    """What the larger budgets need beside the models' outputs."""

    altered: Sequence[Altered] = ()
    canaries: Sequence[Canaries] = ()
    tuned: Sequence[Tuned] = ()


def use_on(case: Case, sets: Sets, subjects: Sequence[Subject], where: Run) -> Used:
    """Reads the unlearned model and the references after each transform, and every model on the canaries.

    Args:
        case: The runs and their data.
        sets: P and E.
        subjects: Outputs of the unlearned model and the references, untouched.
        where: One process.
    """
    assert case.after is not None
    models = [case.after, *case.references]
    calibration = calibration_images(case.source, where.seed)
    return Used(
        alter(models, subjects, sets, calibration, case.request, where),
        read_canaries([case.original, *models], case, sets, where),
    )


def calibration_images(source: Source, seed: int, leave_out: Sequence[int] = ()) -> Dataset:
    """A keyed sample of the training images, drawn anew: not the one that the method was given.

    Args:
        source: The data.
        seed: Its key.
        leave_out: Positions in the whole source of images that may not be drawn.
    """
    train = source.train
    rank = uniform(seed, "audit/calibration", train.rows)
    rank[np.isin(train.rows, np.asarray(leave_out, np.int64))] = 2.0
    order = np.argsort(rank, kind="stable")
    return train.take(np.sort(order[: min(CALIBRATION, int(np.sum(rank < 1.0)))]))


def alter(
    loaded: Sequence[Loaded],
    subjects: Sequence[Subject],
    sets: Sets,
    calibration: Dataset,
    request: Request,
    where: Run,
) -> list[Altered]:
    """Reads every model after every transform that changes it, on P and E.

    Args:
        loaded: The models.
        subjects: The same, as they were read untouched.
        sets: P and E.
        calibration: Images for the transforms that need some.
        request: What was forgotten.
        where: Device, batch size and seed.
    """
    found: list[Altered] = []
    for item, subject in zip(loaded, subjects, strict=True):
        config = item.config
        data, probe, test = (
            replace(part, mean=config.mean, std=config.std) for part in (calibration, sets.probe, sets.test)
        )
        use = Use(data, request.retained_columns, request.masked_columns)
        for name, transform in TRANSFORMS.items():
            make = cache(partial(transform, item.model, use, where))
            if name == BATCHNORM.id and make() is None:
                continue
            sizes = f"{where.seed}/{where.batch_size}/{where.micro_batch}/{len(data)}"
            key = f"{item.sha256}/{sets.digest}/{name}/{sizes}"
            probed, tested = (
                cached_outputs(make, part, where, key, f"{item.path.name} ({name})") for part in (probe, test)
            )
            nothing = Outputs(probed.logits[:0], {PENULTIMATE: probed.features[PENULTIMATE][:0]})
            found.append(Altered(name, replace(subject, probe=probed, test=tested, train=nothing)))
    return found


def read_canaries(loaded: Sequence[Loaded], case: Case, sets: Sets, where: Run) -> list[Canaries]:
    """What every model says of the canaries of each forgotten label."""
    found = []
    for name in case.request.masked:
        if (item := case.planting.get(name)) is None:
            continue
        said = {}
        for model in loaded:
            images = case.source.train.take(item.positions)
            images = replace(images, mean=model.config.mean, std=model.config.std)
            key = f"{model.sha256}/{sets.digest}"
            said[str(model.path)] = cached_outputs(model.model, images, where, key, model.path.name)
        found.append(Canaries(name, item.planted, item.true, said))
    return found
