"""Counts what a method really shows to networks, to check its bill and to measure its cost."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook


@dataclass
class Passes:
    """Images that went through networks, repeats counted.

    Args:
        forward: Through any network with a head of so many outputs.
        backward: Those of them whose gradient was taken, once for every time.
    """

    forward: int = 0
    backward: int = 0


@contextmanager
def count_passes(outputs: int) -> Iterator[Passes]:
    """While open, counts the images that pass through any linear layer with that number of outputs.

    That is the head, wherever no hidden layer has as many outputs as there are labels.

    Args:
        outputs: Number of labels.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
        >>> with count_passes(3) as seen:
        ...     model(torch.ones(5, 4)).sum().backward()
        ...     _ = model(torch.ones(2, 4))
        >>> seen
        Passes(forward=7, backward=5)
    """
    passes = Passes()

    def passed(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not (isinstance(module, nn.Linear) and module.out_features == outputs):
            return
        rows = len(output)
        passes.forward += rows
        if output.requires_grad:
            output.register_hook(lambda gradient: returned(gradient, rows))

    def returned(gradient: Tensor, rows: int) -> None:
        passes.backward += rows

    handle = register_module_forward_hook(passed)
    try:
        yield passes
    finally:
        handle.remove()
