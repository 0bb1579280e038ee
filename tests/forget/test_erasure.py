from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import MethodError, OptionError
from unlabel.data.dataset import Dataset
from unlabel.forget.driver import forget_labels
from unlabel.forget.feature_layer import Reading
from unlabel.forget.methods.erasure import erasure, least_change, ridge
from unlabel.forget.refit import SHRINK, refit, shrink_of
from unlabel.forget.residual import group_of, has_twin, residuals
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.models.outputs import PENULTIMATE
from unlabel.testing import World, differing, tiny_world


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def reader(features: np.ndarray, target: np.ndarray) -> float:
    """AUC of a linear reader fitted to half of the images, on the other half."""
    half = len(target) // 2
    x = np.column_stack([features.astype(float), np.ones(len(features))])
    weight = np.linalg.solve(x[:half].T @ x[:half] + 1e-3 * np.eye(x.shape[1]), x[:half].T @ target[:half])
    score, truth = x[half:] @ weight, target[half:]
    pairs = score[truth == 1][:, None] - score[truth == 0][None]
    return float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def auc(score: np.ndarray, target: np.ndarray) -> float:
    pairs = score[target == 1][:, None] - score[target == 0][None]
    return float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


@pytest.mark.parametrize("batchnorm", [False, True])
def test_the_label_is_gone_from_the_features_and_the_others_stay(run: Run, batchnorm: bool) -> None:
    world = tiny_world(batchnorm=batchnorm)
    test = world.source.test
    outcome = forget_labels(world.model, ["top"], world.data, method="erasure")
    before, after = (outputs(model, test, run) for model in (world.model, outcome.model))
    assert reader(before.features[PENULTIMATE], test.target[:, 0]) > 0.9
    assert reader(after.features[PENULTIMATE], test.target[:, 0]) < 0.7
    for retained in (1, 2):
        assert auc(after.logits[:, retained], test.target[:, retained]) > 0.9


@pytest.mark.parametrize("network", ["vit", "convnext"])
def test_behind_a_layer_norm_the_label_goes_and_the_others_stay(
    run: Run, network: str, elsewhere: Callable[[str], World]
) -> None:
    """A LayerNorm's features have a constant sum: by its slope, the edit was as good as random."""
    world = elsewhere(network)
    test = world.source.test
    outcome = forget_labels(world.model, ["top"], world.data, method="erasure")
    before, after = (outputs(model, test, run) for model in (world.model, outcome.model))
    assert reader(before.features[PENULTIMATE], test.target[:, 0]) > 0.95
    assert reader(after.features[PENULTIMATE], test.target[:, 0]) < 0.8
    for retained in (1, 2):
        assert auc(after.logits[:, retained], test.target[:, retained]) > 0.95


def test_with_as_many_features_as_images_the_rows_are_not_refitted_to_noise() -> None:
    """Old rows that are right already: the freest refit loses on new images, the chosen one does not."""
    rng = np.random.default_rng(0)
    scale = np.geomspace(1, 0.1, 200)
    old = np.zeros((3, 200))
    old[:, :5] = rng.normal(size=(3, 5))
    x, new = (rng.normal(size=(count, 200)) * scale for count in (200, 2000))
    target, truth = ((rng.random((len(h), 3)) < expit(h @ old.T)).astype(np.int8) for h in (x, new))
    shrink = shrink_of(x, target, old, np.zeros(3), 1.0, np.arange(200) % 4)
    found = {}
    for each in (SHRINK[0], shrink):
        rows = [refit(x, target[:, k].astype(float), old[k], 0.0, 1.0, each) for k in range(3)]
        found[each] = np.mean([auc(new @ row + bias, truth[:, k]) for k, (row, bias) in enumerate(rows)])
    original = np.mean([auc(new @ old[k], truth[:, k]) for k in range(3)])
    assert shrink > SHRINK[0]
    assert found[SHRINK[0]] < original - 0.02
    assert found[shrink] > original - 0.005


def test_with_many_images_the_rows_are_fitted_as_freely_as_ever() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 8))
    right, old = rng.normal(size=(2, 8)), rng.normal(size=(2, 8))
    target = (rng.random((400, 2)) < expit(x @ right.T)).astype(np.int8)
    target[:40, 0] = -1  # what is not annotated is in no loss
    assert shrink_of(x, target, old, np.zeros(2), 1.0, np.arange(400) % 4) == SHRINK[0]


def dead(model: nn.Module, units: int) -> nn.Module:
    """The model with this many of its 16 last units at 0 for every image."""
    with torch.no_grad():
        model.get_parameter("3.weight")[:units] = 0.0
        model.get_parameter("3.bias")[:units] = -1.0
    return model


