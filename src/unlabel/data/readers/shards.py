"""Files that hold a part of a data set each, and what their names tell of the splits."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unlabel.core.errors import DataError, MissingFiles
from unlabel.core.wording import listing
from unlabel.data.readers.meaning import SPLITS

_OF_SPLIT = re.compile(rf"({'|'.join(sorted(SPLITS, key=len, reverse=True))})(?=[-_.]|$)", re.IGNORECASE)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 100_000


@dataclass(frozen=True)
class Shard:
    """One file: where it is, how its rows are named, and its split if its name tells one."""

    path: Path
    stem: str
    split: str


def shards_of(path: Path, ending: str, expected: str) -> list[Shard]:
    """The files that a path names, ordered by name.

    Args:
        path: A file; a folder, whose files and whose folders' files are meant; or a pattern of files, such
            as ``train-*.tar`` or ``train-{000..099}.tar``.
        ending: Of the files in a folder, with its dot.
        expected: What was expected, for the message.

    Raises:
        MissingFiles: There is none, or one of a range is missing.
        DataError: The names of some tell a split, and those of others do not.
    """
    base = path if path.is_dir() else path.parent
    files = sorted(_files(path, ending))
    if not files:
        raise MissingFiles(f"found no {ending[1:]} file at {path}; expected {expected}")
    shards = []
    for file in files:
        inside = file.relative_to(base)
        told = _OF_SPLIT.match(inside.name) or _OF_SPLIT.fullmatch(inside.parts[0])
        split = SPLITS[told[1].casefold()] if told and path != file else ""
        shards.append(Shard(file, inside.with_suffix("").as_posix(), split))
    without = [shard.path.name for shard in shards if not shard.split]
    if without and len(without) < len(shards):
        raise DataError(
            f"{len(without)} of {len(shards)} files in {path} have no split in their names"
            f" ({listing(without, 3)}), although others do; begin each name with train-, validation- or test-"
        )
    return shards


def _files(path: Path, ending: str) -> Sequence[Path]:
    if path.is_dir():
        return [*path.glob(f"*{ending}"), *path.glob(f"*/*{ending}")]
    if path.is_file():
        return [path]
    if span := _RANGE.search(path.name):
        first, last = int(span[1]), int(span[2])
        numbers = range(first, min(last, first + _MOST_SHARDS) + 1)
        names = [
            path.name[: span.start()] + f"{at:0{len(span[1])}d}" + path.name[span.end() :] for at in numbers
        ]
        missing = [name for name in names if not (path.parent / name).is_file()]
        if missing:
            raise MissingFiles(
                f"{len(missing):,} of the {len(names):,} files {path.name} are not in {path.parent}:"
                f" {listing(missing, 3)}; add them, or name another range"
            )
        return [path.parent / name for name in names]
    return list(path.parent.glob(path.name)) if "*" in path.name and path.parent.is_dir() else []
