"""A weight file of the user's own: read without running anything in it, and fitted to a network's keys."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO, Literal
from zipfile import ZipFile, is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from unlabel.core.errors import CheckpointMismatch, MissingFiles, ModelError, NoLinearHead
from unlabel.core.reading import open_plain, read_plain
from unlabel.core.wording import listing
from unlabel.models.custom import one_line
from unlabel.models.final_layers import check_final
from unlabel.models.head import find_head, head_rows

Container = Literal["safetensors", "torch"]
NESTED = ("state_dict", "model_state_dict", "model", "net", "weights")
MOST_BYTES = 8_000_000_000
COUNTER = "num_batches_tracked"  # of BatchNorm; files from before PyTorch 0.4.1 do not have it
STARTS = (b"\x80", b"PK")  # of a pickle, and of a zip with one
SAVE = "save the weights alone: torch.save(model.state_dict(), 'weights.pt')"


@dataclass(frozen=True)
class Weights:
    """The tensors of a file, as they are there.

    Args:
        tensors: Name -> tensor on the CPU.
        container: How the file was written.
        entered: Key of the dict inside a checkpoint that holds the tensors; None when they are at the top.
    """

    tensors: Mapping[str, Tensor]
    container: Container
    entered: str | None = None


@dataclass(frozen=True)
class Fitted:
    """A file's tensors under a network's names and in its number formats.

    Args:
        state: For ``load_state_dict``.
        exact: The same tensors in the file's own number formats.
        prefix: What the file's names have before the network's, such as ``module.``.
        filled: BatchNorm counters that the file does not have; 0 in `state`.
        notes: What was done to the tensors, in sentences.
    """

    state: dict[str, Tensor]
    exact: dict[str, Tensor]
    prefix: str
    filled: tuple[str, ...]
    notes: tuple[str, ...]


def read_weights(file: Path) -> Weights:
    """Reads safetensors or a state dict; which of them is told by the content, not by the name.

    Raises:
        MissingFiles: There is no such file.
        CheckpointMismatch: The file is damaged, or is neither.
        ModelError: It holds something else than tensors, whose loading would run code.
    """
    if not file.is_file():
        raise MissingFiles(f"no file {file}; expected weights: safetensors, or a state dict of torch.save")
    with open_plain(file) as handle:
        start = handle.read(9)
    if start[8:] == b"{":  # safetensors: eight bytes of length, then JSON
        try:
            return Weights(load(read_plain(file, MOST_BYTES)), "safetensors")
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CheckpointMismatch(
                f"{file} cannot be read as safetensors ({one_line(error)}); it is damaged: copy it again"
            ) from error
    try:
        with open_plain(file) as handle, warnings.catch_warnings():  # of what is refused below
            warnings.simplefilter("ignore")
            _check_size(handle)
            value = torch.load(handle, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if not start.startswith(STARTS):
            raise CheckpointMismatch(
                f"{file} is no file of weights: it is neither safetensors nor a file of torch.save; name the"
                f" file that holds the model's state dict, or {SAVE}"
            ) from error
        match = re.search(r"GLOBAL (\S+)", str(error))
        raise ModelError(
            f"{file} holds {match[1] if match else 'Python objects'}, not only tensors: refused, because"
            f" loading it would run code from the file; where you trust it, {SAVE}"
        ) from error
    except Exception as error:
        if "TorchScript" in str(error):
            raise ModelError(
                f"{file} is a TorchScript program, not weights; where you trust it, {SAVE}"
            ) from error
        raise CheckpointMismatch(
            f"{file} cannot be read as weights ({one_line(error)[:120]}): damaged, or neither safetensors"
            f" nor a state dict of torch.save: copy it again, or {SAVE}"
        ) from error
    return _tensors(file, value)


def _check_size(handle: BinaryIO) -> None:
    """Refuses a file that is too large, or that unpacks to more than it has: torch packs nothing."""
    size = os.fstat(handle.fileno()).st_size
    if size > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
    if is_zipfile(handle):
        with ZipFile(handle) as archive:
            if sum(item.file_size for item in archive.infolist()) > size:
                raise ValueError("its content is packed")
    handle.seek(0)


def _tensors(file: Path, value: Any) -> Weights:
    """The one dict of tensors in what was read."""
    entered = None
    if isinstance(value, Mapping) and not _plain(value):
        inner = [key for key, item in value.items() if isinstance(item, Mapping) and _plain(item)]
        nested = [key for key in inner if key in NESTED]
        chosen = inner if len(inner) == 1 else nested
        if len(chosen) == 1:
            _check_alone(file, value, [str(chosen[0]), *(key for key in inner if key != chosen[0])])
            entered, value = str(chosen[0]), value[chosen[0]]
        elif len(inner) > 1:
            raise ModelError(
                f"{file} holds {len(inner)} sets of tensors: {listing([str(key) for key in inner])}; expected"
                f" one: {SAVE}"
            )
    if not isinstance(value, Mapping):
        raise ModelError(f"{file} holds a {type(value).__name__}, not names with tensors; {SAVE}")
    if not _plain(value):
        others = [f"'{key}' ({type(item).__name__})" for key, item in value.items() if not _is_plain(item)]
        raise ModelError(
            f"{file} holds {listing(others) or 'nothing'}, which is no plain tensor; expected names with"
            f" tensors only: {SAVE}"
        )
    return Weights({key: item.detach() for key, item in value.items()}, "torch", entered)


def _check_alone(file: Path, checkpoint: Mapping[Any, Any], keys: Sequence[Any]) -> None:
    """Refuses a second set of weights like the first, as an average over steps (EMA): either may be meant."""
    shapes = [_shapes(checkpoint[key]) for key in keys]
    alike = [str(key) for key, own in zip(keys, shapes, strict=True) if own == shapes[0]]
    if len(alike) > 1:
        raise ModelError(
            f"{file} holds {len(alike)} sets of weights of the same shapes, {listing(alike)}; expected one:"
            f" save the one that is in use, as in torch.save(checkpoint['{alike[1]}'], 'weights.pt')"
        )


def _shapes(tensors: Mapping[Any, Tensor]) -> Counter[torch.Size]:
    """Of what is no vector, which two sets of one network's weights share whatever their names."""
    return Counter(item.shape for item in tensors.values() if item.ndim > 1)


