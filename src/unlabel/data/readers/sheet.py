"""A table of any spelling as columns of texts: CSV with three separators, JSON lines.

::

    read_sheet([Part(FILE)], images) -> Sheet    what each column holds, and the name of each image

What the texts mean is not decided here, but in `meaning`.
"""

import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError
from unlabel.core.reading import ReadError, parse_json, reason
from unlabel.core.wording import listing
from unlabel.data.readers.tables import ROW_NUMBER, check_id, lines_of, name_column, open_text, spelt_rows

NAMES_OF_LABELS = ("labels", "tags", "label")
"""Columns that may hold the names of an image's labels, separated by ``|``."""

_WHOLE = (*NAMES_OF_LABELS, "split", "identity")
_FEW = 64
"""Different texts that are kept of a column that can hold marks only: of ages and prices, no more."""

_MOST_KEYS = 10_000

MANY = -1
"""Code of a text that is not kept."""


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
    """A table with some rows: its file, what stands before its images' names, and its split if known."""

    path: Path
    prefix: str = ""
    split: str = ""


@dataclass(frozen=True)
class Column:
    """One column: its different texts, where each stands first, and which one each row has.

    Args:
        texts: Without spaces around them, in the order of their first rows.
        places: File and line of the first row of each.
        codes: int32 (row,) position among the texts, or `MANY`.
        of_names: Whether the texts are names of labels, whatever they look like.
    """

    texts: tuple[str, ...]
    places: tuple[str, ...]
    codes: NDArray[np.int32]
    of_names: bool = False

    def values(self) -> list[str]:
        """The text of each row; of columns whose texts are all kept."""
        return [self.texts[code] for code in self.codes.tolist()]


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
    """

    path: Path
    separator: str
    key: str
    names: list[str]
    columns: Mapping[str, Column]
    split: list[str]


class _Texts(dict[str, int]):
    """A column while it is read: the code of each text, and where the text stood first."""

    def __init__(self, place: list[str], most: int | None) -> None:
        super().__init__()
        self.texts: dict[str, int] = {}
        self.places: list[str] = []
        self._place, self._most = place, most

    def __missing__(self, text: str) -> int:
        plain, code = text.strip(), MANY
        if plain in self.texts:
            code = self.texts[plain]
        elif self._most is None or len(self.texts) < self._most:
            code = self.texts[plain] = len(self.texts)
            self.places.append(f"{self._place[0]}, line {self._place[1]}")
        if self._most is None or len(self) < 4 * self._most:
            self[text] = code
        return code


def read_sheet(parts: Sequence[Part], images: Images, key: str | None = None) -> Sheet:
    """Reads tables with the same columns, one after the other.

    Args:
        parts: At least one. A file that ends in ``.jsonl`` has an object a line, any other is CSV.
        images: The folder that an absolute file name must be below.
        key: The column of file names; None for the one that has a usual name.

    Raises:
        DataError: A table is malformed, has no column of file names, or names an image twice.
    """
    names: dict[str, int] = {}
    split: list[str] = []
    codes = array("i")
    place: list[Any] = ["", 0]
    header: list[str] = []
    columns: list[_Texts] = []
    column, separator, of_names = "", "", frozenset[str]()
    for part in parts:
        with _opened(part.path) as table:
            if not header:
                header, separator, of_names = table.header, table.separator, table.of_names
                column = name_column(part.path, header, key)
                whole = {name for name in header if name.casefold() in _WHOLE or name in of_names}
                columns = [_Texts(place, None if name in whole else _FEW) for name in header]
            elif table.header != header:
                raise DataError(
                    f"{part.path} has the columns {listing(table.header)}, but {parts[0].path} has"
                    f" {listing(header)}; give both the same"
                )
            at = header.index(column)
            place[0] = str(part.path)
            for line, row in table.rows:
                place[1] = line
                name = part.prefix + images.relative(row[at])
                check_id(part.path, line, name, names, images.called, column)
                row[at] = ""
                codes.extend([texts[value] for texts, value in zip(columns, row, strict=True)])
                split.append(part.split)
    if not names:
        raise DataError(f"{parts[0].path} has a header and no rows; expected one row an image")
    coded = np.frombuffer(codes, np.int32).reshape(len(names), len(header))
    made = {
        name: Column(tuple(texts.texts), tuple(texts.places), coded[:, position], name in of_names)
        for position, (name, texts) in enumerate(zip(header, columns, strict=True))
        if name not in (column, ROW_NUMBER)
    }
    return Sheet(parts[0].path, separator, column, list(names), made, split)


Rows = Iterator[tuple[int, list[str]]]


@dataclass(frozen=True)
class _Opened:
    """A table while it is read: its columns, what parts them, its rows, and which columns name classes."""

    header: list[str]
    separator: str
    rows: Rows
    of_names: frozenset[str] = frozenset()


@contextmanager
def _opened(path: Path) -> Iterator[_Opened]:
    """A table of any form."""
    if path.suffix == ".parquet":
        from unlabel.data.readers.parquet import parquet_rows

        with parquet_rows(path) as (header, rows, of_names):
            yield _Opened(header, "", rows, of_names)
        return
    if path.suffix == ".jsonl":
        try:
            with open_text(path) as file:
                rows = _objects(path, lines_of(path, file))
                first = next(rows, None)
                if first is None:
                    raise DataError(f"{path} is empty; expected an object a line, with a key file_name")
                header = list(first[1])
                yield _Opened(header, "", _even(path, header, chain([first], rows)))
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 text; save it as UTF-8") from error
        except OSError as error:
            raise ReadError.at(path, reason(error)) from error
        return
    with spelt_rows(path, numbered=True) as (header, separator, rows):
        yield _Opened(header, separator, rows)


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


def _even(path: Path, header: Sequence[str], rows: Iterator[tuple[int, dict[str, Any]]]) -> Rows:
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
