"""Files and folders that appear whole or not at all, whenever a command is killed; JSON that is not trusted.

::

    .NAME.PID.new    a run that is being written, or the old one that it has just replaced
    .NAME.PID.old    a run that is being replaced, where the file system cannot swap two folders
    .NAME.PID.tmp    a file that is being written

A killed process leaves these beside NAME; the next command that writes NAME removes them.
"""

import ctypes
import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import Any

from unlabel.core.errors import OptionError, UnlabelError

RECORD = "unlabel.json"
"""A folder without this file is no run."""

MOST_BYTES = 64_000_000
"""A larger JSON file is refused unread: a run's are a few kilobytes."""

MOST_NESTED = 40
"""JSON that is nested deeper is refused: whoever walks it may do so by recursion."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)
_HERE, _SWAP = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class WriteError(UnlabelError, OSError):
    """A file or folder could not be written; what was there before is there still."""

    @classmethod
    def at(cls, place: Path, error: OSError) -> "WriteError":
        """The error of writing a place that the user named, though it struck in a hidden file beside it."""
        reason = error.strerror or str(error)
        found = cls(f"cannot write {place}: {reason}; {advice(error)}; nothing was half-written")
        found.strerror = reason
        return found


def advice(error: OSError) -> str:
    """What to do about an error of the file system."""
    number = error.errno or getattr(error.__cause__, "errno", None)
    if number in FULL:
        return "free some space there, or name another place"
    if number in FORBIDDEN:
        return "allow access to it, or name another place"
    return "check that place, or name another"


def check_output(out: Path, *, force: bool) -> None:
    """Refuses, before any work, an output folder that must not be replaced.

    Raises:
        OptionError: The folder exists, or exists and is no run, or its parent is no folder.
    """
    if out.name in ("", ".."):
        raise OptionError(f"--out {out} is no name for a new folder; write it like runs/base")
    restore(out)
    if not out.exists() and not out.is_symlink():
        parent = next(folder for folder in out.absolute().parents if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise OptionError(f"--out {out} cannot be made: {parent} is not a folder one can write to")
        return
    if out.is_dir() and not any(out.iterdir()):
        return
    if not force:
        raise OptionError(f"--out {out} exists; name a new folder, or replace the run with --force")
    if not (out / RECORD).is_file():
        raise OptionError(
            f"--out {out} exists and is no run folder, so --force will not replace it; name another"
        )


@contextmanager
def staged(out: Path, *, force: bool) -> Iterator[Path]:
    """A folder beside ``out`` to fill; it takes ``out``'s place in one step when the block succeeds.

    When the block raises, or the process is killed, ``out`` is as it was before.

    Raises:
        OptionError: As `check_output` raises.
        WriteError: The disk is full, or something else of the kind.
    """
    check_output(out, force=force)
    work = _beside(out, "new")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        _remove(work)
        work.mkdir()
        yield work
        for file in (*work.iterdir(), work):
            _sync(file)
        _put(work, out)
        with suppress(OSError):  # the run is there; some file systems cannot sync a folder
            _sync(out.parent)
    except OSError as error:
        raise WriteError.at(out, error) from error
    finally:
        _remove(work)


def restore(path: Path) -> None:
    """Puts a run back that a killed command had moved away and not yet replaced; see `_put`."""
    if path.name in ("", "..") or path.exists() or path.is_symlink():
        return
    for left in _left(path, "old"):
        if (left / RECORD).is_file():
            with suppress(OSError):
                os.rename(left, path)
            return


def _put(work: Path, out: Path) -> None:
    """Gives a finished folder its name, at once even where a run has it already.

    No portable call replaces a folder that holds something. Linux can swap two names, so that no moment is
    without a run at ``out``; the old one is then in ``work``. Elsewhere, and on some network file systems,
    the old run moves away first, and a process killed just then leaves none at ``out``: every command that
    reads or writes a run begins by putting it back, see `restore`.
    """
    try:
        os.rename(work, out)  # also over an empty folder
        return
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
    if _swap(work, out):
        return
    old = _beside(out, "old")
    os.rename(out, old)
    try:
        os.rename(work, out)
    except BaseException:
        os.rename(old, out)
        raise
    _remove(old)


def _swap(one: Path, other: Path) -> bool:
    """Exchanges the names of two folders; False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    return call is not None and call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _SWAP) == 0


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{kind}")


def _left(path: Path, kind: str) -> list[Path]:
    """What processes that have ended left beside a path."""
    name = re.compile(rf"\.{re.escape(path.name)}\.(\d{{1,10}})\.{kind}")
    with suppress(OSError):
        found = [match for match in map(name.fullmatch, os.listdir(path.parent)) if match]
        return [path.with_name(match[0]) for match in found if not _runs(int(match[1]))]
    return []


def _runs(process: int) -> bool:
    """Whether another process of this number is running."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def _sweep(out: Path) -> None:
    """Removes what killed processes left; a run that was moved away only where another is in its place."""
    there = (out / RECORD).is_file()
    for left in (*_left(out, "new"), *(_left(out, "old") if there else ())):
        _remove(left)


def _remove(folder: Path) -> None:
    """Deletes a folder, its record first: what a kill leaves of it must not pass for a run."""
    with suppress(OSError):
        (folder / RECORD).unlink()
    shutil.rmtree(folder, ignore_errors=True)


def write_json(file: Path, value: Any) -> None:
    """Writes JSON atomically: a reader sees the old file or the new one, never half of one."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError:  # a file's name that is not UTF-8, say in the command line
        content = json.dumps(value, indent=2, allow_nan=False).encode()
    write_bytes(file, content + b"\n")


def write_text(file: Path, text: str) -> None:
    """Writes a text file atomically."""
    write_bytes(file, text.encode("utf-8"))


def write_bytes(file: Path, content: bytes) -> None:
    """Writes a file atomically.

    Raises:
        WriteError: The disk is full, or something else of the kind.
    """
    temporary = _beside(file, "tmp")
    try:
        for left in _left(file, "tmp"):
            left.unlink(missing_ok=True)
        temporary.write_bytes(content)
        _sync(temporary)
        os.replace(temporary, file)
    except OSError as error:
        raise WriteError.at(file, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def sweep(file: Path) -> None:
    """Removes what killed processes left beside a file that they were writing."""
    for left in _left(file, "tmp"):
        with suppress(OSError):
            left.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Makes sure that the bytes are on the disk before a rename makes them visible."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(file: Path) -> Any:
    """Reads a JSON file that anybody may have written: finite numbers, of bounded size and depth.

    Raises:
        ValueError: It is not such a file.
        OSError: It cannot be read.
    """
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES:,} bytes")
    try:
        value = json.loads(file.read_bytes(), parse_constant=_number, parse_float=_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    _bounded(value, 0)
    return value


def _number(text: str) -> float:
    if not isfinite(number := float(text)):
        raise ValueError(f"a number is {text[:20]}")
    return number


def _bounded(value: Any, depth: int) -> None:
    if depth > MOST_NESTED:
        raise ValueError("nested too deeply")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _bounded(item, depth + 1)


def visible(text: str) -> str:
    r"""Text with escapes for what could steer a terminal: control characters, turned reading direction.

    >>> print(visible("red \x1b[31m, end\n"))
    red \x1b[31m, end\n
    """
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
