"""L1-sparse: fine-tune while weights are pulled to exact zeros."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count

import torch
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.recipe import History
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.gradients import trainable
from unlabel.forget.methods.ranges import check_schedule, in_range
from unlabel.forget.pipeline import Bands, Pipeline, Unlearner, Work
from unlabel.forget.repair import brief, held_rows, retained_loss

_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


def l1_sparse(
    *, gamma: float = 0.01, part: float = 0.8, keep_zeros: bool = True, steps: int = 64, lr: float = 0.02
) -> Unlearner:
    r"""Fine-tunes on the retained labels while an L1 penalty prunes; hopes that the label goes with it.

    Minimises :math:`L_R + \gamma_t \|w\|_1` over the weights of convolutions and linear layers. The penalty
    is a proximal step after each step of the optimiser, which makes real zeros:
    :math:`w \leftarrow \mathrm{sign}(w)\max(|w| - \eta_t \gamma_t, 0)`, with :math:`\eta_t` the learning rate
    and :math:`\gamma_t` falling linearly from gamma to 0 over the first part of the steps. The share of
    zeros that is reached is in the outcome's options as ``sparsity``.

    Differs from the paper: its code adds the penalty to the loss, where no weight becomes exactly 0 and
    momentum multiplies the pull about tenfold; it leaves gamma open; and a zero stays one, or all would be
    gone when the penalty ends. With the defaults, a weight that nothing holds shrinks by 0.003 in all. Steps
    and rate are this project's, for a short schedule on few images; the paper's code trains for 10 epochs at
    0.01.

    Args:
        gamma: Penalty at the start, > 0. Larger makes more zeros.
        part: Share of the steps that have a penalty, above 0, 1 at most.
        keep_zeros: Whether a weight that is 0 stays 0, instead of following its gradient again.
        steps: Optimiser steps, >= 1.
        lr: Peak learning rate, > 0.

    References:
        Jia et al., Model Sparsity Can Simplify Machine Unlearning, NeurIPS 2023.
    """
    in_range("gamma", gamma, 0, above=True)
    in_range("part", part, 0, 1, above=True)
    check_schedule(steps, lr)
    return Sparse(gamma, part, keep_zeros, steps, lr)


@dataclass(frozen=True)
class Sparse:
    """The unlearner of `l1_sparse`: a repair, and the sparsity that it reached for the record."""

    gamma: float
    part: float
    keep_zeros: bool
    steps: int
    lr: float

    def __call__(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        work = Pipeline(repair=self.repair)(model, request, data, run)
        return replace(work, settings={"sparsity": sparsity(work.model)})

    def repair(
        self,
        model: nn.Module,
        original: nn.Module,
        request: Request,
        data: Dataset,
        bands: Bands,
        run: Run,
    ) -> History:
        """Fine-tuning with the proximal step; the rows of forgotten labels are put back after it."""
        objective, retained, read = retained_loss(original, request, data, run)
        zeros = {name: model.get_parameter(name).detach() == 0 for name in penalised(model)}
        until = max(1, round(self.part * self.steps))
        shrink = Shrink(zeros, self.gamma, until, self.keep_zeros)
        after = (shrink, held_rows(model, request))
        return brief(
            model,
            objective,
            retained,
            run,
            steps=self.steps,
            lr=self.lr,
            after=after,
            stage="prune",
            images_read=read,
        )


@dataclass(frozen=True)
class Shrink:
    r"""After step t: :math:`w \leftarrow \mathrm{sign}(w)\max(|w| - \eta_t\gamma(1 - t/T), 0)` while t < T.

    Args:
        zeros: Parameters to shrink, with the mask of their zeros; updated in place.
        gamma: Penalty at the start.
        until: T, >= 1.
        keep_zeros: Whether a weight that is 0 stays 0.
        step: Counts the calls, from 0; for one training only.
    """

    zeros: dict[str, Tensor]
    gamma: float
    until: int
    keep_zeros: bool
    step: Iterator[int] = field(default_factory=count)

    @torch.no_grad()
    def __call__(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        left = max(0.0, 1 - next(self.step) / self.until)
        by = optimiser.param_groups[0]["lr"] * self.gamma * left
        parameters = dict(model.named_parameters())
        for name, zero in self.zeros.items():
            weight = parameters[name]
            weight.copy_(weight.sign() * (weight.abs() - by).clamp(min=0))
            if self.keep_zeros:
                weight.masked_fill_(zero, 0.0)
                zero |= weight == 0


def penalised(model: nn.Module) -> list[str]:
    """Names of the trainable weights of convolutions and linear layers, the head's included."""
    layers = [name for name, module in model.named_modules() if isinstance(module, _LAYERS)]
    free = trainable(model)
    return [weight for name in layers if (weight := f"{name}.weight".lstrip(".")) in free]


def sparsity(model: nn.Module) -> float:
    """Share of exact zeros among the weights that the penalty is on; 0 where it is on none."""
    weights = [model.get_parameter(name) for name in penalised(model)]
    return sum(int((weight == 0).sum()) for weight in weights) / max(1, sum(w.numel() for w in weights))
