"""Parquet files as Hugging Face's datasets write them: images inside the file, or paths of images.

::

    parquet:FILE      one file, or one of several shards
    parquet:FOLDER    its shards, also in data/; names like train-00000-of-00002.parquet tell the split

A file may come from anyone: rows and row groups are bounded, and images are decoded within the usual limits.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from unlabel.core.errors import DataError, OptionError
from unlabel.core.framing import Frame
from unlabel.core.install import install_command
from unlabel.core.progress import Log
from unlabel.core.reading import ReadError, open_plain, parse_json, reason
from unlabel.core.wording import listing
from unlabel.data.dataset import Source
from unlabel.data.images.cache import Decoded, Part, build_entry, content_key, decode_contents, find_entry
from unlabel.data.images.cache_folder import cache_folder
from unlabel.data.images.decoding import MAX_BYTES
from unlabel.data.options import DEFAULTS, ReadOptions
from unlabel.data.readers import sheet as sheets
from unlabel.data.readers.assemble import Annotations, Wording, source_of_images
from unlabel.data.readers.location import Location, read_location
from unlabel.data.readers.meaning import meaning_of
from unlabel.data.readers.shards import Shard, shards_of
from unlabel.data.readers.tables import NAME_COLUMNS, check_header

MOST_ROWS = 20_000_000
"""A file with more rows is refused: a few bytes can say that one value comes a billion times."""

MOST_GROUP_BYTES = 8_000_000_000
"""Of the images of one row group, unpacked: a group with more is refused."""

_ROWS = 4_096
_IMAGES = 8
"""Rows read at once, of marks and of images: an image may have 256 MB."""

_LONGEST = 1_000_000
_CHUNK = 64
_NAMED = ("image", "img")


def load_parquet(spec: str, options: ReadOptions = DEFAULTS) -> Source:
    """Reads a parquet file or a folder of shards: a struct column ``image`` {bytes, path}, or paths.

    Label columns hold 0 and 1, true and false, class numbers whose names are in the file's metadata, or
    lists of names or of such numbers.

    Args:
        spec: The file or folder, with the options of `Location`.
        options: See `ReadOptions`.

    Raises:
        OptionError: pyarrow is not installed, or no path is named.
        MissingFiles: There is no such file.
        LabelMismatch: A wanted label is not there.
        DataError: A file is malformed, an image cannot be read, or a split is too small.
    """
    where = read_location("parquet", spec)
    shards = parquet_shards(where.path)
    column = _image_column(shards[0].path)
    if column is None:
        from unlabel.data.readers.folder import source_of_tables

        base = where.path if where.path.is_dir() else where.path.parent
        wording = Wording("the folders of its images", shards[0].path.name)
        parts = [sheets.Part(shard.path, "", shard.split) for shard in shards]
        return source_of_tables("parquet", where, parts, [where.root or base], wording, options)
    return _source(where, shards, column, options)


def _source(where: Location, shards: Sequence[Shard], column: str, options: ReadOptions) -> Source:
    """The source of images inside the files."""
    parts = [sheets.Part(shard.path, f"{shard.stem}/", shard.split) for shard in shards]
    sheet = sheets.read_sheet(parts, sheets.Images(where.path, str(where.path)), where.names)
    meaning = meaning_of(sheet, options.labels, where.absent)
    annotations = Annotations(meaning.labels, sheet.names, meaning.target, meaning.split, meaning.identity)
    wording = Wording("the files", where.path.name, splits="the files' names or split column")
    wording = replace(wording, remedy="add images, or give a split column")
    annotations.splits(wording)  # refused before the long decoding, not after it
    images = _decoded(shards, column, len(sheet.names), options.frame(), options.log)
    facts = {"table": {"file": where.path.name, **meaning.facts}}
    return source_of_images(
        where.name("parquet"),
        annotations,
        images,
        wording,
        facts,
        skip_bad=options.skip_bad,
        log=options.log,
    )


def parquet_shards(path: Path) -> list[Shard]:
    """The parquet files that a path names; see `shards_of`."""
    return shards_of(path, ".parquet", "a file, or a folder with files such as train-00000-of-00002.parquet")


@contextmanager
def _opened(path: Path, texts: Sequence[str] = ()) -> Iterator[Any]:
    """A parquet file that anybody may have made, as pyarrow reads it.

    Args:
        path: The file.
        texts: Columns of which each different text is to be held once, however often it comes.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise OptionError(
            f"parquet files are read by pyarrow, which is not installed: {install_command('parquet')}"
        ) from error
    try:
        with open_plain(path) as handle:
            file = parquet.ParquetFile(handle, read_dictionary=list(texts))
            if file.metadata.num_rows > MOST_ROWS:
                raise DataError(
                    f"{path} says that it has {file.metadata.num_rows:,} rows; expected at most {MOST_ROWS:,}"
                )
            yield file
    except ReadError:
        raise
    except (arrow.ArrowException, OSError, ValueError, OverflowError, KeyError) as error:  # all tell damage
        fault = " ".join(reason(error).split())[:160]
        raise DataError(f"{path} is damaged or no parquet file: {fault}; write it again") from error


