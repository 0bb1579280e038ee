"""LiRA: with shadows enough it reaches what theory allows, and coins that no score knows stay a coin's."""

import numpy as np
import pytest
from scipy.stats import norm

from unlabel.audit.attacks.lira import each_in_turn, fit, standardised, told
from unlabel.core.errors import DataError
from unlabel.statistics.estimate import clopper_pearson

CANARIES = 200


def world(networks, difference, *, canaries=CANARIES, seed=0):
    """Scores and independent coins; canaries differ much more from each other than by their coins."""
    rng = np.random.default_rng(seed)
    coins = (rng.random((networks, canaries)) < 0.5).astype(np.int8)
    noise = rng.normal(size=(networks, canaries))
    return 5.0 * rng.normal(size=canaries) + difference * (coins - 0.5) + noise, coins


def test_ratios_are_those_of_two_gaussians_computed_slowly():
    scores, coins = world(7, 1.0, canaries=5)
    shadows, target = slice(1, None), scores[0]
    squares, freedom, means = 0.0, 0, np.zeros((2, 5))
    for canary in range(5):
        for coin in (0, 1):
            mine = scores[shadows, canary][coins[shadows, canary] == coin]
            means[coin, canary] = mine.mean()
            squares += float(((mine - mine.mean()) ** 2).sum())
            freedom += len(mine) - 1
    sd = (squares / freedom) ** 0.5
    slow = norm.logpdf(target, means[1], sd) - norm.logpdf(target, means[0], sd)
    # float64, some ten operations each
    assert fit(scores[shadows], coins[shadows]).ratios(target) == pytest.approx(slow, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("shrink", [False, True])
def test_many_shadows_reach_the_figures_of_the_best_attack(shrink):
    gap = 2.0
    scores, coins = world(500, gap, canaries=100)
    shadows, targets = slice(0, 400), slice(400, None)
    found = told(fit(scores[shadows], coins[shadows], shrink=shrink).ratios(scores[targets]), coins[targets])
    # 10,000 coins: four standard errors are .015, of the share at .1 % .1, of that at 1 % .05
    assert found.accuracy.value == pytest.approx(norm.cdf(gap / 2), abs=0.015)
    assert found.auc.value == pytest.approx(norm.cdf(gap / 2**0.5), abs=0.015)
    for rate, caught in found.caught.items():
        assert caught.share == pytest.approx(
            norm.cdf(gap - norm.isf(rate)), abs={0.001: 0.1, 0.01: 0.05}[rate]
        )
        assert caught.interval[0] < caught.share < caught.interval[1]
        assert caught.allowed == int(rate * caught.zeros)
    assert found.n == coins[targets].size
    assert found.hits == round(found.accuracy.value * found.n)


def test_canaries_that_are_remembered_differently_are_told_best_by_their_own_difference():
    gaps = np.where(np.arange(100) < 25, 3.0, 0.0)  # a quarter is remembered
    scores, coins = world(500, gaps, canaries=100)
    found = told(fit(scores[:400], coins[:400], shrink=True).ratios(scores[400:]), coins[400:])
    assert found.accuracy.value == pytest.approx((norm.cdf(1.5) + 3 * 0.5) / 4, abs=0.02)  # four errors
    # those that are not remembered have ratios near 0, so the bar is passed by the quarter alone
    assert found.caught[0.01].share == pytest.approx(norm.cdf(3.0 - norm.isf(0.04)) / 4, abs=0.03)


def test_shrinking_helps_if_few_shadows_cannot_give_each_canary_its_difference():
    shares = {False: [], True: []}
    for seed in range(10):
        scores, coins = world(9, 0.6, seed=seed)
        for shrink, kept in shares.items():
            kept.append(told(each_in_turn(scores, coins, shrink=shrink), coins, rates=()).accuracy.value)
    best = norm.cdf(0.3)
    assert np.mean(shares[True]) == pytest.approx(best, abs=0.02)
    assert np.mean(shares[False]) < np.mean(shares[True]) - 0.02


@pytest.mark.parametrize("shrink", [False, True])
def test_coins_that_no_score_knows_are_told_half_of_the_time(shrink):
    values = []
    for seed in range(100):
        scores, coins = world(8, 0.0, canaries=100, seed=seed)
        values.append(told(each_in_turn(scores, coins, shrink=shrink), coins, rates=()).accuracy.value)
    assert abs(np.mean(values) - 0.5) < 0.009  # worlds differ by .026: three and a half errors


@pytest.mark.parametrize(("shrink", "gap"), [(False, 0.0), (False, 0.3), (True, 0.3)])
def test_the_interval_of_networks_attacked_in_turn_is_as_wide_as_worlds_differ(shrink, gap):
    found = []
    for seed in range(100):
        scores, coins = world(8, gap, canaries=100, seed=seed)
        found.append(told(each_in_turn(scores, coins, shrink=shrink), coins, rates=()).accuracy)
    spread = np.std([each.value for each in found], ddof=1)
    # the spread of 100 worlds is known to 7 %: three errors
    assert np.mean([each.se for each in found]) == pytest.approx(spread, rel=0.21)


def test_one_network_under_attack_has_the_exact_binomial_of_its_canaries():
    scores, coins = world(17, 0.0)
    found = told(fit(scores[1:], coins[1:], shrink=True).ratios(scores[:1]), coins[:1], rates=())
    low, high = clopper_pearson(found.hits, found.n, 0.975)
    assert found.n == CANARIES
    assert low < 0.5 < high
    scores, coins = world(17, 2.0)  # and it finds what is there
    found = told(fit(scores[1:], coins[1:], shrink=True).ratios(scores[:1]), coins[:1], rates=())
    assert clopper_pearson(found.hits, found.n, 0.975)[0] > 0.7


def test_one_shadow_of_each_coin_ranks_and_guesses_as_its_variance_were_known():
    scores, coins = world(2, 1.0)
    coins[1] = 1 - coins[0]
    found = fit(scores, coins)
    assert found.variance == 1.0  # nothing tells it
    means = np.where(coins == 1, scores, 0).sum(0), np.where(coins == 0, scores, 0).sum(0)
    target = world(1, 1.0, seed=1)[0][0]
    closer = np.abs(target - means[0]) < np.abs(target - means[1])
    assert np.array_equal(found.ratios(target) > 0, closer)


def test_a_canary_whose_shadows_lack_a_coin_is_left_out_and_counted():
    scores, coins = world(33, 2.0)
    coins[1:, 3] = 1
    plain = told(fit(scores[1:], coins[1:]).ratios(scores[:1]), coins[:1])
    assert (plain.n, plain.left_out) == (CANARIES - 1, 1)
    shrunk = fit(scores[1:], coins[1:], shrink=True)
    assert told(shrunk.ratios(scores[:1]), coins[:1]).left_out == 0
    others = np.arange(CANARIES) != 3
    assert shrunk.difference[3] == pytest.approx(fit(scores[1:], coins[1:]).difference[others].mean())
    assert shrunk.centre[3] == pytest.approx(scores[1:, 3].mean() - shrunk.difference[3] / 2)


def test_an_output_that_is_one_constant_tells_nothing():
    scores, coins = np.full((9, 50), -20.0), world(9, 0.0, canaries=50)[1]
    for shrink in (False, True):
        found = told(each_in_turn(standardised(scores), coins, shrink=shrink), coins)
        assert found.auc.value == 0.5
        assert all(each.share == 0.0 for each in found.caught.values())


def test_scale_and_shift_of_a_network_are_taken_out():
    scores, _ = world(9, 2.0)
    rng = np.random.default_rng(1)
    moved = scores * rng.uniform(0.1, 9.0, (9, 1)) + rng.normal(size=(9, 1))
    assert standardised(moved) == pytest.approx(standardised(scores), abs=1e-9)


def test_shadows_that_cannot_serve_are_refused_in_one_line():
    scores, coins = world(4, 1.0)
    for wrong in (
        (scores[:3], coins),
        (np.where(scores > 6, np.nan, scores), coins),
        (scores, coins - 1),
        (scores, np.ones_like(coins)),
    ):
        with pytest.raises(DataError) as raised:
            fit(*wrong)
        assert "\n" not in str(raised.value)
        assert "expected" in str(raised.value) or "train more" in str(raised.value)
    with pytest.raises(DataError, match="all alike"):
        told(scores, np.ones_like(coins))
