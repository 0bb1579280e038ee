"""Which images train a model, which train the attacks (P) and which are only measured on (E).

An audit is worth nothing if a face is on both sides of it. So a split is drawn by hashing the identity,
or the image's name where no identity is known: the same on every machine, whatever the order of the rows,
and an image keeps its split when others are added.
"""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError
from unlabel.core.wording import listing
from unlabel.data.dataset import Dataset

TRAIN, PROBE, TEST = 0, 1, 2
SPLIT_NAMES = ("train", "probe", "test")
"""Names of the codes, as in `Source`."""

GIVEN_NAMES = ("train", "val", "test")
"""What a split column may say."""

TEST_SHARE, PROBE_SHARE = 0.25, 0.10
"""Shares of E and P where no split is given."""

PROBE_SHARE_OF_TRAIN = 0.20
"""Share of the given train split that becomes P where no `val` is left for it."""


def hash_fraction(text: str) -> float:
    """A number in [0, 1) from the first 8 bytes of the text's SHA-256: stable across machines.

    >>> [round(hash_fraction(name), 3) for name in ("ann", "bob", "cy")]
    [0.287, 0.507, 0.239]
    """
    return (int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 11) * 2.0**-53


def assign_splits(
    ids: Sequence[str],
    identity: Sequence[str],
    given: Sequence[str],
    *,
    giver: str = "the split column",
) -> tuple[NDArray[np.int8], str]:
    """The split of each image, and the rule in words.

    With ``h`` the hash fraction of the identity, or of the image's name where that is unknown:

    - ``test`` given: it is E; P is ``val``, or the train images with ``h < 0.20`` where there is no ``val``.
    - only ``val`` given: it is E; P is the train images with ``h < 0.20``.
    - nothing given: train ``h < 0.65``, P ``h < 0.75``, E the rest.

    Args:
        ids: Name of each image.
        identity: Identity of each image; empty where unknown.
        given: ``train``, ``val`` or ``test`` for each image, or empty for every image.
        giver: What gave them, as the rule calls it.

    Returns:
        Codes int8 (n,): 0 train, 1 P, 2 E; and the rule as a sentence.

    Raises:
        DataError: Some images have a split and some do not, or a split is unknown.

    Example:
        >>> codes, rule = assign_splits(["a", "b", "c"], ["ann", "", "ann"], ["train", "val", "test"])
        >>> codes.tolist(), rule
        ([0, 1, 2], 'the split column: test is E, val is P')
    """
    unknown = sorted(set(given) - {"", *GIVEN_NAMES})
    if unknown:
        raise DataError(f"found split {unknown[0]!r}; expected train, val or test")
    hashed = np.array(
        [hash_fraction(who or name) for name, who in zip(ids, identity, strict=True)], np.float64
    )
    by = _hashed_by(identity)
    if not any(given):
        codes = np.select(
            [hashed < 1 - TEST_SHARE - PROBE_SHARE, hashed < 1 - TEST_SHARE], [TRAIN, PROBE], TEST
        )
        return codes.astype(np.int8), f"no split column: 65 % train, 10 % P and 25 % E by hash of {by}"
    without = [name for name, split in zip(ids, given, strict=True) if not split]
    if without:
        raise DataError(
            f"{len(without):,} of {len(ids):,} images have no split"
            f" ({listing([repr(name) for name in without], 3)})"
            " although others do; give every image train, val or test, or leave out the split column"
        )
    column = np.array(given)
    if "test" in given and "val" in given:
        codes = np.select([column == "train", column == "val"], [TRAIN, PROBE], TEST)
        return codes.astype(np.int8), f"{giver}: test is E, val is P"
    codes = np.select([column != "train", hashed < PROBE_SHARE_OF_TRAIN], [TEST, PROBE], TRAIN)
    measured, absent = ("test", "val") if "test" in given else ("val", "test")
    rule = f"{giver} without {absent}: {measured} is E, and 20 % of train by hash of {by} is P"
    return codes.astype(np.int8), rule


def _hashed_by(identity: Sequence[str]) -> str:
    """What the hash is taken of, in words."""
    if not any(identity):
        return "image_id"
    return "identity" if all(identity) else "identity, or image_id where that is unknown"


def cluster_codes(identity: Sequence[str]) -> NDArray[np.int64]:
    """A number for each identity; each image of unknown identity (empty) is a cluster of its own.

    >>> cluster_codes(["bob", "", "ann", "bob", ""]).tolist()
    [1, 2, 0, 1, 3]
    """
    people = {name: code for code, name in enumerate(sorted({*identity} - {""}))}
    codes = np.array([people.get(name, -1) for name in identity], np.int64)
    codes[codes < 0] = len(people) + np.arange(int(np.sum(codes < 0)))
    return codes


def straddling(codes: NDArray[np.int8], cluster: NDArray[np.int64]) -> int:
    """How many clusters have images in more than one split: each is a leak of the audit.

    >>> straddling(np.array([0, 0, 2], np.int8), np.array([5, 6, 5]))
    1
    """
    pairs = np.unique(np.stack([cluster, codes.astype(np.int64)]), axis=1)
    return int(np.sum(np.unique(pairs[0], return_counts=True)[1] > 1))


def check_sizes(
    codes: NDArray[np.int8], rule: str, remedy: str = "add images, or give the splits in meta.csv"
) -> dict[str, int]:
    """Images in each split by name.

    Args:
        codes: The split of each image.
        rule: How they were split, in words, for the message.
        remedy: What the user can do when a split is too small.

    Raises:
        DataError: A split has fewer than 2 images.
    """
    counts = {name: int(np.sum(codes == code)) for code, name in enumerate(SPLIT_NAMES)}
    for name, count in counts.items():
        if count < 2:
            shown = {"probe": "P (probe)", "test": "E (test)"}.get(name, name)
            raise DataError(
                f"the {shown} split has {count} of {len(codes):,} images, by {rule};"
                f" each split needs at least 2: {remedy}"
            )
    return counts


def constant_labels(dataset: Dataset) -> tuple[str, ...]:
    """The labels with at most one known value among these images: nothing can be learnt or measured of them.

    >>> target = np.array([[1, 0, -1], [1, 1, -1]], np.int8)
    >>> rows = np.arange(2)
    >>> pixels = np.zeros((2, 8, 8, 3), np.uint8)
    >>> constant_labels(Dataset(pixels, rows, target, rows, np.array(["a", "b"]), ("Face", "Male", "Old")))
    ('Face', 'Old')
    """
    varied = np.any(dataset.target == 0, axis=0) & np.any(dataset.target == 1, axis=0)
    return tuple(name for name, varies in zip(dataset.labels, varied, strict=True) if not varies)
