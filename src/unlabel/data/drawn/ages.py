"""`ages`: drawn faces in five ordered groups of age, exclusive classes. No download, no person.

They stand in for MUFAC. A face is drawn as in `faces`; an age along a line, spread about its group's place so
that neighbouring groups overlap, deepens wrinkles and bags, turns hair grey and thin, and narrows the eyes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from unlabel.core.randomness import normal, uniform
from unlabel.data.dataset import Source
from unlabel.data.drawn.drawing import VERSION as FACES_VERSION
from unlabel.data.drawn.drawing import draw
from unlabel.data.drawn.joint import LABELS, sample
from unlabel.data.drawn.source import drawn_classes, drawn_pixels, even_classes, numbers
from unlabel.data.drawn.spec import Allowed, checked, read_options, short_name
from unlabel.data.options import DEFAULTS, ReadOptions

VERSION = 1
"""Raise it when any pixel changes: cached pictures of other versions are not read."""

GROUPS = ("age_1", "age_2", "age_3", "age_4", "age_5")
SPREAD = 0.35  # deviation of an age within its group, in distances between groups

_DRAWN = 10  # columns of `faces` that vary a face beside its age
_STEP: Mapping[str, float] = {
    "wrinkles": 0.16,
    "bags": 0.07,
    "hair_grey": 0.19,
    "hairline": -0.035,
    "hair_top": -0.012,
    "eye_height": -0.003,
    "ruddy": -0.004,
}
"""What one group more adds to a cue of the face; the middle group is as `faces` draws it, but not young."""

_ALLOWED: Mapping[str, Allowed] = {
    "train": (1, 1_000_000),
    "probe": (1, 1_000_000),
    "test": (1, 1_000_000),
    "size": (16, 512),
    "seed": (0, 2**31 - 1),
}


@dataclass(frozen=True)
class AgesConfig:
    """What ``ages:train=N,probe=N,test=N,size=S,seed=R`` says; `load_ages` tells the meanings."""

    train: int = 8_000
    probe: int = 2_000
    test: int = 4_000
    size: int = 64
    seed: int = 0


def load_ages(spec: str, options: ReadOptions = DEFAULTS) -> Source:
    """Draws the faces that a string names, or maps them from the cache.

    ``ages:train=N,probe=N,test=N,size=S,seed=R``, each part optional: the number of images of each split
    (8,000, 2,000 and 4,000), height and width in pixels (64), and the key of all randomness (0). Every five
    images in a row show each group once.

    Args:
        spec: The string, with or without the leading ``ages:``.
        options: See `ReadOptions`; its size replaces the string's.

    Raises:
        OptionError: The string has an unknown option or one out of range.
        LabelMismatch: A label is no group.
        DataError: The cache cannot be written.
    """
    given = read_options("ages", spec, _ALLOWED, "ages:train=8000,size=64")
    if (size := options.square("ages")) is not None:
        given["size"] = checked("ages", "size", size, _ALLOWED)
    config = AgesConfig(**given)
    splits = {}
    for split, index in numbers(config.__dict__).items():
        group = even_classes(index, len(GROUPS), uniform(config.seed, "ages/group", index // len(GROUPS)))
        key = (VERSION, FACES_VERSION, config.seed, split, len(index), config.size)
        paint = partial(_draw_rows, config.seed, index, group, config.size)
        pixels, digest = drawn_pixels(
            "ages",
            split,
            key,
            len(index),
            config.size,
            paint,
            options,
        )
        splits[split] = (index, group, pixels, digest)
    facts = {"seed": config.seed, "drawing_version": [VERSION, FACES_VERSION]}
    return drawn_classes("ages", short_name("ages", config), GROUPS, options.labels, splits, facts)


def _draw_rows(
    seed: int, index: NDArray[np.int64], group: NDArray[np.int64], size: int, rows: slice
) -> NDArray[np.uint8]:
    return draw_ages(seed, index[rows], group[rows], size)


def draw_ages(
    seed: int, index: NDArray[np.integer], group: NDArray[np.integer], size: int
) -> NDArray[np.uint8]:
    """Draws faces of given groups, keyed by (seed, index): the same bytes whatever else is drawn with them.

    Args:
        seed: Key of the whole data set, >= 0.
        index: Image numbers >= 0.
        group: Group of each face, 0 (youngest) to 4.
        size: Height and width in pixels, >= 16.

    Returns:
        uint8 (image, size, size, 3).

    Example:
        >>> draw_ages(0, np.array([5, 6]), np.array([0, 4]), 32).shape
        (2, 32, 32, 3)
    """
    age = group - 2 + SPREAD * normal(seed, "ages/age", index)
    target = sample(seed, index, _DRAWN)
    target[:, LABELS.index("Young")] = 0
    return draw(seed, index, target, size, {cue: step * age for cue, step in _STEP.items()})
