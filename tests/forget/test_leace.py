"""LEACE at the head: the guarantee in float64, the paper's formula as the oracle, and the bill."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import fractional_matrix_power, pinvh
from sklearn.linear_model import LogisticRegression

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import MethodError
from unlabel.core.request import Request
from unlabel.forget.driver import calibration, forget_labels
from unlabel.forget.leace import Eraser
from unlabel.forget.methods.leace import erase_at_head
from unlabel.forget.ranking import auc, aucs
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.models.outputs import PENULTIMATE
from unlabel.testing import World, check_unlearner, differing, tiny_world

IMAGES, FEATURES = 600, 12


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def made(kind: str = "plain") -> tuple[np.ndarray, np.ndarray]:
    """Features of which the first few tell two labels, and the labels."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(IMAGES, FEATURES))
    target = (hidden[:, :2] + 0.5 * rng.normal(size=(IMAGES, 2)) > 0.3).astype(np.int8)
    features = hidden @ rng.normal(size=(FEATURES, FEATURES)) + 5.0 * rng.normal(size=FEATURES)
    if kind == "unknown":
        target[rng.uniform(size=target.shape) < 0.3] = -1
    if kind == "duplicate":
        target[:, 1] = target[:, 0]
    if kind == "dead":  # units that are 0 for every image, as behind a ReLU
        features[:, [3, 7]] = 0.0
    if kind == "collinear":
        features[:, 5] = 2.0 * features[:, 1] - features[:, 2]
    if kind == "single precision":
        features = features.astype(np.float32)
    if kind == "never learnt":
        target[:, 1] = rng.uniform(size=IMAGES) < 0.5
    return features, target


KINDS = ["plain", "unknown", "duplicate", "dead", "collinear", "single precision", "never learnt"]


def covariance(features: np.ndarray, target: np.ndarray, column: int) -> np.ndarray:
    """With one label, over the images in which it is known."""
    known = target[:, column] >= 0
    centred = features[known].astype(np.float64) - features[known].mean(0, dtype=np.float64)
    return centred.T @ (target[known, column] == 1) / known.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_after_erasure_no_feature_has_a_covariance_with_the_label(kind: str) -> None:
    features, target = made(kind)
    erased = Eraser.fit(features, target)(features)
    for column in (0, 1):
        before = np.abs(covariance(features, target, column)).max()
        after = np.abs(covariance(erased, target, column)).max()
        # float64 rounding of features of about 10, through an inverse of condition up to 1e8
        assert after < 1e-9
        assert before > (0.1 if kind != "never learnt" or column == 0 else 1e-3)


@pytest.mark.parametrize("kind", ["plain", "unknown", "dead"])
def test_a_logistic_probe_is_at_chance_on_the_erased_features(kind: str) -> None:
    """Its best answer is a constant, of which an AUC would say nothing: how far it varies is read instead."""
    features, target = made(kind)
    eraser = Eraser.fit(features, target)
    for column in (0, 1):
        known = target[:, column] >= 0
        spread, score = [], []
        for x in (features, eraser(features)):
            x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-9)
            probe = LogisticRegression(max_iter=2000).fit(x[known], target[known, column])
            spread.append(np.std(probe.decision_function(x[known])))
            score.append(auc(probe.decision_function(x[known]), target[known, column]))
        assert score[0] > 0.85
        assert spread[1] < 1e-3 * spread[0]


