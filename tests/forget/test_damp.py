"""DAMP for columns: directions against least squares, what stays untouched, how far a layer is edited."""

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
from unlabel.forget.methods.damp import Damp, MeanPatches, damp, forget_basis, gap, separability
from unlabel.forget.ranking import auc, aucs
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


@pytest.mark.parametrize("gone", [(0,), (0, 3)])
def test_directions_are_what_least_squares_leaves_of_the_prototypes(gone) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 7)), rng.integers(-1, 2, size=(60, 5))
    retained = tuple(column for column in range(5) if column not in gone)
    basis = forget_basis(x, y, gone, retained)
    apart = [x[y[:, column] == 1].mean(0) - x[y[:, column] == 0].mean(0) for column in range(5)]
    kept = np.stack([apart[column] for column in retained], 1)
    np.testing.assert_allclose(basis.T @ basis, np.eye(len(gone)), atol=1e-12)
    np.testing.assert_allclose(basis.T @ kept, 0, atol=1e-12)
    for column in gone:
        left = apart[column] - kept @ np.linalg.lstsq(kept, apart[column], rcond=None)[0]
        np.testing.assert_allclose(basis @ (basis.T @ left), left, atol=1e-12)


@pytest.mark.parametrize("kind", ["independent", "unknown"])
def test_at_full_strength_the_layer_no_longer_tells_the_prototypes_apart(kind, run: Run) -> None:
    """By hand in float64: less its projection, and what retained labels differ by has the same answer."""
    world = tiny_world(kind)
    model = network()
    request = Request.make(["top"], world.labels)
    made = Damp(1e9, 1)(model, request, world.data, run).model
    x = model[:2](batch_of(world.data, range(len(world.data)), run.device).image).double().numpy()
    y = world.data.target
    old, new = (net[2].weight.detach().double().numpy() for net in (model, made))
    kept = np.stack([x[y[:, k] == 1].mean(0) - x[y[:, k] == 0].mean(0) for k in (1, 2)], 1)
    own = x[y[:, 0] == 1].mean(0) - x[y[:, 0] == 0].mean(0)
    left = own - kept @ np.linalg.lstsq(kept, own, rcond=None)[0]
    left /= np.linalg.norm(left)
    np.testing.assert_allclose(new, old - np.outer(old @ left, left), atol=1e-6)
    np.testing.assert_allclose(new @ kept, old @ kept, atol=1e-6)
    assert np.abs(new @ left).max() < 1e-6 < 0.01 < np.abs(old @ left).max()
    rows = made[3].weight.detach().numpy() != model[3].weight.detach().numpy()
    assert rows.any(1).tolist() == [False, True, True]


def test_the_edit_is_as_large_as_the_label_is_separable(run: Run) -> None:
    world = tiny_world()
    model = network()
    request = Request.make(["top"], world.labels)
    half = Damp(0.5, 1)(model, request, world.data, run).model
    quarter = Damp(0.25, 1)(model, request, world.data, run).model
    change, smaller = ((net[2].weight - model[2].weight).detach().double().numpy() for net in (half, quarter))
    np.testing.assert_allclose(change, 2 * smaller, atol=1e-6)
    assert np.abs(change).max() > 0.01


def test_separability_is_measured_on_other_images(run: Run) -> None:
    """Two halves, each measured with the direction of the other; what is in no pixel is at chance."""
    world = tiny_world("never-learnt")
    data = world.data
    x = batch_of(data, range(len(data)), run.device).image.mean(3).flatten(1).double().numpy()
    half = np.arange(len(data)) % 2 == 0
    found = separability(x, data, [0], [1, 2], half)
    areas = []
    for part in (half, ~half):
        kept = np.stack([gap(x[part], data.target[part, k]) for k in (1, 2)], 1)
        own = gap(x[part], data.target[part, 0])
        left = own - kept @ np.linalg.lstsq(kept, own, rcond=None)[0]
        areas.append(auc(x[~part] @ left, data.target[~part, 0]))
    assert found == pytest.approx(2 * np.mean(areas) - 1, abs=1e-9)
    assert found > 0.9
    wide = np.random.default_rng(0).normal(size=(len(data), 400))  # fits anything on its own images
    assert separability(wide, data, [3], [1], half) < 0.25
    assert separability(x, data, [3, 0], [1, 2], half) > 0.9


