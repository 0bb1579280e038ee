"""Where the errors of the retained labels went: misses and false calls in every group, against the original.

A model that forgot can be as good as before in the mean, and yet have moved its errors from some images to
others. For each group, a rate is the share of images with a retained label that are not called so (missed),
or of images without it that are (called). Its change against the original is a move. ::

    total    mean over groups, labels and kinds of |rate - rate of the original|
    share    part of the error that was added which fell on images with the forgotten label;
             1/2: as much, per image of a kind, as on those without it

A retrained model moves errors too, so each figure stands beside that of the retrained models.

References:
    Haruna et al., Bias Redistribution in Visual Machine Unlearning, 2026, arXiv 2604.08111: accuracy by
    group. The figures here are of rates, since the labels are many and independent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.attacks.groups import LEAST
from unlabel.audit.attacks.logistic import Floats
from unlabel.audit.attacks.within_groups import Found, Masks, Part
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.subject import Subject
from unlabel.data.dataset import Dataset
from unlabel.statistics.estimate import Estimate, mean

MISSED, CALLED = 1, 0  # kinds of images on which these errors are made


@dataclass(frozen=True)
class Errors:
    """The errors of one model: which images of which kind it has wrong.

    Args:
        wrong: float64 (image, label) 1 where the answer is wrong; or the difference of two models.
        kinds: By kind, bool (image, label) images that have the label, or have it not.
        cluster: int64 (image,) identities.
    """

    wrong: Floats
    kinds: Mapping[int, NDArray[np.bool_]]
    cluster: NDArray[np.int64]

    @classmethod
    def of(
        cls, subject: Subject, test: Dataset, retained: tuple[str, ...], options: AuditOptions
    ) -> "Errors":
        """Errors of a model on the test split, at the options' thresholds."""
        columns = [test.labels.index(name) for name in retained]
        bars = np.array([options.thresholds.get(name, 0.0) for name in retained])
        target = test.target[:, columns]
        wrong = (subject.test.logits[:, columns] > bars) != (target == 1)
        return cls(
            wrong.astype(np.float64), {kind: target == kind for kind in (MISSED, CALLED)}, test.cluster
        )

    def since(self, other: "Errors") -> "Errors":
        """The errors that this model makes more than another: 1, 0 or -1."""
        return Errors(self.wrong - other.wrong, self.kinds, self.cluster)

    def rates(self, mask: NDArray[np.bool_], kind: int) -> "Rates":
        """Rates of a kind within a group, of the labels with 100 such images."""
        counted = (self.kinds[kind] & mask[:, None]).astype(np.float64)
        many = counted.sum(0) >= LEAST
        counted = counted[:, many]
        wrong = self.wrong[:, many]
        size = counted.sum(0)
        value = (counted * wrong).sum(0) / size
        return Rates(value, counted * (wrong - value) / size, self.cluster)


@dataclass(frozen=True)
class Rates:
    """Rates of several labels within a group: (label,) values and (image, label) influences."""

    value: Floats
    influence: Floats
    cluster: NDArray[np.int64]

    def weighted(self, weights: Floats) -> Estimate:
        """Their sum with one weight a label."""
        used = np.any(self.influence != 0, axis=1)
        return Estimate(float(self.value @ weights), self.influence @ weights, self.cluster, used)

    def mean(self) -> Estimate | None:
        """Their mean; None where no label has enough images."""
        count = len(self.value)
        return self.weighted(np.full(count, 1 / count)) if count else None


def together(*rates: Rates) -> Rates:
    """Rates of several kinds as one table."""
    return Rates(
        np.concatenate([each.value for each in rates]),
        np.concatenate([each.influence for each in rates], axis=1),
        rates[0].cluster,
    )


def mean_rates(errors: Errors, masks: Masks, kind: int) -> Found:
    """Mean rate of a kind within each group; groups in which no label has 100 such images are left out."""
    rates = {part: errors.rates(mask, kind).mean() for part, mask in masks.items()}
    return {part: item for part, item in rates.items() if item is not None}


@dataclass(frozen=True)
class Moved:
    """Errors that a model moved, against the original.

    Args:
        total: Mean size of a move.
        shares: By forgotten label: share of the added error on images with it; none was added: no entry.
    """

    total: Estimate
    shares: Mapping[str, Estimate]


def moved(errors: Errors, original: Errors, masks: Masks, forgotten: tuple[str, ...]) -> Moved | None:
    """The moves of a model; None where no group has 100 images of any kind.

    The influences hold the signs of the moves fixed.

    Args:
        errors: Of the model.
        original: Of the original.
        masks: The groups, among them those of the forgotten labels.
        forgotten: Labels.
    """
    change = errors.since(original)
    sizes, added = [], {}
    for part, mask in masks.items():
        rates = together(*(change.rates(mask, kind) for kind in (MISSED, CALLED)))
        if cells := len(rates.value):
            sizes.append(rates.weighted(np.sign(rates.value) / cells))
            if part.label in forgotten:
                added[part] = rates.weighted((rates.value > 0) / cells)
    if not sizes:
        return None
    shares = {}
    for name in forgotten:
        sides = [added[part] for part in (Part(name, True), Part(name, False)) if part in added]
        share = _share(*sides) if len(sides) == 2 else None
        shares |= {} if share is None else {name: share}
    return Moved(mean(sizes), shares)


def _share(with_label: Estimate, without: Estimate) -> Estimate | None:
    """The first as a share of both, by the delta method; None where both are 0."""
    whole = with_label.value + without.value
    if whole == 0.0:
        return None
    influence = (without.value * with_label.influence - with_label.value * without.influence) / whole**2
    used = with_label.used | without.used
    return Estimate(with_label.value / whole, influence, with_label.cluster, used)
