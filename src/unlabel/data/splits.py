"""Which images train a model, which train the attacks (P) and which are only measured on (E).

An audit is worth nothing if a face is on both sides of it. So a split is drawn by hashing the identity,
or the image's name where no identity is known: the same on every machine, whatever the order of the rows,
and an image keeps its split when others are added.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError
from unlabel.core.wording import counted, listing
from unlabel.data.dataset import Dataset
from unlabel.data.texts import Coded, Names

TRAIN, PROBE, TEST = 0, 1, 2
SPLIT_NAMES = ("train", "probe", "test")
"""Names of the codes, as in `Source`."""

TRAIN_SET = "T_in"
"""Key of the training images in written files, beside P and E; it cannot change."""

GIVEN_NAMES = ("train", "val", "test")
"""What a split column may say."""

TEST_SHARE, PROBE_SHARE = 0.25, 0.10
"""Shares of E and P where no split is given."""

LEAST_OF_A_KIND = 10
"""Images that have a label, and that lack it, in each split: an attack needs as many."""

PEOPLE = 4
"""People of each kind in P, without whom images cannot be dealt into folds."""

PROBE_SHARE_OF_TRAIN = 0.20
"""Share of the given train split that becomes P where no `val` is left for it."""


def audit_refusal(label: str, probe: Dataset, test: Dataset, train: Dataset) -> str | None:
    """Why an audit of a label is refused on these images, and what to do; None if they are enough.

    Args:
        label: Its name.
        probe, test, train: The splits, with the same labels. If there are no training images, none are asked
            for.
    """
    column = test.labels.index(label)
    splits = {"the probe split": probe, "the test split": test, "the training images": train}
    for name, data in splits.items():
        if data is train and not len(train):
            continue
        for kind, word in ((1, "present"), (0, "absent")):
            rows = data.target[:, column] == kind
            images, people = int(rows.sum()), len(np.unique(data.cluster[rows]))
            if images < LEAST_OF_A_KIND or (data is probe and people < PEOPLE):
                return (
                    f"label '{label}' is {word} in {counted(images, 'image')} of"
                    f" {counted(people, 'identity', 'identities')} in {name}; an audit needs at least"
                    f" {LEAST_OF_A_KIND} images of {PEOPLE} identities: add images, or give other splits in"
                    " meta.csv"
                )
    return None


def hash_fraction(text: str) -> float:
    """A number in [0, 1) from the first 8 bytes of the text's SHA-256: stable across machines.

    >>> [round(hash_fraction(name), 3) for name in ("ann", "bob", "cy")]
    [0.287, 0.507, 0.239]
    """
    return float(hash_fractions([text])[0])


def hash_fractions(texts: Iterable[str]) -> NDArray[np.float64]:
    """`hash_fraction` of many texts, float64 (n,)."""
    starts = b"".join(sha256(text.encode("utf-8", "surrogatepass")).digest()[:8] for text in texts)
    return (np.frombuffer(starts, ">u8") >> np.uint64(11)).astype(np.float64) * 2.0**-53


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
        DataError: Some images have a split and some do not, all are of train, or a split is unknown.

    Example:
        >>> codes, rule = assign_splits(["a", "b", "c"], ["ann", "", "ann"], ["train", "val", "test"])
        >>> codes.tolist(), rule
        ([0, 1, 2], 'the split column: test is E, val is P')
    """
    names, who, split = Names.of(ids), Coded.of(identity), Coded.of(given)
    if unknown := sorted(split.used() - {"", *GIVEN_NAMES}):
        raise DataError(f"found split {unknown[0]!r}; expected train, val or test")
    has_split, by = split.known(), _hashed_by(who)
    if not np.any(has_split):
        hashed = _hashes(names, who)
        codes = np.select(
            [hashed < 1 - TEST_SHARE - PROBE_SHARE, hashed < 1 - TEST_SHARE], [TRAIN, PROBE], TEST
        )
        return codes.astype(np.int8), f"no split column: 65 % train, 10 % P and 25 % E by hash of {by}"
    without = np.flatnonzero(~has_split)
    if len(without):
        raise DataError(
            f"{len(without):,} of {len(ids):,} images have no split"
            f" ({listing([repr(name) for name in names[without]], 3)})"
            " although others do; give every image train, val or test, or leave out the split column"
        )
    if split.used() == {"train"}:
        raise DataError(
            f"found train alone as the split of all {len(ids):,} images, by {giver}, so none is left to"
            " measure on; call some of them test, and others val if you like, or give no splits: then a hash"
            " draws them"
        )
    column = np.array([GIVEN_NAMES.index(text) if text else -1 for text in split.texts], np.int8)[split.codes]
    if {"test", "val"} <= split.used():
        return np.array([TRAIN, PROBE, TEST], np.int8)[column], f"{giver}: test is E, val is P"
    codes = np.select([column != 0, _hashes(names, who) < PROBE_SHARE_OF_TRAIN], [TEST, PROBE], TRAIN)
    measured, absent = ("test", "val") if "test" in split.used() else ("val", "test")
    rule = f"{giver} without {absent}: {measured} is E, and 20 % of train by hash of {by} is P"
    return codes.astype(np.int8), rule


