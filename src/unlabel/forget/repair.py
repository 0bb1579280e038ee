"""Repairs: short trainings on a few calibration images that restore, or that do the forgetting."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from unlabel.data.batches import Batch
from unlabel.data.dataset import Dataset
from unlabel.engine import Run
from unlabel.forget.parts import retain_part
from unlabel.forget.pipeline import Bands
from unlabel.loss import log_odds, loss_of
from unlabel.models.head import find_head, tap
from unlabel.recipe import History, Recipe
from unlabel.request import Request
from unlabel.training import LabelLoss, PutBack, fit


def passes(steps: int, images: int, batch_size: int) -> float:
    """The epochs that make this many steps."""
    return steps * batch_size / images


@dataclass(frozen=True)
class Retain:
    """Fine-tunes all weights on the retained columns; the forgotten output rows stay as they are.

    Args:
        steps: Optimiser steps.
        lr: Peak learning rate of the one-cycle schedule.
    """

    steps: int
    lr: float

    def __call__(
        self,
        model: nn.Module,
        original: nn.Module,
        request: Request,
        data: Dataset,
        bands: Bands,
        run: Run,
    ) -> History:
        kept, columns = retain_part(data, request)
        recipe = Recipe(epochs=passes(self.steps, len(data), run.batch_size), lr=self.lr)
        hold = PutBack.head_rows(model, len(request.labels), request.masked_columns)
        objective = LabelLoss(columns, data.exclusive)
        return fit(model, objective, kept, recipe, run, after_step=hold, stage="repair")


@dataclass(frozen=True)
class Confuse:
    """Keeps the retained labels while readers that could see the forgotten ones are made to see nothing.

    The loss of an image is ``label_loss(retained) + strength * mean_j BCE(w_j . h(x) + b_j, t_j)``, with
    ``h`` the penultimate features and ``(w_j, b_j)`` the *original's* output row for the forgotten label
    j, frozen: a reader that cannot be satisfied by shrinking the head, so the features have to change.
    For exclusive classes, the reader is the log-odds of class j under the original's whole head. The
    target ``t_j`` is 1/2, or the base rate where that is below .2 or above .8: a target of 1/2 would
    move nearly every image of a rare label. Annotations of the forgotten labels are not used beyond that.

    Args:
        steps: Optimiser steps.
        lr: Peak learning rate of the one-cycle schedule.
        strength: Weight of the confusion term.
    """

    steps: int
    lr: float
    strength: float

    def __call__(
        self,
        model: nn.Module,
        original: nn.Module,
        request: Request,
        data: Dataset,
        bands: Bands,
        run: Run,
    ) -> History:
        _, head = find_head(original, len(request.labels))
        targets = [confused_target(data.prior(column)) for column in request.columns]
        objective = Confusion(
            weight=head.weight.detach().clone(),
            bias=head.bias.detach().clone(),
            target=torch.tensor(targets).to(run.device),
            strength=self.strength,
            forget=request.columns,
            retain=request.retained_columns,
            exclusive=data.exclusive,
        )
        recipe = Recipe(epochs=passes(self.steps, len(data), run.batch_size), lr=self.lr)
        hold = PutBack.head_rows(model, len(request.labels), request.masked_columns)
        return fit(model, objective, data, recipe, run, after_step=hold, stage="confuse")


@dataclass(frozen=True)
class Confusion:
    """The objective of `Confuse`."""

    weight: Tensor  # (label, feature) of the original's head
    bias: Tensor  # (label,)
    target: Tensor  # (forgotten,)
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


def confused_target(prior: float) -> float:
    """1/2, or the base rate of a rare or a nearly universal label.

    >>> confused_target(0.42), confused_target(0.02)
    (0.5, 0.02)
    """
    return 0.5 if 0.2 <= prior <= 0.8 else prior
