"""Which images drive a label: influence functions with a damped Gauss-Newton matrix.

Koh and Liang, Understanding Black-box Predictions via Influence Functions, ICML 2017; the perturbation of
labels is that of Warnecke et al., Machine Unlearning of Features and Labels, NDSS 2023.
"""

from math import sqrt
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.data.dataset import Dataset
from unlabel.forget.gradients import Named, Quantity, curvature_product, directional, micro_batches
from unlabel.forget.tasks import Task

Solver = Literal["diagonal", "cg"]

CG_ITERATIONS = 20
CG_TOLERANCE = 1e-3


def solve(
    model: nn.Module,
    data: Dataset,
    run: Run,
    curvature: Quantity,
    diagonal: Named,
    right: Named,
    damping: float,
    solver: Solver,
) -> Named:
    r"""Solves :math:`(G + \delta I)\,v = b`, G the Gauss-Newton matrix, or its diagonal alone.

    :math:`\delta` is ``damping`` times the mean of G's diagonal. Conjugate gradients stop at a relative
    residual of 1e-3 or after 20 products with G, each a pass over the data.

    Args:
        model, data, run: Where G is taken.
        curvature: `Task.curvature` of the training loss.
        diagonal: G's diagonal, name -> tensor.
        right: b, name -> tensor.
        damping: > 0.
        solver: ``diagonal`` or ``cg``.
    """
    numbers = sum(value.numel() for value in diagonal.values())
    delta = damping * sum(float(value.sum()) for value in diagonal.values()) / numbers
    delta = delta or 1.0  # a network with no curvature at all: the direction alone matters then
    if solver == "diagonal":
        return {name: right[name] / (value + delta) for name, value in diagonal.items()}
    solution = {name: torch.zeros_like(value) for name, value in right.items()}
    residual = dict(right)
    step = dict(residual)
    size = start = _dot(residual, residual)
    for _ in range(CG_ITERATIONS):
        if sqrt(size) <= CG_TOLERANCE * sqrt(start):
            break
        product = curvature_product(model, data, run, curvature, step)
        product = {name: value + delta * step[name] for name, value in product.items()}
        length = size / _dot(step, product)
        solution = {name: value + length * step[name] for name, value in solution.items()}
        residual = {name: value - length * product[name] for name, value in residual.items()}
        size, before = _dot(residual, residual), size
        step = {name: value + size / before * step[name] for name, value in residual.items()}
    return solution


def _dot(one: Named, two: Named) -> float:
    return sum(float((value * two[name]).sum()) for name, value in one.items())


def influences(
    model: nn.Module, data: Dataset, run: Run, task: Task, direction: Named
) -> NDArray[np.float64]:
    r"""Influence of each image on a label: :math:`I(x_i) = -v \cdot \nabla\ell(x_i)`.

    One forward-mode pass over the images, no per-sample gradient.

    Args:
        model: In eval mode.
        data: Images.
        run: Where.
        task: The loss of the label to forget.
        direction: v of `solve`.

    Returns:
        float64 (image,), equal on every process.
    """
    position_of = {int(row): at for at, row in enumerate(data.rows)}
    changes = torch.zeros(len(data), dtype=torch.float64, device=run.device)
    for batch in micro_batches(data, run, "influence"):
        change: Tensor = directional(model, batch, task.loss, direction)
        where = torch.tensor([position_of[int(row)] for row in batch.rows], device=run.device)
        changes[where] = -change.double()
    engine.reduce_sums(run, [changes])
    return changes.cpu().numpy()


def strongest(influence: NDArray[np.float64], percent: float) -> NDArray[np.int64]:
    """Positions of the images with the largest absolute influence, at least one, in order; ties by position.

    >>> strongest(np.array([0.1, -3.0, 0.0, 2.0]), 50.0).tolist()
    [1, 3]
    """
    count = max(1, round(len(influence) * percent / 100))
    return np.sort(np.argsort(-np.abs(influence), kind="stable")[:count])
