"""The loss of each sample over chosen columns: binary cross-entropy of labels, or softmax of classes."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce


def label_loss(
    logits: Float[Tensor, "batch label"],
    target: Int[Tensor, "batch label"],
    columns: Sequence[int],
) -> Float[Tensor, " batch"]:
    r"""Binary cross-entropy of each sample in nats, averaged over its known targets among the columns.

    .. math:: \ell_i = \frac{1}{|C_i|} \sum_{k \in C_i} -y_{ik}\log p_{ik} - (1 - y_{ik})\log(1 - p_{ik})

    with :math:`C_i` the chosen columns whose target is known. Dividing by the columns that count, not by
    all of them, keeps the step size independent of how many labels are forgotten. A sample without a
    known target contributes 0.

    Args:
        logits: Scores before the sigmoid.
        target: 1 present, 0 absent, -1 unknown.
        columns: The label columns that count, at least one.

    Returns:
        One loss a sample, >= 0.

    Example:
        >>> logits = torch.tensor([[0.0, 5.0], [0.0, 5.0]])
        >>> label_loss(logits, torch.tensor([[1, 0], [1, -1]]), [0, 1])
        tensor([2.8499, 0.6931])
    """
    chosen = list(columns)
    annotated = target[:, chosen] >= 0
    loss = bce(logits[:, chosen].float(), target[:, chosen].clamp(min=0).float(), reduction="none")
    return torch.where(annotated, loss, 0.0).sum(1) / annotated.sum(1).clamp(min=1)


def class_loss(
    logits: Float[Tensor, "batch label"],
    target: Int[Tensor, "batch label"],
    columns: Sequence[int],
) -> Float[Tensor, " batch"]:
    r"""Softmax cross-entropy of each sample in nats among the chosen classes.

    .. math:: \ell_i = -\log \frac{e^{z_{iy}}}{\sum_{k \in C} e^{z_{ik}}}

    A sample whose class is unknown or not among the chosen columns contributes 0. So a class that is
    masked out takes its images with it: what class unlearning calls deleting them.

    Args:
        logits: Scores before the softmax.
        target: 1 for the class of the sample, 0 for the others; -1 unknown.
        columns: The classes that count, at least one.

    Returns:
        One loss a sample, >= 0.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0, 9.0], [0.0, 0.0, 9.0]])
        >>> class_loss(logits, torch.tensor([[1, 0, 0], [0, 0, 1]]), [0, 1])
        tensor([0.6931, 0.0000])
    """
    chosen = list(columns)
    is_class = target[:, chosen] == 1
    return torch.where(is_class, -logits[:, chosen].float().log_softmax(1), 0.0).sum(1)


def loss_of(*, exclusive: bool) -> Callable[[Tensor, Tensor, Sequence[int]], Tensor]:
    """`class_loss` where the labels are exclusive classes, `label_loss` where each stands alone."""
    return class_loss if exclusive else label_loss


def log_odds(logits: Float[Tensor, "batch label"]) -> Float[Tensor, "batch label"]:
    r"""Log-odds of each class against all others: its sigmoid is the softmax probability.

    .. math:: o_k = z_k - \log \sum_{l \neq k} e^{z_l}

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, -1.0]])
        >>> torch.allclose(log_odds(logits).sigmoid(), logits.softmax(1))
        True
    """
    classes = logits.shape[1]
    others = logits.unsqueeze(1).expand(-1, classes, -1)
    diagonal = torch.eye(classes, dtype=torch.bool, device=logits.device)
    return logits - others.masked_fill(diagonal, float("-inf")).logsumexp(2)
