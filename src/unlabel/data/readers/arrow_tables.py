"""Tables of Arrow, in parquet files or Hugging Face's datasets: the column of images, and rows as texts."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unlabel.core.errors import DataError
from unlabel.core.reading import parse_json
from unlabel.core.wording import listing
from unlabel.data.readers.sheet import UNKNOWN, as_text
from unlabel.data.readers.tables import NAME_COLUMNS

MOST_ROWS = 20_000_000
"""A file with more rows is refused: a few bytes can say that one value comes a billion times."""

_LONGEST = 1_000_000
_NAMED = ("image", "img")

Table = tuple[list[str], Iterator[tuple[int, list[str]]], frozenset[str]]
"""Columns, rows as texts with their numbers, and which columns hold names of classes."""


def image_column(path: Path, schema: Any) -> str | None:
    """The column that holds encoded images; None where none does.

    Raises:
        DataError: Several do.
    """
    holding = [field.name for field in schema if _holds_bytes(field.type)]
    if len(holding) > 1:
        usual = [name for name in holding if name in _NAMED]
        if len(usual) != 1:
            raise DataError(
                f"{path} has {len(holding)} columns of bytes ({listing(holding)}); expected one, or one named"
                " image"
            )
        return usual[0]
    return holding[0] if holding else None


def _holds_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        names = [kind.field(position).name for position in range(kind.num_fields)]
        return "bytes" in names and _holds_bytes(kind.field(names.index("bytes")).type)
    return types.is_binary(kind) or types.is_large_binary(kind)


def table_of(path: Path, schema: Any, batches: Callable[[list[str]], Iterable[Any]]) -> Table:
    """A table without its images; one of images without a column of names gets the number of each row.

    Args:
        path: The file, for messages.
        schema: Its columns.
        batches: Gives its rows, some at a time, with these columns.
    """
    column = image_column(path, schema)
    classes = _classes(schema.metadata or {})
    header = [name for name in schema.names if name != column]
    numbered = column is not None and not any(name.casefold() in NAME_COLUMNS for name in header)
    shown = ["image_id", *header] if numbered else header
    return shown, _rows(path, batches(header), header, classes, numbered), frozenset(classes)


def encoded_of(column: Any) -> Iterator[bytes]:
    """The encoded images of an array of Arrow; empty where it has none."""
    values = column.field("bytes") if hasattr(column, "field") else column
    for value in values:
        yield value.as_py() or b""


def _rows(
    path: Path,
    batches: Iterable[Any],
    header: Sequence[str],
    classes: Mapping[str, Sequence[str]],
    numbered: bool,
) -> Iterator[tuple[int, list[str]]]:
    row = 0
    for batch in batches:
        columns = [_values(path, name, batch.column(name)) for name in header]
        for values in zip(*columns, strict=True) if columns else [()] * len(batch):
            row += 1
            if row > MOST_ROWS:
                raise DataError(f"{path} has more than {MOST_ROWS:,} rows; expected at most as many")
            line = f"{path}, line {row}"
            texts = [
                as_text(_named(value, classes.get(name), line), line)
                for name, value in zip(header, values, strict=True)
            ]
            yield row, [f"{row - 1:08d}", *texts] if numbered else texts


def _values(path: Path, name: str, column: Any) -> list[Any]:
    """The values of a column; equal texts are one object."""
    if not hasattr(column, "dictionary"):
        return column.to_pylist()
    texts = column.dictionary.to_pylist()
    if any(isinstance(text, str) and len(text) > _LONGEST for text in texts):
        raise DataError(
            f"{path}, column {name!r} has a text of more than {_LONGEST:,} characters; shorten it"
        )
    return [None if at is None else texts[at] for at in column.indices.to_pylist()]


def _named(value: Any, classes: Sequence[str] | None, place: str) -> Any:
    """Class numbers replaced by their names; any other value as it is."""
    if isinstance(value, list):
        if classes is None and any(isinstance(item, int) for item in value):
            raise DataError(
                f"{place}: a list holds class numbers, but the file's metadata names no classes; write names"
            )
        return [_named(item, classes, place) for item in value]
    if classes is None or not isinstance(value, int):
        return value
    if not 0 <= value < len(classes):
        if value == -1:  # how Hugging Face writes an unknown class
            return UNKNOWN
        raise DataError(f"{place}: found class {value}; expected 0 to {len(classes) - 1}")
    return classes[value]


def _classes(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """The names of the classes of each column, as Hugging Face writes them into a file's metadata."""
    try:
        told = parse_json(metadata[b"huggingface"])
        features = told["info"]["features"]
        items = features.items()
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
    return {str(name): names for name, feature in items if (names := _names_of(feature))}


def _names_of(feature: Any) -> list[str]:
    while isinstance(feature, list | dict):
        if isinstance(feature, list):
            feature = feature[0] if len(feature) == 1 else None
        elif isinstance(feature.get("names"), list):
            return [str(name) for name in feature["names"]]
        else:
            feature = feature.get("feature")
    return []
