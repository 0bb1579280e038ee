"""Frozen-reader confusion: forget in the features, with the original's own output row as the adversary."""

from unlabel.errors import OptionError
from unlabel.forget.pipeline import Pipeline, Unlearner
from unlabel.forget.repair import Confuse


def confusion(*, strength: float = 1.0, steps: int = 188, lr: float = 0.05) -> Unlearner:
    """Trains the features until the original's own reader of the label sees nothing.

    ``loss = label_loss(retained) + strength * BCE(frozen reader of the forgotten label, 1/2)``, one short
    one-cycle schedule on the calibration images; then the output row is removed. See `repair.Confuse`.

    This project's own; no paper. Related: adversarial removal of an attribute (Ganin & Lempitsky, ICML
    2015), with a reader that is frozen instead of trained, and no gradient reversed.

    The defaults are the mildest of those measured on real faces that pass C2 there; no one setting holds on
    both data sets yet (docs/results/confusion-sweep.md).

    Args:
        strength: Weight of the confusion term, > 0. Larger forgets more and costs retained accuracy.
        steps: Optimiser steps, >= 1.
        lr: Peak learning rate, > 0.
    """
    if not strength > 0:
        raise OptionError(f"--strength is {strength}; expected more than 0")
    if steps < 1:
        raise OptionError(f"--steps is {steps}; expected 1 or more")
    return Pipeline(repair=Confuse(steps=steps, lr=lr, strength=strength))
