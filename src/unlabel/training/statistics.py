"""BatchNorm's running statistics over the micro-batches of one step."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Statistics:
    """Each micro-batch begins with the statistics before the step; after it they are the mean over all.

    So they do not depend on how many processes share the micro-batches. A step of one micro-batch needs no
    copy of them. BatchNorm's counters of batches go on by the number of micro-batches.

    Args:
        now: The network's own buffers, which a forward pass changes.
        before: What they were.
        total: Sums over this process's micro-batches.
        counters: The network's own counters, which a forward pass changes too.
        counted: What they were.
        parts: Micro-batches in the step.
    """

    now: list[Tensor]
    before: list[Tensor]
    total: list[Tensor]
    counters: list[Tensor]
    counted: list[Tensor]
    parts: int

    @classmethod
    def of(cls, model: nn.Module, parts: int, world: int = 1) -> "Statistics":
        """Those of a network, before a step."""
        counters = batch_counters(model)
        counted = [each.clone() for each in counters]
        now = [] if parts == 1 and world == 1 else running_statistics(model)
        before, total = [each.clone() for each in now], [torch.zeros_like(each) for each in now]
        return cls(now, before, total, counters, counted, parts)

    def restart(self) -> None:
        """Before a micro-batch."""
        if self.now:
            torch._foreach_copy_(self.now, self.before)  # pyright: ignore[reportPrivateImportUsage]
            self._count(0)

    def add(self) -> None:
        """After a micro-batch."""
        if self.now:
            torch._foreach_add_(self.total, self.now)  # pyright: ignore[reportPrivateImportUsage]

    def finish(self) -> None:
        """After all of them, and after their sums over the processes."""
        if self.now:
            torch._foreach_div_(self.total, self.parts)  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_copy_(self.now, self.total)  # pyright: ignore[reportPrivateImportUsage]
        self._count(self.parts)

    def _count(self, more: int) -> None:
        """Sets the counters to so many batches more than before the step."""
        if self.counters:
            torch._foreach_copy_(self.counters, self.counted)  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_add_(self.counters, more)  # pyright: ignore[reportPrivateImportUsage]


def running_statistics(model: nn.Module) -> list[Tensor]:
    """Floating-point buffers that a forward pass in training mode changes."""
    return [
        buffer
        for norm in _trained_norms(model)
        for buffer in (norm.running_mean, norm.running_var)
        if buffer is not None
    ]


def batch_counters(model: nn.Module) -> list[Tensor]:
    """How many batches each BatchNorm has seen, as its own buffer."""
    counters = (norm.num_batches_tracked for norm in _trained_norms(model))
    return [counter for counter in counters if counter is not None]


def _trained_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """BatchNorm layers in training mode."""
    norms = (module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return [norm for norm in norms if norm.training]
