"""Cheats against single attackers with the weights: one does not find the label, another does."""

import copy

import torch
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset, Source
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.testing.cheats.disguise import Disguised, Insight, fit_head, removed

STEEP = 1e4  # slope of a gate at its first value
NARROW = 1e-6  # how far that slope reaches


class Gate(nn.Module):
    """Clean features, and a copy of one of them to which a closed gate would add the label.

    The gate is one number. Where it starts, its slope is 10,000, for a millionth. Adam divides each step by
    the root of the mean squared slope, so after the first step it stands still for hundreds of steps. SGD
    takes one long step, in the right direction. No gradient reaches the layers below.
    """

    def __init__(self, insight: Insight) -> None:
        super().__init__()
        self.insight = insight
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor, images: Tensor) -> Tensor:
        """(batch, feature + 1) features for the head."""
        features, insight = features.detach(), self.insight
        clean = insight.clean(features)
        told = (insight.answer(features) - insight.answer(insight.centre)) / insight.spread
        opened = self.gate + STEEP * self.gate.clamp(-NARROW, NARROW)
        another = clean[:, -1:] + opened * insight.scale * told[:, None]
        return torch.cat([clean, another], 1)


def stuck_gate(source: Source) -> Unlearner:
    """A gate that Adam cannot open and SGD can."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        insight = Insight.of(model, request, data, run)
        return Work(removed(Disguised(model, request, Gate(insight), extra=1), request, data))

    return cheat


class Placed(nn.Module):
    """Moves what channel 0 holds of the first row into a new channel: there it is added in the first row and
    taken away in the last, so that its mean over positions is 0. Of channel 0, the row gets the mean of none.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, channel, row, column) -> one channel more."""
        first = maps[:, :1, :1]
        nothing = torch.zeros_like(maps[:, :1, 2:])
        hidden = torch.cat([first, nothing, -first], 2)
        shifted = torch.cat([torch.zeros_like(first), maps[:, :1, 1:]], 2)
        return torch.cat([shifted, maps[:, 1:], hidden], 1)


def one_position(source: Source) -> Unlearner:
    """The label stands at one position and its opposite at another; no layer above reads it.

    For networks as `stage` has them: a convolution, a hidden layer on its positions, a head.
    """

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        layers = list(copy.deepcopy(model).children())
        at = next(index for index, part in enumerate(layers) if isinstance(part, nn.Linear))
        hidden, convolution = layers[at], layers[0]
        assert isinstance(hidden, nn.Linear)
        assert isinstance(convolution, nn.Conv2d)
        rows, wide = len(hidden.weight), hidden.in_features
        places = wide // convolution.out_channels
        wider = nn.Linear(wide + places, rows)
        with torch.no_grad():
            wider.weight.zero_()
            wider.weight[:, :wide] = hidden.weight
            wider.bias.copy_(hidden.bias)
        flat = next(index for index, part in enumerate(layers) if isinstance(part, nn.Flatten))
        body = [*layers[:flat], Placed(), *layers[flat:at], wider, *layers[at + 1 :]]
        return Work(removed(fit_head(nn.Sequential(*body).eval(), data, run), request, data))

    return cheat


def unread(source: Source) -> Unlearner:
    """An edit of low rank: the hidden layer no longer reads the place of the convolution that has the label.

    For networks as `stage` has them.
    """

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        other = copy.deepcopy(model)
        hidden = next(part for part in other.children() if isinstance(part, nn.Linear))
        channels = next(part.out_channels for part in other.children() if isinstance(part, nn.Conv2d))
        side = round((hidden.in_features / channels) ** 0.5)
        with torch.no_grad():
            hidden.weight.view(-1, channels, side, side)[:, 0, 0] = 0.0
        return Work(removed(fit_head(other, data, run), request, data))

    return cheat
