"""What the texts of a table mean: which columns are labels, and which text is present, absent or unknown.

::

    meaning_of(sheet, labels, absent) -> Meaning    label names, targets, splits, identities

Where the table leaves it open, it is refused with the option that settles it: a guess would be a wrong audit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError
from unlabel.core.progress import SILENT, Log, warn
from unlabel.core.request import spelt
from unlabel.core.wording import listing
from unlabel.data.readers.sheet import MANY, NAMES_OF_LABELS, UNKNOWN, Column, Lists, Sheet
from unlabel.data.readers.tables import LONGEST_NAME, check_given, chosen_labels
from unlabel.data.texts import Coded

NUMBERS: Mapping[str, int] = {
    spelling: value
    for value in (1, 0, -1)
    for spelling in (f"{value}", f"{value}.0", f"{value},0")  # the last of tables with a decimal comma
}
WORDS: tuple[Mapping[str, int], ...] = ({"yes": 1, "no": 0}, {"true": 1, "false": 0})
EXPECTED = (
    "expected 1 (present), 0 (absent), -1 or nothing (unknown), or yes and no, or true and false,"
    " of one kind in a column"
)
SPLITS: Mapping[str, str] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}
"""What a split may be called in a table of labels or as a folder."""

EMPTY = frozenset({"", UNKNOWN, "nan", "na", "<na>", "none", "null"})
"""Cells that say nothing, in small letters; pandas and others write a missing value in these ways."""

_MOST_NAMES = 10_000


@dataclass(frozen=True)
class Meaning:
    """What a table says of its images.

    Args:
        labels: Names of the target's columns.
        target: int8 (row, label): 1 present, 0 absent, -1 unknown.
        split: ``train``, ``val`` or ``test`` for each row, or empty for every row.
        identity: Whose image each is, as it is written; see `identities`.
        facts: How the table is spelt, JSON-plain.
    """

    labels: tuple[str, ...]
    target: NDArray[np.int8]
    split: Coded
    identity: Coded
    facts: Mapping[str, Any]


def meaning_of(
    sheet: Sheet,
    labels: Sequence[str] | None = None,
    absent: str | None = None,
    *,
    in_doubt: str | None = None,
    log: Log = SILENT,
) -> Meaning:
    """The labels of a table, with its splits and identities where it has them.

    Args:
        sheet: The table.
        labels: Labels to read, in this order; None for all. Other columns may hold anything.
        absent: ``-1`` where that is absent (and 0, if any, unknown), ``0`` where -1 is unknown; None to find
            it out.
        in_doubt: The same where the table can be read in two ways; None to refuse it.
        log: Receives what was read in one way and may be meant in another.

    Raises:
        LabelMismatch: A wanted label is not there.
        DataError: A column holds no labels, or its marks can be read in two ways.
    """
    asked = () if labels is None else tuple(labels)
    special = special_columns(sheet, asked)
    columns = {name: column for name, column in sheet.columns.items() if name not in special.values()}
    lists = [name for name in columns if _of_names(name, columns[name])]
    named = _label_names(sheet, {name: columns[name] for name in lists})
    every = [*(name for name in columns if name not in lists), *named]
    if twice := [name for name in named if name in columns]:
        raise DataError(
            f"{sheet.path} has the label {twice[0]!r} as a column and as a name; keep one of them"
        )
    if not every:
        raise DataError(
            f"{sheet.path} has no label column; expected one column of 0 and 1 for each label, or a column"
            " named labels with names separated by '|'"
        )
    names = chosen_labels(every, None if labels is None else spelt(asked, every), str(sheet.path))
    marked = [name for name in columns if name not in lists and name in names]
    _check_marks(sheet, columns, marked, [*named], labels)
    values = _values(sheet, columns, marked, absent, in_doubt)
    target = np.empty((len(sheet.names), len(names)), np.int8)
    for position, name in enumerate(names):
        target[:, position] = named[name] if name in named else _coded(columns[name], values)
    kinds = {kind: sheet.columns[name] for kind, name in special.items()}
    if absent is None:
        _tell_of_minus(sheet, [columns[name] for name in marked], values, log)
    _tell_of_marks(sheet, special.get("identity"), log)
    facts = {
        "separator": sheet.separator,
        "names": sheet.key,
        "absent": "-1" if values["-1"] == 0 else "0",
        "columns_of_names": lists,
        "ignored_columns": [name for name in columns if name not in marked and name not in lists],
    }
    return Meaning(asked or names, target, _split(sheet, kinds.get("split")), _identity(sheet, kinds), facts)


def special_columns(sheet: Sheet, labels: Sequence[str] = ()) -> dict[str, str]:
    """The columns of splits and identities by kind, whose names may have any case; labels are none of them.

    Raises:
        DataError: There are two of one kind.
    """
    found: dict[str, str] = {}
    for name in sheet.columns:
        kind = name.casefold()
        if kind not in ("split", "identity") or name in labels:
            continue
        if found.setdefault(kind, name) != name:
            raise DataError(f"{sheet.path} has the columns {found[kind]!r} and {name!r}; keep one of them")
    return found


def _tell_of_minus(
    sheet: Sheet, columns: Sequence[Column | Lists], values: Mapping[str, int], log: Log
) -> None:
    """Says that -1 is absent, where a table has it and does not tell what it means."""
    if values["-1"] == 0 and any(-1 in _marks(column) for column in columns):
        warn(
            log,
            f"no column of {sheet.path.name} has a 0, so -1 is read as absent, as in CelebA; if it means"
            " unknown, add ?absent=0 to the source",
        )


def _tell_of_marks(sheet: Sheet, identity: str | None, log: Log) -> None:
    """Says that a column that may be a label is read as identities."""
    if identity is not None and _marks(sheet.columns[identity]) & {0, 1}:
        warn(
            log,
            f"column {identity!r} of {sheet.path.name} holds marks alone, such as 0 and 1, and is read as"
            " whose each image is; if it is a label, name it among others with --labels",
        )


def _marks(column: Column | Lists) -> set[int]:
    """The numbers that stand for a column's marks, of words 1 and 0; nothing where it holds anything else."""
    kind = _vocabulary(column) or {}
    return {kind[text] for text in map(str.casefold, column.texts) if text in kind}


