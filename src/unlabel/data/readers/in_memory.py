"""Images that the caller holds: arrays, or any torch Dataset of (image, targets).

::

    load(train=(images, targets), probe=..., test=..., labels=["Male", "Young"])

Everything is checked here, at the edge, and copied into one uint8 array. Nothing is resized. `loaders` turns
DataLoaders and normalised images into these.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader

from unlabel.core.errors import DataError, LabelMismatch, OptionError
from unlabel.core.framing import SIDES
from unlabel.core.progress import Log
from unlabel.data.dataset import Source
from unlabel.data.images.cache import Decoded
from unlabel.data.images.depth import DEEP_MODES, to_rgb
from unlabel.data.images.unreadable import Unreadable
from unlabel.data.readers.assemble import Annotations, Wording, source_of_images
from unlabel.data.splits import GIVEN_NAMES, SPLIT_NAMES

MOST_BYTES = 2**34
"""Pixels of all splits together; more belongs on a disk."""

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
"""Kinds of PIL images with 8 bits a channel or fewer."""

_CHUNK = 256


class Items(Protocol):
    """A torch Dataset: it has a length, and each item is (image, targets)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


Plain: TypeAlias = tuple[Any, Any] | Items
"""One split: images and targets as two arrays, or a torch Dataset of (image, targets)."""

Images: TypeAlias = Plain | DataLoader[Any]
"""What callers may give: that, or a DataLoader of such a Dataset, see `loaders`."""


@dataclass(frozen=True)
class _Part:
    """One split: its name, its number of images, and what reads some of them with their targets."""

    name: str
    count: int
    read: Callable[[range], tuple[NDArray[np.uint8], NDArray[np.int8]]]


def load_arrays(
    splits: Mapping[str, Plain],
    labels: Sequence[str],
    identities: Mapping[str, Sequence[Any]] | None,
    log: Log,
) -> Source:
    """The source that images in memory make.

    Images have sides of 16 to 512 pixels, all of one size: uint8, uint16 or floating from 0 to 1, as (image,
    height, width, 3) or (image, 3, height, width), or with one channel; of a torch Dataset, PIL images too.
    Images of 16 bits are divided by 257, floating ones multiplied by 255. Targets are 1 present, 0 absent, -1
    unknown, (image, label); or class numbers, (image,), from 0.

    Args:
        splits: ``train``, ``probe`` (P, for the attackers) and ``test`` (E, for the figures).
        labels: Names of the target's columns, or of the classes.
        identities: By split, whose image each one is: any text or number, None where that is unknown.
        log: Receives progress and remarks.

    Raises:
        OptionError: Labels or identities do not fit.
        DataError: Images are not as described, or too many.
        LabelMismatch: Targets are not as described.
    """
    names = _label_names(labels)
    held_splits = [_part(name, splits[name], names) for name in SPLIT_NAMES]
    whose = _identities(identities or {}, {part.name: part.count for part in held_splits})
    total = sum(part.count for part in held_splits)
    pixels: NDArray[np.uint8] | None = None
    target = np.empty((total, len(names)), np.int8)
    at = 0
    with log.track("read images", total, "images") as advance:
        for part in held_splits:
            for start in range(0, part.count, _CHUNK):
                rows = range(start, min(start + _CHUNK, part.count))
                chunk, codes = part.read(rows)
                pixels = _room(total, chunk.shape[1:3]) if pixels is None else pixels
                if chunk.shape[1:3] != pixels.shape[1:3]:
                    raise _sizes(part.name, {chunk.shape[1:3], pixels.shape[1:3]})
                pixels[at : at + len(rows)], target[at : at + len(rows)] = chunk, codes
                at += len(rows)
                advance(len(rows))
    if pixels is None:
        raise DataError("found no image in train, probe and test; give at least 2 images for each")
    pixels.flags.writeable = False
    annotations = Annotations(
        names,
        [f"{part.name}/{row:06}" for part in held_splits for row in range(part.count)],
        target,
        [given for part, given in zip(held_splits, GIVEN_NAMES, strict=True) for _ in range(part.count)],
        whose,
    )
    wording = Wording("train, probe and test", "them", "identities", "the caller", "give more images")
    decoded = Decoded(pixels, {}, hashlib.sha256(pixels.data).hexdigest())
    facts = {"split_rule": "given by the caller as train, probe (P) and test (E)"}
    return source_of_images("arrays", annotations, decoded, wording, facts, log=log)


