"""Files that anybody may have written or put in a place: opened without waiting, read within bounds.

A path may lead to a pipe that nobody writes to, to a device without an end, or to a file of 8 GB. Whatever is
not trusted is opened by `open_plain`, which opens regular files only.
"""

import hashlib
import json
import os
import re
import stat
from io import BufferedReader
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from unlabel.core.errors import ReadError
from unlabel.core.files import visible

MOST_BYTES = 16_000_000
"""A larger JSON file is refused unread: a run's are a few kilobytes, an audit's a few hundred."""

MOST_VALUES = 1_000_000
"""JSON with more values is refused before it is parsed: each takes up to 250 bytes of memory."""

MOST_NESTED = 40
"""JSON that is nested deeper is refused: whoever walks it may do so by recursion."""

_FLAGS = (os.O_RDONLY, *(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY")))
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_KINDS = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a pipe"),
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
)


def reason(error: Exception) -> str:
    """Why a file could not be read, for a message that names the file."""
    return str(getattr(error, "strerror", None) or error)


def open_plain(file: Path, *, follow: bool = True) -> BufferedReader:
    """Opens a regular file to read its bytes; anything else is refused without waiting for it.

    Args:
        file: The file.
        follow: Whether a link is followed; its end must be a regular file all the same.

    Raises:
        ReadError: It is no regular file, or cannot be opened.
    """
    try:
        handle = os.open(file, sum(_FLAGS) | (0 if follow else _NO_LINK))
    except OSError as error:
        raise ReadError.at(file, error.strerror or str(error)) from error
    except ValueError as error:  # of a null byte
        raise ReadError.at(file, "it has no usable name") from error
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise ReadError.at(file, next((word for of, word in _KINDS if of(mode)), "no plain file"))
    return os.fdopen(handle, "rb")


def read_plain(file: Path, most: int, *, follow: bool = True) -> bytes:
    """The bytes of a regular file of bounded size.

    Args:
        file: The file.
        most: Bytes that it may have; of a larger one, none is read.
        follow: See `open_plain`.

    Raises:
        ReadError: It is larger, is no regular file, or cannot be read.
    """
    with open_plain(file, follow=follow) as handle:
        size = os.fstat(handle.fileno()).st_size
        try:
            content = handle.read(size + 1) if size <= most else b""
            if len(content) > size:  # it has grown, or its size is not told
                content += handle.read(max(0, most + 1 - len(content)))
        except OSError as error:
            raise ReadError.at(file, error.strerror or str(error)) from error
    if max(size, len(content)) > most:
        raise ReadError.at(file, f"it has more than {most:,} bytes")
    return content


def file_sha256(file: Path) -> str:
    """Hex digest of a file's bytes.

    Raises:
        ReadError: It is no regular file, or cannot be read.
    """
    with open_plain(file) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_json(file: Path) -> Any:
    """Reads a JSON file that anybody may have written: finite numbers, of bounded size and depth.

    Raises:
        ValueError: It is not such a file.
        ReadError: It has more than 16 MB, is no regular file, or cannot be read.
    """
    return parse_json(read_plain(file, MOST_BYTES))


def parse_json(content: bytes) -> Any:
    """The value of a JSON text that anybody may have written.

    Raises:
        ValueError: It is no JSON, names an entry of an object twice, holds a number that is not finite, more
            than a million values, or values nested more than 40 deep.
    """
    if sum(map(content.count, (b",", b"[", b"{"))) > MOST_VALUES:  # no less than there are values
        raise ValueError(f"more than {MOST_VALUES:,} values")
    try:
        value = json.loads(content, parse_constant=_number, parse_float=_number, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    _bounded(value, 0)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose entries have different names: of two, readers differ in which one counts."""
    entries: dict[str, Any] = {}
    for name, value in pairs:
        if name in entries:
            raise ValueError(f"'{visible(name[:40])}' is there twice")
        entries[name] = value
    return entries


def _number(text: str) -> float:
    if not isfinite(number := float(text)):
        raise ValueError(f"a number is {text[:20]}")
    return number


def _bounded(value: Any, depth: int) -> None:
    if depth > MOST_NESTED:
        raise ValueError("nested too deeply")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _bounded(item, depth + 1)


T = TypeVar("T")

KINDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}
"""What msgspec calls a kind of JSON value -> what a person does."""


def typed(value: Any, kind: type[T]) -> T:
    """A parsed JSON value as a dataclass: every entry is of its declared type; unknown keys are left out.

    Args:
        value: Of `parse_json`: dicts, lists, texts, numbers.
        kind: A frozen dataclass, whose fields may be dataclasses themselves.

    Raises:
        ValueError: An entry is missing or of another type; the message names its place, such as
            ``data.source``.
        UnlabelError: As the dataclass raises where a value is out of range.

    >>> from unlabel.core.recipe import Blueprint
    >>> typed({"network": "small", "stem": 7}, Blueprint)
    Traceback (most recent call last):
    ValueError: stem: expected text, got a whole number
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        fault, _, path = str(error).partition(" - at `")
        path = path.removeprefix("$").removeprefix(".").removesuffix("`")
        fault = re.sub(r"`([a-z |]+)`", _in_words, fault[:1].lower() + fault[1:])
        raise ValueError(visible(f"{path}: {fault}" if path else fault)[:200]) from error
    except OverflowError as error:
        raise ValueError("a number is too large") from error


def _in_words(kinds: re.Match[str]) -> str:
    names = kinds[1].split(" | ")
    return " or ".join(map(KINDS.__getitem__, names)) if KINDS.keys() >= {*names} else kinds[0]


def sealed(content: bytes) -> bytes:
    """The content of a file that this program will read back, with its checksum before it."""
    return hashlib.sha256(content).digest() + content


def unsealed(content: bytes) -> bytes | None:
    """What was sealed; None where any bit of it has changed since.

    >>> unsealed(sealed(b"cell")), unsealed(sealed(b"cell") + b"!"), unsealed(b"")
    (b'cell', None, None)
    """
    size = hashlib.sha256().digest_size
    return content[size:] if hashlib.sha256(content[size:]).digest() == content[:size] else None
