"""The layer that makes the features: what goes into it, what its outputs do to the features, how to edit it.

The last convolution or linear layer before the head, whatever stands between the two (BatchNorm, a skip
connection, an activation, pooling). With x the patches that it reads and h the penultimate features, one
backward pass of ``sum h`` through what stands between gives the slope of each feature in its channel, so
that a change D of the layer's weight changes the features by about (the mean and spread of a LayerNorm held
constant, see `forget.norms`)::

    dh_ic = gain_c * (D_c . x_i)        x_i the mean patch of image i, weighted by those slopes

A layer that erases labels before the head mixes all features. So the slopes are those of the features before
it, where each channel makes one feature, while h are those after it, in which the labels are looked for.
"""

from collections.abc import Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad, unfold

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import MethodError
from unlabel.data.dataset import Dataset
from unlabel.data.feed import in_order
from unlabel.forget.norms import ConstantNorms
from unlabel.models.axes import image_axes
from unlabel.models.head import find_head, tap
from unlabel.models.normal_form import NormalForm

BATCH = 128
LOOK = 2  # images that show in which order the layers are used
RARELY = 0.05  # share of positions: a channel that is on more rarely moves its feature no faster than this
NEVER = 0.01  # below which a channel is left alone
NO_LAYER = (
    "the model has no convolution or linear layer before its head whose weights may change, so there are no"
    " features to change; choose another method, see: unlabel methods"
)
NO_AXIS = (
    "no axis of what the last layer before the head reads and makes holds the images one after another, so"
    " what it makes of each cannot be told; expected (image, ..., channel) or (token, image, channel); choose"
    " a method that trains, such as deep-probes or confusion"
)

Layer: TypeAlias = nn.Conv2d | nn.Linear


@dataclass(frozen=True)
class Part:
    """A layer that makes features, all of them or those of one final layer.

    Args:
        layer: A convolution or a linear layer.
        norm: The BatchNorm that takes its output, or None.
        columns: Its features among those that the head reads; None for all.
        tokens_first: Whether what it reads and makes is (token, image, channel).
    """

    layer: Layer
    norm: Any
    columns: tuple[int, ...] | None = None
    tokens_first: bool = False

    @property
    def places(self) -> list[int] | slice:
        """The same as an index."""
        return slice(None) if self.columns is None else list(self.columns)


@dataclass(frozen=True)
class Reading:
    """What one pass over some images says of the layer.

    Args:
        features: float64 (image, feature), the head's input.
        patches: float64 (image, input) mean patch of each image, weighted by the features' slopes.
        plain: float64 (input,) mean patch over all images and positions.
        gain: float64 (channel,) slope of each feature in its channel, 0 for one that is left alone.
    """

    features: NDArray[np.float64]
    patches: NDArray[np.float64]
    plain: NDArray[np.float64]
    gain: NDArray[np.float64]


