"""Bringing a picture of any shape to the size that a network reads: cut, squashed or padded."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unlabel.core.framing import CENTRE, Frame, Size

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_CENTRE_SQUARE = "rgb-upright-centre-square-bicubic-2"
"""Names what is done to a picture by default, whatever the size; cached images are found by it."""


def transform_name(frame: Frame) -> str:
    """Names what is done to a picture; change it with the code, and caches are made anew.

    >>> transform_name(Frame(64, 64))
    'rgb-upright-centre-square-bicubic-2/64'
    """
    framing = frame.framing
    if framing == CENTRE:
        return f"{_CENTRE_SQUARE}/{frame.name}"
    return f"rgb-upright-{framing.resize}-{framing.crop_pct!r}-{framing.interpolation}-2/{frame.name}"


def fit(image: Image.Image, size: Size | Frame) -> NDArray[np.uint8]:
    """An image in memory at a size, with antialiasing; unchanged where it has the size.

    Args:
        image: In mode RGB or L.
        size: Height and width of the result in pixels, one number for a square: the largest centred cut of
            that shape. A `Frame` says another way.

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
        if frame.framing.resize == "pad":
            image = _padded(image, frame)
        else:
            box = _middle(image.size, frame) if frame.framing.resize == "crop" else None
            image = image.resize(target, _FILTERS[frame.framing.interpolation], box=box, reducing_gap=3.0)
    return np.array(image, np.uint8)


def _middle(size: tuple[int, int], frame: Frame) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the part that is cut out of a picture of a size, (width, height)."""
    width, height = size
    wide = width * frame.height >= height * frame.width  # of the wanted shape or wider
    across = height * frame.width / frame.height if wide else width
    down = height if wide else width * frame.height / frame.width
    across, down = across * frame.framing.crop_pct, down * frame.framing.crop_pct
    left, top = (width - across) / 2, (height - down) / 2
    return left, top, min(left + across, width), min(top + down, height)


def _padded(image: Image.Image, frame: Frame) -> Image.Image:
    """The whole picture, scaled until it fits, in the middle of black."""
    scale = min(frame.width / image.width, frame.height / image.height)
    width, height = (max(1, round(side * scale)) for side in image.size)
    inner = image.resize((width, height), _FILTERS[frame.framing.interpolation], reducing_gap=3.0)
    padded = Image.new(image.mode, (frame.width, frame.height))
    padded.paste(inner, ((frame.width - width) // 2, (frame.height - height) // 2))
    return padded
