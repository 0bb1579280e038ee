"""CIFAR-10, MNIST and SVHN: small images of ten classes, in the files that torchvision leaves on a disk.

An image has exactly one class, so the labels are exclusive and a network answers by a softmax over them. The
given test part is E; P is a fifth of the training part.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import DataError, OptionError
from unlabel.core.wording import suggest
from unlabel.data.dataset import Source
from unlabel.data.images.arrays import resized
from unlabel.data.options import DEFAULTS, ReadOptions
from unlabel.data.readers.assemble import Annotations, Wording, named_folder, source_of_images
from unlabel.data.readers.cifar import read_batch
from unlabel.data.readers.digits import read_idx, read_svhn
from unlabel.data.readers.origins import CIFAR10, MNIST, SVHN, Origin
from unlabel.data.readers.tables import chosen_labels

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images uint8 (image, height, width[, 3]) and their classes int64 (image,)."""

_NOTE = "No groups of related images are known: each image counts by itself, so intervals may be too narrow."
_WORDING = Wording(splits="its own parts", remedy="use the whole data set")


@dataclass(frozen=True)
class Classes:
    """One data set of exclusive classes.

    Args:
        origin: Where it comes from.
        labels: Names of the classes, in the order of their numbers.
        parts: Reads the training part and the test part from a folder.
    """

    origin: Origin
    labels: tuple[str, ...]
    parts: Callable[[Path], tuple[Part, Part]]


def load_vision(kind: str, path: str, options: ReadOptions = DEFAULTS) -> Source:
    """Reads a data set of `VISION` with its own test part as E.

    Args:
        kind: ``cifar10``, ``mnist`` or ``svhn``.
        path: The folder of its files, or the one above.
        options: See `ReadOptions`; 32 pixels by default, to which
            MNIST's 28 are resized.

    Raises:
        OptionError: No folder is named, or no such data set is known.
        MissingFiles: The folder or a file is missing.
        LabelMismatch: A wanted class does not exist.
        DataError: A file is malformed.
    """
    if kind not in VISION:
        raise OptionError(f"no data set {kind!r}.{suggest(kind, VISION)} Use one of: {', '.join(VISION)}")
    chosen = VISION[kind]
    root = named_folder(kind, path)
    chosen.origin.check_folder(root)
    names = chosen_labels(chosen.labels, options.labels, chosen.origin.title)
    (images, classes), (test_images, test_classes) = chosen.parts(root)
    ids = [
        f"{part}_{n:05d}" for part, of in (("train", classes), ("test", test_classes)) for n in range(len(of))
    ]
    split = ["train"] * len(classes) + ["test"] * len(test_classes)
    columns = np.array([chosen.labels.index(name) for name in names])
    target = (np.concatenate([classes, test_classes])[:, None] == columns).astype(np.int8)
    annotations = Annotations(names, ids, target, split, [""] * len(ids))
    annotations.splits(_WORDING)
    pixels = resized(
        np.concatenate([images, test_images]),
        options.frame(32),
        kept=options.kept(kind),
        workers=options.workers,
        log=options.log,
    )
    facts = {"identity_note": _NOTE, **chosen.origin.facts}
    return source_of_images(f"{kind}:{root}", annotations, pixels, _WORDING, facts, log=options.log)


def _cifar10(root: Path) -> tuple[Part, Part]:
    inside = ("", "cifar-10-batches-py/")
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    *train, test = (read_batch(CIFAR10.find(root, inside, [name])) for name in names)
    return (np.concatenate([part[0] for part in train]), np.concatenate([part[1] for part in train])), test


def _mnist(root: Path) -> tuple[Part, Part]:
    return _idx_pair(root, "train"), _idx_pair(root, "t10k")


def _idx_pair(root: Path, part: str) -> Part:
    """Images and labels of a part; some copies write the names with a dot, such as images.idx3-ubyte."""
    inside = ("", "MNIST/raw/", "raw/")
    paths = [
        MNIST.find(root, inside, [f"{part}-{what}{ending}" for what in whats for ending in ("", ".gz")])
        for whats in (("images-idx3-ubyte", "images.idx3-ubyte"), ("labels-idx1-ubyte", "labels.idx1-ubyte"))
    ]
    images, labels = read_idx(paths[0], (28, 28)), read_idx(paths[1]).astype(np.int64)
    if len(images) != len(labels):
        raise DataError(
            f"{paths[0]} has {len(images):,} images and {paths[1].name} {len(labels):,} labels;"
            " expected as many: copy both files again"
        )
    if len(labels) and labels.max() > 9:
        raise DataError(f"{paths[1]} has the label {labels.max()}; expected digits from 0 to 9")
    return images, labels


def _svhn(root: Path) -> tuple[Part, Part]:
    train, test = (
        read_svhn(SVHN.find(root, ("", "svhn/", "SVHN/"), [f"{part}_32x32.mat"]))
        for part in ("train", "test")
    )
    return train, test


_DIGITS = tuple(f"digit_{digit}" for digit in range(10))
_OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

VISION: Mapping[str, Classes] = MappingProxyType(
    {
        "cifar10": Classes(CIFAR10, _OBJECTS, _cifar10),
        "mnist": Classes(MNIST, _DIGITS, _mnist),
        "svhn": Classes(SVHN, _DIGITS, _svhn),
    }
)
"""The data sets by the name that stands before the colon of a source."""
