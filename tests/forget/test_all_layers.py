"""All layers at once: what they read is what they compute with, and an edited network is settled again."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import MethodError
from unlabel.data.batches import batch_of
from unlabel.forget.all_layers import apply_projection, layers_of, read_inputs, settle
from unlabel.forget.feature_layer import positions_of
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.testing import differing, tiny_network, tiny_world

COUNT = 150  # more than one reading of 128 images


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


class Mixed(nn.Module):
    """A layer used twice, one that is never used, one on windows of an image, one on no image's rows."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1, dilation=1)
        self.twice = nn.Linear(4, 4)
        self.unused = nn.Linear(4, 4)
        self.windows = nn.Linear(4, 5)
        self.other = nn.Linear(5, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image).relu()  # (image, 4, 8, 8)
        x = self.twice(self.twice(x.flatten(2).transpose(1, 2)))
        x = self.windows(x.reshape(len(x) * 2, 32, 4)).reshape(len(image), 64, 5)
        return self.head(x.mean(1) + self.other(torch.ones(1, 5)))


def test_layers_are_those_without_groups_that_may_change() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.Conv2d(6, 6, 3, groups=2),
        nn.Conv2d(6, 6, 3, padding="same"),
        nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect"),
        nn.Linear(6, 6),
        nn.Linear(6, 3),
    )
    model[4].weight.requires_grad_(False)
    assert list(layers_of(model)) == ["0", "2", "3", "5"]


def test_a_layer_reads_what_it_computes_with(run: Run) -> None:
    """Weights times patches is the layer's output at every position; in float64 by another route."""
    torch.manual_seed(0)
    data = tiny_world().data.take(np.arange(COUNT))
    model = Mixed().eval()
    read: dict[str, list[Tensor]] = {}

    def take(name: str, patches: Tensor, batch) -> None:
        assert len(patches) == len(batch.rows)
        read.setdefault(name, []).append(patches)

    means = read_inputs(model, layers_of(model), data, run, take)
    assert set(read) == {"first", "twice", "windows", "head"}
    assert [len(read[name]) for name in ("first", "twice", "windows", "head")] == [2, 4, 2, 2]
    made: dict[str, list[Tensor]] = {}
    for name, layer in layers_of(model).items():
        layer.register_forward_hook(lambda m, i, o, name=name: made.setdefault(name, []).append(o))
    with torch.no_grad():
        logits = model(batch_of(data, range(COUNT), run.device).image)
    torch.testing.assert_close(means, logits.double().mean(0), atol=1e-6, rtol=0)
    for name in ("first", "head"):
        layer = layers_of(model)[name]
        expected = positions_of(layer, made[name][0]) - layer.bias[None, :, None]
        found = torch.einsum("ck,ikp->icp", layer.weight.flatten(1), torch.cat(read[name]))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    windows = made["windows"][0].reshape(COUNT, 64, 5).transpose(1, 2) - model.windows.bias[None, :, None]
    found = torch.einsum("ck,ikp->icp", model.windows.weight, torch.cat(read["windows"]))
    torch.testing.assert_close(found, windows, atol=1e-5, rtol=0)


def test_a_model_that_says_nan_is_refused(run: Run) -> None:
    world = tiny_world()
    with torch.no_grad():
        world.model[0].bias[0] = float("nan")
    with pytest.raises(MethodError, match="NaN or infinite"):
        read_inputs(world.model, layers_of(world.model), world.data, run, lambda *shown: None)


def test_a_projection_takes_its_part_out_of_the_inputs_and_keeps_the_centre() -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 2)
    old, bias = layer.weight.detach().double().numpy().reshape(3, 8), layer.bias.detach().double().numpy()
    axis = rng.normal(size=(8, 1))
    axis /= np.linalg.norm(axis)
    centre = rng.normal(size=8)
    apply_projection(layer, torch.from_numpy(axis @ axis.T), rows=(0, 2), centre=torch.from_numpy(centre))
    new, new_bias = layer.weight.detach().double().numpy().reshape(3, 8), layer.bias.detach().double().numpy()
    expected = old @ (np.eye(8) - axis @ axis.T)
    np.testing.assert_allclose(new[[0, 2]], expected[[0, 2]], atol=1e-7)
    np.testing.assert_array_equal(new[1], old[1])
    assert new_bias[1] == bias[1]
    assert np.abs(new[[0, 2]] @ axis).max() < 1e-7
    np.testing.assert_allclose((new @ centre + new_bias)[[0, 2]], (old @ centre + bias)[[0, 2]], atol=1e-6)


def test_settling_gives_a_norm_the_statistics_of_its_inputs(run: Run) -> None:
    world = tiny_world(batchnorm=True)
    data = world.data.take(np.arange(COUNT))
    model = copy.deepcopy(world.model)
    with torch.no_grad():
        model[0].weight.mul_(1.7).add_(0.05)
    edited = copy.deepcopy(model)
    settle(model, (1, 2), torch.zeros(3, dtype=torch.float64), data, run, move_bias=False)
    with torch.no_grad():
        values = model[0](batch_of(data, range(COUNT), run.device).image).double()
    torch.testing.assert_close(model[1].running_mean.double(), values.mean((0, 2, 3)), atol=1e-5, rtol=0)
    exact = values.transpose(0, 1).flatten(1).var(1)
    torch.testing.assert_close(model[1].running_var.double(), exact, atol=0, rtol=1e-5)
    assert differing(model, edited) == ["1.running_mean", "1.running_var"]
    assert not any(module.training for module in model.modules())


def test_settling_gives_retained_outputs_their_old_means(run: Run) -> None:
    world = tiny_world()
    before = torch.from_numpy(outputs(world.model, world.data, run).logits).double().mean(0)
    model = copy.deepcopy(world.model)
    with torch.no_grad():
        model[0].weight.mul_(0.8)
    name, head = find_head(model, 3)
    old = head.bias.detach().clone()
    settle(model, (0, 2), before, world.data, run, move_bias=True)
    after = torch.from_numpy(outputs(model, world.data, run).logits).double().mean(0)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], atol=1e-4, rtol=0)
    assert head.bias[1] == old[1]
    assert (head.bias != old)[[0, 2]].all()
    assert f"{name}.weight" not in differing(model, world.model)


@pytest.mark.parametrize("micro_batch", [2, 64])
def test_the_means_are_those_of_the_settled_network_whatever_the_micro_batch_is(micro_batch: int) -> None:
    """A norm that took a few images for all would leave other means."""
    world = tiny_world(batchnorm=True)
    run = engine.start(accelerator="cpu", micro_batch=micro_batch)
    before = torch.from_numpy(outputs(world.model, world.data, run).logits).double().mean(0)
    model = copy.deepcopy(world.model)
    with torch.no_grad():
        model[0].weight.mul_(0.8)
    passes = settle(model, (0, 2), before, world.data, run, move_bias=True)
    after = torch.from_numpy(outputs(model, world.data, run).logits).double().mean(0)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], atol=1e-4, rtol=0)
    assert passes == 2


def test_a_norm_without_running_statistics_is_left_alone(run: Run) -> None:
    world = tiny_world()
    network = tiny_network(3, batchnorm=True)
    network[1] = nn.BatchNorm2d(8, track_running_stats=False)
    network.eval()
    before = copy.deepcopy(network)
    settle(network, (1,), torch.zeros(3, dtype=torch.float64), world.data, run, move_bias=False)
    assert differing(network, before) == []
