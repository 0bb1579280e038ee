"""Every figure of the audit as a value and what each image adds to its error.

An `Estimate` is a number with one influence per image: the first-order effect of that image on the
number. Standard errors, differences of two models on the same images, and means over models are then
all sums of influences::

    excess = auc(unlearned, y, cluster) - mean([auc(r, y, cluster) for r in retrained])
    excess.se       # images of one identity are summed first: they are not independent

So pairing by image is never forgotten, and no figure needs a bootstrap of its own. The tests hold each
influence against the slow, obvious computation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, stdtrit
from scipy.stats import beta, rankdata

Floats = NDArray[np.float64]
ECE_BINS = 15


@dataclass(frozen=True)
class Estimate:
    """A number, and the influence of every image on it.

    Args:
        value: The number.
        influence: float64 (image,) first-order effect of each image, summing to about zero. Images that
            were not used have influence 0.
        cluster: int64 (image,) identity of each image.
        used: bool (image,) whether the image's target was known.
        drift: Standard error, >= 0, that no image has: of a number that was predicted. Those of several
            numbers are added as if they went together, which is never too small.
        drift_df: Degrees of freedom of `drift`, >= 1.
    """

    value: float
    influence: Floats
    cluster: NDArray[np.int64]
    used: NDArray[np.bool_]
    drift: float = 0.0
    drift_df: int = 1

    @property
    def n(self) -> int:
        """Number of images behind the number."""
        return int(self.used.sum())

    @cached_property
    def groups(self) -> int:
        """Number of identities among the images used."""
        return len(self._images)

    @cached_property
    def se(self) -> float:
        """The images' standard error, clustered: ``G/(G-1) * sum_g (sum of g's influences)^2``, its root."""
        return float(np.sqrt(self.groups / max(self.groups - 1, 1) * np.sum(self._sums**2)))

    @cached_property
    def _sums(self) -> Floats:
        """float64 (identity,) each identity's sum of influences."""
        return np.bincount(self._identity, self.influence).astype(np.float64)

    @cached_property
    def _images(self) -> NDArray[np.int64]:
        """int64 (identity,) images used of each identity that has some."""
        images = np.bincount(self._identity[self.used])
        return images[images > 0]

    @cached_property
    def _identity(self) -> NDArray[np.int64]:
        """int64 (image,) identity of each image, numbered from 0."""
        return numbered(self.cluster)

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference on the same images."""
        assert _same(self.cluster, other.cluster), "differences are taken on the same images"
        return Estimate(
            self.value - other.value,
            self.influence - other.influence,
            self.cluster,
            self.used | other.used,
            *_drift((self, other), self.drift + other.drift),
        )

    def absolute(self) -> "Estimate":
        """The absolute value, by the delta method."""
        return replace(
            self, value=abs(self.value), influence=self.influence * (-1.0 if self.value < 0 else 1.0)
        )

    def affine(self, scale: float, shift: float) -> "Estimate":
        """``scale * value + shift``."""
        drift = abs(scale) * self.drift
        return replace(self, value=scale * self.value + shift, influence=scale * self.influence, drift=drift)

    def at_least(self, floor: float) -> "Estimate":
        """The value raised to `floor`; the influences stay, so that the error is not understated."""
        return replace(self, value=max(self.value, floor))

    @cached_property
    def df(self) -> float:
        """Degrees of freedom of the standard error, >= 1.

        G - 1 if all G identities have equally many images. Else Satterthwaite's, of the sums s of influences
        of an identity: ``3 (sum s^2)^2 / sum s^4 - 2``, at most G - 1. One identity with most of the images
        brings it near 1. (The variance of ``s^2`` is twice its mean squared, and 2/3 of the mean of ``s^4``.)
        """
        most = max(self.groups - 1, 1)
        squares = self._sums**2
        if not squares.any() or self._images.min() == self._images.max():
            return most
        squares = squares / squares.max()
        return float(np.clip(3 * squares.sum() ** 2 / np.sum(squares**2) - 2, 1, most))

    def quantile(self, level: float) -> float:
        """Multiplier of the standard error for a one-sided bound at this level: Student's."""
        return float(stdtrit(self.df, level))

    def interval(
        self, level: float = 0.95, low: float = -np.inf, high: float = np.inf
    ) -> tuple[float, float]:
        """Two-sided interval, cut to the range the number can have."""
        half = self.quantile(0.5 + level / 2) * self.se
        return max(low, self.value - half), min(high, self.value + half)

    def lower(self, level: float = 0.95) -> float:
        """One-sided lower bound."""
        return self.value - self.quantile(level) * self.se

    def upper(self, level: float = 0.95) -> float:
        """One-sided upper bound."""
        return self.value + self.quantile(level) * self.se


