"""SalUn against gradients in float64: the mask, one whole step, and the weights that must not move."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods.salun import saliency, salun
from unlabel.forget.pipeline import Pipeline
from unlabel.testing import tiny_network, tiny_world
from unlabel.training.fit import _order


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def gradient(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    named = zip(model.named_parameters(), found, strict=True)
    return {name: torch.zeros_like(v) if g is None else g for (name, v), g in named}


def bce(logits: Tensor, target: Tensor) -> Tensor:
    return torch.log1p(torch.exp(logits)) - target * logits


def by_hand(data: Dataset, model: nn.Module, run: Run) -> dict[str, Tensor]:
    """|mean gradient| of the loss of column 0 in float64."""
    exact = copy.deepcopy(model).double()
    batch = batch_of(data, np.arange(len(data)), run.device)
    logits = exact(batch.image.double())[:, 0]
    return {name: g.abs() for name, g in gradient(exact, bce(logits, batch.target[:, 0]).mean()).items()}


def flat(named: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.reshape(-1) for value in named.values()])


def test_saliency_is_the_absolute_mean_gradient_in_float64(run: Run) -> None:
    data = tiny_world().data.take(np.arange(50))
    model = tiny_network(3, batchnorm=True, seed=3).eval()
    found = saliency(model, Request.make(["top"], data.labels), data, run)
    expected = by_hand(data, model, run)
    assert list(found) == list(expected)
    for name, value in found.items():
        # float32 gradients up to about 1
        assert torch.allclose(value.double(), expected[name], rtol=1e-4, atol=1e-7), name


def test_rows_of_other_labels_have_no_saliency(run: Run) -> None:
    world = tiny_world()
    found = saliency(world.model, Request.make(["middle"], world.labels), world.data, run)
    assert not found["5.weight"][[0, 2]].any()
    assert not found["5.bias"][[0, 2]].any()
    assert found["5.weight"][1].any()


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_one_step_moves_the_top_share_as_computed_by_hand(ratio: float, run: Run) -> None:
    """The first step of SGD with Nesterov momentum m and weight decay d is -lr (1 + m) (g + d w)."""
    data = tiny_world().data.take(np.arange(50))
    model = tiny_network(3, seed=3).eval()
    request = Request.make(["top"], data.labels)
    run = replace(run, batch_size=16)
    after = salun(ratio=ratio, target="half", weight=0.7, steps=1, lr=0.1)(model, request, data, run).model
    positions, epoch = _order(0, len(data), run)
    batch = batch_of(data, positions, run.device, seed=run.seed, epoch=epoch)
    exact = copy.deepcopy(model).double()
    logits, target = exact(batch.image.double()), batch.target.double()
    loss = bce(logits[:, 1:], target[:, 1:]).mean() + 0.7 * bce(logits[:, 0], torch.tensor(0.5)).mean()
    slope = gradient(exact, loss)
    rank = flat(by_hand(data, model, run))
    count = round(ratio * len(rank))
    top = torch.zeros(len(rank), dtype=torch.bool)
    top[torch.argsort(-rank, stable=True)[:count]] = True
    cut = torch.sort(rank, descending=True).values[count - 1]
    sure = (rank - cut).abs() > 1e-5 * cut  # float32 may order what is nearly equal otherwise
    start = 0
    for name, weight in model.named_parameters():
        end = start + weight.numel()
        chosen, clear = (mask[start:end].view_as(weight) for mask in (top, sure))
        old, new = weight.detach().double(), after.get_parameter(name).detach().double()
        decay = 5e-4 if weight.ndim > 1 else 0.0
        # one step of a schedule has half the peak rate
        expected = torch.where(chosen, old - 0.05 * 1.9 * (slope[name] + decay * old), old)
        assert torch.allclose(new[clear], expected[clear], atol=1e-6), name
        assert torch.equal(new[clear & ~chosen], old[clear & ~chosen])
        start = end
    assert int((sure & top).sum()) > 0.9 * count


@pytest.mark.parametrize("world_kind", ["independent", "unknown"])
def test_unselected_weights_keep_their_bits_and_selected_ones_move(world_kind, run: Run) -> None:
    world = tiny_world(world_kind, batchnorm=True)
    request = Request.make(["top"], world.labels)
    unlearner = salun(ratio=0.3, steps=5)
    assert isinstance(unlearner, Pipeline)
    bands = unlearner.select(world.model, unlearner.score(world.model, request, world.data, run))
    total = sum(band.numel() for band in bands.values())
    assert sum(int(band.sum()) for band in bands.values()) == round(0.3 * total)
    after = unlearner(world.model, request, world.data, run).model
    moved = 0
    for name, band in bands.items():
        old, new = (model.get_parameter(name).detach().numpy() for model in (world.model, after))
        assert old[band.numpy() == 0].tobytes() == new[band.numpy() == 0].tobytes()
        moved += int((old != new).sum())
    assert moved > 0.25 * total


def test_a_frozen_weight_is_not_selected(run: Run) -> None:
    world = tiny_world()
    world.model.get_parameter("3.weight").requires_grad_(False)
    assert "3.weight" not in saliency(world.model, Request.make(["top"], world.labels), world.data, run)
    after = forget_labels(world.model, ["top"], world.data, method="salun", steps=3, ratio=1.0).model
    assert torch.equal(after.get_parameter("3.weight"), world.model.get_parameter("3.weight"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ratio": 0.0}, "--ratio is 0; expected more than 0, 1 at most"),
        ({"ratio": 1.1}, "--ratio is 1.1"),
        ({"weight": -1.0}, "--weight is -1"),
        ({"steps": 0}, "--steps is 0; expected 1 or more"),
    ],
)
def test_values_out_of_range_are_refused_by_name(options, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        salun(**options)
