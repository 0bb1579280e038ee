"""A table of any spelling as columns of texts: CSV with three separators, JSON lines.

::

    read_sheet([Part(FILE)], images) -> Sheet    what each column holds, and the name of each image

What the texts mean is not decided here, but in `meaning`.
"""

import os
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError, ReadError
from unlabel.core.reading import parse_json, reason
from unlabel.core.wording import listing
from unlabel.data.readers.plain_csv import Block, plain_blocks, text_of
from unlabel.data.readers.tables import (
    ROW_NUMBER,
    check_name,
    lines_of,
    name_column,
    odd_names,
    open_text,
    spelt_rows,
)
from unlabel.data.texts import Coded, Names

NAMES_OF_LABELS = ("labels", "tags", "label")
"""Columns that may hold the names of an image's labels, separated by ``|``."""

_WHOLE = ("split", "identity")
_PLACES = ("", "train", "val", "test")
_ROWS = 8_192
"""Rows read at once."""

_FEW_KEYS = 65_536
"""Cells of two bytes have fewer: a table of them is faster than a search."""

_FEW = 64
"""Different texts that are kept of a column that can hold marks only: of ages and prices, no more."""

_MOST_KEYS = 10_000

MANY = -1
"""Code of a text that is not kept."""

_NO_CODE = 255  # MANY in a byte


@dataclass(frozen=True)
class Images:
    """The folder of the images that a table names, and how messages call it."""

    folder: Path
    called: str

    def relative(self, name: str) -> str:
        """A written name as one that is relative to the folder; an absolute path elsewhere stays.

        >>> Images(Path("/data/photos"), "").relative("/data/photos/ann/1.jpg")
        'ann/1.jpg'
        """
        if name.startswith("/"):
            for base in (str(self.folder), os.path.realpath(self.folder)):
                start = os.path.join(base, "")
                if name.startswith(start):
                    return name[len(start) :]
        return name


@dataclass(frozen=True)
class Part:
    """A table with some rows.

    Args:
        path: Its file.
        prefix: What stands before its images' names.
        split: Its split; empty where that is not known.
        opened: Opens it; by default as its ending says.
        done: Called when it was read.
    """

    path: Path
    prefix: str = ""
    split: str = ""
    opened: "Callable[[Path], AbstractContextManager[Opened]] | None" = None
    done: Callable[[], object] = bool


UNKNOWN = "\0"
"""Stands in a column of names where a row's name is not known: no text of a table, which is printable."""


@dataclass(frozen=True)
class Column:
    """One column: its different texts, in which row each stands first, and which one each row has.

    Args:
        texts: Without spaces around them, in the order of their first rows.
        first: int64 (text,) the first row of each.
        codes: int8 or int32 (row,) position among the texts, or `MANY`.
        of_names: Whether the texts are names of labels, whatever they look like.
    """

    texts: Sequence[str]
    first: NDArray[np.int64]
    codes: NDArray[np.signedinteger]
    of_names: bool = False

    def values(self) -> Coded:
        """The text of each row; of columns whose texts are all kept."""
        return Coded(self.texts, self.codes)


@dataclass(frozen=True)
class Lists:
    """A column of which a row may hold several names, separated by ``|``.

    Args:
        texts: The different names, in the order of their first rows.
        first: int64 (name,) the first row of each.
        codes: int32, the names of all rows, one row after the other.
        counts: int32 (row,) how many names each row has.
    """

    texts: Sequence[str]
    first: NDArray[np.int64]
    codes: NDArray[np.int32]
    counts: NDArray[np.int32]

    def single(self) -> Column:
        """The same as a column of one text a row, empty where a row has none; no row has several."""
        first, codes = self.first, np.full(len(self.counts), len(self.texts), np.int32)
        codes[self.counts > 0] = self.codes
        if not np.all(self.counts):
            first = np.append(first, np.argmin(self.counts))
        return Column((*self.texts, "")[: len(first)], first, codes, of_names=True)


