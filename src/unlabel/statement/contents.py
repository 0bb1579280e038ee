"""What lies in a run's folder, file by file: every one of them is hashed, and nothing is left out unseen.

Names come from the folder and never from a statement, so a statement cannot lead out of it.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path

from unlabel.core.errors import ModelError
from unlabel.core.files import STATEMENT
from unlabel.core.leftovers import is_leftover
from unlabel.core.progress import SILENT, Advance, Log
from unlabel.core.reading import open_plain, reason

MOST_FILES = 10_000
MOST_FOLDERS = 32  # one inside the other
_CHUNK = 2**20


@dataclass(frozen=True)
class Contents:
    """A folder's files.

    Args:
        files: Path below the folder, with ``/`` between its parts -> hex sha256; sorted by path.
        refused: Path -> why that entry cannot be covered: a link, no plain file, unreadable.
        leftovers: Names of files that a killed command was writing in it; they are no part of the run.
    """

    files: dict[str, str]
    refused: dict[str, str]
    leftovers: tuple[str, ...] = ()


def contents(folder: Path, log: Log = SILENT) -> Contents:
    """Hashes every file below a folder except its statement and leftovers; follows no link.

    Args:
        folder: A run's folder.
        log: Receives progress, in MiB.

    Raises:
        ModelError: More than 10,000 files, or folders nested more than 32 deep.
    """
    entries = [found for found in islice(_below(folder, "", 0), MOST_FILES + 1) if found[0] != STATEMENT]
    if len(entries) > MOST_FILES:
        raise ModelError(f"{folder} holds more than {MOST_FILES:,} files; expected a run's folder")
    size = sum(ceil(entry.stat(follow_symlinks=False).st_size / _CHUNK) for _, entry in entries)
    files, refused, leftovers = {}, {}, []
    with log.track("hash", size, "MiB") as advance:
        for name, entry in entries:
            try:
                name.encode("utf-8")
                if entry.is_symlink():
                    refused[name] = "is a link; expected a file"
                elif is_leftover(name) and entry.is_file(follow_symlinks=False):
                    leftovers.append(name)
                else:
                    files[name] = _sha256(Path(entry.path), advance)
            except UnicodeEncodeError:
                refused[name.encode("utf-8", "backslashreplace").decode()] = "has a name that is not UTF-8"
            except OSError as error:
                refused[name] = f"cannot be read ({reason(error)})"
    return Contents(dict(sorted(files.items())), dict(sorted(refused.items())), tuple(sorted(leftovers)))


def _below(folder: Path, inside: str, depth: int) -> Iterator[tuple[str, os.DirEntry[str]]]:
    if depth > MOST_FOLDERS:
        raise ModelError(f"{folder} is nested more than {MOST_FOLDERS} deep; expected a run's folder")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _below(Path(entry.path), f"{inside}{entry.name}/", depth + 1)
            else:
                yield f"{inside}{entry.name}", entry


def _sha256(file: Path, advance: Advance) -> str:
    digest = hashlib.sha256()
    with open_plain(file, follow=False) as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
            advance(1)
    return digest.hexdigest()
