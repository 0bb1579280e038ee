"""Where commands write: what is refused before any work, and run folders that appear whole or not at all.

::

    check_output    a run folder to make         staged     fills it beside its place, then renames it
    check_file      a file to write              claimed    a hidden folder that one command works in
    check_folder    a folder to write files in   held       a folder that others must not sign or change

A killed process leaves hidden folders beside NAME, see `leftovers`; the next command that writes NAME removes
them.
"""

import ctypes
import errno
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unlabel.core.errors import OptionError, WriteError
from unlabel.core.files import RECORD, STATEMENT
from unlabel.core.leftovers import NOFOLLOW, beside, is_own, left, mode_at, permit

try:
    import fcntl
except ImportError:  # not a Unix: nothing is locked there
    fcntl = None

_OF_A_RUN = frozenset(
    f"{RECORD} {STATEMENT} config.json model.safetensors log.jsonl canaries.json audit.json readme.md".split()
)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_HERE, _SWAP = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


def check_output(out: Path, *, force: bool) -> None:
    """Refuses, before any work, a run folder that must not be made or replaced.

    Raises:
        OptionError: The folder exists, or exists and is no run or holds another one, is a link or read-only,
            cannot be made, or lies inside a run.
    """
    _check_new(out, force=force)
    if around := next((folder for folder in out.resolve().parents if (folder / RECORD).is_file()), None):
        raise OptionError(
            f"--out {out} lies inside the run {around}; name a folder outside of it, such as"
            f" {around.parent / out.name}"
        )


def _check_new(out: Path, *, force: bool) -> None:
    """Refuses a folder that must not be made or replaced; it may lie inside a run, as an export does."""
    if out.name in ("", ".."):
        raise OptionError(f"--out {out} is no name for a new folder; write it like runs/base")
    restore(out)
    if out.is_symlink():
        raise OptionError(f"--out {out} exists and is a link; name a folder that is none")
    _check_parent(out)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not force:
        raise OptionError(f"--out {out} exists; name a new folder, or replace the run with --force")
    if not (out / RECORD).is_file():
        raise OptionError(
            f"--out {out} exists and is no run folder, so --force will not replace it; name another"
        )
    if inside := next((file.parent for file in out.rglob(RECORD) if file.parent != out), None):
        raise OptionError(
            f"--out {out} holds another run, {inside}, which --force would delete; move that one, or name"
            " another folder"
        )
    _check_writable(out)


def check_file(out: Path, *, force: bool, ours: Callable[[], bool] = lambda: False) -> None:
    """Refuses, before any work, a file that must not be written. Its folder may be missing.

    Args:
        out: The file.
        force: Replace any plain file that is no part of a run.
        ours: Whether the file that is there was made by the same command from the same run.

    Raises:
        OptionError: It is a link, no plain file, part of a run, another's, or cannot be made.
    """
    if out.is_symlink():
        raise OptionError(f"{out} exists and is a link; name a file that is none")
    if out.is_dir():
        raise OptionError(f"{out} exists; a folder is never replaced: name a file")
    _check_parent(out)
    if not out.exists():
        return
    if not out.is_file():
        raise OptionError(f"{out} is no plain file; name another")
    if out.name.casefold() in _OF_A_RUN and (out.resolve().parent / RECORD).is_file():
        raise OptionError(f"{out} is a part of a run, and is never replaced; name another file")
    if not force and not ours():
        raise OptionError(f"{out} exists; name another file, or replace it with --force")
    if not os.access(out, os.W_OK):
        raise OptionError(f"{out} is read-only; name another file, or allow writing to it")


def check_folder(out: Path) -> None:
    """Refuses, before any work, a folder that a command could not write its files into.

    Raises:
        OptionError: It is a link, no folder, a run or read-only, or cannot be made.
    """
    if out.is_symlink():
        raise OptionError(f"--out {out} exists and is a link; name a folder that is none")
    if not out.exists():
        _check_parent(out)
    elif not out.is_dir():
        raise OptionError(f"--out {out} is a file; name a folder")
    elif (out / RECORD).is_file():
        raise OptionError(f"--out {out} is a run; name a folder that is none")
    else:
        _check_writable(out)


def _check_parent(out: Path) -> None:
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise OptionError(f"{out} cannot be made: {parent} is not a folder one can write to")


