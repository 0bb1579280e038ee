"""What several models say of one picture: original, unlearned and retrained, label by label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from unlabel.core.errors import ModelError
from unlabel.core.framing import Frame
from unlabel.data.batches import normalise
from unlabel.data.images.decoding import decode
from unlabel.exchange.predict import likelihoods
from unlabel.runs.config import Config
from unlabel.runs.folder import Loaded, load_run
from unlabel.runs.lineage import at_hand

ORIGINAL, UNLEARNED, RETRAINED = "original", "unlearned", "retrained"


@dataclass(frozen=True)
class Answers:
    """What is said of one label.

    Args:
        label: Its name.
        forgotten: Whether the unlearned model has forgotten it.
        by_model: Probability by model; None where the model has no output for the label, or has removed it.
    """

    label: str
    forgotten: bool
    by_model: Mapping[str, float | None]


def models_to_try(run: Path, before: Path | None, reference: Path | None) -> dict[str, Loaded]:
    """The models to show side by side, in order.

    Args:
        run: The unlearned run.
        before: The run it was made from; by default the recorded one, if it is at hand with its weights.
        reference: A run retrained without the label.

    Raises:
        ModelError: A run cannot be read, the original is not at hand, or two have no label in common.
    """
    unlearned = load_run(run)
    parent = unlearned.record.parent
    if before is None and parent is not None and parent.run and parent.sha256:
        before = at_hand(parent.run, parent.sha256, run, flag="--before")
    named = {ORIGINAL: before, RETRAINED: reference}
    loaded = {title: load_run(path) for title, path in named.items() if path is not None}
    models = {
        title: model
        for title, model in (
            (ORIGINAL, loaded.get(ORIGINAL)),
            (UNLEARNED, unlearned),
            (RETRAINED, loaded.get(RETRAINED)),
        )
        if model is not None
    }
    for title, model in models.items():
        if not {*model.config.labels} & {*unlearned.config.labels}:
            raise ModelError(
                f"{model.path} ({title}) has none of the labels of {run}; name a run of the same labels"
            )
    return models


def answers(models: Mapping[str, Loaded], picture: bytes | NDArray[np.uint8]) -> list[Answers]:
    """What each model says of a picture, forgotten labels first.

    Args:
        models: By title, `UNLEARNED` among them.
        picture: The bytes of an image file, or uint8 (height, width, 3) of the models' size.

    Raises:
        Unreadable: The bytes are no image that can be used.
        ModelError: An output is not a finite number.
    """
    by_model = {title: _said(model, _pixels(picture, model.config)) for title, model in models.items()}
    config = models[UNLEARNED].config
    order = sorted(config.labels, key=lambda name: name not in config.forgotten)
    return [
        Answers(
            name, name in config.forgotten, {title: values.get(name) for title, values in by_model.items()}
        )
        for name in order
    ]


def shown_pixels(models: Mapping[str, Loaded], picture: bytes | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture as the unlearned model sees it, uint8 (height, width, 3)."""
    return _pixels(picture, models[UNLEARNED].config)


def _pixels(picture: bytes | NDArray[np.uint8], config: Config) -> NDArray[np.uint8]:
    """The picture as a model wants it: bytes are decoded as in training, within the same limits."""
    frame = Frame.of(config.image_size, config.framing)
    return decode(picture, frame) if isinstance(picture, bytes) else picture


def _said(model: Loaded, pixels: NDArray[np.uint8]) -> dict[str, float | None]:
    config = model.config
    with torch.inference_mode():
        batch = normalise(pixels[None], config.mean, config.std, torch.device("cpu"))
        logits = model.model(batch).double()
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(f"{model.path} answers with NaN or infinity: its weights are of no use")
    values: Sequence[float] = likelihoods(logits, config)[0].tolist()
    return {
        name: None if name in config.forgotten else value
        for name, value in zip(config.labels, values, strict=True)
    }