def _image_column(path: Path) -> str | None:
    """The column that holds encoded images; None where the file holds none."""
    with _opened(path) as file:
        holding = [field.name for field in file.schema_arrow if _holds_bytes(field.type)]
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


@contextmanager
def parquet_rows(path: Path) -> Iterator[tuple[list[str], Iterator[tuple[int, list[str]]], frozenset[str]]]:
    """The columns of a file besides its images, its rows as texts, and which columns hold names of classes.

    A file of images without a column of names gets one: the number of each row.

    Raises:
        DataError: It is malformed.
    """
    column = _image_column(path)
    with _opened(path) as file:
        check_header(path, file.schema_arrow.names)
        texts = [field.name for field in file.schema_arrow if str(field.type) in ("string", "large_string")]
    with _opened(path, texts) as file:
        classes = _classes(file.schema_arrow.metadata or {})
        header = [name for name in file.schema_arrow.names if name != column]
        numbered = column is not None and not any(name.casefold() in NAME_COLUMNS for name in header)
        shown = ["image_id", *header] if numbered else header
        yield shown, _rows(path, file, header, classes, numbered), frozenset(classes)


def _rows(
    path: Path, file: Any, header: Sequence[str], classes: Mapping[str, Sequence[str]], numbered: bool
) -> Iterator[tuple[int, list[str]]]:
    row = 0
    for batch in file.iter_batches(_ROWS, columns=list(header)):
        columns = [_values(path, name, batch.column(name)) for name in header]
        for values in zip(*columns, strict=True) if columns else [()] * len(batch):
            row += 1
            if row > MOST_ROWS:
                raise DataError(f"{path} has more than {MOST_ROWS:,} rows; expected at most as many")
            place = f"{path}, line {row}"
            texts = [
                sheets.as_text(_named(value, classes.get(name), place), place)
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
            return None
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


def image_bytes(shards: Sequence[Shard], column: str) -> Iterator[bytes]:
    """The encoded image of each row; empty where a row has none.

    Raises:
        DataError: A file is malformed.
    """
    for shard in shards:
        with _opened(shard.path) as file:
            _check_groups(shard.path, file, column)
            for batch in file.iter_batches(_IMAGES, columns=[column]):
                values = batch.column(0)
                values = values.field("bytes") if hasattr(values, "field") else values
                for value in values:
                    yield value.as_py() or b""


def _check_groups(path: Path, file: Any, column: str) -> None:
    """Refuses images that would not fit into the memory, by what the file says of itself."""
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        chunks = [group.column(position) for position in range(group.num_columns)]
        size = sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] == column)
        if size > MOST_GROUP_BYTES:
            raise DataError(
                f"{path}: the images of a row group have {size:,} bytes; expected at most"
                f" {MOST_GROUP_BYTES:,}: write it with fewer rows in a group"
            )


def _decoded(shards: Sequence[Shard], column: str, total: int, frame: Frame, log: Log) -> Decoded:
    """The pixels of all rows, from the cache or decoded into it."""
    cache, stem = cache_folder(), f"images-{total}x{frame.name}-"
    hashes: list[bytes] = []
    with log.track("read", total, "images") as advance:
        for data in image_bytes(shards, column):
            hashes.append(sha256(data).digest())
            advance(1)
    key = content_key(hashes, frame)
    entry = find_entry(cache / f"{stem}{key}", total, frame)
    if entry is None:
        key = build_entry(cache, stem, total, frame, _chunks(shards, column, frame), log)
        entry = find_entry(cache / f"{stem}{key}", total, frame)
    if entry is None or len(hashes) != total:
        raise DataError(
            f"the images of {shards[0].path} changed while they were read; check the disk, or name another"
            " folder in UNLABEL_CACHE"
        )
    return entry


def _chunks(shards: Sequence[Shard], column: str, frame: Frame) -> Iterator[Part]:
    """Pixels, hashes and faults of a few images at a time."""
    waiting: list[bytes] = []
    for data in image_bytes(shards, column):
        waiting.append(data)
        if len(waiting) == _CHUNK or sum(map(len, waiting)) > MAX_BYTES:
            yield decode_contents(waiting, len(waiting), frame)
            waiting = []
    if waiting:
        yield decode_contents(waiting, len(waiting), frame)


def encoded_images(spec: str) -> Iterator[bytes]:
    """The encoded images of a source, in the order of the rows; none where the files hold paths.

    Args:
        spec: What stands after ``parquet:``.

    Raises:
        DataError: A file is malformed.
    """
    shards = parquet_shards(read_location("parquet", spec).path)
    column = _image_column(shards[0].path)
    if column is not None:
        yield from image_bytes(shards, column)
