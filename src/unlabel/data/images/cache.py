"""Images are decoded once: into one uint8 array in a file that later runs map, or in memory.

::

    images-KEY.npy    the pixels of all readable images
    images-KEY.json   their checksum, and what was wrong with the others

The key covers every image's bytes, the size and the transform; so a copied or touched folder finds its pixels
again, and a changed file never finds stale ones. Files appear by renaming finished ones, whole.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
import PIL
from numpy.typing import NDArray

from unlabel.core.framing import CENTRE, Frame, Framing
from unlabel.core.progress import Log
from unlabel.data.dataset import Photos, Pixels
from unlabel.data.images.cache_folder import unusable
from unlabel.data.images.decoding import Unreadable, read_picture
from unlabel.data.images.framing import transform_name
from unlabel.data.images.reading import read_file


@dataclass(frozen=True)
class Decoded:
    """The readable images of a folder.

    Args:
        pixels: uint8 (readable image, height, width, 3), in the order of the names.
        bad: Position among the names -> why that image cannot be read.
        digest: SHA-256 of the pixels.
        depths: How images of more than 8 bits came to 8 bits -> how many did.
        photos: Their files; None where they are no files.
        framing: How they came to their size.
    """

    pixels: Pixels
    bad: Mapping[int, str]
    digest: str
    depths: Mapping[str, int] = field(default_factory=dict)
    photos: Photos | None = None
    framing: Framing = CENTRE


Part: TypeAlias = tuple[NDArray[np.uint8], list[bytes], dict[int, str], Mapping[str, int]]
"""Pixels of the readable images, hashes of the contents, position -> what is wrong with an image, depths."""

_NEVER_DEEP = "pixels deeper than 8 bits"
"""How an older version recorded images that this one reads: its entries with such ones are made anew."""


def transform_of(frame: Frame) -> bytes:
    """What was done to the files' bytes; another Pillow may decode a JPEG to other pixels."""
    return f"{transform_name(frame)}/pillow-{PIL.__version__}".encode()


def content_key(contents: Sequence[bytes], frame: Frame) -> str:
    """Names an entry by the hashes of what was decoded, the size and the transform."""
    return sha256(transform_of(frame) + b"".join(contents)).hexdigest()[:32]


def find_entry(path: Path, images: int, frame: Frame) -> Decoded | None:
    """The cached pixels at a path without its ending, if they are there, whole and what was written."""
    record = find_record(path)
    if record is None:
        return None
    try:
        pixels = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if pixels.dtype != np.uint8 or pixels.shape != (images - len(record.bad), *frame.shape):
        return None
    if sha256(pixels).hexdigest() != record.digest:
        return None
    return Decoded(pixels, record.bad, record.digest, record.depths, framing=frame.framing)


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
    with _new_file(cache) as file:
        _write_header(file, images, frame)
        reading = read_through(images, chunks, log, stage, lambda pixels: file.write(pixels.data))
        file.seek(0)
        _write_header(file, images - len(reading.bad), frame)
        key = content_key(reading.hashes, frame)
        write_record(cache, stem, key, reading)  # placed first: who finds the array finds its record too
        _place(file, cache / f"{stem}{key}.npy")
    return key


def held(images: int, frame: Frame, chunks: Iterable[Part], log: Log, stage: str = "decode") -> Decoded:
    """The pixels of all parts, packed and in order, in memory; see `build_entry`."""
    pixels, ends = np.empty((images, *frame.shape), np.uint8), [0]

    def keep(part: NDArray[np.uint8]) -> None:
        pixels[ends[-1] : ends[-1] + len(part)] = part
        ends.append(ends[-1] + len(part))

    reading = read_through(images, chunks, log, stage, keep)
    readable = pixels[: ends[-1]]
    readable.flags.writeable = False
    return Decoded(readable, reading.bad, reading.digest, reading.depths, framing=frame.framing)


@dataclass(frozen=True)
class Reading:
    """What decoding all images once tells of them.

    Args:
        bad: Position -> why that image cannot be read.
        digest: SHA-256 of the pixels of the readable ones, in order.
        depths: How images of more than 8 bits came to 8 bits -> how many did.
        hashes: Of the contents of all.
    """

    bad: Mapping[int, str]
    digest: str
    depths: Mapping[str, int]
    hashes: Sequence[bytes] = ()


def read_through(
    images: int, chunks: Iterable[Part], log: Log, stage: str, keep: Callable[[NDArray[np.uint8]], object]
) -> Reading:
    """Goes through all parts in order, and hands on the pixels of each.

    Args:
        images, chunks, log, stage: See `build_entry`.
        keep: Receives the pixels of the readable images of a part.
    """
    bad: dict[int, str] = {}
    hashes: list[bytes] = []
    depths: Counter[str] = Counter()
    digest, read = sha256(), 0
    with log.track(stage, images, "images") as advance:
        for pixels, contents, reasons, deep in chunks:
            bad |= {read + offset: reason for offset, reason in reasons.items()}
            hashes += contents
            depths.update(deep)
            digest.update(pixels.data)
            keep(pixels)
            read += len(pixels) + len(reasons)
            advance(len(pixels) + len(reasons))
    return Reading(bad, digest.hexdigest(), depths, hashes)


def write_record(cache: Path, stem: str, key: str, found: Reading) -> None:
    """Writes what was read beside the pixels of an entry, or alone where no pixels are kept."""
    with _new_file(cache) as record:
        depths = {"depths": found.depths} if found.depths else {}
        record.write(json.dumps({"sha256": found.digest, "bad": found.bad, **depths}).encode())
        _place(record, cache / f"{stem}{key}.json")


def find_record(path: Path) -> Reading | None:
    """What `write_record` wrote to a path without its ending, if it is there and whole."""
    record = _read_json(path.with_suffix(".json"))
    try:
        bad = {int(position): str(reason) for position, reason in record["bad"].items()}
        depths = {str(depth): int(count) for depth, count in record.get("depths", {}).items()}
        digest = str(record["sha256"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if any(reason.startswith(_NEVER_DEEP) for reason in bad.values()):
        return None
    return Reading(bad, digest, depths)


def _write_header(file: BinaryIO, images: int, frame: Frame) -> None:
    """An .npy header of one length whatever the count: numpy leaves room for 21 digits."""
    shape = (images, *frame.shape)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


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


def read_note(path: Path) -> str | None:
    """The key that a note names; None where there is none."""
    key = _read_json(path).get("key")
    return key if isinstance(key, str) else None


def write_note(path: Path, key: str) -> None:
    """Notes a key, to be found without reading the images."""
    with _new_file(path.parent) as file:
        file.write(json.dumps({"key": key}).encode())
        _place(file, path)
