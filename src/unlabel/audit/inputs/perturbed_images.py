"""Perturbed probe and test images, for models that may have memorised the audit's own images.

A person sees no difference, and to a model that has learnt and not memorised they are images like any others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unlabel.core.randomness import uniform
from unlabel.data.dataset import Dataset
from unlabel.models.outputs import Outputs

IMAGES = 2000  # of each split that are perturbed
SHADES = 3  # of 255: the most by which a perturbed image is lighter or darker


@dataclass(frozen=True)
class Perturbed:
    """Outputs on perturbed probe and test images, and the positions of those images in their splits."""

    probe: Outputs
    test: Outputs
    probe_rows: NDArray[np.int64]
    test_rows: NDArray[np.int64]

    @classmethod
    def of(cls, parts: Sequence[Dataset], seed: int, near: Sequence[Outputs]) -> "Perturbed":
        """Of the probe and test splits, and what a model says of both when they are `perturbed`."""
        probe, test = parts
        return cls(near[0], near[1], chosen(probe, seed), chosen(test, seed))


def perturb(pixels: NDArray[np.uint8], index: NDArray[np.integer], seed: int) -> NDArray[np.uint8]:
    """Images as nobody has seen them: mirrored, moved by one pixel, one to three shades lighter or darker.

    Keyed by seed and image. The border repeats the edge; values stay within 0-255.

    Args:
        pixels: uint8 (image, height, width, 3).
        index: Position of each image in the whole source.
        seed: The audit's.

    Returns:
        uint8 of the same shape.
    """
    height, width = (np.arange(side) for side in pixels.shape[1:3])
    draw = [uniform(seed, f"audit/nudge/{name}", index) for name in ("x", "y", "sign", "light")]
    x, y, sign = (np.where(values < 0.5, -1, 1) for values in draw[:3])
    column = np.clip(width[::-1] + x[:, None], 0, width[-1])
    line = np.clip(height + y[:, None], 0, height[-1])
    moved = pixels[np.arange(len(pixels))[:, None, None], line[:, :, None], column[:, None, :]]
    light = (sign * (1 + np.floor(draw[3] * SHADES))).astype(np.int16)
    return np.clip(moved.astype(np.int16) + light[:, None, None, None], 0, 255).astype(np.uint8)


def chosen(data: Dataset, seed: int) -> NDArray[np.int64]:
    """Positions of the images of the probe or test split that are perturbed, drawn by a key, ascending."""
    rank = uniform(seed, "audit/nudged", data.rows)
    return np.sort(np.argsort(rank, kind="stable")[:IMAGES])


def perturbed(data: Dataset, seed: int) -> Dataset:
    """The chosen probe or test images, perturbed; up to 2,000, whose pixels are held in memory."""
    part = data.take(chosen(data, seed))
    pixels = perturb(part.images(slice(None)), part.rows, seed)
    return replace(part, pixels=pixels, rows=np.arange(len(part)))
