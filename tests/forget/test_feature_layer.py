"""The layer that makes the features: found, read, edited; exact on networks without kinks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import MethodError
from unlabel.data.batches import batch_of
from unlabel.forget.all_layers import layers_of, read_inputs
from unlabel.forget.feature_layer import (
    columns_of,
    edit_layer,
    final_layer,
    final_layers,
    read_layer,
    read_layers,
)
from unlabel.models.eraser import Erase, insert_eraser
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.models.outputs import PENULTIMATE
from unlabel.testing import tiny_world


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def everything(model: nn.Module) -> set[int]:
    return {id(parameter) for parameter in model.parameters()}


def smooth(last: str, *, bias: bool = True) -> nn.Sequential:
    """A network whose features are linear in the last layer's weights: nothing behind it has a kink."""
    torch.manual_seed(1)
    tail = {
        "norm": [
            nn.Conv2d(6, 8, 3, 1, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        ],
        "conv": [nn.Conv2d(6, 8, 3, 2, 1, bias=bias), nn.AdaptiveAvgPool2d(1), nn.Flatten()],
        "linear": [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 8, bias=bias)],
    }[last]
    model = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), *tail, nn.Linear(8, 3))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return model.eval().requires_grad_(False)


def test_the_last_layer_before_the_head_is_found_with_its_norm() -> None:
    look = torch.zeros(2, 3, 16, 16)
    model = smooth("norm")
    assert final_layer(model, 3, look, everything(model)) == (model[2], model[3])
    model = smooth("linear")
    assert final_layer(model, 3, look, everything(model)) == (model[4], None)


def test_a_layer_that_may_not_change_is_passed_over() -> None:
    model = smooth("norm")
    free = everything(model) - {id(model[2].weight)}
    assert final_layer(model, 3, torch.zeros(2, 3, 16, 16), free)[0] is model[0]


def test_a_model_that_is_all_head_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3)).eval()
    with pytest.raises(MethodError, match="no convolution or linear layer before its head"):
        final_layer(model, 3, torch.zeros(2, 3, 16, 16), everything(model))


@pytest.mark.parametrize(
    "padding",
    [
        {"padding": "same"},
        {"padding": "same", "dilation": 2, "padding_mode": "reflect"},
        {"padding": "valid", "stride": 2},
        {"padding": (2, 1), "padding_mode": "circular"},
        {"padding": (0, 3), "stride": (2, 1)},
    ],
)
def test_the_patches_are_those_that_the_convolution_reads(padding: dict[str, object]) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 5, (3, 5), bias=False, **padding).double()  # type: ignore[arg-type]
    image = torch.randn(2, 3, 9, 11)
    expected = layer(image.double()).flatten(2)
    found = layer.weight.flatten(1) @ columns_of(layer, image).double()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("last", ["norm", "conv", "linear"])
def test_a_change_moves_the_features_as_predicted(run: Run, last: str) -> None:
    """dh = gain * (D . x), exact where nothing behind the layer has a kink, and the mean stays."""
    data, model = tiny_world().data, smooth(last)
    look = batch_of(data, range(2), run.device).image
    layer, norm = final_layer(model, 3, look, everything(model))
    reading = read_layer(model, layer, data, run)
    before = outputs(model, data, run).features[PENULTIMATE]
    np.testing.assert_allclose(reading.features, before, rtol=0, atol=1e-5)  # float32, in other batches
    change = 0.1 * np.random.default_rng(0).normal(size=(8, layer.weight[0].numel()))
    left = edit_layer(layer, norm, change, reading, everything(model))
    after = outputs(model, data, run).features[PENULTIMATE]
    predicted = reading.gain * ((reading.patches - reading.patches.mean(0)) @ change.T)
    assert np.abs(predicted).max() > 0.01
    np.testing.assert_allclose(after.astype(float) - before, predicted, rtol=0, atol=2e-5)
    assert not left.any()


def test_an_activation_may_work_in_place(run: Run) -> None:
    data = tiny_world().data
    readings = []
    for inplace in (False, True):
        model = smooth("conv")
        model.insert(3, nn.Hardswish(inplace=inplace))
        readings.append(read_layer(model.eval(), model[2], data, run))
    for name in ("features", "patches", "plain", "gain"):
        np.testing.assert_array_equal(*(getattr(reading, name) for reading in readings))


def test_a_norm_in_training_sees_what_it_sees_in_use(run: Run) -> None:
    """The running mean moves as much as the mean of what the layer gives: a later training starts level."""
    data, model = tiny_world().data, smooth("norm")
    layer, norm = model[2], model[3]

    def mean() -> torch.Tensor:
        with torch.no_grad():
            return model[:3](batch_of(data, range(len(data)), run.device).image).mean((0, 2, 3))

    before, running = mean(), norm.running_mean.clone()
    change = 0.1 * np.random.default_rng(0).normal(size=(8, 54))
    edit_layer(layer, norm, change, read_layer(model, layer, data, run), everything(model))
    torch.testing.assert_close(norm.running_mean - running, mean() - before, rtol=0, atol=1e-5)


