"""A model against retrained ones: bounds that hold images' and training seeds' errors, and many tests."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtrit
from scipy.stats import t as student

from unlabel.statistics.estimate import Estimate, mean


@dataclass(frozen=True)
class Contrast:
    """A model against the mean of several references, images' and seeds' errors together.

    ``se^2 = se_images^2 + s^2 / R`` where ``s`` is the spread of the R references' own values, with
    Satterthwaite's degrees of freedom. With one reference only the images' error is known. ``fixed`` is the
    part of ``se^2`` that more images would not make smaller: seeds, draws and predictions. ``draws`` is the
    part of that which more references would not make smaller either.
    """

    value: float
    se: float
    df: float
    fixed: float = 0.0
    draws: float = 0.0

    def lower(self, level: float = 0.95) -> float:
        """One-sided lower bound."""
        return self.value - float(stdtrit(self.df, level)) * self.se

    def upper(self, level: float = 0.95) -> float:
        """One-sided upper bound."""
        return self.value + float(stdtrit(self.df, level)) * self.se

    def p_above(self, margin: float) -> float:
        """p-value of the hypothesis that the difference is at most `margin`."""
        if self.se == 0.0:
            return 0.0 if self.value > margin else 1.0
        return float(student.sf((self.value - margin) / self.se, self.df))


def contrast(model: Estimate, references: Sequence[Estimate]) -> Contrast:
    """The model's value less the references' mean."""
    return seeded(model - mean(references), [item.value for item in references])


def seeded(estimate: Estimate, values: Sequence[float]) -> Contrast:
    """An estimate that contains the mean of `values`, whose spread over seeds is added to its error.

    So is the drift of what was predicted, which more references of its kind would not make smaller.
    """
    variances: list[tuple[float, float]] = [(estimate.se**2, estimate.df)]
    if len(values) > 1:
        variances.append((float(np.var(values, ddof=1)) / len(values), len(values) - 1))
    if estimate.drift:
        variances.append((estimate.drift**2, estimate.drift_df))
    return replace(combined(estimate.value, variances), draws=estimate.drift**2)


def combined(value: float, variances: Sequence[tuple[float, float]]) -> Contrast:
    """A number whose error has independent parts, each a variance with its degrees of freedom.

    The parts add up; Satterthwaite's formula gives the degrees of freedom of their sum. The first part is the
    images', which alone shrinks with their number.

    >>> combined(0.1, [(0.0004, 999), (0.0004, 2)]).df.__round__(2)
    7.98
    """
    total = sum(variance for variance, _ in variances)
    if total == 0.0:
        return Contrast(value, 0.0, variances[0][1])
    df = total**2 / sum(variance**2 / degrees for variance, degrees in variances)
    return Contrast(value, float(np.sqrt(total)), df, sum(variance for variance, _ in variances[1:]))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    count, running = len(p_values), 0.0
    adjusted = [0.0] * count
    for position, index in enumerate(np.argsort(p_values, kind="stable")):
        running = max(running, min(1.0, (count - position) * p_values[index]))
        adjusted[int(index)] = running
    return adjusted
