"""What is changed in a model before it is written: outputs left out, the erasing layer, number format."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from unlabel.core.errors import ModelError, OptionError
from unlabel.core.wording import joined
from unlabel.models.eraser import NAME, eraser_of, fold_eraser
from unlabel.models.head import find_head
from unlabel.models.normal_form import NormalForm
from unlabel.runs.folder import Loaded

Number = Literal["float32", "float16", "bfloat16"]
NUMBERS: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True)
class Changes:
    """What is changed in a run's model before it is written.

    Args:
        drop_output: Leave the forgotten outputs out, instead of constants.
        fold_eraser: Compute what the erasing layer does in the head instead: the outputs are the same, but
            the features before the head are no longer erased.
        dtype: Number format of the weights: ``float32``, ``float16`` or ``bfloat16``.
    """

    drop_output: bool = False
    fold_eraser: bool = False
    dtype: Number = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in NUMBERS:
            raise OptionError(f"--dtype is '{self.dtype}'; expected {', '.join(NUMBERS)}")


@dataclass(frozen=True)
class Reshaped:
    """A model to write.

    Args:
        model: In eval mode, in float32.
        labels: Names of its outputs, in order.
        constant: Those that are constants.
        notes: What was changed, in sentences.
    """

    model: nn.Module
    labels: tuple[str, ...]
    constant: tuple[str, ...]
    notes: tuple[str, ...]


def reshape(loaded: Loaded, changes: Changes, *, one_head: bool = False) -> Reshaped:
    """Changes a run's model in place, and says what was changed.

    Args:
        loaded: A run that has just been read.
        changes: What to change.
        one_head: Whether the file gives the outputs of the normal form's joined head, as ONNX does.

    Raises:
        OptionError: There is nothing to drop, or no layer to fold.
    """
    config, notes = loaded.config, []
    if changes.fold_eraser:
        layer = eraser_of(loaded.model)
        if layer is None:
            raise OptionError("--fold-eraser: the run's network has no erasing layer; leave it out")
        what = joined(layer.labels) if layer.labels else "the label"
        fold_eraser(loaded.model, len(config.labels))
        notes.append(
            f"WARNING: the erasing layer is computed in the head. The outputs are the same, but the features"
            f" before the head hold {what} again: whoever reads them can recover it"
        )
    if not changes.drop_output:
        return Reshaped(loaded.model, config.labels, config.forgotten, tuple(notes))
    if not config.forgotten:
        raise OptionError("--drop-output: the run has forgotten no output; leave it out")
    if isinstance(loaded.model, NormalForm) and not one_head:
        raise OptionError(
            "--drop-output: the network has no single head to take outputs out of; export --to onnx, or leave"
            " it out"
        )
    left = [column for column, name in enumerate(config.labels) if name not in config.forgotten]
    keep_rows(loaded.model, len(config.labels), left)
    notes.append(f"left out, because forgotten: {', '.join(config.forgotten)}; {len(left)} outputs are left")
    return Reshaped(loaded.model, tuple(config.labels[column] for column in left), (), tuple(notes))


def keep_rows(model: nn.Module, outputs: int, columns: Sequence[int]) -> None:
    """Takes all other outputs out of a head, in place.

    Args:
        model: Changed in place.
        outputs: Number of its outputs.
        columns: Those that stay, in order.
    """
    _, head = find_head(model, outputs)
    rows = list(columns)
    head.weight = nn.Parameter(head.weight.detach()[rows].clone())
    head.bias = nn.Parameter(head.bias.detach()[rows].clone())
    head.out_features = len(rows)
    if isinstance(own := getattr(head, "own", None), torch.Tensor):  # of a head joined of several
        head.own = own[rows].clone()


def converted(name: str, value: torch.Tensor, number: Number) -> torch.Tensor:
    """A tensor of a state dict in a number format; counters and the erasing layer's stay as they are.

    Raises:
        ModelError: A number is too large for the format.
    """
    if not value.is_floating_point() or f".{NAME}." in name:
        return value
    new = value.to(NUMBERS[number])
    if not bool(torch.isfinite(new).all()):
        raise ModelError(f"'{name}' holds numbers beyond {number}; export with --dtype bfloat16")
    return new
