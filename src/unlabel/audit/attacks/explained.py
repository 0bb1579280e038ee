"""What the retained annotations explain of a label: as much as a Retrain can be expected to keep of it.

Two measures, both of the original and the annotations alone, without any training:

* the floor: what the true retained annotations tell of the label (`outputs.floor`);
* what is left on the original's features once the *residual*, the part of the label that the retained
  annotations do not predict, was erased from them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.attacks.outputs import guess_linear
from unlabel.audit.inputs import Context, Question, Subject
from unlabel.models.features import PENULTIMATE
from unlabel.statistics.estimate import advantage

Floats = NDArray[np.float64]
RIDGE = 1e-6  # of the mean variance of a feature


@dataclass(frozen=True)
class Explained:
    """How much of a label the retained annotations explain, from 0 to 1.

    Args:
        floor: Advantage of guessing it from the true retained annotations.
        left: Advantage of a linear probe after the residual was erased from the original's features.
        found: Advantage of the same probe before.
    """

    floor: float
    left: float
    found: float


def explained(original: Subject, question: Question, floor: float, context: Context) -> Explained:
    """What the retained annotations explain of one label.

    Args:
        original: The original, with features.
        question: The label.
        floor: Of `outputs.floor`.
        context: The annotations.
    """
    known, retained = question.known, list(context.request.retained_columns)
    x = original.probe.features[PENULTIMATE][known].astype(np.float64)
    x_test = original.test.features[PENULTIMATE].astype(np.float64)
    y = question.probe[known] == 1
    erase = Erasure.of(x, residual(y, context.probe.target[known][:, retained]))

    def found(fit: Floats, judged: Floats) -> float:
        score = guess_linear(fit, y, judged)
        return advantage(score, question.test, question.test_cluster).value

    return Explained(floor, found(erase(x), erase(x_test)), found(x, x_test))


def residual(y: NDArray[np.bool_], retained: NDArray[np.int8]) -> Floats:
    """What a linear function of the retained annotations does not predict of a label.

    Args:
        y: (image,) whether it has the label.
        retained: (image, label) 1, 0, or -1 unknown, which stands for the mean.

    >>> residual(np.array([True, False, True, False]), np.array([[1], [0], [1], [0]], np.int8)).round(6) + 0.0
    array([0., 0., 0., 0.])
    """
    table = np.where(retained >= 0, retained, np.nan).astype(np.float64)
    means = np.array([np.nanmean(column) if np.isfinite(column).any() else 0.0 for column in table.T])
    z = np.column_stack([np.where(np.isnan(table), means, table), np.ones(len(y))])
    target = y.astype(np.float64)
    return target - z @ np.linalg.lstsq(z, target, rcond=None)[0]


@dataclass(frozen=True)
class Erasure:
    """An oblique projection after which nothing linear tells a number; LEACE of one dimension.

    References:
        Belrose et al., LEACE: Perfect Linear Concept Erasure in Closed Form, NeurIPS 2023.
    """

    mean: Floats
    direction: Floats
    weights: Floats

    @classmethod
    def of(cls, x: Floats, number: Floats) -> "Erasure":
        """Of one number an image, fitted on (image, feature)."""
        mean = x.mean(0)
        centred = x - mean
        covariance = centred.T @ centred / len(x)
        ridge = RIDGE * np.trace(covariance) / len(covariance)
        direction = centred.T @ (number - number.mean()) / len(x)
        weights = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), direction)
        size = float(direction @ weights)
        return cls(mean, direction, weights / size if size > 0 else weights)

    def __call__(self, x: Floats) -> Floats:
        """The features without it."""
        return x - np.outer((x - self.mean) @ self.weights, self.direction)
