"""What forgotten annotations are replaced by, for methods that teach the network something else instead.

::

    half               1/2: know nothing
    prior              the base rate: answer for every image what is true of all of them together
    bernoulli_half     0 or 1, a fair coin
    bernoulli_prior    0 or 1, a coin with the base rate
    permute            the annotation of another image: the set's annotations, shuffled
    flip               the opposite: inverts the label, and an inverted probe knows it as well as before
    nearest            of classes in an order, such as ages: the nearest one that is retained

Nothing is drawn twice: a replacement belongs to its image, keyed by seed, image and column, whatever the
number of processes or visits. In expectation a coin gives the gradient of its soft target, which has less
noise.

For exclusive classes the image of a forgotten class gets a distribution over the retained ones: uniform for
``half``, their base rates for ``prior``, and one class drawn from either for the coins. ``permute`` and
``flip`` have no counterpart there, and ``nearest`` has none for labels. The order of classes is that of the
columns; of two that are equally near, each gets half.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.core.randomness import uniform
from unlabel.core.request import Request
from unlabel.data.batches import Batch
from unlabel.data.dataset import Dataset
from unlabel.forget.halves import whole_part

Replacement: TypeAlias = Literal[
    "half", "prior", "bernoulli_half", "bernoulli_prior", "permute", "flip", "nearest"
]

_STREAM = "targets"


@dataclass(frozen=True)
class Replaced:
    """The replacements of all images, and their loss.

    Args:
        rows: Positions of the images in the whole source, ascending.
        target: What each image is to be taught: for labels 0 to 1, or -1 where nothing was annotated; for
            classes a distribution, or zeros where the image is of a retained class.
        columns: The outputs that the target speaks of: the forgotten labels, or all classes that are left.
        exclusive: Whether the columns are classes.
    """

    rows: Int[Tensor, " image"]
    target: Float[Tensor, "image column"]
    columns: tuple[int, ...]
    exclusive: bool

    def loss(self, logits: Float[Tensor, "batch label"], batch: Batch) -> Float[Tensor, " batch"]:
        """One loss a sample: `soft_label_loss` or `soft_class_loss` against the replacements."""
        target = self.target[torch.searchsorted(self.rows, batch.rows)]
        loss = soft_class_loss if self.exclusive else soft_label_loss
        return loss(logits[:, list(self.columns)].float(), target)


def soft_label_loss(
    logits: Float[Tensor, "batch column"], target: Float[Tensor, "batch column"]
) -> Float[Tensor, " batch"]:
    """Binary cross-entropy of each sample against targets from 0 to 1, averaged over those that are not -1.

    >>> soft_label_loss(torch.tensor([[0.0, 9.0], [0.0, 9.0]]), torch.tensor([[0.3, -1.0], [-1.0, -1.0]]))
    tensor([0.6931, 0.0000])
    """
    annotated = target >= 0
    loss = bce(logits, target.clamp(min=0), reduction="none")
    return torch.where(annotated, loss, 0.0).sum(1) / annotated.sum(1).clamp(min=1)


def soft_class_loss(
    logits: Float[Tensor, "batch column"], target: Float[Tensor, "batch column"]
) -> Float[Tensor, " batch"]:
    """Softmax cross-entropy of each sample against a distribution; 0 where the target is all zeros.

    >>> soft_class_loss(torch.zeros(2, 4), torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))
    tensor([1.3863, -0.0000])
    """
    return -(target * logits.log_softmax(1)).sum(1)


def replaced(data: Dataset, request: Request, kind: Replacement, run: Run) -> Replaced:
    """The replacements of a request's annotations on these images.

    Raises:
        OptionError: ``permute`` or ``flip`` for exclusive classes, ``nearest`` for labels.
    """
    order = np.argsort(data.rows, kind="stable")
    if data.exclusive:
        columns = whole_part(data, request).columns
        target = class_targets(data, request, kind, run.seed)[:, list(columns)]
    else:
        columns = request.columns
        target = label_targets(data, columns, kind, run.seed)
    return Replaced(
        torch.from_numpy(data.rows[order]).to(run.device),
        torch.from_numpy(target[order].astype(np.float32)).to(run.device),
        columns,
        data.exclusive,
    )


def label_targets(
    data: Dataset, columns: tuple[int, ...], kind: Replacement, seed: int
) -> NDArray[np.float64]:
    """Replacements of label annotations, (image, column); -1 where nothing was annotated.

    What was never annotated cannot be forgotten: such an entry is in no loss, whatever the kind.

    Raises:
        OptionError: ``nearest``.
    """
    if kind == "nearest":
        raise OptionError(
            "--target is nearest, which needs exclusive classes in an order, such as ages; for labels"
            " expected half, prior, bernoulli_half, bernoulli_prior, permute or flip"
        )
    replaced = np.empty((len(data), len(columns)))
    for position, column in enumerate(columns):
        answers = data.target[:, column]
        rate = 0.5 if kind in ("half", "bernoulli_half") else data.prior(column)
        if kind == "flip":
            new = 1.0 - answers
        elif kind == "permute":
            new = answers.astype(np.float64)
            annotated = np.flatnonzero(answers >= 0)
            draw = uniform(seed, f"{_STREAM}/permute", column, data.rows[annotated])
            new[annotated] = answers[annotated[np.argsort(draw, kind="stable")]]
        elif kind in ("half", "prior"):
            new = np.full(len(data), rate)
        else:
            new = (uniform(seed, f"{_STREAM}/draw", column, data.rows) < rate).astype(np.float64)
        replaced[:, position] = np.where(answers >= 0, new, -1.0)
    return replaced


def class_targets(data: Dataset, request: Request, kind: Replacement, seed: int) -> NDArray[np.float64]:
    """Distributions over the retained classes, (image, class), for the images of forgotten ones; else zeros.

    Raises:
        OptionError: ``permute`` or ``flip``.
    """
    if kind in ("permute", "flip"):
        raise OptionError(
            f"--target is {kind}, which exclusive classes do not have; expected half, prior, bernoulli_half,"
            " bernoulli_prior or nearest"
        )
    left = np.array(request.retained_columns)
    if kind == "nearest":
        replaced = np.zeros(data.target.shape)
        for column in request.columns:
            far = np.abs(left - column)
            near = left[far == far.min()]
            positions = np.flatnonzero(data.target[:, column] == 1)
            replaced[positions[:, None], near] = 1 / len(near)
        return replaced
    share = np.array([data.prior(column) for column in left])
    share = share / share.sum() if kind in ("prior", "bernoulli_prior") else np.full(len(left), 1 / len(left))
    replaced = np.zeros(data.target.shape)
    positions = np.flatnonzero((data.target[:, list(request.columns)] == 1).any(1))
    if kind in ("half", "prior"):
        replaced[positions[:, None], left] = share
    else:
        draw = uniform(seed, f"{_STREAM}/class", data.rows[positions])
        # the last edge is left out: rounding must not make it less than a draw
        replaced[positions, left[np.searchsorted(share.cumsum()[:-1], draw, side="right")]] = 1.0
    return replaced
