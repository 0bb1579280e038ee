"""The two tables beside a folder of photos: what each photo shows, and whose it is."""

import csv
import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError, LabelMismatch, MissingFiles
from unlabel.core.reading import ReadError, open_plain, reason
from unlabel.core.wording import listing, suggest
from unlabel.data.splits import GIVEN_NAMES

_CODES = {"1": 1, "0": 0, "-1": -1, "": -1}
_EXPECTED_VALUES = "expected 1 (present), 0 (absent), -1 or nothing (unknown)"
_META_COLUMNS = ("split", "identity")

MOST_BYTES = 1_000_000_000
"""A larger table is refused unread."""

LONGEST_LINE = 30_000_000
"""Characters: a header of 50,000 labels has fewer. A file without line breaks is not read to its end."""

LONGEST_NAME = 500
"""Characters of an image's name or an identity: numpy gives every image the space of the longest one."""


@dataclass(frozen=True)
class Meta:
    """What ``meta.csv`` says of each image, empty where it says nothing; and how many rows name no image."""

    split: list[str]
    identity: list[str]
    ignored: int


def read_attributes(
    path: Path, labels: Sequence[str] | None = None
) -> tuple[tuple[str, ...], list[str], NDArray[np.int8]]:
    """The labels, image names and targets of ``attributes.csv``, in the order of its rows.

    Args:
        path: The table.
        labels: Columns to read, in this order; None for all. Other columns may hold anything.

    Returns:
        Labels, image names, and targets int8 (image, label): 1 present, 0 absent, -1 unknown.

    Raises:
        DataError: The table is malformed or names an image twice or outside ``images/``.
        LabelMismatch: A wanted label has no column.
    """
    with table_rows(path) as (header, rows):
        id_column = header.index("image_id")
        names = tuple(name for name in header if name != "image_id")
        if not names:
            raise DataError(f"{path} has no label column; expected one column of 0 and 1 for each label")
        names = chosen_labels(names, labels, str(path))
        columns = [header.index(name) for name in names]
        line_of: dict[str, int] = {}
        targets = array("b")
        for line, row in rows:
            check_id(path, line, row[id_column], line_of)
            try:
                targets.extend([_CODES[row[column]] for column in columns])
            except KeyError:
                targets.extend([_code(path, line, header[column], row[column]) for column in columns])
    if not line_of:
        raise DataError(f"{path} has a header and no rows; expected one row an image")
    return names, list(line_of), np.frombuffer(targets, np.int8).reshape(len(line_of), len(names))


def read_meta(path: Path, ids: Sequence[str]) -> Meta:
    """What ``meta.csv`` says of these images; all empty where there is no such file.

    Raises:
        DataError: The table is malformed, names an image twice, has an unknown split, or says nothing of the
            split of an image although it does of others.
    """
    if not path.exists() and not path.is_symlink():
        return Meta([""] * len(ids), [""] * len(ids), 0)
    rows_by_image: dict[str, tuple[str, str]] = {}
    with table_rows(path) as (header, rows):
        for name in header:
            if name not in _META_COLUMNS and name.casefold() in _META_COLUMNS:
                raise DataError(f"{path} has a column {name[:40]!r}; name it {name.casefold()!r}")
        id_column = header.index("image_id")
        columns = {name: header.index(name) for name in _META_COLUMNS if name in header}
        line_of: dict[str, int] = {}
        for line, row in rows:
            check_id(path, line, row[id_column], line_of)
            split, identity = (
                row[columns[name]].strip() if name in columns else "" for name in _META_COLUMNS
            )
            if len(identity) > LONGEST_NAME:
                raise DataError(
                    f"{path}, line {line}, column 'identity': found {len(identity):,} characters; expected at"
                    f" most {LONGEST_NAME}, such as a name or a number"
                )
            if split not in ("", *GIVEN_NAMES):
                raise DataError(
                    f"{path}, line {line}, column 'split': found {split[:40]!r};"
                    " expected train, val or test, or nothing in every row"
                )
            rows_by_image[row[id_column]] = split, identity
    values = [rows_by_image.get(name, ("", "")) for name in ids]
    without = [name for name, (split, _) in zip(ids, values, strict=True) if not split]
    if without and len(without) < len(ids):
        raise DataError(
            f"{len(without):,} of {len(ids):,} images have no split in {path}, although others do"
            f" ({listing([repr(name) for name in without], 3)}); give every image train, val or test,"
            " or none"
        )
    ignored = len(rows_by_image) - sum(name in rows_by_image for name in ids)
    return Meta([split for split, _ in values], [identity for _, identity in values], ignored)


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
    """The checked header of a CSV table, and its rows with their line numbers, as they are read.

    Args:
        path: The table.
        key: The column of file names, which must be there.
        numbered: Whether the first column may be a row number without a name, as pandas writes it.

    Raises:
        DataError: The table cannot be opened or is malformed.
    """
    try:
        with open_text(path) as file:
            reader = csv.reader(lines_of(path, file), strict=True)
            try:
                header = [name.strip() for name in next(reader, [])]
                if numbered and header and not header[0]:
                    header[0] = "row number"
                _check_header(path, header, key)
                yield header, _even_rows(path, reader, header)
            except csv.Error as error:
                raise DataError(
                    f"{path}, line {reader.line_num}: {error}; expected plain CSV with commas"
                ) from error
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path} is not UTF-8 text after line {reader.line_num}; save it as UTF-8"
                ) from error
    except OSError as error:
        raise ReadError.at(path, reason(error)) from error


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


