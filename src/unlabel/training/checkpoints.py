"""What a killed training goes on from: one file, of which every bit and every part is checked before its use.

::

    job.json         which training it is of, and what must be equal for it to go on
    checkpoint.pt    sha256 of all that follows
                     torch.save of {"job", "model", "optimiser", "rows", "seconds"}
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.errors import CheckpointMismatch, OptionError
from unlabel.core.files import write_bytes, write_json
from unlabel.core.places import empty
from unlabel.core.progress import warn
from unlabel.core.reading import read_json, read_plain, sealed, unsealed

Row = dict[str, float]

LONGEST_SECONDS = 1e9
LONGEST, HASHED = 40, "sha256 "
"""Characters of what `open_checkpoint` says of a part; a longer one is a hash, which begins like that."""

_PARTS = {"job", "model", "optimiser", "rows", "seconds"}


@dataclass(frozen=True)
class Checkpoint:
    """Where a training is saved, and which training it is.

    Args:
        file: The file; it need not exist.
        job: What identifies the training: a file of another one is refused.
    """

    file: Path
    job: str = ""

    def save(self, model: nn.Module, optimiser: torch.optim.SGD, rows: Sequence[Row], seconds: float) -> None:
        """Writes the file, whole or not at all.

        Raises:
            WriteError: The disk is full, or something else of the kind.
        """
        state = {"job": self.job, "model": model.state_dict(), "optimiser": optimiser.state_dict()}
        # into memory: into a file, torch reports a full disk as a bug in its own code
        torch.save({**state, "rows": list(rows), "seconds": seconds}, buffer := BytesIO())
        write_bytes(self.file, sealed(buffer.getvalue()))

    def resume(
        self, model: nn.Module, optimiser: torch.optim.SGD, rates: Sequence[float]
    ) -> tuple[list[Row], float]:
        """Loads the file into a model and its optimiser, if there is one.

        Args:
            model, optimiser: As they are before the first step.
            rates: Learning rate of every step of the training.

        Returns:
            The rows of the steps that were made, and the seconds that they took.

        Raises:
            CheckpointMismatch: The file is damaged, or is not of this training.
        """
        if not self.file.exists() and not self.file.is_symlink():
            return [], 0.0
        try:
            state = self._read(model, len(rates))
            fault = next(_faults(state, self.job, model, optimiser, rates), None)
        except Exception as error:  # a damaged file can raise anything
            raise damaged(self.file) from error
        if fault:
            raise damaged(self.file, fault)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        return list(state["rows"]), float(state["seconds"])

    def _read(self, model: nn.Module, steps: int) -> Any:
        weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
        # weights, momentum, and what stands around them
        content = unsealed(read_plain(self.file, 3 * weights + 500 * steps + 1_000_000))
        if content is None:
            raise ValueError("its checksum is wrong")
        with warnings.catch_warnings():  # of what is refused below
            warnings.simplefilter("ignore")
            return torch.load(BytesIO(content), map_location="cpu", weights_only=True)


def open_checkpoint(
    folder: Path,
    job: str,
    run: Run,
    *,
    force: bool,
    parts: Mapping[str, str] = MappingProxyType({}),
    place: Mapping[str, str] = MappingProxyType({}),
) -> Checkpoint:
    """The checkpoint of a training in a folder that outlives a kill; a folder of another job is refused.

    Args:
        folder: Made where it is not there.
        job: What identifies the training, a hex digest.
        run: Where; rank 0 alone reads and writes, the others wait for it.
        force: Discard what is there of another job.
        parts: What the job is made of, by name, to say what differs.
        place: What may round otherwise, by name: a training goes on elsewhere with a note.

    Raises:
        OptionError: An unfinished training of another job is there.
        CheckpointMismatch: It is not known of which job it is.
    """
    note, checkpoint = folder / "job.json", Checkpoint(folder / "checkpoint.pt", job)
    if run.rank == 0:
        recorded, told = _noted(note) if note.exists() else ("", {})
        if recorded == job:
            began = _texts(told.get("place"))
            if checkpoint.file.exists():
                run.log.say(f"going on with the unfinished training in {folder}")
                if differing := _differing(began, place):
                    warn(run.log, f"sums may be rounded otherwise from here on{differing}")
            place = {**place, **began}
        elif folder.exists():
            if recorded is None and not force:
                raise damaged(note)
            if recorded and not force:
                what = _differing(_texts(told.get("parts")), parts)
                raise OptionError(
                    f"an unfinished training with other options is in {folder}{what}; finish it as it began,"
                    " discard it with --force, or delete that folder"
                )
            empty(folder)  # without a note: a kill while it was emptied, whose it was is not known
        folder.mkdir(parents=True, exist_ok=True)
        told = {name: dict(value) for name, value in (("parts", parts), ("place", place)) if value}
        write_json(note, {"job": job, **told})
    run.fabric.barrier()
    return checkpoint


def _noted(note: Path) -> tuple[str | None, Mapping[str, Any]]:
    """The job that a note names, None where it is damaged; and all that it holds."""
    try:
        record = read_json(note)
    except (OSError, ValueError):
        return None, {}
    record = record if isinstance(record, dict) else {}
    job = record.get("job")
    return job if isinstance(job, str) and re.fullmatch("[0-9a-f]{64}", job) else None, record


def _texts(found: Any) -> dict[str, str]:
    """The texts by name that a note may hold; nothing else."""
    items = found.items() if isinstance(found, dict) else ()
    return {name: text for name, text in items if isinstance(text, str)}


def _differing(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs between two trainings, in brackets; nothing where a note does not tell.

    >>> _differing({"device": "cpu", "seed": "0"}, {"device": "cuda", "seed": "0"})
    ' (device: it was cpu, and is now cuda)'
    """
    changes = [
        f"{name}: another"
        if HASHED in was[name] + text or not was[name].isprintable()
        else f"{name}: it was {was[name][:LONGEST]}, and is now {text}"
        for name, text in now.items()
        if was.get(name, text) != text
    ]
    return f" ({'; '.join(changes)})" if changes else ""


