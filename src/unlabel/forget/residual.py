"""What only the forgotten labels tell: their annotations, less what the model may still say of them.

A network that never saw a label still tells whatever its other labels give away. A closed form that removes
*all* covariance with the label removes more than retraining does, and the retained labels pay for it. What is
to go is the rest, after a regression on two things: the retained *annotations*, which retraining sees too,
and, less, the retained *logits*, since what they carry cannot go without harming them::

    r = y - E[y | y_R, z_R]

Of exclusive classes the retained annotations determine the forgotten one, so the logits alone count there.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unlabel.data.dataset import Dataset

Floats = NDArray[np.float64]
SHRINK = 1.0  # images' worth of shrinkage: two equal columns are then no singular system


def residuals(
    data: Dataset, columns: Sequence[int], retained: Sequence[int], logits: Floats, strength: float
) -> Floats:
    r"""Residuals of labels after ridge regression on retained annotations and retained logits.

    .. math:: \min_{u, v} \sum_i (y_i - a_i \cdot u - z_i \cdot v)^2 + \|u\|^2 + s\,n\,\|v\|^2

    with y the label's annotations, a the retained annotations, z the retained logits in standard deviations,
    all centred, n the images and s the strength: at 0 everything that the retained logits tell is spared, at
    infinity nothing but what the retained annotations tell.

    Args:
        data: Images; an unknown retained annotation counts as average.
        columns: The labels whose residuals are wanted.
        retained: The retained labels' columns.
        logits: (image, retained) of the model.
        strength: s, >= 0.

    Returns:
        (image, label), of mean 0 over the images in which the label is known, and 0 where it is not: what is
        not annotated moves no covariance.

    Example:
        >>> from unlabel.testing import tiny_world
        >>> data = tiny_world().data
        >>> found = residuals(data, [0], [1, 2], np.zeros((len(data), 2)), 1.0)
        >>> bool(abs(found.mean()) < 1e-12), bool(abs(np.cov(found[:, 0], data.target[:, 1])[0, 1]) < 1e-3)
        (True, True)
    """
    spread = logits.std(0)
    design = [np.where(spread > 0, (logits - logits.mean(0)) / np.where(spread > 0, spread, 1.0), 0.0)]
    if not data.exclusive:
        answers = data.target[:, list(retained)].astype(np.float64)
        annotated = answers >= 0
        mean = np.where(annotated, answers, 0.0).sum(0) / np.maximum(annotated.sum(0), 1)
        design.insert(0, np.where(annotated, answers - mean, 0.0))
    x = np.concatenate(design, axis=1)
    labels = x.shape[1] - len(spread)
    residual = np.zeros((len(data), len(columns)))
    for position, column in enumerate(columns):
        rows = data.target[:, column] >= 0
        if not rows.any():
            continue
        here, y = x[rows] - x[rows].mean(0), data.target[rows, column].astype(np.float64)
        y -= y.mean()
        penalty = np.r_[np.full(labels, SHRINK), np.full(len(spread), SHRINK + strength * len(here))]
        residual[rows, position] = y - here @ np.linalg.solve(here.T @ here + np.diag(penalty), here.T @ y)
    return residual
