"""Output rows fitted once more, to features that have changed, and drawn towards the old rows."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn

from unlabel.core.engine import Run
from unlabel.data.dataset import Dataset
from unlabel.models.features import PENULTIMATE, outputs
from unlabel.models.head import find_head

Floats = NDArray[np.float64]
MOST = 50
TOLERANCE = 1e-12  # fall of the loss that the next Newton step promises
SHRINK = 1e-3  # of the features' mean variance: a dead feature's weight stays where it is


def refit_rows(model: nn.Module, columns: Sequence[int], data: Dataset, run: Run, anchor: float) -> None:
    """Fits output rows to the features as they are, in place.

    Args:
        model: In eval mode.
        columns: Labels of independent outputs; one with a single kind of annotation here is left alone.
        data: Images with annotations, read once.
        run: Where; every process fits the same.
        anchor: See `refit`.
    """
    _, head = find_head(model, len(data.labels))
    features = outputs(model, data, run, stage="refit").features[PENULTIMATE].astype(np.float64)
    for column in columns:
        known = data.target[:, column] >= 0
        y = data.target[known, column].astype(np.float64)
        if not 0 < y.sum() < len(y):
            continue
        weight, bias = head.weight[column].detach().double().cpu().numpy(), float(head.bias[column])
        weight, bias = refit(features[known], y, weight, bias, anchor)
        with torch.no_grad():
            head.weight[column] = torch.as_tensor(weight).to(head.weight)
            head.bias[column] = bias


def refit(x: Floats, y: Floats, weight: Floats, bias: float, anchor: float) -> tuple[Floats, float]:
    r"""Logistic regression that stays near a given one, by Newton steps.

    .. math:: \min_{w, b} \frac1n \sum_i \ell(w \cdot x_i + b, y_i)
              + \frac{c}{2} (w - w_0)^\top \Sigma (w - w_0)

    with c the anchor and Sigma the covariance of x: a change is as dear as the logits that it moves. The
    bias is free, so that the mean probability becomes the base rate.

    Args:
        x: (image, feature).
        y: (image,) 0 or 1, both present.
        weight, bias: The old row.
        anchor: > 0.

    Returns:
        The new row.
    """
    centre = x.mean(0)
    hidden = x - centre
    spread = hidden.T @ hidden / len(x)
    spread += SHRINK * np.trace(spread) / len(spread) * np.eye(len(spread))
    design = np.column_stack([hidden, np.ones(len(x))])
    pull = np.zeros((design.shape[1],) * 2)
    pull[:-1, :-1] = anchor * spread
    start = np.append(weight, bias + weight @ centre)
    now = start.copy()

    def loss(row: Floats) -> float:
        z = design @ row
        return float(np.mean(np.logaddexp(0, z) - y * z) + (row - start) @ pull @ (row - start) / 2)

    for _ in range(MOST):
        prob = expit(design @ now)
        gradient = design.T @ (prob - y) / len(y) + pull @ (now - start)
        hessian = (design * (prob * (1 - prob))[:, None]).T @ design / len(y) + pull
        hessian[-1, -1] += 1e-9
        step = np.linalg.solve(hessian, gradient)
        if float(gradient @ step) < TOLERANCE:
            break
        length, here = 1.0, loss(now)
        while loss(now - length * step) > here and length > 1e-6:
            length /= 2
        now -= length * step
    return now[:-1], float(now[-1] - now[:-1] @ centre)
