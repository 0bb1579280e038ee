"""Bringing a picture of any shape to the size that a network reads: cut, squashed or padded."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unlabel.core.framing import CENTRE, Frame, Size

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a picture, in pixels."""

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_CENTRE_SQUARE = "rgb-upright-centre-square-bicubic-3"
"""Names what is done to a picture by default, whatever the size; cached images are found by it."""


def transform_name(frame: Frame) -> str:
    """Names what is done to a picture; change it with the code, and caches are made anew.

    >>> transform_name(Frame(64, 64))
    'rgb-upright-centre-square-bicubic-3/64'
    """
    framing = frame.framing
    if framing == CENTRE:
        return f"{_CENTRE_SQUARE}/{frame.name}"
    return f"rgb-upright-{framing.resize}-{framing.crop_pct!r}-{framing.interpolation}-3/{frame.name}"


def fit(image: Image.Image, size: Size | Frame, part: Box | None = None) -> NDArray[np.uint8]:
    """An image in memory at a size, with antialiasing; unchanged where it has the size.

    Args:
        image: In mode RGB or L.
        size: Height and width of the result in pixels, one number for a square: the largest centred cut of
            that shape. A `Frame` says another way.
        part: What of the image is the picture, within its sides; None for all of it.

    Returns:
        uint8 (height, width, 3), without the last axis for mode L.

    Example:
        >>> wide = Image.new("RGB", (40, 20), (9, 9, 9))
        >>> from unlabel.core.framing import Framing
        >>> fit(wide, Frame(20, 20, Framing("pad")))[[0, 10], 10, 0].tolist()
        [0, 9]
    """
    frame = Frame.of(size)
    target = frame.width, frame.height
    if image.size != target or frame.framing.crop_pct < 1:
        part = part or (0, 0, *image.size)
        if frame.framing.resize == "pad":
            image = _padded(image, frame, part)
        else:
            box = _middle(part, frame) if frame.framing.resize == "crop" else part
            image = image.resize(target, _FILTERS[frame.framing.interpolation], box=box, reducing_gap=3.0)
    return np.array(image, np.uint8)


def _middle(part: Box, frame: Frame) -> Box:
    """What is cut out of the middle of a picture."""
    width, height = part[2] - part[0], part[3] - part[1]
    wide = width * frame.height >= height * frame.width  # of the wanted shape or wider
    across = height * frame.width / frame.height if wide else width
    down = height if wide else width * frame.height / frame.width
    across, down = across * frame.framing.crop_pct, down * frame.framing.crop_pct
    left, top = part[0] + (width - across) / 2, part[1] + (height - down) / 2
    return left, top, min(left + across, part[2]), min(top + down, part[3])


def _padded(image: Image.Image, frame: Frame, part: Box) -> Image.Image:
    """The whole picture, scaled until it fits, in the middle of black."""
    sides = part[2] - part[0], part[3] - part[1]
    scale = min(frame.width / sides[0], frame.height / sides[1])
    width, height = (max(1, round(side * scale)) for side in sides)
    inner = image.resize((width, height), _FILTERS[frame.framing.interpolation], box=part, reducing_gap=3.0)
    padded = Image.new(image.mode, (frame.width, frame.height))
    padded.paste(inner, ((frame.width - width) // 2, (frame.height - height) // 2))
    return padded
