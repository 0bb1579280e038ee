"""Label probabilities of image files: decoded as in training, null where a label was forgotten."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabel.core.errors import DataError, MissingFiles, ModelError, ReadError
from unlabel.core.files import visible
from unlabel.core.framing import Frame
from unlabel.core.progress import SILENT, Log
from unlabel.core.reading import read_plain, reason
from unlabel.data.batches import normalise
from unlabel.data.images.decoding import MAX_BYTES, Unreadable, decode
from unlabel.runs.config import Config
from unlabel.runs.folder import Loaded, load_run

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".mpo"),
)
"""Endings of the names that are taken for images in a folder."""

_BATCH = 64


@dataclass(frozen=True)
class Predictions:
    """What a run's model says of some images.

    Args:
        rows: ``{"image", "labels": {name: probability | None}, "present": {name: bool | None}}`` an image.
        bad: Images that cannot be read, and why; none unless they were to be left out.
    """

    rows: Sequence[Mapping[str, Any]]
    bad: Mapping[str, str]


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
    return [dict(row) for row in predict_images(run, images).rows]


def predict_images(
    run: Path, images: Sequence[Path], *, skip_bad: bool = False, log: Log = SILENT
) -> Predictions:
    """Probabilities of every label for each image.

    Args:
        run: A run folder.
        images: Image files; see `images_in` for those of a folder.
        skip_bad: Leave out images that cannot be read instead of refusing: also those that are not there, are
            too large, or are no files.
        log: Receives the progress.

    Raises:
        MissingFiles: A file is not there.
        DataError: A file is no readable image, or all are to be left out.
        ModelError: An output is not a finite number.
    """
    loaded = load_run(run)
    frame = Frame.of(loaded.config.image_size, loaded.config.framing)
    rows: list[dict[str, Any]] = []
    bad: dict[str, str] = {}
    with log.track("predict", len(images), "images") as advance:
        for start in range(0, len(images), _BATCH):
            paths, pixels = [], []
            for path in images[start : start + _BATCH]:
                try:
                    pixels.append(decode(read_plain(path, MAX_BYTES), frame))
                    paths.append(path)
                except (Unreadable, ReadError) as error:
                    if not skip_bad:
                        raise _unusable(path, error) from error
                    bad[str(path)] = reason(error)
            rows += _rows(loaded, paths, np.stack(pixels)) if pixels else []
            advance(min(_BATCH, len(images) - start))
    if images and not rows:
        raise DataError(f"none of the {len(images):,} images can be read: {next(iter(bad.values()))}")
    return Predictions(rows, bad)


def _unusable(path: Path, error: Unreadable | ReadError) -> DataError:
    if not path.exists():
        return MissingFiles(f"no file {path}; expected an image file, or a folder of them")
    return DataError(
        f"{path} cannot be used: {reason(error)}; expected an image such as JPEG: mend it, or leave it out"
        " with --skip-bad"
    )


def _rows(loaded: Loaded, images: Sequence[Path], pixels: np.ndarray) -> list[dict[str, Any]]:
    """What the model says of a batch of images."""
    config = loaded.config
    with torch.inference_mode():
        batch = normalise(pixels, config.mean, config.std, torch.device("cpu"))
        logits = loaded.model(batch).double()
    for path, row in zip(images, logits, strict=True):
        if not bool(torch.isfinite(row).all()):
            raise ModelError(
                f"{loaded.path} answers {path} with NaN or infinity: its weights or its normalisation are of"
                " no use; write or copy the run again"
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


def images_in(paths: Sequence[Path]) -> tuple[list[Path], int]:
    """The image files that paths name, and how many other files lie in the folders among them.

    Args:
        paths: Files, which are taken whatever their name; and folders, of which all files with an ending of
            `SUFFIXES` are taken, those in folders below as well, by name. Links to folders are not entered.

    Raises:
        MissingFiles: A folder holds no image.
    """
    images: list[Path] = []
    others = 0
    for path in paths:
        if not path.is_dir():
            images.append(path)
            continue
        inside = sorted(Path(folder, name) for folder, _, names in os.walk(path) for name in names)
        pictures = [file for file in inside if file.suffix.lower() in SUFFIXES and file.name[0] != "."]
        if not pictures:
            raise MissingFiles(
                f"no image in {path}; expected files that end in one of {', '.join(SUFFIXES[:6])} ..."
            )
        images += pictures
        others += len(inside) - len(pictures)
    return images, others


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of the probabilities: one row an image, one column a label, empty for forgotten ones.

    Args:
        rows: Of `Predictions`, at least one.

    Example:
        >>> to_csv([{"image": "a.png", "labels": {"Male": None, "Young": 0.25}}])
        'image,Male,Young\\na.png,,0.250000\\n'
    """
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["image", *rows[0]["labels"]])
    for row in rows:
        values = row["labels"].values()
        table.writerow(
            [visible(row["image"]), *("" if value is None else f"{value:.6f}" for value in values)]
        )
    return file.getvalue()
