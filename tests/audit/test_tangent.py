"""The tangent kernel and the whole-model attack that it predicts, against slow and obvious computations."""

import copy
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jvp

from unlabel.audit.attacks.annotated import tune_sizes
from unlabel.audit.attacks.starts import stage_of_weights
from unlabel.audit.attacks.tangent import (
    RIDGES,
    fit_ridge,
    linearised,
    predict_all,
    predictions_of,
    read_outputs,
    step_of,
    tangent_kernel,
    with_new_heads,
)
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.sets import Sets
from unlabel.core import engine
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.models.build import build
from unlabel.runs.config import Config
from unlabel.runs.folder import Loaded
from unlabel.runs.record import Record
from unlabel.statistics.estimate import auc
from unlabel.testing import tiny_world
from unlabel.testing.worlds import tiny_network

N = 24


@pytest.fixture(scope="module")
def run():
    return engine.start(accelerator="cpu")


@pytest.fixture(scope="module")
def world():
    return tiny_world(images=256, batchnorm=True)


@pytest.fixture(scope="module")
def images(world, run):
    return batch_of(world.source.probe, np.arange(N), run.device).image


@pytest.fixture(scope="module")
def present(world):
    return world.source.probe.target[:N, 0] == 1


@pytest.fixture
def model(world):
    return copy.deepcopy(world.model).eval().requires_grad_(True)


def jacobian(model, images):
    """float64 (image, weight): one backward pass an image, in double precision."""
    double = copy.deepcopy(model).double()
    rows = []
    for image in images.double():
        double.zero_grad()
        double(image[None])[0, 0].backward()
        rows.append(torch.cat([w.grad.flatten() for w in double.parameters()]))
    return torch.stack(rows).numpy()


def test_the_kernel_is_that_of_an_explicit_jacobian(model, images):
    rows = jacobian(model, images)
    expected = rows @ rows.T
    # float32 gradients: rounding of 2^-24 a product, over 10^4 weights
    np.testing.assert_allclose(tangent_kernel(model, images), expected, rtol=1e-4, atol=1e-4 * expected.max())


def test_the_kernel_is_the_same_however_few_weights_are_held_at_a_time(model, images):
    whole, parts = tangent_kernel(model, images), tangent_kernel(model, images, most_bytes=4 * N * 101)
    # sums of float32 in another order
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5 * whole.max())


def test_a_weight_that_may_not_move_is_not_in_the_kernel(model, images):
    model.requires_grad_(False)
    last = [*model.parameters()][-2:]
    for weight in last:
        weight.requires_grad_(True)
    rows = jacobian(model.requires_grad_(True), images)
    for weight in [*model.parameters()][:-2]:
        weight.requires_grad_(False)
    head = rows[:, -sum(weight.numel() for weight in last) :]
    # float32 gradients
    np.testing.assert_allclose(tangent_kernel(model, images), head @ head.T, rtol=1e-4, atol=1e-5)


def test_the_step_is_the_jacobian_times_the_weights_of_the_images(model, images):
    alpha = np.random.default_rng(0).normal(size=N)
    step = torch.cat([part.flatten() for part in step_of(model, images, alpha).values()])
    expected = jacobian(model, images).T @ alpha
    # float32 gradients
    np.testing.assert_allclose(step, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_the_prediction_is_that_of_the_explicit_kernel_and_of_forward_mode_differentiation(
    model, images, present, world, run
):
    data = world.source.test
    (found,) = linearised(model, [(images, present)], data, run)
    alpha, constant = found.fit.alpha, found.fit.constant
    scored = batch_of(data, np.arange(len(data)), run.device).image.double()
    double, step = copy.deepcopy(model).double(), step_of(model, images, alpha)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, when forward mode is loaded
        _, exact = jvp(
            lambda weights: functional_call(double, weights, (scored,))[:, 0],
            ({name: weight.detach() for name, weight in double.named_parameters()},),
            ({name: part.double() for name, part in step.items()},),
        )
    explicit = jacobian(model, scored.float()) @ jacobian(model, images).T @ alpha
    # float32 gradients
    np.testing.assert_allclose(exact, explicit, rtol=1e-3, atol=1e-3 * np.abs(explicit).max())
    # a difference of float32 outputs, and units that a step of the size of MOVE switches
    np.testing.assert_allclose(found.scores - constant, explicit, rtol=0, atol=0.02 * np.ptp(explicit))
    assert np.corrcoef(found.scores, explicit)[0, 1] > 0.9999


def test_each_output_learns_from_its_own_images(model, images, present, world, run):
    data = world.source.test
    both = linearised(model, [(images, present), (images.flip(0), ~present)], data, run)
    (first,) = linearised(model, [(images, present)], data, run)
    np.testing.assert_array_equal(both[0].scores, first.scores)
    assert not np.allclose(both[1].scores, first.scores)


def test_of_a_linear_model_the_prediction_is_ridge_regression(world, run, present):
    data = world.source.test
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * data.image_size**2, 1))
    with torch.no_grad():
        model[1].weight.zero_()
    x, scored = (
        batch_of(part, np.arange(n), run.device).image
        for part, n in ((world.source.probe, N), (data, len(data)))
    )
    (found,) = linearised(model, [(x, present)], data, run)
    x, scored = (each.flatten(1).double().numpy() for each in (x, scored))
    # the bias has a gradient of 1, which the constant takes
    kernel = x @ x.T + 1
    shrink = found.fit.ridge * np.trace(kernel) / N
    y = np.where(present, 1.0, -1.0)
    system = np.block([[kernel + shrink * np.eye(N), np.ones((N, 1))], [np.ones((1, N)), np.zeros((1, 1))]])
    solution = np.linalg.solve(system, np.append(y, 0.0))
    expected = (scored @ x.T + 1) @ solution[:-1] + solution[-1]
    # float32 outputs and gradients
    np.testing.assert_allclose(found.scores, expected, rtol=1e-3, atol=1e-3)
    weight = x.T @ solution[:-1]
    assert found.lengths["1.weight"] == pytest.approx(weight @ weight, rel=1e-4)


