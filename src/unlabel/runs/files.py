"""The files of a run folder, and the two that say what it is: read as what anyone may have written."""

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from unlabel.core.errors import MissingFiles, ModelError, ReadError, UnlabelError
from unlabel.core.files import RECORD, visible
from unlabel.core.places import restore
from unlabel.core.reading import read_json, reason, typed
from unlabel.runs.config import Config
from unlabel.runs.origin import Record, record_of

MODEL, CONFIG, STEPS = "model.safetensors", "config.json", "log.jsonl"
CANARIES = "canaries.json"


def read_config(path: Path) -> Config:
    """Reads ``config.json`` of a run folder."""
    raw = _read_json(path, CONFIG)
    try:
        return typed(raw, Config)
    except (ModelError, ValueError) as error:
        raise _damaged(path / CONFIG, error) from error


def read_record(path: Path) -> Record:
    """Reads ``unlabel.json`` of a run folder; what it holds is printed, so it holds no control characters."""
    raw = _visible(_read_json(path, RECORD))
    try:
        return record_of(raw)
    except (UnlabelError, ValueError) as error:
        raise _damaged(path / RECORD, error) from error


def _visible(value: Any) -> Any:
    if isinstance(value, dict):
        return {visible(key): _visible(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_visible(item) for item in value]
    return visible(value) if isinstance(value, str) else value


def _damaged(file: Path, error: Exception) -> ModelError:
    return ModelError(f"{file} is damaged ({str(error)[:200]}); expected the file that unlabel wrote")


def _read_json(path: Path, name: str) -> dict[str, Any]:
    restore(path)
    if not path.is_dir():
        raise MissingFiles(
            f"no run folder {path}; expected one that `unlabel train`, `adopt` or `forget` wrote"
        )
    file = path / name
    if not file.is_file():
        raise MissingFiles(f"{path} is no run folder: it has no {name}; name a folder that unlabel wrote")
    try:
        value = read_json(file)
    except (ValueError, ReadError) as error:
        raise ModelError(
            f"{file} is not JSON ({reason(error)}); expected the file that unlabel wrote"
        ) from error
    if not isinstance(value, dict):
        raise ModelError(f"{file} holds no JSON object; expected the file that unlabel wrote")
    return value


def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    installed = {"python": platform.python_version()}
    for name in ("unlabel", "torch", "torchvision", "lightning-fabric", "scikit-learn", "numpy", "pillow"):
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed
