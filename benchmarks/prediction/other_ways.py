"""Other ways to predict a full Retrain than the one in the package, each with every data set left out."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import log
from operator import itemgetter

import numpy as np

from prediction.fitted import UNITS, Guess, bare, by_data, figures, fit, guess
from prediction.measured import Read
from unlabel.audit.attacks.prediction import Rule, level_of, scaled, unscaled
from unlabel.audit.figures import unit_of
from unlabel.statistics.estimate import Estimate, mean

LINE = "a straight line through the shares of both short pairs"
LAST = "the share of the longer short pair"
CONSTANT = "one share for all, without training"
WEIGHTS = {
    "what the annotations explain, without training": 0.0,
    "the growth of the short pair": 1.0,
    "**both, the short pair at one quarter**": 0.25,
}


def other_ways(reads: Sequence[Read]) -> dict[str, dict[str, list[float]]]:
    """Prediction less truth of every attack and world, by way and unit."""
    ways = {name: {unit: [] for unit in UNITS} for name in (LINE, LAST, CONSTANT, *WEIGHTS)}
    reads = [bare(read) for read in reads]
    for data in sorted({by_data(read) for read in reads}):
        rest = [read for read in reads if by_data(read) != data]
        rules, kept = fit(rest), {unit: constant_share(rest, unit) for unit in UNITS}
        for read in reads:
            for item in guess(read, rules) if by_data(read) == data else ():
                unit = unit_of(item.figure)
                for name, value in predictions(item, rules[unit], kept[unit]):
                    ways[name][unit].append(value - item.truth.value)
    return ways


def predictions(item: Guess, rule: Rule, constant: float) -> Iterator[tuple[str, float]]:
    """What each way predicts for one attack of one world."""
    read, figure, unit = item.read, item.figure, unit_of(item.figure)
    whole = read.whole[figure]
    first, second = (_ratio(*pair.map(itemgetter(figure)).both, unit) for pair in read.shorts)
    further = (second - first) / log(2.0) * log(10.0)
    for name, share in ((LINE, second + further), (LAST, second), (CONSTANT, constant)):
        yield name, unscaled(scaled(whole, unit).affine(share, 0.0), unit).value
    pair = read.shorts[-1].map(itemgetter(figure))
    for name, weight in WEIGHTS.items():
        yield name, level_of(unit, replace(rule, weight=weight), whole, pair, read.known).value


def constant_share(reads: Sequence[Read], unit: str) -> float:
    """Mean share that full Retrains have of the original."""
    shares = [
        _ratio(read.whole[figure], mean([other[figure] for other in read.retrained]), unit)
        for read in reads
        for figure in figures(read)
        if unit_of(figure) == unit
    ]
    return float(np.mean(shares))


def _ratio(original: Estimate, retrained: Estimate, unit: str) -> float:
    """The Retrain's level over the original's, on the scale of the unit."""
    return scaled(retrained, unit).value / (scaled(original, unit).value or 1e-9)
