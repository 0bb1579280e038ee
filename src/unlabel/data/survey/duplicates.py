"""Images that are there twice: equal pixels, and pictures that look almost alike.

An audit measures on images that no model was trained on. If a test image is in the training split too, a
model may know its labels by heart, so what the audit measures is too good.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabel.core.progress import SILENT, Log
from unlabel.data.dataset import Dataset, Source

NEAR = 4
"""Bits of 64 in which the hashes of two pictures that look almost alike may differ."""

FLAT = 2.0
"""Grey levels: a picture with a smaller standard deviation has no shapes, and gets no hash."""

MOST_PAIRS = 2_000_000
"""Pairs of pictures that look alike: the search ends there, and says so."""

ALIKE = 0.97
"""Correlation of the grey blocks of two pictures that look almost alike."""

TINT, CONTRAST = 24.0, 0.25
"""How much red less green, or blue less green, may differ in a sixteenth of such a picture: so many levels of
255, and a part of itself, as less contrast makes colours paler."""

_SIDE, _KEPT, _BLOCKS, _TINTED = 32, 8, 16, 4
_BANDS = ((0, 13), (13, 26), (26, 39), (39, 52), (52, 64))
_EXAMPLES = 5
_CHUNK = 512
_WORDS = {"train": "training", "probe": "probe", "test": "test"}


def picture_hashes(part: Dataset) -> list[bytes]:
    """A digest of the pixels of each image."""
    return [
        hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
        for chunk in _chunks(part)
        for image in chunk
    ]


def shared_pictures(source: Source) -> str | None:
    """Whether images of one split are also in another, pixel for pixel, in a sentence; None if not.

    Args:
        source: Its three splits. Of most images a few pixels are read, so this is fast.
    """
    suspects = _suspects({"train": source.train, "probe": source.probe, "test": source.test})
    hashes = {name: picture_hashes(part) for name, part in suspects.items()}
    told = []
    for first, second in combinations(suspects, 2):
        there = dict(zip(hashes[first], suspects[first].ids, strict=True))
        same = [at for at, digest in enumerate(hashes[second]) if digest in there]
        if same:
            twin = there[hashes[second][same[0]]]
            told.append(
                f"{len(same):,} images of the {_WORDS[second]} split are in the {_WORDS[first]} split too"
                f" (such as {str(suspects[second].ids[same[0]])!r}, which is {str(twin)!r})"
            )
    if not told:
        return None
    return (
        f"{'; '.join(told)}, pixel for pixel. An audit on images that were trained on is optimistic: remove"
        " them, or give both one split. `unlabel data` counts them."
    )


def _suspects(parts: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """The images of which some pixels, 8 x 8 at most, are equal to those of an image in another split."""
    samples: dict[str, list[bytes]] = {}
    for name, part in parts.items():
        down, right = (max(1, side // 8) for side in part.pixels.shape[1:3])
        samples[name] = [
            image[down // 2 :: down, right // 2 :: right].tobytes()
            for chunk in _chunks(part)
            for image in chunk
        ]
    shared = {
        sample
        for first, second in combinations(samples.values(), 2)
        for sample in {*first}.intersection(second)
    }
    return {
        name: part.take(np.array([sample in shared for sample in samples[name]], bool))
        for name, part in parts.items()
    }


def count_duplicates(parts: Mapping[str, Dataset], log: Log = SILENT) -> dict[str, Any]:
    """Counts of equal and of nearly equal pictures, within each split and across each two.

    Two pictures are nearly equal if their perceptual hashes differ in at most `NEAR` of 64 bits, see
    `perceptual_hashes`, their grey values in 16 x 16 blocks correlate by at least `ALIKE`, their colours in
    4 x 4 blocks differ by little (`TINT`), and their pixels are not equal. So a photo is found again that was
    compressed, scaled, made brighter or cut at its edges by little; not one that was mirrored or turned.
    Portraits of one layout share hashes by chance, and a red square on white has the shapes of a blue one,
    hence the further conditions.

    Args:
        parts: The splits by name.
        log: Receives progress.

    Returns:
        ``exact`` and ``near``: ``within`` (split -> images that an earlier one of it equals), ``across``
        (``first/second`` -> images of the second that are in the first) and ``examples``; ``flat``: images
        without a perceptual hash; ``complete``: whether the search came to its end.
    """
    split = np.repeat(np.arange(len(parts)), [len(part) for part in parts.values()])
    ids = [str(name) for part in parts.values() for name in part.ids]
    digests = [digest for part in parts.values() for digest in picture_hashes(part)]
    hashes, flat, coarse, tints = _all_hashes(parts, log)
    exact = _equal_pairs(digests, split)
    picture = np.unique(np.array(digests), return_inverse=True)[1]
    near, complete = near_pairs(np.where(flat, np.uint64(0), hashes), ~flat)
    near = near[(picture[near[:, 0]] != picture[near[:, 1]]) & _alike(coarse, tints, near)]
    names = list(parts)
    return {
        "exact": _counted(exact, split, names, ids),
        "near": _counted(near, split, names, ids),
        "flat": int(flat.sum()),
        "complete": complete,
    }


def _equal_pairs(digests: Sequence[bytes], split: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each image with the first earlier one of the same pixels in each split: all that counts of images need.

    Args:
        digests: Of each image.
        split: Of each image, in rising order.
    """
    firsts: dict[bytes, dict[int, int]] = {}
    pairs: list[tuple[int, int]] = []
    for at, (digest, part) in enumerate(zip(digests, split.tolist(), strict=True)):
        first = firsts.setdefault(digest, {})
        pairs += [(earlier, at) for earlier in first.values()]
        first.setdefault(part, at)
    return np.array(pairs, np.int64).reshape(-1, 2)


