"""One photo file's bytes to the pixels that a network reads, or the reason why not."""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unlabel.core.framing import Frame, Size
from unlabel.data.images.depth import to_rgb
from unlabel.data.images.framing import Box, fit
from unlabel.data.images.unreadable import Unreadable

__all__ = ["MAX_BYTES", "MAX_PIXELS", "Picture", "Unreadable", "decode", "fit", "read_picture", "shape_of"]

MAX_PIXELS = 50_000_000
"""A larger image is refused unread: a small file can unpack to fill the memory."""

MAX_BYTES = 256_000_000
"""A larger file is refused: 50 million pixels, uncompressed with four channels, have 200 million bytes."""

_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "MPO")
"""Formats read inside this process; Pillow would start Ghostscript for some others."""

_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 322, 323  # tags of a TIFF

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what undoes it."""

_TURNED = (5, 6, 7, 8)
"""Orientations of which height and width change places."""


@dataclass(frozen=True)
class Picture:
    """One photo as a network reads it.

    Args:
        pixels: uint8 (height, width, 3).
        depth: How its values were brought to 8 bits, of more than 8; empty for 8 bits or fewer.
    """

    pixels: NDArray[np.uint8]
    depth: str = ""


def decode(data: bytes, size: Size | Frame) -> NDArray[np.uint8]:
    """An image, upright, in RGB with 8 bits, brought to a size with antialiasing.

    Transparency is dropped; of an animation, the first frame is used. Of more than 8 bits, see `depth`.

    Args:
        data: The file's bytes.
        size: Height and width of the result in pixels, one number for a square: the largest centred cut of
            that shape. A `Frame` says another way.

    Returns:
        uint8 (height, width, 3).

    Raises:
        Unreadable: Not an image, truncated, damaged, above 50 million pixels or 256 MB, or of values whose
            scale is not known.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (30, 20), (250, 0, 0)).save(file, "PNG")
        >>> decode(file.getvalue(), 16)[8, 8].tolist()
        [250, 0, 0]
    """
    return read_picture(data, Frame.of(size)).pixels


def read_picture(data: bytes, frame: Frame) -> Picture:
    """What `decode` returns, and what was done to its depth."""

    def read(image: Image.Image) -> Picture:
        part = _drafted(image, frame)
        pixels, depth = to_rgb(image)
        if (still := _orientation(image)) in _UPRIGHT:  # Pillow turns a TIFF itself as it is loaded
            part = part and _upright(part, pixels.size, still)
            pixels = pixels.transpose(_UPRIGHT[still])
        return Picture(fit(pixels, frame, part), depth)

    return _opened(data, read)


def _drafted(image: Image.Image, frame: Frame) -> Box | None:
    """Has a large JPEG decoded at 1/2, 1/4 or 1/8, and says what part of those pixels the picture is.

    At 1/8, a side of 257 pixels becomes 33, of which it covers 32.125. None stands for all pixels.
    """
    if frame.framing.interpolation == "nearest":
        return None
    least = [int(2 * side / frame.framing.crop_pct) for side in (frame.width, frame.height)]
    width, height = reversed(least) if _orientation(image) in _TURNED else least
    drafted = image.draft(None, (width, height))
    return drafted[1] if drafted else None


def _upright(part: Box, size: tuple[int, int], orientation: int) -> Box:
    """Where a part of an image of a size, (width, height), lies once the image is turned upright.

    >>> _upright((0, 0, 32.125, 20), (33, 20), 6), _upright((0, 0, 32.125, 20), (33, 20), 8)
    ((0, 0, 20, 32.125), (0, 0.875, 20, 33))
    """
    (left, top, right, bottom), (width, height) = part, size
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if orientation in _TURNED else (left, top, right, bottom)


def shape_of(data: bytes) -> tuple[int, int]:
    """Height and width of an image as it is shown, in pixels; its pixels are not decoded.

    Raises:
        Unreadable: See `decode`.
    """

    def read(image: Image.Image) -> tuple[int, int]:
        width, height = _stored_size(image)
        return (width, height) if _orientation(image) in _TURNED else (height, width)

    return _opened(data, read)


T = TypeVar("T")


def _opened(data: bytes, read: Callable[[Image.Image], T]) -> T:
    """What is read of an image within the limits; whatever its file raises is `Unreadable`."""
    if not data:
        raise Unreadable("empty file")
    if len(data) > MAX_BYTES:
        raise Unreadable(f"more than {MAX_BYTES:,} bytes")
    try:
        with warnings.catch_warnings():  # of damaged tags and large sizes; what matters is raised
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_readable_formats()) as image:
                _check_limits(image)
                return read(image)
    except Unreadable:
        raise
    except Image.DecompressionBombError as error:
        raise Unreadable(f"more than {MAX_PIXELS:,} pixels") from error
    except Image.UnidentifiedImageError as error:
        raise Unreadable("not an image") from error
    except Exception as error:  # Pillow's readers raise anything from SyntaxError to struct.error on damage
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Unreadable(reason[:120]) from error


def _readable_formats() -> tuple[str, ...]:
    """Those of our formats that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _check_limits(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Unreadable(f"{width:,} x {height:,} pixels, more than {MAX_PIXELS:,}")
    if (tile := _tile(image)) > MAX_PIXELS:
        raise Unreadable(f"a tile of {tile:,} pixels, more than {MAX_PIXELS:,}")


def _tile(image: Image.Image) -> int:
    """Pixels in a tile of a TIFF, which may be far larger than the image and is unpacked whole."""
    tags: Any = getattr(image, "tag_v2", {})
    return int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_LENGTH, 0))


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as they are stored; for a TIFF, some versions of Pillow give the upright ones."""
    tags: Any = getattr(image, "tag_v2", {})
    width, height = image.size
    return int(tags.get(_WIDTH, width)), int(tags.get(_LENGTH, height))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, where the tags are damaged, for the pixels may still be sound."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:
        return 1
