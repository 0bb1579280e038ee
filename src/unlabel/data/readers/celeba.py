"""CelebA as its authors, torchvision and Kaggle lay it out.

::

    PATH/img_align_celeba/000001.jpg ...     the aligned photos
    PATH/list_attr_celeba.txt or .csv        40 labels of each: 1 present, -1 absent
    PATH/list_eval_partition.txt or .csv     0 train, 1 val (becomes P), 2 test (becomes E)
    PATH/identity_CelebA.txt                 whose photo it is; Kaggle has none

The files may also lie in ``celeba/`` below PATH, or in the authors' ``Anno/``, ``Eval/`` and ``Img/``.
"""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError, ReadError
from unlabel.core.reading import reason
from unlabel.core.wording import listing
from unlabel.data.dataset import Source
from unlabel.data.images.photos import decoded
from unlabel.data.options import DEFAULTS, ReadOptions
from unlabel.data.readers.assemble import Annotations, Wording, match_files, named_folder, source_of_images
from unlabel.data.readers.origins import CELEBA
from unlabel.data.readers.tables import check_id, chosen_labels, lines_of, open_text, table_rows

_INSIDE = tuple(base + part for base in ("", "celeba/", "CelebA/") for part in ("", "Anno/", "Eval/", "Img/"))
_PHOTOS, _IDENTITY = "img_align_celeba", "identity_CelebA.txt"
_VALUES = {"1": 1, "-1": 0}
_PARTS = {"0": "train", "1": "val", "2": "test"}

Rows = Iterator[tuple[int, list[str]]]


def load_celeba(path: str, options: ReadOptions = DEFAULTS) -> Source:
    """Reads CelebA with its own partition, and with its identities as clusters where they are there.

    Args:
        path: The folder of its files, or the one above.
        options: See `ReadOptions`.

    Raises:
        OptionError: No folder is named.
        MissingFiles: The folder, a list or a photo is missing.
        LabelMismatch: A wanted label is not in the list.
        DataError: A list is malformed, a photo cannot be read, or a split is too small.
    """
    root = named_folder("celeba", path)
    CELEBA.check_folder(root)
    table = CELEBA.find(root, _INSIDE, ("list_attr_celeba.txt", "list_attr_celeba.csv"))
    partition = CELEBA.find(root, _INSIDE, ("list_eval_partition.txt", "list_eval_partition.csv"))
    photos = _photos(root)
    names, ids, target = _read_attributes(table, options.labels)
    order = np.argsort(ids, kind="stable")
    ids, target = [ids[at] for at in order], target[order]

    split_codes = _read_pairs(partition, "partition")
    split = _splits(partition, split_codes, ids)
    persons = next((root / at / _IDENTITY for at in _INSIDE if (root / at / _IDENTITY).is_file()), None)
    who = _read_pairs(persons, "identity") if persons else {}
    ignored = match_files(photos, ids, table.name)
    annotations = Annotations(names, ids, target, split, [who.get(name, "") for name in ids], exclusive=False)
    meta = partition.name if persons is None else f"{partition.name} and {persons.name}"
    wording = Wording(f"{_PHOTOS}/", table.name, meta, "its own partition", "use the whole data set")
    annotations.splits(wording)  # refused before the long decoding, not after it
    frame = options.frame()
    images = decoded(photos, ids, frame, cache=options.cache, workers=options.workers, log=options.log)
    facts = {
        "ignored_files": ignored,
        "ignored_meta_rows": len((split_codes.keys() | who.keys()) - set(ids)),
        **CELEBA.facts,
    }
    return source_of_images(
        f"celeba:{root}",
        annotations,
        images,
        wording,
        facts,
        folder=photos,
        skip_bad=options.skip_bad,
        log=options.log,
    )


def _photos(root: Path) -> Path:
    """The folder of the photos; Kaggle's archive has it inside another of the same name."""
    for inside in _INSIDE:
        for folder in (root / inside / _PHOTOS / _PHOTOS, root / inside / _PHOTOS):
            if folder.is_dir():
                return folder
    packed = any((root / inside / f"{_PHOTOS}.zip").is_file() for inside in _INSIDE)
    hint = f" (there is {_PHOTOS}.zip: unpack it)" if packed else ""
    raise CELEBA.missing(f"no folder {_PHOTOS} in {root}{hint}")


