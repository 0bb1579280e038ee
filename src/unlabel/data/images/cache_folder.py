"""The folder of the cache: the user's own, and nobody else can write there."""

import os
import stat
import time
from contextlib import suppress
from pathlib import Path

from unlabel.core.errors import DataError
from unlabel.core.places import foreign

_ABANDONED_SECONDS = 86_400.0
"""An unfinished file this old was left by a process that was killed."""


def cache_folder() -> Path:
    """The user's own folder of decoded images, made if it is missing; it may be deleted at any time.

    ``UNLABEL_CACHE``, else ``unlabel`` in ``XDG_CACHE_HOME``, else ``~/.cache/unlabel``.

    Raises:
        DataError: It cannot be made, or other users can write to it.
    """
    named = os.environ.get("UNLABEL_CACHE")
    folder = (
        Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unlabel"
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fault = foreign(folder)
        if fault is None and folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            fault = "can be written by other users"
    except OSError as error:
        raise unusable(folder, error) from error
    if fault:
        raise DataError(
            f"the cache {folder} {fault}; expected a folder that you alone can write to: chmod 700 it if it"
            " is yours, or name another in the environment variable UNLABEL_CACHE"
        )
    _sweep(folder)
    return folder


def unusable(folder: Path, error: OSError, what: str = "decoded images") -> DataError:
    """What to raise when the cache cannot be written."""
    advice = "make room there, or name another folder in the environment variable UNLABEL_CACHE"
    return DataError(f"cannot write {what} to {folder}: {error.strerror or error}; {advice}")


def _sweep(cache: Path) -> None:
    """Removes what killed processes left."""
    for path in cache.glob(".new-*"):
        with suppress(OSError):  # another process was faster, or it is another user's
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()
