"""Bounds that hold for many groups at once: each group's share of the error rate, images and seeds apart.

::

    bands(model, references, 0.95)          one `Band` a group; all hold together

A bound of 95 % for each of thirty groups is wrong somewhere more often than not. So each of G groups has a
bound of ``1 - 0.05 / G`` (Bonferroni), whatever the dependence of groups: an image is in several of them.

So far out, Satterthwaite's degrees of freedom do not hold: of many spreads of two or three models, some are
near 0 by chance, and would count as known. Banerjee's bound adds the squares of two half-widths instead, each
with its own quantile. It is never too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, sqrt

import numpy as np
from scipy.special import stdtrit

from unlabel.statistics.estimate import Estimate, mean


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
    model: Sequence[Estimate], references: Sequence[Sequence[Estimate]], level: float = 0.95
) -> list[Band]:
    """The difference in every group, with bounds that hold in all groups at once.

    Its error has two parts: that of the images and, with two or more references, their spread over training
    seeds. The half-width is the root of the sum of ``(t se)^2`` over both, each t with its own degrees of
    freedom.

    Args:
        model: Estimates of the model, one a group, all on the same images.
        references: The same of one or more references.
        level: Of either side, for all groups together, 0.5-1.

    References:
        Banerjee, Approximate Confidence Interval for Linear Functions of Means of k Populations when the
        Population Variances are not Equal, Sankhya 1960.
    """
    each = 1.0 - (1.0 - level) / max(len(model), 1)
    return [_band(own, others, each) for own, *others in zip(model, *references, strict=True)]


def _band(own: Estimate, others: Sequence[Estimate], level: float) -> Band:
    excess, count = own - mean(others), len(others)
    half = excess.quantile(level) * excess.se
    if count > 1:
        spread = float(np.std([item.value for item in others], ddof=1))
        half = hypot(half, float(stdtrit(count - 1, level)) * spread / sqrt(count))
    return Band(excess.value, excess.value - half, excess.value + half, excess.n)
