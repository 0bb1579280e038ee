"""Tables as they lie on a disk: lines, columns, names of images."""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from unlabel.core.errors import DataError, LabelMismatch, MissingFiles, ReadError
from unlabel.core.reading import open_plain, reason
from unlabel.core.wording import listing, suggest
from unlabel.data.texts import Coded, Names

NAME_COLUMNS = ("image_id", "file_name", "filename", "path", "image")
"""Columns that may hold the file of each image."""

ROW_NUMBER = "row number"
"""How a first column without a name is called: pandas writes the row's number there."""

SEPARATORS = ",;\t"
"""What may part the columns of a table."""

MOST_BYTES = 1_000_000_000
"""A larger table is refused unread."""

LONGEST_LINE = 30_000_000
"""Characters: a header of 50,000 labels has fewer. A file without line breaks is not read to its end."""

LONGEST_NAME = 500
"""Characters of an image's name or an identity: numpy gives every image the space of the longest one."""


def check_given(split: Coded, names: Names, path: Path) -> None:
    """Refuses splits of which some are given and some are not.

    Raises:
        DataError: They are so.
    """
    without = np.flatnonzero(~split.known())
    if 0 < len(without) < len(names):
        raise DataError(
            f"{len(without):,} of {len(names):,} images have no split in {path}, although others do"
            f" ({listing([repr(name) for name in names[without]], 3)}); give every image train, val or test,"
            " or none"
        )


def chosen_labels(names: Sequence[str], labels: Sequence[str] | None, holder: str) -> tuple[str, ...]:
    """The labels to read, in the order asked for; all where none is named.

    Args:
        names: The labels there are.
        labels: Those wanted, or None for all.
        holder: What has the labels, for the message.

    Raises:
        LabelMismatch: A wanted label is not there.

    Example:
        >>> chosen_labels(["Male", "Young", "Hat"], ["Hat", "Male"], "attributes.csv")
        ('Hat', 'Male')
    """
    for name in labels or ():
        if name not in names:
            raise LabelMismatch(
                f"{holder} has no label column {name!r} among its {len(names)}.{suggest(name, names)}"
                " Name columns that it has"
            )
    return tuple(names if labels is None else labels)


@contextmanager
def table_rows(
    path: Path, key: str = "image_id", *, numbered: bool = False
) -> Iterator[tuple[list[str], Iterator[tuple[int, list[str]]]]]:
    """The checked header of a CSV table with commas, and its rows with their line numbers, as they are read.

    Args:
        path: The table.
        key: The column of file names, which must be there.
        numbered: Whether the first column may be a row number without a name, as pandas writes it.

    Raises:
        DataError: The table cannot be opened or is malformed.
    """
    with spelt_rows(path, ",", numbered=numbered) as (header, _, rows):
        parted = next((mark for mark in ";\t|" if mark in header[0]), None)
        if len(header) == 1 and parted:
            raise DataError(f"{path}: its columns seem to be separated by {parted!r}; save it with commas")
        if key not in header:
            raise DataError(
                f"{path} has no column {key!r}, found {listing([repr(name[:40]) for name in header])};"
                f" name the column of file names {key}"
            )
        yield header, rows


@contextmanager
def spelt_rows(
    path: Path, separators: str = SEPARATORS, *, numbered: bool = False
) -> Iterator[tuple[list[str], str, Iterator[tuple[int, list[str]]]]]:
    """The header of a CSV table, what parts its columns, and its rows with their line numbers.

    Args:
        path: The table.
        separators: What may part its columns.
        numbered: Whether the first column may be a row number without a name, as pandas writes it.

    Raises:
        DataError: The table cannot be opened or is malformed.
    """
    try:
        with open_text(path) as file:
            lines = lines_of(path, file)
            line_number = 0
            try:
                first = next(lines, "")
                separator = separator_of(first, separators)
                reader = csv.reader(
                    chain([first], lines), delimiter=separator, strict=True, skipinitialspace=True
                )
                try:
                    header = [name.strip() for name in next(reader, [])]
                    if numbered and header and not header[0]:
                        header[0] = ROW_NUMBER
                    check_header(path, header)
                    yield header, separator, _even_rows(path, reader, header)
                except csv.Error as error:
                    part = {",": "commas", ";": "semicolons"}.get(separator, "tabs")
                    raise DataError(
                        f"{path}, line {reader.line_num}: {error}; expected plain CSV with {part}"
                    ) from error
                finally:
                    line_number = reader.line_num
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path} is not UTF-8 text{f' after line {line_number}' if line_number else ''}; save it"
                    " as UTF-8 (in Excel: CSV UTF-8)"
                ) from error
    except OSError as error:
        raise ReadError.at(path, reason(error)) from error


def separator_of(header: str, separators: str = SEPARATORS) -> str:
    r"""What parts the columns of a table: that which finds a column of file names in its first line.

    Where none or several do, it is the one that finds most columns, the comma before the others.

    >>> separator_of("image_id;Hat, red;Male"), separator_of("Male\tpath"), separator_of("Male")
    (';', '\t', ',')
    """

    def found(separator: str) -> tuple[bool, int]:
        try:
            names = [
                name.strip()
                for name in next(csv.reader([header], delimiter=separator, skipinitialspace=True), [])
            ]
        except csv.Error:
            return False, 0
        return any(name.casefold() in NAME_COLUMNS for name in names), len(names)

    return max(separators, key=found)


