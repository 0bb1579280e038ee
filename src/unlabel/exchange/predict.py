"""Label probabilities of single image files: decoded as in training, null where a label was forgotten."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabel.core.errors import DataError, MissingFiles, ModelError
from unlabel.core.reading import read_plain
from unlabel.data.batches import normalise
from unlabel.data.images.decoding import MAX_BYTES, Unreadable, decode
from unlabel.runs.config import Config
from unlabel.runs.folder import load_run


def predict_files(run: Path, images: Sequence[Path]) -> list[dict[str, Any]]:
    """Probabilities of every label for each image.

    Args:
        run: A run folder.
        images: Image files.

    Returns:
        ``{"image", "labels": {name: probability | None}, "present": {name: bool | None}}`` for each image.

    Raises:
        MissingFiles: A file is not there.
        DataError: A file is no readable image.
        ModelError: An output is not a finite number.
    """
    loaded = load_run(run)
    config = loaded.config
    pixels = []
    for path in images:
        if not path.is_file():
            raise MissingFiles(f"no file {path}; expected an image file")
        try:
            pixels.append(decode(read_plain(path, MAX_BYTES), config.image_size))
        except Unreadable as error:
            raise DataError(f"{path} cannot be used: {error}; expected an image such as JPEG") from error
    with torch.inference_mode():
        batch = normalise(np.stack(pixels), config.mean, config.std, torch.device("cpu"))
        logits = loaded.model(batch).double()
    for path, row in zip(images, logits, strict=True):
        if not bool(torch.isfinite(row).all()):
            raise ModelError(
                f"{run} answers {path} with NaN or infinity: its weights or its normalisation are of no use;"
                " write or copy the run again"
            )
    probabilities = likelihoods(logits, config).numpy()
    rows = []
    for path, row in zip(images, probabilities, strict=True):
        by_label = {
            name: None if name in config.forgotten else float(value)
            for name, value in zip(config.labels, row, strict=True)
        }
        best = max(value for value in by_label.values() if value is not None)
        present = {
            name: None if value is None else value >= (threshold if config.activation == "sigmoid" else best)
            for (name, value), threshold in zip(by_label.items(), config.thresholds, strict=True)
        }
        rows.append({"image": str(path), "labels": by_label, "present": present})
    return rows


def likelihoods(logits: Tensor, config: Config) -> Tensor:
    """Probability of each label by itself, or of each class that is not forgotten against the others."""
    if config.activation == "sigmoid":
        return torch.sigmoid(logits)
    gone = [name in config.forgotten for name in config.labels]
    return logits.masked_fill(torch.tensor(gone), float("-inf")).softmax(1)