def _label_names(labels: Sequence[str]) -> tuple[str, ...]:
    for name in labels:
        if not isinstance(name, str) or not name or not name.isprintable():
            raise OptionError(f"labels holds {name!r}; expected printable names, one a column of the targets")
    return tuple(labels)


def _identities(given: Mapping[str, Sequence[Any]], counts: Mapping[str, int]) -> list[str]:
    """Whose each image is, in the order of the splits; empty where that is unknown."""
    for name, values in given.items():
        if name not in counts:
            raise OptionError(f"identities names the split {name!r}; expected {', '.join(counts)}")
        if len(values) != counts[name]:
            raise OptionError(
                f"identities has {len(values):,} values for {counts[name]:,} images of {name};"
                " give one for each image, None where it is unknown"
            )
    whose: list[str] = []
    for name, count in counts.items():
        values = given.get(name, [None] * count)
        whose += ["" if value is None else str(value) for value in np.asarray(values, object)]
    return whose


def _room(total: int, sides: tuple[int, ...]) -> NDArray[np.uint8]:
    """The array that all images go into."""
    height, width = sides
    size = total * height * width * 3
    if size > MOST_BYTES:
        raise DataError(
            f"{total:,} images of {height} x {width} pixels are {size / 2**30:.0f} GiB; expected at most"
            f" {MOST_BYTES / 2**30:.0f} GiB in memory: give fewer, or put them into a folder and load"
            " 'folder:PATH'"
        )
    return np.empty((total, height, width, 3), np.uint8)


def _part(name: str, split: Plain, labels: tuple[str, ...]) -> _Part:
    if isinstance(split, tuple):
        return _part_of_arrays(name, split, labels)
    if not hasattr(split, "__getitem__") or isinstance(split, str | Mapping):
        raise DataError(
            f"{name} is a {type(split).__name__}; expected (images, targets), or a torch Dataset of"
            " (image, targets)"
        )
    try:
        count = len(split)
    except TypeError as error:
        raise DataError(
            f"{name} is a {type(split).__name__} without a length; expected a Dataset with len() and indices"
        ) from error

    def read(rows: range) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
        items = [_item(split[row], f"image {row} of {name}") for row in rows]
        sizes = {image.shape[:2] for image, _ in items}
        if len(sizes) > 1:
            raise _sizes(name, sizes)
        codes = [
            _codes(answer, labels, f"image {row} of {name}")
            for row, (_, answer) in zip(rows, items, strict=True)
        ]
        return np.stack([image for image, _ in items]), np.concatenate(codes)

    return _Part(name, count, read)


def _part_of_arrays(name: str, split: tuple[Any, ...], labels: tuple[str, ...]) -> _Part:
    if len(split) != 2:
        raise DataError(f"{name} is a tuple of {len(split)}; expected two arrays, (images, targets)")
    images, targets = split
    shapes = [tuple(getattr(value, "shape", None) or np.shape(value)) for value in split]
    if len(shapes[0]) != 4 or not shapes[1] or shapes[0][0] != shapes[1][0]:
        raise DataError(
            f"{name} has images of shape {shapes[0]} and targets of shape {shapes[1]}; expected (image,"
            " height, width, 3) or (image, 3, height, width), and one row of targets an image"
        )

    def read(rows: range) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
        taken = slice(rows.start, rows.stop)
        codes = _codes(pixels_of(targets[taken]), labels, f"a row of {name}")
        return _bytes(pixels_of(images[taken]), name), codes

    return _Part(name, shapes[0][0], read)


