"""Many small multilayer probes trained at once, as one wide matrix product.

Every probe seed and every calibration fold needs its own network with one hidden layer of 64 units. All
see the same mini-batches and each has its own mask of images it may learn from, so 25 networks cost one
product with 1,600 columns. Each member's weights are kept where its loss was lowest: only images that a
member watches are read after every epoch, all others once, at the end.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits

from unlabel.core.randomness import normal, permutation

BATCH = 256
RATE = 3e-3
DECAY = 1e-4
PATIENCE = 4  # epochs without a lower held-out loss before a member stops counting

_loss = partial(binary_cross_entropy_with_logits, reduction="none")


def fit_mlps(
    x: NDArray[np.floating],
    y: NDArray[np.bool_],
    learn: NDArray[np.bool_],
    watch: NDArray[np.bool_],
    x_test: NDArray[np.floating],
    *,
    hidden: int,
    epochs: int,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Trains one probe a column of `learn` and keeps each at its lowest loss on its `watch` images.

    One without such images is trained to the end.

    Args:
        x: (image, feature) standardised features of the probe split.
        y: (image,) truth.
        learn: (image, member) images a member is trained on.
        watch: (image, member) images whose loss stops it early; in neither: its calibration fold.
        x_test: (test image, feature).
        hidden: Hidden units of one member.
        epochs: Most passes over the probe split.
        seed: Keys the initial weights, by member, and the order of the images.

    Returns:
        Log-odds on the probe split and on the test split, (image, member), not calibrated.
    """
    members, width = learn.shape[1], x.shape[1]
    table, test = torch.from_numpy(x.astype(np.float32)), torch.from_numpy(x_test.astype(np.float32))
    truth = torch.from_numpy(y.astype(np.float32))[:, None].expand(-1, members)
    may = torch.from_numpy(learn.astype(np.float32))
    held = torch.from_numpy(watch.astype(np.float32))
    first = normal(seed, "audit/mlp/first", *np.ix_(range(width), range(members), range(hidden)))
    second = normal(seed, "audit/mlp/second", *np.ix_(range(members), range(hidden)))
    weights = [
        torch.from_numpy((first * (2 / max(width, 1)) ** 0.5).reshape(width, -1).astype(np.float32)),
        torch.zeros(members * hidden),
        torch.from_numpy((second * hidden**-0.5).astype(np.float32)),
        torch.zeros(members),
    ]
    for tensor in weights:
        tensor.requires_grad_(True)
    adam = torch.optim.Adam(weights, lr=RATE, weight_decay=DECAY)

    def forward(rows: torch.Tensor, at: Sequence[torch.Tensor]) -> torch.Tensor:
        inner = torch.relu(torch.addmm(at[1], rows, at[0])).view(len(rows), members, hidden)
        return (inner * at[2]).sum(2) + at[3]

    def everything(rows: torch.Tensor, at: Sequence[torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([forward(part, at) for part in rows.split(1024)])

    best, since = torch.full((members,), float("inf")), torch.zeros(members)
    kept = [tensor.detach().clone() for tensor in weights]  # of each member, where its loss was lowest
    watched, losses = held.any(1), torch.zeros_like(held)  # of images that no member watches, 0
    for epoch in range(epochs):
        order = torch.from_numpy(permutation(seed, "audit/mlp/order", len(x), epoch))
        for rows in order.split(BATCH):
            learnt = _loss(forward(table[rows], weights), truth[rows])
            adam.zero_grad(set_to_none=True)
            ((learnt * may[rows]).sum() / len(rows)).backward()
            adam.step()
        losses[watched] = _loss(everything(table[watched], weights), truth[watched])
        loss = (losses * held).sum(0) / held.sum(0).clamp(min=1)
        better = (loss < best) | ~held.any(0)
        best, since = torch.where(better, loss, best), torch.where(better, 0, since + 1)
        units = better.repeat_interleave(hidden)
        for old, tensor, which in zip(kept, weights, (units, units, better[:, None], better), strict=True):
            old.copy_(torch.where(which, tensor.detach(), old))
        if bool((since >= PATIENCE).all()):
            break
    return everything(table, kept).double().numpy(), everything(test, kept).double().numpy()
