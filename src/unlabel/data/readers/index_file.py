"""What was read of a data set of many rows, kept in the cache: a later run need not read it again.

::

    index-SIGNATURE.npz    columns as numbers, names as bytes, and the rest as JSON

The signature covers names, sizes and times of the files that were read; a changed file finds no index.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import ReadError
from unlabel.data.images.cache_folder import cache_folder, unusable
from unlabel.data.readers.sheet import Column, Lists, Sheet
from unlabel.data.texts import Coded, Names

Arrays = dict[str, NDArray[Any]]

SETTLED_SECONDS = 2.0
"""A file changed this recently may change again within the file system's clock tick: no index is kept."""

_LAYOUT = "1"
"""Change it with what is kept or how it is read: an older index is then not found."""


def signature(files: Sequence[Path], what: str) -> str:
    """Names what is read of some files as they are now.

    Raises:
        ReadError: One is not there.
    """
    digest = sha256(f"{_LAYOUT}/{what}".encode())
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise ReadError.at(file, error.strerror or str(error)) from error
        line = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        digest.update(b"\0" + os.fsencode(file) + repr(line).encode())
    return digest.hexdigest()[:32]


def settled(files: Sequence[Path]) -> bool:
    """Whether files lie long enough for their times to tell of a later change."""
    latest = max((file.stat().st_ctime for file in files), default=0.0)
    return time.time() - latest > SETTLED_SECONDS


def read_index(signed: str) -> tuple[Sheet, Arrays] | None:
    """The sheet and other arrays of an index; None where there is none, or it is damaged."""
    try:
        with np.load(cache_folder() / f"index-{signed}.npz", allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return _sheet(json.loads(arrays.pop("told").tobytes()), arrays), arrays
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, BadZipFile):
        return None


def write_index(signed: str, sheet: Sheet, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Keeps a sheet and other arrays; it appears whole or not at all.

    Raises:
        DataError: The cache cannot be written.
    """
    folder = cache_folder()
    told, columns = _kept(sheet)
    try:
        with NamedTemporaryFile(dir=folder, prefix=".new-", delete=False) as file:
            try:
                text = np.frombuffer(json.dumps(told).encode(), np.uint8)
                everything: dict[str, Any] = {"told": text, **columns, **arrays}
                np.savez(file, **everything)
                file.close()
                os.replace(file.name, folder / f"index-{signed}.npz")
            finally:
                with suppress(OSError):  # on a full disk, of what is still to be written
                    file.close()
                Path(file.name).unlink(missing_ok=True)
    except OSError as error:
        raise unusable(folder, error, "an index of images") from error


def _kept(sheet: Sheet) -> tuple[dict[str, Any], Arrays]:
    """A sheet as JSON and arrays."""
    names = Names.joined([sheet.names])
    arrays: Arrays = {
        "names": names.text,
        "stop": names.stop,
        "lines": sheet.lines,
        "split": sheet.split.codes,
    }
    columns = []
    for at, (name, column) in enumerate(sheet.columns.items()):
        arrays |= {f"codes{at}": column.codes, f"first{at}": column.first}
        if isinstance(column, Lists):
            arrays[f"counts{at}"] = column.counts
        of_names = isinstance(column, Column) and column.of_names
        columns.append({"name": name, "texts": list(column.texts), "of_names": of_names})
    told = {
        "path": str(sheet.path),
        "separator": sheet.separator,
        "key": sheet.key,
        "split": list(sheet.split.texts),
        "parts": [[str(path), first] for path, first in sheet.parts],
        "columns": columns,
    }
    return told, arrays


def _sheet(told: Mapping[str, Any], arrays: Arrays) -> Sheet:
    """The sheet that JSON and arrays make, which are taken away."""
    stop = arrays.pop("stop")
    start = np.concatenate([np.zeros(1, np.int64), stop[:-1]])[: len(stop)]
    names = Names(arrays.pop("names"), start, stop)
    columns: dict[str, Column | Lists] = {}
    for at, column in enumerate(told["columns"]):
        texts = tuple(column["texts"])
        first, codes, counts = (
            arrays.pop(f"first{at}"),
            arrays.pop(f"codes{at}"),
            arrays.pop(f"counts{at}", None),
        )
        columns[column["name"]] = (
            Column(texts, first, codes, column["of_names"])
            if counts is None
            else Lists(texts, first, codes, counts)
        )
    return Sheet(
        Path(told["path"]),
        told["separator"],
        told["key"],
        names,
        columns,
        Coded(told["split"], arrays.pop("split")),
        [(Path(path), first) for path, first in told["parts"]],
        arrays.pop("lines"),
    )
