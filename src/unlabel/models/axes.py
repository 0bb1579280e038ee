"""Which axis of a picture inside a network holds its channels.

Most have (batch, channel, height, width), a Swin transformer has (batch, height, width, channel). The sides
of a picture are those of the images at a smaller scale, which tells the two apart. It does not if there are
as many channels as rows and columns. Then other pictures of the same forward pass tell::

    the module's own kind    a convolution has its channels first, a linear layer last
    modules of its class     beside it, such as a network's other stages, or else anywhere
    layers inside it         that have one way only, on pictures of the same shape
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Picture:
    """What a module made that has two sides and channels.

    Args:
        module: What made it.
        shape: Its three axes after the batch.
    """

    module: nn.Module
    shape: tuple[int, ...]


def channels_last(pictures: Mapping[str, Picture], input_size: tuple[int, int]) -> dict[str, bool]:
    """Whether the channels of each picture stand last.

    Args:
        pictures: Of one forward pass, by the name of the module in the network.
        input_size: Height and width of the images, or of any of that shape.

    Example:
        >>> stages = {f"stages.{at}": Picture(nn.Module(), (8 >> at, 8 >> at, 8 << at)) for at in range(2)}
        >>> channels_last(stages, (64, 64))
        {'stages.0': True, 'stages.1': True}
    """
    sides = {name: _by_sides(picture.shape, input_size) for name, picture in pictures.items()}
    told = {name: last for name, last in sides.items() if last is not None}
    return {
        name: told[name] if name in told else next(_by_others(name, pictures, told), False)
        for name in pictures
    }


def find_channels_last(model: nn.Module, images: Tensor) -> dict[str, bool]:
    """The same for every picture that a network makes, by one forward pass."""
    pictures: dict[str, Picture] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
            first = output[0] if isinstance(output, tuple | list) and output else output
            if isinstance(first, Tensor) and first.ndim == 4 and len(first) == len(images):
                pictures[name] = Picture(module, tuple(first.shape[1:]))

        return hook

    with ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():
            hooks.callback(module.register_forward_hook(keep(name)).remove)
        model(images)
    return channels_last(pictures, (images.shape[2], images.shape[3]))


def _by_sides(shape: tuple[int, ...], input_size: tuple[int, int]) -> bool | None:
    """What the sides tell; None if both pairs of axes may be the sides."""
    first, last = alike(shape[:2], input_size), alike(shape[1:], input_size)
    return None if first and last else first


def alike(size: tuple[int, ...], input_size: tuple[int, int]) -> bool:
    """Whether a height and width are those of the input at a smaller scale, rounded."""
    (height, width), (high, wide) = size, input_size
    return height == width if high == wide else abs(height * wide - width * high) < max(high, wide)


def _by_others(name: str, pictures: Mapping[str, Picture], told: Mapping[str, bool]) -> Iterator[bool]:
    """What each of the ways tells, the surest first; a way whose pictures differ tells nothing."""
    picture = pictures[name]
    if (own := _of_kind(picture.module)) is not None:
        yield own
    alike_modules = [each for each in told if type(pictures[each].module) is type(picture.module)]
    parent = name.rpartition(".")[0]
    yield from _agreed([told[each] for each in alike_modules if each.rpartition(".")[0] == parent])
    yield from _agreed([told[each] for each in alike_modules])
    inside = [
        _of_kind(other.module)
        for each, other in pictures.items()
        if each.startswith(f"{name}.") and other.shape == picture.shape
    ]
    yield from _agreed([last for last in inside if last is not None])


def _agreed(votes: list[bool]) -> list[bool]:
    return votes[:1] if len({*votes}) == 1 else []


def _of_kind(module: nn.Module) -> bool | None:
    """What a layer's kind tells; libraries derive layers with channels first from `LayerNorm`."""
    if isinstance(module, nn.modules.conv._ConvNd | nn.modules.batchnorm._BatchNorm):
        return False
    return True if type(module) in (nn.Linear, nn.LayerNorm) else None
