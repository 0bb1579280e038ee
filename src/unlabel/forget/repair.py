"""Repairs: short trainings on a few calibration images that restore, or that do the forgetting.

::

    Train(retained_loss, steps, lr)                  fine-tune on what is retained
    Train(confusing, steps, lr)                      an objective of a method's own
    Train(relabelled, steps, lr, move="selected")    only selected weights move
    brief(model, objective, data, run, ...)          one phase of a repair that has several
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.errors import MethodError
from unlabel.core.recipe import MOST_EPOCHS, History, Recipe
from unlabel.core.request import Request
from unlabel.data.batches import Batch
from unlabel.data.dataset import Dataset
from unlabel.forget.halves import retain_part
from unlabel.forget.pipeline import Bands
from unlabel.forget.probes import Probes, fitted
from unlabel.models.head import find_head, tap
from unlabel.training.fit import AfterStep, LabelLoss, Objective, PutBack, fit

Move = Literal["all", "selected", "unselected"]


class Aim(NamedTuple):
    """What a short training minimises, on which images, and how many were read to find that out."""

    objective: Objective
    data: Dataset
    images_read: int = 0


Aiming = Callable[[nn.Module, Request, Dataset, Run], Aim]  # from the original model, frozen, in eval mode


def brief(
    model: nn.Module,
    objective: Objective,
    data: Dataset,
    run: Run,
    *,
    steps: int,
    lr: float,
    after: Sequence[AfterStep] = (),
    clip: float | None = None,
    stage: str = "repair",
    images_read: int = 0,
) -> History:
    """Trains a model in place for so many steps of a one-cycle schedule.

    Args:
        model: Changed in place.
        objective: One loss a sample.
        data: Images, as many as there are; they repeat when the steps need more.
        run: Where, batch size and seed.
        steps: Optimiser steps, >= 0; 0 changes nothing.
        lr: Peak learning rate, > 0.
        after: Called in this order after each step, such as `PutBack` and `clamp.Clamp`.
        clip: Longest gradient, see `fit`.
        stage: Name in the progress display.
        images_read: Images that went through the network to set the objective, for the bill.

    Raises:
        MethodError: So many steps of so many images pass over these too often.
    """
    if steps == 0:
        return History()
    epochs = steps * run.batch_size / len(data)
    if epochs >= MOST_EPOCHS:
        raise MethodError(
            f"{steps:,} steps of {run.batch_size:,} images pass {epochs:,.0f} times over {len(data):,}"
            f" images; expected fewer than {MOST_EPOCHS:,} times: use more images (--images), fewer --steps,"
            " or a smaller --batch-size"
        )

    def after_step(now: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        for each in after:
            each(now, optimiser)

    recipe = Recipe(epochs=epochs, lr=lr)
    history = fit(model, objective, data, recipe, run, after_step=after_step, clip=clip, stage=stage)
    return replace(history, images_processed=history.images_processed + images_read)


def retained_loss(original: nn.Module, request: Request, data: Dataset, run: Run) -> Aim:
    """The true labels of the retained columns: what every repair should rest on.

    Matching the original's retained outputs instead would bring the label back, since those outputs carry it.
    """
    retained, columns = retain_part(data, request)
    return guarded(Aim(LabelLoss(columns, retained.exclusive), retained), original, request, data, run)


@dataclass(frozen=True)
class Guarded:
    """An objective, and probes of labels forgotten earlier that are kept blind."""

    objective: Objective
    probes: Probes
    strength: float

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        _, head = find_head(model, batch.target.shape[1])
        with tap(head) as inputs:
            loss = self.objective(model, batch)
        return loss + self.strength * self.probes.blind(inputs[0]).mean(1)


def guarded(
    aim: Aim, original: nn.Module, request: Request, data: Dataset, run: Run, *, strength: float = 1.0
) -> Aim:
    """The same aim, which brings back no label that an earlier request removed; see `probes`.

    The annotations of those labels are used to fit the probes, and in no other way.
    """
    earlier = tuple(request.labels.index(name) for name in request.forgotten)
    probes = fitted(original, data, earlier, run) if earlier else None
    if probes is None:
        return aim
    # images of a class forgotten earlier have no retained annotation, but the probe must be blind on them
    images = data if data.exclusive and not request.rows else aim.data
    return Aim(Guarded(aim.objective, probes, strength), images, aim.images_read + len(data))


@dataclass(frozen=True)
class Train:
    """A repair that minimises one objective, and keeps labels forgotten earlier forgotten (`guarded`).

    Args:
        aim: What to minimise; called once, with the original.
        steps: Optimiser steps, >= 0.
        lr: Peak learning rate of the one-cycle schedule, > 0.
        move: Which weights may change: all, those in a band, or those in none. The others keep their bits;
            BatchNorm's running statistics follow the weights in any case.
        hold_rows: Whether the output rows of the labels to forget stay as they are, too.
        stage: Name in the progress display.
    """

    aim: Aiming
    steps: int
    lr: float
    move: Move = "all"
    hold_rows: bool = True
    stage: str = "repair"

    def __call__(
        self,
        model: nn.Module,
        original: nn.Module,
        request: Request,
        data: Dataset,
        bands: Bands,
        run: Run,
    ) -> History:
        aim = self.aim(original, request, data, run)
        if not isinstance(aim.objective, Guarded):
            aim = guarded(aim, original, request, data, run)
        objective, images, read = aim
        held = [held_rows(model, request, earlier_only=not self.hold_rows)]
        if self.move != "all":
            held.append(held_weights(model, bands, self.move))
        return brief(
            model,
            objective,
            images,
            run,
            steps=self.steps,
            lr=self.lr,
            after=held,
            stage=self.stage,
            images_read=read,
        )


def held_rows(model: nn.Module, request: Request, *, earlier_only: bool = False) -> PutBack:
    """Keeps the output rows of forgotten labels as they are now: of all, or of earlier requests only."""
    masked = [request.labels.index(name) for name in request.forgotten]
    columns = masked if earlier_only else request.masked_columns
    return PutBack.head_rows(model, len(request.labels), columns)


def held_weights(model: nn.Module, bands: Bands, move: Move) -> PutBack:
    """Keeps the weights that may not move where they are now; a parameter without a band is unselected."""
    held = {}
    for name, weight in model.named_parameters():
        chosen = bands[name].to(weight.device) > 0 if name in bands else torch.zeros_like(weight).bool()
        held[name] = (~chosen if move == "selected" else chosen, weight.detach().clone())
    return PutBack(held)
