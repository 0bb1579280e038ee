"""Pictures of more than 8 bits a channel come to 8 bits by a scale that is the same for every picture.

A picture's own darkest and lightest value are never used: they would make two pictures of one scene differ.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unlabel.data.images.unreadable import Unreadable

SIXTEEN, FLOATING = "16 bits, divided by 257", "floating, times 255"
"""What the record of a data source says was done to such pictures."""

DEEP_MODES = ("I", "F")
"""How Pillow calls whole and floating numbers, up to a semicolon."""

_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def to_rgb(image: Image.Image) -> tuple[Image.Image, str]:
    """A picture in RGB with 8 bits, and how it came to 8 bits; empty where it had no more.

    Grey pictures of 16 bits are divided by 257, so that 65,535 becomes 255; of another stated number of bits,
    such as 12, the largest value becomes 255. Floating values are from 0 to 1 and are multiplied by 255.
    Pillow opens colours of 16 bits as their upper 8.

    Raises:
        Unreadable: A scale is not known: whole numbers of 32 bits, and floating ones outside 0 to 1.

    Example:
        >>> deep = Image.fromarray(np.full((1, 1), 65535, np.uint16))
        >>> to_rgb(deep)[0].getpixel((0, 0)), to_rgb(deep)[1]
        ((255, 255, 255), '16 bits, divided by 257')
    """
    kind = image.mode.split(";")[0]
    if kind == "I":
        grey, depth = _whole(image)
    elif kind == "F":
        grey, depth = _floating(image), FLOATING
    else:
        return image.convert("RGB"), ""
    if _tags(image).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    return Image.fromarray(grey).convert("RGB"), depth


def _whole(image: Image.Image) -> tuple[NDArray[np.uint8], str]:
    signed = image.mode == "I" and image.format not in ("PNG", "PPM")  # these two hold 0 to 65535
    bits = int(np.max(_tags(image).get(_BITS, 32 if signed else 16)))
    if bits > 16 or signed:
        raise Unreadable(
            f"whole numbers of {bits} bits with a sign or an unknown largest value; scale them to 0 to 65535"
            " and save 16 bits without a sign"
        )
    top = 2**bits - 1
    values = np.multiply(np.asarray(image), 255 / top, dtype=np.float32, casting="unsafe")
    grey = np.rint(np.clip(values, 0, 255, out=values), out=values).astype(np.uint8)
    return grey, SIXTEEN if bits == 16 else f"{bits} bits, {top} becomes 255"


def _floating(image: Image.Image) -> NDArray[np.uint8]:
    values = np.asarray(image, np.float32)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0.0 and high <= 1.0):
        raise Unreadable(
            f"floating pixels from {low:g} to {high:g}, expected 0 to 1; divide all images by one largest"
            " value and save them again"
        )
    return np.rint(values * np.float32(255)).astype(np.uint8)


def _tags(image: Image.Image) -> Any:
    return getattr(image, "tag_v2", {})
