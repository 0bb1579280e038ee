"""How large the images are as they lie on the disk: their headers are read, and no pixel."""

import io
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from unlabel.core.progress import Log
from unlabel.core.reading import open_plain
from unlabel.data.dataset import Source

_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "MPO")


def original_sizes(source: Source, log: Log) -> dict[str, Any] | None:
    """Smallest, median and largest size, and how many images are not square; None where they are no files.

    Sizes are (width, height) in pixels, as stored: a camera may have noted that the photo is to be turned.
    The smallest and the largest are by area; the median is that of the widths and that of the heights.

    Args:
        source: Whose images are files, or encoded in parquet files.
        log: Receives progress.
    """
    total = len(source.train) + len(source.probe) + len(source.test)
    sizes: list[tuple[int, int]] = []
    unread = 0
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    with log.track("sizes", total, "images") as advance, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged tags and large sizes
        for file in _files(source):
            try:
                with file, Image.open(file, formats=formats) as image:
                    sizes.append(image.size)
            except Exception:  # Pillow raises anything on damage; such an image is counted
                unread += 1
            advance(1)
    if not sizes:
        return None
    width, height = np.array(sizes).T
    order = np.argsort(width * height, kind="stable")
    return {
        "images": len(sizes),
        "smallest": list(sizes[order[0]]),
        "median": [int(np.median(width)), int(np.median(height))],
        "largest": list(sizes[order[-1]]),
        "not_square": int(np.sum(width != height)),
        "not_measured": unread,
    }


def _files(source: Source) -> Iterator[BinaryIO]:
    """The encoded images of a source, opened; of a parquet file, the unreadable ones too."""
    if source.folder is not None:
        for part in (source.train, source.probe, source.test):
            for name in part.ids.tolist():
                yield open_plain(source.folder / name)
        return
    if source.name.startswith("parquet:"):
        from unlabel.data.readers.parquet import encoded_images

        for data in encoded_images(source.name.removeprefix("parquet:")):
            yield io.BytesIO(data)
