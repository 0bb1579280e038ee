"""Bounds for many groups at once hold together, and follow people and seeds."""

from dataclasses import replace

import numpy as np
import pytest

from unlabel.statistics.contrast import contrast
from unlabel.statistics.estimate import Estimate, average
from unlabel.statistics.simultaneous import bands

GROUPS = 12


def one_mean(terms, mask, cluster, shift=0.0):
    found = average(terms, mask, cluster)
    return replace(found, value=found.value + shift)


def drawn(rng, references=3, spread=0.0, n=800, people=2):
    """A model and references whose true difference is 0 in every group, which overlap."""
    cluster = np.arange(n) // people
    kinds = rng.integers(0, GROUPS // 2, n)
    masks = [(kinds == k // 2) == (k % 2 == 0) for k in range(GROUPS)]
    person = rng.normal(size=n // people)[cluster]
    own = person + rng.normal(size=n)
    width = 1.5 / np.sqrt([mask.sum() for mask in masks])
    model = [one_mean(own, mask, cluster) for mask in masks]
    others = []
    for _ in range(references):
        terms, shift = 0.3 * rng.normal(size=n), spread * width * rng.normal(size=GROUPS)
        others.append([one_mean(terms, mask, cluster, at) for mask, at in zip(masks, shift, strict=True)])
    return model, others, cluster


@pytest.mark.parametrize(
    ("references", "spread"),
    [
        (1, 0.0),
        pytest.param(2, 0.5, marks=pytest.mark.exhaustive),
        (2, 4.0),
        pytest.param(3, 0.0, marks=pytest.mark.exhaustive),
        (3, 0.5),
        pytest.param(3, 4.0, marks=pytest.mark.exhaustive),
    ],
)
def test_all_bounds_hold_together_as_often_as_they_say(references, spread):
    """Also where the spread of the retrained models is most of the error; `--all` pairs the values anew."""
    worlds, held, alarms, apart = 150, 0, 0, 0
    for seed in range(worlds):
        rng = np.random.default_rng((seed, references))
        model, others, _ = drawn(rng, references, spread, n=400)
        found = bands(model, others)
        held += all(band.upper >= 0 for band in found)
        alarms += any(band.lower > 0 for band in found)
        each = 1 - 0.05 / GROUPS
        apart += any(contrast(own, at).lower(each) > 0 for own, *at in zip(model, *others, strict=True))
    # 150 worlds: 5 % has a standard error of 1.8 points; three of them are allowed
    assert held / worlds > 0.95 - 0.053
    assert alarms / worlds < 0.05 + 0.053
    if spread > 1:
        assert apart / worlds > 0.1, "Satterthwaite's bounds must be seen to fail here"


def test_a_single_group_with_one_reference_has_the_plain_bound():
    model, others, _ = drawn(np.random.default_rng(0), 1)
    (found,) = bands(model[:1], [others[0][:1]])
    excess = model[0] - others[0][0]
    assert (found.value, found.lower, found.upper) == (excess.value, excess.lower(), excess.upper())
    (wider, *_) = bands(model, others)
    assert wider.upper > found.upper


def test_the_spread_alone_has_students_bound():
    zero = [Estimate(value, np.zeros(9), np.arange(9), np.ones(9, bool)) for value in (0.0, 0.1, 0.2, 0.6)]
    (found,) = bands([zero[0]], [[item] for item in zero[1:]], 0.95)
    assert found.upper == pytest.approx(-0.3 + 2.92 * np.std([0.1, 0.2, 0.6], ddof=1) / 3**0.5, abs=1e-4)


def test_the_spread_of_retrained_models_widens_the_bounds():
    rng = np.random.default_rng(2)
    widths = []
    for spread in (0.0, 1.0, 4.0):
        model, others, _ = drawn(rng, 3, spread)
        found = bands(model, others)
        widths.append(np.mean([band.upper - band.value for band in found]))
    assert widths[0] < widths[1] < widths[2]


def test_the_order_of_images_plays_no_part():
    model, others, cluster = drawn(np.random.default_rng(3))
    order = np.random.default_rng(4).permutation(len(cluster))

    def moved(item):
        return Estimate(item.value, item.influence[order], item.cluster[order], item.used[order])

    there = bands(model, others)
    here = bands(
        [moved(item) for item in model],
        [[moved(item) for item in other] for other in others],
    )
    for one, two in zip(there, here, strict=True):
        assert one.upper == pytest.approx(two.upper, abs=1e-12)


def test_a_difference_without_error_has_bounds_without_width():
    model, *_ = drawn(np.random.default_rng(5))
    found = bands(model, [model])
    assert {(band.value, band.lower, band.upper) for band in found} == {(0.0, 0.0, 0.0)}
    assert bands([], [[]]) == []
