"""Photos are decoded once, into one uint8 array that every later run maps into memory.

::

    files --sha256--> content key --> images-KEY.npy    the pixels of all readable images
                                      images-KEY.json   its checksum, and what was wrong with the others
    names, sizes, times  -->   seen-SIGNATURE.json   the content key again, to skip reading the files

The key covers every file's bytes, the size and the transform; so a copied or touched folder finds its pixels
after one reading, and a changed file never finds stale ones. Files appear by renaming finished ones, whole.
"""

import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
import PIL
from numpy.typing import NDArray

from unlabel.core.errors import DataError
from unlabel.core.framing import CENTRE, Frame, Framing, Size
from unlabel.core.parallel import Each, side_by_side
from unlabel.core.progress import SILENT, Log
from unlabel.data.dataset import Photos
from unlabel.data.images.cache_folder import cache_folder, unusable
from unlabel.data.images.decoding import Unreadable, read_picture
from unlabel.data.images.framing import transform_name
from unlabel.data.images.reading import read_file, unreadable
from unlabel.data.texts import Names

_CHUNK = 64
_SETTLED_SECONDS = 2.0
"""A file changed this recently may change again within the file system's clock tick: not indexed."""


@dataclass(frozen=True)
class Decoded:
    """The readable images of a folder.

    Args:
        pixels: uint8 (readable image, height, width, 3), memory-mapped, in the order of the names.
        bad: Position among the names -> why that image cannot be read.
        digest: SHA-256 of the pixels.
        depths: How images of more than 8 bits came to 8 bits -> how many did.
        photos: Their files; None where they are no files.
        framing: How they came to their size.
    """

    pixels: NDArray[np.uint8]
    bad: Mapping[int, str]
    digest: str
    depths: Mapping[str, int] = field(default_factory=dict)
    photos: Photos | None = None
    framing: Framing = CENTRE


Part: TypeAlias = tuple[NDArray[np.uint8], list[bytes], dict[int, str], Mapping[str, int]]
"""Pixels of the readable images, hashes of the contents, position -> what is wrong with an image, depths."""

_NEVER_DEEP = "pixels deeper than 8 bits"
"""How an older version recorded images that this one reads: its entries with such ones are made anew."""


def decoded(
    folder: Path,
    names: Iterable[str],
    size: Size | Frame,
    *,
    workers: int | None = None,
    log: Log = SILENT,
) -> Decoded:
    """The pixels of these files, from the cache or decoded into it.

    Args:
        folder: The folder that the names are relative to.
        names: Of the files, in the order wanted.
        size: Height and width to bring images to, in pixels, and how; see `decoding.decode`.
        workers: Processes that decode; None for one a core, 0 or 1 for none beside this one.
        log: Receives the progress.

    Raises:
        DataError: A file cannot be opened, or the cache cannot be written.
    """
    cache, names, frame = cache_folder(), Names.of(names), Frame.of(size)
    signature, changed = _signature(folder, names, frame)
    note = cache / f"seen-{signature}.json"
    settled = time.time() - changed
    stem = f"images-{len(names)}x{frame.name}-"
    key = _read_json(note).get("key")
    entry = find_entry(cache / f"{stem}{key}", len(names), frame) if isinstance(key, str) else None
    if entry is None:
        with warnings.catch_warnings(), side_by_side(len(names), workers) as each:
            warnings.simplefilter("ignore")  # of damaged tags; the damage that matters is recorded
            if any(cache.glob(f"{stem}*.npy")):  # perhaps of these images: reading is a third of decoding
                key = content_key(_hashes(folder, names, each, log), frame)
                entry = find_entry(cache / f"{stem}{key}", len(names), frame)
            if entry is None:
                decoded_chunks = each(partial(decode_files, folder, frame), _chunks(names))
                key = build_entry(cache, stem, len(names), frame, decoded_chunks, log)
                entry = find_entry(cache / f"{stem}{key}", len(names), frame)
        if entry is None:
            raise DataError(
                f"the decoded images in {cache} changed as soon as they were written;"
                " check the disk, or name another folder in UNLABEL_CACHE"
            )
        if settled > _SETTLED_SECONDS:
            with _new_file(cache) as file:
                file.write(json.dumps({"key": key}).encode())
                _place(file, note)
    readable = names[np.delete(np.arange(len(names)), list(entry.bad))] if entry.bad else names
    return replace(entry, photos=Photos(folder, readable, frame))


def _transform(frame: Frame) -> bytes:
    """What was done to the files' bytes; another Pillow may decode a JPEG to other pixels."""
    return f"{transform_name(frame)}/pillow-{PIL.__version__}".encode()


def content_key(contents: Sequence[bytes], frame: Frame) -> str:
    """Names an entry by the hashes of what was decoded, the size and the transform."""
    return sha256(_transform(frame) + b"".join(contents)).hexdigest()[:32]


def _signature(folder: Path, names: Sequence[str], frame: Frame) -> tuple[str, float]:
    """What changes whenever a file may have, and the time of the last change.

    The inode's time moves even where the file's own is put back.
    """
    digest = sha256(_transform(frame) + os.fsencode(folder.resolve()))
    last, inside = 0.0, os.path.join(folder, "")
    for name in names:
        try:
            status = os.stat(inside + name)
        except OSError as error:
            raise unreadable(folder, name, error) from error
        line = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        digest.update(b"\0" + os.fsencode(name) + repr(line).encode())
        last = max(last, status.st_ctime)
    return digest.hexdigest()[:32], last


