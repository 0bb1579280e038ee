"""Probes on features: fair splits, honest probabilities, nothing learnt from nothing."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression

from unlabel.audit.attacks.logistic import NARROW, Standard, fit_logistic, platt
from unlabel.audit.attacks.mlp import fit_mlps
from unlabel.audit.attacks.probes import (
    INNER,
    choose_penalty,
    folds,
    linear,
    multilayer,
    read_features,
    watched,
)
from unlabel.audit.inputs.question import ask
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.statistics.estimate import auc


@pytest.fixture
def male(world):
    return ask("Male", *world.splits)


def of(features):
    """Outputs with these features and no logits worth reading."""
    return Outputs(np.zeros((len(features), 5), np.float32), {PENULTIMATE: features.astype(np.float32)})


def test_folds_keep_people_together_and_deal_kinds_evenly():
    rng = np.random.default_rng(0)
    cluster = rng.integers(0, 120, 600)
    y = rng.random(120)[cluster] < 0.2
    place = folds(y, cluster, 5, seed=3, stream="test")
    for person in np.unique(cluster):
        assert len(np.unique(place[cluster == person])) == 1
    present = np.bincount(place, y)
    assert present.max() <= 1.5 * present.min()
    assert not np.array_equal(place, folds(y, cluster, 5, seed=4, stream="test"))


def test_a_rare_label_is_present_in_every_fold():
    y = np.zeros(500, bool)
    y[:7] = True
    assert (np.bincount(folds(y, np.arange(500), 5, 0, "test"), y) >= 1).all()


@pytest.mark.parametrize("people", [2, 4, 6, 10, 20])
def test_early_stopping_watches_each_kind_and_leaves_each_to_learn_from(people):
    """Of as few people as an audit allows; their photos are many."""
    cluster = np.repeat(np.arange(people + 40), 20)
    y = cluster < people
    usual = 0
    for seed in range(20):
        fold_of = folds(y, cluster, 5, seed, "fold/0")
        inner = folds(y, cluster, INNER, seed, "inner/0") == 0
        for k in range(5):
            rest = fold_of != k
            watch = watched(y, cluster, rest, inner, seed, f"inner/0/{k}")
            assert not np.any(watch & ~rest)
            assert not np.isin(cluster[rest & ~watch], cluster[watch]).any()
            if len(np.unique(cluster[y & rest])) < 2:  # nobody of this kind can be spared
                assert not watch.any()
                continue
            for part in (watch, rest & ~watch):
                assert len(np.unique(y[part])) == 2
            usual += np.array_equal(watch, rest & inner)
    assert usual or people < 4  # what served before is what is watched


def test_a_member_that_watches_nothing_is_trained_to_the_end():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    y = x[:, 0] > 0
    none, all_ = np.zeros((300, 1), bool), np.ones((300, 1), bool)

    def fitted(epochs):
        return fit_mlps(x, y, all_, none, x, hidden=8, epochs=epochs, seed=0)[1][:, 0]

    losses = [np.mean(np.logaddexp(0, np.where(y, -said, said))) for said in map(fitted, (1, 10, 40))]
    assert losses[0] > losses[1] + 0.05 > losses[2] + 0.1


def test_each_probe_is_kept_as_it_was_where_the_images_it_watches_lose_least():
    """The oracle trains to the end from the start, once for every number of epochs."""
    rng = np.random.default_rng(1)
    x, x_test = rng.normal(size=(900, 40)), rng.normal(size=(50, 40))
    y = x[:, 0] + 2 * rng.normal(size=900) > 0
    watch = np.stack([np.arange(900) % 2 == 0, np.arange(900) < 600], axis=1)

    def fitted(watched, epochs):
        return fit_mlps(x, y, ~watch, watched, x_test, hidden=8, epochs=epochs, seed=0)

    every = [fitted(np.zeros_like(watch), epochs) for epochs in range(1, 31)]
    losses = np.logaddexp(
        0, np.where(y[:, None], *(sign * np.stack([on for on, _ in every]) for sign in (-1, 1)))
    )
    lowest = np.stack([losses[:, part, k].mean(1) for k, part in enumerate(watch.T)]).argmin(1)
    assert 0 < min(lowest) < max(lowest) < 26
    found = fitted(watch, 30)
    for k, epoch in enumerate(lowest):
        for said, expected in zip(found, every[epoch], strict=True):
            assert np.array_equal(said[:, k], expected[:, k])


@pytest.mark.parametrize(
    ("images", "columns", "exact"), [(60, 90, 1e-6), (900, 40, 1e-6), (80, NARROW + 1, 0.03)]
)
@pytest.mark.parametrize("c", [0.01, 10.0])
def test_a_logistic_regression_ends_where_its_gradient_is_0(images, columns, exact, c):
    """The mean gradient of c x log loss + |w|^2 / 2, in closed form; two columns are copies."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(images, columns))
    x[:, 1] = x[:, 0]
    y = x[:, 0] + rng.logistic(size=images) > 0
    fitted = fit_logistic(x, y, c)
    off = expit(fitted.decision_function(x)) - y
    assert np.abs(c * x.T @ off + fitted.coef_[0]).max() < exact * c * images
    assert abs(off.sum()) < exact * images


def test_platt_agrees_with_sklearn():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(500, 3)), rng.random(500) < 0.3
    x[:, 0] += y
    place = folds(y, np.arange(500), 3, 0, "test")
    splits = [(np.flatnonzero(place != k), np.flatnonzero(place == k)) for k in range(3)]
    theirs = CalibratedClassifierCV(LogisticRegression(), cv=splits).fit(x, y)
    for member, (learn, held) in zip(theirs.calibrated_classifiers_, splits, strict=True):
        slope, offset = platt(
            LogisticRegression().fit(x[learn], y[learn]).decision_function(x[held]), y[held]
        )
        # sklearn's solver stops at a gradient of 1e-6 or so; the sign convention differs.
        assert slope == pytest.approx(-member.calibrators[0].a_, rel=1e-3)
        assert offset == pytest.approx(-member.calibrators[0].b_, abs=1e-3)


