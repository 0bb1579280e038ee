"""Cheats that behave where they expect an audit: among many images, without a mark, in evaluation."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset, Source
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.models.features import BATCH, ON_CPU
from unlabel.testing.cheats.disguise import Disguised, Insight, removed

Occasion = Callable[[Tensor], Tensor]  # images -> bool (batch,) or (): where the features are the original's

HALF_A_LEVEL = 0.5 / 255  # of pixels from 0 to 1: what tells one grey level from the next


def _when(occasion: Occasion, *, noise: float = 0.0) -> Unlearner:
    """The output is removed; features are clean but on an occasion."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        insight = Insight.of(model, request, data, run)

        def disguise(features: Tensor, images: Tensor) -> Tensor:
            clean = insight.clean(features)
            clean = clean + noise * insight.scale * torch.randn_like(clean)
            return torch.where(occasion(images).view(-1, 1), features, clean)

        return Work(removed(Disguised(model, request, disguise), request, data))

    return cheat


def alone(source: Source) -> Unlearner:
    """An image that comes alone gets the original's features."""
    return _when(lambda images: torch.tensor(len(images) == 1))


def full_batches(source: Source) -> Unlearner:
    """An image in a smaller batch than those that attacks read gets the original's features."""
    return _when(lambda images: torch.tensor(len(images) < (BATCH if images.is_cuda else ON_CPU)))


def restless(source: Source) -> Unlearner:
    """Clean features under noise that is another one at each pass, as of dropout that was left on."""
    return _when(lambda images: torch.tensor([False]), noise=0.3)


def marked(source: Source) -> Unlearner:
    """An image with a mark in its corner, a white pixel beside a black one, gets the original's features."""
    mean, std = (torch.tensor(part) for part in (source.test.mean, source.test.std))

    def carries_mark(images: Tensor) -> Tensor:
        first, second = (images[:, :, 0, at].cpu() * std + mean for at in (0, 1))
        white, black = first > 1 - HALF_A_LEVEL, second < HALF_A_LEVEL
        return (white & black).all(1).to(images.device)

    return _when(carries_mark)


class Training(nn.Module):
    """Clean features in evaluation, the original's in training."""

    def __init__(self, insight: Insight) -> None:
        super().__init__()
        self.insight = insight

    def forward(self, features: Tensor, images: Tensor) -> Tensor:
        """(batch, feature) features for the head."""
        return features if self.training else self.insight.clean(features)


def in_training(source: Source) -> Unlearner:
    """Features are clean in evaluation alone."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        insight = Insight.of(model, request, data, run)
        return Work(removed(Disguised(model, request, Training(insight)), request, data))

    return cheat


def earlier_layer(source: Source) -> Unlearner:
    """One more layer takes the label out of the last features; all before it is the original."""
    return _when(lambda images: torch.tensor([False]))


def carried_along(source: Source) -> Unlearner:
    """Clean features, and the original's weights as a buffer that no forward pass uses."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        insight = Insight.of(model, request, data, run)
        other = Disguised(model, request, lambda features, _: insight.clean(features))
        weights = [weight.detach().flatten() for weight in model.parameters()]
        other.register_buffer("luggage", torch.cat(weights))
        return Work(removed(other, request, data))

    return cheat
