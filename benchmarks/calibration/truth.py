"""What the best attack can reach, by sums over a grid; retained labels that leak by themselves."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from unlabel.core.errors import OptionError

Floats = NDArray[np.float64]

RETAINED = 4  # outputs beside the forgotten one
LOUD = 1.5  # distance of a retained logit from 0, in standard deviations of its noise
GRID = 9.0  # standard deviations on each side that the integrals cover


class Truth(NamedTuple):
    """What the best attack of a kind reaches with endless data: advantage, and bits at the prior."""

    adv: float
    bits: float


NOTHING = Truth(0.0, 0.0)


def read_out(present: Floats, absent: Floats, prior: float) -> Truth:
    """Advantage and bits of the likelihood ratio of two distributions over the same cells.

    >>> found = read_out(np.array([0.9, 0.1]), np.array([0.1, 0.9]), 0.5)
    >>> round(found.adv, 6), round(found.bits, 6)
    (0.8, 0.531004)
    """
    p, q = present / present.sum(), absent / absent.sum()
    mixed = prior * p + (1 - prior) * q
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = prior * p * np.log2(p / mixed), (1 - prior) * q * np.log2(q / mixed)
        ratio = np.where(mixed > 0, prior * p / mixed, 0.5)
    bits = float(sum(np.nansum(term) for term in terms))
    _, code = np.unique(np.round(ratio, 12), return_inverse=True)
    above, below = np.bincount(code, p), np.bincount(code, q)
    area = float(np.sum(above * (np.cumsum(below) - below / 2)))
    return Truth(round(2 * area - 1, 15), bits)


@dataclass(frozen=True)
class Columns:
    """Retained labels that go with the forgotten one, and what attacks on them can reach.

    Args:
        follow: Share of the people in whom each retained label equals the forgotten one.
        linear: Advantage of the best line on the retained logits.
        best: Advantage of the best attack on them.
        floor: Advantage of the best attack on the true retained labels.
    """

    follow: float
    linear: float
    best: float
    floor: float


@lru_cache(maxsize=64)
def columns(follow: float) -> Columns:
    """Four retained labels, each equal to the forgotten one in this share of the people, and their logits.

    The logits are +-1.5 by the label, with noise of variance 1, so the forgotten label leaks through the
    retained labels alone. The best line weighs four alike columns alike; its area is a sum over two
    binomials. The best attack adds up four likelihood ratios; their distribution is convolved on a grid.

    Args:
        follow: 0.5 (nothing in common) to 1.

    Example:
        >>> found = columns(0.8)
        >>> round(found.floor, 3), round(found.best, 3), round(found.linear, 3)
        (0.933, 0.906, 0.883)
    """
    if not 0.5 <= follow <= 1:
        raise OptionError(f"follow is {follow:g}; expected 0.5 to 1")
    count = np.arange(RETAINED + 1)
    present, absent = binom.pmf(count, RETAINED, follow), binom.pmf(count, RETAINED, 1 - follow)
    floor = read_out(present, absent, 0.5).adv
    gaps = 2 * LOUD * (count[:, None] - count) / np.sqrt(2 * RETAINED)
    linear = float(2 * (present @ norm.cdf(gaps) @ absent) - 1)
    x = np.linspace(-GRID - LOUD, GRID + LOUD, 20001)
    up, down = norm.pdf(x - LOUD), norm.pdf(x + LOUD)
    ones, zeros = follow * up + (1 - follow) * down, (1 - follow) * up + follow * down
    ratio = np.log(ones) - np.log(zeros)
    limit = max(float(np.abs(ratio).max()), 1e-9) * 1.001
    cells = np.linspace(-limit, limit, 1002)
    total = np.array([[1.0], [1.0]])
    for _ in range(RETAINED):
        one = [np.histogram(ratio, cells, weights=density / density.sum())[0] for density in (ones, zeros)]
        total = np.array([np.convolve(now, step) for now, step in zip(total, one, strict=True)])
    below = np.cumsum(total[1]) - total[1] / 2
    return Columns(follow, linear, float(2 * np.sum(total[0] * below) - 1), floor)
