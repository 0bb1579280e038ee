"""`faces`: drawn faces with CelebA's label statistics. No download, no licence, no person.

The labels of an image come from its number (`unlabel.data.joint`), the cues of its face from its labels
and its number (`unlabel.data.cues`), its pixels from its cues (`unlabel.data.drawing`). Each split has its
own range of numbers, so a larger training set keeps every image that a smaller one had, and P and E as
they were. Pixels are drawn once and mapped from the cache afterwards.
"""

import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import mkstemp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.data.cache import cache_folder
from unlabel.data.dataset import Dataset, Source
from unlabel.data.drawing import VERSION, draw
from unlabel.data.joint import LABELS, celeba, sample
from unlabel.errors import DataError, LabelMismatch, OptionError, suggest
from unlabel.log import SILENT, Log

APART = 10_000_000
"""Distance between the first image numbers of train, P and E."""

DRAWN_LABELS = 10
"""The paper's labels are always drawn; fewer only means fewer columns."""

_CHUNK = 128
_FEW = 1024  # below this many images, starting processes costs more than it saves

_RANGES = {
    "train": (1, 1_000_000),
    "probe": (1, 1_000_000),
    "test": (1, 1_000_000),
    "labels": (1, len(LABELS)),
    "size": (16, 512),
    "seed": (0, 2**31 - 1),
}


