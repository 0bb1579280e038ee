"""Sites: the places of a network at which a label can be read, from its early layers to its outputs.

A network computes stage by stage. A *stage* is what it computes at one size: of a picture (height, width),
or of a sequence of tokens. Each stage ends with the last output of that size, and is read there as one row
an image::

    stage     the mean over positions
    grid      the mean over each quarter of the picture, or of the sequence; of the channels, and of `FILTERS`
              fixed random filters of them behind a ReLU, which see what lies side by side
    cells     the mean over each of up to 4 x 4 parts of the picture, or 16 of the sequence, of the channels
    features  the head's input
    outputs   logits, of which a caller chooses columns

A network that keeps one size throughout, as a vision transformer does, is read between its blocks instead.
One without any positions, as an MLP, is read behind its hidden linear layers, but for the last one, which
makes the features. If a module is used several times in a pass, as the trunk that two pictures share, its row
is the mean over the uses; of an activation that one block uses again and again, the last use in the block
counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d

from unlabel.core.randomness import normal
from unlabel.models.axes import Picture, alike, channels_last, image_axes
from unlabel.models.head import find_head, tap
from unlabel.models.normal_form import Emptied

Kind: TypeAlias = Literal["stage", "grid", "cells", "features", "outputs"]
Rows: TypeAlias = Mapping[str, Float[Tensor, "batch feature"]]  # by site

STAGES = 4  # the last ones
GRIDS = 3  # the last ones
FILTERS = 64
CELLS = 4  # along a side
INSIDE = 2  # levels below the outermost module with positions at which a size may first come up
PREFIX = 8  # tokens at most that stand for no position
CLOSE = 1e-3  # of the largest feature: two ways to take a mean differ by rounding
SWITCHES = ("grad_checkpointing", "gradient_checkpointing")  # of timm and transformers


@dataclass(frozen=True)
class Site:
    """One place at which a network is read.

    Args:
        name: ``stage1`` ..., ``grid2`` ..., ``features`` or ``outputs``.
        kind: How it is read.
        module: The module whose output is read; the head for ``features`` and ``outputs``.
        size: Positions of that output, (height, width) or (tokens,); empty for ``features`` and ``outputs``.
        width: Features of a row.
        channels_last: Whether the channels of that output stand last; None: `size` tells.
        tokens_first: Whether that output is (token, image, channel).
        every: Of several uses of the module in a pass, each so-manieth counts.
    """

    name: str
    kind: Kind
    module: str
    size: tuple[int, ...]
    width: int
    channels_last: bool | None = None
    tokens_first: bool = False
    every: int = 1

    def row(self, output: Tensor) -> Float[Tensor, "batch feature"]:
        """One row an image of an output of the module."""
        images_first = output.transpose(0, 1) if self.tokens_first else output
        return pooled(images_first, self.kind, self.size, self.channels_last)


@dataclass(frozen=True)
class _End:
    """The output of a module on a few images, with these first."""

    module: str
    size: tuple[int, ...]
    output: Tensor
    channels_last: bool | None
    tokens_first: bool
    every: int

    def pooled(self, kind: Kind) -> Tensor:
        """One row an image."""
        return pooled(self.output, kind, self.size, self.channels_last)

    def site(self, kind: Kind, number: int) -> Site:
        """The place where it was made."""
        width = self.pooled(kind).shape[1]
        return Site(
            f"{kind}{number}",
            kind,
            self.module,
            self.size,
            width,
            self.channels_last,
            self.tokens_first,
            self.every,
        )


@dataclass(frozen=True)
class _Made:
    """What a module made when it was used last, and all that it read and made then, with the images first."""

    passed: list[Tensor]
    output: Tensor
    tokens_first: bool
    every: int


@torch.no_grad()
def find_sites(model: nn.Module, outputs: int, images: Float[Tensor, "batch 3 height width"]) -> list[Site]:
    """Finds where a network can be read, by one forward pass.

    Args:
        model: Any network with a last linear layer; evaluated in eval mode, its mode restored afterwards.
        outputs: Number of labels.
        images: Two or more normalised images, on the model's device.

    Returns:
        The ends of the last `STAGES` stages, those of the last `GRIDS` as grids as well, ``features`` and
        ``outputs``. A stage whose mean is what the head reads is not listed a second time. Of a network
        without stages, the hidden linear layers are, but for the last.

    Raises:
        NoLinearHead: There is no last linear layer with one output a label.

    Example:
        >>> from unlabel.models.build import small
        >>> [site.name for site in find_sites(small(3), 3, torch.randn(2, 3, 64, 64))]
        ['stage1', 'stage2', 'stage3', 'grid2', 'grid3', 'grid4', 'features', 'outputs']
    """
    name, head = find_head(model, outputs)
    made, features = _made(model, head, images)
    chosen = (_stages(model, _ends(model, made, images)) or _hidden(model, made))[-STAGES:]
    sites = [
        site
        for site, end in zip(_means_of(chosen), chosen, strict=True)
        if not _same(end.pooled("stage"), features)
    ]
    for number, end in enumerate(chosen, 1):
        if number > len(chosen) - GRIDS and min(end.size, default=0) >= 2:
            sites.append(end.site("grid", number))
    sites.append(Site("features", "features", name, (), features.shape[1]))
    sites.append(Site("outputs", "outputs", name, (), outputs))
    return sites


@torch.no_grad()
def find_stages(model: nn.Module, outputs: int, images: Float[Tensor, "batch 3 height width"]) -> list[Site]:
    """The ends of the last `STAGES` stages, also one that the head reads; otherwise as in `find_sites`.

    If the network computes on, at one position, from the last stage's mean, that is a stage as well. Left out
    are stages that make (token, image, channel): who takes an output as it is expects the images first.

    Example:
        >>> from unlabel.models.build import small
        >>> [site.size for site in find_stages(small(3), 3, torch.randn(2, 3, 64, 64))]
        [(32, 32), (16, 16), (8, 8), (4, 4)]
    """
    _, head = find_head(model, outputs)
    made, _ = _made(model, head, images)
    ends = [end for end in _ends(model, made, images, least=1) if not end.tokens_first]
    chosen = _stages(model, [end for end in ends if max(end.size) > 1])[-STAGES:]
    for end in ends[-1:] if chosen else []:
        if max(end.size) == 1 and not _same(chosen[-1].pooled("stage"), end.pooled("stage")):
            chosen = [*chosen, end]
    return _means_of(chosen)


def _means_of(ends: Sequence[_End]) -> list[Site]:
    return [end.site("stage", number) for number, end in enumerate(ends, 1)]


def _same(mean: Tensor, features: Tensor) -> bool:
    """Whether a stage's mean is what the head reads."""
    atol = CLOSE * float(features.abs().max())
    return mean.shape == features.shape and torch.allclose(mean, features, rtol=0, atol=atol)


