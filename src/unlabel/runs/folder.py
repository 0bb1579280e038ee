"""The run folder: a model, what it is, how it was made. Written whole or not at all.

::

    RUN/model.safetensors   weights and buffers
        config.json         network, labels in output order, which are forgotten, image size, normalisation
        unlabel.json        how it was made: method, options, seed, versions, parent, seconds, steps
        log.jsonl           one row an optimiser step
        canaries.json       which training annotations were drawn by a coin, where some were
        audit.json, report.html   added by `unlabel audit` and `unlabel report`
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from unlabel.core.errors import CheckpointMismatch, MissingFiles
from unlabel.core.files import RECORD, write_json
from unlabel.core.reading import read_plain, reason
from unlabel.core.recipe import History
from unlabel.models.build import build
from unlabel.models.eraser import insert_empty
from unlabel.models.source import code_of
from unlabel.runs.config import Config
from unlabel.runs.files import CANARIES, CONFIG, MODEL, STEPS, read_config, read_record
from unlabel.runs.origin import Record

MOST_NAMES = 25_000_000  # bytes of a weight file that are no weights


@dataclass(frozen=True)
class Loaded:
    """A run read from disk, or a model in memory taken for one.

    Args:
        path: The folder; the name of a model in memory.
        model: In eval mode.
        config: What the model is: labels, input, which outputs were removed.
        record: How it was made, of ``unlabel.json``.
        sha256: Of its weights as a file.
        code: Digest of the code of a network of the user's own, see `models.source`; empty for others.
        in_memory: Whether it is no run folder. Its code may be anything, so nothing is kept by its weights.
    """

    path: Path
    model: nn.Module
    config: Config
    record: Record
    sha256: str
    code: str = ""
    in_memory: bool = False

    @property
    def key(self) -> str:
        """What its outputs depend on beside the images: its weights, and the user's own code."""
        return f"{self.sha256}/{self.code}" if self.code else self.sha256


def key_of(loaded: Loaded, *parts: str) -> str | None:
    """What identifies tables made by a model: its weights and all else; None: they are not to be kept.

    Args:
        loaded: The model. The code of one in memory is unknown, so its weights do not identify it.
        parts: All else that the tables depend on, but for their images: the data's digest, a transform ...
    """
    return None if loaded.in_memory else "/".join((loaded.key, *parts))


def load_run(path: str | Path) -> Loaded:
    """Reads a run folder; the model is on the CPU, in eval mode.

    Raises:
        MissingFiles: The folder is not there or is no run.
        CheckpointMismatch: The weights are damaged or are another network's.
        ModelError: A JSON file is damaged.
    """
    path = Path(path)
    config, record = read_config(path), read_record(path)
    model = build(config.network, len(config.labels), stem=config.stem, head=config.head)
    insert_empty(model, len(config.labels), config.eraser, config.erased)
    file = path / MODEL
    if not file.is_file():
        raise MissingFiles(f"{file} is missing; expected a run folder written by `unlabel train` or `forget`")
    expected = model.state_dict()
    size = sum(value.numel() * value.element_size() for value in expected.values())
    try:
        content = read_plain(file, 2 * size + MOST_NAMES)  # float64, at most, and the names
        state = load(content)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointMismatch(
            f"{file} cannot be read ({reason(error)}); damaged or truncated: write or copy the run again"
        ) from error
    wrong = sorted(
        {*state} ^ {*expected}
        | {name for name in {*state} & {*expected} if state[name].shape != expected[name].shape}
    )
    if wrong:
        raise CheckpointMismatch(
            f"{file} does not fit the network '{config.network}' with {len(config.labels)} labels:"
            f" {len(wrong)} tensors differ, such as '{wrong[0]}'; use the weights that belong to {CONFIG}"
        )
    unusable = [name for name, value in state.items() if not bool(torch.isfinite(value.float()).all())]
    if unusable:
        raise CheckpointMismatch(f"{file} holds NaN or infinity in '{unusable[0]}'; write the run again")
    model.load_state_dict(state)
    sha256 = hashlib.sha256(content).hexdigest()
    return Loaded(path, model.eval(), config, record, sha256, code_of(config.network))


def write_run(
    folder: Path,
    model: nn.Module,
    config: Config,
    record: Mapping[str, Any],
    history: History,
    canaries: Mapping[str, Any] | None = None,
) -> None:
    """Fills a staged folder; see `staged`. The list of canaries is written where there is one."""
    # not save_file, which reports a full disk by an error without a number
    (folder / MODEL).write_bytes(packed(model))
    write_json(folder / CONFIG, asdict(config))
    with (folder / STEPS).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in history.rows)
    if canaries:
        write_json(folder / CANARIES, canaries)
    write_json(folder / RECORD, record)  # last: without it, a folder is no run


def packed(model: nn.Module) -> bytes:
    """Weights and buffers of a model as its run's file holds them."""
    state = model.state_dict()
    return save({name: value.detach().cpu().contiguous().clone() for name, value in state.items()})
