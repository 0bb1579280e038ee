"""Bounds for many groups at once hold together, cost no more than they must, and follow people and seeds."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from unlabel.statistics.estimate import Estimate, average
from unlabel.statistics.simultaneous import bands, multipliers

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


@pytest.mark.slow  # 10 s: 200 worlds, 1,000 draws each
@pytest.mark.parametrize(("references", "spread"), [(1, 0.0), (3, 0.5), (3, 0.0)])
def test_all_bounds_hold_together_as_often_as_they_say(references, spread):
    worlds, held, alarms, apart = 200, 0, 0, 0
    for seed in range(worlds):
        model, others, cluster = drawn(np.random.default_rng((seed, references)), references, spread)
        found = bands(model, others, multipliers(cluster, seed))
        held += all(band.upper >= 0 for band in found)
        alarms += any(band.lower > 0 for band in found)
        apart += any(own.lower() - others[0][at].value > 0 for at, own in enumerate(model))
    # 200 worlds: 5 % has a standard error of 1.5 points; three of them are allowed
    assert held / worlds > 0.95 - 0.046
    assert alarms / worlds < 0.05 + 0.046
    assert apart / worlds > 0.2, "bounds for one group at a time must be seen to fail here"


def test_a_single_group_has_the_plain_bound():
    model, others, cluster = drawn(np.random.default_rng(0), 1)
    (found,) = bands(model[:1], [others[0][:1]], multipliers(cluster, 0))
    excess = model[0] - others[0][0]
    assert found.value == excess.value
    # the 95 % quantile of 1,000 draws has a standard error of about 0.067
    assert (found.upper - found.value) / excess.se == pytest.approx(norm.ppf(0.95), abs=0.2)
    assert found.upper - found.value == pytest.approx(found.value - found.lower)


def test_groups_that_are_one_group_cost_nothing():
    model, others, cluster = drawn(np.random.default_rng(1), 1)
    (once,) = bands(model[:1], [others[0][:1]], multipliers(cluster, 0))
    again = bands(model[:1] * 30, [others[0][:1] * 30], multipliers(cluster, 0))
    assert [band.upper for band in again] == pytest.approx([once.upper] * 30)
    apart = bands(model, others, multipliers(cluster, 0))
    assert apart[0].upper > once.upper


def test_the_spread_of_retrained_models_widens_the_bounds():
    rng = np.random.default_rng(2)
    widths = []
    for spread in (0.0, 1.0, 4.0):
        model, others, cluster = drawn(rng, 3, spread)
        found = bands(model, others, multipliers(cluster, 0))
        widths.append(np.mean([band.upper - band.value for band in found]))
    assert widths[0] < widths[1] < widths[2]


def test_the_order_of_images_plays_no_part():
    model, others, cluster = drawn(np.random.default_rng(3))
    order = np.random.default_rng(4).permutation(len(cluster))

    def moved(item):
        return Estimate(item.value, item.influence[order], item.cluster[order], item.used[order])

    there = bands(model, others, multipliers(cluster, 0))
    here = bands(
        [moved(item) for item in model],
        [[moved(item) for item in other] for other in others],
        multipliers(cluster[order], 0),
    )
    for one, two in zip(there, here, strict=True):
        assert one.upper == pytest.approx(two.upper, abs=1e-12)


def test_a_difference_without_error_has_bounds_without_width():
    model, _, cluster = drawn(np.random.default_rng(5))
    found = bands(model, [model], multipliers(cluster, 0))
    assert {(band.value, band.lower, band.upper) for band in found} == {(0.0, 0.0, 0.0)}
    assert bands([], [[]], multipliers(cluster, 0)) == []
