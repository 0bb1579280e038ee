"""The sizes at which the paper's pages are made: data, networks, lengths, seeds. All share one code.

``small`` runs on two cores without any data: each of the paper's sets has a stand-in. ``full`` is the
published setting, for whoever has the data and a GPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from unlabel.core.framing import Size
from unlabel.core.recipe import Recipe


@dataclass(frozen=True)
class Task:
    """One data set and what is forgotten in it.

    Args:
        title: The paper's name of the data set.
        source: What `data.load` reads; None: the user must name it.
        stands_for: What is drawn instead, in words; empty where the data is the paper's.
        labels: Columns to learn; None for all.
        forget: Names that are forgotten, one at a time.
        image_size: Height and width in pixels, one number for a square; None for the source's own.
        trained: Runs of the original and of Retrain that are there already; empty where they are made.
    """

    title: str
    source: str | None
    stands_for: str
    labels: tuple[str, ...] | None
    forget: tuple[str, ...]
    image_size: Size | None = None
    trained: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Scale:
    """A table of sizes.

    Args:
        name: As on the command line.
        networks: Networks to train, with their stems.
        recipe: Length and rate of every training.
        batch_size: Images in a step.
        tasks: Data by the short name that pages use.
        unlearning_seeds, retrain_seeds, original_seed: Keys of randomness.
        images: Calibration images a method sees; 0: each has its own default.
        steps: Optimiser steps of every method's repair, the equal budget; 0: each has its own default.
        audit: Sizes of the audit that differ from ``unlabel audit``.
        rounds: Repetitions of the timed page.
        auto: Options of `deep-probes`, this project's own training; none outside tests: to need none is what
            it is for.
        methods: What the frontier shows: names of the catalogue and of plug-ins, or ``all``.
        lengths: Optimiser steps that the frontier also gives to every method that has a length.
    """

    name: str
    networks: tuple[tuple[str, str], ...]
    recipe: Recipe
    batch_size: int
    tasks: Mapping[str, Task]
    unlearning_seeds: tuple[int, ...] = (11, 12, 13)
    retrain_seeds: tuple[int, ...] = (1, 2, 3)
    images: int = 1024
    steps: int = 64
    audit: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 3
    auto: Mapping[str, Any] = field(default_factory=dict)
    original_seed: int = 0
    methods: tuple[str, ...] = ("all",)
    lengths: tuple[int, ...] = ()


TEN = (
    "Arched_Eyebrows", "Bald", "Big_Lips", "Brown_Hair", "Double_Chin",
    "Male", "No_Beard", "Oval_Face", "Pointy_Nose", "Young",
)  # fmt: skip
"""The paper's labels; Male is what it calls Gender."""

THREE = ("Male", "Arched_Eyebrows", "Bald")
"""Forgotten one at a time in table 4: a frequent, a local and a rare label."""


def drawn_tasks(train: int, probe: int, test: int, size: int, small: int) -> dict[str, Task]:
    """The stand-ins at given sizes: images of each split, pixels of faces and of ages."""
    counts = f"train={train},probe={probe},test={test}"
    faces = f"faces:{counts}" + (f",size={size}" if size != 64 else "")
    return {
        "celeba": Task("CelebA", faces, "procedural faces with CelebA's label statistics", TEN, THREE),
        "decorrelated": Task(
            "CelebA, decorrelated",
            f"{faces},independent=1",
            "the same faces with each label drawn by itself",
            TEN,
            ("Male",),
        ),
        "mufac": Task(
            "MUFAC",
            f"ages:{counts},size={small}",
            "procedural faces in five ordered groups of age",
            None,
            ("age_3",),
        ),
        "cifar10": Task("CIFAR-10", f"shapes:{counts}", "drawn shapes of ten classes", None, ("star",)),
        "mnist": Task("MNIST", "digits", "the 1,797 digits that come with scikit-learn", None, ("digit_3",)),
        "svhn": Task(
            "SVHN", f"shapes:set=digits,{counts}", "drawn digits between neighbours", None, ("digit_3",)
        ),
    }


SMALL = Scale(
    "small",
    networks=(("small", "imagenet"),),
    recipe=Recipe(epochs=8),
    batch_size=64,
    tasks=MappingProxyType(drawn_tasks(4000, 2000, 3000, 64, 48)),
    audit=MappingProxyType({"probe_seeds": 2, "trees": 100, "resamples": 200, "raw_image": False}),
)

FULL = Scale(
    "full",
    networks=(("resnet18", "imagenet"), ("resnet50", "imagenet")),
    recipe=Recipe(epochs=50, lr=0.01, schedule="constant"),
    batch_size=64,
    tasks=MappingProxyType(
        {
            "celeba": Task("CelebA", None, "", TEN, THREE, 224),
            "decorrelated": Task("CelebA, decorrelated", None, "", TEN, ("Male",), 224),
            "mufac": Task("MUFAC", None, "", None, ("age_20_30",), 128),
            "cifar10": Task("CIFAR-10", None, "", None, ("airplane",), 32),
            "mnist": Task("MNIST", None, "", None, ("digit_3",), 32),
            "svhn": Task("SVHN", None, "", None, ("digit_3",), 32),
        }
    ),
    images=2048,
    steps=188,
)

SCALES: Mapping[str, Scale] = MappingProxyType({"small": SMALL, "full": FULL})
