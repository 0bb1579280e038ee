"""Figures and their errors against the slow, obvious computation in float64."""

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.metrics import average_precision_score, roc_auc_score

from unlabel.statistics.contrast import Contrast, contrast, holm, seeded
from unlabel.statistics.estimate import (
    Estimate,
    advantage,
    auc,
    average_precision,
    balanced_accuracy,
    bits,
    brier,
    calibration_error,
    clopper_pearson,
    mean,
    numbered,
    share_bounds,
)


@pytest.mark.parametrize(("people", "each", "share"), [(60, 10, 0.8), (300, 3, 0.02), (25, 8, 0.98)])
def test_bounds_of_a_share_hold_where_images_of_one_person_are_alike(people, each, share):
    """Two-sided 95 % intervals cover the truth; those of as many independent images do not."""
    rng, cluster = np.random.default_rng(0), np.repeat(np.arange(people), each)
    covered = {"people": 0, "images": 0}
    for _ in range(400):
        hit = (rng.random(people) < share)[cluster]
        bounds = share_bounds(hit, cluster, 0.975), clopper_pearson(int(hit.sum()), len(hit), 0.975)
        for name, (low, high) in zip(covered, bounds, strict=True):
            covered[name] += low <= share <= high
    assert covered["people"] >= 0.94 * 400
    assert covered["images"] < 0.85 * 400