def _ends(model: nn.Module, made: Mapping[str, _Made], images: Tensor, least: int = 2) -> list[_End]:
    """Every module's last output that has so many positions, in the order of their ends.

    Without what lies inside a block and has more or fewer positions than the block reads and makes, such as
    an attention's weights.
    """
    shape = (images.shape[2], images.shape[3])
    pictures = {
        name: Picture(model.get_submodule(name), tuple(each.output.shape[1:]))
        for name, each in made.items()
        if each.output.ndim == 4
    }
    last = channels_last(pictures, shape)
    ends, counts = [], {}
    for name, each in made.items():
        size = positions(each.output, shape, last.get(name))
        if size and _is_block(model, name):
            sizes = [positions(tensor, shape, last.get(name)) for tensor in each.passed]
            counts[name] = [int(np.prod(size)) for size in sizes if size]
        if size and max(size) >= least:
            ends.append(_End(name, size, each.output, last.get(name), each.tokens_first, each.every))
    return [end for end in ends if _fits(end, counts)]


def _hidden(model: nn.Module, made: Mapping[str, _Made]) -> list[_End]:
    """The hidden linear layers of a network without positions, but for the last, which makes the features."""
    linear = [
        _End(name, (), each.output, None, tokens_first=False, every=each.every)
        for name, each in made.items()
        if isinstance(model.get_submodule(name), nn.Linear) and each.output.ndim == 2
    ]
    return linear[:-1]


