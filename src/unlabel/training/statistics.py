"""BatchNorm's running statistics over the micro-batches of one step."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Statistics:
    """Each micro-batch begins with the statistics before the step; after it they are the mean over all.

    So they do not depend on how many processes share the micro-batches. A step of one micro-batch needs no
    copy.

    Args:
        now: The network's own buffers, which a forward pass changes.
        before: What they were.
        total: Sums over this process's micro-batches.
        parts: Micro-batches in the step.
    """

    now: list[Tensor]
    before: list[Tensor]
    total: list[Tensor]
    parts: int

    @classmethod
    def of(cls, model: nn.Module, parts: int, world: int = 1) -> "Statistics":
        """Those of a network, before a step."""
        now = running_statistics(model)
        if not now or (parts == 1 and world == 1):
            return cls([], [], [], parts)
        return cls(now, [each.clone() for each in now], [torch.zeros_like(each) for each in now], parts)

    def restart(self) -> None:
        """Before a micro-batch."""
        if self.now:
            torch._foreach_copy_(self.now, self.before)  # pyright: ignore[reportPrivateImportUsage]

    def add(self) -> None:
        """After a micro-batch."""
        if self.now:
            torch._foreach_add_(self.total, self.now)  # pyright: ignore[reportPrivateImportUsage]

    def finish(self) -> None:
        """After all of them, and after their sums over the processes."""
        if self.now:
            torch._foreach_div_(self.total, self.parts)  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_copy_(self.now, self.total)  # pyright: ignore[reportPrivateImportUsage]


def running_statistics(model: nn.Module) -> list[Tensor]:
    """Floating-point buffers that a forward pass in training mode changes."""
    norms = (module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return [
        buffer
        for norm in norms
        if norm.training
        for buffer in (norm.running_mean, norm.running_var)
        if buffer is not None
    ]
