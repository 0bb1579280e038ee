"""The bytes of one image's file."""

import os
from pathlib import Path

from unlabel.core.errors import DataError
from unlabel.core.reading import open_plain
from unlabel.data.images.decoding import MAX_BYTES


def mark_of(status: os.stat_result) -> tuple[int, int]:
    """What of a file changes with its content: its size in bytes, and the time of its last change in ns."""
    return status.st_size, status.st_mtime_ns


def read_file(folder: Path, name: str, mark: tuple[int, int] | None = None) -> bytes:
    """A file's bytes; of one too large to be used, only as many as tell so.

    Args:
        folder: The folder that the name is relative to.
        name: The file's.
        mark: What `mark_of` told of the file when the data was opened; None if it may have changed.

    Raises:
        DataError: It cannot be opened, or has changed.
    """
    try:
        with open_plain(folder / name) as file:
            status = os.fstat(file.fileno())
            if mark is not None and mark != mark_of(status):
                raise DataError(f"{folder / name} has changed since the data was opened; run again")
            return file.read(min(status.st_size, MAX_BYTES) + 1)
    except OSError as error:
        raise unreadable(folder, name, error) from error


def unreadable(folder: Path, name: str, error: OSError) -> DataError:
    """What to raise when an image's file cannot be opened."""
    return DataError(
        f"cannot open image {name!r} in {folder}: {error.strerror or error}; make it readable, or"
        " remove its row"
    )
