"""The pixels of photos in a folder."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from unlabel.core.caching import Cache
from unlabel.core.framing import Frame, Size
from unlabel.core.progress import SILENT, Log
from unlabel.data.dataset import Photos
from unlabel.data.images.cache import Decoded, decode_files
from unlabel.data.images.kept import Job, kept
from unlabel.data.images.on_access import Files
from unlabel.data.images.reading import read_file
from unlabel.data.texts import Names

_CHUNK = 64
_SETTLED_SECONDS = 2.0
"""A file changed this recently may change again within the file system's clock tick: not indexed."""


def decoded(
    folder: Path,
    names: Iterable[str],
    size: Size | Frame,
    *,
    cache: Cache = "disk",
    workers: int | None = None,
    log: Log = SILENT,
) -> Decoded:
    """The pixels of these files; see `kept`.

    Args:
        folder: The folder that the names are relative to.
        names: Of the files, in the order wanted.
        size: Height and width to bring images to, in pixels, and how; see `decoding.decode`.
        cache: Where the pixels are kept; see `core.caching`.
        workers: Processes that decode; None for one a core, 0 or 1 for none beside this one.
        log: Receives the progress.

    Raises:
        DataError: A file cannot be opened, or the cache cannot be written.
    """
    frame, began, files = Frame.of(size), time.time(), Files.of(folder, Names.of(names))
    job = Job(
        files,
        files.signature(),
        began - files.changed() > _SETTLED_SECONDS,
        frame,
        workers,
        log,
        partial(_chunks, files.names),
        partial(decode_files, folder, frame),
        partial(_hash_files, folder),
    )
    images = kept(job, cache)
    readable = np.delete(np.arange(len(files)), list(images.bad)) if images.bad else slice(None)
    return replace(images, photos=Photos(folder, files.names[readable], frame))


def _hash_files(folder: Path, names: Sequence[str]) -> list[bytes]:
    return [sha256(read_file(folder, name)).digest() for name in names]


def _chunks(names: Names) -> Iterator[list[str]]:
    return (names[start : start + _CHUNK].tolist() for start in range(0, len(names), _CHUNK))
