"""Pictures that are drawn once and mapped from the cache afterwards; what all drawn sources share.

An image comes from its number alone. Each split has its own range of numbers, so a larger training set
keeps every image that a smaller one had, and P and E as they were.
"""

import json
import os
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import mkstemp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError
from unlabel.core.parallel import side_by_side
from unlabel.data.dataset import Dataset, Source, one_hot
from unlabel.data.images.cache_folder import cache_folder
from unlabel.data.options import ReadOptions
from unlabel.data.readers.tables import chosen_labels

APART = 10_000_000
"""Distance between the first image numbers of train, P and E."""

SPLIT_RULE = f"train, P and E are drawn from numbers starting at 0, {APART:,} and {2 * APART:,}"
NOTE = "drawings of nobody: each image is its own cluster"

Paint = Callable[[slice], NDArray[np.uint8]]
"""Draws the images of some rows, uint8 (row, size, size, 3); is called in other processes too."""

_CHUNK = 128


def numbers(counts: dict[str, int]) -> dict[str, NDArray[np.int64]]:
    """The image numbers of each split."""
    starts = {"train": 0, "probe": APART, "test": 2 * APART}
    return {split: np.arange(start, start + counts[split]) for split, start in starts.items()}


def drawn_pixels(
    kind: str, split: str, key: tuple[Any, ...], count: int, size: int, paint: Paint,
    options: ReadOptions,
) -> tuple[NDArray[np.uint8], str]:  # fmt: skip
    """The drawn pixels of one split, mapped from a file or in memory, and their SHA-256.

    Args:
        kind: The source's name, for the file's.
        split: The split's name, for the file's.
        key: All that decides a pixel.
        count: Number of images.
        size: Height and width in pixels.
        paint: Draws some rows; must pickle.
        options: Where the pixels are kept, and how many processes draw.

    Raises:
        OptionError: They are to be kept nowhere.
        DataError: The cache cannot be written.
    """
    shape = (count, size, size, 3)
    if options.kept(kind) == "memory":
        pixels = np.empty(shape, np.uint8)
        _draw(pixels, paint, options)
        pixels.flags.writeable = False
        return pixels, sha256(pixels.data).hexdigest()
    stem = f"{kind}-{split}-{sha256(repr(key).encode()).hexdigest()[:24]}"
    path = cache_folder() / f"{stem}.npy"
    drawn = _find(path, shape)
    if drawn is None:
        try:
            _build(path, shape, paint, options)
        except OSError as error:
            raise DataError(
                f"cannot write drawn {kind} to {path.parent}: {error.strerror or error}; make room there,"
                " or name another folder in the environment variable UNLABEL_CACHE"
            ) from error
        drawn = _find(path, shape)
    if drawn is None:
        raise DataError(
            f"{path} changed as soon as it was written; check the disk, or name another folder in the"
            " environment variable UNLABEL_CACHE"
        )
    return drawn


def drawn_classes(
    kind: str, name: str, classes: Sequence[str], labels: Sequence[str] | None,
    splits: dict[str, tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8], str]],
    facts: dict[str, Any],
) -> Source:  # fmt: skip
    """A source of exclusive classes from what was drawn.

    Args:
        kind: What an image is called.
        name: The string that reads as this source.
        classes: Names of all classes, in the order of their numbers.
        labels: Classes to keep; None for all. Fewer are labels by themselves.
        splits: Of each split: image numbers, classes (image,), pixels and their digest.
        facts: What only this source knows.

    Raises:
        LabelMismatch: A label is no class of it.
    """
    names = chosen_labels(tuple(classes), labels, kind)
    columns = np.array([list(classes).index(label) for label in names])
    datasets, digest = {}, sha256()
    for split, (index, number, pixels, drawn) in splits.items():
        target = (number[:, None] == columns).astype(np.int8)
        ids = np.array([f"{kind}_{at:08d}.png" for at in index])
        datasets[split] = Dataset(pixels, np.arange(len(index)), target, index, ids, names)
        digest.update(drawn.encode() + target.tobytes())
    exclusive = one_hot(np.concatenate([part.target for part in datasets.values()]))
    datasets = {split: _as_classes(part, exclusive) for split, part in datasets.items()}
    return Source(
        name,
        datasets["train"],
        datasets["probe"],
        datasets["test"],
        facts={
            "split_rule": SPLIT_RULE,
            "exclusive": exclusive,
            "identities": False,
            "identity_note": NOTE,
            "counts": {split: len(part) for split, part in datasets.items()},
            **facts,
            "digest": digest.hexdigest(),
        },
    )


def _as_classes(part: Dataset, exclusive: bool) -> Dataset:
    return Dataset(**{**part.__dict__, "exclusive": exclusive})


def even_classes(index: NDArray[np.int64], count: int, turn: NDArray[np.float64]) -> NDArray[np.int64]:
    """A class for each image number, each exactly once in every block of `count` numbers.

    Args:
        index: Image numbers >= 0.
        count: Number of classes.
        turn: Uniform in [0, 1), keyed by ``index // count``: where the block begins.

    Example:
        >>> even_classes(np.arange(6), 3, np.array([0.0, 0.0, 0.0, 0.5, 0.5, 0.5])).tolist()
        [0, 1, 2, 1, 2, 0]
    """
    return (index + (turn * count).astype(np.int64)) % count


def _find(path: Path, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], str] | None:
    """The cached pixels, if they are there, whole and what was drawn."""
    try:
        recorded = json.loads(path.with_suffix(".json").read_text())["sha256"]
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        return None
    if pixels.dtype != np.uint8 or pixels.shape != shape:
        return None
    digest = sha256(pixels.data).hexdigest()
    return (pixels, digest) if digest == recorded else None


def _draw(pixels: NDArray[np.uint8], paint: Paint, options: ReadOptions) -> None:
    """Draws all images into an array."""
    rows = [slice(start, start + _CHUNK) for start in range(0, len(pixels), _CHUNK)]
    count, log = len(pixels), options.log
    with log.track("draw", count, "images") as advance, side_by_side(count, options.workers) as each:
        for chunk, drawn in zip(rows, each(paint, rows), strict=True):
            pixels[chunk] = drawn
            advance(len(drawn))


def _build(path: Path, shape: tuple[int, ...], paint: Paint, options: ReadOptions) -> None:
    """Draws into a temporary file and gives it its name when it is whole."""
    handle, temporary = mkstemp(dir=path.parent, prefix=".new-", suffix=".npy")
    os.close(handle)
    try:
        pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        with open(temporary, "r+b") as file:  # a full disk is an error here, and a bus error in a mapping
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(temporary))
        _draw(pixels, paint, options)
        digest = sha256(pixels.data).hexdigest()
        pixels.flush()
        del pixels
        # The record goes first: whoever finds the new pixels finds their checksum too.
        record = Path(temporary).with_suffix(".json")
        with record.open("x") as file:
            file.write(json.dumps({"sha256": digest}))
        os.replace(record, path.with_suffix(".json"))
        os.replace(temporary, path)
    finally:
        for left in (Path(temporary), Path(temporary).with_suffix(".json")):
            left.unlink(missing_ok=True)
