"""UNDO: noise on all weights, then distillation from the outputs that were kept."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from unlabel.core.engine import Run
from unlabel.core.recipe import History
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.bill import Bill, Budget
from unlabel.forget.distill import Network, untaught
from unlabel.forget.fresh import copy_rows
from unlabel.forget.halves import retain_part
from unlabel.forget.methods.ranges import check_schedule, in_range
from unlabel.forget.methods.scrub import Near
from unlabel.forget.pipeline import Bands, Pipeline, Unlearner
from unlabel.forget.repair import Aim, Train
from unlabel.models.head import find_head


def undo(
    *, alpha: float = 0.6, beta: float = 0.1, truth: float = 0.5, steps: int = 188, lr: float = 0.05
) -> Unlearner:
    r"""Damages all weights with noise, then teaches the network again what its retained outputs said.

    1. Unlearn: the forgotten outputs are taken away. What is left of the original, its retained outputs, is
       the teacher.
    2. Noise: :math:`w \leftarrow (1 - \alpha)\, w + \alpha \beta\, n`, with n the weights of the same network
       before any training.
    3. Distil: ``truth label_loss(retained) + (1 - truth) KL(teacher || student)`` on the retained labels.
       What nobody asks for is not learnt again.

    More alpha forgets more and needs more steps: at alpha 1 and beta 1 a new network is taught.

    A warning that goes with every distillation from the original: its retained outputs carry the forgotten
    label, and a student that matches them learns it again; truth 1 trains on annotations only.

    Differs from the paper: it suppresses by a training of its own, for which removing the output stands here;
    its noise n is Xavier-uniform for matrices and 0 for vectors, here n is what torch gives to new modules,
    and vectors (biases, scales of normalisations) go towards their new values without beta, since a scale of
    0 would silence a layer. It distils on outputs alone until they are nearly the teacher's, here the steps
    are given and the retained annotations count, too. A divergence of each label by itself; of exclusive
    classes that of their softmax. The forgotten labels' rows keep their weights.

    Args:
        alpha: Share of noise, 0 to 1; 0 leaves the weights.
        beta: Size of the noise, 0 to 10, in units of new weights; the paper's is 0.1.
        truth: Share of the annotations in the loss, 0 to 1; the paper's is 0.
        steps: Optimiser steps, >= 1.
        lr: Peak learning rate, > 0.

    References:
        Lee et al., Distillation Robustifies Unlearning, NeurIPS 2025 (arXiv 2506.06278).
    """
    in_range("alpha", alpha, 0, 1)
    in_range("beta", beta, 0, 10)
    in_range("truth", truth, 0, 1)
    check_schedule(steps, lr)
    return Pipeline(repair=NoiseAndDistil(alpha, beta, truth, steps, lr))


@dataclass(frozen=True)
class NoiseAndDistil:
    """The repair of `undo`; its bill counts the teacher's passes."""

    alpha: float
    beta: float
    truth: float
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
        mix(model, untaught(original, run.seed).model, self.alpha, self.beta)
        outputs = len(request.labels)
        copy_rows(find_head(model, outputs)[1], find_head(original, outputs)[1], request.masked_columns)
        history = Train(self.aim, self.steps, self.lr, stage="distil")(
            model, original, request, data, bands, run
        )
        taught = self.steps * run.batch_size if self.truth < 1 else 0
        return replace(history, images_processed=history.images_processed + taught)

    def aim(self, original: nn.Module, request: Request, data: Dataset, run: Run) -> Aim:
        """The retained labels' annotations and the original's answers for them."""
        part, columns = retain_part(data, request)
        teacher = Network(original)
        return Aim(Near(teacher, columns, self.truth, 1 - self.truth, 1.0, data.exclusive), part)


@torch.no_grad()
def mix(model: nn.Module, fresh: nn.Module, alpha: float, beta: float) -> None:
    """Moves all weights towards those of an untrained network, in place; frozen ones stay.

    Args:
        model: Changed in place; its running statistics move as vectors do.
        fresh: The same network with new weights.
        alpha: Share of the new weights.
        beta: Factor on the new numbers of matrices and filters; vectors have none.

    Example:
        >>> old, new = nn.Linear(1, 1), nn.Linear(1, 1)
        >>> for layer, value in ((old, 8.0), (new, 4.0)):
        ...     _ = layer.requires_grad_(True), layer.weight.data.fill_(value), layer.bias.data.fill_(value)
        >>> mix(old, new, 0.5, 0.1)
        >>> old.weight.item(), old.bias.item()
        (4.199999809265137, 6.0)
    """
    if alpha == 0:
        return
    new = fresh.state_dict()
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            size = beta if weight.ndim > 1 else 1.0
            weight.copy_((1 - alpha) * weight + alpha * size * new[name])
    for name, buffer in model.named_buffers():
        if name in new and buffer.is_floating_point():
            buffer.copy_((1 - alpha) * buffer + alpha * new[name])


def bill(unlearner: object, options: Mapping[str, Any], budget: Budget) -> Bill:
    """Every image is shown to the student, and to the teacher unless annotations alone count."""
    shown = options["steps"] * budget.batch_size
    taught = shown if options["truth"] < 1 else 0
    return Bill(options["steps"], shown + taught + budget.guard)