def test_bounds_of_a_share_are_exact_where_each_image_is_another_person():
    rng = np.random.default_rng(1)
    for hits in (0, 1, 37, 199, 200):
        hit = rng.permutation(np.arange(200) < hits)
        assert share_bounds(hit, rng.permutation(200)) == clopper_pearson(hits, 200)
        low, high = share_bounds(hit, np.arange(200) // 4)
        assert 0.0 <= low <= hits / 200 <= high <= 1.0
    alike = share_bounds(np.ones(200, bool), np.arange(200) // 4)
    assert alike == clopper_pearson(50, 50)  # fifty people, whose images are all alike
    assert share_bounds(np.arange(8) < 3, np.zeros(8, int))[0] < 0.05  # of one person
    even = np.tile([True, False], 50)  # half of each person's images: no more than there are
    assert share_bounds(even, np.arange(100) // 2) == pytest.approx(clopper_pearson(50, 100))


def faces(n=400, people=80, seed=0, shift=0.8, ties=True):
    """Scores with an effect of the person, so that images of one person are not independent."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, people, n)
    person = rng.normal(size=people)
    y = (person[cluster] + 0.7 * rng.normal(size=n) > 0.3).astype(np.int8)
    score = shift * y + person[cluster] * 0.5 + rng.normal(size=n)
    y[rng.random(n) < 0.05] = -1
    return (np.round(score, 1) if ties else score), y, cluster


def bootstrap(figure, cluster, times=1500, seed=1):
    """Standard error by drawing whole people with replacement."""
    rng = np.random.default_rng(seed)
    names = np.unique(cluster)
    rows = [np.flatnonzero(cluster == name) for name in names]
    values = [
        figure(np.concatenate([rows[k] for k in rng.integers(0, len(names), len(names))]))
        for _ in range(times)
    ]
    return np.std(values)


FIGURES = {
    "auc": auc,
    "average precision": average_precision,
    "balanced accuracy": lambda s, y, c: balanced_accuracy(s > 0.5, y, c),
    "brier": brier,
    "calibration error": calibration_error,
}


def test_auc_counts_every_pair_and_ties_half():
    score, y, cluster = faces()
    present, absent = score[y == 1][:, None], score[y == 0]
    slow = np.mean((present > absent) + 0.5 * (present == absent))
    assert auc(score, y, cluster).value == pytest.approx(slow, abs=1e-12)


def test_a_constant_score_has_area_one_half_and_no_error_exactly():
    _, y, cluster = faces(n=397)
    for constant in (0.0, -20.0, 0.1):
        found = auc(np.full(397, constant), y, cluster)
        assert (found.value, found.se) == (0.5, 0.0)
        assert advantage(np.full(397, constant), y, cluster).value == 0.0


def test_auc_is_read_in_float64_where_a_sigmoid_would_saturate():
    score, y, cluster = faces()
    assert auc(score - 120, y, cluster).value == auc(score, y, cluster).value


def test_auc_error_is_delongs_when_every_image_is_a_person():
    score, y, _ = faces()
    present, absent = score[y == 1][:, None], score[y == 0]
    wins = (present > absent) + 0.5 * (present == absent)
    textbook = wins.mean(1).var(ddof=1) / wins.shape[0] + wins.mean(0).var(ddof=1) / wins.shape[1]
    # The factor G/(G-1) replaces m/(m-1) and n/(n-1): they differ by less than 1/100 in these sizes.
    assert auc(score, y, np.arange(len(y))).se == pytest.approx(np.sqrt(textbook), rel=0.01)


def test_clustered_error_sums_each_person_first():
    score, y, cluster = faces()
    found = auc(score, y, cluster)
    people = np.unique(cluster[y >= 0])
    sums = [found.influence[cluster == person].sum() for person in people]
    expected = np.sqrt(len(people) / (len(people) - 1) * np.sum(np.square(sums)))
    assert found.se == pytest.approx(expected, rel=1e-12)
    assert found.n == np.sum(y >= 0)


@pytest.mark.parametrize("name", FIGURES)
def test_influence_gives_the_bootstraps_error(name):
    score, y, cluster = faces(n=900, people=150, ties=name != "calibration error")
    figure = FIGURES[name]
    again = bootstrap(lambda rows: figure(score[rows], y[rows], cluster[rows]).value, cluster, times=400)
    # 400 resamples know a standard error to 3.5 %; binning's own wobble is left out by design.
    assert figure(score, y, cluster).se == pytest.approx(again, rel=0.20 if "calibration" in name else 0.10)


def test_bits_error_agrees_with_the_bootstrap():
    score, y, cluster = faces(n=900, people=150)
    yes, no = -np.log1p(np.exp(-score)), -np.log1p(np.exp(score))
    again = bootstrap(
        lambda rows: bits(yes[rows], no[rows], y[rows], cluster[rows]).value, cluster, times=400
    )
    assert bits(yes, no, y, cluster).se == pytest.approx(again, rel=0.10)


def test_a_paired_difference_is_surer_than_two_separate_figures():
    score, y, cluster = faces(n=900, people=150)
    other = score + 0.3 * np.random.default_rng(3).normal(size=len(score))
    difference = auc(score, y, cluster) - auc(other, y, cluster)
    again = bootstrap(
        lambda rows: (
            auc(score[rows], y[rows], cluster[rows]).value - auc(other[rows], y[rows], cluster[rows]).value
        ),
        cluster,
        times=400,
    )
    assert difference.se == pytest.approx(again, rel=0.10)
    assert difference.se < 0.5 * np.hypot(auc(score, y, cluster).se, auc(other, y, cluster).se)


@pytest.mark.parametrize(
    ("figure", "oracle"), [(auc, roc_auc_score), (average_precision, average_precision_score)]
)
def test_value_and_influence_are_sklearns_value_and_its_derivative_by_weight(figure, oracle):
    score, y, cluster = faces(n=120)
    known = np.flatnonzero(y >= 0)
    found = figure(score, y, cluster)
    assert found.value == pytest.approx(oracle(y[known], score[known]), abs=1e-12)
    for row in known[:12]:
        weight = np.ones(len(y))
        weight[row] += 1e-4
        moved = oracle(y[known], score[known], sample_weight=weight[known])
        # A forward difference of step 1e-4 on a curvature near 1/n.
        assert (moved - found.value) / 1e-4 == pytest.approx(found.influence[row], abs=2e-6)


def test_calibration_error_equals_a_loop_over_bins():
    score, y, cluster = faces(ties=False)
    prob, truth = 1 / (1 + np.exp(-score[y >= 0])), y[y >= 0] == 1
    order = np.argsort(prob)
    edges = np.quantile(prob, np.arange(1, 15) / 15)
    slow = sum(
        abs(prob[rows].mean() - truth[rows].mean()) * len(rows) / len(prob)
        for rows in np.split(order, np.searchsorted(prob[order], edges, side="right"))
    )
    assert calibration_error(score, y, cluster).value == pytest.approx(slow, abs=1e-12)


def test_bits_are_entropy_less_cross_entropy():
    y = np.array([1, 1, 0, 0, 0, -1], np.int8)
    q = np.array([0.9, 0.6, 0.2, 0.5, 0.1, 0.01])
    prior = 3 / 7
    slow = np.mean(
        [np.log2(0.9 / prior), np.log2(0.6 / prior)] + [np.log2((1 - p) / (1 - prior)) for p in q[2:5]]
    )
    assert bits(np.log(q), np.log1p(-q), y, np.arange(6)).value == pytest.approx(slow)
    same = np.full(6, prior)
    assert bits(np.log(same), np.log1p(-same), y, np.arange(6)).value == pytest.approx(0)


def test_intervals_cover_the_truth_with_images_of_one_person():
    """Binormal scores with an effect of the person: the true area is known."""
    truth, covered, naive = 0.0, 0, 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        cluster = np.repeat(np.arange(100), 4)
        y = np.repeat(np.arange(100) % 2, 4).astype(np.int8)
        score = 0.8 * np.repeat(rng.normal(size=100), 4) + 0.6 * rng.normal(size=400)
        low, high = advantage(score, y, cluster).interval()
        covered += low <= truth <= high
        low, high = advantage(score, y, np.arange(400)).interval()
        naive += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.98
    assert naive / 400 < 0.80  # what ignoring identity would claim


@pytest.mark.parametrize("sizes", [[10] * 20, [50] + [2] * 100, [40] * 3 + [2] * 150])
def test_bounds_hold_where_people_have_unevenly_many_images(sizes):
    """One-sided 95 % bounds of an output that knows nothing; an error rate of 7.5 % is allowed."""
    rng, wrong, plain = np.random.default_rng(1), 0, 0
    cluster = np.repeat(np.arange(len(sizes) + 300), [*sizes, *[1] * 300])
    y = (cluster < len(sizes)).astype(np.int8)
    for _ in range(600):
        score = 3 * rng.normal(size=len(sizes) + 300)[cluster] + rng.normal(size=len(cluster))
        found = advantage(score, y, cluster)
        wrong += (found.lower() > 0) + (found.upper() < 0)
        reach = student.ppf(0.95, found.groups - 1) * found.se
        plain += abs(found.value) > reach
    assert wrong / 1200 <= 0.075
    assert plain > 1.25 * wrong or len(set(sizes)) == 1  # by as many degrees of freedom as people


def test_degrees_of_freedom_follow_how_much_each_person_counts():
    rng = np.random.default_rng(0)
    y, score = (np.arange(600) < 300).astype(np.int8), rng.normal(size=600)
    own = advantage(score, y, np.arange(600))
    assert own.df == 599  # as ever, where each image is another person
    assert own.upper() == own.value + student.ppf(0.95, 599) * own.se
    assert advantage(score, y, np.arange(600) // 2).df == 299  # or equally many images
    drawn = advantage(score, y, np.sort(rng.integers(0, 300, 600)))
    assert 100 < drawn.df <= drawn.groups - 1
    most = np.where(np.arange(600) < 280, 0, np.arange(600))
    assert advantage(score + 2 * (most == 0), y, most).df < 3
    assert advantage(np.zeros(600), y, most).df == 320


@pytest.mark.parametrize("low", [0, -3, 10**12])
@pytest.mark.parametrize("people", [1, 7, 300, 5000])
def test_identities_are_numbered_as_by_sorting(low: int, people: int):
    cluster = np.random.default_rng(0).integers(0, people, 300) + low
    for part in (cluster, cluster[:1], cluster[:0]):
        assert numbered(part).tolist() == np.unique(part, return_inverse=True)[1].tolist()
    item = Estimate(0.5, np.linspace(-1, 1, 300), cluster, cluster % 2 == 0)
    assert item.groups == len(set(cluster[cluster % 2 == 0].tolist()))


def test_seed_noise_multipliers_are_students():
    _, y, cluster = faces()
    zero = advantage(np.zeros(len(y)), y, cluster)
    # One-sided 95 % t / sqrt(R), from the statistics page of the design.
    for count, multiplier in {2: 4.46, 3: 1.69, 5: 0.95, 8: 0.67}.items():
        values = np.arange(count) * 0.01
        bound = seeded(zero, values.tolist())
        assert (bound.upper() - bound.value) / np.std(values, ddof=1) == pytest.approx(multiplier, abs=0.005)


def test_one_reference_knows_no_seed_noise():
    score, y, cluster = faces()
    first, second = auc(score, y, cluster), auc(score**3, y, cluster)
    assert contrast(first, [second]).se == pytest.approx((first - second).se)


def test_equivalence_test_errs_in_at_most_six_of_a_hundred_at_the_margin():
    """2,000 models whose true advantage sits on the margin: each PASS is an error."""
    rng = np.random.default_rng(0)
    shift = 0.177712  # binormal scores one standard deviation wide: AUC 0.55, advantage 0.10
    y = np.repeat([0, 1], 400).astype(np.int8)
    passed = 0
    for _ in range(2000):
        found = advantage(rng.normal(size=800) + shift * y, y, np.arange(800))
        passed += found.lower() > -0.10 and found.upper() < 0.10
    assert passed / 2000 <= 0.06


def test_comparison_with_three_seeds_errs_in_at_most_six_of_a_hundred_at_the_margin():
    """Images' and seeds' noise both drawn; the true excess is the margin."""
    rng = np.random.default_rng(1)
    passed = 0
    for _ in range(3000):
        seeds = rng.normal(scale=0.02, size=3)
        images = rng.normal(scale=0.01)
        influence = np.full(400, 0.01 / 20) * np.where(np.arange(400) % 2, 1, -1)
        estimate = Estimate(0.1 + images - seeds.mean(), influence, np.arange(400), np.ones(400, bool))
        passed += seeded(estimate, seeds.tolist()).upper() < 0.10
    assert passed / 3000 <= 0.06


def test_holm_is_the_textbooks():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_p_value_agrees_with_the_bound():
    found = Contrast(0.13, 0.02, 12.0)
    assert (found.p_above(0.10) < 0.05) == (found.lower() > 0.10)
    assert Contrast(0.2, 0.0, 5.0).p_above(0.1) == 0.0
    assert Contrast(0.1, 0.0, 5.0).p_above(0.1) == 1.0


def test_a_mean_over_models_averages_influences():
    score, y, cluster = faces()
    first, second = auc(score, y, cluster), auc(-score, y, cluster)
    assert mean([first, second]).value == pytest.approx(0.5)
    assert mean([first, second]).se == pytest.approx(0, abs=1e-15)
