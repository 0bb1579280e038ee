"""Label-level LiRA: planted annotations guessed with shadow networks, which were trained with other coins.

All networks saw the same images; each has coins of its own for the canaries. Of a network's score s on canary
k, such as its logit of the label, the model is, with b the coin that this network was trained with::

    s ~ Normal(c_k + (b - 1/2) d_k, v)

The shadows give c_k and d_k of each canary and one variance v for all, since a few networks cannot give one
each. The log of the likelihood ratio of the coins 1 and 0 is then ``d_k (s - c_k) / v``. If the network under
attack was unlearned, its shadows must be unlearned the same way.

Coins must be independent of each other. If exactly half of the networks had a coin 1, the others would tell
the last one's coin without its score.

References:
    Carlini et al., Membership Inference Attacks From First Principles, 2022 (arXiv 2112.03570).
    Hayes et al., Inexact Unlearning Needs More Careful Evaluations, 2024 (arXiv 2403.01218): U-LiRA.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError
from unlabel.core.randomness import uniform
from unlabel.statistics.estimate import Estimate, Floats, auc, average

FALSE_ALARMS = (0.001, 0.01)
RESAMPLES = 500

Coins = NDArray[np.int8]


@dataclass(frozen=True)
class Fit:
    """What the scores of shadow networks say of each canary.

    Args:
        centre: float64 (canary,) midway between the expected scores of both coins; NaN where unknown.
        difference: float64 (canary,) expected score of coin 1 less that of coin 0; NaN where unknown.
        variance: Of a score around its expectation, > 0. 1 if it is unknown, as no canary has two networks of
            one coin, or if the scores have no spread: ratios are then right up to a factor.
    """

    centre: Floats
    difference: Floats
    variance: float

    def ratios(self, score: NDArray[np.floating]) -> Floats:
        """Log likelihood ratios of coin 1 over coin 0, nats, for scores (..., canary); NaN where unknown."""
        return self.difference * (np.asarray(score, np.float64) - self.centre) / self.variance


def fit(scores: NDArray[np.floating], coins: Coins, *, shrink: bool = False) -> Fit:
    """Fits the scores of the shadow networks.

    Args:
        scores: (network, canary) finite.
        coins: (network, canary) 0 or 1.
        shrink: Draw each canary's difference towards the mean over canaries, by as much as its own networks
            leave it uncertain (empirical Bayes: the spread of the true differences is the variance of the
            estimated ones less their mean squared error). A canary that lacks a coin then takes the mean
            difference; otherwise it stays unknown.

    Raises:
        DataError: Shapes differ, a score is not finite, a coin is neither 0 nor 1, or no canary has networks
            of both coins.
    """
    score, one = np.asarray(scores, np.float64), coins == 1
    _check(score, coins)
    ones, zeros = one.sum(0), (~one).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):  # a canary that lacks a coin: NaN
        means = np.where(one, score, 0.0).sum(0) / ones, np.where(one, 0.0, score).sum(0) / zeros
        scale = 1.0 / ones + 1.0 / zeros
    freedom = score.size - int(np.sum(ones > 0) + np.sum(zeros > 0))
    squares = float(np.sum((score - np.where(one, *means)) ** 2))
    variance = squares / freedom if freedom and squares > 0 else None
    difference = means[0] - means[1]
    if shrink:
        difference = _shrunk(difference, scale, variance)
    centre = (score - (one - 0.5) * difference).mean(0)
    return Fit(centre, difference, variance or 1.0)


def _check(score: Floats, coins: Coins) -> None:
    if score.ndim != 2 or score.shape != coins.shape or not np.isfinite(score).all():
        raise DataError(
            f"scores of shape {score.shape} and coins of shape {coins.shape}; expected finite scores and a"
            " coin for each network and canary"
        )
    if not np.isin(coins, (0, 1)).all():
        raise DataError("a coin is neither 0 nor 1; expected what each network was trained with")
    if not np.any((coins == 1).any(0) & (coins == 0).any(0)):
        raise DataError(
            f"{len(score)} shadow networks, and no canary has both coins among them; train more of them"
        )


def _shrunk(difference: Floats, scale: Floats, variance: float | None) -> Floats:
    """Differences drawn to their mean; `scale` times the variance is the squared error of each."""
    known = np.isfinite(difference)
    mean = float(difference[known].mean())
    if variance is None:
        return np.full_like(difference, mean)
    error = variance * scale
    spread = max(0.0, float(difference[known].var()) - float(error[known].mean()))
    return np.where(known, mean + spread / (spread + error) * (difference - mean), mean)


def standardised(scores: NDArray[np.floating]) -> Floats:
    """Each network's scores (network, canary) less their mean, over their standard deviation; 0 if constant.

    Networks differ in the scale of their scores, which the coins of single canaries have no part in.
    """
    score = np.asarray(scores, np.float64)
    spread = score.std(1, keepdims=True)
    return (score - score.mean(1, keepdims=True)) / np.where(spread > 0, spread, 1.0)


def each_in_turn(scores: NDArray[np.floating], coins: Coins, *, shrink: bool = False) -> Floats:
    """Log ratios (network, canary) of every network, with all others as its shadows; NaN where unknown."""
    rows = np.arange(len(scores))
    return np.stack(
        [
            fit(scores[rows != row], coins[rows != row], shrink=shrink).ratios(scores[row])
            for row in rows.tolist()
        ]
    )


@dataclass(frozen=True)
class Caught:
    """Coins 1 found while few coins 0 are taken for them.

    Args:
        share: Of the coins 1.
        interval: 95 %, a percentile bootstrap over canaries; rough where `allowed` is a handful.
        allowed: Coins 0 that may be taken for 1.
        zeros: Coins 0 in all.
    """

    share: float
    interval: tuple[float, float]
    allowed: int
    zeros: int


@dataclass(frozen=True)
class Told:
    """How well ratios tell the coins, of one network or of several; intervals are clustered by canary.

    They are no test against one half. If nothing is remembered, the networks' shrunk ratios have their mean
    difference in common: 16 networks then differ from one half by a third more than the interval says.
    Attacks on coins that nobody was trained with show how much. A single network has the exact binomial.

    Args:
        accuracy: Share of coins told right, 1 where the ratio is above 0.
        auc: Of the ratios, coins 1 against coins 0.
        caught: By rate of false alarms.
        hits: Coins told right.
        n: Coins guessed.
        left_out: Coins not guessed, since the shadows of the canary lack a coin.
    """

    accuracy: Estimate
    auc: Estimate
    caught: Mapping[float, Caught]
    hits: int
    n: int
    left_out: int


def told(ratios: Floats, coins: Coins, *, rates: Sequence[float] = FALSE_ALARMS, seed: int = 0) -> Told:
    """The figures of ratios (network, canary), NaN where none, against the true coins.

    Raises:
        DataError: The guessed coins are all alike.
    """
    known = np.isfinite(ratios)
    if len(np.unique(coins[known])) < 2:
        raise DataError("the coins to be told are all alike; attack more canaries or networks")
    cluster = np.broadcast_to(np.arange(ratios.shape[1]), ratios.shape)[known]
    ratio, coin = ratios[known], coins[known]
    right = (ratio > 0) == (coin == 1)
    return Told(
        accuracy=average(right.astype(np.float64), np.ones(len(right), np.bool_), cluster),
        auc=auc(ratio, coin, cluster),
        caught={rate: _caught(ratios, coins, rate, seed) for rate in rates},
        hits=int(right.sum()),
        n=len(right),
        left_out=int((~known).sum()),
    )


def _caught(ratios: Floats, coins: Coins, rate: float, seed: int) -> Caught:
    canaries = ratios.shape[1]
    share, allowed, zeros = _share(ratios, coins, rate)
    drawn = uniform(seed, "lira/resample", np.arange(RESAMPLES)[:, None], np.arange(canaries))
    picks = (drawn * canaries).astype(np.int64)
    shares = [_share(ratios[:, pick], coins[:, pick], rate)[0] for pick in picks]
    low, high = np.quantile(shares, [0.025, 0.975])
    return Caught(share, (float(low), float(high)), allowed, zeros)


def _share(ratios: Floats, coins: Coins, rate: float) -> tuple[float, int, int]:
    """Share of coins 1 above the bar that `allowed` coins 0 pass, `allowed`, and the number of coins 0."""
    known = np.isfinite(ratios)
    ones, zeros = ratios[known & (coins == 1)], ratios[known & (coins == 0)]
    allowed = int(rate * len(zeros) + 1e-9)
    place = len(zeros) - 1 - allowed
    bar = np.partition(zeros, place)[place] if place >= 0 else -np.inf
    return (float(np.mean(ones > bar)) if len(ones) else 0.0), allowed, len(zeros)
