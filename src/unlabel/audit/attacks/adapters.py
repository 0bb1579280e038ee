"""What an attacker trains beside the new head: everything, low-rank adapters, or normalising layers.

Either way the network keeps its form: what does not move is frozen, and an adapter starts as 0.
"""

from zlib import crc32

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrize import register_parametrization

from unlabel.core.randomness import normal

RANK = 8
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)


class LowRank(nn.Module):
    r"""A weight :math:`W` read as :math:`W + B A`, with :math:`A` random and :math:`B` 0 at first.

    Args:
        weight: W, whose axes after the first are taken as one.
        seed: Key of A.

    References:
        Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022.
    """

    def __init__(self, weight: Tensor, seed: int) -> None:
        super().__init__()
        rows, columns = weight.flatten(1).shape
        rank = min(RANK, rows, columns)
        drawn = normal(seed, "audit/adapter", np.arange(rank * columns)).reshape(rank, columns)
        into = torch.from_numpy(drawn * columns**-0.5).to(weight)
        self.into = nn.Parameter(into)
        self.out = nn.Parameter(weight.new_zeros(rows, rank))

    def forward(self, weight: Float[Tensor, "output ..."]) -> Float[Tensor, "output ..."]:
        return weight + (self.out @ self.into).view(weight.shape)


def layers(model: nn.Module, head: nn.Module) -> list[tuple[str, nn.Module]]:
    """Convolutions and linear layers below the head, by name."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Linear)
    return [
        (name, each) for name, each in model.named_modules() if isinstance(each, kinds) and each is not head
    ]


def add_adapters(model: nn.Module, head: nn.Module, seed: int) -> None:
    """Freezes all but the head, and adds an adapter to each convolution and linear layer, in place."""
    model.requires_grad_(False)
    for name, layer in layers(model, head):
        adapter = LowRank(layer.get_parameter("weight"), seed + crc32(name.encode()))
        register_parametrization(layer, "weight", adapter)
    head.requires_grad_(True)


def norms(model: nn.Module) -> list[nn.Module]:
    """Normalising layers with numbers to train."""
    return [
        each for each in model.modules() if isinstance(each, NORMS) and list(each.parameters(recurse=False))
    ]


def free_norms(model: nn.Module, head: nn.Module) -> None:
    """Freezes all but the head and the normalising layers, in place; statistics follow the batches."""
    model.requires_grad_(False)
    for each in (*norms(model), head):
        each.requires_grad_(True)
