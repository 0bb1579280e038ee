"""The run folder: a model, what it is, how it was made. Written whole or not at all.

::

    RUN/model.safetensors   weights and buffers
        config.json         network, labels in output order, which are forgotten, image size, normalisation
        unlabel.json        how it was made: method, options, seed, versions, parent, seconds, steps
        log.jsonl           one row an optimiser step
        audit.json, report.html   added by `unlabel audit` and `unlabel report`
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from unlabel.errors import CheckpointMismatch, MissingFiles, ModelError, OptionError
from unlabel.models.build import build
from unlabel.recipe import History

MODEL, CONFIG, RECORD, STEPS = "model.safetensors", "config.json", "unlabel.json", "log.jsonl"


@dataclass(frozen=True)
class Config:
    """What a run's model is: enough to build it, feed it and read its outputs.

    Args:
        network, stem: See `models.build.build`.
        labels: Output names, in order.
        forgotten: Labels whose output is removed: a constant, printed as null.
        image_size: Side of the square input, in pixels.
        mean, std: Normalisation of red, green and blue.
        thresholds: Probability from which each label counts as present.
        activation: ``sigmoid``, each label by itself, or ``softmax``, classes of which one is present.
    """

    network: str
    stem: str
    labels: tuple[str, ...]
    forgotten: tuple[str, ...]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    thresholds: tuple[float, ...]
    activation: str = "sigmoid"


@dataclass(frozen=True)
class Loaded:
    """A run read from disk."""

    path: Path
    model: nn.Module
    config: Config
    record: Mapping[str, Any]
    sha256: str


def load_run(path: str | Path) -> Loaded:
    """Reads a run folder; the model is on the CPU, in eval mode.

    Raises:
        MissingFiles: The folder is not there or is no run.
        CheckpointMismatch: The weights are damaged or are another network's.
        ModelError: A JSON file is damaged.
    """
    path = Path(path)
    config, record = read_config(path), read_record(path)
    model = build(config.network, len(config.labels), stem=config.stem)
    file = path / MODEL
    if not file.is_file():
        raise MissingFiles(f"{file} is missing; expected a run folder written by `unlabel train` or `forget`")
    try:
        state = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointMismatch(
            f"{file} cannot be read ({error}); it is damaged or truncated: write or copy the run again"
        ) from error
    expected = model.state_dict()
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
    return Loaded(path, model.eval(), config, record, file_sha256(file))


def read_config(path: Path) -> Config:
    """Reads ``config.json`` of a run folder."""
    raw = _read_json(path, CONFIG)
    try:
        config = Config(
            network=str(raw["network"]),
            stem=str(raw["stem"]),
            labels=tuple(map(str, raw["labels"])),
            forgotten=tuple(map(str, raw["forgotten"])),
            image_size=int(raw["image_size"]),
            mean=_triple(raw["mean"]),
            std=_triple(raw["std"]),
            thresholds=tuple(map(float, raw["thresholds"])),
            activation=str(raw.get("activation", "sigmoid")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path / CONFIG} is damaged ({error!r}); expected the file that unlabel wrote"
        ) from error
    if len(config.thresholds) != len(config.labels) or not {*config.forgotten} <= {*config.labels}:
        raise ModelError(
            f"{path / CONFIG} is damaged (its {len(config.thresholds)} thresholds and forgotten labels do not"
            f" fit its {len(config.labels)} labels); expected the file that unlabel wrote"
        )
    return config


def read_record(path: Path) -> Mapping[str, Any]:
    """Reads ``unlabel.json`` of a run folder."""
    return _read_json(path, RECORD)


def _triple(value: Any) -> tuple[float, float, float]:
    red, green, blue = map(float, value)
    return red, green, blue


def _read_json(path: Path, name: str) -> dict[str, Any]:
    if not path.is_dir():
        raise MissingFiles(
            f"no run folder {path}; expected one written by `unlabel train` or `unlabel forget`"
        )
    file = path / name
    if not file.is_file():
        raise MissingFiles(f"{path} is no run folder: it has no {name}; name a folder that unlabel wrote")
    try:
        value = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"{file} is not JSON ({error}); expected the file that unlabel wrote") from error
    if not isinstance(value, dict):
        raise ModelError(f"{file} holds no JSON object; expected the file that unlabel wrote")
    return value


def write_run(
    folder: Path, model: nn.Module, config: Config, record: Mapping[str, Any], history: History
) -> None:
    """Fills a staged folder; see `staged`."""
    state = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    save_file(state, folder / MODEL)
    write_json(folder / CONFIG, asdict(config))
    write_json(folder / RECORD, record)
    with (folder / STEPS).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in history.rows)


def check_output(out: Path, *, force: bool) -> None:
    """Refuses, before any work, an output folder that must not be replaced.

    Raises:
        OptionError: The folder exists, or exists and is no run, or its parent is no folder.
    """
    if out.name in ("", ".."):
        raise OptionError(f"--out {out} is no name for a new folder; write it like runs/base")
    if not out.exists() and not out.is_symlink():
        parent = next(folder for folder in out.absolute().parents if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise OptionError(f"--out {out} cannot be made: {parent} is not a folder one can write to")
        return
    if out.is_dir() and not any(out.iterdir()):
        return
    if not force:
        raise OptionError(f"--out {out} exists; name a new folder, or replace the run with --force")
    if not (out / RECORD).is_file():
        raise OptionError(
            f"--out {out} exists and is no run folder, so --force will not replace it; name another"
        )


@contextmanager
def staged(out: Path, *, force: bool) -> Iterator[Path]:
    """A folder beside ``out`` to fill; it takes ``out``'s place in one rename when the block succeeds.

    When the block raises, or the process dies, ``out`` is as it was before.
    """
    check_output(out, force=force)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = out.with_name(f".{out.name}.{os.getpid()}.new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        yield work
        for file in work.iterdir():
            _sync(file)
        replaced = out.with_name(f".{out.name}.{os.getpid()}.old")
        if out.exists():
            os.rename(out, replaced)
        try:
            os.rename(work, out)
        except OSError:
            if replaced.exists():
                os.rename(replaced, out)
            raise
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_json(file: Path, value: Any) -> None:
    """Writes JSON atomically: a reader sees the old file or the new one, never half of one."""
    write_text(file, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(file: Path, text: str) -> None:
    """Writes a text file atomically."""
    write_bytes(file, text.encode("utf-8"))


def write_bytes(file: Path, content: bytes) -> None:
    """Writes a file atomically."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        _sync(temporary)
        os.replace(temporary, file)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _sync(file: Path) -> None:
    """Makes sure that the bytes are on the disk before a rename makes them visible."""
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def file_sha256(file: Path) -> str:
    """Hex digest of a file's bytes."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    found = {"python": platform.python_version()}
    for name in ("unlabel", "torch", "torchvision", "lightning-fabric", "scikit-learn", "numpy", "pillow"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
