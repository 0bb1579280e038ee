"""Constrained fine-tuning: the paper's Algorithm 3. Edited weights may move, but only within epsilon."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.recipe import History
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.edit import spread
from unlabel.forget.pipeline import Bands, Named
from unlabel.forget.repair import brief, held_rows, retained_loss

Unit = Literal["std", "absolute"]


@dataclass(frozen=True)
class Clamp:
    r"""After each step: :math:`w \leftarrow \min(\max(w, a - \epsilon), a + \epsilon)` where the mask holds.

    The momentum of a weight that was stopped at its bound is cleared, or it would stay pressed against it. At
    epsilon 0 the weights keep the bits of the anchor.

    Args:
        anchors: Parameter name -> (mask, anchor a, epsilon) of the weights that are held.
        slow: Parameter name -> (mask, values before the step) of weights that train at a reduced rate; the
            values are updated in place.
        rate: Factor on the steps of the slow weights, 0 to 1.
    """

    anchors: dict[str, tuple[Tensor, Tensor, Tensor]]
    slow: dict[str, tuple[Tensor, Tensor]]
    rate: float

    @torch.no_grad()
    def __call__(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        parameters = dict(model.named_parameters())
        for name, (mask, before) in self.slow.items():
            weight = parameters[name]
            weight.copy_(torch.where(mask, before + self.rate * (weight - before), weight))
            before.copy_(weight)
        for name, (mask, anchor, epsilon) in self.anchors.items():
            weight = parameters[name]
            held = torch.maximum(torch.minimum(weight, anchor + epsilon), anchor - epsilon)
            stopped = mask & (held != weight)
            # a bound of 0 would turn -0.0 into 0.0
            weight.copy_(torch.where(mask, held if epsilon > 0 else anchor, weight))
            momentum = optimiser.state.get(weight, {}).get("momentum_buffer")
            if momentum is not None:
                momentum.masked_fill_(stopped, 0.0)


@dataclass(frozen=True)
class Constrained:
    """Fine-tunes on the retained columns' true labels while the edited weights stay within epsilon.

    The paper differentiates "the unmodified weights" as if they were data; here all weights train, on the
    retained columns of the calibration images, and the edited ones are clamped after every step.

    Args:
        steps: Optimiser steps; 0 for none.
        lr: Peak learning rate of the one-cycle schedule.
        epsilon: How far an edited weight may move, >= 0; 0 keeps its bits.
        unit: ``std``, of the original tensor's numbers, or ``absolute`` as printed.
        clamped: Bands whose weights are held.
        slow: Band that trains at a reduced rate, or None.
        slow_rate: The paper's alpha_r as a factor on the learning rate, 0 to 1.
    """

    steps: int
    lr: float
    epsilon: float
    unit: Unit
    clamped: tuple[int, ...]
    slow: int | None = None
    slow_rate: float = 1.0

    def __call__(
        self,
        model: nn.Module,
        original: nn.Module,
        request: Request,
        data: Dataset,
        bands: Bands,
        run: Run,
    ) -> History:
        objective, retained, read = retained_loss(original, request, data, run)
        after = (self.clamp(model, original, bands), held_rows(model, request))
        return brief(
            model, objective, retained, run, steps=self.steps, lr=self.lr, after=after, images_read=read
        )

    def clamp(self, model: nn.Module, original: nn.Module, bands: Bands) -> Clamp:
        """The bounds around the edited model's weights as they are now."""
        now: Named = {name: value.detach() for name, value in model.named_parameters()}
        before: Named = {name: value.detach() for name, value in original.named_parameters()}
        anchors, slow = {}, {}
        for name, band in bands.items():
            band = band.to(now[name].device)
            held = torch.isin(band, torch.tensor(self.clamped, dtype=band.dtype, device=band.device))
            unit = spread(before[name]) if self.unit == "std" else torch.ones((), device=band.device)
            if bool(held.any()):
                anchors[name] = held, now[name].clone(), self.epsilon * unit
            if self.slow is not None and self.slow_rate != 1.0 and bool((band == self.slow).any()):
                slow[name] = band == self.slow, now[name].clone()
        return Clamp(anchors, slow, self.slow_rate)
