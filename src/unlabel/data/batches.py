"""From bytes to normalised batches, with light augmentation keyed by image and epoch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
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


def augment(
    pixels: NDArray[np.uint8], index: NDArray[np.integer], seed: int, epoch: NDArray[np.integer] | int
) -> NDArray[np.uint8]:
    """Mirrors half of the images, shifts each by up to a sixteenth of its sides, changes light a little.

    Every number is keyed by (seed, epoch, image), so an image is augmented alike on any process.
    Shifted-in borders repeat the edge; brightness moves by up to 10 % and contrast by up to 15 %.

    Args:
        pixels: uint8 (batch, height, width, 3).
        index: Position of each image in the whole source.
        seed: The run's seed.
        epoch: Which visit to the image this is, one number or one for each image.

    Returns:
        uint8 of the same shape.
    """
    height, width = pixels.shape[1:3]
    draw = [
        uniform(seed, f"augment/{name}", epoch, index) for name in ("flip", "x", "y", "light", "contrast")
    ]
    flip = draw[0] < 0.5
    column, row = _shifted(draw[1], width), _shifted(draw[2], height)
    column = np.where(flip[:, None], column[:, ::-1], column)
    moved = pixels[np.arange(len(pixels))[:, None, None], row[:, :, None], column[:, None, :]]
    light = ((draw[3] - 0.5) * 0.2 * 255.0).astype(np.float32)[:, None, None, None]
    contrast = (1.0 + (draw[4] - 0.5) * 0.3).astype(np.float32)[:, None, None, None]
    return np.clip((moved - np.float32(127.5)) * contrast + np.float32(127.5) + light, 0, 255).astype(
        np.uint8
    )


def _shifted(draw: NDArray[np.float64], side: int) -> NDArray[np.int64]:
    """For each image, which pixel comes to each place of a side that moves by up to a sixteenth of it."""
    reach = side // 16
    shift = np.floor(draw * (2 * reach + 1)).astype(np.int64) - reach
    return np.clip(np.arange(side)[None] + shift[:, None], 0, side - 1)


def normalise(
    pixels: NDArray[np.uint8], mean: Colours, std: Colours, device: torch.device
) -> Float[Tensor, "batch channel height width"]:
    """(pixel / 255 - mean) / std of uint8 (batch, height, width, 3), in channels-last memory.

    A mean of one number gives one channel: the brightness of red, green and blue (`LUMA`), which of a grey
    picture is its grey.
    """
    image = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2).float()
    if len(mean) == 1:
        weights = torch.tensor(LUMA, device=device).view(1, 3, 1, 1)
        image = (image * weights).sum(1, keepdim=True)
    centre = torch.tensor(mean, device=device).view(1, -1, 1, 1)
    scale = torch.tensor(std, device=device).view(1, -1, 1, 1)
    return (image / 255.0 - centre) / scale


def batch_of(
    dataset: Dataset,
    positions: NDArray[np.integer] | Sequence[int],
    device: torch.device,
    *,
    seed: int = 0,
    epoch: NDArray[np.integer] | int | None = None,
) -> Batch:
    """The images at some positions of a split; augmented when an epoch is given."""
    where = np.asarray(positions, np.int64)
    rows = dataset.rows[where]
    pixels = dataset.pixels[rows]
    if epoch is not None:
        pixels = augment(pixels, rows, seed, epoch)
    return Batch(
        image=normalise(pixels, dataset.mean, dataset.std, device),
        target=torch.from_numpy(dataset.target[where].astype(np.int64)).to(device),
        rows=torch.from_numpy(rows).to(device),
    )
