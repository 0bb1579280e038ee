"""Opening a data set of millions of rows: labels, identities, splits and names, without any image.

Each opening runs in a process of its own, whose largest memory is told beside the time.
"""

import csv
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.bench.pairs import Line, against, seconds
from unlabel.core.framing import CENTRE, Frame
from unlabel.core.progress import SILENT
from unlabel.data.dataset import Source
from unlabel.data.images.cache import Decoded
from unlabel.data.images.on_access import Decoding
from unlabel.data.options import ReadOptions
from unlabel.data.readers.assemble import Annotations, Wording, source_of_images
from unlabel.data.readers.index_file import read_index, signature, write_index
from unlabel.data.readers.meaning import meaning_of
from unlabel.data.readers.shards import Shard
from unlabel.data.readers.sheet import Images, Part, Sheet, read_sheet
from unlabel.data.readers.tar_shards import Members
from unlabel.data.readers.webdataset import indexed
from unlabel.data.texts import Names

LABELS = 47
"""As many as MAAD-Face has, whose 3.3 million photos show 9,131 people."""

_PEOPLE = 9_131
_AT_ONCE = 100_000
_OF_SHARDS = 10
"""Tar shards are made of a tenth of the rows: of all they would take 8 GB."""


def index_lines(rows: int, folder: Path) -> Iterator[Line]:
    """A table, its index in the cache, and tar shards.

    Args:
        rows: Of the table.
        folder: Empty, for the files.
    """
    table = folder / "attributes.csv"
    write_table(table, rows)
    plain, _ = seconds(lambda: _read_plainly(table))
    first = _apart("table", table)
    what = f"opening {rows:,} rows of {LABELS} labels"
    yield against(f"{what}: attributes.csv, against Python's csv alone", first.pop("seconds"), plain, **first)
    _apart("keep", table)
    again = _apart("kept", table)
    ours = again.pop("seconds")
    yield against(f"{what}: from the cache, against Python's csv alone", ours, plain, **again)
    shards, few = folder / "shards", max(20, rows // _OF_SHARDS)
    write_shards(shards, few)
    first, again = _apart("shards", shards), _apart("shards", shards)
    what = f"opening {few:,} images in tar shards: from the cache, against the first reading"
    yield against(what, again.pop("seconds"), first.pop("seconds"), **again)


def write_table(path: Path, rows: int) -> None:
    """``attributes.csv`` with names, identities and marks, of rows of equal length."""
    draw = np.random.default_rng(0)
    header = ",".join(["image_id", "identity", *(f"label_{number}" for number in range(LABELS))])
    with path.open("wb") as file:
        file.write(header.encode() + b"\n")
        for start in range(0, rows, _AT_ONCE):
            number = np.arange(start, min(start + _AT_ONCE, rows))
            person = _digits(number * _PEOPLE // rows, 6)
            marks = np.full((len(number), 2 * LABELS), ord(","), np.uint8)
            marks[:, 1::2] = ord("0") + draw.integers(0, 2, (len(number), LABELS))
            columns = (b"n", person, b"/", _digits(number, 7), b".jpg,n", person, marks, b"\n")
            file.write(np.concatenate([_column(part, len(number)) for part in columns], axis=1).tobytes())


def _column(part: bytes | NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    return np.tile(np.frombuffer(part, np.uint8), (rows, 1)) if isinstance(part, bytes) else part


def _digits(number: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    powers = 10 ** np.arange(width - 1, -1, -1)
    return (ord("0") + number[:, None] // powers % 10).astype(np.uint8)


def write_shards(folder: Path, images: int) -> None:
    """Ten shards whose images are one byte each, with a JSON object of labels beside each."""
    folder.mkdir()
    marks = np.random.default_rng(0).integers(0, 2, (64, LABELS)).tolist()
    told = [json.dumps({f"label_{k}": mark for k, mark in enumerate(row)}).encode() for row in marks]
    for number, part in enumerate(np.array_split(np.arange(images), 10)):
        with tarfile.open(folder / f"s-{number:03}.tar", "w") as tar:
            for key in part.tolist():
                for name, data in ((f"{key:07}.jpg", b"0"), (f"{key:07}.json", told[key % 64])):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def _read_plainly(path: Path) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        for _ in csv.reader(file):
            pass


def _apart(job: str, path: Path) -> dict[str, Any]:
    """What a process of its own measures; see `main`."""
    words = [sys.executable, "-m", "unlabel.bench.index", job, str(path)]
    cache = path.parent / "cache"
    cache.mkdir(mode=0o700, exist_ok=True)
    environment = {**os.environ, "UNLABEL_CACHE": str(cache)}
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)  # noqa: S603 - our words
    return json.loads(done.stdout)


def main(job: str, path: Path) -> dict[str, Any]:
    """Opens one thing: seconds, the largest memory of this process, and that of the index."""
    started, worked = perf_counter(), process_time()
    if job == "shards":
        shards = [Shard(file, file.stem, "") for file in sorted(path.iterdir())]
        sheet = indexed(shards, ReadOptions(), labelled=True)[0]
    elif job == "kept":
        index = read_index(signature([path], "bench"))
        assert index is not None
        sheet = index[0]
    else:
        sheet = read_sheet([Part(path)], Images(path.parent, "images/"))
    if job == "keep":
        where = np.arange(len(sheet.names))
        write_index(signature([path], "bench"), sheet, {"start": where, "size": where})
    source = source_of(sheet)
    took = perf_counter() - started
    return {
        "seconds": took,
        "rows": len(sheet.names),
        "cpu_s": round(process_time() - worked, 2),
        "peak_mb": round(peak_bytes() / 1e6),
        "index_mb": round(index_bytes(source) / 1e6, 1),
    }


def peak_bytes() -> int:
    """The largest resident memory that this process had, in bytes."""
    try:  # what getrusage tells of Linux includes the process that started this one
        status = Path("/proc/self/status").read_text()
        return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most


def source_of(sheet: Sheet) -> Source:
    """A source whose images are never read."""
    meaning = meaning_of(sheet, in_doubt="0")
    order = sheet.names.order()
    names = sheet.names[order]
    annotations = Annotations(
        meaning.labels, names, meaning.target[order], meaning.split[order], meaning.identity[order]
    )
    nowhere = np.zeros(len(names), np.int64)
    members = Members([], names, nowhere.astype(np.int32), nowhere, nowhere)
    pixels = Decoded(Decoding(members, Frame(64, 64, CENTRE)), {}, "")
    return source_of_images("table:bench", annotations, pixels, Wording(), {}, log=SILENT)


def index_bytes(source: Source) -> int:
    """What the labels and the index of all images hold in memory."""
    total = 0
    for number, part in enumerate((source.train, source.probe, source.test)):
        arrays = [part.rows, part.target, part.cluster]
        if isinstance(part.ids, Names):
            arrays += [part.ids.start, part.ids.stop, *([] if number else [part.ids.text])]
        total += sum(array.nbytes for array in arrays)
    return total


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
