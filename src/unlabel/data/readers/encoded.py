"""Pixels of images that lie encoded inside larger files: shards, parquet files, datasets of Arrow."""

from collections.abc import Iterator
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError
from unlabel.core.framing import Frame
from unlabel.core.parallel import side_by_side
from unlabel.data.images.cache import Decoded, Part, build_entry, decode_contents, find_entry
from unlabel.data.images.cache_folder import cache_folder
from unlabel.data.images.decoding import MAX_BYTES
from unlabel.data.images.on_access import Encoded
from unlabel.data.options import ReadOptions

_CHUNK = 64


class Taken(Encoded, Protocol):
    """Encoded images of which some can be chosen."""

    def take(self, rows: NDArray[np.integer], /) -> "Taken":
        """Some of the images."""
        ...


def decoded_rows(encoded: Taken, signed: str, options: ReadOptions) -> Decoded:
    """The pixels of encoded images, kept where the options say.

    This process reads the files from their beginning to their end, and others decode what it read.

    Args:
        encoded: Where the images lie.
        signed: Names the files as they are now; see `index_file.signature`.
        options: See `ReadOptions`.

    Raises:
        DataError: A file cannot be read, or the cache cannot be written.
    """
    cache, total, frame = cache_folder(), len(encoded), options.frame()
    stem = f"images-{total}x{frame.name}-"
    with side_by_side(total, options.workers) as each:
        parts = each(partial(_decode, frame), _chunks(encoded))
        key = build_entry(cache, stem, total, frame, parts, options.log)
    entry = find_entry(cache / f"{stem}{key}", total, frame)
    if entry is None:
        raise DataError(
            f"the decoded images in {cache} changed as soon as they were written; check the disk, or name"
            " another folder in UNLABEL_CACHE"
        )
    return entry


def _chunks(encoded: Encoded) -> Iterator[list[bytes]]:
    """The contents of a few images at a time, of bounded size."""
    waiting: list[bytes] = []
    for data in encoded.contents(range(len(encoded))):
        waiting.append(data)
        if len(waiting) == _CHUNK or sum(map(len, waiting)) > MAX_BYTES:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _decode(frame: Frame, contents: list[bytes]) -> Part:
    return decode_contents(contents, len(contents), frame)
