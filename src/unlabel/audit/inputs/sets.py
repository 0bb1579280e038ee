"""The sets of images that every model of an audit is read on, and what they must not share."""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from unlabel.audit.inputs.perturbed_images import perturbed
from unlabel.core.randomness import uniform
from unlabel.data.canaries import Planting
from unlabel.data.dataset import Dataset, Source
from unlabel.data.survey.duplicates import picture_hashes

TRAIN_IMAGES = 5000  # enough for an interval of .02 on an advantage of 0
COPIED = 0.01  # of a split's images may be copies of another split's: they move no figure, and are told


@dataclass(frozen=True)
class Sets:
    """The three sets of images that every model is read on, drawn by a seed."""

    probe: Dataset
    test: Dataset
    train: Dataset
    digest: str
    seed: int

    @cached_property
    def perturbed(self) -> tuple[Dataset, Dataset]:
        """Images of the probe split and of the test split, perturbed: made once, for all models."""
        return perturbed(self.probe, self.seed), perturbed(self.test, self.seed)


def sets_of(source: Source, seed: int, planting: Planting | None = None) -> Sets:
    """The probe and test splits, and a keyed sample of the training images without canaries."""
    whole = np.ones(len(source.train), bool)
    for item in (planting or {}).values():
        whole[item.positions] = False
    honest = source.train.take(whole)
    rank = uniform(seed, "audit/train", honest.rows)
    train = honest.take(np.sort(np.argsort(rank, kind="stable")[:TRAIN_IMAGES]))
    return Sets(source.probe, source.test, train, str(source.facts.get("digest")), seed)


def overlap(source: Source) -> str | None:
    """What images or identities the splits share, in a sentence; None where they share nothing.

    A share of `COPIED` of a split's images may be pixel copies: `shared_pictures` tells of these.
    """
    named = {
        "the training split": source.train,
        "the probe split": source.probe,
        "the test split": source.test,
    }
    names = list(named)
    for first, second in combinations(names, 2):
        shared = np.intersect1d(named[first].ids, named[second].ids)
        if len(shared):
            return f"{len(shared)} images are in both {first} and {second}, such as {shared[0]}"
    crossing = int(source.facts.get("identity_overlap") or 0)
    if crossing:
        return f"{crossing} identities have images in more than one split; split by identity in meta.csv"
    pictures = {name: picture_hashes(part) for name, part in named.items()}
    for first, second in combinations(names, 2):
        there = set(pictures[first])
        copies = sum(digest in there for digest in pictures[second])
        if copies > COPIED * len(named[second]):
            return f"{copies} images of {second} are also in {first}, pixel for pixel"
    return None


def shared(probe: Dataset, test: Dataset, train: Dataset) -> str | None:
    """What images or people the sets share by their names and identities; None where they share nothing.

    Of two sets in which each image is an identity of its own, identities may be mere positions: they are not
    compared.
    """
    named = {"the probe split": probe, "the test split": test, "the training images": train}
    for (one, first), (two, second) in combinations(named.items(), 2):
        images = np.intersect1d(first.ids, second.ids)
        if len(images):
            return f"{len(images)} images are in both {one} and {two}, such as {images[0]}"
        alone = all(len(np.unique(part.cluster)) == len(part) for part in (first, second))
        persons = 0 if alone else len(np.intersect1d(first.cluster, second.cluster))
        if persons:
            return f"{persons} identities have images in both {one} and {two}; split by identity"
    return None
