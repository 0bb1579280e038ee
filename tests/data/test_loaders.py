"""DataLoaders and normalised images: the same source as the arrays that they hold."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import unlabel

LABELS = ["top", "middle", "bottom"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (24, 16, 16, 3), np.uint8)
TARGETS = RNG.integers(0, 2, (24, 3))
IMAGES[0, 0, 0], IMAGES[0, 0, 1] = 0, 255  # the whole range comes back


def as_floats(images: np.ndarray, *, normalised: bool = False) -> torch.Tensor:
    """Images as torchvision's ToTensor and Normalize leave them."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    if not normalised:
        return pixels
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def dataset(*, normalised: bool = False) -> TensorDataset:
    """The 24 images as a Dataset."""
    return TensorDataset(as_floats(IMAGES, normalised=normalised), torch.from_numpy(TARGETS))


def loaded(split: Any, **more: Any) -> unlabel.Source:
    """A source whose three splits are this one."""
    return unlabel.load(train=split, probe=split, test=split, labels=LABELS, **more)


def with_noise(items: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """A collate_fn of one's own: items of dictionaries become two tensors."""
    images = torch.stack([item["image"] for item in items])
    return images, torch.stack([item["target"] for item in items])


class Dictionaries(Dataset):
    """Items that only a collate_fn of one's own understands."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"image": as_floats(IMAGES)[index], "target": torch.from_numpy(TARGETS)[index]}


FORMS: dict[str, Callable[[], Any]] = {
    "in order": lambda: DataLoader(dataset(), batch_size=7),
    "shuffled, the last batch dropped": lambda: DataLoader(
        dataset(), batch_size=7, shuffle=True, drop_last=True
    ),
    "without batches": lambda: DataLoader(dataset(), batch_size=None),
    "its own collate_fn": lambda: DataLoader(Dictionaries(), batch_size=7, collate_fn=with_noise),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_loader_gives_the_source_of_its_arrays(form: str) -> None:
    plain, source = loaded((IMAGES, TARGETS)), loaded(FORMS[form]())
    assert source.facts == plain.facts
    assert np.array_equal(source.train.images(slice(None)), IMAGES)
    assert np.array_equal(source.probe.target, TARGETS)


def test_a_loader_of_some_rows_gives_these_and_no_other() -> None:
    rows = [9, 3, 20, 4]
    source = loaded(DataLoader(dataset(), sampler=SubsetRandomSampler(rows)))
    assert np.array_equal(source.test.images(slice(None)), IMAGES[sorted(rows)])


@pytest.mark.parametrize("form", ["arrays", "dataset", "loader"])
def test_a_normalisation_is_undone_exactly(form: str) -> None:
    data = dataset(normalised=True)
    split: Any = {
        "arrays": (as_floats(IMAGES, normalised=True), TARGETS),
        "dataset": data,
        "loader": DataLoader(data, batch_size=5, shuffle=True),
    }[form]
    source = loaded(split, mean=MEAN, std=STD, normalised=True)
    assert np.array_equal(source.train.images(slice(None)), IMAGES)
    assert (source.train.mean, source.train.std) == (MEAN, STD)


class Stream(IterableDataset):
    """Images one after the other."""

    def __iter__(self):
        return iter(dataset())


FAULTS: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "a stream": (lambda: DataLoader(Stream()), {}, "a DataLoader of a stream"),
    "drawn by weight": (
        lambda: DataLoader(dataset(), sampler=WeightedRandomSampler([1.0] * 24, 24)),
        {},
        "a WeightedRandomSampler, which may draw an image twice or never",
    ),
    "some of all": (
        lambda: DataLoader(dataset(), sampler=RandomSampler(dataset(), num_samples=3)), {}, "Subset"
    ),
    "no pair": (
        lambda: DataLoader(Dictionaries(), collate_fn=lambda items: items[0]),
        {},
        "collate_fn of a DataLoader returned dict",
    ),
    "normalised, and not said": (lambda: dataset(normalised=True), {}, "name mean= and std="),
    "said, without mean": (lambda: dataset(normalised=True), {"normalised": True}, "name mean= and std="),
    "another mean": (
        lambda: dataset(normalised=True),
        {"normalised": True, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
        "once mean= and std= are undone",
    ),
    "bytes said to be normalised": (
        lambda: (IMAGES, TARGETS),
        {"normalised": True, "mean": MEAN, "std": STD},
        "leave out normalised=True",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_read_is_refused_in_one_line(fault: str) -> None:
    make, more, says = FAULTS[fault]
    with pytest.raises(unlabel.errors.UnlabelError, match=says) as caught:
        loaded(make(), **more)
    assert "\n" not in str(caught.value)


def test_a_named_source_is_never_normalised_already() -> None:
    with pytest.raises(unlabel.errors.OptionError, match="for images in memory"):
        unlabel.load("faces", normalised=True)  # type: ignore[call-overload]