def numbered(cluster: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each image's identity as its place among all identities in order: `numpy.unique`'s inverse.

    Identities below four times the number of images are counted, which is up to ten times as fast as sorting.

    Args:
        cluster: int64 (image,) identity of each image.

    >>> numbered(np.array([7, 2, 7, 9])).tolist()
    [1, 0, 1, 2]
    """
    if len(cluster) and cluster.min() >= 0 and cluster.max() < 4 * len(cluster):
        there = np.bincount(cluster) > 0
        return (np.cumsum(there) - 1)[cluster]
    return np.unique(cluster, return_inverse=True)[1]


def _same(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    return one is other or np.array_equal(one, other)


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of several estimates on the same images."""
    first = estimates[0]
    assert all(_same(first.cluster, other.cluster) for other in estimates), "the same images"
    return Estimate(
        float(np.mean([item.value for item in estimates])),
        np.mean([item.influence for item in estimates], axis=0),
        first.cluster,
        np.any([item.used for item in estimates], axis=0),
        *_drift(estimates, float(np.mean([item.drift for item in estimates]))),
    )


def _drift(estimates: Sequence[Estimate], drift: float) -> tuple[float, int]:
    """A drift that several estimates make together, with the fewest degrees of freedom among them."""
    return drift, min((item.drift_df for item in estimates if item.drift), default=1)


def average(terms: NDArray[np.floating], used: NDArray[np.bool_], cluster: NDArray[np.int64]) -> Estimate:
    """Mean over the used images of one number per image."""
    value = float(np.mean(terms[used], dtype=np.float64))
    influence = np.where(used, terms - value, 0.0) / used.sum()
    return Estimate(value, influence, cluster, used)


def auc(score: NDArray[np.floating], target: NDArray[np.integer], cluster: NDArray[np.int64]) -> Estimate:
    """Area under the ROC curve with ties counted half, and DeLong's placement values as influences.

    Ranks are taken on float64 scores as they are: a sigmoid first would saturate and hide a leak.

    Args:
        score: (image,) finite scores, higher = present.
        target: (image,) 1 present, 0 absent, -1 unknown (left out).
        cluster: (image,) identity of each image.

    Returns:
        The area, exactly 0.5 with a standard error of exactly 0 for a constant score.

    References:
        DeLong et al., Biometrics 1988; Obuchowski, Biometrics 1997 (clustered data).
    """
    score = np.asarray(score, np.float64)
    present, absent = target == 1, target == 0
    m, n = int(present.sum()), int(absent.sum())
    assert m, "an area under the curve needs present images"
    assert n, "an area under the curve needs absent images"
    annotated = present | absent
    overall = np.zeros(len(score))
    overall[annotated] = rankdata(score[annotated])
    above = (overall[present] - rankdata(score[present])) / n
    below = 1.0 - (overall[absent] - rankdata(score[absent])) / m
    area = float(above.mean())
    influence = np.zeros(len(score))
    influence[present] = (above - area) / m
    influence[absent] = (below - area) / n
    return Estimate(area, influence, cluster, annotated)


def advantage(
    score: NDArray[np.floating], target: NDArray[np.integer], cluster: NDArray[np.int64]
) -> Estimate:
    """Signed advantage ``2 AUC - 1``: 0 is a coin, 1 perfect, -1 perfectly inverted."""
    return auc(score, target, cluster).affine(2.0, -1.0)


def bits(
    log_present: NDArray[np.floating],
    log_absent: NDArray[np.floating],
    target: NDArray[np.integer],
    cluster: NDArray[np.int64],
) -> Estimate:
    """Usable information in bits: entropy of the label less a probe's held-out cross-entropy.

    The mean over images of ``log2 q(y) - log2 prior(y)``, with the Laplace-smoothed prior of the same
    images. It is not cut at 0 here, so that means stay means; see `Estimate.at_least`.

    Args:
        log_present: (image,) natural logarithm of the probe's probability of present.
        log_absent: (image,) natural logarithm of its probability of absent.
        target: (image,) 1 present, 0 absent, -1 unknown (left out).
        cluster: (image,) identity of each image.

    References:
        Xu et al., A Theory of Usable Information Under Computational Constraints, ICLR 2020.
    """
    present, used = target == 1, target >= 0
    prior = (np.sum(present) + 1) / (np.sum(used) + 2)
    gain = np.where(present, log_present - np.log(prior), log_absent - np.log1p(-prior))
    return average(gain / np.log(2.0), used, cluster)


def balanced_accuracy(
    decision: NDArray[np.bool_], target: NDArray[np.integer], cluster: NDArray[np.int64]
) -> Estimate:
    """Mean of the two rates of being right: on present and on absent images."""
    halves = [average((decision == bool(kind)).astype(float), target == kind, cluster) for kind in (0, 1)]
    return mean(halves)


def average_precision(
    score: NDArray[np.floating], target: NDArray[np.integer], cluster: NDArray[np.int64]
) -> Estimate:
    """Area under the precision-recall steps, tied scores taken together (scikit-learn's definition).

    The influence is the exact derivative with respect to each image's weight.
    """
    used = target >= 0
    rows = np.flatnonzero(used)
    rows = rows[np.argsort(-np.asarray(score, np.float64)[rows], kind="stable")]
    ordered, y = np.asarray(score, np.float64)[rows], (target[rows] == 1).astype(float)
    n, m = len(rows), float(y.sum())
    last = np.append(np.flatnonzero(np.diff(ordered)), n - 1)  # last place of each run of ties
    run = np.searchsorted(last, np.arange(n))
    counted = last + 1.0
    precision = np.cumsum(y)[last] / counted
    hits = np.bincount(run, y)
    value = float(np.sum(hits * precision) / m)
    # An image counts in the precision at its own run of ties and at every later one.
    later = np.cumsum((hits / counted)[::-1])[::-1]
    later_precision = np.cumsum((hits * precision / counted)[::-1])[::-1]
    influence = np.zeros(len(score))
    influence[rows] = (y * (precision[run] - value) + y * later[run] - later_precision[run]) / m
    return Estimate(value, influence, cluster, used)


def brier(logit: NDArray[np.floating], target: NDArray[np.integer], cluster: NDArray[np.int64]) -> Estimate:
    """Mean squared distance between probability and truth."""
    return average((expit(np.asarray(logit, np.float64)) - (target == 1)) ** 2, target >= 0, cluster)


def calibration_error(
    logit: NDArray[np.floating], target: NDArray[np.integer], cluster: NDArray[np.int64]
) -> Estimate:
    """Expected calibration error over 15 bins of equal mass; equal probabilities share a bin.

    The influence holds the bins and their signs fixed.
    """
    used = target >= 0
    prob = expit(np.asarray(logit, np.float64)[used])
    edges = np.quantile(prob, np.linspace(0, 1, ECE_BINS + 1)[1:-1])
    code = np.searchsorted(edges, prob, side="left")
    gap = prob - (target[used] == 1)
    count, total = np.bincount(code, minlength=ECE_BINS), np.bincount(code, gap, ECE_BINS)
    centre = total / np.maximum(count, 1)
    influence = np.zeros(len(target))
    influence[used] = np.sign(centre)[code] * (gap - centre[code]) / len(prob)
    return Estimate(float(np.abs(total).sum() / len(prob)), influence, cluster, used)


def people(target: NDArray[np.integer], cluster: NDArray[np.int64]) -> tuple[int, ...]:
    """How many people show a label, and how many show its absence.

    Args:
        target: (image,) 1 present, 0 absent, -1 unknown.
        cluster: (image,) identity of each image.

    >>> people(np.array([1, 1, 0, -1]), np.array([7, 7, 8, 9]))
    (1, 1)
    """
    return tuple(len(np.unique(cluster[target == kind])) for kind in (1, 0))


def people_in_effect(target: NDArray[np.integer], cluster: NDArray[np.int64]) -> tuple[float, ...]:
    """Of so many people with equally many images each, the images of a kind would tell as much.

    ``(sum n)^2 / sum n^2`` of the numbers n of images a person: as many as there are if all have equally
    many, and near 1 if one person has most of them. 0 without any image of a kind.

    Args:
        target: (image,) 1 present, 0 absent, -1 unknown.
        cluster: (image,) identity of each image.

    Returns:
        Of images that show the label, and of those that do not.

    References:
        Kish, Survey Sampling, 1965.

    >>> people_in_effect(np.array([1, 1, 1, 0, 0, -1]), np.array([7, 7, 8, 8, 9, 9]))
    (1.8, 2.0)
    """
    counts = [np.unique(cluster[target == kind], return_counts=True)[1] for kind in (1, 0)]
    return tuple(float(n.sum() ** 2 / np.sum(n**2)) if len(n) else 0.0 for n in counts)


def rarer(target: NDArray[np.integer]) -> int:
    """Images of the kind of which there are fewer.

    >>> rarer(np.array([1, 0, 0, -1], np.int8))
    1
    """
    return int(min(np.sum(target == 1), np.sum(target == 0)))


def share_bounds(
    hit: NDArray[np.bool_], cluster: NDArray[np.int64], level: float = 0.95
) -> tuple[float, float]:
    """One-sided lower and upper bounds of a share of images, each at this level, where images repeat people.

    `clopper_pearson` of as many independent images as would have the clustered error, never of more than
    there are. If all images are alike, that error is 0, and each person counts once.

    Args:
        hit: (image,) what is counted.
        cluster: (image,) identity of each image. If each has its own, the bounds are exact.

    References:
        Korn and Graubard, Confidence Intervals for Proportions with Small Expected Number of Positive Counts
        Estimated from Survey Data, Survey Methodology 1998.

    >>> hit, images = np.arange(200) < 178, np.arange(200)
    >>> [[round(bound, 3) for bound in share_bounds(hit, who)] for who in (images, images // 2)]
    [[0.847, 0.924], [0.824, 0.937]]
    """
    n, hits = len(hit), int(hit.sum())
    item = average(hit.astype(float), np.ones(n, bool), cluster)
    if item.groups == n:
        return clopper_pearson(hits, n, level)
    if hits in (0, n) or item.groups == 1:
        independent = float(item.groups)
    elif item.se == 0.0:
        independent = float(n)
    else:
        reach = float(stdtrit(n - 1, level)) / item.quantile(level)
        independent = min(n, item.value * (1 - item.value) * (reach / item.se) ** 2)
    return clopper_pearson(item.value * independent, independent, level)


def clopper_pearson(hits: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Exact one-sided lower and upper bounds of a probability, each at this level.

    Neither number need be whole: of a share, and of independent images that a sample is worth.

    >>> [round(bound, 3) for bound in clopper_pearson(178, 200)]
    [0.847, 0.924]
    """
    low = 0.0 if hits == 0 else float(beta.ppf(1 - level, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.ppf(level, hits + 1, n - hits))
    return low, high
