"""A layer before the head that takes directions out of the features, for good: what `leace-layer` adds.

It is a module of the head itself, called before it, so that the head keeps its name and place, and everything
that reads "what the head reads" (probes, `tap`) meets the features without those directions. A run
folder records its rank in ``config.json`` and its numbers among the weights, as ``HEAD.eraser.*``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unlabel.core.errors import ModelError
from unlabel.core.layout import Layout
from unlabel.models.head import find_head

NAME = "eraser"


class Erase(nn.Module):
    r"""The affine map :math:`x - U (V x - c)`, computed in float64.

    Its numbers are buffers: no training moves them. So they are right for the features that they were
    fitted to, and have to be fitted again when those change: for which labels, it remembers.

    Args:
        out: U.
        into: V.
        level: c.
        labels: What it takes out; nothing where that is not known.

    Example:
        >>> first = Erase(torch.eye(3)[:, :1], torch.eye(3)[:1], torch.tensor([0.5]))
        >>> first(torch.tensor([[7.0, 8.0, 9.0]]))
        tensor([[0.5000, 8.0000, 9.0000]])
    """

    out: Tensor
    into: Tensor
    level: Tensor

    def __init__(
        self,
        out: Float[Tensor, "feature rank"],
        into: Float[Tensor, "rank feature"],
        level: Float[Tensor, " rank"],
        labels: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.labels = tuple(labels)
        for name, value in (("out", out), ("into", into), ("level", level)):
            self.register_buffer(name, value.detach().double().clone())

    @property
    def rank(self) -> int:
        """How many directions it takes out."""
        return len(self.level)

    def forward(self, features: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch feature"]:
        # converted here, too: a whole network may have been brought to half precision
        out, into, level = self.out.double(), self.into.double(), self.level.double()
        wide = features.double()
        return (wide - (wide @ into.T - level) @ out.T).to(features.dtype)

    def then(self, later: "Erase") -> "Erase":
        """One map that does what this one and then another does."""
        across = later.into @ self.out
        return Erase(
            torch.cat([self.out, later.out], 1),
            torch.cat([self.into, later.into - across @ self.into]),
            torch.cat([self.level, later.level - across @ self.level]),
            tuple(dict.fromkeys([*self.labels, *later.labels])),
        )


def insert_eraser(model: nn.Module, outputs: int, erase: Erase) -> None:
    """Puts a layer between a model's features and its head, after the one that may be there already.

    Args:
        model: Changed in place.
        outputs: Number of labels.
        erase: For as many features as the head reads.

    Raises:
        ModelError: Other features than the head's are named, which such a layer does not change.
    """
    _, head = find_head(model, outputs)
    layout = getattr(model, "layout", None)
    if isinstance(layout, Layout) and layout.features is not None:
        raise ModelError(
            f"a layer before the head leaves '{layout.features}', the features that --features names, as"
            " they are; forget by a method that changes the network's own layers, such as deep-probes"
        )
    erase = erase.to(head.weight.device)
    if there := eraser_of(model):
        head.add_module(NAME, there.then(erase))
        return
    head.add_module(NAME, erase)
    head.register_forward_pre_hook(_erase_first)


def _erase_first(head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (head.get_submodule(NAME)(inputs[0]),)


def fold_eraser(model: nn.Module, outputs: int) -> None:
    """Computes in the head what the layer before it does, and takes the layer out, in place.

    With W and b the head's numbers, :math:`W (x - U (V x - c)) + b = (W - W U V) x + (b + W U c)`: the
    outputs stay the same to rounding, and the features before the head are no longer erased.

    Args:
        model: One with a layer.
        outputs: Number of labels.
    """
    _, head = find_head(model, outputs)
    layer = head.get_submodule(NAME)
    assert isinstance(layer, Erase), "the caller has looked"
    with torch.no_grad():
        across = head.weight.double() @ layer.out.double()
        head.bias.copy_(head.bias.double() + across @ layer.level.double())
        head.weight.copy_(head.weight.double() - across @ layer.into.double())
    delattr(head, NAME)
    hooks = head._forward_pre_hooks  # torch tells hooks apart by handles, which a copied model has lost
    for key in [key for key, hook in hooks.items() if hook is _erase_first]:
        del hooks[key]


def eraser_of(model: nn.Module) -> Erase | None:
    """A model's erasing layer, if it has one."""
    return next((module for module in model.modules() if isinstance(module, Erase)), None)


def insert_empty(model: nn.Module, outputs: int, rank: int, labels: Sequence[str] = ()) -> None:
    """Makes room for the layer of a stored run: all zeros, which changes nothing; rank 0 adds no layer."""
    if rank:
        size = find_head(model, outputs)[1].in_features
        empty = Erase(torch.zeros(size, rank), torch.zeros(rank, size), torch.zeros(rank), labels)
        insert_eraser(model, outputs, empty)


def erasing(model: nn.Module) -> dict[str, Tensor]:
    """Names and numbers of a model's erasing layer, as in its state dict; empty where it has none."""
    return {
        f"{name}.{buffer}": value
        for name, module in model.named_modules()
        if isinstance(module, Erase)
        for buffer, value in module.named_buffers()
    }


def rank_of(model: nn.Module) -> int:
    """Directions that a model's erasing layer takes out; 0 where it has none."""
    layer = eraser_of(model)
    return layer.rank if layer else 0


def rank_in(tensors: Mapping[str, Tensor]) -> int:
    """The rank of the erasing layer that stored weights hold; 0 where they hold none.

    >>> rank_in({"fc.weight": torch.zeros(3, 8), "fc.eraser.into": torch.zeros(2, 8)})
    2
    """
    matrices = [value for name, value in tensors.items() if f".{name}".endswith(f".{NAME}.into")]
    return len(matrices[0]) if len(matrices) == 1 and matrices[0].ndim == 2 else 0
