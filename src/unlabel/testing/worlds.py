"""Small worlds with known answers: a data set of 16 x 16 images, and a network that knows its labels.

Made in half a second. `unlabel.testing` is where others import them from.
"""

import copy
import csv
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import nn

from unlabel.core import engine
from unlabel.core.errors import OptionError
from unlabel.core.randomness import normal, uniform
from unlabel.core.recipe import Recipe
from unlabel.core.wording import suggest
from unlabel.data.dataset import Dataset, Source
from unlabel.training.fit import LabelLoss, fit

Kind = Literal["independent", "correlated", "duplicate", "never-learnt", "unknown", "one-unit"]

SIZE = 16
_BANDS = {"top": slice(0, 5), "middle": slice(5, 11), "bottom": slice(11, 16)}
_LABELS = {
    "duplicate": ("top", "twin", "bottom"),
    "never-learnt": ("top", "middle", "bottom", "coin"),
}
_FILTERS, _UNITS = 8, 16


@dataclass(frozen=True)
class World:
    """A data set and a network that knows it.

    Args:
        kind: What is special about it; see `tiny_world`.
        source: Train, probe and test splits; two images an identity, no identity in two splits. Its arrays
            are yours to change, but for the pixels.
        model: In eval mode, with a last linear layer; yours to change.
    """

    kind: Kind
    source: Source
    model: nn.Module

    @property
    def data(self) -> Dataset:
        """The training split."""
        return self.source.train

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the label columns."""
        return self.source.labels


def tiny_world(
    kind: Kind = "independent", *, images: int = 512, batchnorm: bool = False, seed: int = 0
) -> World:
    """A world in which the answers are known.

    A label lights one third of the picture, over noise and a lightness of the whole that belongs to the
    identity. Mirroring and small shifts, as in training, leave every label true.

    ==============  ==========================  =======================================================
    kind            labels                      what is known
    ==============  ==========================  =======================================================
    independent     top, middle, bottom         each tells nothing of the others
    correlated      top, middle, bottom         bottom equals top in 85 % of images
    duplicate       top, twin, bottom           twin equals top in every image
    never-learnt    top, middle, bottom, coin   coin is in no pixel
    unknown         top, middle, bottom         20 % of the targets are unknown, -1
    one-unit        top, middle, bottom         penultimate unit j alone carries label j; built by hand
    ==============  ==========================  =======================================================

    Args:
        kind: See the table.
        images: Images in all, a multiple of 8, at least 64: half train, a quarter probe, a quarter test.
        batchnorm: Whether the network has a BatchNorm layer; not with ``one-unit``.
        seed: Key of the pictures, the labels and the training.

    Raises:
        OptionError: No such world, or a size that does not fit.

    Example:
        >>> world = tiny_world()
        >>> world.labels, len(world.data), world.model.training
        (('top', 'middle', 'bottom'), 256, False)
        >>> shown = torch.from_numpy(world.data.images(slice(0, 3))).float().mean((2, 3))
        >>> (shown[:, [2, 8, 13]] > 125).int().tolist() == world.data.target[:3].tolist()
        True
    """
    if kind not in get_args(Kind):
        raise OptionError(
            f"no world '{kind}'; expected one of {', '.join(get_args(Kind))}.{suggest(kind, get_args(Kind))}"
        )
    if images < 64 or images % 8:
        raise OptionError(f"found {images} images; expected a multiple of 8, 64 or more")
    if kind == "one-unit" and batchnorm:
        raise OptionError("the world 'one-unit' is built by hand, without BatchNorm; leave batchnorm out")
    world = _world(kind, images, batchnorm, seed)
    source = world.source
    train, probe, test = (own_arrays(part) for part in (source.train, source.probe, source.test))
    return replace(
        world,
        source=replace(source, train=train, probe=probe, test=test),
        model=copy.deepcopy(world.model),
    )


def own_arrays(part: Dataset) -> Dataset:
    """The same images, with targets, rows and identities of their own: writing there reaches no other."""
    return replace(
        part,
        target=part.target.copy(),
        rows=part.rows.copy(),
        cluster=part.cluster.copy(),
    )


def tiny_network(outputs: int, batchnorm: bool = False, *, seed: int = 0) -> nn.Module:
    """One convolution, 16 penultimate units and a linear head: about 2,500 weights.

    Args:
        outputs: Number of labels.
        batchnorm: Whether a BatchNorm layer follows the convolution.
        seed: Key of the initial weights; the caller's random state is left alone.

    Example:
        >>> sum(weight.numel() for weight in tiny_network(3).parameters())
        2507
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        norm = [nn.BatchNorm2d(_FILTERS)] if batchnorm else []
        return nn.Sequential(
            nn.Conv2d(3, _FILTERS, 4, stride=4),
            *norm,
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(_FILTERS * (SIZE // 4) ** 2, _UNITS),
            nn.ReLU(),
            nn.Linear(_UNITS, outputs),
        )


@lru_cache(maxsize=32)
def _world(kind: Kind, images: int, batchnorm: bool, seed: int) -> World:
    source = pictures(kind, images, seed)
    if kind == "one-unit":
        return World(kind, source, _one_unit().eval())
    run = engine.start(accelerator="cpu", seed=seed)
    model = tiny_network(len(source.labels), batchnorm, seed=seed)
    fit(model, LabelLoss(tuple(range(len(source.labels)))), source.train, Recipe(epochs=12, lr=0.1), run)
    return World(kind, source, model.eval())


def pictures(kind: Kind, images: int, seed: int, contrast: float = 80.0) -> Source:
    """The images of `tiny_world`, and how much lighter a band is where its label is present, 0-255."""
    labels = _LABELS.get(kind, ("top", "middle", "bottom"))
    index = np.arange(images)
    truth = (uniform(seed, "world/label", index[:, None], np.arange(len(labels))) < 0.5).astype(np.int8)
    if kind == "correlated":
        truth[:, 2] = np.where(uniform(seed, "world/follow", index) < 0.85, truth[:, 0], 1 - truth[:, 0])
    if kind == "duplicate":
        truth[:, 1] = truth[:, 0]
    light = 85.0 + 10.0 * normal(seed, "world/light", index // 2)
    pixels = np.arange(SIZE * SIZE * 3).reshape(SIZE, SIZE, 3)
    picture = light[:, None, None, None] + 25.0 * normal(
        seed, "world/noise", index[:, None, None, None], pixels
    )
    for column, name in enumerate(labels):
        if name in _BANDS:
            picture[:, _BANDS[name]] += contrast * truth[:, column, None, None, None]
    target = truth.copy()
    if kind == "unknown":
        target[uniform(seed, "world/unknown", index[:, None], np.arange(len(labels))) < 0.2] = -1
    pixels = np.clip(picture, 0, 255).astype(np.uint8)
    pixels.flags.writeable = False
    whole = Dataset(
        pixels=pixels,
        rows=index,
        target=target,
        cluster=index // 2,
        ids=np.array([f"{number:05}.png" for number in index]),
        labels=labels,
    )
    bounds = [0, images // 2, images // 4 * 3, images]
    train, probe, test = (whole.take(np.arange(start, stop)) for start, stop in pairwise(bounds))
    facts = {
        "reader": "tiny_world",
        "identities": True,
        "split_rule": "by position",
        "digest": f"{kind}-{seed}-{contrast:g}",
    }
    return Source(f"tiny:{kind}", train, probe, test, facts)


@torch.no_grad()
def _one_unit() -> nn.Module:
    """Filter 0 finds light patches; unit j sums those of band j; logit j reads unit j; all else is zero."""
    model = tiny_network(len(_BANDS))
    for parameter in model.parameters():
        parameter.zero_()
    convolution, hidden, head = (getattr(model, name) for name in ("0", "3", "5"))
    convolution.weight[0] = 1 / 48
    side = SIZE // 4
    wiring = hidden.weight.view(_UNITS, _FILTERS, side, side)
    for unit, rows in enumerate((slice(0, 1), slice(1, 3), slice(3, 4))):
        wiring[unit, 0, rows] = 1.0 / (side * (rows.stop - rows.start))
        head.weight[unit, unit] = 20.0
        head.bias[unit] = -5.0
    return model


def write_folder(path: Path, source: Source) -> Path:
    """Writes a data set as users have it: ``images/``, ``attributes.csv`` and ``meta.csv``.

    Args:
        path: Folder to make; its parent exists.
        source: What to write, such as ``tiny_world().source``.

    Returns:
        The folder, for ``folder:PATH``.
    """
    (path / "images").mkdir(parents=True)
    attributes, meta = [["image_id", *source.labels]], [["image_id", "split", "identity"]]
    for split, part in (("train", source.train), ("val", source.probe), ("test", source.test)):
        for at, name in enumerate(part.ids.tolist()):
            Image.fromarray(part.images(np.array([at]))[0]).save(path / "images" / name)
            attributes.append([name, *map(str, part.target[at].tolist())])
            meta.append([name, split, f"person {part.cluster[at]}"])
    for name, rows in (("attributes.csv", attributes), ("meta.csv", meta)):
        with (path / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    return path
