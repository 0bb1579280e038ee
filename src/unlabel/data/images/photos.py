"""The pixels of photos in a folder: from a file of all, held in memory, or decoded when they are used.

::

    names, sizes, times   -->   seen-SIGNATURE.json   the content key of `cache`, to skip reading the files
"""

import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from unlabel.core.caching import Cache
from unlabel.core.errors import DataError
from unlabel.core.framing import Frame, Size
from unlabel.core.parallel import Each, side_by_side
from unlabel.core.progress import SILENT, Log
from unlabel.data.dataset import Photos
from unlabel.data.images.cache import (
    Decoded,
    Part,
    build_entry,
    content_key,
    decode_files,
    find_entry,
    find_record,
    held,
    read_note,
    read_through,
    transform_of,
    write_note,
    write_record,
)
from unlabel.data.images.cache_folder import cache_folder
from unlabel.data.images.on_access import Decoding, Files
from unlabel.data.images.reading import read_file

_CHUNK = 64
_SETTLED_SECONDS = 2.0
"""A file changed this recently may change again within the file system's clock tick: not indexed."""


@dataclass(frozen=True)
class _Job:
    """Photos to be decoded.

    Args:
        folder: The folder that the names are relative to.
        files: Name -> status of each file, in the order wanted.
        frame: Height and width in pixels, and how photos come to them.
        workers: Processes that decode.
        log: Receives the progress.
    """

    folder: Path
    files: Mapping[str, os.stat_result]
    frame: Frame
    workers: int | None
    log: Log

    @property
    def names(self) -> list[str]:
        return list(self.files)

    @property
    def stem(self) -> str:
        """How the names of cached files begin, before the key."""
        return f"images-{len(self.files)}x{self.frame.name}-"

    @contextmanager
    def each(self) -> Iterator[Each]:
        """A `map` over processes; see `side_by_side`."""
        with warnings.catch_warnings(), side_by_side(len(self.files), self.workers) as each:
            warnings.simplefilter("ignore")  # of damaged tags; the damage that matters is recorded
            yield each

    def chunks(self, each: Each) -> Iterable[Part]:
        """What the files become, some at a time."""
        return each(partial(decode_files, self.folder, self.frame), _chunks(self.names))


def decoded(
    folder: Path,
    files: Mapping[str, os.stat_result],
    size: Size | Frame,
    *,
    cache: Cache = "disk",
    workers: int | None = None,
    log: Log = SILENT,
) -> Decoded:
    """The pixels of these files: equal, with equal digests and faults, however they are kept.

    Every file is decoded once before anything is trained on it, or was by an earlier run, so broken ones are
    known. What that reading told is kept on the disk in any case but ``memory``, in a few bytes an image.

    Args:
        folder: The folder that the names are relative to.
        files: Name -> status of each file, in the order wanted.
        size: Height and width to bring images to, in pixels, and how; see `decoding.decode`.
        cache: Where the pixels are kept; see `core.caching`.
        workers: Processes that decode; None for one a core, 0 or 1 for none beside this one.
        log: Receives the progress.

    Raises:
        DataError: A file cannot be opened, or the cache cannot be written.
    """
    frame = Frame.of(size)
    job = _Job(folder, files, frame, workers, log)
    found = {"disk": _on_disk, "memory": _in_memory, "none": _on_access}[cache](job)
    readable = [name for at, name in enumerate(files) if at not in found.bad]
    return replace(found, photos=Photos(folder, readable, frame))


def _on_disk(job: _Job) -> Decoded:
    """From the cache, or decoded into it."""
    cache, total, frame = cache_folder(), len(job.files), job.frame
    note = cache / f"seen-{_signature(job)}.json"
    key, began = read_note(note), time.time()
    entry = find_entry(cache / f"{job.stem}{key}", total, frame) if key else None
    if entry is None:
        with job.each() as each:
            if any(cache.glob(f"{job.stem}*.npy")):  # perhaps of these images: reading is a third of decoding
                key = content_key(_hashes(job, each), frame)
                entry = find_entry(cache / f"{job.stem}{key}", total, frame)
            if entry is None:
                key = build_entry(cache, job.stem, total, frame, job.chunks(each), job.log)
                entry = find_entry(cache / f"{job.stem}{key}", total, frame)
        if entry is None:
            raise DataError(
                f"the decoded images in {cache} changed as soon as they were written;"
                " check the disk, or name another folder in UNLABEL_CACHE"
            )
        if key and _settled(job, began):
            write_note(note, key)
    return entry


def _in_memory(job: _Job) -> Decoded:
    """Decoded now; nothing is written."""
    with job.each() as each:
        return held(len(job.files), job.frame, job.chunks(each), job.log)


def _on_access(job: _Job) -> Decoded:
    """Decoded when they are used; only what a first reading tells of them is kept."""
    cache = cache_folder()
    note = cache / f"seen-{_signature(job)}.json"
    key, began = read_note(note), time.time()
    found = find_record(cache / f"{job.stem}{key}") if key else None
    if found is None:
        with job.each() as each:
            found = read_through(len(job.files), job.chunks(each), job.log, "check", lambda pixels: None)
        key = content_key(found.hashes, job.frame)
        write_record(cache, job.stem, key, found)
        if _settled(job, began):
            write_note(note, key)
    readable = {name: status for at, (name, status) in enumerate(job.files.items()) if at not in found.bad}
    pixels = Decoding(Files.of(job.folder, readable), job.frame)
    return Decoded(pixels, found.bad, found.digest, found.depths, framing=job.frame.framing)


def _settled(job: _Job, now: float) -> bool:
    """Whether the files lie long enough for their times to tell of a later change."""
    latest = max((status.st_ctime for status in job.files.values()), default=0.0)
    return now - latest > _SETTLED_SECONDS


def _signature(job: _Job) -> str:
    """Changes whenever a file may have: the inode's time moves even where the file's own is put back."""
    digest = sha256(transform_of(job.frame) + os.fsencode(job.folder.resolve()))
    for name, status in job.files.items():
        line = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        digest.update(b"\0" + os.fsencode(name) + repr(line).encode())
    return digest.hexdigest()[:32]


def _hashes(job: _Job, each: Each) -> list[bytes]:
    """SHA-256 of every file."""
    hashes: list[bytes] = []
    with job.log.track("read", len(job.files), "images") as advance:
        for part in each(partial(_hash_files, job.folder), _chunks(job.names)):
            hashes += part
            advance(len(part))
    return hashes


def _hash_files(folder: Path, names: Sequence[str]) -> list[bytes]:
    return [sha256(read_file(folder, name)).digest() for name in names]


def _chunks(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK)]
