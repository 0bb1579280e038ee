"""What lies in a run's folder, file by file: every one of them is hashed, and nothing is left out unseen.

Names come from the folder and never from a statement, so a statement cannot lead out of it.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unlabel.core.errors import ModelError

STATEMENT = "statement.dsse.json"
"""The one file that a statement cannot list: itself."""

MOST_FILES = 10_000
MOST_FOLDERS = 32  # one inside the other
_CHUNK = 2**20
_PLAIN = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)


@dataclass(frozen=True)
class Contents:
    """A folder's files.

    Args:
        files: Path below the folder, with ``/`` between its parts -> hex sha256; sorted by path.
        refused: Path -> why that entry cannot be covered: a link, no plain file, unreadable.
    """

    files: dict[str, str]
    refused: dict[str, str]


def contents(folder: Path) -> Contents:
    """Hashes every file below a folder except its statement; follows no link.

    Args:
        folder: A run's folder.

    Raises:
        ModelError: More than 10,000 files, or folders nested more than 32 deep.
    """
    files, refused = {}, {}
    for count, (name, entry) in enumerate(_below(folder, "", 0)):
        if count >= MOST_FILES:
            raise ModelError(f"{folder} holds more than {MOST_FILES:,} files; expected a run's folder")
        if name == STATEMENT:
            continue
        try:
            name.encode("utf-8")
            if entry.is_symlink():
                refused[name] = "is a link; expected a file"
            else:
                files[name] = plain_sha256(Path(entry.path))
        except UnicodeEncodeError:
            refused[name.encode("utf-8", "backslashreplace").decode()] = "has a name that is not UTF-8"
        except OSError as error:
            refused[name] = f"cannot be read ({error.strerror or error})"
    return Contents(dict(sorted(files.items())), dict(sorted(refused.items())))


def _below(folder: Path, inside: str, depth: int) -> Iterator[tuple[str, os.DirEntry[str]]]:
    if depth > MOST_FOLDERS:
        raise ModelError(f"{folder} is nested more than {MOST_FOLDERS} deep; expected a run's folder")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _below(Path(entry.path), f"{inside}{entry.name}/", depth + 1)
            else:
                yield f"{inside}{entry.name}", entry


def plain_sha256(file: Path) -> str:
    """Hex digest of a file's bytes; a link or a device is not opened as one.

    Raises:
        OSError: It is no plain file, or cannot be read.
    """
    digest = hashlib.sha256()
    with os.fdopen(_open(file), "rb", buffering=0) as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def read_plain(file: Path, most: int) -> bytes:
    """The bytes of a plain file of bounded size.

    Raises:
        OSError: It is no plain file, or cannot be read.
        ValueError: It is larger.
    """
    with os.fdopen(_open(file), "rb") as handle:
        content = handle.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content


def _open(file: Path) -> int:
    handle = os.open(file, _PLAIN)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(None, "no plain file")
    return handle
