"""What only the forgotten labels tell: their annotations, less what the model may still say of them.

A network that never saw a label still tells whatever its other labels give away. A closed form that removes
*all* covariance with the label removes more than retraining does, and the retained labels pay for it. What is
to go is the rest, after a regression on two things: the retained *annotations*, which retraining sees too,
and, less, the retained *logits*, since what they carry cannot go without harming them::

    r = y - E[y | y_R, z_R]

Of exclusive classes the retained annotations determine the forgotten one. The logits tell it by being low
together, and they would not if no output had been trained for it. So nothing of a class is spared. In a
*group* of labels of which nearly each image has exactly one, hair colours or age bands, the annotations of
the others determine one as well, and are left out (`group_of`); their logits count as all logits do.

If a retained label is a copy of the forgotten one or its opposite, nothing is to go: who answers one answers
both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.data.batches import Batch
from unlabel.data.dataset import Dataset
from unlabel.models.features import outputs
from unlabel.statistics.estimate import rarer

Floats = NDArray[np.float64]
TWINS = 5  # images of each kind that show that two labels are one
ALIKE = 0.98  # share of images in which a label that is no copy agrees, at most
CHANCE = 0.05  # that all images agree by luck
SELDOM = 0.02  # share of a label's images that have another of its group, at most
EXACTLY_ONE = 0.95  # share of images that have one of a group, at least
GROUP = 0.9  # squared correlation of a label with "no other of the group", at least
MOST = 1e12  # strength past which nothing is spared
SHRINK = 1.0  # images' worth of shrinkage: two equal columns are then no singular system


def residuals(
    data: Dataset,
    columns: Sequence[int],
    retained: Sequence[int],
    logits: Floats,
    strength: float,
    *,
    groups: bool = True,
) -> Floats:
    r"""Residuals of labels after ridge regression on retained annotations and retained logits.

    .. math:: \min_{u, v} \sum_i (y_i - a_i \cdot u - z_i \cdot v)^2 + \|u\|^2 + s\,n\,\|v\|^2

    with y the label's annotations, a the retained annotations, z the retained logits in standard deviations,
    all centred, n the images and s the strength: at 0 everything that the retained logits tell is spared, at
    infinity nothing but what the retained annotations tell. With ``groups``, the others of the label's group
    (`group_of`) are not among a.

    Args:
        data: Images; an unknown retained annotation counts as average.
        columns: The labels whose residuals are wanted.
        retained: The retained labels' columns.
        logits: (image, retained) of the model.
        strength: s, >= 0.
        groups: Whether what the others of the label's group tell stays in the residual.

    Returns:
        (image, label), of mean 0 over the images in which the label is known, and 0 where it is not: what is
        not annotated moves no covariance. 0 everywhere if a retained label is its copy or opposite.

    Example:
        >>> from unlabel.testing import tiny_world
        >>> data = tiny_world().data
        >>> found = residuals(data, [0], [1, 2], np.zeros((len(data), 2)), 1.0)
        >>> bool(abs(found.mean()) < 1e-12), bool(abs(np.cov(found[:, 0], data.target[:, 1])[0, 1]) < 1e-3)
        (True, True)
    """
    spread = logits.std(0)
    told = annotations(data, retained)
    said = np.where(spread > 0, (logits - logits.mean(0)) / np.where(spread > 0, spread, 1.0), 0.0)
    residual = np.zeros((len(data), len(columns)))
    for position, column in enumerate(columns):
        rows = data.target[:, column] >= 0
        if not rows.any() or has_twin(data, column, retained):
            continue
        group = group_of(data, column, retained) if groups else ()
        others = [at for at, other in enumerate(retained) if other not in group]
        a = told[:, others] if group else told
        penalty = np.r_[np.zeros(a.shape[1]), np.full(said.shape[1], strength * rows.sum())]
        residual[rows, position] = unexplained(data.target[rows, column], np.c_[a, said][rows], penalty)
    return residual


def group_of(data: Dataset, column: int, retained: Sequence[int]) -> tuple[int, ...]:
    """Retained labels of which, with this one, nearly each image has exactly one; none if there is no group.

    A regression on all of them explains the label but for a few exceptions: images without any of the group,
    or with an unknown cell. The rest of it would be these exceptions alone, and nothing of what the label is.

    Args:
        data: Images; those where an unknown cell leaves it open whether another of the group is there do not
            count.
        column: The label.
        retained: The retained labels' columns.

    >>> from unlabel.testing import tiny_world
    >>> data = tiny_world().data
    >>> hair = np.arange(len(data)) % 3
    >>> three = replace(data, target=np.eye(3, dtype=np.int8)[hair], labels=("black", "brown", "fair"))
    >>> group_of(three, 0, [1, 2]), group_of(data, 0, [1, 2])
    ((1, 2), ())
    """
    if data.exclusive:
        return ()
    label = data.target[:, column]
    present = label == 1
    seldom = [
        other
        for other in retained
        if (known := present & (data.target[:, other] >= 0)).any()
        and (data.target[known, other] == 1).mean() <= SELDOM
    ]
    fit = _none_of(data, label, seldom)
    if len(seldom) < 2 or fit < GROUP:
        return ()
    for other in sorted(seldom, key=lambda each: (data.target[:, each] == 1).sum()):
        rest = [each for each in seldom if each != other]
        if rest and (without := _none_of(data, label, rest)) >= fit:
            seldom, fit = rest, without
    table = data.target[:, [column, *seldom]]
    one = (table[(table >= 0).all(1)] == 1).sum(1) == 1
    return tuple(seldom) if len(seldom) > 1 and one.size and one.mean() >= EXACTLY_ONE else ()


def _none_of(data: Dataset, label: NDArray[np.int8], others: Sequence[int]) -> float:
    """Squared correlation of a label with "none of these others", where both are known; 0 if one is constant.

    An image with an unknown cell counts if another of these is there.
    """
    table = data.target[:, list(others)]
    some = (table == 1).any(1)
    sure = (label >= 0) & (some | (table >= 0).all(1))
    y, none = label[sure] == 1, ~some[sure]
    if not (0 < y.sum() < len(y) and 0 < none.sum() < len(none)):
        return 0.0
    return float(np.corrcoef(y, none)[0, 1]) ** 2


def has_twin(data: Dataset, column: int, retained: Sequence[int]) -> bool:
    """Whether a retained label is a copy of a label or its opposite, on all images annotated for both.

    Those are all images, or so many (149) that a label that agrees in 98 % of images would differ in one of
    them, by 95 %. A few may agree by chance.

    Shrinkage would leave a scaled copy of that retained label over, and a method would push it out. Of a
    group of which each image has one label, the others determine each as well. But a retrained model knows it
    less, as it has not learnt it: see `group_of`.

    Args:
        data: Images.
        column: The label.
        retained: The retained labels' columns.

    >>> from unlabel.testing import tiny_world
    >>> data = tiny_world().data
    >>> twice = replace(data, target=np.c_[data.target, 1 - data.target[:, 0]], labels=(*data.labels, "not"))
    >>> has_twin(twice, 3, [0, 1, 2]), has_twin(twice, 0, [1, 2])
    (True, False)
    """
    label = data.target[:, column]
    for other in data.target[:, list(retained)].T:
        both = (label >= 0) & (other >= 0)
        same, enough = label[both] == other[both], both.all() or ALIKE ** both.sum() <= CHANCE
        if enough and rarer(label[both]) >= TWINS and (same.all() or not same.any()):
            return True
    return False


def annotations(data: Dataset, columns: Sequence[int]) -> Floats:
    """Annotations (image, label) less their means, 0 where unknown; without columns if labels are classes."""
    if data.exclusive:
        return np.zeros((len(data), 0))
    answers = data.target[:, list(columns)].astype(np.float64)
    annotated = answers >= 0
    mean = np.where(annotated, answers, 0.0).sum(0) / np.maximum(annotated.sum(0), 1)
    return np.where(annotated, answers - mean, 0.0)


def unexplained(y: NDArray[np.number], x: Floats, penalty: Floats | float = 0.0) -> Floats:
    """Numbers (image,) about their mean, less a ridge regression of them on x (image, column).

    Args:
        y: At least one.
        x: What explains them.
        penalty: Of each column, beside the `SHRINK` that each has.
    """
    here, y = x - x.mean(0), y - y.mean(dtype=np.float64)
    penalties = np.broadcast_to(SHRINK + np.asarray(penalty, np.float64), x.shape[1:])
    return y - here @ np.linalg.solve(here.T @ here + np.diag(penalties), here.T @ y)


def retained_logits(model: nn.Module, request: Request, data: Dataset, run: Run) -> Floats:
    """What a model says of the retained labels, (image, retained), in one forward pass."""
    return outputs(model, data, run).logits[:, list(request.retained_columns)].astype(np.float64)


def centred(residual: Tensor, known: Tensor) -> Tensor:
    """Residuals less their mean over the known ones, by label; 0 where the label is unknown."""
    mean = (residual * known).sum(0) / known.sum(0).clamp(min=1)
    return torch.where(known, residual - mean, 0.0)


@dataclass(frozen=True)
class Residuals:
    """What the labels to forget tell alone, of every image that a training may meet.

    Args:
        values: (image, label), 0 where the label is unknown.
        known: (image, label), whether it is annotated.
        rows: (image,) ascending positions in the whole source.
        retain: The retained columns, whose outputs are read.
        of_class: (label,) whether it is a class, or one of a group (`group_of`); empty for none.
    """

    values: Float[Tensor, "image label"]
    known: Bool[Tensor, "image label"]
    rows: Int[Tensor, " image"]
    retain: tuple[int, ...]
    of_class: tuple[bool, ...] = ()

    @classmethod
    def of(
        cls, logits: Floats | None, request: Request, data: Dataset, run: Run, strength: float
    ) -> "Residuals":
        """Of the labels to forget and those forgotten earlier.

        Of exclusive classes, their annotations less the means, as nothing that the outputs tell is spared.

        Args:
            logits: The model's, of these images (`retained_logits`); None if nothing is spared, as of
                exclusive classes.
            request: The labels.
            data: Images.
            run: Where.
            strength: See `residuals`.
        """
        retain = request.retained_columns
        if logits is None or data.exclusive or strength > MOST:
            logits = np.zeros((len(data), 0))
        values = residuals(data, request.masked_columns, retain, logits, min(strength, MOST))
        return cls._ordered(values, request, data, run)

    @classmethod
    def of_annotations(cls, request: Request, data: Dataset, run: Run) -> "Residuals":
        """The annotations of the same labels less their means, with all that other labels tell of them."""
        values = annotations(replace(data, exclusive=False), request.masked_columns)
        return cls._ordered(values, request, data, run)

    @classmethod
    def _ordered(cls, values: Floats, request: Request, data: Dataset, run: Run) -> "Residuals":
        order = np.argsort(data.rows, kind="stable")
        known = data.target[:, list(request.masked_columns)] >= 0
        of_class = tuple(
            data.exclusive or bool(group_of(data, column, request.retained_columns))
            for column in request.masked_columns
        )
        return cls(
            torch.from_numpy(values[order]).float().to(run.device),
            torch.from_numpy(known[order]).to(run.device),
            torch.from_numpy(data.rows[order]).to(run.device),
            request.retained_columns,
            of_class,
        )

    def at(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Residuals and which of them are known, of a batch's images."""
        return self.of_rows(batch.rows)

    def of_rows(self, rows: Int[Tensor, " image"]) -> tuple[Tensor, Tensor]:
        """The same of images by their positions in the whole source."""
        where = torch.searchsorted(self.rows, rows)
        return self.values[where], self.known[where]

    @cached_property
    def known_share(self) -> Float[Tensor, " label"]:
        """Of each label, the part of the images in which it is annotated, above 0; 1 if it is in none."""
        share = self.known.float().mean(0)
        return torch.where(share > 0, share, 1.0)

    def pull(self, residual: Tensor, known: Tensor) -> Float[Tensor, "batch label"]:
        r"""What each image of a batch weighs in the share of a label, so that the mean over images is it.

        .. math:: \frac{m}{m - 1} \cdot \frac{r - \bar{r}}{\mathrm{Var}(r)}

        with m the images of the batch and r-bar their mean, if the label is annotated in all images of the
        data: its mean over batches is the covariance, whatever m is. If some are not annotated, or m is 1, r
        stays as it is (its mean is 0 over all images), and each counts for those that are not.
        """
        images = len(residual)
        pulled = images / max(images - 1, 1) * centred(residual, known)
        return torch.where(self.whole & (images > 1), pulled, residual / self.known_share) / self.variance

    @cached_property
    def whole(self) -> Bool[Tensor, " label"]:
        """Whether a label is annotated in all images."""
        return self.known.all(0)

    @cached_property
    def variance(self) -> Float[Tensor, " label"]:
        """Of each label, over the images in which it is known; 1 where it does not vary."""
        variance = self.values.square().sum(0) / self.known.sum(0).clamp(min=1)
        return torch.where(variance > 0, variance, 1.0)
