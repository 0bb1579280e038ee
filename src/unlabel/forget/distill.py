r"""Learning from a teacher's answers: the distances and the teachers of SCRUB and of the bad teacher.

A label is a coin of its own: the distance of two answers is the Bernoulli divergence of each label by itself.
A softmax across labels would not see a number added to all logits of an image, which changes every decision
about it. Only the classes of a single-label problem are compared by their softmax.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log, nan
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from unlabel.data.batches import Batch, batch_of
from unlabel.data.dataset import Dataset
from unlabel.forget.fresh import reinitialise

Teacher: TypeAlias = Callable[[Batch], Tensor]  # -> logits (batch, label), without a gradient


def bernoulli_kl(
    student: Float[Tensor, "batch column"], teacher: Float[Tensor, "batch column"], temperature: float = 1.0
) -> Float[Tensor, "batch column"]:
    r"""Divergence of each label's answer from the teacher's, in nats, times the squared temperature.

    .. math:: T^2\,\mathrm{KL}(s \,\|\, q) = T^2 [\,\mathrm{BCE}(z_q / T, s) - H(s)\,],
        \quad s = \sigma(z_s / T),\ q = \sigma(z_q / T)

    Both terms are taken from logits, so that a saturated answer loses no digit. The factor keeps the size of
    the gradient independent of T.

    Args:
        student: Logits z_q.
        teacher: Logits z_s; no gradient reaches them.
        temperature: T > 0.

    Example:
        >>> bernoulli_kl(torch.tensor([[0.0, 3.0]]), torch.tensor([[0.0, 0.0]]))
        tensor([[0.0000, 0.8554]])
    """
    fixed = teacher.detach().float() / temperature
    soft = fixed.sigmoid()
    cross = bce(student.float() / temperature, soft, reduction="none")
    return temperature**2 * (cross - bce(fixed, soft, reduction="none"))


def class_kl(
    student: Float[Tensor, "batch class"], teacher: Float[Tensor, "batch class"], temperature: float = 1.0
) -> Float[Tensor, " batch"]:
    """Divergence of the softmax over exclusive classes from the teacher's, times the squared temperature.

    >>> class_kl(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 0.0]]))
    tensor([0.])
    """
    fixed = (teacher.detach().float() / temperature).log_softmax(1)
    predicted = (student.float() / temperature).log_softmax(1)
    return temperature**2 * (fixed.exp() * (fixed - predicted)).sum(1)


def divergence(
    student: Float[Tensor, "batch label"],
    teacher: Float[Tensor, "batch label"],
    columns: Sequence[int],
    temperature: float = 1.0,
    *,
    exclusive: bool = False,
) -> Float[Tensor, " batch"]:
    """One number a sample: `bernoulli_kl` averaged over some columns, or `class_kl` among these classes."""
    chosen = list(columns)
    if exclusive:
        return class_kl(student[:, chosen], teacher[:, chosen], temperature)
    return bernoulli_kl(student[:, chosen], teacher[:, chosen], temperature).mean(1)


@dataclass(frozen=True)
class Network:
    """A teacher that is a network in eval mode, which is never trained.

    It sees the very images that the student sees, augmented alike.
    """

    model: nn.Module

    def __call__(self, batch: Batch) -> Tensor:
        with torch.inference_mode():
            logits = self.model(batch.image).float()
        return logits.clone()  # an ordinary tensor, which a loss may keep


@dataclass(frozen=True)
class Remembered:
    """A teacher that is asked about each image once, as the image is without augmentation.

    For a teacher whose answer belongs to the image and need not follow its mirrored or shifted copies. What
    it said is kept, so that a second visit costs nothing.

    Args:
        network: The teacher.
        data: All images that it may be asked about.
        answers: (image, label), NaN where it was not asked yet; filled in place.
        order: Positions of the images, ascending by their place in the source.
    """

    network: Network
    data: Dataset
    answers: Tensor
    order: Tensor

    @classmethod
    def of(cls, network: Network, data: Dataset, device: torch.device) -> "Remembered":
        """With nothing asked yet."""
        order = torch.from_numpy(np.argsort(data.rows, kind="stable")).to(device)
        return cls(network, data, torch.full((len(data), len(data.labels)), nan, device=device), order)

    def __call__(self, batch: Batch) -> Tensor:
        rows = torch.from_numpy(self.data.rows).to(batch.rows.device)[self.order]
        positions = self.order[torch.searchsorted(rows, batch.rows)]
        new = positions[self.answers[positions, 0].isnan()]
        if len(new):
            asked = batch_of(self.data, new.cpu().numpy(), batch.rows.device)
            self.answers[new] = self.network(asked)
        return self.answers[positions]


@dataclass(frozen=True)
class Constant:
    """A teacher that says the same of every image."""

    logits: Tensor

    def __call__(self, batch: Batch) -> Tensor:
        return self.logits.expand(len(batch.rows), -1)


def untaught(original: nn.Module, seed: int) -> Network:
    """The same network with random weights: it knows nothing, and says nearly the same of every image."""
    model = copy.deepcopy(original)
    reinitialise(model, [name for name, _ in model.named_modules()], seed)
    return Network(model.eval())


def base_rates(data: Dataset) -> Tensor:
    """The logits that give each label its share among the known targets: what one can say without looking.

    Of exclusive classes, the logarithms of the shares, whose softmax gives them back.
    """
    priors = [data.prior(column) for column in range(len(data.labels))]
    return torch.tensor([log(prior) if data.exclusive else log(prior / (1 - prior)) for prior in priors])
