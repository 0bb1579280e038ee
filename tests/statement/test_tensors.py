"""The hash of a model's tensors: the same for the same tensors, whatever the file; another for any others."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from unlabel.core.errors import CheckpointMismatch
from unlabel.runs.folder import load_run
from unlabel.statement.tensors import file_tensors_sha256, tensors_sha256

KINDS = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8]
KINDS += [torch.bool, torch.int8, torch.int16]


def tensors() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    found = {f"of {kind}": (torch.randn(3, 5, generator=draw) * 9).to(kind) for kind in KINDS}
    return found | {"scalar": torch.tensor(3.5), "empty": torch.zeros(0, 4), "é": torch.arange(3)}


def test_a_file_and_its_tensors_in_memory_have_one_hash(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "a")
    assert file_tensors_sha256(tmp_path / "a") == tensors_sha256(tensors())
    strided = {
        name: value.t().contiguous().t() if value.ndim == 2 else value for name, value in tensors().items()
    }
    assert tensors_sha256(strided) == tensors_sha256(tensors())


def test_a_runs_weights_have_the_hash_of_the_model_that_they_make(base: Path) -> None:
    model = load_run(base).model
    assert file_tensors_sha256(base / "model.safetensors") == tensors_sha256(model.state_dict())


def test_the_hash_is_what_the_documentation_says(tmp_path: Path) -> None:
    save_file({"b": torch.tensor([[1.0, -2.0]]), "a": torch.tensor([7])}, tmp_path / "a")
    expected = hashlib.sha256(
        b'["a","I64",[1]]\n'
        + (7).to_bytes(8, "little")
        + b'["b","F32",[1,2]]\n'
        + bytes.fromhex("0000803f000000c0")
    )
    assert file_tensors_sha256(tmp_path / "a") == expected.hexdigest()


def rewritten(file: Path, change: Callable[[dict[str, Any]], None], *, data: bytes | None = None) -> Path:
    """The same file with another header."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    out = file.with_name("changed")
    out.write_bytes(
        len(text).to_bytes(8, "little") + text + (data if data is not None else content[8 + length :])
    )
    return out


def test_order_and_metadata_of_the_file_do_not_count(tmp_path: Path) -> None:
    first, second = torch.arange(4.0), torch.arange(6.0) * 7
    save_file({"a": first, "b": second}, tmp_path / "a")

    def swap(header: dict[str, Any]) -> None:
        header["__metadata__"] = {"made by": "someone else"}
        header["b"]["data_offsets"], header["a"]["data_offsets"] = [0, 24], [24, 40]

    data = second.numpy().tobytes() + first.numpy().tobytes()
    other = rewritten(tmp_path / "a", swap, data=data)
    assert other.read_bytes() != (tmp_path / "a").read_bytes()
    assert torch.equal(load_file(other)["a"], first)  # safetensors reads the same tensors from it
    assert file_tensors_sha256(other) == file_tensors_sha256(tmp_path / "a")


CHANGES: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "one value": lambda t: t | {"scalar": torch.tensor(3.5000002)},
    "minus zero": lambda t: t | {"scalar": torch.tensor(-0.0)},
    "a name": lambda t: {("scale" if name == "scalar" else name): value for name, value in t.items()},
    "a shape": lambda t: t | {"é": torch.arange(3).reshape(3, 1)},
    "an empty shape": lambda t: t | {"empty": torch.zeros(4, 0)},
    "a format": lambda t: t | {"é": torch.arange(3, dtype=torch.int32)},
    "two values swapped between names": lambda t: t | {"scalar": t["empty"], "empty": t["scalar"]},
    "a tensor less": lambda t: {name: value for name, value in t.items() if name != "empty"},
    "a tensor more": lambda t: t | {"more": torch.zeros(0)},
}


@pytest.mark.parametrize("what", CHANGES)
def test_anything_else_changes_it(what: str) -> None:
    assert tensors_sha256(CHANGES[what](tensors())) != tensors_sha256(tensors())


def offsets(begin: int, end: int) -> Callable[[dict[str, Any]], None]:
    return lambda header: header["a"].update(data_offsets=[begin, end])


HEADERS: dict[str, Callable[[dict[str, Any]], None]] = {
    "beyond the end": offsets(10**15, 10**15 + 16),
    "before the beginning": offsets(-16, 0),
    "another size": offsets(0, 12),
    "overlapping": lambda header: header.update(b=header["a"]),
    "a gap": lambda header: header["a"].update(shape=[3], data_offsets=[4, 16]),
    "an unknown format": lambda header: header["a"].update(dtype="F4"),
    "a format that is a list": lambda header: header["a"].update(dtype=["F32"]),
    "a shape of text": lambda header: header["a"].update(shape=["4"]),
    "a shape that is true": lambda header: header["a"].update(shape=[True, 4]),
    "a huge shape": lambda header: header["a"].update(shape=[10**400]),
    "more axes than any tensor has": lambda header: header["a"].update(shape=[4] + [1] * 100),
    "no place": lambda header: header["a"].pop("data_offsets"),
    "an entry that is a number": lambda header: header.update(a=3),
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_header_that_lies_is_refused(what: str, tmp_path: Path) -> None:
    save_file({"a": torch.arange(4.0)}, tmp_path / "a")
    with pytest.raises(CheckpointMismatch, match="no whole safetensors file"):
        file_tensors_sha256(rewritten(tmp_path / "a", HEADERS[what]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        b"\xff" * 64,
        (4).to_bytes(8, "little") + b"[1]\n",
        (3).to_bytes(8, "little") + b"nil",
        (31).to_bytes(8, "little") + b'{"a":{},"a":{},"b":1,"c":2    }',
        (200_000).to_bytes(8, "little") + b"[" * 200_000,
        save({"a": torch.arange(4.0)})[:-1],
        save({"a": torch.arange(4.0)}) + b"\0",
    ],
    ids=lambda content: f"{len(content)} bytes",
)
def test_bytes_that_are_no_safetensors_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CheckpointMismatch, match="no whole safetensors file"):
        file_tensors_sha256(tmp_path / "a")