def _check_writable(folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OptionError(f"--out {folder} is read-only; name another place, or allow writing to it")


@contextmanager
def staged(out: Path, *, force: bool) -> Iterator[Path]:
    """A folder beside ``out`` to fill; it takes ``out``'s place in one step when the block succeeds.

    When the block raises, or the process is killed, ``out`` is as it was before. Until then no other user can
    look into it.

    Raises:
        OptionError: As `check_output` raises, except inside a run; or, without ``force``, another command
            wrote ``out`` meanwhile.
        WriteError: The disk is full, or something else of the kind.
    """
    _check_new(out, force=force)
    with beside(out, "new") as work:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            _sweep(out)
            work.mkdir(mode=0o700)
            yield work
            for file in work.iterdir():
                _sync(file)
            _sync(work, mode_at(out, 0o777))
            _put(work, out, force=force)
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
    for old in left(path, "old", removable=False):
        if (old / RECORD).is_file():
            with suppress(OSError):
                os.rename(old, path)
            return


def _put(work: Path, out: Path, *, force: bool) -> None:
    """Gives a finished folder its name, at once even where a run has it already.

    A folder is renamed over nothing or over an empty folder, and never over anything else: of two commands
    that make the same run, the second is refused. No portable call replaces a folder that holds something.
    Linux can swap two names, so that no moment is without a run at ``out``; the old one is then in ``work``.
    Elsewhere, and on some network file systems, the old run moves away first, and a process killed just then
    leaves none at ``out``: every command that reads or writes a run begins by putting it back, see `restore`.
    """
    try:
        os.rename(work, out)
        return
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
    if not force:
        raise OptionError(
            f"--out {out} was written by another command meanwhile and is kept; this result is not written:"
            " name a new folder, or replace the run with --force"
        )
    _check_new(out, force=True)  # whatever is there now
    if _swap(work, out):
        return
    with beside(out, "old") as old:
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


def _sweep(out: Path) -> None:
    """Removes what killed processes left; a run that was moved away only where another is in its place."""
    there = (out / RECORD).is_file()
    for folder in (*left(out, "new"), *(left(out, "old") if there else ())):
        _remove(folder)


def _remove(folder: Path) -> None:
    """Deletes a folder, its record first: what a kill leaves of it must not pass for a run."""
    with suppress(OSError):
        (folder / RECORD).unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path, mode: int | None = None) -> None:
    """Makes sure that bytes, and a folder's mode, are on the disk before a rename makes them visible."""
    handle = os.open(path, os.O_RDONLY | NOFOLLOW)
    try:
        if mode is not None:
            permit(handle, mode)
        os.fsync(handle)
    finally:
        os.close(handle)


def foreign(folder: Path) -> str | None:
    """What speaks against a folder being this user's own; None: nothing.

    A link counts as what it leads to if this user made it.
    """
    link, there = os.lstat(folder), os.stat(folder)
    if not (is_own(link) and is_own(there)):
        return "belongs to another user"
    return None if stat.S_ISDIR(there.st_mode) else "is no folder"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """A hidden folder, made if it is missing, that one command works in; the claim ends with the process.

    Raises:
        OptionError: Another command works in it, or it is a link, or another user's.
        WriteError: It cannot be made.
    """
    advice = "delete it, or name another --out"
    try:
        if not folder.is_symlink():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fault = "is a link" if folder.is_symlink() else foreign(folder)
    except OSError as error:
        raise WriteError.at(folder, error) from error
    if fault:
        raise OptionError(f"{folder} {fault}; expected a folder of your own for the unfinished run: {advice}")
    with held(folder, alone=True) as free:
        if not free:
            raise OptionError(
                f"another command is working in {folder}; wait until it ends, or name another --out"
            )
        yield


@contextmanager
def held(folder: Path, *, alone: bool) -> Iterator[bool]:
    """Holds a folder while the block runs, alone or beside others; False where another's hold excludes this.

    The hold ends with the process. Where the file system cannot lock, nothing is held, and True comes back.
    """
    handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        yield _locked(handle, alone) and _is_still(handle, folder)
    finally:
        os.close(handle)


def _locked(handle: int, alone: bool) -> bool:
    if fcntl is not None:
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a network file system without locks
            return True
    return True


def _is_still(handle: int, folder: Path) -> bool:
    """Whether a folder that was opened has its name still: who held it before may have removed it."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(handle), os.stat(folder))
    return False


def empty(folder: Path) -> None:
    """Removes all that a folder holds."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
