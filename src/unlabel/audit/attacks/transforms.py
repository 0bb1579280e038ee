"""What happens to a model after it was made to forget: stored smaller, pruned, recalibrated, trained on.

None of it sees an annotation of a forgotten label. A label that comes back all the same was not gone::

    TRANSFORMS["int8"](model, use, run)    a changed copy; None where there is nothing to change
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil

import numpy as np
import torch
from torch import Tensor, nn

from unlabel.audit.figures import BATCHNORM, FP16, INT4, INT8, PRUNE20, PRUNE50, RETAIN_TUNED
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.recipe import Recipe
from unlabel.data.dataset import Dataset
from unlabel.data.feed import batches
from unlabel.training.fit import LabelLoss, PutBack, fit

RATE = 0.01  # peak learning rate of the further training: a tenth of what trains from scratch
LARGEST_HALF = 65504.0


@dataclass(frozen=True)
class Use:
    """What a later user has: images, and annotations of the retained labels.

    Args:
        data: Calibration images, from the training split.
        retained: Columns whose annotations may be used.
        masked: Columns of forgotten labels, whose output rows stay as they are.
    """

    data: Dataset
    retained: tuple[int, ...]
    masked: tuple[int, ...]


Transform = Callable[[nn.Module, Use, Run], nn.Module | None]


def fake_quantised(weight: Tensor, bits: int) -> Tensor:
    """Weights as a `bits`-bit integer of each output channel's own scale would store them, to nearest.

    Args:
        weight: Two or more axes, output channel first.
        bits: 2 or more; 8 bits hold -127 to 127.

    Example:
        >>> fake_quantised(torch.tensor([[1.0, 0.3, -0.1], [0.0, 0.0, 0.0]]), 4)
        tensor([[ 1.0000,  0.2857, -0.1429],
                [ 0.0000,  0.0000,  0.0000]])
    """
    top = 2 ** (bits - 1) - 1
    scale = weight.flatten(1).abs().amax(1) / top
    scale = torch.where(scale > 0, scale, 1.0).view(-1, *[1] * (weight.ndim - 1))
    return (weight / scale).round() * scale


def pruned(weight: Tensor, share: float) -> Tensor:
    """The weights with this share of them, the smallest in size, set to 0; of equals, the first go first.

    >>> pruned(torch.tensor([[3.0, -1.0], [0.5, 2.0]]), 0.5)
    tensor([[3., 0.],
            [0., 2.]])
    """
    flat = weight.flatten().clone()
    flat[flat.abs().argsort(stable=True)[: int(share * flat.numel())]] = 0.0
    return flat.view_as(weight)


def on_weights(change: Callable[[Tensor], Tensor], model: nn.Module, use: Use, run: Run) -> nn.Module:
    """A copy with every weight of two or more axes changed; biases and norms stay."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.ndim > 1:
                parameter.copy_(change(parameter))
    return other


def halved(model: nn.Module, use: Use, run: Run) -> nn.Module:
    """A copy whose every number went through float16; what is too large for it becomes the largest."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for value in (*other.parameters(), *other.buffers()):
            if value.is_floating_point():
                value.copy_(value.clamp(-LARGEST_HALF, LARGEST_HALF).half())
    return other


def norms_of(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """BatchNorm layers that keep statistics."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
    ]


def recalibrated(model: nn.Module, use: Use, run: Run) -> nn.Module | None:
    """A copy whose BatchNorm statistics were taken anew on images without annotations; None without any.

    The mean over batches of equal size, as training takes it.
    """
    other = engine.place(copy.deepcopy(model), run)
    norms = norms_of(other)
    if not norms:
        return None
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches
        norm.train()
    size = min(run.batch_size, len(use.data))
    with torch.no_grad():
        chunks = np.array_split(np.arange(len(use.data)), ceil(len(use.data) / size))
        for batch in batches(use.data, ((part, None) for part in chunks), run):
            other(batch.image)
    return other.eval()


def trained_on(model: nn.Module, use: Use, run: Run) -> nn.Module:
    """A copy trained for one more pass on the retained labels alone; output rows of forgotten labels stay."""
    other = engine.place(copy.deepcopy(model), run)
    fit(
        other,
        LabelLoss(use.retained, use.data.exclusive),
        use.data.answerable(use.retained),
        Recipe(epochs=1.0, lr=RATE),
        run,
        after_step=PutBack.head_rows(other, len(use.data.labels), use.masked),
        stage="train on",
    )
    return other.eval()


TRANSFORMS: Mapping[str, Transform] = {
    FP16.id: halved,
    INT8.id: partial(on_weights, partial(fake_quantised, bits=8)),
    INT4.id: partial(on_weights, partial(fake_quantised, bits=4)),
    PRUNE20.id: partial(on_weights, partial(pruned, share=0.2)),
    PRUNE50.id: partial(on_weights, partial(pruned, share=0.5)),
    BATCHNORM.id: recalibrated,
    RETAIN_TUNED.id: trained_on,
}

BY_LABELS = frozenset({RETAIN_TUNED.id})
"""Transforms whose copy depends on which labels are retained and which were forgotten."""
