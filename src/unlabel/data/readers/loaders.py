"""What PyTorch users hold: a DataLoader, and images that are normalised already.

A DataLoader is read through its dataset, in the dataset's order, each image once. So its shuffling, its batch
size and ``drop_last`` change nothing, and the same data give the same source every time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    default_collate,
    default_convert,
)

from unlabel.core.errors import DataError
from unlabel.data.readers.in_memory import Plain, pixels_of

OUTSIDE = 0.5 / 255
"""How far a pixel may lie outside 0 to 1 once a normalisation is undone: rounding, and no more."""


@dataclass(frozen=True)
class LoaderItems:
    """The items of a DataLoader: those that its sampler can draw, in its dataset's order.

    Args:
        dataset: Gives (image, target) by position.
        rows: Positions.
        collate: The loader's own function, called with one item; None where the loader has PyTorch's.
    """

    dataset: Any
    rows: Sequence[int]
    collate: Callable[[list[Any]], Any] | None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int, /) -> Any:
        item = self.dataset[self.rows[index]]
        if self.collate is None:
            return item
        batch = self.collate([item])
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise DataError(
                f"the collate_fn of a DataLoader returned {type(batch).__name__}; expected (images, targets)"
            )
        return batch[0][0], batch[1][0]


@dataclass(frozen=True)
class Restored:
    """Items whose images were normalised, as they were before it.

    Args:
        items: Gives (image, target) by position.
        mean: Red, green and blue that were taken off.
        std: What the rest was divided by.
        name: Of the split, for errors.
    """

    items: Any
    mean: Sequence[float]
    std: Sequence[float]
    name: str

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int, /) -> Any:
        item = self.items[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            return item  # refused by who reads it
        where = f"image {index} of {self.name}"
        return restored(pixels_of(item[0])[None], self.mean, self.std, where)[0], item[1]


def plain_splits(
    splits: Mapping[str, Any],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    *,
    normalised: bool,
) -> Mapping[str, Plain]:
    """Splits as `in_memory.load_arrays` takes them: no DataLoader, and images before any normalisation.

    Args:
        splits: Arrays, Datasets or DataLoaders.
        mean: Of red, green and blue; needed where the images are normalised.
        std: Likewise, above 0.
        normalised: Whether the images are (pixel / 255 - mean) / std.

    Raises:
        DataError: A DataLoader's order of images cannot be repeated, or the images do not fit mean and std.
    """
    plain: dict[str, Any] = {
        name: _unloaded(split, name) if isinstance(split, DataLoader) else split
        for name, split in splits.items()
    }
    if not normalised:
        return plain
    assert mean is not None
    assert std is not None
    return {
        name: (restored(pixels_of(split[0]), mean, std, name), *split[1:])
        if isinstance(split, tuple)
        else Restored(split, mean, std, name)
        for name, split in plain.items()
    }


def _unloaded(loader: "DataLoader[Any]", name: str) -> LoaderItems:
    dataset = loader.dataset
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        raise DataError(
            f"{name} is a DataLoader of a stream, whose order cannot be repeated; give a Dataset with len()"
            " and indices, or two arrays"
        )
    collate = None if loader.collate_fn in (None, default_collate, default_convert) else loader.collate_fn
    if collate is not None and loader.batch_sampler is None:
        raise DataError(
            f"{name} is a DataLoader without batches and with its own collate_fn; give its dataset"
        )
    return LoaderItems(dataset, _rows(loader, name), collate)


def _rows(loader: "DataLoader[Any]", name: str) -> Sequence[int]:
    """The positions that a loader can draw, in order."""
    sampler, count = loader.sampler, len(loader.dataset)  # type: ignore[arg-type]
    own_batches = loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler
    if not own_batches and type(sampler) is SequentialSampler:
        return range(count)
    whole = type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == count
    if not own_batches and whole:
        return range(count)
    if not own_batches and type(sampler) is SubsetRandomSampler:
        return sorted(int(row) for row in sampler.indices)
    kind = type(loader.batch_sampler if own_batches else sampler).__name__
    raise DataError(
        f"{name} is a DataLoader with a {kind}, which may draw an image twice or never; give its dataset, or"
        " torch.utils.data.Subset(dataset, rows)"
    )


def restored(
    images: NDArray[Any], mean: Sequence[float], std: Sequence[float], where: str
) -> NDArray[np.uint8]:
    """Normalised images as 8-bit ones: ``image * std + mean``, rounded.

    Args:
        images: Floating, (image, side, side, 3) or (image, 3, side, side); the axes stay where they are.
        mean: Red, green and blue.
        std: Red, green and blue, above 0.
        where: The split, or the image, for errors.

    Raises:
        DataError: They are no floating images of three channels, or leave 0 to 1.

    Example:
        >>> restored(np.array([[[[-1.0, 0.0, 1.0]]]]), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "train").tolist()
        [[[[0, 128, 255]]]]
    """
    last, first = images.shape[-1:] == (3,), images.ndim == 4 and images.shape[1] == 3
    if not np.issubdtype(images.dtype, np.floating) or images.ndim != 4 or not (last or first):
        raise DataError(
            f"{where} has images of type {images.dtype} and shape {images.shape[1:]}; expected floating ones"
            " of three channels, since they are said to be normalised: leave out normalised=True"
        )
    shape = (1, 1, 1, 3) if last else (1, 3, 1, 1)
    pixels = images * np.reshape(std, shape) + np.reshape(mean, shape)
    low, high = float(np.min(pixels, initial=0.0)), float(np.max(pixels, initial=0.0))
    if not (low >= -OUTSIDE and high <= 1.0 + OUTSIDE):
        raise DataError(
            f"{where} has pixels from {low:.3g} to {high:.3g} once mean= and std= are undone; expected 0 to"
            " 1: name the mean and std by which these images were normalised"
        )
    return np.rint(pixels * 255.0).astype(np.uint8)