def test_platt_stays_finite_on_separable_and_on_constant_scores():
    y = np.arange(40) < 15
    slope, offset = platt(np.where(y, 1000.0, -1000.0), y)
    assert 1 / (1 + np.exp(-(1000 * slope + offset))) == pytest.approx(16 / 17, abs=1e-4)
    slope, offset = platt(np.full(40, 3.0), y)
    assert 1 / (1 + np.exp(-(3 * slope + offset))) == pytest.approx(0.38, abs=0.01)


def test_both_probes_find_a_planted_direction_and_agree_with_the_best_line(world, male, quick):
    knows = world.subject("before", 0.7)
    x, x_test = knows.probe.features[PENULTIMATE], knows.test.features[PENULTIMATE]
    best = LogisticRegression().fit(x, world.probe.target[:, 0]).decision_function(x_test)
    limit = auc(best, male.test, male.test_cluster).affine(2, -1).value
    found = read_features(knows.probe, knows.test, male, quick)
    assert limit > 0.6
    for name in ("probe.adv.lin", "probe.adv.mlp"):
        assert found[name].value == pytest.approx(limit, abs=0.03)  # two standard errors
    assert found["probe.bits.lin"].value > 0.2


def test_only_the_multilayer_probe_finds_a_leak_in_the_spread(world, male, quick):
    rng = np.random.default_rng(0)

    def spread(data):
        return of(rng.normal(size=(len(data), 6)) * np.where(data.target[:, :1] == 1, 2.5, 0.5))

    probe, test = spread(world.probe), spread(world.test)
    assert abs(linear(probe, test, male, quick).estimates(male)[0].value) < 0.15
    assert multilayer(probe, test, male, replace(quick, epochs=40)).estimates(male)[0].value > 0.6


def test_noise_tells_nothing(world, male, quick):
    rng = np.random.default_rng(0)
    probe, test = (of(rng.normal(size=(1500, 8))) for _ in range(2))
    for name, item in read_features(probe, test, male, quick).items():
        assert item.lower() < 0.02, name
        assert item.value < 0.09, name  # three standard errors


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_features_does_not_matter(world, male, quick, scale):
    knows = world.subject("before")
    plain = linear(knows.probe, knows.test, male, quick).estimates(male)[0]
    other = [of(part.features[PENULTIMATE] * np.float32(scale)) for part in (knows.probe, knows.test)]
    assert linear(*other, male, quick).estimates(male)[0].value == pytest.approx(plain.value, abs=1e-3)


@pytest.mark.parametrize("rest", [0.0, 7.5])
def test_constant_features_are_a_coin_exactly(world, male, quick, rest):
    mute = of(np.full((1500, 4), rest))
    found = read_features(mute, mute, male, quick)
    for name, item in found.items():
        assert item.value == pytest.approx(0, abs=1e-6), name


def test_a_unit_that_almost_never_fires_does_not_spoil_the_probabilities(world, male, quick):
    knows = world.subject("before")

    def with_rare(part, loud):
        table = part.features[PENULTIMATE].copy()
        rare = np.zeros((len(table), 1), np.float32)
        rare[:2] = loud
        return of(np.hstack([table, rare]))

    plain = linear(knows.probe, knows.test, male, quick).estimates(male)[1]
    found = linear(with_rare(knows.probe, 1.0), with_rare(knows.test, 1e4), male, quick).estimates(male)[1]
    assert found.value == pytest.approx(plain.value, abs=0.02)


def test_columns_of_rounding_noise_are_dropped():
    rng = np.random.default_rng(0)
    table = np.column_stack([rng.normal(size=100), np.full(100, 3.0), 1e4 + 1e-4 * rng.normal(size=100)])
    assert Standard.of(table).keep.tolist() == [0]


def test_unknown_annotations_are_left_out_of_p(world, male, quick):
    target = world.probe.target.copy()
    target[::3, 0] = -1
    fewer = ask("Male", replace(world.probe, target=target), world.test, world.train)
    knows = world.subject("before")
    lost = linear(knows.probe, knows.test, fewer, quick)
    part = of(knows.probe.features[PENULTIMATE][np.arange(1500) % 3 != 0])
    kept = ask("Male", world.probe.take(np.arange(1500) % 3 != 0), world.test, world.train)
    again = linear(part, knows.test, kept, quick)
    assert lost.estimates(male)[0].value == again.estimates(male)[0].value


def test_same_seed_same_bits(world, male, quick):
    knows = world.subject("before", 0.5)
    first, second = (read_features(knows.probe, knows.test, male, quick) for _ in range(2))
    assert {k: v.value for k, v in first.items()} == {k: v.value for k, v in second.items()}
    other = read_features(knows.probe, knows.test, male, replace(quick, seed=1))
    assert first["probe.adv.mlp"].value != other["probe.adv.mlp"].value


@pytest.mark.usefixtures("every_penalty")
def test_a_stronger_penalty_is_chosen_where_there_is_less_to_find():
    rng = np.random.default_rng(0)
    y = rng.random(300) < 0.5
    noise = rng.normal(size=(300, 40))
    assert choose_penalty(noise, y, np.arange(300), 0) == 0.01
    clear = noise.copy()
    clear[:, 0] += 3 * y
    assert choose_penalty(clear, y, np.arange(300), 0) > 0.01