def _read_attributes(
    path: Path, labels: Sequence[str] | None
) -> tuple[tuple[str, ...], list[str], NDArray[np.int8]]:
    """Labels, names and targets int8 (image, label) of the list, -1 turned into 0."""
    with _list_rows(path, heading=True) as (told, header, rows):
        names = chosen_labels(header, labels, str(path))
        columns = [header.index(name) + 1 for name in names]
        line_of: dict[str, int] = {}
        targets = array("b")
        for line, row in rows:
            check_id(path, line, row[0], line_of, f"{_PHOTOS}/")
            try:
                targets.extend([_VALUES[row[column]] for column in columns])
            except KeyError:
                column = next(column for column in columns if row[column] not in _VALUES)
                raise DataError(
                    f"{path}, line {line}, label {header[column - 1]!r}: found {row[column]!r};"
                    " expected 1 (present) or -1 (absent)"
                ) from None
    if not line_of or told not in (None, len(line_of)):
        expected = "at least one" if told is None else f"{told:,}, as its first line says"
        raise DataError(f"{path} has {len(line_of):,} rows; expected {expected}: copy the whole file again")
    return names, list(line_of), np.frombuffer(targets, np.int8).reshape(len(line_of), len(names))


def _read_pairs(path: Path, what: str) -> dict[str, str]:
    """What a list of two columns says of each image."""
    values: dict[str, str] = {}
    line_of: dict[str, int] = {}
    with _list_rows(path, heading=False) as (_, header, rows):
        if len(header) != 1:
            raise DataError(f"{path} has {len(header) + 1} columns; expected a file name and its {what}")
        for line, (name, value) in rows:
            check_id(path, line, name, line_of, f"{_PHOTOS}/")
            values[name] = value
    return values


def _splits(path: Path, split_codes: dict[str, str], ids: Sequence[str]) -> list[str]:
    """The split of each image; refused where the partition is silent or says something unknown."""
    without = [name for name in ids if name not in split_codes]
    if without:
        raise DataError(
            f"{len(without):,} of {len(ids):,} images are not in {path}"
            f" ({listing([repr(name) for name in without], 3)}); use both lists of one copy"
        )
    unknown = [name for name in ids if split_codes[name] not in _PARTS]
    if unknown:
        raise DataError(
            f"{path}: found partition {split_codes[unknown[0]]!r} of {unknown[0]!r};"
            " expected 0 (train), 1 (val) or 2 (test)"
        )
    return [_PARTS[split_codes[name]] for name in ids]


@contextmanager
def _list_rows(path: Path, *, heading: bool) -> Iterator[tuple[int | None, list[str], Rows]]:
    """The count that a list tells, its columns after the file name, and its rows with their line numbers.

    Args:
        path: A list separated by spaces, or Kaggle's CSV of it.
        heading: Whether a list separated by spaces begins with a count and a line of column names.
    """
    if path.suffix == ".csv":
        with table_rows(path) as (header, rows):
            if header[0] != "image_id":
                raise DataError(f"{path}: its first column is {header[0]!r}; expected image_id")
            yield None, header[1:], ((line, [value.strip() for value in row]) for line, row in rows)
        return
    try:
        with open_text(path) as file:
            lines = ((number, line.split()) for number, line in enumerate(lines_of(path, file), 1))
            if not heading:
                yield None, ["value"], _even(path, lines, 2)
                return
            (_, count), (_, header) = next(lines, (1, [])), next(lines, (2, []))
            if len(count) != 1 or not count[0].isdecimal() or not header or len(set(header)) < len(header):
                raise DataError(
                    f"{path} does not begin as CelebA's list; expected a line with the number of images,"
                    " then a line of label names, each once"
                )
            yield int(count[0]), header, _even(path, lines, len(header) + 1)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; copy the file again") from error
    except OSError as error:
        raise ReadError.at(path, reason(error)) from error


def _even(path: Path, lines: Rows, values: int) -> Rows:
    for number, row in lines:
        if row and len(row) != values:
            raise DataError(f"{path}, line {number}: found {len(row)} values, expected {values}")
        if row:
            yield number, row
