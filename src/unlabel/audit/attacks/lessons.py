"""The annotated images from which an attacker learns a label, and those by which it chooses.

They come from the probe split, keyed by label, number of images and draw: the same for every model and every
attacker. The test split is only scored.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.attacks.few_shot import balanced
from unlabel.audit.inputs import AuditOptions
from unlabel.core.randomness import permutation, uniform
from unlabel.data.dataset import Dataset
from unlabel.statistics.estimate import rarer

BATCH = 64  # images a step, all in one forward pass
HELD = 1024  # probe images by which the attacker chooses, at most
LEAST = 32  # of each kind among them

Draw = tuple[NDArray[np.int64], NDArray[np.int64]]  # positions in the probe split: trained on, held back


@dataclass(frozen=True)
class Lesson:
    """What an attacker is given to learn a label from.

    Args:
        data: The probe split, normalised as the model wants it.
        column: The label.
        retained: Columns of the retained labels.
        draw: Positions of the annotated images to train on, and of those to choose by.
        number: Of the draw, a part of the key of batches and dropout.
        options: Steps and seed.
    """

    data: Dataset
    column: int
    retained: tuple[int, ...]
    draw: Draw
    number: int
    options: AuditOptions


def draw_images(target: NDArray[np.int8], column: int, n: int, options: AuditOptions) -> list[Draw]:
    """Of each draw, n images to train on, half of them present, and others to choose by.

    Keyed by label, draw and position alone, so they are the same for every model. None where too few are
    left.
    """
    draws = []
    for draw, rows in enumerate(balanced(target, column, n, options.tune_draws, f"tune/{n}", options.seed)):
        rank = uniform(options.seed, f"audit/held/{n}", column, draw, np.arange(len(target)))
        rank[rows], rank[target < 0] = 2.0, 2.0
        order = np.argsort(rank, kind="stable")
        held = np.sort(order[: min(HELD, int(np.sum(rank < 1.0)))])
        if min(np.sum(target[held] == kind) for kind in (0, 1)) < LEAST:
            return []
        draws.append((rows, held))
    return draws


def most_images(target: NDArray[np.int8]) -> int:
    """How many images there are to train on, half of them present, if enough are left to choose by.

    Of the rarer kind, a third are held back, `LEAST` at least and half of `HELD` at most.

    >>> most_images(np.repeat([1, 0, -1], [900, 2000, 50]).astype(np.int8))
    1200
    """
    there = rarer(target)
    return 2 * max(there - min(max(there // 3, LEAST), HELD // 2), 0)


def batch_at(step: int, n: int, draw: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions and epochs of one full batch: one keyed permutation after another without a break."""
    stream = np.arange(step * BATCH, (step + 1) * BATCH)
    epochs = range(stream[0] // n, -(-(stream[-1] + 1) // n))
    order = np.concatenate([permutation(seed, f"audit/tune/{n}", n, draw, epoch) for epoch in epochs])
    return order[stream - epochs[0] * n], stream // n
