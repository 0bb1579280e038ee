"""The one loss primitive: binary cross-entropy of chosen label columns, unknown targets left out."""

from collections.abc import Sequence

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
    known = target[:, chosen] >= 0
    loss = bce(logits[:, chosen].float(), target[:, chosen].clamp(min=0).float(), reduction="none")
    return torch.where(known, loss, 0.0).sum(1) / known.sum(1).clamp(min=1)