def test_each_image_left_out_is_predicted_by_a_fit_without_it():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(12, 5))
    kernel, present = rows @ rows.T, np.arange(12) % 2 == 0
    fit = fit_ridge(kernel, present)
    shrink, y = fit.ridge * np.trace(kernel) / 12, np.where(present, 1.0, -1.0)
    for out in range(12):
        rest = np.arange(12) != out
        inverse = np.linalg.inv(kernel[np.ix_(rest, rest)] + shrink * np.eye(11))
        constant = inverse.sum(0) @ y[rest] / inverse.sum()
        expected = constant + kernel[out, rest] @ inverse @ (y[rest] - constant)
        assert fit.left_out[out] == pytest.approx(expected, rel=1e-9)


def test_a_kernel_that_does_not_know_the_label_is_shrunk_to_nothing():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(64, 64))
    rows[:, 0] *= 4
    knows, guesses = (fit_ridge(rows @ rows.T, present) for present in (rows[:, 0] > 0, rng.random(64) < 0.5))
    assert knows.ridge <= 1 < RIDGES[-1] / 100 < guesses.ridge


def test_a_network_that_computes_nothing_predicts_the_same_for_all(world, run, images, present):
    class Nothing(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, image):
            return 0 * self.weight * image.flatten(1).sum(1, keepdim=True)

    (found,) = linearised(Nothing(), [(images, present)], world.source.test, run)
    assert np.ptp(found.scores) == 0


OPTIONS = AuditOptions(budget="standard", attackers=("tangent",), attacked=(64,), tune_draws=2)


@pytest.fixture(scope="module")
def source():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unlabel.audit.attacks.lessons.LEAST", 8)
        yield tiny_world(images=1024).source


def foretell(model, source, run, options=OPTIONS):
    """What is predicted of the first label, and its AUC in each draw."""
    config = Config(
        "small",
        "imagenet",
        source.labels,
        (),
        source.test.image_size,
        source.test.mean,
        source.test.std,
        (0.5,) * 3,
    )
    sets = Sets(source.probe, source.test, source.test, "digest", 0)
    item = Loaded(Path("a"), model, config, Record(), "", in_memory=True)
    (found,) = predict_all([item], sets, Request.make(["top"], source.labels), options, run)
    return found, [area.value for area in found.areas(source.test.target[:, 0], source.test.cluster)]


def network_that_cuts(*, knows):
    """Its first unit sees how light the top is, or nothing; no unit above reads it."""
    model = tiny_network(3, seed=3)
    convolution, hidden = model[0], model[3]
    with torch.no_grad():  # textures that no band's lightness moves
        convolution.weight.sub_(convolution.weight.mean((1, 3), keepdim=True))
        convolution.weight[0] = 1 / 48 if knows else 0.0
        hidden.weight.view(16, convolution.out_channels, 4, 4)[:, 0] = 0.0
    return model.eval()