def _item(item: Any, where: str) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """One image as uint8 (height, width, 3), and its targets as one row, or one class number."""
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise DataError(f"{where} is a {type(item).__name__}; expected a pair (image, targets)")
    image, answer = item
    if isinstance(image, Image.Image):
        image = np.asarray(_rgb(image, where))
    image, answer = pixels_of(image), pixels_of(answer)
    if image.ndim != 3 or answer.ndim > 1:
        raise DataError(
            f"{where} has shape {image.shape} and targets of shape {answer.shape}; expected (height,"
            " width, 3) or (3, height, width), and a row of targets or one class number"
        )
    return _bytes(image[None], where)[0], answer[None]


def _rgb(image: Image.Image, where: str) -> Image.Image:
    if image.mode not in MODES and image.mode.split(";")[0] not in DEEP_MODES:
        raise DataError(f"{where} has the mode {image.mode}; convert it to RGB first")
    try:
        return to_rgb(image)[0]
    except Unreadable as error:
        raise DataError(f"{where} has the mode {image.mode}: {error}") from error


def pixels_of(value: Any) -> NDArray[Any]:
    """Images or targets as an array of numpy; tensors come from their device."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return (value.float() if value.is_floating_point() else value).numpy()
    return np.asarray(value)


def _bytes(images: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Images as uint8 (image, height, width, 3)."""
    if images.shape[-1] not in (1, 3) and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    height, width, channels = images.shape[1:]
    if channels not in (1, 3):
        raise DataError(
            f"{where} has images of shape {images.shape[1:]}; expected three channels or one, first or last"
        )
    low, high = SIDES
    if not (low <= height <= high and low <= width <= high):
        raise DataError(
            f"{where} has images of {height} x {width} pixels; expected sides of {low} to {high} pixels: crop"
            " or resize them first, since nothing is resized here"
        )
    return np.repeat(_eight_bits(images, where), 3 // channels, axis=3)


def _eight_bits(images: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """The same images as uint8."""
    if images.dtype == np.uint8:
        return images
    if images.dtype == np.uint16:
        return np.rint(images / np.float32(257)).astype(np.uint8)
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(
            f"{where} has images of type {images.dtype}; expected uint8, uint16, or floating from 0 to 1"
        )
    low, high = float(np.min(images)), float(np.max(images))
    if not (low >= 0.0 and high <= 1.0):
        raise DataError(
            f"{where} has floating pixels from {low:g} to {high:g}; expected 0 to 1: give images as they are"
            " before normalisation, and name mean= and std="
        )
    return np.rint(images * 255.0).astype(np.uint8)


def _codes(answers: NDArray[Any], labels: tuple[str, ...], where: str) -> NDArray[np.int8]:
    """Targets as int8 (image, label); class numbers (image,) as one present label an image."""
    if answers.dtype.kind not in "biuf":
        raise LabelMismatch(f"{where} has targets of type {answers.dtype}; expected the numbers 1, 0 and -1")
    if answers.ndim == 1:
        whole = answers.dtype.kind in "iu"
        if not whole or len(labels) < 3 or not np.all((answers >= 0) & (answers < len(labels))):
            raise LabelMismatch(
                f"{where} has the target {answers[0]!s} for {len(labels)} labels; expected a row of 1, 0 and"
                f" -1, one a label, or a class number from 0 to {max(len(labels) - 1, 2)}"
            )
        return (answers[:, None] == np.arange(len(labels))).astype(np.int8)
    if answers.shape[1:] != (len(labels),):
        raise LabelMismatch(
            f"{where} has targets of shape {answers.shape[1:]} for {len(labels)} labels; expected one a"
            " label, in the order of labels="
        )
    odd = answers[~np.isin(answers, (-1, 0, 1))]
    if odd.size:
        raise LabelMismatch(
            f"{where} has the target {odd[0]:g}; expected 1 (present), 0 (absent) or -1 (unknown)"
        )
    return answers.astype(np.int8)


def _sizes(name: str, found: set[tuple[int, ...]]) -> DataError:
    small, *_, large = (f"{height} x {width}" for height, width in sorted(found))
    return DataError(
        f"{name} has images of {large} pixels beside others of {small}; expected one"
        " size: resize them first, since nothing is resized here"
    )