def damaged(file: Path, fault: str = "") -> CheckpointMismatch:
    """The error of a file in the folder of an unfinished training that cannot be used."""
    why = f" ({fault})" if fault else ""
    return CheckpointMismatch(
        f"{file} of an unfinished training is damaged{why}; delete {file.parent} to start again"
    )


def _faults(
    state: Any, job: str, model: nn.Module, optimiser: torch.optim.SGD, rates: Sequence[float]
) -> Iterator[str]:
    """What in a file is not as this training would have written it; a part of another kind may also raise."""
    if not isinstance(state, dict) or set(state) != _PARTS:
        yield "a part is missing or too many"
        return
    if state["job"] != job:
        yield "it is of another training"
    expected, tensors = model.state_dict(), state["model"]
    if set(tensors) != set(expected) or not all(_like(tensors[name], expected[name]) for name in expected):
        yield "its weights are not those of this network"
    groups, other = optimiser.state_dict()["param_groups"], state["optimiser"]["param_groups"]
    if set(state["optimiser"]) != {"state", "param_groups"} or _rateless(groups) != _rateless(other):
        yield "its optimiser is another one"
    if not all(_is_number(group["lr"]) for group in other):
        yield "a learning rate is no number"
    moving = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    held = state["optimiser"]["state"]
    if set(held) != (set(range(len(moving))) if any(group["momentum"] for group in groups) else set()):
        yield "its momentum is of other weights"
    for number, value in held.items():
        if set(value) != {"momentum_buffer"} or not _like(value["momentum_buffer"], moving[number]):
            yield "its momentum is of other weights"
    rows = state["rows"]
    if not isinstance(rows, list) or len(rows) > len(rates):
        yield "it has more steps than the training"
    for step, (row, rate) in enumerate(zip(rows, rates, strict=False), start=1):
        if set(row) != {"step", "lr", "loss"} or (row["step"], row["lr"]) != (step, rate):
            yield f"step {step} is not one of this training"
        if not all(map(_is_number, row.values())):
            yield f"step {step} has no finite loss"
    if not _is_number(state["seconds"]) or not 0 <= state["seconds"] <= LONGEST_SECONDS:
        yield "its seconds are none"


def _like(value: Any, expected: Tensor) -> bool:
    """Whether a value could stand in a tensor's place: of its kind and shape, in memory, and finite."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        return False
    if (value.shape, value.dtype) != (expected.shape, expected.dtype):
        return False
    return not value.is_floating_point() or bool(torch.isfinite(value).all())


def _rateless(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """An optimiser's groups without the learning rate, which changes with every step."""
    return [{name: value for name, value in group.items() if name != "lr"} for group in groups]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)
