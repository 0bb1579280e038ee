"""`shapes`: small drawn pictures of ten exclusive classes, in two sets. No download, no licence.

``shapes`` shows a plain figure (disc, ring, star ...) of any colour, place and turn on a patterned ground;
``shapes:set=digits`` a digit of seven strokes between parts of its neighbours. They stand in for CIFAR-10 and
SVHN where a figure of the paper's is repeated without their data, and are as hard as noise, low contrast and
covering bars make them: nothing else about them is like those photos.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from unlabel.core.randomness import uniform
from unlabel.data.dataset import Source
from unlabel.data.drawn.canvas import Plane, hue
from unlabel.data.drawn.outlines import DIGITS, SOLIDS, digit, solid
from unlabel.data.drawn.source import drawn_classes, drawn_pixels, even_classes, numbers
from unlabel.data.drawn.spec import Allowed, checked, read_options, short_name
from unlabel.data.options import DEFAULTS, ReadOptions

VERSION = 1
"""Raise it when any pixel changes: cached pictures of other versions are not read."""

SETS: Mapping[str, tuple[str, ...]] = {"solids": SOLIDS, "digits": DIGITS}

_BATCH = 16  # drawn together, always full: rounding cannot depend on how many pictures were asked for
_ALLOWED: Mapping[str, Allowed] = {
    "set": tuple(SETS),
    "train": (1, 1_000_000),
    "probe": (1, 1_000_000),
    "test": (1, 1_000_000),
    "size": (16, 512),
    "seed": (0, 2**31 - 1),
}


@dataclass(frozen=True)
class ShapesConfig:
    """What ``shapes:set=S,train=N,probe=N,test=N,size=S,seed=R`` says; `load_shapes` tells the meanings."""

    set: str = "solids"
    train: int = 8_000
    probe: int = 2_000
    test: int = 4_000
    size: int = 32
    seed: int = 0


def load_shapes(spec: str, options: ReadOptions = DEFAULTS) -> Source:
    """Draws the pictures that a string names, or maps them from the cache.

    ``shapes:set=solids|digits,train=N,probe=N,test=N,size=S,seed=R``, each part optional: which ten classes,
    the number of images of each split (8,000, 2,000 and 4,000), height and width in pixels (32), and the key
    of all randomness (0). Every ten images in a row show each class once.

    Args:
        spec: The string, with or without the leading ``shapes:``.
        options: See `ReadOptions`; its size replaces the string's.

    Raises:
        OptionError: The string has an unknown option or one out of range.
        LabelMismatch: A label is no class of the set.
        DataError: The cache cannot be written.
    """
    given = read_options("shapes", spec, _ALLOWED, "shapes:set=digits,train=8000")
    if (size := options.square("shapes")) is not None:
        given["size"] = checked("shapes", "size", size, _ALLOWED)
    config = ShapesConfig(**given)
    splits = {}
    for split, index in numbers(config.__dict__).items():
        number = even_classes(index, 10, uniform(config.seed, f"shapes/{config.set}", index // 10))
        key = (VERSION, config.set, config.seed, split, len(index), config.size)
        paint = partial(_draw_rows, config.set, config.seed, index, number, config.size)
        pixels, digest = drawn_pixels(
            f"shapes-{config.set}",
            split,
            key,
            len(index),
            config.size,
            paint,
            options,
        )
        splits[split] = (index, number, pixels, digest)
    facts = {"seed": config.seed, "set": config.set, "drawing_version": VERSION}
    return drawn_classes(
        "shapes", short_name("shapes", config), SETS[config.set], options.labels, splits, facts
    )


def _draw_rows(
    which: str, seed: int, index: NDArray[np.int64], number: NDArray[np.int64], size: int, rows: slice
) -> NDArray[np.uint8]:
    return draw_shapes(which, seed, index[rows], number[rows], size)


def draw_shapes(
    which: str, seed: int, index: NDArray[np.integer], number: NDArray[np.integer], size: int
) -> NDArray[np.uint8]:
    """Draws pictures, keyed by (seed, index): the same bytes whatever else is drawn with them.

    Args:
        which: A name of `SETS`.
        seed: Key of the whole data set, >= 0.
        index: Image numbers >= 0.
        number: The class of each image, 0 to 9.
        size: Height and width in pixels, >= 16.

    Returns:
        uint8 (image, size, size, 3).

    Example:
        >>> draw_shapes("solids", 0, np.array([5, 6]), np.array([0, 1]), 32).shape
        (2, 32, 32, 3)
    """
    pictures = np.empty((len(index), size, size, 3), np.uint8)
    for start in range(0, len(index), _BATCH):
        rows = np.resize(np.arange(start, min(start + _BATCH, len(index))), _BATCH)
        drawn = _paint(which, seed, index[rows], number[rows], size)
        pictures[start : start + _BATCH] = drawn[: len(index) - start]
    return pictures


def _paint(
    which: str, seed: int, index: NDArray[np.integer], number: NDArray[np.integer], size: int
) -> NDArray[np.uint8]:
    """A ground, a figure, a bar over it, and grain."""

    def between(name: str, low: float, high: float) -> Plane:
        drawn = low + (high - low) * uniform(seed, f"shapes/{which}/{name}", index)
        return drawn.astype(np.float32)[:, None, None]

    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    x, y = axis[None, None, :], axis[None, :, None]
    turn = between("ground_turn", 0, 2 * np.pi)
    across = x * np.cos(turn) + y * np.sin(turn)
    light = between("ground_light", 0.3, 0.7)
    pattern = light + 0.10 * across + 0.06 * np.sin(across * between("ground_fine", 4, 16))
    image = np.stack(hue(between("ground_hue", 0, 2 * np.pi), pattern, 0.10), axis=1)

    figure: Callable[..., Plane] = solid if which == "solids" else digit
    distance = figure(number, x, y, between)
    # lighter or darker than the ground by a fifth to half of full brightness, of any hue
    step = between("contrast", 0.16, 0.45) * np.where(between("polarity", 0, 1) < light, -1, 1)
    _put(image, distance, hue(between("hue", 0, 2 * np.pi), light + step, 0.10), size)
    bar_turn = between("bar_turn", 0, np.pi)
    bar = np.abs(x * np.cos(bar_turn) + y * np.sin(bar_turn) - between("bar_place", -0.5, 0.5))
    _put(image, bar - between("bar_width", 0.0, 0.07), hue(between("bar_hue", 0, 6), light, 0.16), size)

    pixels = np.arange(size**2)[None, :]
    for k in range(3):
        grain = uniform(seed, f"shapes/{which}/grain", index[:, None], pixels, k)
        image[:, k] += between("noise", 0.10, 0.35) * (grain.astype(np.float32) - 0.5).reshape(-1, size, size)
    return np.ascontiguousarray(np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1))


def _put(image: NDArray[np.float32], distance: Plane, colour: list[Plane], size: int) -> None:
    """Paints where the signed distance is below 0, with edges one pixel wide."""
    cover = np.clip(0.5 - distance * (size / 2), 0, 1)
    for k in range(3):
        image[:, k] += cover * (colour[k] - image[:, k])