def _check_header(path: Path, header: Sequence[str], key: str) -> None:
    if not header:
        raise DataError(f"{path} is empty; expected a header line with a column {key}")
    parted = next((mark for mark in ";\t|" if mark in header[0]), None)
    if len(header) == 1 and parted:
        raise DataError(f"{path}: its columns seem to be parted by {parted!r}; save it with commas")
    for column, name in enumerate(header, 1):
        if not name or not name.isprintable():
            raise DataError(f"{path}: column {column} has the name {name[:40]!r}; give every column a name")
        if header.count(name) > 1:
            raise DataError(f"{path} has {header.count(name)} columns {name[:40]!r}; name each column once")
    if key not in header:
        raise DataError(
            f"{path} has no column {key!r}, found {listing([repr(name[:40]) for name in header])};"
            f" name the column of file names {key}"
        )


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


def check_id(path: Path, line: int, name: str, line_of: dict[str, int], images: str = "images/") -> None:
    """Refuses a name that was seen or that leads out of its folder, and remembers it with its line.

    Args:
        path, line: Where the name stands, for the message.
        name: A file's name as the table has it.
        line_of: Line of each name so far; the name is added.
        images: How the message calls the folder.

    Raises:
        DataError: The name is there twice, or is not a plain path.
    """
    if len(name) > LONGEST_NAME:
        raise DataError(
            f"{path}, line {line}: image_id has {len(name):,} characters; expected at most {LONGEST_NAME}"
        )
    if name in line_of:
        raise DataError(
            f"{path}, line {line}: image_id {name!r} is there already, on line {line_of[name]};"
            " keep one row an image"
        )
    if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise DataError(
            f"{path}, line {line}: image_id {name!r} is not a plain path inside {images};"
            " write it like photo.jpg or anna/photo.jpg"
        )
    line_of[name] = line


def _code(path: Path, line: int, column: str, value: str) -> int:
    code = _CODES.get(value.strip())
    if code is None:
        raise DataError(f"{path}, line {line}, column {column!r}: found {value[:40]!r}; {_EXPECTED_VALUES}")
    return code


def read_ids(path: Path) -> tuple[str, ...]:
    """Image names from the ``image_id`` column of a table, whatever its other columns hold.

    Raises:
        MissingFiles: There is no such file.
        DataError: The table is malformed, empty, or names an image twice.
    """
    if not path.is_file():
        raise MissingFiles(f"no file {path}; expected a table with a column image_id, one row an image")
    with table_rows(path) as (header, rows):
        column = header.index("image_id")
        line_of: dict[str, int] = {}
        for line, row in rows:
            check_id(path, line, row[column], line_of)
    if not line_of:
        raise DataError(f"{path} has a header and no rows; expected one row an image")
    return tuple(line_of)
