"""Rules that edit the weights of one band: ``(weight, score, rng) -> new weight``. `pipeline.keep` is one."""

from dataclasses import dataclass

import torch
from torch import Tensor


def zero(weight: Tensor, score: Tensor, rng: torch.Generator) -> Tensor:
    """Sets weights to 0.

    >>> zero(torch.tensor([1.0, -2.0]), torch.zeros(2), torch.Generator()).tolist()
    [0.0, 0.0]
    """
    return torch.zeros_like(weight)


@dataclass(frozen=True)
class Noise:
    """Replaces weights by Gaussian noise N(0, sigma^2).

    Args:
        sigma: Standard deviation, > 0, in units of the tensor's own.
    """

    sigma: float

    def __call__(self, weight: Tensor, score: Tensor, rng: torch.Generator) -> Tensor:
        draw = torch.randn(weight.shape, generator=rng).to(weight)
        return self.sigma * spread(weight) * draw


@dataclass(frozen=True)
class Decay:
    r"""Shrinks weights by their score: :math:`w e^{-\lambda I}`.

    Args:
        lam: Rate, >= 0; at 1 and a score of 1, weights fall to 37 %.

    Example:
        >>> Decay(1.0)(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0]), torch.Generator())
        tensor([1.0000, 0.3679])
    """

    lam: float

    def __call__(self, weight: Tensor, score: Tensor, rng: torch.Generator) -> Tensor:
        return weight * torch.exp(-self.lam * score).to(weight)


def spread(weight: Tensor) -> Tensor:
    """Standard deviation of a tensor's numbers around their mean; the unit of noise and of clamps."""
    return weight.detach().float().std(correction=0)
