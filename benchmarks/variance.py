"""How much of a figure is due to the original, to the unlearning's seed and to the retrained model's seed.

python benchmarks/variance.py GROUP [GROUP ...]

A group is the runs unlearned from one original with several seeds, separated by commas. Each was audited
with its original and with the same retrained models; the audits are read, nothing is computed anew. Figures
are of the same images, so what remains of the images is how they differ by model.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FIGURES = {
    "others.adv.lin": ("other outputs, linear", 0.1),
    "others.adv.gbt": ("other outputs, trees", 0.1),
    "probe.adv.lin": ("features, linear", 0.1),
    "probe.adv.mlp": ("features, MLP", 0.1),
    "probe.bits.mlp": ("features, MLP, bits", 0.075),
    "tune.auc@256": ("whole model, 256 images", 0.03),
    "util.auc.macro": ("retained mean AUC", 0.01),
}
LEVEL = 0.9
DRAWN = 3  # retrained models of an audit


@dataclass(frozen=True)
class Spread:
    """A standard deviation, with its interval; a value of None could not be told from 0.

    Args:
        value: The estimate.
        low: Lower end of the 90 % interval.
        high: Its upper end.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, variance: float, degrees: int) -> "Spread":
        """From an estimate of the variance, chi-square with so many degrees of freedom."""
        ends = stats.chi2.ppf([(1 + LEVEL) / 2, (1 - LEVEL) / 2], degrees)
        low, high = np.sqrt(variance * degrees / ends)
        return cls(float(np.sqrt(variance)), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Components:
    """Where a figure's spread comes from.

    Args:
        seeds: Between unlearning seeds of one original.
        originals: Between originals, beyond what the seeds explain; 0 if the estimate is negative.
        larger: The one-sided p value of the test that originals add nothing.
        retrained: Between retrained models.
    """

    seeds: Spread
    originals: float
    larger: float
    retrained: Spread

    @classmethod
    def of(cls, unlearned: NDArray[np.float64], retrained: NDArray[np.float64]) -> "Components":
        """From figures of unlearned models, [originals, seeds], and of retrained ones, [models].

        The nested analysis of variance: the mean square between originals has the expectation
        ``seeds + number of seeds * originals``.
        """
        originals, each = unlearned.shape
        within = float(unlearned.var(1, ddof=1).mean())
        between = float(each * unlearned.mean(1).var(ddof=1))
        degrees = originals * (each - 1)
        return cls(
            Spread.of(within, degrees),
            float(np.sqrt(max(between - within, 0.0) / each)),
            float(stats.f.sf(between / within, originals - 1, degrees)),
            Spread.of(float(retrained.var(ddof=1)), retrained.size - 1),
        )


def figures_of(audit: dict[str, Any], figure: str, role: str) -> list[float]:
    """The values of the models of one role: of the last features, and unchanged."""
    rows = [row for row in audit["metrics"] if (row["id"], row["model"]) == (figure, role)]
    plain = [row for row in rows if row["transform"] is None and row["layer"] in (None, "penultimate")]
    return [row["value"] for row in plain]


def line(name: str, margin: float, groups: Sequence[Sequence[dict[str, Any]]], figure: str) -> str | None:
    """A row of the table; None if the audits lack the figure."""
    values = [[figures_of(audit, figure, "after") for audit in group] for group in groups]
    unlearned = np.array(values, float)
    retrained = np.array(figures_of(groups[0][0], figure, "reference"))
    if unlearned.size == 0:
        return None
    unlearned = unlearned[..., 0]
    parts = Components.of(unlearned, retrained)
    means = [retrained[list(drawn)].mean() for drawn in combinations(range(retrained.size), DRAWN)]
    swing = max(means) - min(means)
    originals = f"{parts.originals:.3f} (p {parts.larger:.2f})"
    return (
        f"| {name} | {unlearned.mean():.3f} | {retrained.mean():.3f} | {originals} | {parts.seeds} |"
        f" {parts.retrained} | {swing:.3f} | {margin:g} |"
    )


def main(groups: list[list[Path]]) -> None:
    """Prints the table."""
    audits = [[json.loads((run / "audit.json").read_text("utf-8")) for run in group] for group in groups]
    print(
        "| figure | unlearned, mean | Retrain, mean | between originals | between unlearning seeds |"
        f" between Retrains | mean of {DRAWN} Retrains moves by | margin |"
    )
    print("| --- " * 8 + "|")
    for figure, (name, margin) in FIGURES.items():
        row = line(name, margin, audits, figure)
        if row:
            print(row)
    for group, each in zip(groups, audits, strict=True):
        for run, audit in zip(group, each, strict=True):
            print(f"{run.name}: {audit['headline']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("group", nargs="+", type=lambda text: [Path(name) for name in text.split(",")])
    main(parser.parse_args().group)
