"""The pixels of encoded images: from a file of all, held in memory, or decoded when they are used.

::

    signature of the files   -->   seen-SIGNATURE.json   the content key of `cache`, to skip reading them
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from unlabel.core.caching import Cache
from unlabel.core.errors import DataError
from unlabel.core.framing import Frame
from unlabel.core.parallel import Each, side_by_side
from unlabel.core.progress import Log
from unlabel.data.images.cache import (
    Decoded,
    Part,
    build_entry,
    content_key,
    decode_contents,
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
from unlabel.data.images.decoding import MAX_BYTES
from unlabel.data.images.on_access import Decoding, Encoded

_CHUNK = 64


@dataclass(frozen=True)
class Job:
    """Images to be decoded.

    Args:
        encoded: Where they lie.
        signed: Names the files that they lie in, as these are now.
        settled: Whether the files lie long enough for their times to tell of a later change.
        frame: Height and width in pixels, and how images come to them.
        workers: Processes that decode.
        log: Receives the progress.
        chunks: A few images at a time, as a worker process gets them.
        decode: Makes the pixels of a chunk.
        digest: Makes the SHA-256 of each image of a chunk.
    """

    encoded: Encoded
    signed: str
    settled: bool
    frame: Frame
    workers: int | None
    log: Log
    chunks: Callable[[], Iterable[Any]]
    decode: Callable[[Any], Part]
    digest: Callable[[Any], list[bytes]]

    @property
    def stem(self) -> str:
        """How the names of cached files begin, before the key."""
        return f"images-{len(self.encoded)}x{self.frame.name}-"

    @property
    def note(self) -> Path:
        """Where the key is noted for files that did not change."""
        signature = sha256(transform_of(self.frame) + self.signed.encode()).hexdigest()[:32]
        return cache_folder() / f"seen-{signature}.json"

    @contextmanager
    def each(self) -> Iterator[Each]:
        """A `map` over processes; see `side_by_side`."""
        with warnings.catch_warnings(), side_by_side(len(self.encoded), self.workers) as each:
            warnings.simplefilter("ignore")  # of damaged tags; the damage that matters is recorded
            yield each


def job_of_rows(
    encoded: Encoded, signed: str, frame: Frame, *, settled: bool, workers: int | None, log: Log
) -> Job:
    """The job of images inside larger files: this process reads those in order, and others decode.

    Args:
        encoded, signed, frame, settled, workers, log: See `Job`.
    """
    chunks, decode = partial(_contents, encoded), partial(_decode, frame)
    return Job(encoded, signed, settled, frame, workers, log, chunks, decode, _digests)


def kept(job: Job, cache: Cache) -> Decoded:
    """The pixels of a job: equal, with equal digests and faults, however they are kept.

    Every image is decoded once before anything is trained on it, or was by an earlier run, so broken ones are
    known. What that reading told is kept on the disk in any case but ``memory``, in a few bytes an image.

    Args:
        job: What is decoded.
        cache: Where the pixels are kept; see `core.caching`.

    Raises:
        DataError: An image cannot be read, or the cache cannot be written.
    """
    return {"disk": _on_disk, "memory": _in_memory, "none": _on_access}[cache](job)


def _on_disk(job: Job) -> Decoded:
    """From the cache, or decoded into it."""
    cache, total, frame = cache_folder(), len(job.encoded), job.frame
    key = read_note(job.note)
    entry = find_entry(cache / f"{job.stem}{key}", total, frame) if key else None
    if entry is None:
        with job.each() as each:
            if any(cache.glob(f"{job.stem}*.npy")):  # perhaps of these images: reading is a third of decoding
                key = content_key(_hashes(job, each), frame)
                entry = find_entry(cache / f"{job.stem}{key}", total, frame)
            if entry is None:
                decoded = each(job.decode, job.chunks())
                key = build_entry(cache, job.stem, total, frame, decoded, job.log)
                entry = find_entry(cache / f"{job.stem}{key}", total, frame)
        if entry is None:
            raise DataError(
                f"the decoded images in {cache} changed as soon as they were written;"
                " check the disk, or name another folder in UNLABEL_CACHE"
            )
        if key and job.settled:
            write_note(job.note, key)
    return entry


def _in_memory(job: Job) -> Decoded:
    """Decoded now; nothing is written."""
    with job.each() as each:
        return held(len(job.encoded), job.frame, each(job.decode, job.chunks()), job.log)


def _on_access(job: Job) -> Decoded:
    """Decoded when they are used; only what a first reading tells of them is kept."""
    cache, total = cache_folder(), len(job.encoded)
    key = read_note(job.note)
    reading = find_record(cache / f"{job.stem}{key}") if key else None
    if reading is None:
        with job.each() as each:
            decoded = each(job.decode, job.chunks())
            reading = read_through(total, decoded, job.log, "check", lambda pixels: None)
        key = content_key(reading.hashes, job.frame)
        write_record(cache, job.stem, key, reading)
        if job.settled:
            write_note(job.note, key)
    readable = job.encoded
    if reading.bad:
        readable = readable.take(np.delete(np.arange(total), list(reading.bad)))
    pixels = Decoding(readable, job.frame)
    return Decoded(pixels, reading.bad, reading.digest, reading.depths, framing=job.frame.framing)


def _hashes(job: Job, each: Each) -> list[bytes]:
    """SHA-256 of every image's bytes."""
    hashes: list[bytes] = []
    with job.log.track("read", len(job.encoded), "images") as advance:
        for part in each(job.digest, job.chunks()):
            hashes += part
            advance(len(part))
    return hashes


def _contents(encoded: Encoded) -> Iterator[list[bytes]]:
    """The contents of a few images at a time, of bounded size."""
    waiting: list[bytes] = []
    for data in encoded.contents(range(len(encoded))):
        waiting.append(data)
        if len(waiting) == _CHUNK or sum(map(len, waiting)) > MAX_BYTES:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _decode(frame: Frame, contents: Sequence[bytes]) -> Part:
    return decode_contents(contents, len(contents), frame)


def _digests(contents: Sequence[bytes]) -> list[bytes]:
    return [sha256(data).digest() for data in contents]
