"""What the retained annotations explain of a label: as much as a Retrain can be expected to keep of it.

Two measures, both of the original and the annotations alone, without any training:

* the floor: what the true retained annotations tell of the label (`outputs.floor`);
* what is left on the original's features once the *residual*, the part of the label that the retained
  annotations do not predict, was erased from them. Erasing knows no scale: of a label that they determine,
  what little is left over would take all of it away. Nothing is erased then.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.attacks.outputs import guess_linear
from unlabel.audit.inputs import Context, Question, Subject
from unlabel.forget.leace import Eraser
from unlabel.forget.residual import residuals
from unlabel.models.features import PENULTIMATE
from unlabel.statistics.estimate import advantage

Floats = NDArray[np.float64]
DETERMINED = 0.01  # share of a label's variance: with less left over, the retained annotations determine it


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
    known, probe = question.known, context.probe
    x = original.probe.features[PENULTIMATE][known].astype(np.float64)
    x_test = original.test.features[PENULTIMATE].astype(np.float64)
    y = question.probe[known] == 1
    no_logits, retained = np.zeros((len(probe), 0)), context.request.retained_columns
    alone = residuals(probe, [question.column], retained, no_logits, 0.0)[known]
    erase = eraser_of(x, alone)

    def found(fit: Floats, judged: Floats) -> float:
        score = guess_linear(fit, y, judged)
        return advantage(score, question.test, question.test_cluster).value

    before = found(x, x_test)
    determined = alone.var() < DETERMINED * y.var()
    return Explained(floor, before if determined else found(erase(x), erase(x_test)), before)


def eraser_of(x: Floats, numbers: Floats) -> Eraser:
    """The map after which nothing linear in features (image, feature) tells numbers (image, number)."""
    mean = x.mean(0)
    centred = x - mean
    return Eraser.of_covariances(
        mean, centred.T @ centred / len(x), centred.T @ (numbers - numbers.mean(0)) / len(x)
    )
