"""Which axis of what a network computes holds the channels of a picture, and which one the images.

Most have (batch, channel, height, width), a Swin transformer has (batch, height, width, channel). The sides
of a picture are those of the images at a smaller scale, which tells the two apart. It does not if there are
as many channels as rows and columns. Then other pictures of the same forward pass tell::

    the module's own kind    a convolution has its channels first, a linear layer last
    modules of its class     beside it, such as a network's other stages, or else anywhere
    layers inside it         that have one way only, on pictures of the same shape

Most networks have the images first. ``nn.TransformerEncoder``, as it is by default, has (token, image,
channel). Two passes of different numbers of images tell the two apart: the images' axis is the one that
follows.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

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


class _Arrived(BaseException):
    """Raised at the head, past which nothing is to be seen; no ``except Exception`` catches it."""


Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = Mapping[str, tuple[Shape, Shape]]  # of what a module reads and makes, by its name


def image_axes(model: nn.Module, head: nn.Module, images: Tensor) -> dict[str, tuple[int | None, int | None]]:
    """Along which axis the images lie in what each module reads and makes; None if no axis follows them.

    Args:
        model: In eval mode.
        head: Its last linear layer, where the passes end: no outputs are made, so the look is on no bill.
        images: Two or more.

    Returns:
        By the name of each module that is used, the axis of the first tensor that it reads and makes.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Flatten(), nn.Linear(24, 2))
        >>> image_axes(model, model[2], torch.randn(2, 3, 4))
        {'0': (0, 0), '1': (0, 0)}
    """
    longer = torch.cat([images, images[:1]])
    one, two = (_shapes(model, head, batch) for batch in (images, longer))
    count = len(images)
    return {
        name: (_following(one[name][0], two[name][0], count), _following(one[name][1], two[name][1], count))
        for name in one
        if name in two
    }


@torch.no_grad()
def _shapes(model: nn.Module, head: nn.Module, images: Tensor) -> Shapes:
    """What each module below the head reads and makes in a pass, when it is used last."""
    shapes: dict[str, tuple[Shape, Shape]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            shapes[name] = _shape(inputs), _shape(output)

        return hook

    def arrive(_module: nn.Module, _inputs: tuple[Any, ...]) -> None:
        raise _Arrived

    with ExitStack() as hooks, suppress(_Arrived):
        hooks.callback(head.register_forward_pre_hook(arrive).remove)
        for name, module in model.named_modules():
            hooks.callback(module.register_forward_hook(keep(name)).remove)
        model(images)
    return shapes


def _shape(value: Any) -> Shape:
    first = value[0] if isinstance(value, tuple | list) and value else value
    return tuple(first.shape) if isinstance(first, Tensor) else ()


def _following(one: Shape, two: Shape, count: int) -> int | None:
    """The first axis that is as many times longer as there are images, with one image more.

    >>> _following((9, 2, 8), (9, 3, 8), 2), _following((18, 8), (27, 8), 2), _following((9, 8), (9, 8), 2)
    (1, 0, None)
    """
    axes = range(min(len(one), len(two)))
    return next((axis for axis in axes if one[axis] * (count + 1) == two[axis] * count), None)
