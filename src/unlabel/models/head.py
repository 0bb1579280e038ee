"""The head: the last linear layer, whose row j makes logit j."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import log

import torch
from torch import Tensor, nn

from unlabel.data.dataset import Dataset
from unlabel.errors import NoLinearHead


def find_head(model: nn.Module, outputs: int) -> tuple[str, nn.Linear]:
    """Name and module of the last linear layer with one output a label.

    "Last" is by the order in which modules are registered, which is the order of use in every network
    that the command line builds; `adopt` checks by a forward pass that this layer makes the outputs.

    Args:
        model: Any network.
        outputs: Number of labels.

    Raises:
        NoLinearHead: There is no linear layer, or none has that number of outputs.

    Example:
        >>> find_head(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), 3)
        ('2', Linear(in_features=8, out_features=3, bias=True))
    """
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise NoLinearHead(
            "the model has no linear layer; expected a last linear layer with one output a label"
        )
    fitting = [(name, layer) for name, layer in linear if layer.out_features == outputs]
    name, head = (fitting or linear)[-1]
    if head.out_features != outputs:
        raise NoLinearHead(
            f"the last linear layer '{name}' has {head.out_features} outputs, but there are {outputs}"
            " labels; expected one output a label, in the labels' order"
        )
    if head.bias is None:
        raise NoLinearHead(
            f"the last linear layer '{name}' has no bias; expected one, since a removed output is a"
            " constant held by its bias"
        )
    return name, head


def head_rows(name: str) -> tuple[str, str]:
    """Parameter names of the head's weight and bias."""
    return f"{name}.weight", f"{name}.bias"


REMOVED_CLASS = -1e4  # its softmax probability is exactly 0 in every precision


def removed_output(data: Dataset, column: int) -> float:
    """The constant that stands for a removed output: the logit of the label's base rate.

    It keeps downstream code working and says nothing about the image. A removed *class* is never the
    answer instead: at its base rate it would still win wherever the other classes are in doubt.
    """
    if data.exclusive:
        return REMOVED_CLASS
    prior = data.prior(column)
    return log(prior / (1.0 - prior))


def remove_rows(head: nn.Linear, columns: Sequence[int], constants: Sequence[float]) -> int:
    """Turns outputs into constants: row weights 0, bias the constant. Returns how many numbers changed.

    Args:
        head: The last linear layer; changed in place.
        columns: Outputs to remove.
        constants: What each says from now on, such as `removed_output`.
    """
    changed = 0
    with torch.no_grad():
        for column, constant in zip(columns, constants, strict=True):
            changed += int((head.weight[column] != 0).sum()) + int(head.bias[column] != constant)
            head.weight[column] = 0.0
            head.bias[column] = constant
    return changed


@contextmanager
def tap(head: nn.Module) -> Iterator[list[Tensor]]:
    """While open, the list holds the head's input (batch, feature) of the latest forward pass."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[:] = [inputs[0]]

    handle = head.register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
