"""The bad teacher: the forgotten labels are learnt from a network that knows nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.recipe import History
from unlabel.core.request import Request
from unlabel.data.batches import Batch
from unlabel.data.dataset import Dataset
from unlabel.forget.bill import Bill, Budget
from unlabel.forget.distill import (
    Constant,
    Network,
    Remembered,
    Teacher,
    base_rates,
    bernoulli_kl,
    class_kl,
    untaught,
)
from unlabel.forget.methods.ranges import check_schedule, in_range
from unlabel.forget.pipeline import Bands, Pipeline, Unlearner
from unlabel.forget.repair import Aim, brief, guarded, held_rows

Bad = Literal["random_init", "prior"]


def bad_teacher(
    *,
    bad: Bad = "random_init",
    strength: float = 1.0,
    temperature: float = 1.0,
    steps: int = 96,
    lr: float = 0.02,
) -> Unlearner:
    """Distils the forgotten labels from a teacher that knows nothing and all others from the original.

    The mean over all entries (image, label) of the Bernoulli divergence from a teacher's answer,
    ``T^2 KL(sigmoid(z_teacher / T) || sigmoid(z / T))``: the bad teacher's for the labels to forget, the
    original's for the retained ones. See `TwoTeachers`. No annotation is used, but for base rates.

    A warning that goes with every distillation from the original: its retained outputs carry the forgotten
    label, and a student that matches them learns it again. Expect the output to forget and the features not.

    Differs from the paper: it chooses the teacher by image, here it is chosen by entry, since every image
    carries every label; of exclusive classes it is chosen by image, with the softmax, as there. No softmax
    across labels. One short one-cycle schedule of SGD stands for an epoch of Adam at 1e-4. The original sees
    the very images that the student sees, augmented alike; the random network is asked about each image once,
    not augmented, since all that it knows is nothing.

    Args:
        bad: random_init, the same network with new random weights; or prior, the labels' base rates.
        strength: Weight of an entry to forget relative to one to retain, > 0; 1 is the paper's.
        temperature: T, > 0.
        steps: Optimiser steps, >= 1.
        lr: Peak learning rate, > 0.

    References:
        Chundawat et al., Can Bad Teaching Induce Forgetting? Unlearning in Deep Networks Using an Incompetent
        Teacher, AAAI 2023.
    """
    in_range("strength", strength, 0, above=True)
    in_range("temperature", temperature, 0, above=True)
    check_schedule(steps, lr)
    return Pipeline(repair=Distilled(bad, strength, temperature, steps, lr))


@dataclass(frozen=True)
class TwoTeachers:
    """Mean over entries of the divergence from the teacher of each entry, for every sample.

    Of exclusive classes: the divergence of the softmax over all classes, from the bad teacher for images of a
    class to forget and from the good one for all others.

    Args:
        good, bad: Of the retained labels, and of those to forget.
        forget, retain: Columns.
        strength: Weight of an entry to forget; of such an image where classes are exclusive.
        temperature: T.
        exclusive: Whether the columns are classes.
    """

    good: Teacher
    bad: Teacher
    forget: tuple[int, ...]
    retain: tuple[int, ...]
    strength: float
    temperature: float
    exclusive: bool

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        # the student last: what its backward pass needs is then still in the cache
        good, bad, student = self.good(batch), self.bad(batch), model(batch.image)
        gone, retained = list(self.forget), list(self.retain)
        if self.exclusive:
            live = [*gone, *retained]
            forgotten = (batch.target[:, gone] == 1).any(1)
            teacher = torch.where(forgotten[:, None], bad, good)
            divergence = class_kl(student[:, live], teacher[:, live], self.temperature)
            return torch.where(forgotten, self.strength * divergence, divergence)
        live = [*gone, *retained]
        teacher = torch.cat([bad[:, gone], good[:, retained]], 1)
        divergence = bernoulli_kl(student[:, live], teacher, self.temperature)
        return (self.strength * divergence[:, : len(gone)].sum(1) + divergence[:, len(gone) :].sum(1)) / len(
            live
        )


@dataclass(frozen=True)
class Distilled:
    """The repair of `bad_teacher`; its bill counts the teachers' passes."""

    bad: Bad
    strength: float
    temperature: float
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
        objective, images, read = guarded(
            _two_teachers(self.bad, self.strength, self.temperature, original, request, data, run),
            original,
            request,
            data,
            run,
        )
        history = brief(
            model,
            objective,
            images,
            run,
            steps=self.steps,
            lr=self.lr,
            after=[held_rows(model, request, earlier_only=True)],
            stage="distil",
            images_read=read,
        )
        taught = self.steps * run.batch_size
        taught += min(taught, len(images)) if self.bad == "random_init" else 0
        return replace(history, images_processed=history.images_processed + taught)


def _two_teachers(
    bad: Bad,
    strength: float,
    temperature: float,
    original: nn.Module,
    request: Request,
    data: Dataset,
    run: Run,
) -> Aim:
    nothing: Teacher = Constant(base_rates(data).to(run.device))
    if bad == "random_init":
        nothing = Remembered.of(untaught(original, run.seed), data, run.device)
    forget, retain = request.columns, request.retained_columns
    objective = TwoTeachers(Network(original), nothing, forget, retain, strength, temperature, data.exclusive)
    return Aim(objective, data)


def bill(unlearner: object, options: Mapping[str, Any], budget: Budget) -> Bill:
    """Every image is shown to the student and the good teacher; a random teacher is asked once an image."""
    shown = options["steps"] * budget.batch_size
    asked = min(shown, budget.images) if options["bad"] == "random_init" else 0
    return Bill(options["steps"], 2 * shown + asked + budget.guard)