def test_a_label_with_a_twin_stays() -> None:
    """Their prototypes are the same: taking one out would take the other."""
    world = tiny_world("duplicate")
    outcome = forget_labels(world.model, ["top"], world.data, method="damp", keep_row=False)
    name, _ = find_head(world.model, 3)
    assert set(differing(world.model, outcome.model)) <= {f"{name}.bias", f"{name}.weight"}


def test_a_class_is_told_from_the_retained_ones() -> None:
    """All prototypes together span their own differences; the retained ones alone do not."""
    rng = np.random.default_rng(0)
    y = np.eye(3, dtype=np.int8)[np.arange(90) % 3]
    x = rng.normal(size=(90, 4)) * 0.01 + y @ np.array([[0, 0, 5.0, 0], [1, 0, 0, 0], [0, 1, 0, 0]])
    basis = forget_basis(x, y, [0], [1, 2], exclusive=True)
    assert basis.shape == (4, 1)
    between = x[y[:, 1] == 1].mean(0) - x[y[:, 2] == 1].mean(0)
    assert abs(basis[:, 0] @ between) < 1e-9
    assert abs(basis[2, 0]) > 0.9


def test_a_kind_without_images_has_no_direction() -> None:
    x, y = np.random.default_rng(0).normal(size=(8, 3)), np.ones((8, 2), int)
    assert forget_basis(x, y, [0], [1]).shape == (3, 0)
    assert forget_basis(np.ones((8, 3)), np.arange(16).reshape(8, 2) // 8, [0], []).shape == (3, 0)


def test_a_layer_used_twice_counts_by_its_mean(run: Run) -> None:
    batch = batch_of(tiny_world().data, range(4), run.device)
    read = MeanPatches(2)
    read.add(torch.ones(4, 2, 3), batch)
    read.add(3 * torch.ones(4, 2, 5), batch)
    found = read.gather(4, run)
    assert found is not None
    np.testing.assert_array_equal(found, np.full((4, 2), 2.0))
    assert MeanPatches(2).gather(4, run) is None


@pytest.mark.parametrize("labels", [["top"], ["bottom", "top"]])
@pytest.mark.parametrize("batchnorm", [False, True])
def test_the_label_leaves_and_the_others_stay(labels, batchnorm: bool, run: Run) -> None:
    world = tiny_world(batchnorm=batchnorm)
    test = world.source.test
    outcome = forget_labels(world.model, labels, world.data, method="damp", rounds=2, keep_row=True)
    logits = outputs(outcome.model, test, run).logits
    assert max(abs(area - 0.5) for area in aucs(logits, test, outcome.request.columns)) < 0.25
    assert min(aucs(logits, test, outcome.request.retained_columns)) > 0.95
    assert outcome.images_processed == 6 * len(world.data)


def test_an_earlier_label_is_projected_out_again(run: Run) -> None:
    world = tiny_world()
    request = Request.make(["bottom"], world.labels, forgotten=["top"])
    alone = Request.make(["bottom", "top"], world.labels)
    made = [Damp(1.0, 1)(world.model, each, world.data, run).model for each in (request, alone)]
    assert differing(*made) == []


def test_no_half_without_one_kind_is_nan() -> None:
    data = tiny_world().data
    target = data.target.copy()
    target[:, 0] = 0
    target[0, 0] = 1
    x = np.random.default_rng(0).normal(size=(len(data), 3))
    half = np.arange(len(data)) % 2 == 0
    assert separability(x, replace(data, target=target), [0], [1], half) == 0.0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strength": 0.0}, "--strength is 0"),
        ({"strength": float("nan")}, "--strength is nan"),
        ({"rounds": 0}, "--rounds is 0"),
    ],
)
def test_an_option_out_of_range_is_refused(options, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        damp(**options)
