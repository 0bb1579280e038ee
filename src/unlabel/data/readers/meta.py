"""What ``meta.csv`` says of images beside their labels: which split each is in, and whose it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError
from unlabel.core.wording import listing
from unlabel.data.readers.files import is_image, plain_form
from unlabel.data.readers.meaning import SPLITS, special_columns
from unlabel.data.readers.sheet import Column, Images, Part, Sheet, read_sheet
from unlabel.data.readers.tables import LONGEST_NAME, check_given
from unlabel.data.texts import Coded, Names

_WHOSE = ("person", "people", "subject", "identit", "individual", "patient")
"""In names of columns that may say whose each image is."""


@dataclass(frozen=True)
class Meta:
    """What ``meta.csv`` says of each image, empty where it says nothing.

    Args:
        split: Of each image.
        identity: Of each image.
        ignored: How many rows name no image.
        unread: Its other columns.
        remark: A sentence on these; empty where there is none.
    """

    split: Coded
    identity: Coded
    ignored: int
    unread: tuple[str, ...] = ()
    remark: str = ""


def read_meta(path: Path, names: Names, images: Images) -> Meta:
    """What ``meta.csv`` says of these images; all empty where there is no such file.

    A name may have the ending of an image in one table and none in the other, or differ by letter case, outer
    spaces, Unicode's form or a backslash, if it means one image.

    Args:
        path: The table.
        names: Of the images.
        images: Their folder, to which a name in the table is relative.

    Raises:
        DataError: The table is malformed, names an image twice or none of the images, has an unknown split,
            or says nothing of the split of an image although it does of others.
    """
    nothing = Coded.empty(len(names))
    if not path.exists() and not path.is_symlink():
        return Meta(nothing, nothing, 0)
    sheet = read_sheet([Part(path)], images, least=0)
    read = special_columns(sheet)
    if "split" not in read:
        _refuse_misnamed(sheet, path)
    rows = _rows(sheet.names, names, path)
    if len(sheet.names) and len(names) and not np.any(rows >= 0):
        raise DataError(
            f"{path} names none of the images: found {sheet.names[0][:40]!r}, expected names such as"
            f" {names[0][:40]!r}; write the same names, or take {path.name} away"
        )
    split, identity = (_column(sheet, kind, read.get(kind), rows) for kind in ("split", "identity"))
    check_given(split, names, path)
    unread = tuple(name for name in sheet.columns if name not in read.values())
    remark = _remark(path.name, list(read), unread) if unread else ""
    return Meta(split, identity, len(sheet.names) - int(np.sum(rows >= 0)), unread, remark)


def _remark(table: str, read: Sequence[str], unread: Sequence[str]) -> str:
    """That columns are not read, and what to do if one of them says whose each image is.

    >>> _remark("meta.csv", ["split"], ["age", "person_id"])
    "meta.csv: not read: 'age', 'person_id'; if 'person_id' says whose each image is, name it 'identity'"
    """
    shown = listing([repr(name[:40]) for name in unread], 3)
    people = [name for name in unread if any(word in name.casefold() for word in _WHOSE)]
    advice = f"; if {people[0][:40]!r} says whose each image is, name it 'identity'" if people else ""
    if not read:
        return f"{table} has neither 'split' nor 'identity': ignored (its columns are {shown}){advice}"
    return f"{table}: not read: {shown}{'' if 'identity' in read else advice}"


def _refuse_misnamed(sheet: Sheet, path: Path) -> None:
    """Refuses a table without a split if a column holds nothing but names of splits."""
    for name, column in sheet.columns.items():
        texts = {text.casefold() for text in column.texts} - {""} if isinstance(column, Column) else set()
        if texts and texts <= SPLITS.keys():
            raise DataError(
                f"{path} has no column 'split', but a column {name[:40]!r} with {sorted(texts)[0]!r}; name it"
                " 'split'"
            )


def _rows(there: Names, names: Names, path: Path) -> NDArray[np.int64]:
    """The row of each image, -1 for none; where none has its very name, one that `_fits` counts."""
    rows = there.rows_of(names)
    missing = np.flatnonzero(rows < 0)
    free = np.setdiff1d(np.arange(len(there)), rows) if len(missing) else missing
    if not len(free):
        return rows
    alike: dict[str, list[int]] = {}
    for row in free.tolist():
        alike.setdefault(_stem(there[row]), []).append(row)
    first: dict[int, str] = {}
    for at in missing.tolist():
        name = names[at]
        fitting = [row for row in alike.get(_stem(name), ()) if _fits(name, there[row])]
        if len(fitting) > 1:
            found = " and ".join(repr(there[row]) for row in fitting[:3])
            raise DataError(f"{path} has several rows that may be {name!r}: {found}; keep one")
        for row in fitting:
            if first.setdefault(row, name) != name:
                raise DataError(
                    f"{path} names {there[row]!r}, which may be {first[row]!r} or {name!r}; write the whole"
                    " name"
                )
            rows[at] = row
    return rows


def _fits(name: str, row: str) -> bool:
    """Whether two names with one stem may be one image: as one lacks the ending, or both have the same."""
    one, other = _loose(name), _loose(row)
    return one == other or is_image(one) != is_image(other)


def _stem(name: str) -> str:
    """A name as `_loose` has it, without the ending of an image."""
    loose = _loose(name)
    return loose.rpartition(".")[0] if is_image(loose) else loose


def _loose(name: str) -> str:
    """A name without what two tables may write differently: its plain form, in small letters."""
    return plain_form(name).casefold()


def _column(sheet: Sheet, kind: str, name: str | None, rows: NDArray[np.int64]) -> Coded:
    """What a column of splits or identities says in some rows; empty where the row is -1, or without it."""
    column = sheet.columns.get(name or "")
    if not isinstance(column, Column):
        return Coded.empty(len(rows))
    for text, first in zip(column.texts, column.first.tolist(), strict=True):
        prefix = f"{sheet.place(first)}, column {name!r}: found"
        if kind == "split" and text and text.casefold() not in SPLITS:
            raise DataError(f"{prefix} {text[:40]!r}; expected train, val or test, or nothing in every row")
        if len(text) > LONGEST_NAME:
            raise DataError(
                f"{prefix} {len(text):,} characters; expected at most {LONGEST_NAME}, such as a name or a"
                " number"
            )
    texts = [SPLITS.get(text.casefold(), "") for text in column.texts] if kind == "split" else column.texts
    codes = np.append(column.codes, column.codes.dtype.type(len(column.texts)))
    return Coded((*texts, ""), codes[rows])