@pytest.mark.parametrize("kind", ["plain", "duplicate", "dead", "collinear"])
def test_the_eraser_is_the_papers_formula(kind: str) -> None:
    """x - W^+ Pi W (x - mean): W whitens, Pi projects on the whitened covariances."""
    features, target = made(kind)
    centred = features - features.mean(0)
    sigma = centred.T @ centred / IMAGES
    across = np.stack([covariance(features, target, column) for column in (0, 1)], 1)
    values, vectors = np.linalg.eigh(sigma)
    kept = values > 1e-10 * values[-1]
    root = vectors[:, kept] * np.sqrt(values[kept])
    whiten = (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
    left = np.linalg.svd(whiten @ across, full_matrices=False)
    basis = left[0][:, left[1] > 1e-8 * left[1][0]]
    exact = features - centred @ (root @ vectors[:, kept].T @ basis @ basis.T @ whiten).T
    eraser = Eraser.fit(features, target)
    np.testing.assert_allclose(eraser(features), exact, atol=1e-8)
    if kind == "plain":
        assert np.allclose(fractional_matrix_power(pinvh(sigma), 0.5), whiten, atol=1e-8)


def test_it_moves_the_features_less_than_another_projection_that_erases_too() -> None:
    features, target = made()
    mean = features.mean(0)
    sigma = np.cov(features.T)
    across = np.stack([covariance(features, target, column) for column in (0, 1)], 1)
    plain = features - (features - mean) @ (across @ np.linalg.pinv(across)).T
    assert np.abs(covariance(plain, target, 0)).max() < 1e-9
    moved = [
        float(np.einsum("nf,fg,ng->", x - features, np.linalg.inv(sigma), x - features)) / IMAGES
        for x in (Eraser.fit(features, target)(features), plain)
    ]
    assert moved[0] == pytest.approx(2.0, rel=0.01)  # two directions of unit variance
    assert moved[1] > 1.2 * moved[0]


def test_erasing_keeps_the_mean_and_erasing_twice_is_erasing_once() -> None:
    features, target = made()
    eraser = Eraser.fit(features, target)
    once = eraser(features)
    np.testing.assert_allclose(once.mean(0), features.mean(0), atol=1e-10)
    np.testing.assert_allclose(eraser(once), once, atol=1e-9)
    assert np.linalg.matrix_rank(eraser.out @ eraser.into, tol=1e-6) == len(eraser.level) == 2


def test_two_labels_that_are_one_cost_one_direction() -> None:
    features, target = made("duplicate")
    both, one = Eraser.fit(features, target), Eraser.fit(features, target[:, :1])
    assert len(both.level) == len(one.level) == 1
    np.testing.assert_allclose(both.out @ both.into, one.out @ one.into, atol=1e-9)


def test_a_label_without_a_covariance_costs_nothing() -> None:
    features, target = made()
    for value in (0, 1, -1):
        eraser = Eraser.fit(features, np.full((IMAGES, 1), value, np.int8))
        np.testing.assert_allclose(eraser(features), features, atol=1e-9)
    for number in (0.0, 3.0, 0.1):  # the mean of 0.1 is not 0.1, to rounding
        eraser = Eraser.fit(np.full((IMAGES, FEATURES), number), target)
        assert len(eraser.level) == 0


def test_folding_reads_as_the_head_reads_erased_features() -> None:
    features, target = made()
    eraser = Eraser.fit(features, target)
    rng = np.random.default_rng(1)
    weight, bias = rng.normal(size=(5, FEATURES)), rng.normal(size=5)
    new, shift = eraser.fold(weight, bias)
    np.testing.assert_allclose(features @ new.T + shift, eraser(features) @ weight.T + bias, atol=1e-9)


# -- the method


@pytest.mark.parametrize("kind", ["independent", "correlated", "unknown"])
def test_no_output_has_a_covariance_with_the_label_and_no_other_weight_moves(kind, run: Run) -> None:
    world = tiny_world(kind)
    outcome = forget_labels(world.model, ["top"], world.data, method="leace-head", keep_row=True, run=run)
    name, _ = find_head(world.model, 3)
    assert differing(world.model, outcome.model) == [f"{name}.bias", f"{name}.weight"]
    seen = calibration(world.data, 2048, run.seed)
    before, after = (outputs(model, seen, run) for model in (world.model, outcome.model))
    largest = np.abs(covariance(before.logits, seen.target, 0)).max()
    # a head in float32: weights of about 10 rounded at 1e-6, on 16 features of about 1
    assert np.abs(covariance(after.logits, seen.target, 0)).max() < 1e-4 * largest
    assert largest > 1.0


def test_the_features_are_unchanged_and_a_probe_still_finds_the_label(run: Run) -> None:
    """What the method does not do, by its own words."""
    world = tiny_world()
    model = forget_labels(world.model, ["top"], world.data, method="leace-head").model
    probe, test = world.source.probe, world.source.test
    found = [[outputs(m, d, run).features[PENULTIMATE] for d in (probe, test)] for m in (world.model, model)]
    assert np.array_equal(found[0][1], found[1][1])
    fitted = LogisticRegression(max_iter=500).fit(found[1][0], probe.target[:, 0])
    assert auc(fitted.decision_function(found[1][1]), test.target[:, 0]) > 0.9


def test_the_outputs_together_tell_a_linear_reader_nothing_on_the_fitted_images(run: Run) -> None:
    world = tiny_world("correlated")
    seen = calibration(world.data, 2048, run.seed)
    model = forget_labels(world.model, ["top"], world.data, method="leace-head", run=run).model
    spread = []
    for each, columns in ((world.model, [1, 2]), (model, [1, 2])):
        logits = outputs(each, seen, run).logits[:, columns].astype(np.float64)
        logits = (logits - logits.mean(0)) / logits.std(0)
        probe = LogisticRegression(max_iter=1000).fit(logits, seen.target[:, 0])
        spread.append(np.std(probe.decision_function(logits)))
    assert spread[0] > 1.0
    assert spread[1] < 0.01


def test_the_bill_is_what_the_retained_labels_lose_and_a_companion_pays_most(run: Run) -> None:
    lost = {}
    for kind in ("independent", "correlated"):
        world = tiny_world(kind)
        outcome = forget_labels(world.model, ["top"], world.data, method="leace-head", run=run)
        seen = calibration(world.data, 2048, run.seed)
        before, after = (
            np.array(aucs(outputs(m, seen, run).logits, seen, (1, 2))) for m in (world.model, outcome.model)
        )
        # the bill is of a head in float32, folded once more than the one that was written
        assert outcome.options["retained_auc_lost"] == pytest.approx((before - after).mean(), abs=1e-4)
        assert outcome.options["retained_auc_lost_most"] == pytest.approx((before - after).max(), abs=1e-4)
        lost[kind] = outcome.options
    assert lost["correlated"]["retained_label_hit"] == "bottom"
    assert (
        lost["correlated"]["retained_auc_lost_most"] > lost["independent"]["retained_auc_lost_most"] + 0.005
    )
    assert outcome.images_processed == outcome.images_used == len(seen)
    assert outcome.history.steps == 0


def test_the_bill_is_empty_where_no_retained_label_varies() -> None:
    world = tiny_world()
    data = replace(world.data, target=world.data.target.copy())
    data.target[:, 1:] = 1
    outcome = forget_labels(world.model, ["top"], data, method="leace-head")
    assert outcome.options["retained_auc_lost"] is None


def test_the_row_of_an_earlier_label_keeps_its_bits() -> None:
    world = tiny_world()
    first = forget_labels(world.model, ["top"], world.data, method="head-removal").model
    options = {"method": "leace-head", "forgotten": ["top"], "keep_row": True}
    later = forget_labels(first, ["bottom"], world.data, **options).model
    before, after = find_head(first, 3)[1], find_head(later, 3)[1]
    assert torch.equal(before.weight[0], after.weight[0])
    assert torch.equal(before.bias[0], after.bias[0])
    assert (before.weight != after.weight).any(1).tolist() == [False, True, True]


def largest_covariance(model: torch.nn.Module, world: World, column: int, run: Run) -> float:
    logits = outputs(model, world.data, run).logits
    return float(np.abs(covariance(logits, world.data.target, column)).max())


@pytest.mark.parametrize("method", ["leace-head", "leace-layer"])
def test_a_second_request_does_not_give_the_first_label_back_to_the_outputs(method: str, run: Run) -> None:
    world = tiny_world("correlated", images=512)
    first = forget_labels(world.model, ["top"], world.data, method="leace-head", run=run).model
    second = forget_labels(first, ["middle"], world.data, method, forgotten=["top"], run=run).model
    for column in (0, 1):
        largest = largest_covariance(world.model, world, column, run)
        assert largest_covariance(second, world, column, run) < 1e-4 * largest


def test_where_nobody_annotates_the_first_label_any_more_the_second_one_goes_all_the_same(run: Run) -> None:
    world = tiny_world("correlated", images=512)
    first = forget_labels(world.model, ["top"], world.data, method="leace-head", run=run).model
    target = world.data.target.copy()
    target[:, 0] = -1
    data = replace(world.data, target=target)
    second = forget_labels(first, ["middle"], data, "leace-head", forgotten=["top"], run=run).model
    largest = largest_covariance(world.model, world, 1, run)
    assert largest_covariance(second, world, 1, run) < 1e-4 * largest


def test_exclusive_classes_keep_the_contract() -> None:
    world = tiny_world()
    target = np.eye(3, dtype=np.int8)[np.arange(len(world.data)) % 3]
    classes = replace(world.data, target=target, exclusive=True)
    world = replace(world, source=replace(world.source, train=classes))
    check_unlearner("leace-head", world=world, random=False)


def test_features_that_are_not_numbers_are_an_error() -> None:
    world = tiny_world()
    with torch.no_grad():
        world.model.get_parameter("0.bias")[0] = float("nan")
    with pytest.raises(MethodError, match="features are NaN or infinite"):
        erase_at_head(world.model, Request.make(["top"], world.data.labels), world.data, engine.start())


def test_an_auc_counts_ties_half_and_leaves_unknown_images_out() -> None:
    rng = np.random.default_rng(0)
    score = np.round(rng.normal(size=200), 1)
    target = rng.integers(-1, 2, 200)
    pairs = score[target == 1][:, None] - score[target == 0][None]
    exact = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    assert auc(score, target) == pytest.approx(exact, abs=1e-12)
    assert np.isnan(auc(score, np.ones(200, int)))
