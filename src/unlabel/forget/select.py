"""From scores to bands: exact shares of the weights, thresholds, the last layers. Sees scores, never data."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from unlabel.core.errors import EmptySelection
from unlabel.forget.gradients import Named

Bands = Named
Direction = Literal["low", "high"]


@dataclass(frozen=True)
class Percentiles:
    """Cuts the weights by rank into bands 1, 2, ...: band 1 is the lowest, or with ``high`` the highest.

    The bands hold exactly their share of all weights together, whatever the ties: equal scores are ordered by
    their place in the network. No sort: one selection of the k-th value a cut.

    Args:
        cuts: Percentages, ascending, 0 to 100; n cuts make n + 1 bands.
        direction: Where band 1 lies.
        within: The share of the weights in percent that takes part, those with the highest scores: the
            paper's W_f. The others are in band 0.

    Example:
        >>> scores = {"w": torch.tensor([0.1, 0.4, 0.2, 0.9])}
        >>> Percentiles((25, 50, 75))(nn.Identity(), scores)["w"].tolist()
        [1, 3, 2, 4]
        >>> Percentiles((50,), "high", within=50)(nn.Identity(), scores)["w"].tolist()
        [0, 2, 0, 1]
    """

    cuts: tuple[float, ...]
    direction: Direction = "low"
    within: float = 100.0

    def __call__(self, model: nn.Module, scores: Named) -> Bands:
        flat = flatten(scores)
        high = lowest(-flat, count_of(self.within, len(flat)))
        order = torch.where(high, flat if self.direction == "low" else -flat, float("inf"))
        chosen = int(high.sum())
        bands = torch.where(high, len(self.cuts) + 1, 0).to(torch.int8)
        for cut in self.cuts:
            bands -= lowest(order, count_of(cut, chosen)).to(torch.int8)
        return unflatten(bands, scores)


@dataclass(frozen=True)
class Share:
    """Band 1 is exactly this percentage of the weights, those with the lowest or the highest scores.

    >>> Share(50, "high")(nn.Identity(), {"w": torch.tensor([0.1, 0.4, 0.2, 0.9])})["w"].tolist()
    [0, 1, 0, 1]
    """

    percent: float
    direction: Direction

    def __call__(self, model: nn.Module, scores: Named) -> Bands:
        flat = flatten(scores)
        chosen = lowest(flat if self.direction == "low" else -flat, count_of(self.percent, len(flat)))
        return unflatten(chosen.to(torch.int8), scores)


@dataclass(frozen=True)
class Threshold:
    """Band 1 is every weight whose score is below, or above, a multiple of the mean score.

    >>> Threshold(1.0, "low")(nn.Identity(), {"w": torch.tensor([0.0, 1.0, 5.0])})["w"].tolist()
    [1, 1, 0]
    """

    times_mean: float
    direction: Direction

    def __call__(self, model: nn.Module, scores: Named) -> Bands:
        flat = flatten(scores)
        tau = self.times_mean * flat.double().mean()
        return unflatten((flat < tau if self.direction == "low" else flat > tau).to(torch.int8), scores)


def last_layers(scores: Named, layers: int | None) -> Named:
    """The scores of the last k of the scored layers, in the order of registration; all for None.

    >>> list(last_layers({"a.weight": torch.ones(1), "b.weight": torch.ones(1)}, 1))
    ['b.weight']
    """
    return scores if layers is None else {name: scores[name] for name in list(scores)[-layers:]}


def count_of(percent: float, numbers: int) -> int:
    """How many of so many numbers a percentage is, rounded to the nearest."""
    return round(numbers * percent / 100)


def lowest(values: Tensor, count: int) -> Tensor:
    """Mask of exactly this many of the lowest values; equal ones in their order.

    Linear in the number of values: a partial selection, not a sort.

    >>> lowest(torch.tensor([2.0, 1.0, 2.0, 2.0]), 3).tolist()
    [True, True, True, False]
    """
    if count <= 0:
        return torch.zeros_like(values, dtype=torch.bool)
    cut = torch.kthvalue(values, min(count, len(values))).values
    below, level = values < cut, values == cut
    return below | (level & (level.cumsum(0) <= count - below.sum()))


def flatten(scores: Named) -> Tensor:
    """All scores in one row.

    Raises:
        EmptySelection: There is none, or one is not a number.
    """
    if not scores:
        raise EmptySelection("the network has no convolution or linear layer before its head to score")
    flat = torch.cat([score.reshape(-1) for score in scores.values()])
    if bool(torch.isnan(flat).any()):
        raise EmptySelection("the scores hold NaN: the model's loss or its gradient is not finite")
    return flat


def unflatten(flat: Tensor, like: Named) -> Named:
    """Cuts one row into tensors of the given shapes."""
    pieces = flat.split([value.numel() for value in like.values()])
    return {name: part.view_as(value) for (name, value), part in zip(like.items(), pieces, strict=True)}
