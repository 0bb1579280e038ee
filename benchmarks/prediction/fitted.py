"""The rules of prediction fitted to worlds, and what they predict for worlds that were left out."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from operator import itemgetter

import numpy as np
from scipy.optimize import least_squares

from prediction.measured import Read
from unlabel.audit.attacks.prediction import Rule, level_of, scaled, share
from unlabel.audit.figures import Readings, judged_by, unit_of
from unlabel.statistics.estimate import Estimate, mean

UNITS = ("adv", "bits")
PARAMETERS = 2  # of each rule: the share that is kept, and the growth
Group = Callable[[Read], str]


@dataclass(frozen=True)
class Guess:
    """One attack of one world: the level that was predicted, and what full Retrains have.

    Args:
        read: The world.
        figure: The attack.
        level: The prediction; the worlds of its group had no part in it.
        truth: Mean of the full Retrains.
    """

    read: Read
    figure: str
    level: Estimate
    truth: Estimate

    @property
    def miss(self) -> float:
        """Prediction less truth."""
        return self.level.value - self.truth.value


def figures(read: Read) -> list[str]:
    """The attacks that are predicted by a rule."""
    return [
        name for name in judged_by("C2") if name in read.whole and name not in ("own.adv", "mia.label.auc")
    ]


def fit(reads: Sequence[Read]) -> dict[str, Rule]:
    """The rules of both units, without their drift. Each data set counts as the root of its worlds."""
    count = Counter(read.world.data for read in reads)
    rules = {}
    for unit in UNITS:
        rows = list(_rows(reads, unit))
        weights = np.array([count[read.world.data] ** -0.5 for read, *_ in rows])

        def missed(values: np.ndarray, rows: list = rows, w: np.ndarray = weights) -> np.ndarray:
            rule = Rule(kept=values[0], growth=0.0)
            return w * [share(rule, read.known) - level / whole for read, whole, _, _, level in rows]

        (kept,) = least_squares(missed, [0.55]).x
        grown = np.array([(level - short, whole - first) for _, whole, first, short, level in rows])
        growth = float(np.mean(grown[:, 0] * grown[:, 1]) / np.mean(grown[:, 1] ** 2))
        rules[unit] = Rule(kept=float(kept), growth=growth)
    return rules


def _rows(reads: Sequence[Read], unit: str) -> Iterator[tuple[Read, float, float, float, float]]:
    """World, original, short original, short Retrain and Retrain of every attack of a unit, scaled."""
    for read in reads:
        pair = read.shorts[-1]
        for figure in figures(read):
            if unit_of(figure) == unit:
                truth = mean([other[figure] for other in read.retrained])
                items = (read.whole[figure], pair.original[figure], pair.retrained[figure], truth)
                yield read, *(scaled(item, unit).value for item in items)


def guess(read: Read, rules: dict[str, Rule]) -> list[Guess]:
    """Every attack of a world by given rules, with their drift."""
    found = []
    for figure in figures(read):
        unit = unit_of(figure)
        level = level_of(
            unit, rules[unit], read.whole[figure], read.shorts[-1].map(itemgetter(figure)), read.known
        )
        level = replace(level, drift=rules[unit].drift, drift_df=rules[unit].df)
        found.append(Guess(read, figure, level, mean([other[figure] for other in read.retrained])))
    return found


def by_data(read: Read) -> str:
    """The group of all worlds of one data set."""
    return read.world.data


def by_world(read: Read) -> str:
    """A group for each world."""
    return read.world.name


def bare(read: Read) -> Read:
    """The same world without the influences of images, which only an interval needs."""
    none = np.zeros(0)

    def value(item: Estimate) -> Estimate:
        return Estimate(item.value, none, none.astype(np.int64), none.astype(bool))

    models = {
        path: {name: value(item) for name, item in readings.items()} for path, readings in read.models.items()
    }
    return replace(read, models=models)


def with_drift(reads: Sequence[Read], group: Group) -> dict[str, Rule]:
    """The rules fitted to worlds; their drift is how far rules miss that were fitted without one group."""
    misses: dict[str, list[float]] = {unit: [] for unit in UNITS}
    reads = [bare(read) for read in reads]
    for left_out in sorted({group(read) for read in reads}):
        rules = fit([read for read in reads if group(read) != left_out])
        for read in reads:
            if group(read) == left_out:
                for item in guess(read, rules):
                    misses[unit_of(item.figure)].append(item.miss)
    return {
        unit: replace(rule, drift=sqrt(np.mean(np.square(misses[unit]))), df=len(reads) - PARAMETERS)
        for unit, rule in fit(reads).items()
    }


def left_out(reads: Sequence[Read], group: Group) -> list[tuple[Read, dict[str, Rule]]]:
    """Every world with rules, and their drift, in which its group had no part."""
    found = []
    for name in sorted({group(read) for read in reads}):
        rules = with_drift([read for read in reads if group(read) != name], group)
        found += [(read, rules) for read in reads if group(read) == name]
    return found


def levels_of(read: Read, rules: dict[str, Rule]) -> Readings:
    """Predicted readings of a world, as C2 takes them."""
    levels = {item.figure: item.level for item in guess(read, rules)}
    return {"own.adv": read.shorts[-1].retrained["own.adv"], **levels}
