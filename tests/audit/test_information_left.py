"""The share of the original's excess information that is left: its values, its bounds, its silence."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from unlabel.audit.attacks.recovery import Recovery
from unlabel.audit.attacks.whole_model import WeightAttacks
from unlabel.audit.claims.c4_information import information_left, total, with_information
from unlabel.audit.document.results import Claim
from unlabel.audit.document.stages import TOGETHER
from unlabel.audit.inputs.options import AuditOptions
from unlabel.statistics.estimate import Estimate

IMAGES = 400


@cache
def unit(seed: int) -> Estimate:
    """A figure of 0 with a standard error of 1, each image its own identity."""
    influence = np.random.default_rng(seed).normal(size=IMAGES)
    influence -= influence.mean()
    plain = Estimate(0.0, influence, np.arange(IMAGES), np.ones(IMAGES, bool))
    return replace(plain, influence=influence / plain.se)


def bits(value: float, error: float = 0.01, seed: int = 0) -> Estimate:
    """A figure with a given standard error."""
    return unit(seed).affine(error, value)


def test_the_original_has_all_of_it_and_a_retrained_level_none():
    retrained = [bits(0.2, seed=at) for at in range(2, 5)]
    for value, share in ((0.8, 1.0), (0.2, 0.0), (0.5, 0.5), (0.05, -0.25)):
        found = information_left([bits(0.8), bits(value, seed=1), *retrained], 0.95)
        assert found["share"] == pytest.approx(share)
        assert found["lower"] < found["share"] < found["upper"]
    itself = information_left([bits(0.8), bits(0.8), *retrained], 0.95)
    assert itself["lower"] == pytest.approx(1.0) == itself["upper"]  # the same model on the same images


def test_it_is_silent_without_retrained_models_or_without_an_excess():
    assert information_left([bits(0.8), bits(0.5, seed=1)], 0.95) == {}
    retrained = [bits(value, seed=at) for at, value in enumerate((0.79, 0.75, 0.81), 2)]
    assert information_left([bits(0.8), bits(0.8, seed=1), *retrained], 0.95) == {}


@pytest.mark.parametrize("truth", [0.0, 0.4, 1.2])
def test_its_bounds_hold_the_truth_as_often_as_they_say(truth):
    rng = np.random.default_rng(1)
    low = high = 0
    trials = 200
    for trial in range(trials):
        base, seeds = 10 * trial, rng.normal(0.2, 0.02, 3)
        drawn = [value + rng.normal(0, 0.03) for value in (0.5, 0.2 + truth * 0.3, *seeds)]
        totals = [bits(value, 0.03, base + at) for at, value in enumerate(drawn)]
        found = information_left(totals, 0.95)
        low += bool(found) and found["lower"] > truth
        high += bool(found) and found["upper"] < truth
    # of 200 trials, 20 or more go beyond a bound of 95 % once in 400 times
    assert low <= 19
    assert high <= 19


def test_more_seeds_that_differ_widen_the_bounds_and_the_claim_carries_them():
    alike = information_left([bits(0.8), bits(0.4, seed=1), *[bits(0.2, seed=at) for at in (2, 3, 4)]], 0.95)
    apart = information_left(
        [bits(0.8), bits(0.4, seed=1), *[bits(v, seed=at) for at, v in enumerate((0.1, 0.2, 0.3), 2)]], 0.95
    )
    assert apart["share"] == pytest.approx(alike["share"])
    assert apart["upper"] - apart["lower"] > 2 * (alike["upper"] - alike["lower"])

    values = (0.8, 0.4, 0.2, 0.2, 0.2)
    figures = [{"probe.bits.lin": bits(value / 2, seed=at)} for at, value in enumerate(values)]
    weights = WeightAttacks(
        {}, {"Male": [{"stage1": each, TOGETHER: {"probe.bits.lin": bits(9.0)}} for each in figures]}
    )
    claim = Claim("PASS", "", "full", False, None, {}, {"rule": "kept"})
    rows = [{"Male": each} for each in figures]
    noted = with_information(claim, Recovery({}, [], {}, weights), rows, AuditOptions()).notes
    assert noted["rule"] == "kept"
    assert noted["information_left"]["Male"]["share"] == pytest.approx(1 / 3)
    assert noted["information_left"]["Male"]["original"] == pytest.approx(0.8)
    assert with_information(claim, Recovery({}, [], {}), rows, AuditOptions()).notes == claim.notes


def test_a_sum_adds_values_and_influences():
    one, two = bits(0.1, seed=1), bits(0.3, seed=2)
    assert total([one, two]).value == pytest.approx(0.4)
    assert total([one, two]).influence == pytest.approx(one.influence + two.influence)
