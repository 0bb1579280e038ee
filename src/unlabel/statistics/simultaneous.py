"""Bounds that hold for many groups at once: the largest of many errors, by weights on people and on models.

::

    weights = multipliers(cluster, seed)             one random number a person and draw
    bands(model, references, weights, 0.95)          one `Band` a group; all hold together

A bound of 95 % for each of thirty groups is wrong somewhere more often than not. So the multiplier bootstrap
asks how large the largest of all standardised errors is, with the dependence that groups have: an image is in
several of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from unlabel.core.randomness import normal
from unlabel.statistics.estimate import Estimate, Floats, mean

DRAWS = 1000
BLOCK = 100  # draws at a time: a table of draws and identities stays small


@dataclass(frozen=True)
class Multipliers:
    """Who is in which image, and the seed of the weights; see `multipliers`."""

    names: NDArray[np.int64]
    code: NDArray[np.int64]
    seed: int

    def errors(self, influences: Sequence[Floats]) -> Floats:
        """float64 (draw, estimate) what each draw of weights does to each estimate."""
        sums = np.stack([np.bincount(self.code, each, len(self.names)) for each in influences], axis=1)
        blocks = [np.arange(start, start + BLOCK)[:, None] for start in range(0, DRAWS, BLOCK)]
        with threadpool_limits(1):  # the same bits on any number of cores
            return np.concatenate(
                [normal(self.seed, "audit/groups/identities", block, self.names) @ sums for block in blocks]
            )

    def models(self, count: int) -> Floats:
        """float64 (draw, model) weights of the retrained models.

        Divided by the root of a chi-square over its degrees of freedom, so that a sum of deviations has
        Student's distribution: the spread of few models is itself not well known.
        """
        draws, models = np.arange(DRAWS)[:, None], np.arange(count)
        weights = normal(self.seed, "audit/groups/models", draws, models)
        freedom = normal(self.seed, "audit/groups/freedom", draws, models[:-1])
        return weights / np.sqrt(np.mean(freedom**2, axis=1, keepdims=True))


def multipliers(cluster: NDArray[np.int64], seed: int) -> Multipliers:
    """Weights for the people of some images, keyed by identity: the order of images plays no part.

    Args:
        cluster: int64 (image,) identity of each image.
        seed: Of the audit.
    """
    names, code = np.unique(cluster, return_inverse=True)
    return Multipliers(names, code.astype(np.int64), seed)


@dataclass(frozen=True)
class Band:
    """The difference of a model from the mean of references, with one-sided bounds.

    Args:
        value: The difference.
        lower: Lower bound. All lower bounds of a table hold together.
        upper: Upper bound. All upper bounds hold together.
        n: Images behind it.
    """

    value: float
    lower: float
    upper: float
    n: int


def bands(
    model: Sequence[Estimate],
    references: Sequence[Sequence[Estimate]],
    weights: Multipliers,
    level: float = 0.95,
) -> list[Band]:
    """The difference in every group, with bounds that hold in all groups at once.

    The error of a difference has two parts: that of the images, whose weights are drawn by person, and with
    two or more references the spread of these over training seeds, whose weights are drawn by model. The
    bounds are ``value -+ c se`` with the ``level`` quantile c of the largest standardised error of a draw.

    Args:
        model: Estimates of the model, one a group, all on the same images.
        references: The same of one or more references.
        weights: Of the people in these images.
        level: Of either side.

    References:
        Chernozhukov, Chetverikov and Kato, Gaussian Approximations and Multiplier Bootstrap for Maxima of
        Sums, Annals of Statistics 2013.
    """
    if not model:
        return []
    excess = [own - mean(others) for own, *others in zip(model, *references, strict=True)]
    errors = weights.errors([item.influence for item in excess])
    variance = np.array([item.se**2 for item in excess])
    count = len(references)
    if count > 1:
        values = np.array([[item.value for item in reference] for reference in references])
        apart = (values - values.mean(0)) / np.sqrt(count * (count - 1))
        errors = errors + weights.models(count) @ apart
        variance = variance + np.sum(apart**2, axis=0)
    se = np.sqrt(variance)
    standard = np.divide(errors, se, out=np.zeros_like(errors), where=se > 0)
    largest = np.sort(standard.max(axis=1))
    most = float(largest[min(ceil(level * (DRAWS + 1)), DRAWS) - 1])
    return [
        Band(item.value, item.value - most * float(width), item.value + most * float(width), item.n)
        for item, width in zip(excess, se, strict=True)
    ]
