"""Data sets that Hugging Face's `datasets` wrote to a folder, mapped into memory; nothing is downloaded.

::

    datasets:FOLDER    what `save_to_disk` wrote: one data set, or one for each of train, validation and test
    datasets:FOLDER    files that end in .arrow; names like train-00000.arrow tell the split
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError, MissingFiles, OptionError, UnlabelError
from unlabel.core.install import install_command
from unlabel.core.reading import reason
from unlabel.data.dataset import Source
from unlabel.data.options import DEFAULTS, ReadOptions
from unlabel.data.readers.arrow_tables import MOST_ROWS, encoded_of, image_column, table_of
from unlabel.data.readers.assemble import Annotations, Wording, source_of_images
from unlabel.data.readers.index_file import signature
from unlabel.data.readers.location import read_location
from unlabel.data.readers.meaning import SPLITS, meaning_of
from unlabel.data.readers.rows import decoded_rows
from unlabel.data.readers.shards import shards_of
from unlabel.data.readers.sheet import Images, Opened, Part, read_sheet
from unlabel.data.readers.tables import check_header
from unlabel.data.texts import Names

_ROWS = 4_096
_IMAGES = 32
"""Rows read at once, of marks and of images."""

_STATE, _SPLITS = "state.json", "dataset_dict.json"


@dataclass(frozen=True)
class Place:
    """One data set: its folder or its file, how its rows are named, and its split if its name tells one."""

    path: Path
    stem: str
    split: str


@dataclass(frozen=True)
class ArrowRows:
    """Images inside data sets, one behind each row.

    Args:
        places: The data sets.
        column: That holds the images.
        signed: Names the files as they were when they were opened.
        names: How messages call each image, (n,).
        part: int32 (n,) position among the data sets.
        row: int64 (n,) of each in its data set.
    """

    places: Sequence[Place]
    column: str
    signed: str
    names: Names
    part: NDArray[np.int32]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, rows: NDArray[np.integer], /) -> "ArrowRows":
        """Some of the images."""
        return replace(self, names=self.names[rows], part=self.part[rows], row=self.row[rows])

    def contents(self, rows: Sequence[int], /) -> Iterator[bytes]:
        """The bytes of some images, in the order of the rows."""
        for start in range(0, len(rows), _IMAGES):
            some = np.asarray(rows[start : start + _IMAGES], np.int64)
            by_row: dict[int, bytes] = {}
            for part in np.unique(self.part[some]).tolist():
                mine = np.unique(some[self.part[some] == part])
                images = _images(self.places[part].path, self.column, self.signed)
                with _refused(self.places[part].path):
                    values = images[self.row[mine].tolist()].column(0).combine_chunks()
                by_row.update(zip(mine.tolist(), encoded_of(values), strict=True))
            yield from (by_row[row] for row in some.tolist())

    def name(self, row: int, /) -> str:
        """Its name, which begins with its data set's, and the folder."""
        return f"{self.names[row]} in {self.places[0].path.parent}"


def load_datasets(spec: str, options: ReadOptions = DEFAULTS) -> Source:
    """Reads a folder that `datasets` wrote: a column of images, and columns of labels as in parquet files.

    Args:
        spec: The folder, with the options of `Location`.
        options: See `ReadOptions`.

    Raises:
        OptionError: `datasets` is not installed, or no path is named.
        MissingFiles: There is no such folder.
        LabelMismatch: A wanted label is not there.
        DataError: The folder is damaged, an image cannot be read, or a split is too small.
    """
    where = read_location("datasets", spec)
    places = places_of(where.path)
    sets = [_dataset(place.path) for place in places]
    column = image_column(places[0].path, sets[0].features.arrow_schema)
    if column is None:
        raise DataError(
            f"{places[0].path} has no column of images; expected a column image that holds their bytes, as"
            " save_to_disk writes it"
        )
    tables = [
        Part(place.path, f"{place.stem}/" if place.stem else "", place.split, partial(_opened, data))
        for place, data in zip(places, sets, strict=True)
    ]
    sheet = read_sheet(tables, Images(where.path, str(where.path)), where.names)
    meaning = meaning_of(sheet, options.labels, where.absent, log=options.log)
    annotations = Annotations(meaning.labels, sheet.names, meaning.target, meaning.split, meaning.identity)
    wording = Wording(
        "the folder",
        where.path.name,
        splits="the folders' names or split column",
        remedy="add images, or give a split column",
    )
    annotations.splits(wording)  # refused before the long decoding, not after it
    files = sorted({Path(file["filename"]) for data in sets for file in data.cache_files})
    signed = signature(files, f"datasets/{column}")
    counts = [len(data) for data in sets]
    rows = ArrowRows(
        places,
        column,
        signed,
        sheet.names,
        np.repeat(np.arange(len(sets), dtype=np.int32), counts),
        np.concatenate([np.arange(count) for count in counts]),
    )
    return source_of_images(
        where.name("datasets"),
        annotations,
        decoded_rows(rows, files, signed, options),
        wording,
        {"table": {"file": where.path.name, **meaning.facts}},
        skip_bad=options.skip_bad,
        log=options.log,
    )