def test_what_no_bias_can_take_up_is_handed_back(run: Run) -> None:
    data, model = tiny_world().data, smooth("conv", bias=False)
    reading = read_layer(model, model[2], data, run)
    before = outputs(model, data, run).features[PENULTIMATE].astype(float)
    change = 0.1 * np.random.default_rng(0).normal(size=(8, 54))
    left = edit_layer(model[2], None, change, reading, everything(model))
    after = outputs(model, data, run).features[PENULTIMATE]
    np.testing.assert_allclose((after - before).mean(0), left, rtol=0, atol=1e-5)


def test_a_layer_that_erases_before_the_head_does_not_mix_the_slopes(run: Run) -> None:
    """It mixes all features; each channel still makes one feature before it."""
    data, model = tiny_world().data, smooth("norm")
    plain = read_layer(model, model[2], data, run)
    out, into = torch.randn(2, 8, 1).double()
    insert_eraser(model, 3, Erase(out, into.T, torch.zeros(1)))
    reading = read_layer(model, model[2], data, run)
    np.testing.assert_array_equal(reading.gain, plain.gain)
    np.testing.assert_array_equal(reading.patches, plain.patches)
    np.testing.assert_array_equal(reading.features, outputs(model, data, run).features[PENULTIMATE])


def test_a_channel_that_is_never_on_is_left_alone(run: Run) -> None:
    world = tiny_world()
    model = world.model
    layer, _ = final_layer(model, 3, batch_of(world.data, range(2), run.device).image, everything(model))
    with torch.no_grad():
        layer.bias[0] = -1e3  # type: ignore[index]
    gain = read_layer(model, layer, world.data, run).gain
    assert gain[0] == 0
    assert (gain[1:] != 0).any()


def test_reading_changes_nothing(run: Run) -> None:
    world = tiny_world(batchnorm=True)
    state = {name: value.clone() for name, value in world.model.state_dict().items()}
    layer, _ = final_layer(
        world.model, 3, batch_of(world.data, range(2), run.device).image, everything(world.model)
    )
    read_layer(world.model, layer, replace(world.data), run)
    assert all(torch.equal(state[name], value) for name, value in world.model.state_dict().items())
    assert find_head(world.model, 3)[1].weight.grad is None


class Encoder(nn.Module):
    """A transformer on rows of the picture, (token, image, channel) or with the images first."""

    def __init__(self, *, tokens_first: bool, size: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens_first = tokens_first
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=not tokens_first)
        self.cut, self.head = nn.Conv2d(3, 8, size, size), nn.Linear(8, 3)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.cut(images).flatten(2).permute((2, 0, 1) if self.tokens_first else (0, 2, 1))
        return self.head(self.encoder(tokens).mean(0 if self.tokens_first else 1))


@pytest.mark.parametrize(("size", "images"), [(4, 96), (2, 64)])
def test_tokens_that_stand_first_are_read_as_those_of_each_image(run: Run, size: int, images: int) -> None:
    """With 64 tokens and 64 images, their numbers tell nothing."""
    data, readings, layers = tiny_world(images=2 * images).data.take(np.arange(images)), [], []
    for tokens_first in (True, False):
        model = Encoder(tokens_first=tokens_first, size=size).eval().requires_grad_(False)
        parts = final_layers(model, 3, batch_of(data, range(2), run.device).image, everything(model))
        assert parts[0].layer is model.encoder.layers[1].linear2
        readings.append(read_layers(model, parts, data, run)[0])
        seen: dict[str, list[torch.Tensor]] = {}
        read_inputs(
            model.requires_grad_(),
            layers_of(model),
            data,
            run,
            lambda name, patches, _, seen=seen: seen.setdefault(name, []).append(patches),
        )
        layers.append({name: torch.cat(patches) for name, patches in seen.items()})
    for name in ("features", "patches", "plain", "gain"):
        np.testing.assert_allclose(*(getattr(reading, name) for reading in readings), rtol=0, atol=1e-4)
    assert {"encoder.layers.0.linear1", "encoder.layers.1.linear2"} <= set(layers[0])
    assert set(layers[0]) == set(layers[1])
    for name, patches in layers[0].items():
        torch.testing.assert_close(patches, layers[1][name], atol=1e-4, rtol=0)


class Flat(Encoder):
    """All tokens of all images in one row of rows."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.cut(images).flatten(2).permute(2, 0, 1)
        return self.head(self.encoder.layers[0].linear1(tokens.flatten(0, 1))[: len(images), :8])


def test_tensors_without_an_axis_of_images_are_refused(run: Run) -> None:
    model, data = Flat(tokens_first=True).eval().requires_grad_(False), tiny_world().data
    parts = final_layers(model, 3, batch_of(data, range(2), run.device).image, everything(model))
    with pytest.raises(MethodError, match="no axis of what the last layer before the head reads"):
        read_layers(model, parts, data, run)