def _vocabulary(column: Column | Lists) -> Mapping[str, int] | None:
    """The kind of marks that a column holds; None where it holds anything else."""
    if isinstance(column, Lists) or column.codes.min(initial=0) == MANY:
        return None
    marks = {text.casefold() for text in column.texts} - EMPTY
    return next((kind for kind in (NUMBERS, *WORDS) if marks <= kind.keys()), None)


def _of_names(name: str, column: Column | Lists) -> bool:
    if isinstance(column, Lists):
        return True
    return (column.of_names or name.casefold() in NAMES_OF_LABELS) and _vocabulary(column) is None


def _label_names(sheet: Sheet, columns: Mapping[str, Column | Lists]) -> dict[str, NDArray[np.int8]]:
    """A target column for each name in columns of names, ordered by name; -1 where the name is unknown."""
    made: dict[str, NDArray[np.int8]] = {}
    for title, column in columns.items():
        _check_names(sheet, column, title)
        names = sorted({*column.texts} - {"", UNKNOWN})
        if twice := [name for name in names if name in made]:
            raise DataError(f"{sheet.path} has the label {twice[0]!r} in two columns; keep one of them")
        rank = {name: at for at, name in enumerate(names)}
        ranks = np.array([rank.get(text, len(names)) for text in column.texts], np.int64)
        counts = column.counts if isinstance(column, Lists) else np.ones(len(sheet.names), np.int32)
        has = np.zeros((len(names) + 1, len(sheet.names)), np.int8)
        has[ranks[column.codes], np.repeat(np.arange(len(sheet.names)), counts)] = 1
        if UNKNOWN in column.texts:
            code = list(column.texts).index(UNKNOWN)
            has[:, np.repeat(np.arange(len(sheet.names)), counts)[column.codes == code]] = -1
        made.update(zip(names, has, strict=False))
    return made


def _check_names(sheet: Sheet, column: Column | Lists, title: str) -> None:
    names = [text for text in column.texts if text != UNKNOWN]
    if len(names) > _MOST_NAMES or any(len(name) > LONGEST_NAME or not name.isprintable() for name in names):
        raise DataError(
            f"{sheet.place(column.first[0])}, column {title!r}: expected at most {_MOST_NAMES:,} printable"
            f" names of at most {LONGEST_NAME} characters, separated by '|'"
        )
    for mark in ";,":
        pieces = {part.strip() for name in names for part in name.split(mark)}
        if any(mark in name for name in names) and len(pieces) < len(names):
            odd = next(at for at, name in enumerate(names) if mark in name)
            raise DataError(
                f"{sheet.place(column.first[odd])}, column {title!r}: found {names[odd][:40]!r}; part the"
                f" names by '|' instead of {mark!r}"
            )


