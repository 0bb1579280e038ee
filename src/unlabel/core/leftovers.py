"""Hidden names under which files and folders are written, and what a killed process leaves of them.

::

    .NAME.PID.TOKEN.tmp    a file that is being written
    .NAME.PID.TOKEN.new    a run that is being written, or the old one that it has just replaced
    .NAME.PID.TOKEN.old    a run that is being replaced, where the file system cannot swap two folders

TOKEN begins with a mark of the machine; its rest is random, so nobody can put a link there beforehand. Of
leftovers, only those of this user, that are no link and whose process has ended, are touched. Whether a
process of another machine has ended cannot be asked: what it left in a shared folder stays for a day.
"""

import hashlib
import os
import platform
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW | getattr(os, "O_BINARY", 0)
_ENDING = r"\.(\d{1,10})\.([0-9a-f]{16})\."
_DAY = 86_400.0  # seconds
_LONGEST = 200  # bytes of a name, so that the hidden one stays below the usual 255
_in_use: set[str] = set()


@cache
def machine() -> str:
    """A mark of this machine, or of this container: the first 8 of the 16 characters of a token."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


@contextmanager
def beside(path: Path, kind: str) -> Iterator[Path]:
    """A hidden name beside a path that nobody can guess; this process's own leftover is told from it."""
    token = machine() + secrets.token_hex(4)
    _in_use.add(token)
    try:
        yield path.with_name(f".{_stem(path)}.{os.getpid()}.{token}.{kind}")
    finally:
        _in_use.discard(token)


def create(file: Path, content: bytes, mode: int) -> None:
    """Writes and syncs a file that must not exist, not even as a link; others can read it once it is whole.

    Args:
        file: Its place.
        content: All that it holds.
        mode: Its permissions in the end.

    Raises:
        OSError: Something has that name, or it cannot be written; then nothing is left.
    """
    handle = os.open(file, _NEW_FILE, 0o600)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            permit(handle, mode)
            os.fsync(handle)
    except BaseException:
        with suppress(OSError):
            file.unlink()
        raise


def permit(handle: int, mode: int) -> None:
    """Sets the permissions of an open file or folder, where its file system knows any."""
    with suppress(OSError):  # it is private then, or as its file system was mounted
        os.fchmod(handle, mode)


def mode_at(path: Path, most: int) -> int:
    """The permissions for what is written to a path: those of this user's own file there, else the umask's.

    Args:
        path: The place.
        most: 0o666 for a file, 0o777 for a folder.
    """
    with suppress(OSError):
        there = os.lstat(path)
        if is_own(there) and not stat.S_ISLNK(there.st_mode):
            return stat.S_IMODE(there.st_mode) & most
    mask = os.umask(0o077)
    os.umask(mask)
    return most & ~mask


def is_own(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to this user."""
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


def left(path: Path, kind: str, *, removable: bool = True) -> list[Path]:
    """What processes that have ended left of one kind beside a path.

    Args:
        path: What they were writing.
        kind: Ending of the hidden name.
        removable: Only what belongs to this user, which may be removed.
    """
    return _abandoned(path.parent, re.escape(_stem(path)), kind, removable=removable)


def sweep(path: Path) -> None:
    """Removes what killed processes left beside a file that they were writing."""
    _unlink(left(path, "tmp"))


def sweep_inside(folder: Path) -> None:
    """Removes what killed processes left of any file that they were writing in a folder."""
    _unlink(_abandoned(folder, ".+", "tmp"))


def is_leftover(name: str) -> bool:
    """Whether a file's name is one under which this tool writes files.

    >>> is_leftover(".audit.json.4711.0123456789abcdef.tmp"), is_leftover(".audit.json.4711.tmp")
    (True, False)
    """
    return re.fullmatch(rf"\.[^/]+{_ENDING}tmp", name) is not None


def _stem(path: Path) -> str:
    name = os.fsencode(path.name)
    return path.name if len(name) <= _LONGEST else hashlib.sha256(name).hexdigest()[:32]


def _abandoned(folder: Path, stem: str, kind: str, *, removable: bool = True) -> list[Path]:
    name = re.compile(rf"\.{stem}{_ENDING}{kind}", re.DOTALL)
    with suppress(OSError):
        matches = [match for match in map(name.fullmatch, os.listdir(folder)) if match]
        ended = [folder / match[0] for match in matches if not _lives(folder, match)]
        return [path for path in ended if _is_usable(path, removable)]
    return []


def _is_usable(path: Path, removable: bool) -> bool:
    with suppress(OSError):
        status = os.lstat(path)
        return not stat.S_ISLNK(status.st_mode) and (not removable or is_own(status))
    return False


def _lives(folder: Path, name: "re.Match[str]") -> bool:
    """Whether who uses a name may be running; this process's number may have been another's before."""
    process, token = int(name[1]), name[2]
    if not token.startswith(machine()):
        with suppress(OSError):
            return time.time() - os.lstat(folder / name[0]).st_mtime < _DAY
        return True
    return token in _in_use if process == os.getpid() else _runs(process)


def _runs(process: int) -> bool:
    """Whether a process of this number is running."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def _unlink(files: list[Path]) -> None:
    for file in files:
        with suppress(OSError):  # another process was faster, or it is a folder
            file.unlink()
