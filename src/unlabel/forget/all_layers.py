"""All layers at once: read what goes into each, change them, and settle the network again.

A layer is a convolution without groups or a linear layer, the head among them, whose weight may change. A
projection edits it on the side of its inputs, so that ``W (I - P)`` no longer sees what P projects onto. One
pass of the network reads the inputs of all layers; after the edits one more gives every BatchNorm the
statistics of its new inputs, and a third one every retained output its old mean.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import MethodError
from unlabel.core.wording import listing
from unlabel.data.batches import Batch, batch_of
from unlabel.data.dataset import Dataset
from unlabel.data.feed import in_order
from unlabel.forget.feature_layer import BATCH, LOOK, Layer, columns_of
from unlabel.forget.gradients import micro_batches
from unlabel.models.axes import image_axes
from unlabel.models.head import find_head

Layers = Mapping[str, Layer]  # by name, in the order in which they are registered
Take = Callable[[str, Tensor, Batch], None]  # name of a layer, its patches (image, input, position), images


def layers_of(model: nn.Module) -> Layers:
    """The layers that can be edited on the side of their inputs.

    Left out are convolutions in groups, whose channels read different inputs, and layers whose weight the
    user has frozen. The projections inside a torch attention module are no layers of their own, and are left
    out, too.

    Example:
        >>> list(layers_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))))
        ['0', '3']
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
        if module.weight.requires_grad
    }