def test_dead_features_are_left_alone_and_features_that_are_all_dead_are_refused() -> None:
    world = tiny_world()
    outcome = forget_labels(dead(world.model, 12), ["top"], world.data, method="erasure")
    assert all(bool(torch.isfinite(value).all()) for value in outcome.model.state_dict().values())
    assert not outcome.model.get_parameter("3.weight")[:12].any()
    with pytest.raises(MethodError, match="all 16 features of this model are the same for every image"):
        forget_labels(dead(world.model, 16), ["top"], world.data, method="erasure")


def test_rows_on_features_without_variance_move_their_bias_alone() -> None:
    """It was a singular matrix."""
    y = (np.arange(40) < 10).astype(float)
    weight, bias = refit(np.zeros((40, 3)), y, np.ones(3), 0.0, 1.0)
    np.testing.assert_allclose(weight, 1.0)
    assert expit(bias) == pytest.approx(0.25)


def test_equations_without_a_solution_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsolved(*_: object, **__: object) -> None:
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(np.linalg, "svd", unsolved)
    world = tiny_world()
    with pytest.raises(
        MethodError, match=r"equations without a solution \(SVD did not converge\); .*another"
    ):
        forget_labels(world.model, ["top"], world.data, method="erasure")


def test_features_that_are_not_one_a_channel_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3))
    with pytest.raises(MethodError, match="makes 8 channels and the head reads 128 features"):
        forget_labels(model, ["top"], tiny_world().data, method="erasure")


def test_only_the_last_layer_and_the_output_rows_change() -> None:
    world = tiny_world(batchnorm=True)
    outcome = forget_labels(world.model, ["top"], world.data, method="erasure")
    assert outcome.history.steps == 0
    layers = {name.split(".")[0] for name in differing(world.model, outcome.model)}
    numbers = sorted({name.split(".")[0] for name in world.model.state_dict()}, key=int)
    assert layers == set(numbers[-2:])


def test_nothing_is_taken_of_what_the_retained_annotations_tell() -> None:
    """A residual is uncorrelated with every retained annotation, whatever the strength."""
    data = correlated(400)
    found = residuals(data, [0], [1, 2], np.random.default_rng(1).normal(size=(400, 2)), 0.5)[:, 0]
    raw = np.corrcoef(data.target[:, 0], data.target[:, 1])[0, 1]
    assert abs(raw) > 0.3
    for column in (1, 2):
        assert abs(np.corrcoef(found, data.target[:, column])[0, 1]) < 0.01  # shrunk by one image of 400


@pytest.mark.parametrize(
    ("images", "annotated", "agree", "copy"),
    [
        (2048, 2048, 1.0, True),
        (2048, 2048, 0.0, True),  # the opposite
        (64, 64, 1.0, True),  # annotated in all images, however few
        (2048, 200, 1.0, True),
        (2048, 16, 1.0, False),  # so few agree by chance, as of a label that does in 92 %
        (2048, 2048, 0.999, False),
    ],
)
def test_a_label_is_a_copy_if_all_images_agree_and_these_are_enough(
    images: int, annotated: int, agree: float, copy: bool
) -> None:
    rng = np.random.default_rng(0)
    label = np.arange(images) % 2
    other = np.where(rng.permutation(images) < agree * images, label, 1 - label)
    other[annotated:] = -1
    data = tiny_world(images=images).data
    target = np.c_[label, other, rng.integers(0, 2, images)].astype(np.int8)
    assert has_twin(replace(data, target=target), 0, [1, 2]) is copy


@pytest.mark.parametrize("exceptions", ["none", "unknown", "without"])
def test_a_label_of_a_group_stays_in_its_residual_with_or_without_exceptions(exceptions: str) -> None:
    """Of images that have exactly one of four, the others explain the label but for the exceptions."""
    rng, world = np.random.default_rng(0), tiny_world(images=4000).data
    images = len(world)
    kind = rng.choice(4, images, p=(0.4, 0.3, 0.25, 0.05))
    group = np.eye(4, dtype=np.int8)[kind]
    if exceptions == "unknown":
        group[np.arange(10), 1 + np.arange(10) % 3] = -1
    if exceptions == "without":
        group[:10] = 0
    free = (rng.random((images, 2)) < 0.5).astype(np.int8)
    data = replace(world, target=np.c_[group, free], labels=tuple("abcdef"))
    assert group_of(data, 0, [1, 2, 3, 4, 5]) == (1, 2, 3)
    assert group_of(data, 4, [0, 1, 2, 3, 5]) == ()
    found = residuals(data, [0], [1, 2, 3, 4, 5], rng.normal(size=(images, 5)), 0.5)[:, 0]
    label = group[:, 0] == 1
    assert np.corrcoef(found, label)[0, 1] > 0.98
    rarest = group[:, 3] == 1
    assert abs(found[rarest].mean()) < 2 * found.std()  # no other class pays