def find_entry(path: Path, images: int, frame: Frame) -> Decoded | None:
    """The cached pixels at a path without its ending, if they are there, whole and what was written."""
    record = _read_json(path.with_suffix(".json"))
    try:
        bad = {int(position): str(reason) for position, reason in record["bad"].items()}
        depths = {str(depth): int(count) for depth, count in record.get("depths", {}).items()}
        pixels = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, TypeError, EOFError, KeyError, AttributeError):
        return None
    if pixels.dtype != np.uint8 or pixels.shape != (images - len(bad), *frame.shape):
        return None
    if any(reason.startswith(_NEVER_DEEP) for reason in bad.values()):
        return None
    digest = sha256(pixels).hexdigest()
    return (
        Decoded(pixels, bad, digest, depths, framing=frame.framing)
        if digest == record.get("sha256")
        else None
    )


def _hashes(folder: Path, names: Sequence[str], each: Each, log: Log) -> list[bytes]:
    """SHA-256 of every file."""
    hashes: list[bytes] = []
    with log.track("read", len(names), "images") as advance:
        for part in each(partial(_hash_files, folder), _chunks(names)):
            hashes += part
            advance(len(part))
    return hashes


def build_entry(
    cache: Path,
    stem: str,
    images: int,
    frame: Frame,
    chunks: Iterable[Part],
    log: Log,
    stage: str = "decode",
) -> str:
    """Writes the pixels of all parts, packed and in order, into a new entry, and returns its key.

    Args:
        cache: The folder of the entry.
        stem: How its files' names begin, before the key.
        images: How many images the parts are made of, readable or not.
        frame: Height and width in pixels, and how images came to them.
        chunks: What the images became; see `Part`.
        log: Receives the progress.
        stage: What the progress is called.
    """
    bad: dict[int, str] = {}
    hashes: list[bytes] = []
    depths: Counter[str] = Counter()
    digest, read, readable = sha256(), 0, 0
    with _new_file(cache) as file, log.track(stage, images, "images") as advance:
        _write_header(file, images, frame)
        for pixels, contents, reasons, deep in chunks:
            bad |= {read + offset: reason for offset, reason in reasons.items()}
            hashes += contents
            depths.update(deep)
            digest.update(pixels.data)
            file.write(pixels.data)
            readable += len(pixels)
            read += len(pixels) + len(reasons)
            advance(len(pixels) + len(reasons))
        file.seek(0)
        _write_header(file, readable, frame)
        path = cache / f"{stem}{content_key(hashes, frame)}"
        with _new_file(cache) as record:  # placed first: a reader that finds the array finds its record too
            made = {"sha256": digest.hexdigest(), "bad": bad, **({"depths": depths} if depths else {})}
            record.write(json.dumps(made).encode())
            _place(record, path.with_suffix(".json"))
        _place(file, path.with_suffix(".npy"))
    return content_key(hashes, frame)


def _write_header(file: BinaryIO, images: int, frame: Frame) -> None:
    """An .npy header of one length whatever the count: numpy leaves room for 21 digits."""
    shape = (images, *frame.shape)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _hash_files(folder: Path, names: Sequence[str]) -> list[bytes]:
    return [sha256(read_file(folder, name)).digest() for name in names]


def decode_files(folder: Path, frame: Frame, names: Sequence[str]) -> Part:
    """What these files become."""
    return decode_contents((read_file(folder, name) for name in names), len(names), frame)


def decode_contents(contents: Iterable[bytes], count: int, frame: Frame) -> Part:
    """Pixels of the readable ones among some files' contents, hashes of all, faults of others, and depths.

    Args:
        contents: Of each file, its bytes.
        count: How many there are.
        frame: What images are brought to.
    """
    pixels = np.empty((count, *frame.shape), np.uint8)
    hashes: list[bytes] = []
    bad: dict[int, str] = {}
    depths: Counter[str] = Counter()
    for offset, data in enumerate(contents):
        hashes.append(sha256(data).digest())
        try:
            picture = read_picture(data, frame)
        except Unreadable as error:
            bad[offset] = str(error)
            continue
        pixels[offset - len(bad)] = picture.pixels
        depths.update([picture.depth] if picture.depth else [])
    return pixels[: count - len(bad)], hashes, bad, depths


def _chunks(names: Sequence[str]) -> list[list[str]]:
    return [list(names[start : start + _CHUNK]) for start in range(0, len(names), _CHUNK)]


@contextmanager
def _new_file(folder: Path) -> Iterator[BinaryIO]:
    """A file under a temporary name, gone afterwards unless it was placed."""
    try:
        with NamedTemporaryFile(dir=folder, prefix=".new-", delete=False) as file:
            try:
                yield cast(BinaryIO, file)
            finally:
                with suppress(OSError):  # on a full disk, of what is still to be written
                    file.close()
                Path(file.name).unlink(missing_ok=True)
    except OSError as error:
        raise unusable(folder, error) from error


def _place(file: BinaryIO, path: Path) -> None:
    """Gives the finished file its name at once, over any file that had it."""
    file.close()
    os.replace(file.name, path)


def _read_json(path: Path) -> dict[str, Any]:
    """The record, or nothing where it is missing or damaged."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
