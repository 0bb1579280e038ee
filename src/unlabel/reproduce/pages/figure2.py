"""Figure 2: the entropy of the outputs of original, unlearned and retrained models, and its distances."""

from collections.abc import Sequence
from itertools import combinations
from math import log, sqrt
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from unlabel.data.splits import TRAIN_SET
from unlabel.reproduce.charts import Curve, curves
from unlabel.reproduce.document import Content, Picture, Table
from unlabel.reproduce.measure import BINS
from unlabel.reproduce.numbers import Entry, interval, spread
from unlabel.reproduce.pages.table2 import studies as table2_studies
from unlabel.reproduce.rows import Models, every, failures, forgotten, listed, original, retrained
from unlabel.reproduce.scale import Scale
from unlabel.reproduce.settings import RETRAIN
from unlabel.reproduce.study import Made, Study

DRAWN = ("original", "Retrain", "WF as printed", "WP as printed")
COARSE = 40  # bins of the picture; distances are taken on all
SPLITS = (("E", "held out"), (TRAIN_SET, "training images"))

Counts = NDArray[np.float64]


def studies(scale: Scale) -> list[Study]:
    """The models of table 2, on the first network."""
    return table2_studies(scale)[:1]


def counts(models: Models, split: str) -> list[Counts]:
    """Images by entropy, one array a seed."""
    return [np.asarray(record["also"]["entropy"][split], np.float64) for record in models.records]


def distance(first: Counts, second: Counts) -> float:
    """Kolmogorov-Smirnov distance of two histograms: exact to the share of one bin.

    >>> distance(np.array([1.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0]))
    0.5
    """
    return float(np.abs(np.cumsum(first) / first.sum() - np.cumsum(second) / second.sum()).max())


def band(first: int, second: int, alpha: float = 0.05) -> float:
    """Half of an interval for a distance of two samples of these sizes that holds with 1 - alpha.

    By the Dvoretzky-Kiefer-Wolfowitz inequality, half of alpha for each sample. The images of a sample must
    be independent; the two samples need not be. It is wide: an upper limit of the sampling error.

    >>> round(band(3000, 3000), 3)
    0.054
    """
    return sum(sqrt(log(4 / alpha) / (2 * n)) for n in (first, second))


def to_retrain(models: Models, reference: Models, split: str) -> list[float]:
    """Distance of each seed's model to the Retrains, the mean over these."""
    aims = counts(reference, split)
    return [float(np.mean([distance(count, aim) for aim in aims])) for count in counts(models, split)]


def among(reference: Models, split: str) -> list[float]:
    """Distances between any two Retrains: what seeds alone do."""
    return [distance(a, b) for a, b in combinations(counts(reference, split), 2)]


def content(made: Sequence[Made], scale: Scale) -> Content:
    """The page."""
    item = made[0]
    reference = retrained(item)
    half = band(*[int(counts(reference, "E")[0].sum())] * 2)
    rows = [_row(models, reference, half) for models in every(item)]
    return Content(
        "Figure 2: entropy of the outputs",
        [
            "The entropy of an image is the mean over the nine retained labels of the entropy of the model's"
            " probability, in bits: 0 is sure, 1 is a coin.",
            "The forgotten label's own output is left out: it is one constant, and so one spike, in every"
            " unlearned model, which says nothing.",
        ],
        findings(item, half),
        [
            Table(
                "Distance to Retrain (Kolmogorov-Smirnov)",
                (
                    "model",
                    *(f"{what}, {word}" for _, word in SPLITS for what in ("mean entropy", "distance")),
                    "interval, held out",
                ),
                rows,
                "Mean over the Retrains, sd over unlearning seeds; Retrain's row has the distances"
                f" between two Retrains. The interval is of 95 % over images: {_bound(item, half)}. 0 is the"
                " same distribution.",
            )
        ],
        [picture(item)],
        {"interval_half": half},
    )


def _bound(made: Made, half: float) -> str:
    """What the interval holds for."""
    if made.facts.get("identities"):
        return (
            f"± {half:.3f} if each image were of another person. Images of one person are alike, so it is too"
            " narrow here"
        )
    return f"at most ± {half:.3f}, whatever the distribution, if the images are independent"


def _row(models: Models, reference: Models, half: float) -> list[Entry]:
    fields: list[Entry] = [models.name]
    centre = (np.arange(BINS) + 0.5) / BINS
    for split, _ in SPLITS:
        fields.append(spread([float(count @ centre / count.sum()) for count in counts(models, split)]))
        fields.append(spread(apart(models, reference, split)))
    middle = fmean(apart(models, reference, "E"))
    return [*fields, interval(middle, (max(0.0, middle - half), min(1.0, middle + half)))]


def apart(models: Models, reference: Models, split: str) -> list[float]:
    """Distances of a row: to Retrain, or between two Retrains in Retrain's own row."""
    return among(models, split) if models.name == RETRAIN else to_retrain(models, reference, split)


def picture(made: Made) -> Picture:
    """Distributions on held-out images, all seeds of a model together."""
    lines = []
    for models in every(made):
        if models.name in DRAWN:
            total = np.sum(counts(models, "E"), axis=0).reshape(COARSE, -1).sum(1)
            lines.append(Curve(models.name, [float(share) for share in total / total.sum()]))
    svg = curves(lines, (0.0, 1.0), "mean entropy of the retained outputs, bits", "share of images")
    alt = f"Distributions of the outputs' entropy on held-out images: {', '.join(DRAWN)}"
    return Picture("figure2.svg", alt, svg)


def findings(made: Made, half: float) -> list[str]:
    """What the numbers say, by rules."""
    reference = retrained(made)
    methods = [models for models in forgotten(made) if models.records]
    noise = among(reference, "E")
    level = float(np.mean(noise))
    apart = {models.name: float(np.mean(to_retrain(models, reference, "E"))) for models in methods}
    start = float(np.mean(to_retrain(original(made), reference, "E")))
    near = [name for name, value in apart.items() if value <= max(noise)]
    far = [name for name, value in apart.items() if value > max(noise) + half]
    return [
        f"Two Retrains differ by {level:.3f} (up to {max(noise):.3f}) from seeds alone; the original, which"
        f" has forgotten nothing, differs from them by {start:.3f}.",
        f"As near to Retrain as Retrains are to each other: {listed(near)}; further by more than the interval"
        f" over images: {listed(far)}.",
        (
            "Head removal, which changes nothing but the output row, is as near as the original is: a small"
            " distance is no sign of forgetting, and a large one is a sign of damage."
            if abs(apart.get("head removal", start) - start) < 1e-6
            else "Head removal moved the retained outputs, which it must not."
        ),
        *failures(made),
    ]
