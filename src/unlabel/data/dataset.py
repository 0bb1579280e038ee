"""The shape that all data takes: decoded pixels, label columns, and whose face it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unlabel.core.errors import LabelMismatch
from unlabel.core.framing import Frame, Size
from unlabel.core.request import as_names, spelt
from unlabel.core.wording import suggest
from unlabel.data.texts import Names


@dataclass(frozen=True)
class Photos:
    """The files of images: row i of their pixels is what the i-th name was decoded to.

    Args:
        folder: The folder that the names are relative to.
        names: Of the readable files.
        frame: To which they were brought.
    """

    folder: Path
    names: Sequence[str]
    frame: Frame


Colours: TypeAlias = tuple[float, ...]
"""A number for red, green and blue; or one, for grey."""


class Pixels(Protocol):
    """Pixels of images: uint8 (image, height, width, 3).

    A numpy array has this form, in memory or mapped from a file. So has `images.on_access.Decoding`, which
    decodes the images that are asked for. Nothing else of an array may be used.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(image, height, width, 3)."""
        ...

    def __getitem__(self, rows: NDArray[np.integer], /) -> NDArray[np.uint8]:
        """Pixels of some rows, (row,), in their order; several threads may ask at once."""
        ...


@dataclass(frozen=True, repr=False)
class Dataset:
    """Images of one split, as bytes, with their labels.

    Args:
        pixels: uint8 (image, height, width, 3) of the *whole* source: an array, usually memory-mapped, or
            what decodes them when they are asked for. `images` reads them.
        rows: int64 (n,) positions of this split's images in `pixels`. They key all per-sample
            randomness, so an image is augmented alike in every subset it appears in.
        target: int8 (n, label): 1 present, 0 absent, -1 unknown.
        cluster: int64 (n,) identity of each image; images of one identity are not independent.
            Every image is its own cluster where no identity is known.
        ids: Image names (n,), for messages and exports: of numpy, or `Names` where there may be millions.
        labels: Names of the target's columns.
        mean: Red, green and blue in [0, 1]; a network gets (pixel / 255 - mean) / std. One number: the
            network reads grey, one channel.
        std: Likewise, > 0.
        exclusive: Whether the labels are the classes of a single-label problem: at most one is present in
            an image, and a network answers by a softmax over them.
    """

    pixels: Pixels
    rows: NDArray[np.int64]
    target: NDArray[np.int8]
    cluster: NDArray[np.int64]
    ids: NDArray[np.str_] | Names
    labels: tuple[str, ...]
    mean: Colours = (0.5, 0.5, 0.5)
    std: Colours = (0.25, 0.25, 0.25)
    exclusive: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        """Short: how many images of what size, and how many labels."""
        kind = "classes" if self.exclusive else "labels"
        size = " x ".join(str(side) for side in self.pixels.shape[1:3])
        return f"Dataset({len(self):,} images of {size} pixels, {len(self.labels):,} {kind})"

    @property
    def image_size(self) -> Size:
        """Height and width of the images in pixels: one number for squares."""
        height, width = (int(side) for side in self.pixels.shape[1:3])
        return height if height == width else (height, width)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Of one image as a network gets it: (channel, height, width)."""
        return len(self.mean), int(self.pixels.shape[1]), int(self.pixels.shape[2])

    def images(self, index: NDArray[np.integer] | slice) -> NDArray[np.uint8]:
        """Pixels of some positions of this split, uint8 (n, height, width, 3)."""
        return self.pixels[self.rows[index]]

    def take(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> "Dataset":
        """The images at these positions, sharing the pixels."""
        return replace(
            self,
            rows=self.rows[index],
            target=self.target[index],
            cluster=self.cluster[index],
            ids=self.ids[index],
        )

    def with_labels(self, labels: str | Sequence[str]) -> "Dataset":
        """The same images with this label column, or these in this order.

        Raises:
            LabelMismatch: A label has no column here.
        """
        labels = spelt(as_names(labels), self.labels)
        column = {name: number for number, name in enumerate(self.labels)}
        for name in labels:
            if name not in column:
                raise LabelMismatch(
                    f"the data has no label column '{name}' among its {len(self.labels)}."
                    f"{suggest(name, self.labels)} Name columns of the data, or use the data the"
                    " model was trained on"
                )
        return replace(self, target=self.target[:, [column[name] for name in labels]], labels=labels)

    def answerable(self, columns: Sequence[int]) -> "Dataset":
        """Of exclusive classes, the images whose class is among these columns; otherwise all images.

        An image of a class that is masked out has no annotation left: for a network that must never have
        been shown the class, it is not there. An image always keeps its other *labels*.
        """
        return self.take((self.target[:, list(columns)] == 1).any(1)) if self.exclusive else self

    def prior(self, column: int) -> float:
        """Share of present among the known targets of a column, with one imagined image of each kind."""
        column_target = self.target[:, column]
        return float((np.sum(column_target == 1) + 1) / (np.sum(column_target >= 0) + 2))


def one_hot(target: NDArray[np.int8]) -> bool:
    """Whether the labels are classes: three or more, exactly one present in every image, none unknown.

    >>> one_hot(np.array([[1, 0, 0], [0, 0, 1]], np.int8)), one_hot(np.array([[1, 0, 1]], np.int8))
    (True, False)
    """
    return target.shape[1] >= 3 and bool(np.all(target >= 0) and np.all(target.sum(1) == 1))


@dataclass(frozen=True, repr=False)
class Source:
    """A data set, split for training and auditing; no identity is in two splits.

    Args:
        name: The string that `load` reads again, such as ``faces`` or ``folder:PATH``.
        train: Images a model may be trained on.
        probe: P, on which the audit's attacks are trained.
        test: E, on which every reported figure is computed.
        facts: JSON-plain record of how it was read: ``split_rule``, ``identities`` (known or not),
            ``counts``, ``ignored_files``, ``skipped_bad``, ``digest`` of pixels and targets ...
        folder: What the images' names are relative to, where each image is a file below one folder.
        photos: The files of the images, in the order of `Dataset.pixels`; None where they are no files.
    """

    name: str
    train: Dataset
    probe: Dataset
    test: Dataset
    facts: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    photos: Photos | None = None

    def __repr__(self) -> str:
        """Short: the name, images to train, probe and test on, and how many labels."""
        counts = "/".join(f"{len(part):,}" for part in (self.train, self.probe, self.test))
        kind = "classes" if self.train.exclusive else "labels"
        return f"Source({self.name!r}, {counts} images, {len(self.labels):,} {kind})"

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the label columns."""
        return self.train.labels

    def with_labels(self, labels: str | Sequence[str]) -> "Source":
        """The same source with these label columns in this order."""
        return replace(
            self,
            train=self.train.with_labels(labels),
            probe=self.probe.with_labels(labels),
            test=self.test.with_labels(labels),
        )

    def normalised(self, mean: Colours, std: Colours) -> "Source":
        """The same source for a network that wants this normalisation."""
        return replace(
            self,
            train=replace(self.train, mean=mean, std=std),
            probe=replace(self.probe, mean=mean, std=std),
            test=replace(self.test, mean=mean, std=std),
        )
