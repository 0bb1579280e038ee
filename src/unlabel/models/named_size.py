"""A bound on what a network may take, checked before its numbers are made: names come from anywhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as registry

from unlabel.core.errors import ModelError

MOST_BYTES = 8_000_000_000  # as of a file of weights
MOST_MODULES = 30_000  # the largest of timm have 5,000


@contextmanager
def bounded(name: str) -> Iterator[None]:
    """While open, a network whose numbers or modules are too many is refused as it is being made.

    Open it once with ``torch.device("meta")``, where numbers take no memory, before making the network.

    Args:
        name: The network's, for the message.

    Raises:
        ModelError: It has more than 8 GB of numbers, or more than 30,000 modules.
    """
    size = modules = 0

    def refuse(what: str) -> None:
        raise ModelError(
            f"the network '{name[:80]}' has {what}; expected at most {MOST_BYTES // 10**9} GB of weights and"
            f" {MOST_MODULES:,} modules: check its options"
        )

    def numbers(_module: nn.Module, _name: str, value: Any) -> None:
        nonlocal size
        size += value.numel() * value.element_size() if isinstance(value, Tensor) else 0
        if size > MOST_BYTES:
            refuse("too many weights")

    def submodule(_module: nn.Module, _name: str, _value: Any) -> None:
        nonlocal modules
        modules += 1
        if modules > MOST_MODULES:
            refuse("too many modules")

    handles = [
        registry.register_module_parameter_registration_hook(numbers),
        registry.register_module_buffer_registration_hook(numbers),
        registry.register_module_module_registration_hook(submodule),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
