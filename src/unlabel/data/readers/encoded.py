"""Pixels of images that lie encoded inside larger files."""

from collections.abc import Iterator
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unlabel.core.framing import Frame
from unlabel.core.parallel import side_by_side
from unlabel.data.images.cache import Decoded, Part, build_entry, decode_contents, find_entry
from unlabel.data.images.cache_folder import cache_folder
from unlabel.data.images.on_access import Encoded
from unlabel.data.options import ReadOptions

_CHUNK = 64


class Taken(Encoded, Protocol):
    """Encoded images of which some can be sent to another process."""

    def take(self, rows: NDArray[np.integer], /) -> "Taken":
        """Some of the images."""
        ...


def decoded_rows(encoded: Taken, signed: str, options: ReadOptions) -> Decoded:
    cache, total, frame = cache_folder(), len(encoded), options.frame()
    stem = f"images-{total}x{frame.name}-"
    with side_by_side(total, options.workers) as each:
        key = build_entry(
            cache, stem, total, frame, each(partial(_decode, frame), _chunks(encoded)), options.log
        )
    entry = find_entry(cache / f"{stem}{key}", total, frame)
    assert entry is not None
    return entry


def _chunks(encoded: Taken) -> Iterator[Taken]:
    for start in range(0, len(encoded), _CHUNK):
        yield encoded.take(np.arange(start, min(start + _CHUNK, len(encoded))))


def _decode(frame: Frame, part: Taken) -> Part:
    return decode_contents(part.contents(range(len(part))), len(part), frame)