def _counted(
    pairs: NDArray[np.int64], split: NDArray[np.int64], names: Sequence[str], ids: Sequence[str]
) -> dict[str, Any]:
    """Images, not pairs: those of which an earlier twin is in the same split, or one in another."""
    first, second = split[pairs[:, 0]], split[pairs[:, 1]]
    within = {name: len(np.unique(pairs[(first == at) & (second == at), 1])) for at, name in enumerate(names)}
    across = {
        f"{names[one]}/{names[two]}": len(np.unique(pairs[(first == one) & (second == two), 1]))
        for one, two in combinations(range(len(names)), 2)
    }
    order = np.argsort(first == second, kind="stable")[:_EXAMPLES]  # those across splits first
    examples = [
        {
            which: {"split": names[int(split[at])], "image": ids[at]}
            for which, at in zip(("first", "second"), pair, strict=True)
        }
        for pair in pairs[order].tolist()
    ]
    return {"within": within, "across": across, "examples": examples}


def _all_hashes(
    parts: Mapping[str, Dataset], log: Log
) -> tuple[NDArray[np.uint64], NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
    """Hash of each image, whether it is too flat to have one, and its `_blocks` and `_tints`."""
    hashes, flat, coarse, tints = [], [], [], []
    with log.track("compare", sum(map(len, parts.values())), "images") as advance:
        for part in parts.values():
            for chunk in _chunks(part):
                made = perceptual_hashes(chunk)
                hashes.append(made[0])
                flat.append(made[1])
                coarse.append(_blocks(chunk))
                tints.append(_tints(chunk))
                advance(len(chunk))
    return np.concatenate(hashes), np.concatenate(flat), np.concatenate(coarse), np.concatenate(tints)


def _chunks(part: Dataset) -> Iterator[NDArray[np.uint8]]:
    """The pixels of a split, some images at a time."""
    return (part.images(slice(start, start + _CHUNK)) for start in range(0, len(part), _CHUNK))


def _blocks(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean grey values in 16 x 16 blocks, float32 (image, 256), centred and scaled to length 1."""
    means = _block_means(_grey(pixels), _BLOCKS)
    means -= means.mean(axis=1, keepdims=True)
    length = np.linalg.norm(means, axis=1, keepdims=True)
    return (means / np.maximum(length, 1e-6)).astype(np.float32)


def _tints(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean of red less green and of blue less green in 4 x 4 blocks, float32 (image, 32)."""
    colour = pixels.astype(np.float32)
    parts = [_block_means(colour[..., channel] - colour[..., 1], _TINTED) for channel in (0, 2)]
    return np.concatenate(parts, axis=1)


def _block_means(plane: NDArray[np.float32], blocks: int) -> NDArray[np.float32]:
    """Mean of an (image, height, width) plane in square blocks, (image, block)."""
    rows, columns = _averaging(plane.shape[1], blocks), _averaging(plane.shape[2], blocks)
    return np.einsum("kh,nhw,lw->nkl", rows, plane, columns, optimize=True).reshape(len(plane), -1)


def _alike(
    coarse: NDArray[np.float32], tints: NDArray[np.float32], pairs: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which pairs correlate by at least `ALIKE` and differ little in colour."""
    alike = []
    for part in np.array_split(pairs, len(pairs) // 10_000 + 1):
        one, two = part.T
        shapes = np.einsum("ij,ij->i", coarse[one], coarse[two]) >= ALIKE
        room = TINT + CONTRAST * np.maximum(np.abs(tints[one]), np.abs(tints[two]))
        alike.append(shapes & (np.abs(tints[one] - tints[two]) <= room).all(1))
    return np.concatenate(alike)


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def perceptual_hashes(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """A hash of 64 bits of each image's coarse shapes, and which images are too flat to have one.

    The image becomes grey and 32 x 32 by averaging; of its cosine transform, the 8 x 8 lowest frequencies
    without the mean are kept; a bit says whether one is above the median of them. Brightness, contrast,
    scale and compression change few bits.

    Args:
        pixels: uint8 (image, height, width, 3), at least 8 pixels high and wide.

    Returns:
        uint64 (image,) and bool (image,).
    """
    grey = _grey(pixels)
    flat = grey.std(axis=(1, 2)) < FLAT
    rows, columns = _cosines(grey.shape[1]), _cosines(grey.shape[2])
    low = np.einsum("kh,nhw,lw->nkl", rows, grey, columns, optimize=True).reshape(len(grey), -1)[:, 1:]
    bits = low > np.median(low, axis=1, keepdims=True)
    weights = np.uint64(1) << np.arange(bits.shape[1], dtype=np.uint64)
    return (bits * weights).sum(axis=1, dtype=np.uint64), flat


def _cosines(length: int) -> NDArray[np.float32]:
    """The lowest frequencies of the cosine transform of pixels that are first averaged to 32 blocks."""
    averaging = _averaging(length, _SIDE)
    blocks = len(averaging)
    frequency, block = np.arange(_KEPT)[:, None], np.arange(blocks)[None]
    return (np.cos(np.pi * frequency * (block + 0.5) / blocks) @ averaging).astype(np.float32)


def _averaging(length: int, blocks: int) -> NDArray[np.float32]:
    """Weights (block, pixel) that average pixels to blocks of equal width; no more blocks than pixels.

    >>> _averaging(4, 2).tolist()
    [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
    """
    blocks = min(blocks, length)
    edges = np.arange(blocks + 1) * length / blocks
    position = np.arange(length)
    left, right = np.maximum(position, edges[:-1, None]), np.minimum(position + 1, edges[1:, None])
    return (np.clip(right - left, 0, None) * blocks / length).astype(np.float32)


def near_pairs(hashes: NDArray[np.uint64], usable: NDArray[np.bool_]) -> tuple[NDArray[np.int64], bool]:
    """The pairs of images, by position, whose hashes differ in at most `NEAR` bits.

    Of five bands of bits, at least one is equal in such a pair, so only images that share a band are
    compared.

    Args:
        hashes: uint64 (image,).
        usable: Which images have a hash.

    Returns:
        int64 (pair, 2), the earlier image first; and whether all pairs were found: see `MOST_PAIRS`.
    """
    close_pairs: list[NDArray[np.int64]] = []
    count = 0
    positions = np.flatnonzero(usable)
    for low, high in _BANDS:
        band = (hashes[positions] >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(band, kind="stable")
        band, index = band[order], positions[order]
        start = np.arange(len(band))
        for step in range(1, len(band)):
            start = start[start + step < len(band)]
            start = start[band[start] == band[start + step]]
            if not len(start):
                break
            one, two = index[start], index[start + step]
            close = _ones(hashes[one] ^ hashes[two]) <= NEAR
            close_pairs.append(np.stack([one[close], two[close]], axis=1))
            count += int(close.sum())
            if count > MOST_PAIRS:
                return np.unique(np.concatenate(close_pairs), axis=0), False
    pairs = np.concatenate(close_pairs) if close_pairs else np.empty((0, 2), np.int64)
    return np.unique(np.sort(pairs, axis=1), axis=0), True


def _ones(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """How many bits of each word are set; numpy counts them from its second version on only.

    >>> _ones(np.array([0, 7, 2**64 - 1], np.uint64)).tolist()
    [0, 3, 64]
    """
    one, two, four = (
        np.uint64(mask) for mask in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F)
    )
    words = words - ((words >> np.uint64(1)) & one)
    words = (words & two) + ((words >> np.uint64(2)) & two)
    words = (words + (words >> np.uint64(4))) & four
    return (words * np.uint64(0x0101010101010101)) >> np.uint64(56)
