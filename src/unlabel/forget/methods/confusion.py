"""Frozen-reader confusion: forget in the features, with the original's own output row as the adversary."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from unlabel.data.batches import Batch
from unlabel.data.dataset import Dataset
from unlabel.engine import Run
from unlabel.errors import OptionError
from unlabel.forget.pipeline import Pipeline, Unlearner
from unlabel.forget.repair import Aim, Train
from unlabel.loss import log_odds, loss_of
from unlabel.models.head import find_head, tap
from unlabel.request import Request


def confusion(*, strength: float = 1.0, steps: int = 188, lr: float = 0.05) -> Unlearner:
    """Trains the features until the original's own reader of the label sees nothing.

    ``loss = label_loss(retained) + strength * BCE(frozen reader of the forgotten label, 1/2)``, one short
    one-cycle schedule on the calibration images; then the output row is removed. See `Confusion`.

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
    return Pipeline(repair=Train(partial(confusing, strength), steps, lr, stage="confuse"))


@dataclass(frozen=True)
class Confusion:
    """Keeps the retained labels while readers that could see the forgotten ones are made to see nothing.

    The loss of an image is ``label_loss(retained) + strength * mean_j BCE(w_j . h(x) + b_j, t_j)``, with
    ``h`` the penultimate features and ``(w_j, b_j)`` the *original's* output row for the forgotten label
    j, frozen: a reader that cannot be satisfied by shrinking the head, so the features have to change.
    For exclusive classes, the reader is the log-odds of class j under the original's whole head. Annotations
    of the forgotten labels are used for the base rate in `confused_target` alone.

    Args:
        weight, bias: The original's head, (label, feature) and (label,).
        target: t_j of each forgotten label.
        strength: Weight of the confusion term.
        forget, retain: Columns.
        exclusive: Whether the columns are classes.
    """

    weight: Tensor
    bias: Tensor
    target: Tensor
    strength: float
    forget: tuple[int, ...]
    retain: tuple[int, ...]
    exclusive: bool

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        _, head = find_head(model, len(self.bias))
        with tap(head) as seen:
            logits = model(batch.image)
        read = list(range(len(self.bias)) if self.exclusive else self.forget)
        reading = (seen[0] @ self.weight[read].T.to(seen[0].dtype)).float() + self.bias[read]
        if self.exclusive:  # a class is read against the others: its logit alone has no zero
            reading = log_odds(reading)[:, list(self.forget)]
        confusion = bce(reading, self.target.expand_as(reading), reduction="none").mean(1)
        retained = loss_of(exclusive=self.exclusive)(logits, batch.target, self.retain)
        return retained + self.strength * confusion


def confusing(strength: float, original: nn.Module, request: Request, data: Dataset, run: Run) -> Aim:
    """`Confusion` with the original's head as the readers, on all calibration images."""
    _, head = find_head(original, len(request.labels))
    targets = [confused_target(data.prior(column)) for column in request.columns]
    objective = Confusion(
        weight=head.weight.detach().clone(),
        bias=head.bias.detach().clone(),
        target=torch.tensor(targets).to(run.device),
        strength=strength,
        forget=request.columns,
        retain=request.retained_columns,
        exclusive=data.exclusive,
    )
    return Aim(objective, data)


def confused_target(prior: float) -> float:
    """1/2, or the base rate of a rare or a nearly universal label: 1/2 would move nearly every image of it.

    >>> confused_target(0.42), confused_target(0.02)
    (0.5, 0.02)
    """
    return 0.5 if 0.2 <= prior <= 0.8 else prior
