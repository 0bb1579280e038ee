"""Frozen-probe confusion: forget in the features, with the original's own output row as the adversary."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.core.loss import log_odds, loss_of
from unlabel.core.request import Request
from unlabel.data.batches import Batch
from unlabel.data.dataset import Dataset
from unlabel.forget.pipeline import Pipeline, Unlearner
from unlabel.forget.probes import Probes, original_rows
from unlabel.forget.repair import Aim, Train, guarded
from unlabel.models.head import find_head, tap

GUARD = 2.5  # what keeps earlier labels forgotten while the features move this much; at 1 they rose


def confusion(*, strength: float = 1.0, steps: int = 188, lr: float = 0.05) -> Unlearner:
    """Trains the features until the original's own probe of the label sees nothing.

    ``loss = label_loss(retained) + strength * BCE(frozen probe of the forgotten label, 1/2)``, one short
    one-cycle schedule on the calibration images; then the output row is removed. See `Confusion`.

    This project's own; no paper. Related: adversarial removal of a domain (Ganin & Lempitsky, ICML
    2015), with a probe that is frozen instead of trained, and no gradient reversed.

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
    return Pipeline(repair=Train(partial(confusing, strength), steps, lr, stage="confuse"))


@dataclass(frozen=True)
class Confusion:
    """Keeps the retained labels while probes that could see the forgotten ones are made to see nothing.

    The loss of an image is ``label_loss(retained) + strength * mean_j BCE(w_j . h(x) + b_j, t_j)``, with
    ``h`` the penultimate features and ``(w_j, b_j)`` the *original's* output row for the forgotten label
    j, frozen: a probe that cannot be satisfied by shrinking the head, so the features have to change.
    For exclusive classes, the probe is the log-odds of class j under the original's whole head. Annotations
    of the forgotten labels are used for the base rate in `confused_target` alone.

    Args:
        probes: The original's output rows and their targets: of the labels to forget, or of every class.
        strength: Weight of the confusion term.
        forget, retain: Columns.
        exclusive: Whether the columns are classes.
    """

    probes: Probes
    strength: float
    forget: tuple[int, ...]
    retain: tuple[int, ...]
    exclusive: bool

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        _, head = find_head(model, batch.target.shape[1])
        with tap(head) as inputs:
            logits = model(batch.image)
        if self.exclusive:  # a class is read against the others: its logit alone has no zero
            rows = self.probes
            reading = (inputs[0] @ rows.weight.T.to(inputs[0].dtype)).float() + rows.bias
            confusion = rows.loss(log_odds(reading))[:, list(self.forget)].mean(1)
        else:
            confusion = self.probes.blind(inputs[0]).mean(1)
        retained = loss_of(exclusive=self.exclusive)(logits, batch.target, self.retain)
        return retained + self.strength * confusion


def confusing(strength: float, original: nn.Module, request: Request, data: Dataset, run: Run) -> Aim:
    """`Confusion` with the original's head as the probes, on all calibration images."""
    columns = tuple(range(len(request.labels))) if data.exclusive else request.columns
    probes = original_rows(original, data, columns, run)
    objective = Confusion(probes, strength, request.columns, request.retained_columns, data.exclusive)
    return guarded(Aim(objective, data), original, request, data, run, strength=GUARD * strength)
