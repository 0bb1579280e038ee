"""LEACE at the head: in closed form, no linear reader of what the head reads finds the label."""

import copy
import time
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import nn

from unlabel.data.dataset import Dataset
from unlabel.engine import Run
from unlabel.errors import MethodError
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.forget.ranking import aucs
from unlabel.models.features import PENULTIMATE, outputs
from unlabel.models.head import find_head
from unlabel.request import Request

FLOOR = 1e-8  # of the largest variance
ROUNDING = 1e-14  # of the largest squared mean: the variance of rounding in float32
NOTHING = 1e-7  # a covariance with a label this many deviations long is rounding
SAME = 1e-12  # squared sine between the directions of two labels, less than one image in a million makes it
_AT_ONCE = 4096  # images whose features are held in float64 together


def leace_head() -> Unlearner:
    """Removes the label's direction from what the outputs read of the features; changes the head only.

    With x the penultimate features, Sigma their covariance and C their covariances with the forgotten
    labels, the eraser is ``r(x) = x - C (C' Sigma^-1 C)^+ C' Sigma^-1 (x - mean) = P x + mean - P mean``: of
    all affine functions that leave no covariance with the labels, the one that moves x least in units of
    Sigma. It is folded into the head's rows, ``W <- W P`` and ``b <- b + W (mean - P mean)``. One pass over
    the calibration images, no training.

    How far it goes: no *linear* reader of what the head reads can tell the label on the images it was fitted
    on; a non-linear reader of the features still finds it. The features themselves are unchanged, bit for
    bit, so that any probe of them, a linear one too, finds the label as before. It is a control for attacks
    on the outputs, and an upper bound for what editing the head alone can do. An eraser of the features would
    have to follow the activation that makes them: no weight is there to take it up, and a new module would
    change the network.

    What it costs the retained labels is measured before it is applied, and recorded: the AUC that they lose
    on the calibration images, on average and at most. A label that goes along with the forgotten one pays
    most.

    Differs from the paper: the covariance with each label is taken over the images in which it is known, and
    variances below 1e-8 of the largest count as that much, which does not touch the guarantee.

    References:
        Belrose et al., LEACE: Perfect Linear Concept Erasure in Closed Form, NeurIPS 2023.
    """
    return erase_at_head


def erase_at_head(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
    """The unlearner of `leace_head`."""
    started = time.perf_counter()
    seen = outputs(model, data, run)
    features = seen.features[PENULTIMATE]
    if not np.isfinite(features).all():
        raise MethodError("the model's features are NaN or infinite on some images; is the model trained?")
    eraser = Eraser.fit(features, data.target[:, list(request.columns)])
    edited = copy.deepcopy(model)
    _, head = find_head(edited, len(request.labels))
    live = [column for column, name in enumerate(request.labels) if name not in request.forgotten]
    weight, bias = eraser.fold(*(value.detach().double().cpu().numpy() for value in (head.weight, head.bias)))
    bill = lost(seen.logits, features @ weight.T.astype(np.float32) + bias.astype(np.float32), data, request)
    with torch.no_grad():
        head.weight[live] = torch.from_numpy(weight[live]).to(head.weight)
        head.bias[live] = torch.from_numpy(bias[live]).to(head.bias)
    return Work(
        edited, images_scored=len(data), seconds={"erase": time.perf_counter() - started}, settings=bill
    )


@dataclass(frozen=True)
class Eraser:
    """The affine map ``x -> P x + shift`` in float64.

    Args:
        matrix: P.
        shift: mean - P mean.
    """

    matrix: Float[NDArray[np.float64], "feature feature"]
    shift: Float[NDArray[np.float64], " feature"]

    @classmethod
    def fit(cls, features: NDArray[np.floating], target: NDArray[np.integer]) -> "Eraser":
        """The least-squares eraser of some labels from features.

        P C = 0 whatever stands for Sigma, as long as it has an inverse: so the floor under the variances
        costs nothing of the guarantee, and keeps features that never vary out of the inverse.

        Args:
            features: (image, feature).
            target: (image, label) to erase: 1 present, 0 absent, -1 unknown.
        """
        mean = features.mean(0, dtype=np.float64)
        size = features.shape[1]
        square, across = np.zeros((size, size)), np.zeros((size, target.shape[1]))
        known = (target >= 0).astype(np.float64)
        # centred twice: on all images, and each label on those where it is known
        share = (known * (target == 1)).sum(0) / known.sum(0).clip(min=1)
        for start in range(0, len(features), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            centred = features[part].astype(np.float64) - mean
            square += centred.T @ centred
            across += centred.T @ (known[part] * ((target[part] == 1) - share))
        across /= known.sum(0).clip(min=1)
        values, vectors = np.linalg.eigh(square / len(features))
        least = max(FLOOR * values[-1], ROUNDING * np.square(mean).max(), np.finfo(np.float32).tiny)
        values = np.maximum(values, least)
        inverse = (vectors / values) @ vectors.T
        lengths = np.sqrt(np.maximum((across * (inverse @ across)).sum(0), 0.0))
        across = np.where(lengths > NOTHING, across / np.maximum(lengths, NOTHING), 0.0)
        # two labels that are one, to rounding, have one direction: the other would be noise
        inner = np.linalg.pinv(across.T @ inverse @ across, rcond=SAME, hermitian=True)
        matrix = np.eye(size) - across @ inner @ across.T @ inverse
        return cls(matrix, mean - matrix @ mean)

    def __call__(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """The features (image, feature) without the labels."""
        return features.astype(np.float64) @ self.matrix.T + self.shift

    def fold(
        self, weight: NDArray[np.float64], bias: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weight and bias with which a linear layer reads features as the given ones read erased features."""
        return weight @ self.matrix, bias + weight @ self.shift


def lost(
    before: NDArray[np.floating], after: NDArray[np.floating], data: Dataset, request: Request
) -> dict[str, float | str | None]:
    """The AUC that the retained labels lose on these images, on average and at most; None if none varies."""
    known, left = (np.array(aucs(logits, data, request.retained_columns)) for logits in (before, after))
    fall = known - left
    if np.isnan(fall).all():
        return {"retained_auc_lost": None, "retained_auc_lost_most": None, "retained_label_hit": None}
    worst = int(np.nanargmax(fall))
    return {
        "retained_auc_lost": float(np.nanmean(fall)),
        "retained_auc_lost_most": float(fall[worst]),
        "retained_label_hit": request.retained[worst],
    }
