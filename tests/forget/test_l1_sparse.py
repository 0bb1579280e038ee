"""L1-sparse: the proximal step by hand, its schedule, and the zeros that it makes."""

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods.l1_sparse import Shrink, l1_sparse, penalised, sparsity
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.testing import differing, tiny_network, tiny_world


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def layer(values: list[float]) -> tuple[nn.Linear, torch.optim.SGD]:
    model = nn.Linear(len(values), 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([values]))
        model.bias.fill_(0.5)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def test_the_step_is_the_soft_threshold_with_its_schedule_in_float64() -> None:
    """Thresholds 0.1 * 2 * (1, 2/3, 1/3, 0, ...), with another learning rate in the third step."""
    values = [1.0, -1.0, 0.25, -0.21, 0.0, 5.0]
    model, optimiser = layer(values)
    shrink = Shrink({"weight": torch.zeros(1, 6).bool()}, gamma=2.0, until=3, keep_zeros=False)
    expected = np.array(values)
    for rate, left in ((0.1, 1), (0.1, 2 / 3), (0.05, 1 / 3), (0.05, 0), (0.05, 0)):
        optimiser.param_groups[0]["lr"] = rate
        shrink(model, optimiser)
        expected = np.sign(expected) * np.maximum(np.abs(expected) - rate * 2.0 * left, 0)
        # float32 numbers up to 5
        assert model.weight.detach().numpy()[0] == pytest.approx(expected, abs=1e-6)
    assert model.weight[0, 2:5].tolist() == [0.0, 0.0, 0.0]
    assert model.bias.item() == 0.5


def test_a_step_without_a_penalty_changes_no_bit() -> None:
    model, optimiser = layer([1.0, -0.1, 1e-40])
    before = model.weight.detach().numpy().tobytes()
    shrink = Shrink({"weight": torch.zeros(1, 3).bool()}, gamma=2.0, until=1, keep_zeros=True)
    optimiser.param_groups[0]["lr"] = 0.0
    shrink(model, optimiser)
    optimiser.param_groups[0]["lr"] = 1.0
    shrink(model, optimiser)
    assert model.weight.detach().numpy().tobytes() == before


@pytest.mark.parametrize("keep", [True, False])
def test_zeros_stay_or_come_back(keep: bool) -> None:
    model, optimiser = layer([0.1, 3.0])
    shrink = Shrink({"weight": model.weight.detach() == 0}, gamma=2.0, until=1, keep_zeros=keep)
    shrink(model, optimiser)
    assert model.weight[0, 0].item() == 0.0
    with torch.no_grad():
        model.weight += 0.3
    shrink(model, optimiser)
    assert model.weight[0].tolist() == pytest.approx([0.0 if keep else 0.3, 3.1])


def test_the_penalty_is_on_weights_of_convolutions_and_linear_layers_that_may_move() -> None:
    model = tiny_network(3, batchnorm=True)
    assert penalised(model) == ["0.weight", "4.weight", "6.weight"]
    model.get_parameter("4.weight").requires_grad_(False)
    assert penalised(model) == ["0.weight", "6.weight"]
    assert penalised(nn.Linear(2, 2)) == ["weight"]
    assert sparsity(nn.BatchNorm2d(2)) == 0.0


def test_the_sparsity_that_was_reached_is_recorded_and_grows_with_gamma(run: Run) -> None:
    world = tiny_world()
    found = []
    for gamma in (0.001, 0.03, 0.3):
        options = {"method": "l1-sparse", "gamma": gamma, "run": run}
        outcome = forget_labels(world.model, ["top"], world.data, **options, keep_row=True)
        names = penalised(outcome.model)
        weights = torch.cat([outcome.model.get_parameter(name).detach().reshape(-1) for name in names])
        assert outcome.options["sparsity"] == float((weights == 0).double().mean())
        assert outcome.options["gamma"] == gamma
        found.append(outcome.options["sparsity"])
    assert found[0] < found[1] < found[2]
    assert found[2] > 0.2


def test_the_retained_labels_survive_and_the_forgotten_row_is_left_alone(run: Run) -> None:
    world = tiny_world(batchnorm=True)
    test = world.source.test
    options = {"method": "l1-sparse", "gamma": 0.1, "run": run, "keep_row": True}
    model = forget_labels(world.model, ["top"], world.data, **options).model
    before, after = find_head(world.model, 3)[1], find_head(model, 3)[1]
    assert torch.equal(before.weight[0], after.weight[0])
    logits = outputs(model, test, run).logits
    for column in (1, 2):
        score, own = logits[:, column], test.target[:, column]
        assert np.mean(score[own == 1][:, None] > score[own == 0]) > 0.95


def test_a_frozen_weight_is_not_shrunk(run: Run) -> None:
    world = tiny_world()
    world.model.get_parameter("0.weight").requires_grad_(False)
    model = forget_labels(world.model, ["top"], world.data, method="l1-sparse", gamma=1.0, steps=3).model
    assert "0.weight" not in differing(world.model, model)
    assert "3.weight" in differing(world.model, model)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gamma": 0.0}, "--gamma is 0; expected more than 0"),
        ({"part": 0.0}, "--part is 0; expected more than 0, 1 at most"),
        ({"part": 1.5}, "--part is 1.5"),
        ({"steps": 0}, "--steps is 0; expected 1 or more"),
    ],
)
def test_values_out_of_range_are_refused_by_name(options, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        l1_sparse(**options)
