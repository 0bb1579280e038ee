"""The bytes of one image's file."""

import os
from pathlib import Path

from unlabel.core.errors import DataError
from unlabel.core.reading import open_plain
from unlabel.data.images.decoding import MAX_BYTES


def read_file(folder: Path, name: str) -> bytes:
    """A file's bytes; of one too large to be used, only as many as tell so.

    Raises:
        DataError: It cannot be opened.
    """
    try:
        with open_plain(folder / name) as file:
            return file.read(min(os.fstat(file.fileno()).st_size, MAX_BYTES) + 1)
    except OSError as error:
        raise unreadable(folder, name, error) from error


def unreadable(folder: Path, name: str, error: OSError) -> DataError:
    """What to raise when an image's file cannot be opened."""
    return DataError(
        f"cannot open image {name!r} in {folder}: {error.strerror or error}; make it readable, or"
        " remove its row"
    )
