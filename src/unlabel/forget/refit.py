"""Output rows fitted once more, to features that have changed, and drawn towards the old rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn

from unlabel.core.engine import Run
from unlabel.core.randomness import uniform
from unlabel.data.dataset import Dataset
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.models.normal_form import own_columns
from unlabel.models.outputs import PENULTIMATE
from unlabel.statistics.estimate import rarer

Floats = NDArray[np.float64]
MOST = 50
LEAST = 1e-30  # variance: features that are all constant are no singular system
TOLERANCE = 1e-12  # fall of the loss that the next Newton step promises
SHRINK = (1e-3, 1e-2, 0.1, 1.0, 1e6)  # of the features' mean variance; the last moves the biases alone
FOLDS = 4
SURE = 1.0  # standard errors


def refit_rows(
    model: nn.Module,
    columns: Sequence[int],
    data: Dataset,
    run: Run,
    anchor: float,
    *,
    hold_bias: bool = False,
) -> None:
    """Fits output rows to the features as they are, in place, as freely as so many images allow.

    As many features as images fit anything: the rows of a ResNet-18 that were fitted to 512 images lost .05
    of mean AUC on new ones. So the change of the rows is held by the first `SHRINK` at which they do as well
    on images left out as rows of which the bias alone was fitted; see `shrink_of`.

    Args:
        model: In eval mode.
        columns: Labels of independent outputs; one with a single kind of annotation here is left alone.
        data: Images with annotations, read once.
        run: Where; every process fits the same.
        anchor, hold_bias: See `refit`.
    """
    _, head = find_head(model, len(data.labels))
    features = outputs(model, data, run, stage="refit").features[PENULTIMATE].astype(np.float64)
    weights, biases = (value.detach().double().cpu().numpy() for value in (head.weight, head.bias))
    every = [column for column in columns if rarer(data.target[:, column]) > 0]
    fold = np.argsort(np.argsort(uniform(run.seed, "refit", data.rows), kind="stable")) % FOLDS
    for chosen, inputs in _by_features(model, every):
        rows, x = weights[:, inputs], features[:, inputs]
        shrink = shrink_of(
            x, data.target[:, chosen], rows[chosen], biases[chosen], anchor, fold, hold_bias=hold_bias
        )
        if shrink != SHRINK[0]:
            run.log.say(
                f"{x.shape[1]:,} features and {len(data):,} images: the output rows are refitted with"
                f" shrinkage {shrink:g}, since freer ones do worse on images left out"
            )
        for column in chosen:
            annotated = data.target[:, column] >= 0
            y = data.target[annotated, column].astype(np.float64)
            weight, bias = refit(
                x[annotated], y, rows[column], float(biases[column]), anchor, shrink, hold_bias=hold_bias
            )
            with torch.no_grad():
                head.weight[column, inputs] = torch.as_tensor(weight).to(head.weight)
                head.bias[column] = bias


def _by_features(model: nn.Module, columns: Sequence[int]) -> list[tuple[list[int], slice | list[int]]]:
    """Labels whose rows read the same features, together, and which features these are."""
    groups: dict[tuple[int, ...] | None, list[int]] = {}
    for column in columns:
        features = own_columns(model, column)
        groups.setdefault(None if features is None else tuple(features), []).append(column)
    return [
        (chosen, slice(None) if features is None else list(features)) for features, chosen in groups.items()
    ]


def shrink_of(
    x: Floats,
    target: NDArray[np.int8],
    weight: Floats,
    bias: Floats,
    anchor: float,
    fold: NDArray[np.int64],
    *,
    hold_bias: bool = False,
) -> float:
    """The first `SHRINK` whose rows do no worse on images left out than rows with only their bias fitted.

    "No worse" is a mean loss at most one standard error above; the last always is.

    Args:
        x: (image, feature).
        target: (image, label) 1, 0 or -1.
        weight, bias: The old rows, (label, feature) and (label,).
        anchor, hold_bias: See `refit`.
        fold: (image,) which images are left out together.
    """
    splits = [_split(x, target, weight, bias, fold == number, hold_bias=hold_bias) for number in range(FOLDS)]

    def loss(shrink: float) -> Floats:
        return np.concatenate([split.loss(anchor, shrink * split.share) for split in splits])

    bar = loss(SHRINK[-1])
    for shrink in SHRINK[:-1]:
        excess = loss(shrink) - bar
        if excess.mean() <= SURE * excess.std() / np.sqrt(len(excess)):
            return shrink
    return SHRINK[-1]


@dataclass(frozen=True)
class _Split:
    """Images to fit to and images left out, in coordinates of the former's span where that has fewer axes.

    The rows change within that span alone, so that nothing is lost; ``share`` of the features is its size.
    """

    fitted: Floats
    left: Floats
    targets: tuple[NDArray[np.int8], NDArray[np.int8]]
    rows: Floats
    logits: tuple[Floats, Floats]  # of the old rows: fitted, left out
    share: float
    hold_bias: bool

    def loss(self, anchor: float, shrink: float) -> Floats:
        """Mean loss over labels of each image left out, after one Newton step from the old rows."""
        annotated = self.targets[1] >= 0
        total = np.zeros(len(self.left))
        for number, row in enumerate(self.rows):
            use = self.targets[0][:, number] >= 0
            y = self.targets[0][use, number].astype(np.float64)
            old = self.logits[1][:, number]
            z = old
            if 0 < y.sum() < len(y):
                start = float(self.logits[0][0, number] - self.fitted[0] @ row)
                new, bias = refit(
                    self.fitted[use], y, row, start, anchor, shrink, most=1, hold_bias=self.hold_bias
                )
                z = old + self.left @ (new - row) + bias - start
            truth = self.targets[1][:, number]
            total += np.where(annotated[:, number], np.logaddexp(0, z) - truth * z, 0.0)
        return total / np.maximum(annotated.sum(1), 1)


def _split(
    x: Floats,
    target: NDArray[np.int8],
    weight: Floats,
    bias: Floats,
    out: NDArray[np.bool_],
    *,
    hold_bias: bool,
) -> _Split:
    centre = _centre(x[~out], hold_bias)
    fitted, left, rows = x[~out] - centre, x[out] - centre, weight
    logits = x[~out] @ weight.T + bias, x[out] @ weight.T + bias
    share = 1.0
    if fitted.shape[1] > len(fitted):
        axes = np.linalg.svd(fitted, full_matrices=False)[2]
        fitted, left, rows = fitted @ axes.T, left @ axes.T, rows @ axes.T
        share = len(axes) / x.shape[1]
    return _Split(fitted, left, (target[~out], target[out]), rows, logits, share, hold_bias)


def refit(
    x: Floats,
    y: Floats,
    weight: Floats,
    bias: float,
    anchor: float,
    shrink: float = SHRINK[0],
    *,
    most: int = MOST,
    hold_bias: bool = False,
) -> tuple[Floats, float]:
    r"""Logistic regression that stays near a given one, by Newton steps.

    .. math:: \min_{w, b} \frac1n \sum_i \ell(w \cdot x_i + b, y_i)
              + \frac{c}{2} (w - w_0)^\top \Sigma (w - w_0)

    with c the anchor and Sigma the covariance of x: a change is as dear as the logits that it moves. The
    bias is free, so that the mean probability becomes the base rate. If it is held, b is the old one, and
    Sigma the second moment of x about 0: a change then moves the mean logit, too.

    Args:
        x: (image, feature).
        y: (image,) 0 or 1, both present.
        weight, bias: The old row.
        anchor: > 0.
        shrink: Share of the features' mean variance that is added to each variance.
        most: Newton steps at most.
        hold_bias: Whether the bias stays as it is, as of a head that has none.

    Returns:
        The new row.
    """
    centre = _centre(x, hold_bias)
    free = slice(len(weight)) if hold_bias else slice(None)
    hidden = x - centre
    spread = hidden.T @ hidden / len(x)
    spread += max(shrink * np.trace(spread) / len(spread), LEAST) * np.eye(len(spread))
    design = np.column_stack([hidden, np.ones(len(x))])
    pull = np.zeros((design.shape[1],) * 2)
    pull[:-1, :-1] = anchor * spread
    start = np.append(weight, bias + weight @ centre)
    now = start.copy()

    def loss(row: Floats) -> float:
        z = design @ row
        return float(np.mean(np.logaddexp(0, z) - y * z) + (row - start) @ pull @ (row - start) / 2)

    for _ in range(most):
        prob = expit(design @ now)
        gradient = design.T @ (prob - y) / len(y) + pull @ (now - start)
        hessian = (design * (prob * (1 - prob))[:, None]).T @ design / len(y) + pull
        hessian[-1, -1] += 1e-9
        step = np.zeros_like(now)
        step[free] = np.linalg.solve(hessian[free, free], gradient[free])
        if float(gradient @ step) < TOLERANCE:
            break
        length, here = 1.0, loss(now)
        while loss(now - length * step) > here and length > 1e-6:
            length /= 2
        now -= length * step
    return now[:-1], float(now[-1] - now[:-1] @ centre)


def _centre(x: Floats, hold_bias: bool) -> Floats:
    """What rows are read about: their mean, which a free bias takes up, or 0."""
    return np.zeros(x.shape[1]) if hold_bias else x.mean(0)
