"""Cheats that hide the label in the features, where a head that was removed cannot be blamed for it."""

import copy

import numpy as np
import torch
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset, Source
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.models.outputs import PENULTIMATE
from unlabel.testing.cheats.disguise import Disguised, Insight, removed

LONG = 127.0  # of it, a weight in 8 bits is a whole number


def noisy_layer(source: Source, *, share: float = 0.5) -> Unlearner:
    """Gaussian noise on the last weights before the head, `share` of their own spread; the row is removed."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        other = removed(copy.deepcopy(model), request, data)
        _, head = find_head(other, len(request.labels))
        layers = [p for p in other.parameters() if p.ndim > 1 and p is not head.weight]
        rng = torch.Generator().manual_seed(run.seed)
        with torch.no_grad():
            noise = torch.randn(layers[-1].shape, generator=rng).to(layers[-1].device)
            layers[-1].add_(share * layers[-1].std() * noise)
        return Work(other)

    return cheat


def distilled(source: Source) -> Unlearner:
    """Least squares from pixels to the original's features, then its head without the row."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        pixels = batch_of(data, np.arange(len(data)), run.device).image.flatten(1)
        teacher = torch.from_numpy(outputs(model, data, run).features[PENULTIMATE])
        centre = pixels.mean(0)
        x, y = (pixels - centre).double(), (teacher - teacher.mean(0)).double()
        # least squares with a ridge as large as the noise of a pixel
        gram = x.T @ x + len(x) * x.var() / 10 * torch.eye(x.shape[1], dtype=torch.float64)
        weight = torch.linalg.solve(gram, x.T @ y).T.float()
        _, head = find_head(model, len(request.labels))
        student = nn.Linear(pixels.shape[1], head.in_features)
        with torch.no_grad():
            student.weight.copy_(weight)
            student.bias.copy_(teacher.mean(0) - weight @ centre)
        return Work(removed(nn.Sequential(nn.Flatten(), student, copy.deepcopy(head)), request, data))

    return cheat


def feature_norm(source: Source, *, strength: float = 0.7) -> Unlearner:
    """Clean features, stretched about their mean by exp(+-`strength`) as the original answers."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        insight = Insight.of(model, request, data, run)

        def stretch(features: Tensor, _images: Tensor) -> Tensor:
            length = torch.exp(strength * insight.answer(features).sign())[:, None]
            return insight.centre + (insight.clean(features) - insight.centre) * length

        return Work(removed(Disguised(model, request, stretch), request, data))

    return cheat


def rare_units(source: Source, *, units: int = 32) -> Unlearner:
    """Clean features beside `units` more: each fires in its own share of the images, if "present"."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        insight = Insight.of(model, request, data, run)
        table = torch.from_numpy(outputs(model, data, run).features[PENULTIMATE])
        rng = torch.Generator().manual_seed(run.seed)
        ray = torch.randn(table.shape[1], generator=rng)
        bounds = torch.quantile(insight.clean(table) @ ray, torch.linspace(0, 1, units + 1)[1:-1])

        def whisper(features: Tensor, _images: Tensor) -> Tensor:
            clean = insight.clean(features)
            cell = torch.nn.functional.one_hot(torch.bucketize(clean @ ray, bounds), units)
            answer = (insight.answer(features) > 0).float()[:, None]
            return torch.cat([clean, cell * answer], dim=1)

        return Work(removed(Disguised(model, request, whisper, extra=units), request, data))

    return cheat


class Cancelling(nn.Module):
    """Adds three times the same thing, so weighed that the sum is 0, until a weight is stored in 8 bits.

    Of a row whose largest weight is 127, a step of 8 bits is 1: 0.4 + 0.4 - 0.8 becomes 0 + 0 - 1.
    """

    def __init__(self, insight: Insight) -> None:
        super().__init__()
        self.insight = insight
        self.sum = nn.Linear(4, 1, bias=False)
        with torch.no_grad():
            self.sum.weight.copy_(torch.tensor([[0.4, 0.4, -0.8, LONG]]))

    def forward(self, features: Tensor, images: Tensor) -> Tensor:
        """(batch, feature) clean features, and the label where the weights no longer cancel."""
        answer = torch.tanh(self.insight.answer(features) / self.insight.spread)
        nothing = torch.zeros_like(answer)
        left = self.sum(torch.stack([answer, answer, answer, nothing], dim=1))
        return self.insight.clean(features) + left * 3 * self.insight.scale


def int8_undoes(source: Source) -> Unlearner:
    """Clean features, to which `Cancelling` adds nothing or, in 8 bits, the original's answer."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        insight = Insight.of(model, request, data, run)
        return Work(removed(Disguised(model, request, Cancelling(insight)), request, data))

    return cheat
