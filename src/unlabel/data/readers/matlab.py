"""Plain arrays from a MATLAB 5 file.

A damaged file can crash the process in SciPy's reader, which trusts the type numbers that it finds. Arrays of
numbers need little of the format, and that is read here with every number checked::

    header of 128 bytes, then elements: type, length, content
    element 15          zlib of one other element
    element 14          an array: flags, sizes, name and values, each an element again
"""

import math
import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError
from unlabel.core.reading import read_plain

MAX_BYTES = 1_000_000_000
"""A larger file or array is refused: a small packed file can unpack to fill the memory."""

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_SIZES, _FLAGS, _ARRAY, _PACKED = 5, 6, 14, 15
_MOST_AXES = 32
_NUMERIC = range(6, 16)
"""Classes of arrays of numbers; the others hold text, cells or objects."""


class _Malformed(Exception):
    """The content is not what the format says; the message is the reason."""


@dataclass(frozen=True)
class _Bytes:
    """Some content and the order of its bytes."""

    data: memoryview
    order: str

    def element(self, start: int) -> tuple[int, "_Bytes", int]:
        """Type and content of the element at a place, and where the next one starts."""
        if start + 8 > len(self.data):
            raise _Malformed("it ends early")
        kind, length = struct.unpack_from(f"{self.order}II", self.data, start)
        first, after = start + 8, start + 8 + length
        if kind >> 16:  # up to four bytes stand in the element's head itself
            kind, length = kind & 0xFFFF, kind >> 16
            first, after = start + 4, start + 8
            if length > 4:
                raise _Malformed(f"a short element has {length} bytes")
        if first + length > len(self.data):
            raise _Malformed("it ends early")
        if kind != _PACKED:
            after += -after % 8
        return kind, _Bytes(self.data[first : first + length], self.order), after

    def unpacked(self) -> "_Bytes":
        """The content of a packed element."""
        reader = zlib.decompressobj()
        data = reader.decompress(self.data, MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise _Malformed(f"an array unpacks to more than {MAX_BYTES:,} bytes")
        if not reader.eof:
            raise _Malformed("a packed array is cut short")
        return _Bytes(memoryview(data), self.order)

    def numbers(self, kind: int) -> NDArray[Any]:
        """The values of an element of this type."""
        if kind not in _NUMBERS:
            raise _Malformed(f"found values of type {kind}, which are no numbers")
        return np.frombuffer(self.data, np.dtype(self.order + _NUMBERS[kind]))


def read_arrays(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Those of the named arrays of numbers that a MATLAB 5 file holds; all else in it is passed over.

    Args:
        path: The file.
        names: Names of the wanted arrays.

    Returns:
        Name -> array with the sizes that the file gives it, first axis first.

    Raises:
        DataError: The file cannot be opened, is larger than `MAX_BYTES`, or is no whole MATLAB 5 file.
    """
    data = read_plain(path, MAX_BYTES)
    try:
        return dict(_arrays(data, names))
    except (_Malformed, zlib.error, ValueError) as error:
        raise DataError(f"{path} is not a whole MATLAB 5 file ({error}); copy it again") from error


def _arrays(data: bytes, names: Collection[str]) -> list[tuple[str, NDArray[Any]]]:
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(data[124:128])
    if order is None:
        raise _Malformed(f"its header ends with {data[124:128].hex() or 'nothing'}")
    whole, arrays, start = _Bytes(memoryview(data), order), [], 128
    while start < len(data):
        kind, content, start = whole.element(start)
        if kind == _PACKED:
            kind, content, _ = content.unpacked().element(0)
        array = _array(content, names) if kind == _ARRAY else None
        if array is not None:
            arrays.append(array)
    return arrays


def _array(content: _Bytes, names: Collection[str]) -> tuple[str, NDArray[Any]] | None:
    """Name and values of an array, or None where it is not wanted or holds no numbers."""
    kind, flags, start = content.element(0)
    if kind != _FLAGS or len(flags.data) != 8:
        raise _Malformed("an array begins without its flags")
    kind, sizes, start = content.element(start)
    if kind != _SIZES or len(sizes.data) % 4 or len(sizes.data) > 4 * _MOST_AXES:
        raise _Malformed(f"an array has no sizes, or more than {_MOST_AXES}")
    _, label, start = content.element(start)
    name = bytes(label.data).decode("latin-1")
    if name not in names or int(flags.numbers(_FLAGS)[0]) & 0xFF not in _NUMERIC:
        return None
    shape = [int(size) for size in sizes.numbers(_SIZES)]
    kind, values, _ = content.element(start)
    numbers = values.numbers(kind)
    if any(size < 0 for size in shape) or math.prod(shape) != len(numbers):
        raise _Malformed(f"array {name} has {len(numbers):,} values and the sizes {shape}")
    return name, numbers.reshape(shape, order="F")
