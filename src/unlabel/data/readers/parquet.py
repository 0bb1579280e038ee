"""Parquet files as Hugging Face's datasets write them: images inside the file, or paths of images.

::

    parquet:FILE      one file, or one of several shards
    parquet:FOLDER    its shards, also in data/; names like train-00000-of-00002.parquet tell the split

A file may come from anyone: rows and row groups are bounded, and images are decoded within the usual limits.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError, OptionError, ReadError
from unlabel.core.install import install_command
from unlabel.core.reading import open_plain, reason
from unlabel.data.dataset import Source
from unlabel.data.options import DEFAULTS, ReadOptions
from unlabel.data.readers import sheet as sheets
from unlabel.data.readers.arrow_tables import MOST_ROWS, encoded_of, image_column, table_of
from unlabel.data.readers.assemble import Annotations, Wording, source_of_images
from unlabel.data.readers.location import Location, read_location
from unlabel.data.readers.meaning import meaning_of
from unlabel.data.readers.rows import decoded_rows
from unlabel.data.readers.shards import Shard, shards_of
from unlabel.data.readers.tables import check_header
from unlabel.data.texts import Names

MOST_GROUP_BYTES = 8_000_000_000
"""Of the images of one row group, unpacked: a group with more is refused."""

_ROWS = 4_096
_IMAGES = 8
"""Rows read at once, of marks and of images: an image may have 256 MB."""


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
        tables = [sheets.Part(shard.path, "", shard.split) for shard in shards]
        return source_of_tables("parquet", where, tables, [where.root or base], wording, options)
    return _source(where, shards, column, options)


def _source(where: Location, shards: Sequence[Shard], column: str, options: ReadOptions) -> Source:
    """The source of images inside the files."""
    tables = [sheets.Part(shard.path, f"{shard.stem}/", shard.split) for shard in shards]
    sheet = sheets.read_sheet(tables, sheets.Images(where.path, str(where.path)), where.names)
    meaning = meaning_of(sheet, options.labels, where.absent, log=options.log)
    annotations = Annotations(meaning.labels, sheet.names, meaning.target, meaning.split, meaning.identity)
    wording = Wording("the files", where.path.name, splits="the files' names or split column")
    wording = replace(wording, remedy="add images, or give a split column")
    annotations.splits(wording)  # refused before the long decoding, not after it
    files = [shard.path for shard in shards]
    rows = RowGroups.of(files, column, sheet.names)
    images = decoded_rows(rows, files, f"parquet/{column}", options)
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
        return image_column(path, file.schema_arrow)


@contextmanager
def parquet_rows(path: Path) -> Iterator[tuple[list[str], Iterator[tuple[int, list[str]]], frozenset[str]]]:
    """The columns of a file besides its images, its rows as texts, and which columns hold names of classes.

    A file of images without a column of names gets one: the number of each row.

    Raises:
        DataError: It is malformed.
    """
    with _opened(path) as file:
        check_header(path, file.schema_arrow.names)
        texts = [field.name for field in file.schema_arrow if str(field.type) in ("string", "large_string")]
    with _opened(path, texts) as file:
        yield table_of(path, file.schema_arrow, lambda columns: file.iter_batches(_ROWS, columns=columns))


@dataclass(frozen=True)
class RowGroups:
    """Images inside parquet files, one behind each row; a row group is read by need, some rows at a time.

    Args:
        shards: The files.
        column: That holds the images.
        names: How messages call each image, (n,).
        group: int32 (n,) number of the row group of each, over all files.
        row: int32 (n,) of each in its group.
        places: int32 (group, 2), the file of each group and its number there.
    """

    shards: Sequence[Path]
    column: str
    names: Names
    group: NDArray[np.int32]
    row: NDArray[np.int32]
    places: NDArray[np.int32]

    @classmethod
    def of(cls, shards: Sequence[Path], column: str, names: Names) -> "RowGroups":
        """All rows of some files.

        Raises:
            DataError: A file is malformed, or a row group has too many bytes.
        """
        places, counts = [], []
        for number, path in enumerate(shards):
            with _opened(path) as file:
                _check_groups(path, file, column)
                groups = range(file.metadata.num_row_groups)
                places += [(number, group) for group in groups]
                counts += [file.metadata.row_group(group).num_rows for group in groups]
        if sum(counts) != len(names):
            raise DataError(f"the files of {shards[0].parent} changed while they were read; run again")
        group = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        row = np.arange(len(names)) - np.repeat(np.cumsum([0, *counts])[:-1], counts)
        of = np.array(places, np.int32).reshape(-1, 2)
        return cls(shards, column, names, group, row.astype(np.int32), of)

    def __len__(self) -> int:
        return len(self.group)

    def take(self, rows: NDArray[np.integer], /) -> "RowGroups":
        """Some of the images."""
        return replace(self, names=self.names[rows], group=self.group[rows], row=self.row[rows])

    def contents(self, rows: Sequence[int], /) -> Iterator[bytes]:
        """The bytes of some images, in the order of the rows; each group is read once."""
        wanted = np.asarray(rows, np.int64)
        if np.all(wanted[1:] > wanted[:-1]):
            yield from self._rising(wanted)
            return
        rising = np.unique(wanted)
        by_row = dict(zip(rising.tolist(), self._rising(rising), strict=True))
        yield from (by_row[row] for row in wanted.tolist())

    def _rising(self, rows: NDArray[np.int64]) -> Iterator[bytes]:
        """The bytes of rows that rise."""
        groups = self.group[rows]
        cuts = np.flatnonzero(np.diff(groups, prepend=-1, append=-1))
        for first, last in pairwise(cuts.tolist()):
            shard, number = self.places[groups[first]].tolist()
            yield from _of_group(self.shards[shard], number, self.column, self.row[rows[first:last]].tolist())

    def name(self, row: int, /) -> str:
        """Its name, which begins with its file's, and the folder."""
        return f"{self.names[row]} in {self.shards[0].parent}"


def _of_group(path: Path, group: int, column: str, rows: Sequence[int]) -> Iterator[bytes]:
    """The images of some rising rows of one row group."""
    with _opened(path) as file:
        waiting, start = iter(rows), 0
        row = next(waiting, None)
        for batch in file.iter_batches(_IMAGES, row_groups=[group], columns=[column]):
            while row is not None and row < start + len(batch):
                yield next(encoded_of(batch.column(0).slice(row - start, 1)))
                row = next(waiting, None)
            start += len(batch)
            if row is None:
                return
        raise DataError(f"{path} has fewer rows than it had; it was changed: run again")


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


def encoded_images(spec: str) -> Iterator[bytes]:
    """The encoded images of a source, in the order of the rows; none where the files hold paths.

    Args:
        spec: What stands after ``parquet:``.

    Raises:
        DataError: A file is malformed.
    """
    files = [shard.path for shard in parquet_shards(read_location("parquet", spec).path)]
    column = _image_column(files[0])
    if column is not None:
        for path in files:
            with _opened(path) as file:
                for batch in file.iter_batches(_IMAGES, columns=[column]):
                    yield from encoded_of(batch.column(0))
