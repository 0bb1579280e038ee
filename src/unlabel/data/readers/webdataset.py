"""Tar shards as WebDataset writes them, with labels beside each image or in one table.

::

    webdataset:FOLDER                 its shards, also one level down; names like train-000.tar tell the split
    webdataset:FOLDER/train-*.tar     or a range: train-{000..099}.tar
    FOLDER/attributes.csv             optional: labels by key, instead of those in the shards
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError, MissingFiles
from unlabel.core.wording import listing
from unlabel.data.dataset import Source
from unlabel.data.options import DEFAULTS, ReadOptions
from unlabel.data.readers.assemble import Annotations, Wording, source_of_images
from unlabel.data.readers.index_file import read_index, settled, signature, write_index
from unlabel.data.readers.location import read_location
from unlabel.data.readers.meaning import Meaning, meaning_of
from unlabel.data.readers.rows import decoded_rows
from unlabel.data.readers.shards import Shard, shards_of
from unlabel.data.readers.sheet import Images, Part, Sheet, read_sheet
from unlabel.data.readers.tar_shards import Index, Members
from unlabel.data.texts import Names

TABLE = "attributes.csv"
_EXPECTED = "a folder of shards such as train-000.tar, one shard, or train-{000..099}.tar"


def load_webdataset(spec: str, options: ReadOptions = DEFAULTS) -> Source:
    """Reads tar shards whose members of one key are one image with its labels.

    Images are in the order of the shards' names, and within a shard as they lie. Each is called by its shard
    and its name there.

    Args:
        spec: A folder, a file or a pattern, with the options of `Location`.
        options: See `ReadOptions`.

    Raises:
        OptionError: No path is named, or an option is wrong.
        MissingFiles: There is no shard, or a row of the table has no image.
        LabelMismatch: A wanted label is not there.
        DataError: A shard is damaged, an image cannot be read, or a split is too small.
    """
    where = read_location("webdataset", spec)
    shards = shards_of(where.path, ".tar", _EXPECTED)
    base = where.path if where.path.is_dir() else where.path.parent
    table = base / TABLE
    sheet, members, ignored = indexed(shards, options, labelled=not table.is_file())
    rows = np.arange(len(members))
    if table.is_file():
        listed = read_sheet([Part(table)], Images(base, "the shards"), where.names)
        meaning = meaning_of(listed, options.labels, where.absent, in_doubt="0", log=options.log)
        rows, at = _matched(listed, members, shards)
        meaning, ignored = _taken(meaning, at, sheet, rows, table), ignored + len(members) - len(rows)
    else:
        if not sheet.columns:
            raise DataError(
                f"{sheet.path} holds images without labels; expected a .json or a .cls beside each, or"
                f" {table} with a column image_id of keys"
            )
        meaning = meaning_of(sheet, options.labels, where.absent, log=options.log)
    wording = Wording(
        "the shards",
        TABLE if table.is_file() else "their labels",
        splits="the shards' names or split column",
        remedy="add images, or give a split column",
    )
    annotations = Annotations(
        meaning.labels, members.names[rows], meaning.target, meaning.split, meaning.identity
    )
    annotations.splits(wording)  # refused before the long decoding, not after it
    chosen = f"webdataset/{sha256(rows.tobytes()).hexdigest()}"
    images = decoded_rows(members.take(rows), members.shards, chosen, options)
    facts = {"ignored_files": ignored, "table": {"file": wording.table, **meaning.facts}}
    return source_of_images(
        where.name("webdataset"),
        annotations,
        images,
        wording,
        facts,
        skip_bad=options.skip_bad,
        log=options.log,
    )


def indexed(shards: Sequence[Shard], options: ReadOptions, *, labelled: bool) -> tuple[Sheet, Members, int]:
    """What the shards hold: from the cache, or read through once.

    Args:
        shards: The files.
        options: See `ReadOptions`.
        labelled: Whether labels lie beside the images.

    Returns:
        A row for each image; where each lies; and how many samples have no image.
    """
    files = [shard.path for shard in shards]
    signed = signature(files, f"webdataset/{labelled}/{[shard.split for shard in shards]}")
    if (cached := read_index(signed)) is not None:
        sheet, arrays = cached
        members = Members(files, sheet.names, arrays["shard"], arrays["start"], arrays["size"])
        return sheet, members, int(arrays["ignored"])
    index = Index(files, labelled)
    with options.log.track("index", len(shards), "shards") as advance:
        tables = (
            Part(shard.path, f"{shard.stem}/", shard.split, index.opened, lambda: advance(1))
            for shard in shards
        )
        sheet = read_sheet(list(tables), Images(files[0].parent, "the shards"))
    members = index.members(sheet.names)
    where = {"shard": members.shard, "start": members.start, "size": members.size}
    if settled(files):
        write_index(signed, sheet, {**where, "ignored": np.array(index.ignored)})
    return sheet, members, index.ignored


def _matched(
    table: Sheet, members: Members, shards: Sequence[Shard]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The images that a table names by key or by file name, and the row of each.

    Raises:
        MissingFiles: A row has no image.
        DataError: A row names two images.
    """
    cuts = [len(shard.stem) + 1 for shard in shards]
    files = Names.of(name[cuts[at] :] for name, at in zip(members.names, members.shard.tolist(), strict=True))
    at = table.names.rows_of(files)
    if np.all(at < 0):
        at = table.names.rows_of(Names.of(os.path.splitext(name)[0] for name in files))
    rows = np.flatnonzero(at >= 0)
    counts = np.bincount(at[rows], minlength=len(table.names))
    if (missing := np.flatnonzero(counts == 0)).size:
        raise MissingFiles(
            f"{len(missing):,} of {len(table.names):,} rows of {table.path} have no image in the shards:"
            f" {listing([repr(name) for name in table.names[missing]], 3)}; name images by their keys"
        )
    if (several := np.flatnonzero(counts > 1)).size:
        raise DataError(
            f"{table.path}: {table.names[int(several[0])]!r} is the key of {counts[several[0]]} images, in"
            " several shards; give each image a key of its own"
        )
    return rows, at[rows]


def _taken(
    meaning: Meaning, at: NDArray[np.int64], sheet: Sheet, rows: NDArray[np.int64], table: Path
) -> Meaning:
    """What a table says, in the order of the images; the split as the shards' names tell it, if they do."""
    split, told = meaning.split[at], sheet.split[rows]
    if np.any(told.known()):
        if np.any(split.known()):
            raise DataError(
                f"{table} has a split column, but the shards' names tell a split too; remove the column"
            )
        split = told
    return replace(meaning, target=meaning.target[at], split=split, identity=meaning.identity[at])
