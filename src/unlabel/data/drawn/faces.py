"""`faces`: drawn faces with CelebA's label statistics. No download, no licence, no person.

The labels of an image come from its number (`data.drawn.joint`), the cues of its face from its labels and its
number (`data.drawn.cues`), its pixels from its cues (`data.drawn.drawing`). Each split has its own
range of numbers, so a larger training set keeps every image that a smaller one had, and P and E as they were.
Pixels are drawn once and mapped from the cache afterwards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import LabelMismatch
from unlabel.data.dataset import Dataset, Source
from unlabel.data.drawn.drawing import VERSION, draw
from unlabel.data.drawn.joint import LABELS, celeba, fitted, independent, sample
from unlabel.data.drawn.source import NOTE, SPLIT_RULE, drawn_pixels, numbers
from unlabel.data.drawn.spec import Allowed, checked, read_options, short_name
from unlabel.data.options import DEFAULTS, ReadOptions

DRAWN_LABELS = 10
"""The paper's labels are always drawn; fewer only means fewer columns."""

_ALLOWED: Mapping[str, Allowed] = {
    "train": (1, 1_000_000),
    "probe": (1, 1_000_000),
    "test": (1, 1_000_000),
    "labels": (1, len(LABELS)),
    "size": (16, 512),
    "seed": (0, 2**31 - 1),
    "independent": (0, 1),
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
    independent: int = 0

    @classmethod
    def parse(cls, spec: str) -> "FacesConfig":
        """Reads the string, with or without the leading ``faces:``.

        Raises:
            OptionError: An unknown or repeated key, no whole number, or one out of range.

        Example:
            >>> FacesConfig.parse("faces:train=400,size=32")
            FacesConfig(train=400, probe=5000, test=5000, labels=10, size=32, seed=0, independent=0)
            >>> FacesConfig.parse("faces:trian=400")
            Traceback (most recent call last):
            unlabel.core.errors.OptionError: faces has no option 'trian'. Close: train. It has train, ...
        """
        why = {"labels": f" ({len(LABELS)} labels can be drawn: {LABELS[0]} ... {LABELS[-1]})"}
        return cls(**read_options("faces", spec, _ALLOWED, "faces:train=8000,size=64", why))

    @property
    def name(self) -> str:
        """The shortest string that reads as this configuration.

        >>> FacesConfig(seed=3, train=400).name
        'faces:train=400,seed=3'
        """
        return short_name("faces", self)


def load_faces(spec: str, options: ReadOptions = DEFAULTS) -> Source:
    """Draws the faces that a string names, or maps them from the cache.

    ``faces:train=N,probe=N,test=N,labels=K,size=S,seed=R,independent=1``, each part optional: the number of
    images of each split (8,000, 5,000 and 5,000), the first K of `LABELS` (10), height and width in pixels
    (64), the key of all randomness (0), and whether each label is drawn by itself, as often as in CelebA but
    independently of the others (0: labels go together as they do there). Image i of a split is the same
    whatever the counts are; its ten first labels are the same whatever K is.

    Args:
        spec: The string, with or without the leading ``faces:``.
        options: See `ReadOptions`; its size replaces the string's.

    Raises:
        OptionError: The string has an unknown option or one out of range.
        LabelMismatch: A named label is not drawn.
        DataError: The cache cannot be written.
    """
    config = FacesConfig.parse(spec)
    if (size := options.square("faces")) is not None:
        config = FacesConfig(**{**config.__dict__, "size": checked("faces", "size", size, _ALLOWED)})
    names = LABELS[: config.labels]
    _check_names(options.labels or (), names)
    splits: dict[str, Dataset] = {}
    digests: list[str] = []
    count = max(config.labels, DRAWN_LABELS)
    chain = independent(celeba(LABELS[:count]).prevalence) if config.independent else fitted(count)
    for split, index in numbers(config.__dict__).items():
        target = sample(config.seed, index, count, chain)
        key: tuple[Any, ...] = (VERSION, config.seed, split, len(index), config.size, LABELS[:count])
        key += ("independent",) if config.independent else ()
        paint = partial(_draw_rows, config, index, target)
        pixels, digest = drawn_pixels(
            "faces",
            split,
            key,
            len(index),
            config.size,
            paint,
            options,
        )
        rows = np.arange(len(index))
        ids = np.array([f"face_{number:06d}.png" for number in index])
        splits[split] = Dataset(pixels, rows, target[:, : config.labels], index, ids, names)
        digests.append(digest)
    source = Source(
        config.name, splits["train"], splits["probe"], splits["test"], facts=_facts(config, splits, digests)
    )
    return source if options.labels is None else source.with_labels(options.labels)


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
        "split_rule": SPLIT_RULE,
        "identities": False,
        "identity_note": NOTE,
        "counts": {name: len(part) for name, part in splits.items()},
        "seed": config.seed,
        "drawing_version": VERSION,
        "labels_drawn": "independently, each as often as in CelebA" if config.independent else "as in CelebA",
        "phi_error": phi_error(target, LABELS[: config.labels], independent=bool(config.independent)),
        "digest": digest.hexdigest(),
    }


def phi_error(target: NDArray[np.int8], labels: Sequence[str], *, independent: bool = False) -> float:
    """Largest difference between the phi of two of these columns and CelebA's, or 0 for independent ones.

    Constant columns are left out.

    Sampling alone gives about ``3 / sqrt(n)`` among ten labels.
    """
    varied = np.flatnonzero(target.std(axis=0) > 0)
    if len(varied) < 2:
        return 0.0
    phi = np.corrcoef(target[:, varied].T)
    wanted = np.eye(len(varied)) if independent else celeba([labels[int(k)] for k in varied]).phi
    return float(np.abs(phi - wanted).max())


def _draw_rows(
    config: FacesConfig, index: NDArray[np.int64], target: NDArray[np.int8], rows: slice
) -> NDArray[np.uint8]:
    return draw(config.seed, index[rows], target[rows], config.size)
