"""Pixels that are decoded when they are asked for, and kept nowhere: for sets that fit no disk.

::

    Encoded   where images lie encoded: files, the shards of an archive, the rows of a table
    Decoding  their pixels, as `Dataset.pixels` needs them: a shape, and images by their rows
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError
from unlabel.core.framing import Frame
from unlabel.data.images.decoding import Unreadable, read_picture
from unlabel.data.images.reading import read_file


class Encoded(Protocol):
    """Images that lie encoded, as JPEG or PNG, one behind each row.

    Several threads read at once, and so do processes that were forked later: a reader keeps no open file
    whose position they would share. It holds names or offsets, and no images.
    """

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def contents(self, rows: Sequence[int], /) -> Iterable[bytes]:
        """The bytes of some images, in the order of the rows, which may repeat.

        Raises:
            DataError: They cannot be read.
        """
        ...

    def name(self, row: int, /) -> str:
        """What an error calls an image, such as its file's path."""
        ...


@dataclass(frozen=True)
class Files:
    """Images in files of their own.

    Args:
        folder: The folder that the names are relative to.
        names: Of the files, one a row.
    """

    folder: Path
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def contents(self, rows: Sequence[int], /) -> Iterable[bytes]:
        """See `Encoded`."""
        return (read_file(self.folder, self.names[row]) for row in rows)

    def name(self, row: int, /) -> str:
        """The file's path."""
        return str(self.folder / self.names[row])


@dataclass(frozen=True)
class Decoding:
    """The pixels of encoded images, decoded each time they are asked for.

    Args:
        encoded: Where they lie.
        frame: Height and width in pixels, and how images come to them.
    """

    encoded: Encoded
    frame: Frame

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(image, height, width, 3)."""
        return len(self.encoded), *self.frame.shape

    def __getitem__(self, rows: NDArray[np.integer], /) -> NDArray[np.uint8]:
        """Pixels uint8 (row, height, width, 3) of some rows, (row,).

        Raises:
            DataError: An image cannot be read, or cannot be decoded.
        """
        wanted = rows.tolist()
        pixels = np.empty((len(wanted), *self.frame.shape), np.uint8)
        for at, data in enumerate(self.encoded.contents(wanted)):
            try:
                pixels[at] = read_picture(data, self.frame).pixels
            except Unreadable as error:
                raise DataError(
                    f"{self.encoded.name(wanted[at])} cannot be decoded: {error}; mend or remove it, and run"
                    " again"
                ) from error
        return pixels