@dataclass(frozen=True)
class Sheet:
    """A table: the image of each row, and the other columns.

    Args:
        path: The file, or the first of several, for messages.
        separator: Between its columns; empty where it has another form.
        key: The column of file names.
        names: File of each row, relative, each once.
        columns: The other columns by name.
        split: The split of each row that its place tells; empty where it does not.
        parts: The files, with the number of the first row of each.
        lines: int32 (row,) of each row in its file.
    """

    path: Path
    separator: str
    key: str
    names: Names
    columns: Mapping[str, Column | Lists]
    split: Coded
    parts: Sequence[tuple[Path, int]]
    lines: NDArray[np.int32]

    def place(self, row: int | np.integer) -> str:
        """File and line of a row, for messages."""
        path = next(path for path, first in reversed(self.parts) if first <= row)
        return f"{path}, line {self.lines[row]}"


class _Codes(dict[str, int]):
    """Code of each text as it is written; once it is full, a new text has none."""

    def __init__(self) -> None:
        super().__init__()
        self.plain: dict[str, int] = {}
        self.full = False

    def __missing__(self, text: str) -> int:
        if not self.full:
            raise KeyError(text)
        return self.plain.get(text.strip(), _NO_CODE)


class _Marks:
    """A column while it is read, of which a few texts are kept."""

    most: int | None = _FEW

    def __init__(self) -> None:
        self._code_of = _Codes()
        self._first: list[int] = []
        self._codes: list[NDArray[np.signedinteger]] = []

    def add(self, values: Sequence[str], row: int) -> None:
        """The texts of some more rows, and the number of the first of these."""
        try:
            codes = self._coded(values)
        except KeyError:
            for at, text in enumerate(values):
                self._learn(text, row + at)
            codes = self._coded(values)
        self._codes.append(codes)

    def add_keys(self, keys: NDArray[np.int64], row: int) -> None:
        """The same of `Block.keys`."""
        few = int(keys.max()) < _FEW_KEYS
        distinct = np.flatnonzero(np.bincount(keys)) if few else np.unique(keys)
        texts = [text_of(key) for key in distinct.tolist()]
        full = self._code_of.full
        if (
            new := []
            if full
            else [key for key, text in zip(distinct, texts, strict=True) if text not in self._code_of]
        ):
            values, first = np.unique(keys, return_index=True)
            first = first[np.searchsorted(values, new)]
            for at in np.sort(first).tolist():
                self._learn(text_of(int(keys[at])), row + at)
        codes = self._coded(texts)
        if few:
            table = np.zeros(distinct[-1] + 1, codes.dtype)
            table[distinct] = codes
            self._codes.append(table[keys])
        else:
            self._codes.append(codes[np.searchsorted(distinct, keys)])

    def _learn(self, text: str, row: int) -> None:
        plain, known = text.strip(), self._code_of.plain
        if plain not in known and len(known) == self.most:
            self._code_of.full = True
        elif text not in self._code_of:
            if plain not in known:
                known[plain] = len(known)
                self._first.append(row)
            self._code_of[text] = known[plain]

    def _coded(self, values: Sequence[str]) -> NDArray[np.signedinteger]:
        return np.frombuffer(bytes(map(self._code_of.__getitem__, values)), np.int8)

    def column(self, *, of_names: bool) -> Column:
        """All that was read."""
        first = np.array(self._first, np.int64)
        codes = np.concatenate([np.zeros(0, np.int8), *self._codes])
        return Column(tuple(self._code_of.plain), first, codes, of_names)


class _Whole(_Marks):
    """A column while it is read, of which all texts are kept."""

    most = None

    def _coded(self, values: Sequence[str]) -> NDArray[np.signedinteger]:
        return np.fromiter(map(self._code_of.__getitem__, values), np.int32, len(values))


class _Names:
    """A column of names of labels while it is read."""

    def __init__(self) -> None:
        self._texts: dict[str, int] = {}
        self._first: list[int] = []
        self._codes, self._counts = array("i"), array("i")

    def add(self, values: Sequence[str], row: int) -> None:
        """The texts of some more rows, and the number of the first of these."""
        for at, text in enumerate(values):
            names = dict.fromkeys(name for part in text.split("|") if (name := part.strip()))
            for name in names:
                if name not in self._texts:
                    self._texts[name] = len(self._texts)
                    self._first.append(row + at)
            self._codes.extend([self._texts[name] for name in names])
            self._counts.append(len(names))

    def column(self, *, of_names: bool) -> Column | Lists:
        codes, counts = (np.frombuffer(part, np.int32) for part in (self._codes, self._counts))
        lists = Lists(tuple(self._texts), np.array(self._first, np.int64), codes, counts)
        return lists if np.any(counts > 1) else replace(lists.single(), of_names=of_names)