def _hashes(names: Names, identity: Coded) -> NDArray[np.float64]:
    """The hash fraction of each image's identity, or of its name where that is unknown."""
    hashed = hash_fractions(identity.texts)[identity.codes]
    unknown = np.flatnonzero(~identity.known())
    hashed[unknown] = hash_fractions(names[unknown])
    return hashed


def _hashed_by(identity: Coded) -> str:
    """What the hash is taken of, in words."""
    known = identity.known()
    if not np.any(known):
        return "image_id"
    return "identity" if np.all(known) else "identity, or image_id where that is unknown"


def cluster_codes(identity: Sequence[str]) -> NDArray[np.int64]:
    """A number for each identity; each image of unknown identity (empty) is a cluster of its own.

    >>> cluster_codes(["bob", "", "ann", "bob", ""]).tolist()
    [1, 2, 0, 1, 3]
    """
    coded = Coded.of(identity)
    people = sorted(coded.used() - {""})
    rank = {name: code for code, name in enumerate(people)}
    codes = np.array([rank.get(text, -1) for text in coded.texts], np.int64)[coded.codes]
    codes[codes < 0] = len(people) + np.arange(int(np.sum(codes < 0)))
    return codes


def straddling(codes: NDArray[np.int8], cluster: NDArray[np.int64]) -> int:
    """How many clusters have images in more than one split: each is a leak of the audit.

    >>> straddling(np.array([0, 0, 2], np.int8), np.array([5, 6, 5]))
    1
    """
    pairs = np.unique(cluster * len(SPLIT_NAMES) + codes) // len(SPLIT_NAMES)
    return int(np.sum(np.unique(pairs, return_counts=True)[1] > 1))


def check_sizes(
    codes: NDArray[np.int8],
    rule: str,
    remedy: str = "add images, or give the splits in meta.csv",
    identities: int = 0,
) -> dict[str, int]:
    """Images in each split by name.

    Args:
        codes: The split of each image.
        rule: How they were split, in words, for the message.
        remedy: What the user can do when a split is too small.
        identities: How many are known; each stays in one split.

    Raises:
        DataError: A split has fewer than 2 images.
    """
    counts = {name: int(np.sum(codes == code)) for code, name in enumerate(SPLIT_NAMES)}
    for name, count in counts.items():
        if count < 2:
            shown = {"probe": "P (probe)", "test": "E (test)"}.get(name, name)
            of = (
                f" of {counted(identities, 'identity', 'identities')}, which stay whole" if identities else ""
            )
            raise DataError(
                f"the {shown} split has {count} of {len(codes):,} images{of}, by {rule};"
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
