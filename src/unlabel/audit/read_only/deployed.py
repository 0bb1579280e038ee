"""Models that are read and not changed: run folders and ONNX files, as one kind of thing.

::

    open_model("runs/base")                        a run: its outputs come from the cache where they are kept
    open_model("onnx:FILE?features=TENSOR", ...)   a deployed model
    model.read(images, digest, where)              logits, and features where they can be had
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.core.framing import CENTRE, Framing, Size
from unlabel.data.dataset import Dataset
from unlabel.exchange.onnx_file import OnnxModel, OnnxSettings, is_onnx, open_onnx
from unlabel.models.cached_outputs import cached_outputs
from unlabel.models.outputs import Outputs
from unlabel.runs.folder import Loaded, key_of, load_run

Read: TypeAlias = Callable[[Dataset, str, Run], Outputs]
"""Runs a model on images; the text identifies the content of their data source in a cache."""


@dataclass(frozen=True)
class Deployed:
    """A model and how to read it.

    Args:
        name: As the user wrote it.
        sha256: Of its weights or its file.
        labels: Names of its outputs; empty where nobody names them.
        forgotten: Labels that it is said to have forgotten.
        image_size: Of its input, in pixels.
        framing: How a picture of another shape comes to that size.
        exclusive: Whether it answers by a softmax over its labels.
        read: Runs it.
        loaded: The run; None of an ONNX file.
        notes: What was found out about it, in sentences.
    """

    name: str
    sha256: str
    labels: tuple[str, ...]
    forgotten: tuple[str, ...]
    image_size: Size
    exclusive: bool
    read: Read
    loaded: Loaded | None = None
    notes: tuple[str, ...] = ()
    framing: Framing = CENTRE


def open_model(text: str, settings: OnnxSettings) -> Deployed:
    """Opens a run folder or an ONNX file.

    Args:
        text: The path of a run, or ``onnx:FILE?features=TENSOR``.
        settings: What the metadata of an ONNX file lack.

    Raises:
        UnlabelError: As `load_run` and `open_onnx` raise.
    """
    return _of_onnx(open_onnx(text, settings)) if is_onnx(text) else of_run(load_run(Path(text)))


def check_distinct(models: Sequence[tuple[str, str]]) -> None:
    """Refuses one model under two names.

    Args:
        models: Names with the sha256 of their weights or files.

    Raises:
        OptionError: Two are the same, byte for byte.
    """
    by_hash: dict[str, str] = {}
    for name, sha256 in models:
        if sha256 in by_hash:
            raise OptionError(f"{name} and {by_hash[sha256]} are the same model; expected different ones")
        by_hash[sha256] = name


def of_run(loaded: Loaded) -> Deployed:
    """A run as a model that is read."""
    config = loaded.config

    def read(data: Dataset, digest: str, where: Run) -> Outputs:
        images = replace(unlabelled(data, config.labels), mean=config.mean, std=config.std)
        return cached_outputs(loaded.model, images, where, key_of(loaded, digest), loaded.path.name)

    return Deployed(
        str(loaded.path),
        loaded.sha256,
        config.labels,
        config.forgotten,
        config.image_size,
        config.activation == "softmax",
        read,
        loaded,
        framing=config.framing,
    )


def unlabelled(data: Dataset, labels: tuple[str, ...]) -> Dataset:
    """The images with a head's label columns, all unknown: what runs a model needs their number."""
    return replace(data, labels=labels, target=np.full((len(data), len(labels)), -1, np.int8))


def _of_onnx(model: OnnxModel) -> Deployed:
    def read(data: Dataset, digest: str, where: Run) -> Outputs:
        return model.read(data, where.log)

    return Deployed(
        model.name,
        model.sha256,
        model.labels,
        model.forgotten,
        model.image_size,
        model.activation == "softmax",
        read,
        notes=model.notes,
        framing=model.framing,
    )
