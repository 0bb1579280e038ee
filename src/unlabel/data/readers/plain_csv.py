"""A table of millions of rows as arrays: a CSV file without quotes, of which each line has all columns.

Python's `csv` makes a text of each cell: 160 million of them in a table of 3.3 million rows and 47 labels.
Here the separators of some megabytes are found at once, and a short cell becomes one number. What is not so
plain is left to `tables.spelt_rows`, which reads everything and says what is wrong: both give the same rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unlabel.core.reading import open_plain

_BYTES = 4_000_000
_LONGEST_CELL = 100_000
_LONGEST_KEY = 7
"""Bytes of a cell that fit into one number, 0 or above."""

_NEWLINE, _RETURN = 10, 13


@dataclass(frozen=True)
class Block:
    """Some rows.

    Args:
        text: Their bytes, uint8.
        start, stop: int64 (column, row), where each cell begins and ends.
        last: Whether the file ends with them.
    """

    text: NDArray[np.uint8]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    last: bool

    def __len__(self) -> int:
        return self.start.shape[1]

    def texts(self, column: int) -> list[str]:
        """The cells of a column, without spaces before them, as `csv` reads them."""
        memory = self.text.data
        start, stop = self.start[column].tolist(), self.stop[column].tolist()
        return [str(memory[a:b], "utf-8").lstrip(" ") for a, b in zip(start, stop, strict=True)]

    def keys(self, column: int) -> NDArray[np.int64] | None:
        """A number for each cell, its bytes; None where a cell is longer than 7."""
        start, length = self.start[column], self.stop[column] - self.start[column]
        longest = int(length.max())
        if longest > _LONGEST_KEY:
            return None
        keys = np.zeros(len(start), np.int64)
        for at in range(longest):
            byte = self.text[np.minimum(start + at, len(self.text) - 1)].astype(np.int64)
            keys |= np.where(at < length, byte, 0) << (8 * at)
        return keys


def text_of(key: int) -> str:
    """The cell that a number stands for.

    >>> text_of(ord("-") + 256 * ord("1"))
    '-1'
    """
    return key.to_bytes(8, "little").rstrip(b"\0").decode()


def plain_blocks(path: Path, separator: str, columns: int) -> Iterator[Block]:
    """The rows below the header, as long as they are plain; the last block says whether all were.

    Args:
        path: A table whose header was read.
        separator: Between its columns.
        columns: How many there are.
    """
    with open_plain(path) as file:
        header = file.readline()
        if columns < 2 or b'"' in header or header.count(b"\r") != header.endswith(b"\r\n"):
            return
        tail = b""
        while new := file.read(_BYTES):
            last = len(new) < _BYTES and not file.peek(1)
            data = tail + new + (b"\n" if last and not new.endswith(b"\n") else b"")
            cut = data.rfind(b"\n") + 1
            block = _block(data[:cut], separator, columns, last=last)
            if block is None:
                return
            yield block
            tail = data[cut:]


def _block(data: bytes, separator: str, columns: int, *, last: bool) -> Block | None:
    """Whole lines as arrays; None where they are not plain."""
    if not data or b'"' in data or b"\0" in data or data.count(b"\r") != data.count(b"\r\n"):
        return None
    try:
        data.decode()
    except UnicodeDecodeError:
        return None
    text = np.frombuffer(data, np.uint8)
    mark = ord(separator)
    ends = np.flatnonzero((text == mark) | (text == _NEWLINE))
    if len(ends) % columns:
        return None
    ends = ends.reshape(-1, columns)
    if not np.all(text[ends[:, -1]] == _NEWLINE) or data.count(b"\n") != len(ends):
        return None
    stop = np.ascontiguousarray(ends.T)
    start = np.empty_like(stop)
    start[1:] = stop[:-1] + 1
    start[0, 1:], start[0, 0] = stop[-1, :-1] + 1, 0
    stop[-1] -= text[stop[-1] - 1] == _RETURN
    return Block(text, start, stop, last) if (stop - start).max() <= _LONGEST_CELL else None
