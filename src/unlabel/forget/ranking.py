"""How well a model's own outputs rank the images of a label: what a method can see of its own effect."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from unlabel.core.loss import log_odds
from unlabel.data.dataset import Dataset


def auc(score: NDArray[np.floating], target: NDArray[np.integer]) -> float:
    """Probability that an image with the label scores above one without; ties count one half.

    The audit's own figure, with its interval, is that of the test split; this one steers a method on its
    calibration images.

    Args:
        score: (image,).
        target: (image,), 1 present, 0 absent; -1 unknown, left out.

    Returns:
        0 to 1; NaN where only one kind is known.

    Example:
        >>> auc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([0, 0, 1, -1]))
        0.75
    """
    annotated = target >= 0
    present = target[annotated] == 1
    positive, negative = int(present.sum()), int((~present).sum())
    if not positive or not negative:
        return float("nan")
    above = rankdata(score[annotated])[present].sum() - positive * (positive + 1) / 2
    return float(above / (positive * negative))


def aucs(logits: NDArray[np.floating], data: Dataset, columns: Sequence[int]) -> list[float]:
    """`auc` of some labels' outputs; of exclusive classes, of their log-odds."""
    scores = log_odds(torch.from_numpy(logits).double()).numpy() if data.exclusive else logits
    return [auc(scores[:, column], data.target[:, column]) for column in columns]