def test_strength_sets_how_much_of_the_logits_say_is_spared() -> None:
    """At 0 the residual is uncorrelated with the logits, at infinity it is that of the annotations alone."""
    data = correlated(400)
    rng = np.random.default_rng(0)
    logits = np.column_stack([data.target[:, 0] + rng.normal(size=400), rng.normal(size=400)])
    spared, half, none = (residuals(data, [0], [1, 2], logits, strength)[:, 0] for strength in (0, 0.5, 1e9))
    blind = residuals(data, [0], [1, 2], np.zeros_like(logits), 0.5)[:, 0]
    seen = [abs(np.corrcoef(found, logits[:, 0])[0, 1]) for found in (spared, half, none)]
    assert seen[0] < 0.01 < seen[1] < seen[2]
    np.testing.assert_allclose(none, blind, atol=1e-6)


def test_an_unknown_annotation_moves_nothing() -> None:
    data = correlated(100)
    target = data.target.copy()
    target[:30, 0] = -1
    found = residuals(replace(data, target=target), [0], [1, 2], np.zeros((100, 2)), 0.5)[:, 0]
    assert not found[:30].any()
    alone = residuals(data.take(np.arange(30, 100)), [0], [1, 2], np.zeros((70, 2)), 0.5)[:, 0]
    correlation = np.corrcoef(found[30:], alone)[0, 1]
    assert correlation > 0.999  # the retained averages are of all images here, of 70 there


def test_the_edit_is_the_least_change_that_leaves_no_covariance() -> None:
    """Where the features are linear in what the layer reads, the edit is LEACE, here computed slowly."""
    rng = np.random.default_rng(0)
    patches = rng.normal(size=(4000, 6))
    weight = rng.normal(size=(5, 6))
    features = patches @ weight.T
    target = (features @ rng.normal(size=5) + rng.normal(size=4000) > 0).astype(float)
    residual = (target - target.mean())[:, None]
    gain = np.array([1.0, 2.0, 0.5, 1.0, -1.0])
    change = least_change(Reading(features, patches, patches.mean(0), gain), residual)
    moved = (patches - patches.mean(0)) @ change.T * gain
    hidden = features - features.mean(0)
    spread = hidden.T @ hidden / 4000
    spread += 1e-2 * np.trace(spread) / 5 * np.eye(5)
    covariance = hidden.T @ residual[:, 0] / 4000
    inverse = np.linalg.inv(spread)
    leace = -np.outer(hidden @ inverse @ covariance, covariance) / (covariance @ inverse @ covariance)
    np.testing.assert_allclose(moved, leace, atol=0.02 * np.abs(leace).max())  # the ridge penalty
    left = (hidden + moved).T @ residual[:, 0] / 4000
    assert np.linalg.norm(left) < 0.05 * np.linalg.norm(covariance)


