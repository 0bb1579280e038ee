"""What ``meta.csv`` says of images beside their labels: which split each is in, and whose it is."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError
from unlabel.data.readers.sheet import Column, Images, Part, Sheet, read_sheet
from unlabel.data.readers.tables import LONGEST_NAME, check_given
from unlabel.data.splits import GIVEN_NAMES
from unlabel.data.texts import Coded, Names

_COLUMNS = ("split", "identity")


@dataclass(frozen=True)
class Meta:
    """What ``meta.csv`` says of each image, empty where it says nothing; and how many rows name no image."""

    split: Coded
    identity: Coded
    ignored: int


def read_meta(path: Path, names: Names, images: Images) -> Meta:
    """What ``meta.csv`` says of these images; all empty where there is no such file.

    Args:
        path: The table.
        names: Of the images.
        images: Their folder, to which a name in the table is relative.

    Raises:
        DataError: The table is malformed, names an image twice, has an unknown split, or says nothing of the
            split of an image although it does of others.
    """
    nothing = Coded.empty(len(names))
    if not path.exists() and not path.is_symlink():
        return Meta(nothing, nothing, 0)
    sheet = read_sheet([Part(path)], images, least=0)
    for name in sheet.columns:
        if name not in _COLUMNS and name.casefold() in _COLUMNS:
            raise DataError(f"{path} has a column {name[:40]!r}; name it {name.casefold()!r}")
    rows = sheet.names.rows_of(names)
    split, identity = (_column(sheet, name, rows) for name in _COLUMNS)
    check_given(split, names, path)
    return Meta(split, identity, len(sheet.names) - int(np.sum(rows >= 0)))


def _column(sheet: Sheet, name: str, rows: NDArray[np.int64]) -> Coded:
    """The texts of a column in other rows, empty where the row is -1."""
    column = sheet.columns.get(name)
    if not isinstance(column, Column):
        return Coded.empty(len(rows))
    for text, first in zip(column.texts, column.first.tolist(), strict=True):
        prefix = f"{sheet.place(first)}, column {name!r}: found"
        if name == "split" and text not in ("", *GIVEN_NAMES):
            raise DataError(f"{prefix} {text[:40]!r}; expected train, val or test, or nothing in every row")
        if len(text) > LONGEST_NAME:
            raise DataError(
                f"{prefix} {len(text):,} characters; expected at most {LONGEST_NAME}, such as a name or a"
                " number"
            )
    codes = np.append(column.codes, column.codes.dtype.type(len(column.texts)))
    return Coded((*column.texts, ""), codes[rows])