def _plain(value: Mapping[Any, Any]) -> bool:
    return bool(value) and all(isinstance(key, str) and _is_plain(item) for key, item in value.items())


def _is_plain(item: Any) -> bool:
    there = isinstance(item, Tensor) and item.device.type == "cpu"  # and not on "meta", without its numbers
    return there and item.layout == torch.strided and not item.is_quantized


def fit_weights(weights: Weights, model: nn.Module, outputs: int, file: str) -> Fitted:
    """Finds the network's name and number format for each tensor of a file.

    A prefix that all names of the file share, such as ``module.`` of data-parallel training, is taken off
    when more names fit without it.

    Args:
        weights: What was read.
        model: The network, with random weights.
        outputs: Number of labels.
        file: The file's name, for messages.

    Raises:
        CheckpointMismatch: A tensor is missing, extra, of another shape, or not a finite float32 number.
        NoLinearHead: The network has no layer that could make one output a label.
    """
    check_final(model, outputs)
    expected = model.state_dict()
    odd = [name for name, value in expected.items() if not isinstance(value, Tensor)]
    if odd:
        raise ModelError(
            f"the network keeps '{odd[0]}' in its state dict, which is no tensor; remove it there"
        )
    first = next(iter(weights.tensors), "")
    starts = [first[: at + 1] for at, letter in enumerate(first) if letter == "."]
    prefix = max(
        ["", *(start for start in starts if all(name.startswith(start) for name in weights.tensors))],
        key=lambda start: sum(name.removeprefix(start) in expected for name in weights.tensors),
    )
    given = {name.removeprefix(prefix): value for name, value in weights.tensors.items()}
    filled = tuple(name for name in expected if name not in given and name.endswith(COUNTER))
    missing = [name for name in expected if name not in given and name not in filled]
    extra = [name for name in given if name not in expected]
    if missing or extra:
        differences = [
            f"{len(names)} {word}: {listing(names, 3)}"
            for names, word in ((missing, "missing"), (extra, "too many"))
            if names
        ]
        raise CheckpointMismatch(
            f"{file} does not fit the network; of its tensors {'; '.join(differences)}; expected the state"
            " dict of that very network, with nothing added"
        )
    for name, value in given.items():
        if value.shape == expected[name].shape:
            continue
        if name in _rows_of_outputs(model, outputs):
            fewer = value.ndim and value.shape[0] < outputs
            name_them = "name every output's label, one a line, in order, in --labels"
            without = "; of a model that never saw some of them, name these in --without" if fewer else ""
            raise CheckpointMismatch(
                f"{file} has {value.shape[0] if value.ndim else 1} outputs (rows of '{prefix}{name}'), but"
                f" there {'is 1 label' if outputs == 1 else f'are {outputs} labels'}; {name_them}{without}"
            )
        raise CheckpointMismatch(
            f"'{prefix}{name}' has shape {tuple(value.shape)} in {file}, but {tuple(expected[name].shape)} in"
            " the network; name the network that the weights were trained in"
        )
    state = {name: _converted(name, given[name], expected[name], file) for name in expected if name in given}
    state |= {name: torch.zeros_like(expected[name]) for name in filled}
    return Fitted(state, {**state, **given}, prefix, filled, _notes(weights, given, expected, prefix, filled))


def _rows_of_outputs(model: nn.Module, outputs: int) -> tuple[str, ...]:
    """Names of the parameters that have one row an output, of a network with a plain head."""
    try:
        return head_rows(find_head(model, outputs)[0])
    except NoLinearHead:
        return ()


def _converted(name: str, value: Tensor, like: Tensor, file: str) -> Tensor:
    if like.is_floating_point() and not value.is_floating_point():
        raise CheckpointMismatch(
            f"'{name}' holds {_format(value)} in {file}, but the network wants {_format(like)}; expected"
            " weights as they were trained, not quantised"
        )
    if value.is_floating_point() and not bool(torch.isfinite(value.float()).all()):
        raise CheckpointMismatch(
            f"'{name}' in {file} holds NaN, infinity or a number beyond float32; expected finite weights:"
            " save them again from a model that works"
        )
    return value.to(like.dtype).contiguous()


def _format(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _notes(
    weights: Weights,
    given: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    prefix: str,
    filled: tuple[str, ...],
) -> tuple[str, ...]:
    notes = []
    if weights.entered is not None:
        notes.append(f"took the tensors under '{weights.entered}' of the checkpoint")
    if prefix:
        notes.append(f"took '{prefix}' off the front of the names")
    kinds = [
        _format(value)
        for name, value in given.items()
        if value.is_floating_point() and value.dtype != expected[name].dtype
    ]
    for kind in dict.fromkeys(kinds):
        loss = "digits beyond the seventh are lost" if kind == "float64" else "no digit is lost"
        notes.append(f"converted {kinds.count(kind)} tensors from {kind} to float32: {loss}")
    if filled:
        notes.append(f"set {len(filled)} BatchNorm counters to 0, which the file does not have")
    return tuple(notes)
