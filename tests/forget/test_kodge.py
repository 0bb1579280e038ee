"""Kodge's projection: against an SVD in float64, and that what only the label's images activate is gone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods.kodge import Kodge, discriminatory, kodge, scaled_space, sides
from unlabel.forget.ranking import aucs
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.testing import differing, tiny_world


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def network(seed: int = 0) -> nn.Sequential:
    """12 numbers of a picture, 5 hidden ones, 3 labels: all linear."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 5), nn.Linear(5, 3)).eval()


def space(x: np.ndarray, alpha: float) -> np.ndarray:
    """The paper's scaled space of activations (image, input), by an SVD."""
    axes, size, _ = np.linalg.svd(x.T, full_matrices=False)
    share = size**2 / (size**2).sum()
    return axes @ np.diag(alpha * share / ((alpha - 1) * share + 1)) @ axes.T


@pytest.mark.parametrize("alpha", [1.0, 3.0, 100.0, 1e6])
def test_the_closed_form_is_the_scaled_svd(alpha: float) -> None:
    x = np.random.default_rng(0).normal(size=(40, 6)) @ np.diag([10.0, 3, 1, 0.1, 0.01, 0])
    found = scaled_space(torch.from_numpy(x.T @ x) * 7, alpha)
    np.testing.assert_allclose(found.numpy(), space(x, alpha), atol=1e-9)


@pytest.mark.parametrize("kind", ["independent", "unknown"])
@pytest.mark.parametrize("centre", [False, True])
def test_the_weights_are_those_computed_by_hand(kind, centre: bool, run: Run) -> None:
    world = tiny_world(kind)
    model = network()
    request = Request.make(["top"], world.labels)
    made = Kodge(30.0, 5.0, centre)(model, request, world.data, run).model
    x = model[:2](batch_of(world.data, range(len(world.data)), run.device).image).double().numpy()
    label = world.data.target[:, 0]
    for place, rows in ((2, range(5)), (3, (1, 2))):
        layer, new = model[place], made[place]
        middle = x[label == 0].mean(0) * centre
        forget, retain = space(x[label == 1] - middle, 5.0), space(x[label == 0] - middle, 30.0)
        weight, bias = (value.detach().double().numpy() for value in (layer.weight, layer.bias))
        taken = weight @ (forget - retain @ forget)
        expected = weight.copy()
        expected[list(rows)] = (weight - taken)[list(rows)]
        np.testing.assert_allclose(new.weight.detach().numpy(), expected, atol=2e-5)
        if place == 2:
            np.testing.assert_allclose(new.bias.detach().numpy(), bias + taken @ middle, atol=2e-5)
        x = x @ weight.T + bias  # of the original: all layers are read at once
    assert differing(made, model) == ["2.bias", "2.weight", "3.bias", "3.weight"][0 if centre else 1 :]


def test_what_only_the_label_s_images_activate_is_gone_and_the_rest_stays() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 6))
    own = rng.normal(size=(200, 1)) @ rng.normal(size=(1, 6))
    present, absent = shared[:100] + own[:100], shared[100:]
    taken = discriminatory(
        torch.from_numpy(present.T @ present), torch.from_numpy(absent.T @ absent), 1e9, 1e9
    ).numpy()
    left = np.eye(6) - taken
    np.testing.assert_allclose(absent @ left.T, absent, atol=1e-4)
    basis = np.linalg.svd(absent, full_matrices=False)[2][:3]
    alone = own[:100] - own[:100] @ basis.T @ basis  # what of it the retain space does not hold
    assert np.abs(alone).max() > 0.5
    assert np.abs(alone @ left.T).max() < 1e-4


def test_a_space_without_activations_is_none() -> None:
    """A dead layer, or a kind without images: no NaN."""
    nothing, some = torch.zeros(3, 3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    assert not discriminatory(nothing, some, 3.0, 100.0).any()
    assert torch.equal(discriminatory(some, nothing, 3.0, 100.0), scaled_space(some, 3.0))


def test_unknown_annotations_count_in_neither_space(run: Run) -> None:
    """Other pictures in their place change no weight but the biases that hold the outputs' means."""
    world = tiny_world("unknown")
    request = Request.make(["top"], world.labels)
    pixels = world.data.pixels.copy()
    unknown = world.data.rows[world.data.target[:, 0] < 0]
    assert len(unknown) > 10
    pixels[unknown] = 255 - pixels[unknown]
    made = [
        Kodge(100.0, 3.0, True)(world.model, request, data, run).model
        for data in (world.data, replace(world.data, pixels=pixels))
    ]
    assert differing(*made) == [f"{find_head(world.model, 3)[0]}.bias"]


def test_the_order_of_the_names_changes_nothing() -> None:
    world = tiny_world()
    made = [
        forget_labels(world.model, names, world.data, method="kodge")
        for names in (["bottom", "top"], ["top", "bottom"])
    ]
    assert differing(made[0].model, made[1].model) == []
    assert made[0].images_processed == 4 * len(world.data)


def test_of_classes_the_retain_space_is_that_of_the_retained_ones() -> None:
    world = tiny_world("never-learnt")
    own = np.eye(4, dtype=np.int8)[np.arange(len(world.data)) % 4]
    data = replace(world.data, target=own, exclusive=True)
    rows = torch.tensor([6, 5, 4, 3, 8])
    assert sides(data, 0, (2, 3))[rows].tolist() == [0, -1, 1, 0, 1]


def test_the_label_s_own_output_weakens_and_the_others_stay(run: Run) -> None:
    world = tiny_world(batchnorm=True)
    test = world.source.test
    outcome = forget_labels(world.model, ["top"], world.data, method="kodge", alpha_r=10.0, keep_row=True)
    apart = []
    for model in (world.model, outcome.model):
        logits = outputs(model, test, run).logits
        kinds = [logits[test.target[:, 0] == kind, 0] for kind in (1, 0)]
        apart.append((kinds[0].mean() - kinds[1].mean()) / np.sqrt(kinds[0].var() + kinds[1].var()))
    assert apart[1] < 0.7 * apart[0]
    assert min(aucs(outputs(outcome.model, test, run).logits, test, (1, 2))) > 0.95


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"alpha_r": 0.5}, "--alpha-r is 0.5"),
        ({"alpha_f": float("nan")}, "--alpha-f is nan"),
        ({"alpha_f": 1e10}, "--alpha-f is 1e"),
    ],
)
def test_an_option_out_of_range_is_refused(options, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        kodge(**options)
