"""UNSIR: impair the label with noise that is made to be wrong about it, then repair the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.loss import loss_of
from unlabel.core.randomness import normal, uniform
from unlabel.core.recipe import History
from unlabel.core.request import Request
from unlabel.data.batches import Batch
from unlabel.data.dataset import Dataset
from unlabel.forget.bill import Bill, Budget
from unlabel.forget.halves import retain_part
from unlabel.forget.methods.ranges import in_range
from unlabel.forget.phases import in_eval_mode, joined, norms, phase
from unlabel.forget.pipeline import Bands, Pipeline, Unlearner
from unlabel.forget.repair import brief, held_rows, retained_loss
from unlabel.forget.tasks import Task


def unsir(
    *,
    noise: int = 16,
    noise_steps: int = 40,
    noise_lr: float = 0.1,
    penalty: float = 0.1,
    strength: float = 1.0,
    impair_steps: int = 32,
    repair_steps: int = 64,
    lr: float = 0.02,
) -> Unlearner:
    """Teaches the label wrongly on noise that maximises its error, then repairs the retained labels.

    1. For each label j to forget, two banks of noise images are learnt with the network frozen: one maximises
       ``loss_j(noise, present) - penalty * sum of squares``, the other ``loss_j(noise, absent) - ...``.
    2. Impair: each real image brings a noise image; the real one counts by the retained labels' loss, the
       noise by the loss of its one label, which it is now said to have, or not to have.
    3. Repair: the retained labels' loss on real images.

    In the impair phase, BatchNorm keeps its running statistics and uses them, for real images as well: noise
    must not move them.

    Differs from the paper: it has one bank, of the class to forget, and noise has no meaning for the other
    labels, whose loss is left out there; noise is clamped to what an image can be; all retained images are
    used, in short one-cycle schedules of SGD on the calibration images, where the paper runs an epoch of Adam
    at .02 and one at .01 on a part. A class of a softmax is read by its log-odds.

    Args:
        noise: Images in each bank, 1 to 4096.
        noise_steps: Steps of Adam in which they are learnt, >= 0.
        noise_lr: Their learning rate, > 0.
        penalty: Weight of the sum of an image's squares, >= 0.
        strength: Weight of the noise in the impair phase, > 0.
        impair_steps: Optimiser steps, >= 1.
        repair_steps: Optimiser steps, >= 0.
        lr: Peak learning rate of both phases, > 0.

    References:
        Tarun et al., Fast Yet Effective Machine Unlearning, IEEE TNNLS 2023.
    """
    in_range("noise", noise, 1, 4096)
    for name, value in (("noise_steps", noise_steps), ("penalty", penalty), ("repair_steps", repair_steps)):
        in_range(name, value, 0)
    for name, value in (("noise_lr", noise_lr), ("strength", strength)):
        in_range(name, value, 0, above=True)
    in_range("impair_steps", impair_steps, 1)
    in_range("lr", lr, 0, 10, above=True)
    banks = Banks(noise, noise_steps, noise_lr, penalty)
    return Pipeline(repair=Unsir(banks, strength, impair_steps, repair_steps, lr))


@dataclass(frozen=True)
class Banks:
    """How noise is learnt.

    Args:
        images: In each of the two banks of a label.
        steps: Of Adam.
        lr: Its learning rate.
        penalty: Weight of the sum of an image's squares.
    """

    images: int
    steps: int
    lr: float
    penalty: float

    def learn(
        self, original: nn.Module, request: Request, data: Dataset, run: Run
    ) -> tuple[Float[Tensor, "noise 3 height width"], Int[Tensor, "noise label"]]:
        """The banks of all labels to forget, and what each noise image is said to show; -1 where nothing.

        Chunks of ``run.micro_batch`` images are shared out over the processes, so that one process computes
        what two do; every process gets all of them.
        """
        task = Task(request.columns, data.exclusive, alone=True)
        start, target = self.start(request, data, run.seed)
        low, high = shown_range(data)
        low, high = low.to(run.device), high.to(run.device)
        learnt = torch.zeros_like(start).to(run.device)
        chunks = torch.arange(len(start)).split(run.micro_batch)
        for chunk in chunks[run.rank :: run.world]:
            wrong = target[chunk].to(run.device)
            images = start[chunk].to(run.device).clamp(low, high).requires_grad_()
            optimiser = torch.optim.Adam([images], lr=self.lr)
            for _ in range(self.steps):
                # a copy: a network may begin by an operation in place
                loss = task.loss(original(images.clone()).float(), wrong)
                aim = (self.penalty * images.square().sum((1, 2, 3)) - loss).sum()
                (images.grad,) = torch.autograd.grad(aim, [images])
                optimiser.step()
                with torch.no_grad():
                    images.clamp_(low, high)
            learnt[chunk] = images.detach()
        engine.reduce_sums(run, [learnt])
        return learnt, target.to(run.device)

    def start(self, request: Request, data: Dataset, seed: int) -> tuple[Tensor, Tensor]:
        """Standard normal noise, keyed by label, value and pixel; and the targets."""
        shape = data.input_shape
        pixels = np.arange(int(np.prod(shape))).reshape(shape)
        number = np.arange(self.images)[:, None, None, None]
        images, target = [], []
        for column in request.columns:
            for value in (1, 0):
                images.append(normal(seed, f"unsir/{request.labels[column]}/{value}", number, pixels))
                annotations = np.full((self.images, len(request.labels)), -1)
                annotations[:, column] = value
                target.append(annotations)
        return torch.from_numpy(np.concatenate(images)).float(), torch.from_numpy(np.concatenate(target))


def shown_range(data: Dataset) -> tuple[Float[Tensor, "channel 1 1"], Float[Tensor, "channel 1 1"]]:
    """The normalised values of a black and of a white pixel in each colour."""
    mean, std = torch.tensor(data.mean).view(-1, 1, 1), torch.tensor(data.std).view(-1, 1, 1)
    return (0.0 - mean) / std, (1.0 - mean) / std


@dataclass(frozen=True)
class Impair:
    """The loss of each real image on the retained labels, plus that of its noise image on its one label.

    Which noise image comes with a real one is keyed by the latter.

    Args:
        images, target: Of `Banks.learn`.
        forget, retain: Columns.
        strength: Weight of the noise.
        exclusive: Whether the columns are classes.
        seed: Key of the pairs.
    """

    images: Tensor
    target: Tensor
    forget: tuple[int, ...]
    retain: tuple[int, ...]
    strength: float
    exclusive: bool
    seed: int

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        draw = uniform(self.seed, "unsir/pair", batch.rows.cpu().numpy())
        pair = torch.from_numpy((draw * len(self.images)).astype(np.int64)).to(batch.rows.device)
        # one pass for both: BatchNorm is in eval mode, so that neither sees the other
        real, noise = model(torch.cat([batch.image, self.images[pair]])).split(len(batch.rows))
        wrong = Task(self.forget, self.exclusive, alone=True).loss(noise, self.target[pair])
        right = loss_of(exclusive=self.exclusive)(real, batch.target, self.retain)
        return right + self.strength * wrong


@dataclass(frozen=True)
class Unsir:
    """The repair of `unsir`: noise, impair, repair."""

    banks: Banks
    strength: float
    impair_steps: int
    repair_steps: int
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
        images, target = self.banks.learn(original, request, data, run)
        retained, retain = retain_part(data, request)
        wrong = Impair(images, target, request.columns, retain, self.strength, data.exclusive, run.seed)
        held = held_rows(model, request, earlier_only=True)
        with in_eval_mode(norms(model)):
            impaired = brief(
                model,
                wrong,
                retained,
                phase(run, "unsir/impair"),
                steps=self.impair_steps,
                lr=self.lr,
                after=[held],
                stage="impair",
            )
        # what earlier requests removed is kept away from here on: impairing with the guard diverged
        right, retained, read = retained_loss(original, request, data, run)
        held = held_rows(model, request)
        repaired = brief(
            model,
            right,
            retained,
            phase(run, "unsir/repair"),
            steps=self.repair_steps,
            lr=self.lr,
            after=[held],
            images_read=read,
        )
        noise = len(images) * self.banks.steps + impaired.images_processed
        return joined([impaired, repaired], others=noise)


def bill(unlearner: object, options: Mapping[str, Any], budget: Budget) -> Bill:
    """Learning the noise, impairing (each image beside one of noise), repairing."""
    steps = options["impair_steps"] + options["repair_steps"]
    noise = 2 * options["noise"] * budget.labels * options["noise_steps"]
    return Bill(steps, (steps + options["impair_steps"]) * budget.batch_size + noise + budget.guard)


def sizes(options: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """So many steps in all, impairing and repairing in the proportion that the options have."""
    whole = options["impair_steps"] + options["repair_steps"]
    impair = max(1, steps * options["impair_steps"] // whole)
    return {"impair_steps": impair, "repair_steps": max(0, steps - impair)}
