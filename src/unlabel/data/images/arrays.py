"""Small images that come as one array are brought to a size once, as photos are.

An image ends up as the pixels that `decoding.decode` finds in a PNG of it. So a model that was trained on an
array reads single files of the same images alike.
"""

from functools import partial
from hashlib import sha256
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unlabel.core.errors import DataError
from unlabel.core.framing import Frame, Size
from unlabel.core.parallel import side_by_side
from unlabel.core.progress import SILENT, Log
from unlabel.data.images.cache import Decoded, Part, build_entry, content_key, find_entry, held
from unlabel.data.images.cache_folder import cache_folder
from unlabel.data.images.framing import fit

_CHUNK = 256


def resized(
    images: NDArray[np.uint8],
    size: Size | Frame,
    *,
    kept: Literal["disk", "memory"] = "disk",
    workers: int | None = None,
    log: Log = SILENT,
) -> Decoded:
    """The images at a size, in RGB, from the cache or written into it; unchanged where they have the size.

    Args:
        images: uint8 (image, height, width, 3), or without the last axis for grey ones.
        size: Height and width of the result in pixels, >= 1, and how images come to it; see `framing.fit`.
        kept: Where the result is kept.
        workers: Processes that resize; None for one a core, 0 or 1 for none beside this one.
        log: Receives the progress.

    Raises:
        DataError: The cache cannot be written.
    """
    total, frame = len(images), Frame.of(size)
    chunks = [images[start : start + _CHUNK] for start in range(0, total, _CHUNK)]
    work = 0 if images.shape[1:3] == frame.shape[:2] else total  # copying needs no processes
    if kept == "memory":
        with side_by_side(work, workers) as each:
            return held(total, frame, each(partial(_resize, frame), chunks), log, "resize")
    cache = cache_folder()
    stem = f"images-{total}x{frame.name}-"
    path = cache / f"{stem}{content_key([_hash(chunk) for chunk in chunks], frame)}"
    entry = find_entry(path, total, frame)
    if entry is None:
        with side_by_side(work, workers) as each:
            resized_chunks = each(partial(_resize, frame), chunks)
            build_entry(cache, stem, total, frame, resized_chunks, log, "resize")
        entry = find_entry(path, total, frame)
    if entry is None:
        raise DataError(
            f"the resized images in {cache} changed as soon as they were written;"
            " check the disk, or name another folder in UNLABEL_CACHE"
        )
    return entry


def _hash(chunk: NDArray[np.uint8]) -> bytes:
    return sha256(repr(chunk.shape).encode() + chunk.tobytes()).digest()


def _resize(frame: Frame, chunk: NDArray[np.uint8]) -> Part:
    pixels = np.stack([fit(Image.fromarray(image), frame) for image in chunk])
    if pixels.ndim == 3:
        pixels = np.repeat(pixels[..., None], 3, axis=3)
    return pixels, [_hash(chunk)], {}, {}