@dataclass(frozen=True)
class FacesConfig:
    """What ``faces:train=N,probe=N,test=N,labels=K,size=S,seed=R`` says; `load_faces` tells the meanings."""

    train: int = 8_000
    probe: int = 5_000
    test: int = 5_000
    labels: int = 10
    size: int = 64
    seed: int = 0

    @classmethod
    def parse(cls, spec: str) -> "FacesConfig":
        """Reads the string, with or without the leading ``faces:``.

        Raises:
            OptionError: An unknown or repeated key, no whole number, or one out of range.

        Example:
            >>> FacesConfig.parse("faces:train=400,size=32")
            FacesConfig(train=400, probe=5000, test=5000, labels=10, size=32, seed=0)
            >>> FacesConfig.parse("faces:trian=400")
            Traceback (most recent call last):
            unlabel.errors.OptionError: faces has no option 'trian'. Close: train. It has train, ...
        """
        body = spec.removeprefix("faces").removeprefix(":")
        given: dict[str, int] = {}
        for item in body.split(",") if body else ():
            key, _, text = (part.strip() for part in item.partition("="))
            if key not in _RANGES:
                raise OptionError(
                    f"faces has no option {key!r}.{suggest(key, _RANGES)} It has {', '.join(_RANGES)};"
                    " write faces:train=8000,size=64"
                )
            if key in given:
                raise OptionError(f"{key} is given twice in {spec!r}; give it once")
            if not (text.isascii() and text.isdigit()):
                raise OptionError(f"found {key}={text!r} in {spec!r}; expected a whole number")
            given[key] = _checked(key, int(text))
        return cls(**given)

    @property
    def name(self) -> str:
        """The shortest string that reads as this configuration.

        >>> FacesConfig(seed=3, train=400).name
        'faces:train=400,seed=3'
        """
        changed = [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"faces:{','.join(changed)}" if changed else "faces"


def _checked(key: str, value: int) -> int:
    low, high = _RANGES[key]
    if not low <= value <= high:
        why = f" ({high} labels can be drawn: {LABELS[0]} ... {LABELS[-1]})" if key == "labels" else ""
        raise OptionError(f"found {key}={value} for faces; expected {low:,} to {high:,}{why}")
    return value


def load_faces(
    spec: str,
    *,
    image_size: int | None = None,
    labels: Sequence[str] | None = None,
    workers: int | None = None,
    log: Log = SILENT,
) -> Source:
    """Draws the faces that a string names, or maps them from the cache.

    ``faces:train=N,probe=N,test=N,labels=K,size=S,seed=R``, each part optional: the number of images of
    each split (8,000, 5,000 and 5,000), the first K of `LABELS` (10), height and width in pixels (64),
    and the key of all randomness (0). Image i of a split is the same whatever the counts are; its ten
    first labels are the same whatever K is.

    Args:
        spec: The string, with or without the leading ``faces:``.
        image_size: Height and width in pixels, instead of the string's.
        labels: Label columns to keep, in this order; None for all.
        workers: Processes that draw; None for one a core, 0 or 1 for none beside this one.
        log: Receives the progress.

    Raises:
        OptionError: The string has an unknown option or one out of range.
        LabelMismatch: A named label is not drawn.
        DataError: The cache cannot be written.
    """
    config = FacesConfig.parse(spec)
    if image_size is not None:
        config = FacesConfig(**{**config.__dict__, "size": _checked("size", image_size)})
    names = LABELS[: config.labels]
    _check_names(labels or (), names)
    starts = {"train": 0, "probe": APART, "test": 2 * APART}
    splits: dict[str, Dataset] = {}
    digests: list[str] = []
    for split, start in starts.items():
        index = np.arange(start, start + getattr(config, split))
        target = sample(config.seed, index, max(config.labels, DRAWN_LABELS))
        pixels, digest = _pixels(config, split, index, target, workers, log)
        rows = np.arange(len(index))
        ids = np.array([f"face_{number:06d}.png" for number in index])
        splits[split] = Dataset(pixels, rows, target[:, : config.labels], index, ids, names)
        digests.append(digest)
    source = Source(config.name, **splits, facts=_facts(config, splits, digests))
    return source if labels is None else source.with_labels(labels)


def _check_names(wanted: Sequence[str], drawn: Sequence[str]) -> None:
    """A label that is drawn only on request gets its own message; `with_labels` refuses the others."""
    for name in wanted:
        if name not in drawn and name in LABELS:
            raise LabelMismatch(
                f"'{name}' is not among the first {len(drawn)} labels of faces; write"
                f" faces:labels={LABELS.index(name) + 1} to have it drawn"
            )


def _facts(config: FacesConfig, splits: dict[str, Dataset], digests: list[str]) -> dict[str, Any]:
    target = np.concatenate([part.target for part in splits.values()])
    digest = sha256("".join(digests).encode())
    digest.update(target.tobytes())
    return {
        "split_rule": f"train, P and E are drawn from numbers starting at 0, {APART:,} and {2 * APART:,}",
        "identities": False,
        "identity_note": "drawings of nobody: each image is its own cluster",
        "counts": {name: len(part) for name, part in splits.items()},
        "seed": config.seed,
        "drawing_version": VERSION,
        "phi_error": phi_error(target, LABELS[: config.labels]),
        "digest": digest.hexdigest(),
    }


def phi_error(target: NDArray[np.int8], labels: Sequence[str]) -> float:
    """Largest difference between the phi of two of these columns and CelebA's; constant columns are left out.

    Sampling alone gives about ``3 / sqrt(n)`` among ten labels.
    """
    varied = np.flatnonzero(target.std(axis=0) > 0)
    if len(varied) < 2:
        return 0.0
    phi = np.corrcoef(target[:, varied].T)
    return float(np.abs(phi - celeba([labels[int(k)] for k in varied]).phi).max())


def _pixels(
    config: FacesConfig,
    split: str,
    index: NDArray[np.int64],
    target: NDArray[np.int8],
    workers: int | None,
    log: Log,
) -> tuple[NDArray[np.uint8], str]:
    """The drawn pixels, memory-mapped, and their SHA-256."""
    key = (VERSION, config.seed, split, len(index), config.size, LABELS[: target.shape[1]])
    stem = f"faces-{split}-{sha256(repr(key).encode()).hexdigest()[:24]}"
    path = cache_folder() / f"{stem}.npy"
    shape = (len(index), config.size, config.size, 3)
    found = _find(path, shape)
    if found is None:
        try:
            _build(path, shape, partial(_draw_rows, config, index, target), workers, log)
        except OSError as error:
            raise DataError(
                f"cannot write drawn faces to {path.parent}: {error.strerror or error}; make room there,"
                " or name another folder in the environment variable UNLABEL_CACHE"
            ) from error
        found = _find(path, shape)
    if found is None:
        raise DataError(
            f"{path} changed as soon as it was written; check the disk, or name another folder in the"
            " environment variable UNLABEL_CACHE"
        )
    return found


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


def _draw_rows(
    config: FacesConfig, index: NDArray[np.int64], target: NDArray[np.int8], rows: slice
) -> NDArray[np.uint8]:
    return draw(config.seed, index[rows], target[rows], config.size)


def _build(path: Path, shape: tuple[int, ...], part: Any, workers: int | None, log: Log) -> None:
    """Draws into a temporary file and gives it its name when it is whole."""
    rows = [slice(start, start + _CHUNK) for start in range(0, shape[0], _CHUNK)]
    handle, temporary = mkstemp(dir=path.parent, prefix=".new-", suffix=".npy")
    os.close(handle)
    try:
        pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        with open(temporary, "r+b") as file:  # a full disk is an error here, and a bus error in a mapping
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(temporary))
        with log.track("draw", shape[0], "images") as advance, _mapping(shape[0], workers) as each:
            for place, drawn in zip(rows, each(part, rows), strict=True):
                pixels[place] = drawn
                advance(len(drawn))
        digest = sha256(pixels.data).hexdigest()
        pixels.flush()
        del pixels
        # The record goes first: whoever finds the new pixels finds their checksum too.
        record = Path(temporary).with_suffix(".json")
        record.write_text(json.dumps({"sha256": digest}))
        os.replace(record, path.with_suffix(".json"))
        os.replace(temporary, path)
    finally:
        for left in (Path(temporary), Path(temporary).with_suffix(".json")):
            left.unlink(missing_ok=True)


@contextmanager
def _mapping(images: int, workers: int | None) -> Iterator[Any]:
    """A `map` over processes, or the built-in one where they would not help or cannot be started."""
    workers = min(workers if workers is not None else os.cpu_count() or 1, os.cpu_count() or 1)
    if workers <= 1 or images < _FEW or multiprocessing.current_process().daemon:
        yield map
        return
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    with ProcessPoolExecutor(workers, context) as pool:
        try:
            yield pool.map
        finally:
            pool.shutdown(cancel_futures=True)