class _Reading:
    """A table while it is read, some rows at a time."""

    def __init__(self, table: "Opened", path: Path, key: str | None) -> None:
        self.path, self.header, self.separator, self.of_names = (
            path,
            table.header,
            table.separator,
            table.of_names,
        )
        self.key = name_column(path, table.header, key)
        self.names: list[Names] = []
        self.lines: list[NDArray[np.int32]] = []
        self.split = array("b")
        self.parts: list[tuple[Path, int]] = []
        self.rows = 0
        self.columns: dict[str, _Marks | _Names] = {}
        for name in self.header:
            if name in self.of_names or name.casefold() in NAMES_OF_LABELS:
                self.columns[name] = _Names()
            elif name not in (self.key, ROW_NUMBER):
                self.columns[name] = _Whole() if name.casefold() in _WHOLE else _Marks()

    def add(self, part: Part, table: "Opened", images: Images) -> None:
        """The rows of one file."""
        first, finished = self.rows, False
        self.parts.append((part.path, first))
        for block in plain_blocks(part.path, table.separator, len(table.header)) if table.separator else ():
            self._add_block(
                part, block, range(self.rows - first + 2, self.rows - first + 2 + len(block)), images
            )
            finished = block.last
        waiting = iter(()) if finished else islice(table.rows, self.rows - first, None)
        while rows := list(islice(waiting, _ROWS)):
            lines, values = zip(*rows, strict=True)
            of = dict(zip(self.header, zip(*values, strict=True), strict=True))
            for name, column in self.columns.items():
                column.add(of[name], self.rows)
            self._add_names(part, lines, of[self.key], images)

    def _add_block(self, part: Part, block: Block, lines: Sequence[int], images: Images) -> None:
        place = {name: number for number, name in enumerate(self.header)}
        for name, column in self.columns.items():
            at = place[name]
            keys = block.keys(at) if isinstance(column, _Marks) else None
            if isinstance(column, _Marks) and keys is not None:
                column.add_keys(keys, self.rows)
            else:
                column.add(block.texts(at), self.rows)
        self._add_names(part, lines, block.texts(place[self.key]), images)

    def _add_names(self, part: Part, lines: Sequence[int], written: Sequence[str], images: Images) -> None:
        names = _plain_names(part, lines, written, images, self.key)
        self.names.append(Names.of(names))
        self.lines.append(np.array(lines, np.int32))
        self.split.extend([_PLACES.index(part.split)] * len(names))
        self.rows += len(names)

    def sheet(self) -> Sheet:
        """All that was read.

        Raises:
            DataError: An image is named twice.
        """
        names, lines = Names.joined(self.names), np.concatenate([np.zeros(0, np.int32), *self.lines])
        columns = {
            name: column.column(of_names=name in self.of_names) for name, column in self.columns.items()
        }
        split = Coded(_PLACES, np.frombuffer(self.split, np.int8))
        sheet = Sheet(self.path, self.separator, self.key, names, columns, split, self.parts, lines)
        if twice := names.repeated():
            raise DataError(
                f"{sheet.place(twice[0])}: {self.key} {names[twice[0]]!r} is there already, on line"
                f" {lines[twice[1]]}; keep one row an image"
            )
        return sheet


def _plain_names(
    part: Part, lines: Sequence[int], written: Sequence[str], images: Images, column: str
) -> Sequence[str]:
    """The names of some rows, relative to the folder of the images.

    Raises:
        DataError: One leads out of the folder.
    """
    if any(name.startswith("/") for name in written):
        written = [images.relative(name) for name in written]
    names = [part.prefix + name for name in written] if part.prefix else written
    if odd_names(names):
        for line, name in zip(lines, names, strict=True):
            check_name(part.path, line, name, images.called, column)
    return names