def final_layer(model: nn.Module, outputs: int, image: Tensor, free: Set[int]) -> tuple[Layer, Any]:
    """The last layer used before the head, and the BatchNorm that takes its output, or None.

    Args:
        model: In eval mode.
        outputs: Number of labels.
        image: Some normalised images.
        free: ``id`` of each parameter that may change; a layer whose weight may not is passed over.

    Raises:
        MethodError: There is no convolution or linear layer before the head that may change.
    """
    _, head = find_head(model, outputs)
    order: list[tuple[Layer, Tensor]] = []
    norms: list[tuple[Any, Tensor]] = []

    def used(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        order.append((module, output))

    def normalised(module: Any, inputs: tuple[Tensor, ...]) -> None:
        norms.append((module, inputs[0]))

    handles = []
    for module in model.modules():
        if module is not head and _may_change(module, free):
            handles.append(module.register_forward_hook(used))
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            handles.append(module.register_forward_pre_hook(normalised))
    try:
        with torch.no_grad():
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    if not order:
        raise MethodError(NO_LAYER)
    layer, output = order[-1]
    norm = next((module for module, result in norms if result is output), None)
    return layer, norm


def final_layers(model: nn.Module, outputs: int, image: Tensor, free: Set[int]) -> list[Part]:
    """The layer that makes the features; of a head that joins several inputs, the layers that make each.

    Args:
        model, outputs, image, free: As of `final_layer`, and it raises as that does.

    Returns:
        Each layer once, in the order of use.
    """
    return [_with_axis(part, model, outputs, image) for part in _parts(model, outputs, image, free)]


def _parts(model: nn.Module, outputs: int, image: Tensor, free: Set[int]) -> list[Part]:
    if not isinstance(model, NormalForm):
        return [Part(*final_layer(model, outputs, image, free))]
    order: list[tuple[Layer, Tensor, Tensor]] = []
    norms: list[tuple[Any, Tensor]] = []

    def used(module: Any, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        made = output.detach().requires_grad_()  # what comes before is of no interest
        order.append((module, made, made.clone()))
        return order[-1][2]

    with ExitStack() as hooks, torch.enable_grad():
        for module in model.network.modules():
            if _may_change(module, free):
                hooks.callback(module.register_forward_hook(used).remove)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
                handle = module.register_forward_pre_hook(lambda norm, given: norms.append((norm, given[0])))
                hooks.callback(handle.remove)
        inputs = model.inputs(image)
    columns: dict[int, list[int]] = {}
    leaves = [made for _, made, _ in order]
    for features, number in zip(inputs, model.layout.inputs, strict=True):
        if not features.requires_grad:
            raise MethodError(NO_LAYER)
        slopes = torch.autograd.grad(features.sum(), leaves, allow_unused=True, retain_graph=True)
        reached = [at for at, slope in enumerate(slopes) if slope is not None]
        columns.setdefault(reached[-1], []).extend(range(number.start, number.stop))
    layers = []
    for at in sorted(columns):
        layer, _, shown = order[at]
        norm = next((module for module, given in norms if given is shown), None)
        layers.append(Part(layer, norm, tuple(columns[at])))
    return layers


def _with_axis(part: Part, model: nn.Module, outputs: int, image: Tensor) -> Part:
    """The same part, with where its images lie; it is refused if they lie nowhere."""
    if isinstance(part.layer, nn.Conv2d):
        return part
    _, head = find_head(model, outputs)
    name = next(name for name, module in model.named_modules() if module is part.layer)
    axes = image_axes(model, head, image)[name]
    if axes not in ((0, 0), (1, 1)):
        raise MethodError(NO_AXIS)
    return replace(part, tokens_first=axes == (1, 1))


def _may_change(module: nn.Module, free: Set[int]) -> bool:
    plain = isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    return plain and id(module.weight) in free


def read_layer(model: nn.Module, layer: Layer, data: Dataset, run: Run) -> Reading:
    """`read_layers` of one layer that makes all features."""
    return read_layers(model, [Part(layer, None)], data, run)[0]


def read_layers(model: nn.Module, parts: Sequence[Part], data: Dataset, run: Run) -> list[Reading]:
    """One forward pass over images without augmentation, and a backward pass from the features to each layer.

    Args:
        model: In eval mode.
        parts: Of `final_layers`.
        data: Images; shared out over the processes.
        run: Where.

    Returns:
        What the pass says of each layer.
    """
    _, head = find_head(model, len(data.labels))
    positions = np.asarray(run.shard(len(data)), np.int64)
    caught: list[tuple[Tensor, Tensor]] = []

    def catch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        at = [part.layer is module for part in parts].index(True)
        caught[at] = (inputs[0].detach(), output.detach().requires_grad_())
        return caught[at][1].clone()  # an activation may work in place, which a leaf does not allow

    caught[:] = [(torch.empty(0), torch.empty(0))] * len(parts)
    sums = [_Sums.empty(part, head.in_features, run.device) for part in parts]
    with ExitStack() as hooks:
        for part in parts:
            hooks.callback(part.layer.register_forward_hook(catch).remove)
        tapped = hooks.enter_context(tap(head))
        made = hooks.enter_context(tap(head, before_eraser=True))
        hooks.enter_context(torch.enable_grad())
        advance = hooks.enter_context(run.log.track("score", len(data), "images"))
        for batch in in_order(data, run, BATCH, positions):
            with ConstantNorms():
                model(batch.image)
            for number, (inputs, output) in enumerate(caught):
                if inputs.shape[int(parts[number].tokens_first)] != len(batch.rows):
                    raise MethodError(NO_AXIS)
                own, keep_graph = sums[number].own, number < len(parts) - 1
                (gradient,) = torch.autograd.grad(own(made[0]).sum(), output, retain_graph=keep_graph)
                sums[number].add(inputs, gradient, own(tapped[0]).detach())
            advance(len(batch.rows) * run.world)
    return [each.reading(len(data), run) for each in sums]


def joined_features(parts: Sequence[Part], readings: Sequence[Reading]) -> NDArray[np.float64]:
    """float64 (image, feature) what the head reads, of the readings of all parts."""
    features = np.zeros((len(readings[0].features), sum(each.features.shape[1] for each in readings)))
    for part, reading in zip(parts, readings, strict=True):
        features[:, part.places] = reading.features
    return features


@dataclass(frozen=True)
class _Sums:
    """What has been read of one layer so far, by this process."""

    part: Part
    features: list[NDArray[np.float32]]
    patches: list[NDArray[np.float32]]
    totals: tuple[Tensor, Tensor, Tensor, Tensor]  # slope, its square, plain patch, counts

    @classmethod
    def empty(cls, part: Part, width: int, device: torch.device) -> "_Sums":
        channels, size = part.layer.weight.shape[0], part.layer.weight[0].numel()
        width = width if part.columns is None else len(part.columns)
        slope, square, plain, counts = (
            torch.zeros(shape, dtype=torch.float64, device=device) for shape in (channels, channels, size, 3)
        )
        empty = [np.zeros((0, width), np.float32)], [np.zeros((0, size), np.float32)]
        return cls(part, *empty, (slope, square, plain, counts))

    def own(self, features: Tensor) -> Tensor:
        """The layer's features among all."""
        return features if self.part.columns is None else features[:, self.part.places]

    def add(self, inputs: Tensor, gradient: Tensor, features: Tensor) -> None:
        """Takes in some images."""
        if self.part.tokens_first:
            inputs, gradient = inputs.transpose(0, 1), gradient.transpose(0, 1)
        slope, square, plain, counts = self.totals
        layer = self.part.layer
        read, by_position = columns_of(layer, inputs), positions_of(layer, gradient.float())
        weight = by_position.abs().sum(1)  # (image, position)
        self.patches.append(torch.einsum("ikp,ip->ik", read, weight).cpu().numpy())
        self.features.append(features.float().cpu().numpy())
        slope += by_position.sum((0, 2)).double()
        square += (by_position**2).sum((0, 2)).double()
        plain += read.mean(2).sum(0).double()
        counts += torch.stack([weight.sum(), (weight > 0).sum(), weight.new_tensor(len(read))]).double()

    def reading(self, every: int, run: Run) -> Reading:
        """What all processes have read of so many images."""
        slope, square, plain, counts = self.totals
        engine.reduce_sums(run, [slope, square, plain, counts])
        total, live, images = counts.tolist()
        rows = engine.gather_rows(run, np.concatenate(self.patches), every).astype(np.float64)
        return Reading(
            engine.gather_rows(run, np.concatenate(self.features), every).astype(np.float64),
            rows / max(total / images, 1e-30),
            (plain / images).cpu().numpy(),
            _gains((slope / images).cpu().numpy(), (square / images).cpu().numpy(), live / images),
        )


def _gains(slope: NDArray[np.float64], square: NDArray[np.float64], live: float) -> NDArray[np.float64]:
    """Slopes, those of channels that are rarely on raised, those of channels that never are set to 0.

    Of a channel that is on at a share m of positions, the squared mean slope is m times the mean square.
    """
    share = slope**2 / np.maximum(square * max(live, 1.0), 1e-30)
    gain = slope * np.maximum(RARELY / np.maximum(share, 1e-30), 1.0)
    return np.where(share > NEVER, gain, 0.0)


def columns_of(layer: Layer, inputs: Tensor) -> Tensor:
    """The patches that the layer reads, (image, input, position), in the order of its weight's entries."""
    if isinstance(layer, nn.Conv2d):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        padded = pad(inputs.float(), _sides(layer), mode=mode)
        return unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)
    return inputs.float().reshape(len(inputs), -1, inputs.shape[-1]).transpose(1, 2)


def _sides(layer: nn.Conv2d) -> list[int]:
    """What a convolution adds at left, right, top and bottom; of ``same``, the odd one comes last.

    >>> _sides(nn.Conv2d(1, 1, (3, 4), padding="same")), _sides(nn.Conv2d(1, 1, 3, padding=(2, 1)))
    ([1, 2, 1, 1], [1, 1, 2, 2])
    """
    sides: list[int] = []
    for axis in (1, 0):
        if isinstance(layer.padding, str):
            added = layer.dilation[axis] * (layer.kernel_size[axis] - 1) if layer.padding == "same" else 0
            sides += [added // 2, added - added // 2]
        else:
            sides += [layer.padding[axis]] * 2
    return sides


def positions_of(layer: Layer, output: Tensor) -> Tensor:
    """What belongs to the layer's output as (image, channel, position)."""
    if isinstance(layer, nn.Conv2d):
        return output.flatten(2)
    return output.reshape(len(output), -1, output.shape[-1]).transpose(1, 2)


@torch.no_grad()
def edit_layer(
    layer: Layer, norm: Any, change: NDArray[np.float64], reading: Reading, free: Set[int]
) -> NDArray[np.float64]:
    """Adds a change to the layer's weight, so that the features' mean over the images read stays.

    The constant goes into the bias; with a BatchNorm behind, whose running mean follows the weight as it
    will in training, into what the BatchNorm adds.

    Args:
        layer, norm: Of `final_layer`; changed in place.
        change: float64 (channel, input).
        reading: Of `read_layer`.
        free: ``id`` of each parameter that may change.

    Returns:
        float64 (channel,) what no bias could take up, in the features' units; 0 as a rule.
    """
    weight = layer.weight
    weight.add_(torch.as_tensor(change, dtype=weight.dtype, device=weight.device).view_as(weight))
    shift = change @ reading.patches.mean(0)

    def tensor(value: NDArray[np.float64]) -> Tensor:
        return torch.as_tensor(value, dtype=weight.dtype, device=weight.device)

    if norm is not None and norm.running_mean is not None and id(norm.bias) in free:
        moved = tensor(change @ reading.plain)
        norm.running_mean.add_(moved)
        slope = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        norm.bias.add_(slope * (moved - tensor(shift)))
        return np.zeros(len(change))
    if layer.bias is not None and id(layer.bias) in free:
        layer.bias.sub_(tensor(shift))
        return np.zeros(len(change))
    return reading.gain * shift
