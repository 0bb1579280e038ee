"""Pixels that are decoded when they are asked for, and kept nowhere: for sets that fit no disk.

::

    Encoded   where images lie encoded: files, the shards of an archive, the rows of a table
    Decoding  their pixels, as `Dataset.pixels` needs them: a shape, and images by their rows
"""

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError
from unlabel.core.framing import Frame
from unlabel.data.images.decoding import Unreadable, read_picture
from unlabel.data.images.reading import mark_of, read_file, unreadable
from unlabel.data.texts import Names


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

    def take(self, rows: NDArray[np.integer], /) -> "Encoded":
        """Some of the images, in this order."""
        ...

    def name(self, row: int, /) -> str:
        """What an error calls an image, such as its file's path."""
        ...


@dataclass(frozen=True)
class Files:
    """Images in files of their own, which must not change while they are used.

    Args:
        folder: The folder that the names are relative to.
        names: Of the files, one a row.
        marks: int64 (row, 4): size in bytes, times in ns of the last change of the content and of anything,
            and the inode, of each.
    """

    folder: Path
    names: Names
    marks: NDArray[np.int64]

    @classmethod
    def of(cls, folder: Path, names: Names) -> "Files":
        """Files by name, as they are now.

        Raises:
            DataError: One cannot be looked at.
        """
        inside, marks = os.path.join(folder, ""), array("q")
        for name in names:
            try:
                marks.extend(_marks(os.stat(inside + name)))
            except OSError as error:
                raise unreadable(folder, name, error) from error
        return cls(folder, names, np.frombuffer(marks, np.int64).reshape(-1, 4))

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: NDArray[np.integer], /) -> "Files":
        """See `Encoded`."""
        return Files(self.folder, self.names[rows], self.marks[rows])

    def contents(self, rows: Sequence[int], /) -> Iterator[bytes]:
        """See `Encoded`."""
        for row in rows:
            size, time = self.marks[row, :2].tolist()
            yield read_file(self.folder, self.names[row], (size, time))

    def name(self, row: int, /) -> str:
        """The file's path."""
        return str(self.folder / self.names[row])

    def signature(self) -> str:
        """Changes whenever a file may have: the inode's time moves even where the file's own is put back."""
        digest = sha256(os.fsencode(self.folder.resolve()))
        for name in self.names:
            digest.update(b"\0" + name.encode("utf-8", "surrogatepass"))
        digest.update(self.marks.tobytes())
        return digest.hexdigest()

    def changed(self) -> float:
        """When anything of a file changed last, in seconds as `time.time` tells them."""
        return float(self.marks[:, 2].max(initial=0)) / 1e9


def _marks(status: os.stat_result) -> tuple[int, int, int, int]:
    inode = status.st_ino & (2**63 - 1)
    return *mark_of(status), status.st_ctime_ns, inode


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
