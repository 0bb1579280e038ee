"""From bytes to normalised batches, with light augmentation keyed by image and epoch.

::

    read_batch   bytes, targets and what becomes of each image, in the host's memory; in any thread
    finish       on the device: moved, relit, normalised
    batch_of     both, at once; `data.feed` calls them ahead of a network's computing
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from unlabel.core.randomness import uniform
from unlabel.data.dataset import Colours, Dataset

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in the brightness of a pixel, as Pillow takes them for grey."""


class Batch(NamedTuple):
    """Images ready for a network, with their targets."""

    image: Float[Tensor, "batch channel height width"]
    target: Int[Tensor, "batch label"]  # 1 present, 0 absent, -1 unknown
    rows: Int[Tensor, " batch"]  # position in the whole source: keys all per-sample randomness


class Moves(NamedTuple):
    """What augmentation does to each image of a batch."""

    row: Int[Tensor, "batch height"]  # which row of the image comes to each place
    column: Int[Tensor, "batch width"]
    contrast: Float[Tensor, " batch"]  # what the distance of a pixel from 127.5 is multiplied by
    light: Float[Tensor, " batch"]  # what is then added to a pixel, of 255


class Unfinished(NamedTuple):
    """A batch in the host's memory: images as bytes, and what is still to be done to them."""

    pixels: UInt8[Tensor, "batch height width 3"]
    moves: Moves | None  # None: the images stay as they are
    target: Int[Tensor, "batch label"]
    rows: Int[Tensor, " batch"]


def moves_of(
    index: NDArray[np.integer], seed: int, epoch: NDArray[np.integer] | int, size: tuple[int, int]
) -> Moves:
    """Mirrors half of the images, shifts each by up to a sixteenth of its sides, changes light a little.

    Every number is keyed by (seed, epoch, image), so an image is augmented alike on any process, by any
    number of workers. Shifted-in borders repeat the edge; brightness moves by up to 10 % and contrast by up
    to 15 %.

    Args:
        index: Position of each image in the whole source.
        seed: The run's seed.
        epoch: Which visit to the image this is, one number or one for each image.
        size: Height and width of the images in pixels.
    """
    flip, x, y, light, contrast = (
        uniform(seed, f"augment/{name}", epoch, index) for name in ("flip", "x", "y", "light", "contrast")
    )
    column, row = _shifted(x, size[1]), _shifted(y, size[0])
    column = np.where((flip < 0.5)[:, None], column[:, ::-1], column)
    return Moves(
        torch.from_numpy(row),
        torch.from_numpy(column),
        torch.from_numpy((1.0 + (contrast - 0.5) * 0.3).astype(np.float32)),
        torch.from_numpy(((light - 0.5) * 0.2 * 255.0).astype(np.float32)),
    )


def _shifted(draw: NDArray[np.float64], side: int) -> NDArray[np.int64]:
    """For each image, which pixel comes to each place of a side that moves by up to a sixteenth of it."""
    reach = side // 16
    shift = np.floor(draw * (2 * reach + 1)).astype(np.int64) - reach
    return np.clip(np.arange(side)[None] + shift[:, None], 0, side - 1)


def augment(
    pixels: UInt8[Tensor, "batch height width 3"], moves: Moves
) -> Float[Tensor, "batch height width 3"]:
    """The moved and relit images on their device: float32, whole numbers from 0 to 255.

    Each value is rounded after each of the four operations, on any device alike, and cut to a whole number.

    Example:
        >>> dark = torch.zeros((1, 16, 16, 3), dtype=torch.uint8)
        >>> augment(dark, moves_of(np.array([3]), 0, 0, (16, 16))).unique().tolist()
        [12.0]
    """
    moved = (one_by_one if pixels.device.type == "cpu" else all_at_once)(pixels, moves.row, moves.column)
    contrast, light = (values.view(-1, 1, 1, 1) for values in (moves.contrast, moves.light))
    return moved.float().sub_(127.5).mul_(contrast).add_(127.5).add_(light).clamp_(0, 255).trunc_()


def one_by_one(pixels: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Pixels at these rows and columns of each image: the faster way on a CPU."""
    images = zip(pixels, row, column, strict=True)
    return torch.stack([image.index_select(0, down).index_select(1, right) for image, down, right in images])


def all_at_once(pixels: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """The same in one operation: the faster way on a GPU."""
    number = torch.arange(len(pixels), device=pixels.device)[:, None, None]
    return pixels[number, row[:, :, None], column[:, None, :]]


def _network_input(
    pixels: UInt8[Tensor, "batch height width 3"], moves: Moves | None, mean: Colours, std: Colours
) -> Float[Tensor, "batch channel height width"]:
    """Augmented if there are moves, and normalised; in channels-last memory."""
    values = pixels.float() if moves is None else augment(pixels, moves)
    luma, centre, scale = (torch.tensor(numbers, device=pixels.device) for numbers in (LUMA, mean, std))
    if len(mean) == 1:
        values = (values * luma).sum(-1, keepdim=True)
    return values.div_(255.0).sub_(centre).div_(scale).permute(0, 3, 1, 2)


def normalise(
    pixels: NDArray[np.uint8], mean: Colours, std: Colours, device: torch.device
) -> Float[Tensor, "batch channel height width"]:
    """(pixel / 255 - mean) / std of uint8 (batch, height, width, 3), in channels-last memory.

    A mean of one number gives one channel: the brightness of red, green and blue (`LUMA`), which of a grey
    picture is its grey.
    """
    return _network_input(torch.from_numpy(np.ascontiguousarray(pixels)).to(device), None, mean, std)


def read_batch(
    dataset: Dataset,
    positions: NDArray[np.integer] | Sequence[int],
    seed: int = 0,
    epoch: NDArray[np.integer] | int | None = None,
    *,
    pinned: bool = False,
) -> Unfinished:
    """The images at some positions of a split, to be augmented when an epoch is given.

    Args:
        dataset: The split.
        positions: In the split.
        seed, epoch: See `moves_of`.
        pinned: Whether it is put into page-locked memory, from which a GPU copies while it computes.
    """
    where = np.asarray(positions, np.int64)
    rows = dataset.rows[where]
    height, width = dataset.input_shape[1:]
    moves = None if epoch is None else moves_of(rows, seed, epoch, (height, width))
    tensors = (
        torch.from_numpy(np.ascontiguousarray(dataset.pixels[rows])),
        torch.from_numpy(dataset.target[where].astype(np.int64)),
        torch.from_numpy(rows),
    )
    if pinned:
        tensors = tuple(tensor.pin_memory() for tensor in tensors)
        moves = None if moves is None else Moves(*(tensor.pin_memory() for tensor in moves))
    pixels, target, rows = tensors
    return Unfinished(pixels, moves, target, rows)


def finish(batch: Unfinished, dataset: Dataset, device: torch.device) -> Batch:
    """The batch on a device, for a network that wants the data set's normalisation."""
    pixels, target, rows = (
        tensor.to(device, non_blocking=True) for tensor in (batch.pixels, batch.target, batch.rows)
    )
    moves = batch.moves and Moves(*(tensor.to(device, non_blocking=True) for tensor in batch.moves))
    return Batch(_network_input(pixels, moves, dataset.mean, dataset.std), target, rows)


def batch_of(
    dataset: Dataset,
    positions: NDArray[np.integer] | Sequence[int],
    device: torch.device,
    *,
    seed: int = 0,
    epoch: NDArray[np.integer] | int | None = None,
) -> Batch:
    """The images at some positions of a split; augmented when an epoch is given."""
    return finish(read_batch(dataset, positions, seed, epoch), dataset, device)
