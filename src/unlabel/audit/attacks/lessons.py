"""The annotated images from which an attacker learns a label, and those by which it chooses.

They come from the probe split, keyed by label, number of images and draw: the same for every model and every
attacker. The test split is only scored.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.attacks.annotated import HELD, LEAST
from unlabel.audit.attacks.few_shot import balanced
from unlabel.audit.inputs.options import AuditOptions
from unlabel.core.randomness import permutation, uniform
from unlabel.data.dataset import Dataset
from unlabel.statistics.estimate import rarer

BATCH = 64  # images a step, all in one forward pass

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

    Keyed by label, draw and position alone, so they are the same for every model. Those to choose by are
    drawn from all that are left; if fewer than `LEAST` of a kind come that way, from each kind by itself,
    half of `HELD` at most. None where too few are left.
    """
    draws = []
    for draw, rows in enumerate(balanced(target, column, n, options.tune_draws, f"tune/{n}", options.seed)):
        rank = uniform(options.seed, f"audit/held/{n}", column, draw, np.arange(len(target)))
        rank[rows], rank[target < 0] = 2.0, 2.0
        order = np.argsort(rank, kind="stable")[: int(np.sum(rank < 1.0))]
        held = order[:HELD]
        if rarer(target[held]) < LEAST:
            held = np.concatenate([order[target[order] == kind][: HELD // 2] for kind in (1, 0)])
        if rarer(target[held]) < LEAST:
            return []
        draws.append((rows, np.sort(held)))
    return draws


def batch_at(step: int, n: int, draw: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions and epochs of one full batch: one keyed permutation after another without a break."""
    stream = np.arange(step * BATCH, (step + 1) * BATCH)
    epochs = range(stream[0] // n, -(-(stream[-1] + 1) // n))
    order = np.concatenate([permutation(seed, f"audit/tune/{n}", n, draw, epoch) for epoch in epochs])
    return order[stream - epochs[0] * n], stream // n
