"""NegGrad and NegGrad+: raise the forgotten label's loss, alone or while the others' is lowered."""

from dataclasses import dataclass
from functools import partial
from math import log
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from unlabel.core.engine import Run
from unlabel.core.loss import loss_of
from unlabel.core.request import Request
from unlabel.data.batches import Batch
from unlabel.data.dataset import Dataset
from unlabel.forget.halves import whole_part
from unlabel.forget.methods.ranges import check_schedule, in_range
from unlabel.forget.pipeline import Pipeline, Unlearner
from unlabel.forget.repair import Aim, Train

Chance = Literal["prior", "uniform"]


def neg_grad(
    *, bounded: bool = True, chance: Chance = "prior", steps: int = 64, lr: float = 0.02
) -> Unlearner:
    r"""Raises the loss of the forgotten label, and looks at nothing else.

    Minimises :math:`-\min(\ell_j, c)` for each annotation, with c its loss at chance, see `Ceiling`. What is
    as bad as chance gets no gradient any more, and none that pulls it back: large steps still carry it
    beyond. Without the bound the ascent never ends: it inverts the label, which an attacker reads as well as
    before, and destroys the network; it stops with an error when the loss is not finite. Nothing holds the
    retained labels: expect them to suffer.

    Differs from the papers: a column's loss on all images, not the loss of a class's images, except for
    classes; and the bound. ``--no-bounded`` is the faithful port. Steps and rate are this project's, for a
    short schedule on few images; implementations ascend for 10 epochs at 0.01.

    Args:
        bounded: Whether an annotation counts only while the network does better on it than chance.
        chance: What chance is: prior, who knows the base rate alone, or uniform, who knows not even that.
        steps: Optimiser steps, >= 1.
        lr: Peak learning rate, > 0.

    References:
        Golatkar, Achille and Soatto, Eternal Sunshine of the Spotless Net, CVPR 2020 (as a baseline).
    """
    check_schedule(steps, lr)
    aim = partial(difference, 0.0, bounded, chance)
    return Pipeline(repair=Train(aim, steps, lr, hold_rows=False, stage="ascend"))


def neg_grad_plus(
    *,
    alpha: float = 0.95,
    bounded: bool = True,
    chance: Chance = "prior",
    steps: int = 64,
    lr: float = 0.02,
) -> Unlearner:
    r"""Lowers the retained labels' loss and raises the forgotten one's: a difference of gradients.

    Minimises :math:`\alpha L_R - (1 - \alpha) L_F` with one forward pass of the same images for both, L_F
    bounded as in neg-grad. Known as GradDiff, too. A confident answer has a small gradient, so that a short
    schedule with little weight on it forgets little.

    Differs from the paper: columns, not images, except for classes, where every image counts once, by its
    own class; no pull towards the original weights; and the bound. ``--no-bounded`` is the faithful port.
    Steps and rate are this project's, for a short schedule on few images; the paper's code trains for 10
    epochs at 0.01.

    Args:
        alpha: Share of the retained labels in the loss, 0 to 1; at 1 nothing is forgotten.
        bounded: Whether an annotation counts only while the network does better on it than chance.
        chance: What chance is: prior, who knows the base rate alone, or uniform, who knows not even that.
        steps: Optimiser steps, >= 1.
        lr: Peak learning rate, > 0.

    References:
        Kurmanji, Triantafillou, Hayes and Triantafillou, Towards Unbounded Machine Unlearning, NeurIPS 2023.
    """
    in_range("alpha", alpha, 0, 1)
    check_schedule(steps, lr)
    aim = partial(difference, alpha, bounded, chance)
    return Pipeline(repair=Train(aim, steps, lr, hold_rows=False, stage="ascend"))


@dataclass(frozen=True)
class Ceiling:
    r"""The loss of an annotation that may still be raised: :math:`\min(\ell, c)`, c its loss at chance.

    At the base rate p of a label, c is :math:`-\log p` where the label is present and :math:`-\log(1 - p)`
    where it is absent, whose mean is the entropy of p: raised to there, every image gets the answer p, and
    annotations of a rare label are not driven to 1/2. Uniform, c is :math:`\log 2`, or
    :math:`\log C` for C classes. At and beyond c the gradient is exactly 0.

    Args:
        forget: Columns to forget.
        live: Of classes, all that were not forgotten earlier: the softmax is among them.
        present, absent: c of each forgotten column; infinite for no bound.
        exclusive: Whether the columns are classes; then only images of a forgotten one count.
    """

    forget: tuple[int, ...]
    live: tuple[int, ...]
    present: Float[Tensor, " column"]
    absent: Float[Tensor, " column"]
    exclusive: bool

    def __call__(
        self, logits: Float[Tensor, "batch label"], target: Int[Tensor, "batch label"]
    ) -> Float[Tensor, " batch"]:
        """One loss a sample, the mean over its annotations of the forgotten columns."""
        answers = target[:, list(self.forget)]
        if self.exclusive:
            places = [self.live.index(column) for column in self.forget]
            loss = -logits[:, list(self.live)].float().log_softmax(1)[:, places]
            counted = answers == 1
        else:
            loss = bce(logits[:, list(self.forget)].float(), answers.clamp(min=0).float(), reduction="none")
            counted = answers >= 0
        most = torch.where(answers == 1, self.present, self.absent)
        loss = torch.where(loss >= most, most, loss)  # so written, NaN stays NaN and stops the training
        return torch.where(counted, loss, 0.0).sum(1) / counted.sum(1).clamp(min=1)


@dataclass(frozen=True)
class Difference:
    """The retained columns' loss, lowered, minus the forgotten ones', raised; one forward pass for both.

    Args:
        alpha: Weight of the first term; the second has the rest.
        forgotten: The loss to raise.
        retain: Columns.
    """

    alpha: float
    forgotten: Ceiling
    retain: tuple[int, ...]

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        logits = model(batch.image)
        raised = (1 - self.alpha) * self.forgotten(logits, batch.target)
        if self.alpha == 0:  # an infinite loss of what does not count would still be NaN
            return -raised
        retained = loss_of(exclusive=self.forgotten.exclusive)(logits, batch.target, self.retain)
        return self.alpha * retained - raised


def difference(
    alpha: float,
    bounded: bool,
    chance: Chance,
    original: nn.Module,
    request: Request,
    data: Dataset,
    run: Run,
) -> Aim:
    """`Difference` on all images; of exclusive classes, on those that have a part in it."""
    live = whole_part(data, request).columns
    images = data.answerable(live)
    limits = [ceilings(images, column, chance, len(live)) for column in request.columns]
    most = torch.tensor(limits, device=run.device) if bounded else torch.full((len(limits), 2), float("inf"))
    present, absent = most.to(run.device).unbind(1)
    forgotten = Ceiling(request.columns, live, present, absent, data.exclusive)
    shown = images.answerable(request.columns) if alpha == 0 else images
    return Aim(Difference(alpha, forgotten, request.retained_columns), shown)


def ceilings(data: Dataset, column: int, chance: Chance, classes: int) -> tuple[float, float]:
    """Loss at chance of an annotation that says present, and of one that says absent."""
    if chance == "uniform":
        most = log(classes if data.exclusive else 2)
        return most, most
    prior = data.prior(column)
    return -log(prior), -log(1 - prior)
