"""The LEACE eraser: its fit in closed form, and what it costs the retained labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import nn

from unlabel.core.engine import Run
from unlabel.core.errors import MethodError
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.ranking import aucs
from unlabel.models.features import outputs
from unlabel.models.outputs import PENULTIMATE, Outputs

FLOOR = 1e-8  # of the largest variance


ROUNDING = 1e-14  # of the largest squared mean: the variance of rounding in float32


NOTHING = 1e-7  # a covariance with a label this many deviations long is rounding


SAME = 1e-12  # squared sine between the directions of two labels, less than one image in a million makes it


_AT_ONCE = 4096  # images whose features are held in float64 together


def read(model: nn.Module, data: Dataset, run: Run) -> Outputs:
    """Features and outputs of a model on the calibration images, all of them finite."""
    answers = outputs(model, data, run)
    if not np.isfinite(answers.features[PENULTIMATE]).all():
        raise MethodError("the model's features are NaN or infinite on some images; is the model trained?")
    return answers


@dataclass(frozen=True)
class Eraser:
    """The affine map ``x -> x - out (into x - level)`` in float64.

    Args:
        out, into: Of as many directions as the labels have that are not one another's.
        level: ``into mean``, so that the mean of the features stays.
    """

    out: Float[NDArray[np.float64], "feature rank"]
    into: Float[NDArray[np.float64], "rank feature"]
    level: Float[NDArray[np.float64], " rank"]

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
        annotated = (target >= 0).astype(np.float64)
        # centred twice: on all images, and each label on those where it is known
        share = (annotated * (target == 1)).sum(0) / annotated.sum(0).clip(min=1)
        for start in range(0, len(features), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            centred = features[part].astype(np.float64) - mean
            square += centred.T @ centred
            across += centred.T @ (annotated[part] * ((target[part] == 1) - share))
        across /= annotated.sum(0).clip(min=1)
        return cls.of_covariances(mean, square / len(features), across)

    @classmethod
    def of_covariances(
        cls, mean: NDArray[np.float64], square: NDArray[np.float64], across: NDArray[np.float64]
    ) -> "Eraser":
        """The same, from what is known of the features.

        Args:
            mean: (feature,) of the features.
            square: (feature, feature) their covariance.
            across: (feature, number) their covariance with each number to erase.
        """
        values, vectors = np.linalg.eigh(square)
        least = max(FLOOR * values[-1], ROUNDING * np.square(mean).max(), np.finfo(np.float32).tiny)
        values = np.maximum(values, least)
        inverse = (vectors / values) @ vectors.T
        lengths = np.sqrt(np.maximum((across * (inverse @ across)).sum(0), 0.0))
        across = np.where(lengths > NOTHING, across / np.maximum(lengths, NOTHING), 0.0)
        squares, turned = np.linalg.eigh(across.T @ inverse @ across)
        # two labels that are one, to rounding, have one direction: the other would be noise
        distinct = squares > max(SAME * squares[-1], 0.0)
        turned = turned[:, distinct] / np.sqrt(squares[distinct])
        into = (across @ turned).T @ inverse
        return cls(across @ turned, into, into @ mean)

    def __call__(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """The features (image, feature) without the labels."""
        wide = features.astype(np.float64)
        return wide - (wide @ self.into.T - self.level) @ self.out.T

    def fold(
        self, weight: NDArray[np.float64], bias: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weight and bias with which a linear layer reads features as the given ones read erased features."""
        return weight - weight @ self.out @ self.into, bias + weight @ (self.out @ self.level)


def bill_of(
    before: NDArray[np.floating], after: NDArray[np.floating], data: Dataset, request: Request
) -> dict[str, Any]:
    """What erasing costs the retained labels on these images.

    Args:
        before, after: Logits (image, label).
        data: Their annotations.
        request: Says which labels are retained.

    Returns:
        ``removed_variance``: of each retained label's logit, the share of its variance that is gone. It is
        the squared correlation of the logit with the score that linear discriminant analysis gives the
        forgotten label; with several labels, the share that their scores explain together.
        ``retained_auc_lost`` and ``retained_auc_lost_most``: on average and at most, None where no retained
        label varies; ``retained_label_hit``: the label that loses most.
    """
    columns = list(request.retained_columns)
    spread = before[:, columns].var(0, dtype=np.float64)
    left = after[:, columns].var(0, dtype=np.float64)
    gone = np.where(spread > 0, 1 - left / np.where(spread > 0, spread, 1.0), 0.0)
    auc_before, auc_after = (np.array(aucs(logits, data, columns)) for logits in (before, after))
    fall = auc_before - auc_after
    worst = None if np.isnan(fall).all() else int(np.nanargmax(fall))
    return {
        "removed_variance": dict(zip(request.retained, gone.tolist(), strict=True)),
        "retained_auc_lost": None if worst is None else float(np.nanmean(fall)),
        "retained_auc_lost_most": None if worst is None else float(fall[worst]),
        "retained_label_hit": None if worst is None else request.retained[worst],
    }


def say_bill(bill: Mapping[str, Any], run: Run) -> None:
    """Writes the cost for the retained labels, and what is guaranteed: the bill's ``scope``."""
    gone: dict[str, float] = bill["removed_variance"]
    most = max(gone, key=lambda name: gone[name])
    run.log.say(
        f"cost: the output for {most} loses {100 * gone[most]:.1f} % of its variance, a retained output"
        f" {100 * sum(gone.values()) / len(gone):.1f} % on average"
    )
    if bill["retained_label_hit"] is not None:
        run.log.say(
            f"cost: {bill['retained_label_hit']} loses {bill['retained_auc_lost_most']:.4f} AUC on these"
            f" images, a retained label {bill['retained_auc_lost']:.4f} on average"
        )
    run.log.say(f"scope: {bill['scope']}")