def test_the_penalty_is_that_of_the_least_leave_one_out_error() -> None:
    """Leaving images out one by one, with each penalty, gives the same choice."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 20)), rng.normal(size=(30, 1))
    y += x[:, :1]
    unit = (x**2).sum() / 20
    errors, fits = [], []
    for penalty in np.logspace(-3, 1, 9) * unit:

        def solve(rows: np.ndarray, penalty: float = penalty) -> np.ndarray:
            return np.linalg.solve(x[rows].T @ x[rows] + penalty * np.eye(20), x[rows].T @ y[rows])

        misses = [y[i] - x[i] @ solve(np.arange(30) != i) for i in range(30)]
        errors.append(np.sum(np.square(misses)))
        fits.append(solve(np.arange(30) >= 0))
    assert 0 < np.argmin(errors) < 8
    np.testing.assert_allclose(ridge(x, y), fits[int(np.argmin(errors))], atol=1e-10)


@pytest.mark.parametrize("anchor", [0.1, 1.0, 1e4])
def test_a_refitted_row_is_the_minimum_of_its_formula(anchor: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)) + 1.0
    y = (rng.random(200) < expit(x @ [1.0, -1.0, 0.0, 0.5])).astype(float)
    old, bias = np.array([0.2, 0.1, -0.3, 0.0]), 0.4
    weight, offset = refit(x, y, old, bias, anchor)
    hidden = x - x.mean(0)
    spread = hidden.T @ hidden / 200
    spread += 1e-3 * np.trace(spread) / 4 * np.eye(4)

    def loss(row: np.ndarray) -> float:
        z = x @ row[:4] + row[4]
        return np.mean(np.logaddexp(0, z) - y * z) + anchor / 2 * (row[:4] - old) @ spread @ (row[:4] - old)

    best = minimize(loss, np.append(old, bias), method="BFGS", options={"gtol": 1e-8})
    np.testing.assert_allclose(np.append(weight, offset), best.x, atol=1e-4)  # finite differences of BFGS
    assert np.mean(expit(x @ weight + offset)) == pytest.approx(y.mean(), abs=1e-6)
    if anchor == 1e4:
        np.testing.assert_allclose(weight, old, atol=1e-3)


def test_a_refitted_row_whose_bias_is_held_is_the_minimum_with_this_bias() -> None:
    rng = np.random.default_rng(0)
    x, weight, bias, anchor = rng.normal(1.0, 1.0, size=(400, 4)), rng.normal(size=4), 0.7, 0.3
    y = (rng.uniform(size=400) < expit(x @ rng.normal(size=4))).astype(float)
    new, held = refit(x, y, weight, bias, anchor, 0.0, hold_bias=True)
    moment = x.T @ x / len(x)
    slope = x.T @ (expit(x @ new + bias) - y) / len(x) + anchor * moment @ (new - weight)
    assert held == bias
    np.testing.assert_allclose(slope, 0.0, atol=1e-8)


def test_rows_of_a_head_without_a_bias_are_refitted_as_well() -> None:
    world = tiny_world("correlated")
    world.model[5].bias.requires_grad_(False)
    rows = {}
    for anchor in (1.0, 0.0):
        options = {"method": "erasure", "anchor": anchor}
        rows[anchor] = find_head(forget_labels(world.model, ["top"], world.data, **options).model, 3)[1]
    before = find_head(world.model, 3)[1]
    assert torch.equal(before.weight[1:], rows[0.0].weight[1:])
    assert (before.weight != rows[1.0].weight).any(1).tolist() == [True] * 3
    assert torch.equal(before.bias[1:], rows[1.0].bias[1:])


def test_an_earlier_label_is_erased_again(run: Run) -> None:
    """Its output has gone, but not its annotations: the edit for another label takes it out, too."""
    world = tiny_world()
    test = world.source.test
    outcome = forget_labels(world.model, ["bottom"], world.data, method="erasure", forgotten=["top"])
    after = outputs(outcome.model, test, run).features[PENULTIMATE]
    assert reader(outputs(world.model, test, run).features[PENULTIMATE], test.target[:, 0]) > 0.9
    assert reader(after, test.target[:, 0]) < 0.85  # two labels at once, a few dozen images each


def test_without_an_anchor_the_retained_rows_keep_their_bits() -> None:
    world = tiny_world(batchnorm=True)
    for anchor in (0.0, 1.0):
        model = forget_labels(world.model, ["top"], world.data, method="erasure", anchor=anchor).model
        rows = [[*model.modules()][-1].weight[1:], [*world.model.modules()][-1].weight[1:]]
        assert torch.equal(*rows) == (anchor == 0)


HUGE: tuple[dict[str, Any], ...] = (
    {"strength": 1e308},
    {"anchor": 1e308},
    {"rounds": 10**400},
    {"anchor": float("inf")},
)


def test_bad_numbers_are_refused() -> None:
    small: tuple[dict[str, Any], ...] = (
        {"strength": 0.0},
        {"strength": float("nan")},
        {"rounds": 0},
        {"anchor": -1},
    )
    for options in (*small, *HUGE):
        with pytest.raises(OptionError, match=f"--{next(iter(options))} is"):
            erasure(**options)
    world = tiny_world()
    with pytest.raises(MethodError, match=r"4 parts of 8 images or more, but there are 24"):
        forget_labels(world.model, ["top"], world.data, method="erasure", images=24)


def correlated(count: int) -> Dataset:
    """Three labels, the second an echo of the first."""
    rng = np.random.default_rng(0)
    first = rng.random(count) < 0.5
    second = np.where(rng.random(count) < 0.3, rng.random(count) < 0.5, first)
    target = np.column_stack([first, second, rng.random(count) < 0.4]).astype(np.int8)
    return replace(tiny_world().data.take(np.zeros(count, int)), target=target)
