"""Repairs: short trainings on a few calibration images that restore, or that do the forgetting."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from unlabel.data.batches import Batch
from unlabel.data.dataset import Dataset
from unlabel.engine import Run
from unlabel.forget.pipeline import Bands
from unlabel.loss import label_loss
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
        recipe = Recipe(epochs=passes(self.steps, len(data), run.batch_size), lr=self.lr)
        hold = PutBack.head_rows(model, len(request.labels), request.masked_columns)
        objective = LabelLoss(request.retained_columns)
        return fit(model, objective, data, recipe, run, after_step=hold, stage="repair")


@dataclass(frozen=True)
class Confuse:
    """Keeps the retained labels while readers that could see the forgotten ones are made to see nothing.

    The loss of an image is ``label_loss(retained) + strength * mean_j BCE(w_j . h(x) + b_j, t_j)``, with
    ``h`` the penultimate features and ``(w_j, b_j)`` the *original's* output row for the forgotten label
    j, frozen: a reader that cannot be satisfied by shrinking the head, so the features have to change.
    The target ``t_j`` is 1/2, or the base rate where that is below .2 or above .8: a target of 1/2 would
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
        columns = list(request.columns)
        objective = Confusion(
            weight=head.weight[columns].detach().clone(),
            bias=head.bias[columns].detach().clone(),
            target=torch.tensor([confused_target(data.prior(column)) for column in columns]).to(run.device),
            strength=self.strength,
            columns=request.retained_columns,
            outputs=len(request.labels),
        )
        recipe = Recipe(epochs=passes(self.steps, len(data), run.batch_size), lr=self.lr)
        hold = PutBack.head_rows(model, len(request.labels), request.masked_columns)
        return fit(model, objective, data, recipe, run, after_step=hold, stage="confuse")


@dataclass(frozen=True)
class Confusion:
    """The objective of `Confuse`."""

    weight: Tensor  # (forgotten, feature)
    bias: Tensor  # (forgotten,)
    target: Tensor  # (forgotten,)
    strength: float
    columns: tuple[int, ...]
    outputs: int

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        _, head = find_head(model, self.outputs)
        with tap(head) as seen:
            logits = model(batch.image)
        reading = (seen[0] @ self.weight.T.to(seen[0].dtype)).float() + self.bias
        confusion = bce(reading, self.target.expand_as(reading), reduction="none").mean(1)
        return label_loss(logits, batch.target, self.columns) + self.strength * confusion


def confused_target(prior: float) -> float:
    """1/2, or the base rate of a rare or a nearly universal label.

    >>> confused_target(0.42), confused_target(0.02)
    (0.5, 0.02)
    """
    return 0.5 if 0.2 <= prior <= 0.8 else prior
