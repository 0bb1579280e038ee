"""A hash of what a model's tensors are, whatever file they are kept in.

Two files with the same tensors need not have the same bytes: safetensors leaves their order and its metadata
open, and a state dict of torch.save is another container altogether. The hash is sha256 over, for each tensor
in the order of names::

    canonical JSON of [name, dtype, shape], a line break, the values in little-endian order

with dtypes named as safetensors names them (``F32``, ``I64``).
"""

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from unlabel.core.errors import CheckpointMismatch
from unlabel.core.reading import open_plain
from unlabel.statement.canonical import canonical

BYTES: Mapping[str, int] = {
    kind: size
    for size, kinds in (
        (1, "BOOL U8 I8 F8_E4M3 F8_E5M2"),
        (2, "U16 I16 F16 BF16"),
        (4, "U32 I32 F32"),
        (8, "U64 I64 F64"),
    )
    for kind in kinds.split()
}
"""Bytes of one value of each number format."""

TORCH: Mapping[str, str] = {
    "bool": "BOOL",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
}
"""torch's name of a number format -> safetensors' name."""

MOST_HEADER = 25_000_000  # bytes of names, shapes and places
MOST_AXES = 64  # the product of more sizes could take hours
_CHUNK = 2**20


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hex digest of tensors in memory, such as a state dict.

    Raises:
        CheckpointMismatch: A tensor has a number format that safetensors does not have.

    Example:
        >>> import torch
        >>> a, b = torch.zeros(2), torch.ones(1, dtype=torch.int64)
        >>> tensors_sha256({"a": a, "b": b}) == tensors_sha256({"b": b, "a": a})
        True
        >>> tensors_sha256({"a": a}) == tensors_sha256({"a": a.reshape(2, 1)})
        False
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        kind = TORCH.get(str(value.dtype).removeprefix("torch."))
        if kind is None:
            raise CheckpointMismatch(f"'{name}' is of {value.dtype}; expected a format that safetensors has")
        digest.update(_title(name, kind, list(value.shape)))
        raw = value.reshape(-1).view(torch.uint8).numpy()
        if sys.byteorder == "big":
            raw = raw.reshape(-1, BYTES[kind])[:, ::-1]
        digest.update(raw.tobytes())
    return digest.hexdigest()


def file_tensors_sha256(file: Path) -> str:
    """Hex digest of the tensors in a safetensors file, read piece by piece.

    Raises:
        CheckpointMismatch: The file is no safetensors file, or is damaged.
    """
    digest = hashlib.sha256()
    try:
        with open_plain(file) as handle:
            start, places = _header(handle)
            for name, kind, shape, begin, end in sorted(places):
                digest.update(_title(name, kind, shape))
                handle.seek(start + begin)
                left = end - begin
                while left:
                    chunk = handle.read(min(left, _CHUNK))
                    if not chunk:
                        raise ValueError("it ends too early")
                    digest.update(chunk)
                    left -= len(chunk)
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise CheckpointMismatch(f"{file} is no whole safetensors file ({str(error)[:200]})") from error
    return digest.hexdigest()


def _title(name: str, kind: str, shape: list[int]) -> bytes:
    return canonical([name, kind, shape]) + b"\n"


def _header(handle: BinaryIO) -> tuple[int, list[tuple[str, str, list[int], int, int]]]:
    """Where the values begin, and of each tensor: name, format, shape, first and last byte from there."""
    size = handle.seek(0, 2)
    handle.seek(0)
    length = int.from_bytes(handle.read(8), "little")
    if not 2 <= length <= min(MOST_HEADER, size - 8):
        raise ValueError("its header has no usable length")
    header = json.loads(handle.read(length), object_pairs_hook=_once)
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    header.pop("__metadata__", None)
    places = []
    for name, entry in header.items():
        kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if kind not in BYTES or not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
            raise ValueError(f"'{name[:50]}' is described by something else than a format, sizes and a place")
        if len(shape) > MOST_AXES or end - begin != BYTES[kind] * math.prod(shape):
            raise ValueError(f"'{name[:50]}' has another size than its shape")
        places.append((name, kind, shape, begin, end))
    at = 0
    for _, _, _, begin, end in sorted(places, key=lambda place: place[3:]):
        if begin != at:
            raise ValueError("its tensors overlap or leave gaps")
        at = end
    if at != size - 8 - length:
        raise ValueError("its tensors do not fill it")
    return 8 + length, places


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    header: dict[str, Any] = {}
    for name, value in pairs:
        if name in header:
            raise ValueError("a name stands twice in its header")
        header[name] = value
    return header