def name_column(path: Path, header: Sequence[str], key: str | None = None) -> str:
    """The column of file names: the one that is asked for, or the only one that has a usual name.

    Args:
        path: The table, for messages.
        header: Its columns.
        key: The column that is asked for; None for one of `NAME_COLUMNS`, ``image_id`` before all others.

    Raises:
        DataError: There is none, or there are several and none is ``image_id``.
    """
    if key is not None:
        if key not in header:
            raise DataError(f"{path} has no column {key[:40]!r}, found {_shown(header)}; name one of these")
        return key
    usual = [name for name in header if name in NAME_COLUMNS]
    usual = usual or [name for name in header if name.casefold() in NAME_COLUMNS]
    if not usual:
        raise DataError(
            f"{path} has no column 'image_id', found {_shown(header)}; name the column of file names"
            f" {', '.join(NAME_COLUMNS[:-1])} or {NAME_COLUMNS[-1]}, or name yours with ?names=COLUMN"
        )
    if len(usual) > 1 and "image_id" not in usual:
        raise DataError(
            f"{path} has {len(usual)} columns that may hold file names: {_shown(usual)}; name one of them"
            f" with ?names={usual[0]}"
        )
    return "image_id" if "image_id" in usual else usual[0]


def _shown(names: Sequence[str]) -> str:
    return listing([repr(name[:40]) for name in names])


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Opens a table that anybody may have made, as UTF-8 text.

    Raises:
        OSError: It is no regular file, has more than a billion bytes, or cannot be opened.
    """
    with open_plain(path) as file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            raise ReadError.at(path, f"it has more than {MOST_BYTES:,} bytes")
        with TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            yield text


def lines_of(path: Path, file: TextIO) -> Iterator[str]:
    """The lines of a table, none of them longer than `LONGEST_LINE`.

    Raises:
        DataError: One is longer.
    """
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), ""), 1):
        if len(line) == LONGEST_LINE:
            raise DataError(f"{path}, line {number} has more than {LONGEST_LINE:,} characters; break it")
        yield line


def check_header(path: Path, header: Sequence[str]) -> None:
    """Refuses a header that is empty, or in which a name is missing, not printable, or there twice.

    Raises:
        DataError: It is such a header.
    """
    if not header:
        raise DataError(f"{path} is empty; expected a header line with a column image_id")
    counts = Counter(header)
    for column, name in enumerate(header, 1):
        if not name or not name.isprintable():
            raise DataError(f"{path}: column {column} has the name {name[:40]!r}; give every column a name")
        if counts[name] > 1:
            raise DataError(f"{path} has {counts[name]} columns {name[:40]!r}; name each column once")


def _even_rows(path: Path, reader: Any, header: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    for row in reader:
        if not row:
            continue
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {reader.line_num}: found {len(row)} values,"
                f" expected {len(header)}, one a column"
            )
        yield reader.line_num, row


def check_id(
    path: Path,
    line: int,
    name: str,
    line_of: dict[str, int],
    images: str = "images/",
    column: str = "image_id",
) -> None:
    """Refuses a name that was seen or that leads out of its folder, and remembers it with its line.

    Args:
        path, line: Where the name stands, for the message.
        name: A file's name as the table has it.
        line_of: Line of each name so far; the name is added.
        images: How the message calls the folder.
        column: The column that the name stands in, for the message.

    Raises:
        DataError: The name is there twice, or is not a plain path.
    """
    if name in line_of:
        raise DataError(
            f"{path}, line {line}: {column} {name!r} is there already, on line {line_of[name]};"
            " keep one row an image"
        )
    check_name(path, line, name, images, column)
    line_of[name] = line


def check_name(path: Path, line: int, name: str, images: str = "images/", column: str = "image_id") -> None:
    """Refuses a name that leads out of its folder; see `check_id`.

    Raises:
        DataError: It is too long, or is not a plain path.
    """
    if len(name) > LONGEST_NAME:
        raise DataError(
            f"{path}, line {line}: {column} has {len(name):,} characters; expected at most {LONGEST_NAME}"
        )
    if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise DataError(
            f"{path}, line {line}: {column} {name!r} is not a plain path inside {images};"
            " write it like photo.jpg or anna/photo.jpg"
            f"{', or name the folder above all images with ?root=FOLDER' if name.startswith('/') else ''}"
        )


_ODD = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|\0", re.MULTILINE)


def odd_names(names: Sequence[str]) -> bool:
    r"""Whether `check_name` may refuse one of some names; at least one.

    >>> odd_names(["a.jpg", "b/c.jpg"]), odd_names(["a.jpg", "b/../c.jpg"]), odd_names(["a\n.jpg"])
    (False, True, True)
    """
    text = "\n".join(names)
    return (
        max(map(len, names)) > LONGEST_NAME
        or text.count("\n") != len(names) - 1
        or _ODD.search(text) is not None
    )


def read_ids(path: Path) -> tuple[str, ...]:
    """Image names from the ``image_id`` column, or one like it, of a table, whatever its other columns hold.

    Raises:
        MissingFiles: There is no such file.
        DataError: The table is malformed, empty, or names an image twice.
    """
    if not path.is_file():
        raise MissingFiles(f"no file {path}; expected a table with a column image_id, one row an image")
    with spelt_rows(path, numbered=True) as (header, _, rows):
        key = name_column(path, header)
        column = header.index(key)
        line_of: dict[str, int] = {}
        for line, row in rows:
            check_id(path, line, row[column], line_of, column=key)
    if not line_of:
        raise DataError(f"{path} has a header and no rows; expected one row an image")
    return tuple(line_of)