def read_sheet(parts: Sequence[Part], images: Images, key: str | None = None, *, least: int = 1) -> Sheet:
    """Reads tables with the same columns, one after the other.

    Args:
        parts: At least one. A file that ends in ``.jsonl`` has an object a line, any other is CSV.
        images: The folder that an absolute file name must be below.
        key: The column of file names; None for the one that has a usual name.
        least: Rows that there must be.

    Raises:
        DataError: A table is malformed, has no column of file names, or names an image twice.
    """
    reading: _Reading | None = None
    for part in parts:
        with (part.opened or _opened)(part.path) as table:
            reading = reading or _Reading(table, part.path, key)
            if table.header != reading.header:
                raise DataError(
                    f"{part.path} has the columns {listing(table.header)}, but {parts[0].path} has"
                    f" {listing(reading.header)}; give both the same"
                )
            reading.add(part, table, images)
        part.done()
    if reading is None or reading.rows < least:
        raise DataError(f"{parts[0].path} has a header and no rows; expected one row an image")
    return reading.sheet()


Rows = Iterator[tuple[int, list[str]]]


@dataclass(frozen=True)
class Opened:
    """A table while it is read: its columns, what parts them, its rows, and which columns name classes."""

    header: list[str]
    separator: str
    rows: Rows
    of_names: frozenset[str] = frozenset()


@contextmanager
def _opened(path: Path) -> Iterator[Opened]:
    """A table of any form."""
    if path.suffix == ".parquet":
        from unlabel.data.readers.parquet import parquet_rows

        with parquet_rows(path) as (header, rows, of_names):
            yield Opened(header, "", rows, of_names)
        return
    if path.suffix == ".jsonl":
        try:
            with open_text(path) as file:
                rows = _objects(path, lines_of(path, file))
                first = next(rows, None)
                if first is None:
                    raise DataError(f"{path} is empty; expected an object a line, with a key file_name")
                header = list(first[1])
                yield Opened(header, "", even_rows(path, header, chain([first], rows)))
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 text; save it as UTF-8") from error
        except OSError as error:
            raise ReadError.at(path, reason(error)) from error
        return
    with spelt_rows(path, numbered=True) as (header, separator, rows):
        yield Opened(header, separator, rows)


def _objects(path: Path, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            value = parse_json(text.encode())
        except ValueError as error:
            raise DataError(f"{path}, line {line}: {error}; expected one JSON object a line") from error
        if not isinstance(value, dict) or not 0 < len(value) <= _MOST_KEYS:
            raise DataError(f"{path}, line {line} is no JSON object with keys; expected one a line")
        if any(not name.strip() or not name.isprintable() for name in value):
            raise DataError(f"{path}, line {line} has a key that is no name; give every column a name")
        yield line, value


def even_rows(path: Path, header: Sequence[str], rows: Iterator[tuple[int, dict[str, Any]]]) -> Rows:
    """Values by column as rows of texts; a value that is not there is empty.

    Raises:
        DataError: A row has a column that the first has not.
    """
    for line, value in rows:
        if new := [name for name in value if name not in header]:
            raise DataError(
                f"{path}, line {line} has the key {new[0][:40]!r}, which its first line has not;"
                " give every line the same keys"
            )
        yield line, [as_text(value.get(name), f"{path}, line {line}") for name in header]


def as_text(value: Any, place: str) -> str:
    """A value of JSON or parquet as the text that stands for it in a CSV table.

    Args:
        value: A plain value, None, or a list of names.
        place: Where it stands, for the message.

    Raises:
        DataError: A list holds anything but names, or a name holds ``|``.

    Example:
        >>> as_text(True, ""), as_text(None, ""), as_text(["Hat", "Male"], "")
        ('true', '', 'Hat|Male')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        odd = [item for item in value if not isinstance(item, str) or not item.strip() or "|" in item]
        if odd:
            raise DataError(
                f"{place}: a list holds {str(odd[0])[:40]!r}; expected names of labels, without '|' in them"
            )
        return "|".join(value)
    return "{...}" if isinstance(value, dict) else str(value)
