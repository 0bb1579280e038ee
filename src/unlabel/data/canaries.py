"""Annotations drawn by a coin, planted before training: what a model tells of them, it has memorised.

Whoever did not see the planted annotation is right about it half of the time, whatever else they know of the
image. So no retrained model is needed to see whether training annotations are remembered::

    plant(source, CanaryPlan(2000, ("Male",), seed=0)) -> the source as training sees it, and what was planted

Which images, and which annotations, depends on the seed and the data alone: a run remembers the plan, and the
same annotations are planted again whenever its data is loaded.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import OptionError
from unlabel.core.randomness import uniform
from unlabel.core.request import as_names, spelt
from unlabel.core.wording import suggest
from unlabel.data.dataset import Dataset, Source

SCHEMA = "unlabel.canaries/1"
MOST = 10  # at most one training image in so many carries one
LEAST = 20


@dataclass(frozen=True)
class CanaryPlan:
    """How many annotations of which labels are drawn by a coin.

    Args:
        count: Images a label, 20 to a tenth of the training images.
        labels: The labels; where none is named, the one that nearest to half of the images have, which a
            coin harms least.
        seed: Key of the images and of the coins.
    """

    count: int
    labels: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Planted:
    """The canaries of one label.

    Args:
        positions: int64 (canary,) positions in the training split, ascending.
        planted: int8 (canary,) what training is told, 0 or 1.
        true: int8 (canary,) what the data says; training never sees it.
    """

    positions: NDArray[np.int64]
    planted: NDArray[np.int8]
    true: NDArray[np.int8]


Planting = Mapping[str, Planted]


def plant(source: Source, plan: CanaryPlan) -> tuple[Source, Planting]:
    """The source with planted training annotations, and what they are.

    Args:
        source: Data as it is; P and E stay so.
        plan: What to plant.

    Returns:
        The source, its facts with a record of the canaries; and the canaries of each label.

    Raises:
        OptionError: The number or a label does not fit, or the labels are classes that exclude each other.
    """
    train = source.train
    names = spelt(as_names(plan.labels), train.labels) or (most_balanced(train),)
    _check(train, plan, names)
    target, plantings = train.target.copy(), {}
    for name in names:
        column = train.labels.index(name)
        annotated = np.flatnonzero(train.target[:, column] >= 0)
        if len(annotated) < plan.count:
            raise OptionError(
                f"--canaries is {plan.count:,}, but '{name}' is annotated in"
                f" {len(annotated):,} training images"
            )
        rank = uniform(plan.seed, f"canary/image/{name}", train.rows[annotated])
        positions = np.sort(annotated[np.argsort(rank, kind="stable")[: plan.count]])
        coin = uniform(plan.seed, f"canary/coin/{name}", train.rows[positions]) < 0.5
        plantings[name] = Planted(positions, coin.astype(np.int8), train.target[positions, column].copy())
        target[positions, column] = plantings[name].planted
    facts = {
        "count": plan.count,
        "labels": list(names),
        "seed": plan.seed,
        "sha256": digest(manifest(train, plantings, plan.seed)),
    }
    changed = replace(source, train=replace(train, target=target), facts={**source.facts, "canaries": facts})
    return changed, plantings


def planted(source: Source, plan: CanaryPlan | None) -> tuple[Source, dict[str, Any] | None]:
    """The source with its canaries and their list, or as it is and None where none are asked for."""
    if plan is None:
        return source, None
    changed, plantings = plant(source, plan)
    return changed, manifest(source.train, plantings, plan.seed)


def most_balanced(data: Dataset) -> str:
    """The label that nearest to half of the images have; the first of equals."""
    return min(data.labels, key=lambda name: abs(data.prior(data.labels.index(name)) - 0.5))


def manifest(train: Dataset, planting: Planting, seed: int) -> dict[str, Any]:
    """The canaries as plain data: names of images and what was planted, never what is true."""
    return {
        "schema": SCHEMA,
        "seed": seed,
        "labels": {
            name: {"ids": train.ids[item.positions].tolist(), "planted": item.planted.tolist()}
            for name, item in planting.items()
        },
    }


def digest(content: Mapping[str, Any]) -> str:
    """Hex digest of a manifest, of its content and not of its layout in a file."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check(train: Dataset, plan: CanaryPlan, names: tuple[str, ...]) -> None:
    if train.exclusive:
        raise OptionError(
            "the labels of this data are classes, of which an image has exactly one, so a coin cannot be"
            " planted in one of them; leave --canaries out"
        )
    most = len(train) // MOST
    if not LEAST <= plan.count <= most:
        raise OptionError(
            f"--canaries is {plan.count:,}; expected {LEAST} to {most:,}, a tenth of {len(train):,} training"
            " images: canaries are wrong annotations, and more would harm the model"
        )
    for name in names:
        if name not in train.labels:
            raise OptionError(
                f"--canary-labels names '{name}', which is no label here.{suggest(name, train.labels)}"
            )
        if names.count(name) > 1:
            raise OptionError(f"--canary-labels names '{name}' more than once; name each label once")
