"""Example images on the page, where they were asked for: which ones, how small, and within which bounds.

The pixels that a network sees are encoded anew, so nothing of a photo's file is left in them: no place, no
date, no camera, no larger picture.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unlabel.core.randomness import uniform
from unlabel.data.images.decoding import fit

SIDE = 64
"""Largest side of an image on the page, in pixels."""

LONGEST = 2_500
"""Characters that an image takes at most."""

QUALITIES = (85, 75, 65, 50, 30, 15, 5)  # of a JPEG; the first that is short enough

STRIPS: Mapping[str, tuple[str, str]] = {
    "lost": ("No longer recovered", "where the attacker's certainty of the annotation fell most"),
    "kept": ("Still recovered", "where the attacker is surest of the annotation after forgetting"),
    "lot": ("Drawn by lot", "without regard to any model"),
}
"""Strip -> its title, and which images are in it."""


@dataclass(frozen=True)
class Picture:
    """One image with what a linear attacker on the features makes of it.

    Args:
        name: The image's name in its source.
        present: Whether it is annotated with the label.
        before, after: Probability, 0 to 1, that the attacker on the original and on this model gives to that
            annotation.
        uri: The image as a ``data:`` address, at most `LONGEST` characters.
    """

    name: str
    present: bool
    before: float
    after: float
    uri: str


@dataclass(frozen=True)
class Example:
    """The strips of one forgotten label, by the keys of `STRIPS`; ``share`` of ``n`` images have it."""

    label: str
    strips: Mapping[str, Sequence[Picture]]
    n: int
    share: float


@dataclass(frozen=True)
class Gallery:
    """All example images of a page.

    Args:
        source: Where they come from, as a data source's name.
        drawn: Whether the source holds no photograph.
        examples: By label.
        left_out: Forgotten labels that have no examples here, for want of room.
    """

    source: str
    drawn: bool
    examples: Sequence[Example]
    left_out: Sequence[str] = ()

    @property
    def count(self) -> int:
        """Images on the page."""
        return sum(len(strip) for item in self.examples for strip in item.strips.values())


def room(forgotten: int) -> tuple[int, int]:
    """How many labels get examples, and how many images of each kind are in a strip of theirs.

    Args:
        forgotten: Labels that were forgotten, 1 or more.

    Example:
        >>> room(1), room(2), room(3), room(7)
        ((1, 3), (2, 2), (3, 1), (2, 1))
    """
    return {1: (1, 3), 2: (2, 2), 3: (3, 1)}.get(forgotten, (2, 1))


def address(pixels: NDArray[np.uint8]) -> str:
    """An image as a ``data:`` address: JPEG of at most `SIDE` pixels a side and `LONGEST` characters.

    Args:
        pixels: uint8 (height, width, 3).

    Example:
        >>> address(np.zeros((96, 96, 3), np.uint8))[:27]
        'data:image/jpeg;base64,/9j/'
    """
    longest = max(pixels.shape[:2])
    height, width = (max(1, round(side * min(1.0, SIDE / longest))) for side in pixels.shape[:2])
    image = Image.fromarray(fit(Image.fromarray(pixels), (height, width)))
    for quality in QUALITIES:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True)
        text = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
        if len(text) <= LONGEST:
            return text
    raise AssertionError("64 x 64 pixels at the lowest quality are shorter, whatever they show")


def pick(
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    present: NDArray[np.bool_],
    cluster: NDArray[np.int64],
    each: int,
    seed: int,
) -> dict[str, list[int]]:
    """The images of each strip, as many with the label as without, and no identity twice in a strip.

    Args:
        before, after: (image,) probability that an attacker gives to the true annotation.
        present: (image,) that annotation.
        cluster: (image,) its identity.
        each: Images of each kind.
        seed: Key of the lot.

    Returns:
        Strip -> positions, those with the label first; fewer where there are no more identities.

    Example:
        >>> sure = np.array([0.9, 0.9, 0.8, 0.6])
        >>> less = np.array([0.5, 0.9, 0.8, 0.5])
        >>> found = pick(sure, less, np.array([True, True, False, False]), np.arange(4), 1, seed=0)
        >>> found["lost"], found["kept"]
        ([0, 3], [1, 2])
    """
    order = {
        "lost": np.argsort(after - before, kind="stable"),
        "kept": np.argsort(-after, kind="stable"),
        "lot": np.argsort(uniform(seed, "report/pictures", np.arange(len(after))), kind="stable"),
    }
    chosen: dict[str, list[int]] = {}
    for strip in STRIPS:
        seen: set[int] = set()
        chosen[strip] = []
        for kind in (True, False):
            taken = 0
            for at in order[strip]:
                if taken == each:
                    break
                if present[at] == kind and int(cluster[at]) not in seen:
                    seen.add(int(cluster[at]))
                    chosen[strip].append(int(at))
                    taken += 1
    return chosen