def places_of(path: Path) -> list[Place]:
    """The data sets that a path names, the splits of a folder by name.

    Raises:
        MissingFiles: There is none.
        DataError: A split has another name than train, validation or test.
    """
    if (path / _STATE).is_file():
        return [Place(path, "", "")]
    if (path / _SPLITS).is_file():
        folders = sorted(file.parent for file in path.glob(f"*/{_STATE}"))
        if odd := [folder.name for folder in folders if folder.name.casefold() not in SPLITS]:
            raise DataError(
                f"{path} has a split {odd[0]!r}; expected train, validation and test: name the one you mean,"
                f" datasets:{path / odd[0]}, or rename them"
            )
        return [Place(folder, folder.name, SPLITS[folder.name.casefold()]) for folder in folders]
    for kind, sign in (("parquet", "*.parquet"), ("webdataset", "*.tar"), ("folder", "*metadata.*")):
        if any(path.glob(sign)) or any(path.glob(f"*/{sign}")):
            raise MissingFiles(
                f"{path} was not written by save_to_disk and has no .arrow file; write {kind}:{path}"
            )
    shards = shards_of(path, ".arrow", "a folder that save_to_disk wrote, or files that end in .arrow")
    return [Place(shard.path, shard.stem, shard.split) for shard in shards]


def _dataset(path: Path) -> Any:
    """A data set, mapped into memory."""
    try:
        import datasets
    except ImportError as error:
        raise OptionError(
            "this source is read by Hugging Face's datasets, which is not installed:"
            f" {install_command('datasets')}"
        ) from error
    with _refused(path):
        opened = datasets.Dataset.load_from_disk if path.is_dir() else datasets.Dataset.from_file
        dataset = opened(str(path))
    if len(dataset) > MOST_ROWS:
        raise DataError(f"{path} has {len(dataset):,} rows; expected at most {MOST_ROWS:,}")
    return dataset


@lru_cache(maxsize=64)
def _images(path: Path, column: str, _signed: str) -> Any:
    """The column of images of a data set as Arrow's tables; opened once in each process."""
    return _dataset(path).select_columns([column]).with_format("arrow")


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Refuses a folder that is damaged."""
    import pyarrow

    try:
        yield
    except UnlabelError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        fault = " ".join(reason(error).split())[:160]
        raise DataError(
            f"{path} is damaged or was not written by datasets: {fault}; write it again"
        ) from error


@contextmanager
def _opened(data: Any, path: Path) -> Iterator[Opened]:
    """A data set as a table."""
    schema = data.features.arrow_schema
    check_header(path, schema.names)

    def batches(columns: list[str]) -> Iterator[Any]:
        if columns:
            yield from data.select_columns(columns).with_format("arrow").iter(_ROWS)
        else:
            for start in range(0, len(data), _ROWS):
                yield range(start, min(start + _ROWS, len(data)))

    with _refused(path):
        header, rows, of_names = table_of(path, schema, batches)
        yield Opened(header, "", rows, of_names)