def _made(model: nn.Module, head: nn.Module, images: Tensor) -> tuple[dict[str, _Made], Tensor]:
    """What each module made when it was used last, in the order of their ends; the head's input."""
    made: dict[str, tuple[list[Tensor], Tensor]] = {}
    times: dict[str, int] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], given: Any) -> None:
            output = _tensor(given)
            times[name] = times.get(name, 0) + 1
            if output is not None and output.is_floating_point():
                made.pop(name, None)
                made[name] = [*_tensors(inputs), *_tensors(given)], output

        return hook

    was_training = model.training
    model.eval()
    with ExitStack() as hooks, tap(head) as inputs:
        for name, module in model.named_modules():
            emptied = any(isinstance(part, Emptied) for part in module.modules())
            if name and not emptied and not _is_output(module, head):
                hooks.callback(module.register_forward_hook(keep(name)).remove)
        model(images)
        features = inputs[0].float()
    turned = _tokens_first(model, head, images, {name: output for name, (_, output) in made.items()})
    model.train(was_training)
    every = {name: _every(model, name, times) for name in made}
    parts = {
        name: _Made(*_images_first(passed, output, len(images)), True, every[name])
        if name in turned
        else _Made(passed, output, False, every[name])
        for name, (passed, output) in made.items()
    }
    return {name: each for name, each in parts.items() if each.output.shape[:1] == (len(images),)}, features


def _tokens_first(
    model: nn.Module, head: nn.Module, images: Tensor, outputs: Mapping[str, Tensor]
) -> set[str]:
    """The modules that make (token, image, channel); nothing is run if all outputs have the images first."""
    count = len(images)
    if not any(
        output.ndim == 3 and (len(output) != count or output.shape[1] == count) for output in outputs.values()
    ):
        return set()
    axes = image_axes(model, head, images)
    return {name for name, output in outputs.items() if output.ndim == 3 and axes.get(name, (0, 0))[1] == 1}


def _images_first(passed: Sequence[Tensor], output: Tensor, count: int) -> tuple[list[Tensor], Tensor]:
    """What a module read and made as (token, image, channel), with the images first."""
    turned = [
        value.transpose(0, 1) if value.ndim == 3 and value.shape[1] == count else value for value in passed
    ]
    return turned, output.transpose(0, 1)


