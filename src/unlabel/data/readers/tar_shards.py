"""Tar shards as WebDataset writes them: members of one key are one image, with what is known of it.

::

    train-000.tar/0001.jpg  0001.json      a JSON object of labels, or a list of names
                  0001.jpg  0001.cls       a class

A shard is read once from its beginning to its end, for where each image lies. Then any image is read alone,
by its offset, so images can be shuffled as they can in a folder. Nothing is unpacked.
"""

import os
import re
import tarfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError, ReadError
from unlabel.core.reading import open_plain, parse_json, reason
from unlabel.data.images.decoding import MAX_BYTES
from unlabel.data.readers.files import ENDINGS
from unlabel.data.readers.sheet import UNKNOWN, Opened, even_rows
from unlabel.data.texts import Names

MOST_SAMPLES = 20_000_000
"""More in one shard are refused: a file of a few bytes each would fill the memory."""

_MOST_TOLD = 1_000_000
_CLASS = re.compile(r"-?\d{1,9}")


@dataclass(frozen=True)
class Members:
    """Images inside shards: where each begins, in which file; one behind each row.

    Args:
        shards: The files.
        names: How messages call each image, (n,).
        shard: int32 (n,) position among the files.
        start: int64 (n,) bytes before the image.
        size: int64 (n,) bytes of the image.
    """

    shards: Sequence[Path]
    names: Names
    shard: NDArray[np.int32]
    start: NDArray[np.int64]
    size: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start)

    def take(self, rows: NDArray[np.integer], /) -> "Members":
        """Some of the images."""
        return Members(self.shards, self.names[rows], self.shard[rows], self.start[rows], self.size[rows])

    def contents(self, rows: Sequence[int], /) -> Iterator[bytes]:
        """The bytes of some images, in the order of the rows; each read by its offset."""
        opened, file = -1, None
        try:
            for row in rows:
                if (shard := int(self.shard[row])) != opened:
                    if file is not None:
                        file.close()
                    opened, file = shard, open_plain(self.shards[shard])
                assert file is not None
                yield _member(file.fileno(), self.shards[shard], int(self.start[row]), int(self.size[row]))
        finally:
            if file is not None:
                file.close()

    def name(self, row: int, /) -> str:
        """Its shard and its name there."""
        return f"{self.names[row]} in {self.shards[int(self.shard[row])]}"


def _member(file: int, path: Path, start: int, size: int) -> bytes:
    """The bytes of a member; of one too large to be used, only as many as tell so."""
    wanted = min(size, MAX_BYTES + 1)
    try:
        data = os.pread(file, wanted, start)
    except OSError as error:
        raise ReadError.at(path, reason(error)) from error
    if len(data) != wanted:
        raise DataError(f"{path} ends before byte {start + size:,}; it was changed or cut: run again")
    return data


@dataclass
class Index:
    """Where each image lies, while shards are read.

    Args:
        shards: The files.
        labelled: Whether what lies beside the images is read.
    """

    shards: Sequence[Path]
    labelled: bool = True
    shard: array = field(default_factory=lambda: array("i"))  # type: ignore[type-arg]
    start: array = field(default_factory=lambda: array("q"))  # type: ignore[type-arg]
    size: array = field(default_factory=lambda: array("q"))  # type: ignore[type-arg]
    ignored: int = 0

    @contextmanager
    def opened(self, path: Path) -> Iterator[Opened]:
        """A shard as a table: a row for each image, with what lies beside it."""
        try:
            with open_plain(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
                rows = self._rows(path, file.fileno(), tar)
                first = next(rows, None)
                if first is None:
                    raise DataError(f"{path} holds no image; expected members such as 0001.jpg and 0001.json")
                header = list(first[1])
                yield Opened(header, "", even_rows(path, header, _again(first, rows)))
        except ReadError:
            raise
        except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
            fault = " ".join(reason(error).split())[:160]
            raise DataError(
                f"{path} is damaged or no plain tar file: {fault}; write it again, and uncompressed"
            ) from error

    def _rows(self, path: Path, file: int, tar: tarfile.TarFile) -> Iterator[tuple[int, dict[str, Any]]]:
        number, count = self.shards.index(path), 0
        for key, parts in samples(tar):
            images = [ending for ending in parts if f".{ending}" in ENDINGS]
            if len(images) > 1:
                raise DataError(f"{path}: {key!r} has {len(images)} images ({', '.join(images)}); keep one")
            if not images:
                self.ignored += 1
                continue
            member = parts[images[0]]
            self.shard.append(number)
            self.start.append(member.offset_data)
            self.size.append(member.size)
            count += 1
            if count > MOST_SAMPLES:
                raise DataError(f"{path} holds more than {MOST_SAMPLES:,} images; write several shards")
            told = _told(path, file, key, parts) if self.labelled else {}
            yield count, {"image_id": f"{key}.{images[0]}", **told}

    def members(self, names: Names) -> Members:
        """Where all images lie, which messages call by these names."""
        return Members(
            self.shards,
            names,
            np.frombuffer(self.shard, np.int32),
            np.frombuffer(self.start, np.int64),
            np.frombuffer(self.size, np.int64),
        )


def _again(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def samples(tar: tarfile.TarFile) -> Iterator[tuple[str, Mapping[str, tarfile.TarInfo]]]:
    """The key of each sample, and its members by ending; members of a sample stand side by side."""
    key, parts = "", dict[str, tarfile.TarInfo]()
    for member in tar:
        vars(tar)["members"] = []  # which else hold all that were read
        folder, _, base = member.name.removeprefix("./").rpartition("/")
        stem, _, ending = base.partition(".")
        if not member.isreg() or member.sparse is not None or not stem or not ending:
            continue
        ending, now = ending.casefold(), f"{folder}/{stem}" if folder else stem
        if now != key or ending in parts:
            if parts:
                yield key, parts
            key, parts = now, {}
        parts[ending] = member
    if parts:
        yield key, parts


def _told(path: Path, file: int, key: str, parts: Mapping[str, tarfile.TarInfo]) -> dict[str, Any]:
    """What lies beside an image, by column."""
    told: dict[str, Any] = {}
    if "json" in parts:
        try:
            value = parse_json(_text(path, file, key, parts["json"]))
        except ValueError as error:
            raise DataError(f"{path}: {key}.json: {error}; expected a JSON object of labels") from error
        value = {"labels": value} if isinstance(value, list) else value
        if not isinstance(value, dict) or any(not name.strip() or not name.isprintable() for name in value):
            raise DataError(f"{path}: {key}.json holds no labels by name and no list of names; expected one")
        told = {name: held for name, held in value.items() if name != "image_id"}
    if "cls" in parts:
        text = _text(path, file, key, parts["cls"]).decode("utf-8", "replace").strip()
        number = int(text) if _CLASS.fullmatch(text) else None
        told.setdefault("label", text if number is None else UNKNOWN if number == -1 else f"class_{number}")
    return told


def _text(path: Path, file: int, key: str, member: tarfile.TarInfo) -> bytes:
    if member.size > _MOST_TOLD:
        raise DataError(f"{path}: what lies beside {key!r} has more than {_MOST_TOLD:,} bytes; shorten it")
    return _member(file, path, member.offset_data, member.size)
