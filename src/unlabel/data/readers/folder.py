"""A folder of photos and a table of labels, as people have them.

::

    folder:PATH    images/ and attributes.csv, optionally meta.csv: image_id, then one column a label
                   or metadata.csv or metadata.jsonl, also one in each of train/, validation/ and test/
    table:FILE     any other table beside its photos

What disagrees is refused by name rather than guessed at: a wrong row in the table is a wrong audit.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from unlabel.core.errors import DataError, MissingFiles
from unlabel.core.progress import warn
from unlabel.data.dataset import Source
from unlabel.data.images.photos import decoded
from unlabel.data.options import DEFAULTS, ReadOptions
from unlabel.data.readers.assemble import Annotations, Wording, source_of_images
from unlabel.data.readers.files import find_files, is_there
from unlabel.data.readers.identities import people
from unlabel.data.readers.location import Location, read_location
from unlabel.data.readers.meaning import SPLITS, Meaning, meaning_of
from unlabel.data.readers.meta import Meta, read_meta
from unlabel.data.readers.sheet import Images, Part, Sheet, read_sheet
from unlabel.data.texts import Coded

_TABLE_ENDINGS = (".csv", ".tsv", ".txt", ".jsonl")
TABLE = "attributes.csv"
_METADATA = ("metadata.csv", "metadata.jsonl")


def load_folder(spec: str, options: ReadOptions = DEFAULTS) -> Source:
    """Reads ``images/``, ``attributes.csv`` and an optional ``meta.csv``, or a Hugging Face imagefolder.

    Images are ordered by name, so the order of the rows changes nothing, and neither does the place of the
    folder: equal contents give equal ``facts["digest"]``.

    Args:
        spec: The folder, with the options of `Location`.
        options: See `ReadOptions`.

    Raises:
        OptionError: No folder is named, or an option is wrong.
        MissingFiles: The folder, a table or an image is missing.
        LabelMismatch: A wanted label has no column.
        DataError: A table is malformed, an image cannot be read, or a split is too small.
    """
    where = read_location("folder", spec)
    if parts := _metadata(where.path):
        wording = Wording(f"{where.path.name}/", parts[0].path.name)
        return source_of_tables("folder", where, parts, [where.root or where.path], wording, options)
    _check_layout(where)
    images, table = where.path / "images", where.path / "attributes.csv"
    return source_of_tables(
        "folder",
        where,
        [Part(table)],
        [where.root] if where.root else [images, where.path],
        Wording(),
        options,
    )


def load_table(spec: str, options: ReadOptions = DEFAULTS) -> Source:
    """Reads a table of any name, whose images lie beside it, in ``images/`` beside it, or below ``root=``.

    Args:
        spec: The file, with the options of `Location`.
        options: See `ReadOptions`.

    Raises:
        OptionError: No file is named, or an option is wrong.
        MissingFiles: The file or an image is missing.
        LabelMismatch: A wanted label has no column.
        DataError: The table is malformed, an image cannot be read, or a split is too small.
    """
    where = read_location("table", spec)
    if not where.path.is_file():
        state = "is a folder" if where.path.is_dir() else "does not exist"
        raise MissingFiles(f"{where.path} {state}; expected a table: table:FILE, such as table:labels.csv")
    if where.path.suffix == ".parquet":
        raise DataError(f"{where.path} is a parquet file; write parquet:{where.path}")
    folder = where.path.parent
    roots = [where.root] if where.root else [folder, folder / "images"]
    wording = Wording(
        "the folders of its images", where.path.name, remedy="add images, or give a split column"
    )
    return source_of_tables("table", where, [Part(where.path)], roots, wording, options)


def source_of_tables(
    kind: str,
    where: Location,
    parts: Sequence[Part],
    roots: Sequence[Path],
    wording: Wording,
    options: ReadOptions,
) -> Source:
    """The source of tables, whose images are files below a folder.

    Args:
        kind: The source's name.
        where: What was named.
        parts: Tables with the same columns.
        roots: Folders that the images' names may be relative to; the first that has the first image is.
        wording: How messages call the parts.
        options: See `ReadOptions`.
    """
    sheet, root = _sheet(parts, roots, where.names)
    if kind != "folder" or len(roots) == 1:
        sheet = _placed(sheet)
    if np.any(sheet.split.known()):
        wording = replace(wording, splits="the folders or files named train, val and test")
    format_says = "0" if parts[0].path.name == TABLE else None  # of -1: unknown
    meaning = meaning_of(sheet, options.labels, where.absent, in_doubt=format_says, log=options.log)
    meta = (
        _meta(where, sheet, meaning, roots[0])
        if kind == "folder"
        else Meta(meaning.split, meaning.identity, 0)
    )
    files = find_files(
        root, sheet.names, wording.table, whole=kind == "folder" and len(roots) > 1 and root == roots[0]
    )
    order = files.names.order()
    annotations = Annotations(
        meaning.labels, files.names[order], meaning.target[order], meta.split[order], meta.identity[order]
    )
    annotations.splits(wording)  # refused before the long decoding, not after it
    images = decoded(
        root, annotations.ids, options.frame(), cache=options.cache, workers=options.workers, log=options.log
    )
    if meta.remark:
        warn(options.log, meta.remark)
    facts = {
        "ignored_files": files.ignored,
        "ignored_meta_rows": meta.ignored,
        **({"ignored_meta_columns": list(meta.unread)} if meta.unread else {}),
        "table": {"file": wording.table, **meaning.facts},
    }
    return source_of_images(
        where.name(kind),
        annotations,
        images,
        wording,
        facts,
        folder=root,
        skip_bad=options.skip_bad,
        log=options.log,
    )


def _sheet(parts: Sequence[Part], roots: Sequence[Path], key: str | None) -> tuple[Sheet, Path]:
    """The table, and which of some folders its names are relative to."""
    called = "images/" if roots[0].name == "images" else str(roots[0])
    sheet = read_sheet(parts, Images(roots[0], called), key)
    return sheet, next((root for root in roots if is_there(root, sheet.names[0])), roots[0])


def _placed(sheet: Sheet) -> Sheet:
    """The table, each image in the split that the folder at the beginning of its name tells, if all do."""
    if np.any(sheet.split.known()) or any(name.casefold() == "split" for name in sheet.columns):
        return sheet
    split = Coded.of(
        SPLITS.get(name.partition("/")[0].casefold(), "") if "/" in name else "" for name in sheet.names
    )
    return replace(sheet, split=split) if np.all(split.known()) and len(split.texts) > 1 else sheet


def _meta(where: Location, sheet: Sheet, meaning: Meaning, root: Path) -> Meta:
    """What ``meta.csv`` says of the images; refused where the table of labels says it too."""
    file = where.path / "meta.csv"
    meta = read_meta(file, sheet.names, Images(root, "images/"))
    mine, theirs = people(meaning.identity), people(meta.identity)
    for kind, here, there in (("split", meaning.split, meta.split), ("identity", mine, theirs)):
        if np.any(here.known()) and np.any(there.known()):
            raise DataError(f"{file} and {sheet.path} both have a column {kind!r}; keep one of them")
    return replace(
        meta,
        split=meta.split if np.any(meta.split.known()) else meaning.split,
        identity=theirs if np.any(theirs.known()) else mine,
    )


def _metadata(root: Path) -> list[Part]:
    """The tables of a Hugging Face imagefolder: one at its root, or one in the folder of each split."""
    if not root.is_dir() or (root / "attributes.csv").is_file():
        return []
    for name in _METADATA:
        if (root / name).is_file():
            return [Part(root / name)]
    tables = []
    for folder in sorted(root.iterdir()):
        if folder.name.casefold() in SPLITS and folder.is_dir():
            tables += [
                Part(folder / name, f"{folder.name}/", SPLITS[folder.name.casefold()])
                for name in _METADATA
                if (folder / name).is_file()
            ]
    return tables


def _check_layout(where: Location) -> None:
    root = where.path
    expected = "expected a folder with images/ and attributes.csv"
    if not root.is_dir():
        state = "is not a folder; unpack it first" if root.exists() else "does not exist"
        if root.is_file() and root.suffix in _TABLE_ENDINGS:
            state = f"is a table; write table:{root}"
        raise MissingFiles(f"{root} {state}; {expected}")
    needed = (("attributes.csv", Path.is_file), ("images", Path.is_dir))
    for name, there in needed[: 1 if where.root else 2]:
        if not there(root / name):
            inside = sorted(table.parent.name for table in root.glob("*/attributes.csv"))
            tables = [
                file for file in sorted(root.iterdir()) if file.suffix in _TABLE_ENDINGS and file.is_file()
            ]
            nearby = f". It is one level down: folder:{root / inside[0]}" if inside else ""
            if name == "attributes.csv" and tables and not inside:
                nearby = f". If the labels are in {tables[0].name}, write table:{tables[0]}"
            raise MissingFiles(f"no {name} in {root}; {expected}{nearby}")
