"""Moments of per-sample gradients, and products with the Gauss-Newton matrix, over a data set.

One forward pass a micro-batch serves every moment that is asked for, each by one backward pass. The model is
the bare one, in eval mode; sums are carried in float64, reduced once over all processes and divided once.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import MethodError
from unlabel.core.randomness import uniform
from unlabel.data.batches import Batch
from unlabel.data.dataset import Dataset
from unlabel.data.feed import batches

Named: TypeAlias = dict[str, Tensor]  # parameter name -> tensor of that parameter's shape
Quantity = Callable[[Tensor, Tensor], Tensor]  # logits, target -> (batch,) or (batch, column)

_AT_ONCE = 8  # samples whose gradients are held together by the exact way


@dataclass(frozen=True)
class Moment:
    r"""A mean over samples of the gradient of a quantity q, or of its square.

    ``square=False``: :math:`\frac1n\sum_i \nabla q_i`. ``square=True``: :math:`\frac1n\sum_i\sum_k (\nabla
    q_{ik})^2` elementwise: of a loss the diagonal of the empirical Fisher matrix, of `Task.curvature` that of
    the Gauss-Newton matrix.

    The squares are estimated with random signs: :math:`E[(\sum_{ik} s_{ik} \nabla q_{ik})^2] = \sum_{ik}
    (\nabla q_{ik})^2` when the signs are independent over samples **and** columns. Each micro-batch gives one
    such estimate with a relative standard deviation of up to :math:`\sqrt2`, so M of them give
    :math:`\sqrt{2/M}`: M = 64 for 2,048 images, 18 %.
    """

    of: Quantity
    square: bool = False


def moments(
    model: nn.Module,
    data: Dataset,
    run: Run,
    wanted: Sequence[Moment],
    *,
    exact: bool = False,
    stage: str = "score",
) -> list[Named]:
    """The moments over all images of a data set, one tensor a trainable parameter.

    Args:
        model: On the run's device, in eval mode.
        data: Images, not augmented.
        run: Where; its seed keys the signs by image and column, its micro-batches are shared out.
        wanted: What to measure; all share one forward pass.
        exact: Sum per-sample squares one after another instead of using random signs. Costs one backward pass
            a sample and column.
        stage: Name in the progress display.

    Returns:
        For each moment: name -> float64 tensor of the parameter's shape, on the run's device.
    """
    parameters = trainable(model)
    totals = [zeros(parameters) for _ in wanted]
    for batch in micro_batches(data, run, stage):
        logits = model(batch.image).float()
        for total, moment in zip(totals, wanted, strict=True):
            quantity = moment.of(logits, batch.target)
            if moment.square and exact:
                _add_exact(total, model, batch, moment.of, columns=quantity.shape[1:].numel())
                continue
            value = (quantity * _signs(quantity, batch, run)).sum() if moment.square else quantity.sum()
            _add(total, parameters, value, square=moment.square)
    engine.reduce_sums(run, [tensor for total in totals for tensor in total.values()])
    return [{name: tensor / len(data) for name, tensor in total.items()} for total in totals]


def trainable(model: nn.Module) -> Named:
    """The parameters that may change, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def zeros(like: Named) -> Named:
    """Float64 zeros of the same shapes."""
    return {name: torch.zeros_like(value, dtype=torch.float64) for name, value in like.items()}


def micro_batches(data: Dataset, run: Run, stage: str) -> Iterator[Batch]:
    """This process's share of the data set's micro-batches, with progress."""
    chunks = np.array_split(np.arange(len(data)), ceil(len(data) / run.micro_batch))
    with run.log.track(stage, len(data), "images") as advance:
        for batch in batches(data, ((part, None) for part in chunks[run.rank :: run.world]), run):
            yield batch
            advance(len(batch.rows) * run.world)


def _signs(quantity: Tensor, batch: Batch, run: Run) -> Tensor:
    """Independent random signs, keyed by image and column."""
    column = np.arange(quantity.shape[1:].numel())
    draw = uniform(run.seed, "score/sign", batch.rows.cpu().numpy()[:, None], column)
    signs = torch.from_numpy(np.where(draw < 0.5, -1.0, 1.0)).to(quantity)
    return signs.view_as(quantity)


def _add(total: Named, parameters: Named, value: Tensor, *, square: bool) -> None:
    gradients = torch.autograd.grad(value, list(parameters.values()), retain_graph=True, allow_unused=True)
    for name, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            wide = gradient.double()
            total[name] += wide * wide if square else wide


def _add_exact(total: Named, model: nn.Module, batch: Batch, quantity: Quantity, columns: int) -> None:
    parameters = {name: value.detach() for name, value in trainable(model).items()}

    def one(weights: Named, image: Tensor, target: Tensor, column: int) -> Tensor:
        logits = functional_call(model, weights, (image[None],))
        return quantity(logits.float(), target[None]).reshape(-1)[column]

    for column in range(columns):
        each = vmap(grad(one), in_dims=(None, 0, 0, None), chunk_size=_AT_ONCE)
        for name, gradient in each(parameters, batch.image, batch.target, column).items():
            total[name] += gradient.double().square().sum(0)


def directional(model: nn.Module, batch: Batch, quantity: Quantity, direction: Named) -> Tensor:
    """Derivative of a quantity along a direction in weight space, by one forward-mode pass.

    Args:
        model: In eval mode.
        batch: Images.
        quantity: What to differentiate.
        direction: Trainable parameter name -> tensor of its shape.

    Raises:
        MethodError: The network has an operation without forward-mode derivatives.
    """
    parameters = {name: value.detach() for name, value in trainable(model).items()}
    along = {name: direction[name].to(value) for name, value in parameters.items()}
    try:
        with _plain_attention():
            change = jvp(
                lambda weights: quantity(
                    functional_call(model, weights, (batch.image,)).float(), batch.target
                ),
                (parameters,),
                (along,),
            )[1]
    except RuntimeError as error:  # torch raises no narrower class for a formula that it lacks
        raise MethodError(
            f"the network cannot be differentiated forwards ({' '.join(str(error).split())[:120]}), which the"
            " influence of images needs; use weight-pruning, which needs gradients only"
        ) from error
    return change.detach()


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention by its formula: torch's fast ways of computing it have no forward-mode derivatives."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def curvature_product(
    model: nn.Module, data: Dataset, run: Run, curvature: Quantity, direction: Named, *, stage: str = "score"
) -> Named:
    r"""The Gauss-Newton matrix of the mean loss times a direction, without ever forming the matrix.

    With :math:`G = \frac1n\sum_i J_i^T J_i` and J the Jacobian of `Task.curvature`: one forward-mode pass
    gives :math:`J_i v`, one backward pass :math:`J_i^T(J_i v)`.
    """
    parameters = trainable(model)
    total = zeros(parameters)
    for batch in micro_batches(data, run, stage):
        change = directional(model, batch, curvature, direction)
        quantity = curvature(model(batch.image).float(), batch.target)
        _add(total, parameters, (quantity * change).sum(), square=False)
    engine.reduce_sums(run, list(total.values()))
    return {name: tensor / len(data) for name, tensor in total.items()}