def _check_marks(
    sheet: Sheet,
    columns: Mapping[str, Column | Lists],
    marked: Sequence[str],
    named: Sequence[str],
    labels: Sequence[str] | None,
) -> None:
    """Refuses columns that hold no marks, the first with its line, all by name."""
    odd = [name for name in marked if _vocabulary(columns[name]) is None]
    if not odd:
        return
    column = columns[odd[0]]
    assert isinstance(column, Column)  # one of lists holds names
    folded = [text.casefold() for text in column.texts]
    first = next((text for text in folded if text not in EMPTY), "")
    kind = next((kind for kind in (NUMBERS, *WORDS) if first in kind), NUMBERS)
    at = next(at for at, text in enumerate(folded) if text not in EMPTY and text not in kind)
    good = [name for name in (*marked, *named) if name not in odd]
    if labels is None:
        shown = ",".join(good[:5]) + (",..." if len(good) > 5 else "")
        kinds = f"{len(odd)} columns hold" if len(odd) > 1 else "this column holds"
        left = f" ({listing([repr(name) for name in odd], 8)})" if len(odd) > 1 else ""
        advice = f"; if {kinds} no label{left}, name the labels: --labels {shown}" if good else ""
    else:
        advice = "; leave the column out of --labels, or correct it"
    raise DataError(
        f"{sheet.place(column.first[at])}, column {odd[0]!r}: found {column.texts[at][:40]!r}; {EXPECTED}"
        f"{advice}"
    )


def _values(
    sheet: Sheet,
    columns: Mapping[str, Column | Lists],
    marked: Sequence[str],
    absent: str | None,
    in_doubt: str | None,
) -> Mapping[str, int]:
    """What each number means in this table."""
    by_column = {name: _marks(column) for name, column in columns.items()}
    read = {name: by_column[name] for name in marked if name in by_column}
    ways = {_way(read), _way(by_column)} if any(-1 in marks for marks in read.values()) else {"0"}
    ways = ways if absent is None else {absent}
    if len(ways) > 1 or ways == {None}:
        ways = {in_doubt}
    if ways == {"0"}:
        return NUMBERS
    if ways == {"-1"}:
        middle = any({-1, 0} <= marks for marks in read.values())  # then 0 is neither present nor absent
        return {text: {-1: 0, 0: -1 if middle else 0, 1: 1}[value] for text, value in NUMBERS.items()}
    minus = next(name for name, marks in read.items() if -1 in marks)
    zero = next((name for name, marks in by_column.items() if 0 in marks), minus)
    mark = "0" if _vocabulary(columns[zero]) is NUMBERS else "no or false"
    raise DataError(
        f"{sheet.path}: column {minus!r} has -1 and column {zero!r} has {mark}, and no column has 1, 0 and"
        " -1, so -1 may mean absent or unknown; add ?absent=-1 to the source if it means absent, or ?absent=0"
        " if it means unknown"
    )


def _way(found: Mapping[str, set[int]]) -> str | None:
    """The number that means absent in columns of these numbers; None where it cannot be told.

    >>> _way({"Male": {1, 0}, "Hat": {1, 0, -1}}), _way({"Male": {1, -1}, "Hat": {-1}})
    ('0', '-1')
    >>> _way({"Male": {0, -1}}), _way({"Male": {1, 0}, "Hat": {1, -1}})
    (None, None)
    """
    minus = [marks for marks in found.values() if -1 in marks]
    if not minus or any(marks == {-1, 0, 1} for marks in minus):
        return "0"
    if any(0 in marks for marks in found.values()):
        return "0" if all(marks == {-1} for marks in minus) else None
    return "-1" if any(1 in marks for marks in minus) else "0"


def _coded(column: Column | Lists, numbers: Mapping[str, int]) -> NDArray[np.int8]:
    kind = _vocabulary(column)
    meaning = numbers if kind is NUMBERS else kind
    assert meaning is not None
    return np.array([meaning.get(text.casefold(), -1) for text in column.texts], np.int8)[column.codes]


def _split(sheet: Sheet, column: Column | Lists | None) -> Coded:
    """The split of each row: as a column says it, else as the rows' places do."""
    if not isinstance(column, Column):
        return sheet.split
    if np.any(sheet.split.known()):
        raise DataError(
            f"{sheet.path} has a split column, but its folder's name tells a split too; remove the column"
        )
    folded = [text.casefold() for text in column.texts]
    for at, text in enumerate(folded):
        if text and text not in SPLITS:
            raise DataError(
                f"{sheet.place(column.first[at])}, column 'split': found {column.texts[at][:40]!r};"
                " expected train, val or test, or nothing in every row; if split is a label, name it among"
                " others with --labels"
            )
    given = Coded([SPLITS.get(text, "") for text in folded], column.codes)
    check_given(given, sheet.names, sheet.path)
    return given


def _identity(sheet: Sheet, kinds: Mapping[str, Column | Lists]) -> Coded:
    column = kinds.get("identity")
    if not isinstance(column, Column):
        return Coded.empty(len(sheet.names))
    for text, first in zip(column.texts, column.first.tolist(), strict=True):
        if len(text) > LONGEST_NAME:
            raise DataError(
                f"{sheet.place(first)}, column 'identity': found {len(text):,} characters; expected at"
                f" most {LONGEST_NAME}, such as a name or a number"
            )
    return column.values()