@torch.no_grad()
def read_inputs(model: nn.Module, layers: Layers, data: Dataset, run: Run, take: Take) -> Tensor:
    """One forward pass over images without augmentation that shows what each layer reads.

    Args:
        model: In eval mode.
        layers: Of `layers_of`; one that is used twice in a pass is shown twice, one that is never used is not
            shown. If the inputs of one belong to no single image, it is not shown either, and that is said.
        data: Images; shared out over the processes in the order of ``run.shard``.
        run: Where.
        take: Called with each layer's patches of some images.

    Returns:
        float64 (label,) mean logits over all images, equal on every process.
    """
    positions = np.asarray(run.shard(len(data)), np.int64)
    now: list[Batch] = []
    first = _image_axes(model, layers, data, run)

    def watch(name: str, layer: Layer) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def shown(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            images, axis = len(now[0].rows), first.get(name, 0)
            if axis is None or inputs[0].shape[axis] % images:
                return
            read = inputs[0].transpose(0, axis)
            patches = columns_of(layer, read)
            if len(patches) != images:  # windows of an image, one after another
                patches = patches.unflatten(0, (images, -1)).transpose(1, 2).flatten(2)
            take(name, patches, now[0])

        return shown

    handles = [layer.register_forward_pre_hook(watch(name, layer)) for name, layer in layers.items()]
    with logit_means(model, len(data.labels), run) as means:
        try:
            with run.log.track("score", len(data), "images") as advance:
                for batch in in_order(data, run, BATCH, positions):
                    now[:] = [batch]
                    model(batch.image)
                    advance(len(batch.rows) * run.world)
        finally:
            for handle in handles:
                handle.remove()
    if not bool(torch.isfinite(means[0]).all()):
        raise MethodError("the model's outputs are NaN or infinite on some images; is it trained?")
    return means[0]


def _image_axes(model: nn.Module, layers: Layers, data: Dataset, run: Run) -> dict[str, int | None]:
    """The axis of each linear layer's inputs that holds the images, 0 or 1; None if neither does."""
    _, head = find_head(model, len(data.labels))
    linear = [name for name, layer in layers.items() if isinstance(layer, nn.Linear) and layer is not head]
    if not linear:
        return {}
    axes = image_axes(model, head, batch_of(data, range(LOOK), run.device).image)
    read = {name: axes[name][0] for name in linear if name in axes}
    first = {name: axis if axis in (0, 1) else None for name, axis in read.items()}
    if unread := [name for name, axis in first.items() if axis is None]:
        run.log.say(f"not edited, as what they read belongs to no single image: {listing(unread, 3)}")
    return first


@contextmanager
def logit_means(model: nn.Module, outputs: int, run: Run) -> Iterator[list[Tensor]]:
    """While open, sums what the head makes; once closed, the list holds the means over all processes.

    Args:
        model: With a head.
        outputs: Number of labels.
        run: Where.
    """
    _, head = find_head(model, outputs)
    total = torch.zeros(outputs + 1, dtype=torch.float64, device=head.weight.device)
    means: list[Tensor] = []

    def made(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        rows = output.detach().double()
        total.add_(torch.cat([rows.sum(0), rows.new_tensor([len(rows)])]))

    handle = head.register_forward_hook(made)
    try:
        yield means
    finally:
        handle.remove()
    engine.reduce_sums(run, [total])
    means.append(total[:-1] / total[-1])


@torch.no_grad()
def apply_projection(
    layer: Layer, projection: Tensor, rows: Sequence[int] | None = None, centre: Tensor | None = None
) -> None:
    r"""Takes what a projection holds out of a layer's inputs: :math:`W \leftarrow W (I - P)`.

    Args:
        layer: Changed in place.
        projection: P, float64 (input, input).
        rows: The outputs to change; all by default.
        centre: float64 (input,) what the layer shall answer to as before, by its bias, if it has a free one.
    """
    chosen = slice(None) if rows is None else list(rows)
    weight = layer.weight[chosen]
    change = weight.double().flatten(1) @ projection
    layer.weight[chosen] = (weight.double().flatten(1) - change).to(weight.dtype).view_as(weight)
    if centre is not None and layer.bias is not None and layer.bias.requires_grad:
        layer.bias[chosen] += (change @ centre).to(layer.bias.dtype)


def settle(
    model: nn.Module, columns: Sequence[int], means: Tensor, data: Dataset, run: Run, *, move_bias: bool
) -> int:
    """Gives an edited network the statistics and output means it needs, by one forward pass for each.

    First each BatchNorm gets new running statistics. Then, with these, each retained output's bias moves so
    that its mean over the images is what it was.

    Args:
        model: In eval mode; changed in place.
        columns: The retained outputs.
        means: float64 (label,) mean logits to restore, of `read_inputs` before the edits.
        data: Images.
        run: Where; images are shared out over the processes.
        move_bias: Whether the head's bias may change.

    Returns:
        How often the images were read.
    """
    renew_statistics(model, data, run)
    if not move_bias:
        return 1
    now = read_inputs(model, {}, data, run, lambda _name, _patches, _batch: None)
    _, head = find_head(model, len(data.labels))
    chosen = list(columns)
    with torch.no_grad():
        head.bias[chosen] += (means - now)[chosen].to(head.bias)
    return 2


@torch.no_grad()
def renew_statistics(model: nn.Module, data: Dataset, run: Run) -> None:
    """Gives each BatchNorm of a network the statistics of its inputs, in place, by one forward pass.

    It normalises a micro-batch by its own statistics while the mean and the variance of its inputs over all
    images are summed up, and gets these as its running statistics.

    Args:
        model: In eval mode.
        data: Images.
        run: Where; micro-batches are shared out over the processes.
    """
    kinds = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
    tracked: list[Any] = [each for each in model.modules() if isinstance(each, kinds)]
    tracked = [norm for norm in tracked if norm.running_mean is not None]
    sums = [
        torch.zeros(2, len(norm.running_mean), dtype=torch.float64, device=run.device) for norm in tracked
    ]
    counts = torch.zeros(len(tracked), dtype=torch.float64, device=run.device)
    buffers: list[Tensor] = [tensor for norm in tracked for tensor in norm.buffers()]
    before = [tensor.clone() for tensor in buffers]

    def watch(number: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def shown(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].double().transpose(0, 1).flatten(1)  # (channel, value)
            sums[number] += torch.stack([values.sum(1), (values**2).sum(1)])
            counts[number] += values.shape[1]

        return shown

    handles = [norm.register_forward_pre_hook(watch(number)) for number, norm in enumerate(tracked)]
    for norm in tracked:
        norm.train()
    try:
        for batch in micro_batches(data, run, "settle"):
            model(batch.image)
    finally:
        for handle in handles:
            handle.remove()
        for norm in tracked:
            norm.eval()
    for tensor, value in zip(buffers, before, strict=True):
        tensor.copy_(value)
    engine.reduce_sums(run, [*sums, counts])
    for norm, total, count in zip(tracked, sums, counts, strict=True):
        if count > 1:  # 0 of a norm that the network does not use
            mean = total[0] / count
            variance = (total[1] / count - mean**2).clamp(min=0.0) * count / (count - 1)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