def _every(model: nn.Module, name: str, times: Mapping[str, int]) -> int:
    """How many uses of a module there are for each use of it, or of what is around it, that has weights."""
    around = name
    while around and not (around in times and any(True for _ in model.get_submodule(around).parameters())):
        around = around.rpartition(".")[0]
    return max(times[name] // times.get(around, 1), 1)


def _is_output(module: nn.Module, head: nn.Module) -> bool:
    """Whether a linear layer makes one output a label, as an auxiliary head does."""
    return isinstance(module, nn.Linear) and module.out_features == head.out_features


def _fits(end: _End, counts: Mapping[str, Sequence[int]]) -> bool:
    """Whether the blocks around an end read or make about as few, and about as many, positions."""
    count = int(np.prod(end.size))
    around = (counts[name] for name in counts if end.module.startswith(f"{name}."))
    return all(min(each) - PREFIX <= count <= max(each) + PREFIX for each in around)


def _stages(model: nn.Module, ends: Sequence[_End]) -> list[_End]:
    """The ends of stages; of a network with fewer than `STAGES`, ends of evenly spaced blocks as well.

    What lies deep inside a block (an attention's weights, a widened layer) is no end: only modules at most
    one level below the outermost of their size count, and only sizes that come up near the top of the
    model.
    """
    groups = [group for group in _by_size(ends) if _depth(group) <= min(map(_depth, _by_size(ends))) + INSIDE]
    last = [[end for end in group if end.module.count(".") <= _depth(group) + 1][-1] for group in groups]
    chosen = {end.module for end in last}
    if missing := max(STAGES - len(last), 0) if last else 0:
        in_rows = max((_blocks(model, group, beside=True) for group in groups), key=len)
        blocks = in_rows or max((_blocks(model, group, beside=False) for group in groups), key=len)
        chosen |= {
            blocks[(at + 1) * len(blocks) // (missing + 1) - 1].module for at in range(missing) if blocks
        }
    return [end for end in ends if end.module in chosen]


def _by_size(ends: Sequence[_End]) -> list[list[_End]]:
    """Ends of one size together, in the order of use; a sequence goes with the picture it was cut from."""
    longest = max((end.size[0] for end in ends if len(end.size) == 1), default=0)
    groups: dict[int, list[_End]] = {}
    for end in ends:
        count = int(np.prod(end.size))
        cut = len(end.size) == 1 or longest - PREFIX <= count <= longest
        groups.setdefault(0 if cut else count, []).append(end)
    return list(groups.values())


def _depth(group: Sequence[_End]) -> int:
    """Levels above the outermost module of a group."""
    return min(end.module.count(".") for end in group)


def _is_block(model: nn.Module, name: str, *, beside: bool = True) -> bool:
    """Whether a module with layers inside is one of several of one kind, with another one beside it."""
    parent, _, own = name.rpartition(".")
    row = list(model.get_submodule(parent).named_children())
    at = next((number for number, (child, _) in enumerate(row) if child == own), None)
    if at is None or next(row[at][1].children(), None) is None:
        return False
    same = [number for number, (_, module) in enumerate(row) if type(module) is type(row[at][1])]
    return any(abs(number - at) == 1 for number in same) if beside else len(same) > 1


def _blocks(model: nn.Module, group: Sequence[_End], *, beside: bool) -> list[_End]:
    return [end for end in group if _is_block(model, end.module, beside=beside)]


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in what a module read or made."""
    if isinstance(value, tuple | list):
        return [tensor for part in value for tensor in _tensors(part)]
    return [value] if isinstance(value, Tensor) else []


def _tensor(output: Any) -> Tensor | None:
    """What a module returned, or the first of several things; None if that is no tensor."""
    first = output[0] if isinstance(output, tuple | list) and output else output
    return first if isinstance(first, Tensor) else None


def positions(
    output: Tensor, input_size: tuple[int, int] = (1, 1), channels_last: bool | None = None
) -> tuple[int, ...]:
    """Positions of an output: (height, width), (tokens,), or () where it has none.

    Args:
        output: Of a module.
        input_size: Height and width of the images, or of any of that shape: it tells a channel from a side.
        channels_last: Whether the channels of a picture stand last; None: the input's shape tells.

    >>> positions(torch.zeros(2, 8, 4, 4)), positions(torch.zeros(2, 17, 96))
    ((4, 4), (17,))
    """
    if output.ndim == 4:
        first, last = tuple(output.shape[1:3]), tuple(output.shape[2:])
        if channels_last is None:
            channels_last = alike(first, input_size) and not alike(last, input_size)
        return first if channels_last else last
    return (output.shape[1],) if output.ndim == 3 else ()


def has_channels_last(output: Tensor, size: tuple[int, ...], channels_last: bool | None = None) -> bool:
    """Whether the channels of a picture stand last, where that was found or by its size.

    Args:
        output: (batch, channel, height, width) or (batch, height, width, channel).
        size, channels_last: Of the `Site`.
    """
    return tuple(output.shape[2:]) != tuple(size) if channels_last is None else channels_last


def pooled(
    output: Tensor, kind: Kind, size: tuple[int, ...] | None = None, channels_last: bool | None = None
) -> Float[Tensor, "batch feature"]:
    """One row an image: the mean over all positions, over cells, or over quarters, of filters as well.

    An output without positions is its own row.

    Args:
        output: Of a module.
        kind: How it is read.
        size: Its `positions`; None where the images are squares.
        channels_last: Whether the channels of a picture stand last; None: its size tells.
    """
    size = positions(output) if size is None else size
    output = output.float()
    if output.ndim == 2:
        return output
    if output.ndim == 3:
        output = output.transpose(1, 2)[:, :, None]  # a picture of one line
    elif has_channels_last(output, size, channels_last):
        output = output.permute(0, 3, 1, 2)
    if kind == "stage":
        return output.mean((2, 3))
    line = output.shape[2] == 1
    if kind == "cells":
        grid = (1, CELLS**2) if line else (CELLS, CELLS)
        high, wide = (min(part, side) for part, side in zip(grid, output.shape[2:], strict=True))
        return adaptive_avg_pool2d(output, (high, wide)).flatten(1)
    filters = _filters(output.shape[1], line).to(output.device)
    made = conv2d(output, filters, padding=(0, 1) if line else 1).relu()
    quarters = (1, 4) if line else (2, 2)
    return torch.cat([adaptive_avg_pool2d(each, quarters).flatten(1) for each in (output, made)], 1)


@lru_cache(maxsize=64)
def _filters(channels: int, line: bool) -> Tensor:
    """Fixed random weights of `FILTERS` convolutions over 3 x 3 positions, or over 3 of a line."""
    shape = (FILTERS, channels, 1 if line else 3, 3)
    drawn = normal(0, f"sites/filters/{channels}/{shape[2]}", np.arange(int(np.prod(shape)))).reshape(shape)
    return torch.from_numpy(drawn).float() / (channels * shape[2] * 3) ** 0.5


@contextmanager
def reading(model: nn.Module, sites: Sequence[Site]) -> Iterator[dict[str, Tensor]]:
    """While open, one forward pass leaves each site's rows in the dictionary, with their gradient.

    ``outputs`` is what the model returns and is left to the caller. A network's gradient checkpointing is off
    meanwhile: it would compute its blocks a second time, when no row is read any more.
    """
    rows: dict[str, Tensor] = {}
    by_module: dict[str, list[Site]] = {}
    for site in sites:
        if site.kind != "outputs":
            by_module.setdefault(site.module, []).append(site)

    def after(wanted: Sequence[Site]) -> Any:
        uses = 0

        def hook(_module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            nonlocal uses
            uses += 1
            for site in wanted:
                if site.kind == "features":
                    rows[site.name] = inputs[0].float()
                elif uses % site.every == 0:
                    tensor = _tensor(output)
                    assert isinstance(tensor, Tensor), "it was one when the sites were found"
                    rows[site.name] = _averaged(rows.get(site.name), site.row(tensor), uses // site.every)

        return hook

    with ExitStack() as hooks:
        hooks.enter_context(_no_checkpointing(model))
        for module, wanted in by_module.items():
            hooks.callback(model.get_submodule(module).register_forward_hook(after(wanted)).remove)
        yield rows


def _averaged(before: Tensor | None, row: Tensor, uses: int) -> Tensor:
    """The mean over so many uses of a module, of that over all but the last and the last; of one, its own."""
    if before is None or before.shape != row.shape:
        return row
    return before + (row - before) / uses


@contextmanager
def _no_checkpointing(model: nn.Module) -> Iterator[None]:
    """While open, what the libraries of networks call gradient checkpointing is switched off."""
    on = [(part, name) for part in model.modules() for name in SWITCHES if part.__dict__.get(name) is True]
    try:
        for part, name in on:
            setattr(part, name, False)
        yield
    finally:
        for part, name in on:
            setattr(part, name, True)
