"""What is differentiated when weights are scored: the loss of some label columns, and its curvature."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unlabel.core.loss import class_loss, label_loss, log_odds


@dataclass(frozen=True)
class Task:
    """A loss over some label columns, as functions of logits and targets.

    Args:
        columns: The columns that count.
        exclusive: Whether the columns are the classes of a softmax; each label by itself otherwise.
        alone: Read every class by its log-odds against all others, like a label: the loss of a class that
            is to be forgotten, of which the softmax over the forgotten classes alone would say nothing.
    """

    columns: tuple[int, ...]
    exclusive: bool = False
    alone: bool = False

    def scores(self, logits: Float[Tensor, "batch label"]) -> Float[Tensor, "batch label"]:
        """What the loss reads: the logits, or every class's log-odds."""
        return log_odds(logits) if self.alone and self.exclusive else logits

    def loss(
        self, logits: Float[Tensor, "batch label"], target: Int[Tensor, "batch label"]
    ) -> Float[Tensor, " batch"]:
        """One loss a sample: `core.loss.label_loss` or `core.loss.class_loss` over the columns."""
        if self.exclusive and not self.alone:
            return class_loss(logits, target, self.columns)
        return label_loss(self.scores(logits), target, self.columns)

    def shares(self, target: Int[Tensor, "batch label"]) -> Float[Tensor, "batch column"]:
        """The weight of each column in the loss of each sample: 1 / (known columns), 0 where unknown."""
        annotated = (target[:, list(self.columns)] >= 0).float()
        return annotated / annotated.sum(1, keepdim=True).clamp(min=1)

    def curvature(
        self, logits: Float[Tensor, "batch label"], target: Int[Tensor, "batch label"]
    ) -> Float[Tensor, "batch column"]:
        r"""Quantities whose gradients' outer products sum to the Gauss-Newton matrix of each sample's loss.

        For labels, :math:`q_{ik} = \sqrt{p_{ik}(1 - p_{ik}) / |C_i|}\, z_{ik}` with p held constant, so that
        :math:`\sum_k \nabla q_{ik} \nabla q_{ik}^T = J_i^T \mathrm{diag}(p(1 - p) / |C_i|) J_i`. For classes,
        :math:`q_{ik} = \sqrt{p_{ik}}\,(z_{ik} - \sum_l p_{il} z_{il})`, which gives
        :math:`J_i^T(\mathrm{diag}(p) - pp^T) J_i`.
        """
        scores = self.scores(logits.float())[:, list(self.columns)]
        if self.exclusive and not self.alone:
            prob = scores.detach().softmax(1)
            counted = (target[:, list(self.columns)] == 1).any(1, keepdim=True)
            return torch.where(counted, prob.sqrt() * (scores - (prob * scores).sum(1, keepdim=True)), 0.0)
        prob = scores.detach().sigmoid()
        return (prob * (1 - prob) * self.shares(target)).sqrt() * scores

    def towards(
        self,
        logits: Float[Tensor, "batch label"],
        target: Int[Tensor, "batch label"],
        prior: Float[Tensor, " column"],
    ) -> Float[Tensor, " batch"]:
        r"""Its gradient is :math:`\nabla\ell(x, \text{prior}) - \nabla\ell(x, y)`, for labels or `alone`.

        Binary cross-entropy is linear in its target: the difference is
        :math:`\sum_k (y_k - \text{prior}_k)\,\nabla z_k / |C|`.
        """
        scores = self.scores(logits.float())[:, list(self.columns)]
        away = (target[:, list(self.columns)].clamp(min=0) - prior) * self.shares(target)
        return (away * scores).sum(1)
