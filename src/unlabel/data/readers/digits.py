"""The files of MNIST (idx, plain or gzip) and of SVHN (MATLAB 5), read within the size that they may have."""

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError, ReadError
from unlabel.core.reading import open_plain, reason
from unlabel.data.readers.matlab import read_arrays

MAX_IMAGES = 1_000_000
"""More in one file are refused unread: a small packed file can unpack to fill the memory."""


def read_idx(path: Path, size: tuple[int, ...] = ()) -> NDArray[np.uint8]:
    """The bytes of an idx file: a header of big-endian sizes, then one byte a value.

    Args:
        path: The file; it is unpacked where its name ends in ``.gz``.
        size: Sizes that follow the number of items: (28, 28) for MNIST's images, none for labels.

    Returns:
        uint8 (item, *size).

    Raises:
        DataError: The file cannot be opened, is no such file, or is cut short.
    """
    try:
        with open_plain(path) as file:
            opened = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
            return _idx(cast(BinaryIO, opened), path, size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged or cut gzip file ({error}); copy it again") from error
    except OSError as error:
        raise ReadError.at(path, reason(error)) from error


def _idx(file: BinaryIO, path: Path, size: tuple[int, ...]) -> NDArray[np.uint8]:
    axes = 1 + len(size)
    start = bytes((0, 0, 8, axes))  # 8 stands for unsigned bytes
    header = file.read(4 + 4 * axes)
    if not header.startswith(start) or len(header) < 4 + 4 * axes:
        raise DataError(
            f"{path} begins with {header[:4].hex() or 'nothing'}; expected {start.hex()}, an idx file"
            f" of bytes with {axes} axes: copy the file again"
        )
    count, *item_size = (int(value) for value in np.frombuffer(header, ">u4")[1:])
    if tuple(item_size) != size or count > MAX_IMAGES:
        raise DataError(
            f"{path} tells of {count:,} items of size {tuple(item_size)}; expected size {size} and at most"
            f" {MAX_IMAGES:,} items: copy the file again"
        )
    expected = count * math.prod(size)
    data = file.read(expected + 1)
    if len(data) != expected:
        shown = f"{len(data):,}" if len(data) < expected else "more"
        raise DataError(
            f"{path} has {shown} bytes after its header; expected {expected:,}: copy the file again"
        )
    return np.frombuffer(data, np.uint8).reshape(count, *size)


def read_svhn(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels and digits of SVHN's cropped format.

    Args:
        path: Such as ``train_32x32.mat``.

    Returns:
        uint8 (image, 32, 32, 3), and the digits int64 (image,); the file writes 0 as 10.

    Raises:
        DataError: The file cannot be opened or is no such file.
    """
    content = read_arrays(path, ("X", "y"))
    _check_svhn(path, {name: array.shape for name, array in content.items()})
    pixels, labels = content["X"], content["y"]
    if pixels.dtype != np.uint8:
        raise DataError(f"{path} has an X of {pixels.dtype}; expected bytes (uint8)")
    digits = labels.reshape(-1)
    if not np.isin(digits, np.arange(1, 11)).all():
        wrong = digits[~np.isin(digits, np.arange(1, 11))][0]
        raise DataError(f"{path} has the label {wrong}; expected 1 to 9, and 10 for the digit 0")
    return np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), digits.astype(np.int64) % 10


def _check_svhn(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    images, labels = shapes.get("X", ()), shapes.get("y", ())
    if len(images) != 4 or images[:3] != (32, 32, 3) or images[3] > MAX_IMAGES:
        raise DataError(
            f"{path} has an X of shape {images}; expected (32, 32, 3, images), at most {MAX_IMAGES:,} images"
        )
    if labels not in ((images[3], 1), (1, images[3])):
        raise DataError(
            f"{path} has {images[3]:,} images in X and a y of shape {labels}; expected one label each"
        )