def test_a_label_that_no_feature_holds_is_found_where_it_is_cut_off(source, run):
    model = network_that_cuts(knows=True)
    found, predicted = foretell(model, source, run)
    probed = with_new_heads(model, source.probe, 0, [np.arange(64)], run)
    said = read_outputs(probed, source.test, run)[:, 0]
    assert auc(said, source.test.target[:, 0], source.test.cluster).value < 0.65
    assert min(predicted) > 0.85
    assert found.shares["features"] > 0.5  # the layer between the last stage and the head
    assert sum(found.shares.values()) == pytest.approx(1.0)


def test_less_is_predicted_of_a_network_that_does_not_see_the_label(source, run):
    _, ignorant = foretell(network_that_cuts(knows=False), source, run)
    _, knows = foretell(network_that_cuts(knows=True), source, run)
    assert max(ignorant) < min(knows) - 0.05


def test_the_prediction_is_the_same_to_the_bit_and_leaves_the_model_as_it_was(source, run):
    model = network_that_cuts(knows=True)
    before = copy.deepcopy(model.state_dict())
    first, again = (foretell(model, source, run)[0].scores for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.training


def test_only_some_images_of_a_large_test_split_are_scored_and_they_alone_count(source, run, monkeypatch):
    monkeypatch.setattr("unlabel.audit.attacks.tangent.SCORED", 100)
    found, _ = foretell(network_that_cuts(knows=True), source, run)
    assert (~np.isnan(found.scores)).sum(1).tolist() == [100, 100]
    area = found.areas(source.test.target[:, 0], source.test.cluster)[0]
    scored = np.flatnonzero(~np.isnan(found.scores[0]))
    target, cluster = source.test.target[scored, 0], source.test.cluster[scored]
    assert area.n == 100
    assert area.value == auc(found.scores[0, scored], target, cluster).value


def test_a_probe_split_with_few_images_gets_a_smaller_number_or_none(source):
    sets, request = Sets(source.probe, source.test, source.test, "", 0), Request.make(["top"], source.labels)
    options = AuditOptions(budget="standard", attackers=("tangent",), attacked=(256,))
    target = source.probe.target[:, 0]
    (largest,) = tune_sizes(target, options, options.attacked)
    assert 64 <= largest < 256
    assert predictions_of(request, sets, options) == [("top", largest)]
    fewer = replace(
        source.probe, target=np.where(np.cumsum(target == 1)[:, None] > 40, 0, source.probe.target)
    )
    assert predictions_of(request, replace(sets, probe=fewer), options) == []


def test_weights_of_every_kind_have_a_stage():
    class Placed(nn.Module):
        """A weight that no layer of its own computes with, and a head after a hidden layer."""

        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(1))
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 3, 2))
            self.hidden, self.head = nn.Linear(4, 5), nn.Linear(5, 2)

        def forward(self, image):
            return self.head(self.hidden(self.body(image + self.shift).mean((2, 3))))

    found = stage_of_weights(Placed(), 2, torch.randn(2, 3, 32, 32))
    wanted = {"shift": "stage1", "body.0.weight": "stage1", "body.2.weight": "stage2"}
    assert {name: found[name] for name in wanted} == wanted
    assert (found["hidden.weight"], found["head.bias"]) == ("features", "head")


VIT = "timm:test_vit,img_size=32,patch_size=8,embed_dim=32,depth=2"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", VIT])
def test_real_networks_are_predicted_whatever_layers_they_have(name, run):
    """About ten seconds: residual blocks and attention, in parts of a quarter of the weights."""
    if name.startswith("timm"):
        pytest.importorskip("timm")
    source = tiny_world(images=64).source
    model = build(name, 1).eval().requires_grad_(True)
    images = torch.nn.functional.interpolate(
        batch_of(source.probe, np.arange(4), run.device).image, size=(32, 32)
    )
    rows = jacobian(model, images)
    weights = rows.shape[1]
    found = tangent_kernel(model, images, most_bytes=4 * 4 * (weights // 4 + 1))
    # float32 gradients through a deep network
    np.testing.assert_allclose(found, rows @ rows.T, rtol=1e-2, atol=1e-3 * np.abs(rows @ rows.T).max())
    stages = stage_of_weights(model, 1, images[:2])
    assert {*stages.values()} >= {"stage1", "stage2", "head"}
    assert {*stages} == {key for key, _ in model.named_parameters()}


def test_tf32_is_off_while_it_computes_and_restored_after_an_error(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with engine.whole_precision():
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32

    def fails():
        with engine.whole_precision():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert torch.backends.cudnn.allow_tf32
