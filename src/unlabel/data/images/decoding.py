"""One photo file's bytes to one small square of pixels, or the reason why not."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TRANSFORM = "rgb-upright-centre-square-bicubic-1"
"""Names what `decode` does; change it with the code, and caches are made anew."""

MAX_PIXELS = 50_000_000
"""A larger image is refused unread: a small file can unpack to fill the memory."""

MAX_BYTES = 256_000_000
"""A larger file is refused: 50 million pixels, uncompressed with four channels, have 200 million bytes."""

_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "MPO")
"""Formats read inside this process; Pillow would start Ghostscript for some others."""

_DEEP_MODES = ("I", "F")
_TILE_WIDTH, _TILE_LENGTH = 322, 323

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


class Unreadable(Exception):
    """A file is not an image that can be used; the message is the reason."""


def decode(data: bytes, image_size: int) -> NDArray[np.uint8]:
    """The centre square of an image, upright, in RGB, resized with antialiasing.

    The shorter side fills the square. Transparency is dropped; of an animation, the first frame is used.

    Args:
        data: The file's bytes.
        image_size: Height and width of the result, in pixels, >= 1.

    Returns:
        uint8 (image_size, image_size, 3).

    Raises:
        Unreadable: Not an image, truncated, damaged, above 50 million pixels or 256 MB, or deeper than 8
            bits.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (30, 20), (250, 0, 0)).save(file, "PNG")
        >>> decode(file.getvalue(), 16)[8, 8].tolist()
        [250, 0, 0]
    """
    if not data:
        raise Unreadable("empty file")
    if len(data) > MAX_BYTES:
        raise Unreadable(f"more than {MAX_BYTES:,} bytes")
    try:
        with warnings.catch_warnings():  # of damaged tags and large sizes; what matters is raised
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_readable_formats()) as image:
                return _square(image, image_size)
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


def _square(image: Image.Image, image_size: int) -> NDArray[np.uint8]:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Unreadable(f"{width:,} x {height:,} pixels, more than {MAX_PIXELS:,}")
    if (tile := _tile(image)) > MAX_PIXELS:
        raise Unreadable(f"a tile of {tile:,} pixels, more than {MAX_PIXELS:,}")
    if image.mode.split(";")[0] in _DEEP_MODES:
        raise Unreadable(f"pixels deeper than 8 bits (mode {image.mode}); save it with 8 bits a channel")
    orientation = _orientation(image)
    image.draft(None, (2 * image_size, 2 * image_size))  # a large JPEG decodes at 1/2, 1/4 or 1/8
    pixels = image.convert("RGB")
    if orientation in _UPRIGHT:
        pixels = pixels.transpose(_UPRIGHT[orientation])
    return fit(pixels, image_size)


def _tile(image: Image.Image) -> int:
    """Pixels in a tile of a TIFF, which may be far larger than the image and is unpacked whole."""
    tags = getattr(image, "tag_v2", {})
    return int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_LENGTH, 0))


def fit(image: Image.Image, image_size: int) -> NDArray[np.uint8]:
    """The centre square of an image in memory, resized with antialiasing; unchanged where it has the size.

    Args:
        image: In mode RGB or L.
        image_size: Height and width of the result, in pixels, >= 1.

    Returns:
        uint8 (image_size, image_size, 3), without the last axis for mode L.
    """
    if image.size != (image_size, image_size):
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        image = image.resize(
            (image_size, image_size),
            Image.Resampling.BICUBIC,
            box=(left, top, left + side, top + side),
            reducing_gap=3.0,
        )
    return np.array(image, np.uint8)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, where the tags are damaged, for the pixels may still be sound."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:
        return 1
