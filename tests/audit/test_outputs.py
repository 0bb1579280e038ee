"""Attacks on the answers find what is there, however it is dressed, and nothing where nothing is."""

from dataclasses import replace

import numpy as np
import pytest

from unlabel.audit.attacks.outputs import (
    OwnOutput,
    best_cut,
    decision_bits,
    floor,
    mutual_bits,
    poisson_weights,
    read_others,
    restored,
)
from unlabel.audit.claims.c1_disabled import disabled
from unlabel.audit.inputs.question import ask


@pytest.fixture
def male(world):
    return ask("Male", *world.splits)


def dressed(subject, column, change):
    """The subject with one output changed everywhere."""

    def each(outputs):
        logits = outputs.logits.copy()
        logits[:, column] = change(logits[:, column])
        return replace(outputs, logits=logits)

    return replace(subject, probe=each(subject.probe), test=each(subject.test), train=each(subject.train))


@pytest.mark.parametrize(
    ("dress", "verdict"),
    [
        (lambda x: x, "FAIL"),
        (lambda x: x - 60, "FAIL"),
        (lambda x: x - 130, "FAIL"),
        (lambda x: -x, "FAIL"),
        (lambda x: x * np.float32(1e-6), "FAIL"),
        (lambda x: x * 0 - 20, "PASS"),
        (lambda x: np.random.default_rng(len(x)).normal(size=len(x)), "PASS"),
    ],
    ids=["as it is", "shifted -60", "shifted -130", "inverted", "scaled 1e-6", "constant", "noise"],
)
def test_disabled_is_judged_by_ranking_alone(world, male, quick, dress, verdict):
    own = OwnOutput.of(dressed(world.subject("before"), 0, dress), male)
    assert disabled(own, male, quick) == verdict


def test_an_output_that_leaks_on_training_images_only_is_not_disabled(world, male, quick):
    own = OwnOutput.of(world.subject("before"), male)
    noise = np.random.default_rng(0).normal(size=len(own.test))
    assert disabled(replace(own, test=noise), male, quick) == "FAIL"


def test_absence_is_measured_not_believed(world, male):
    claimed = replace(world.subject("after"), absent=frozenset({"Male"}))
    assert not OwnOutput.of(claimed, male).absent
    assert OwnOutput.of(world.subject("after", absent=["Male"]), male).absent


def test_a_constant_output_reads_zero_exactly(world, male, quick):
    own = OwnOutput.of(world.subject("after", absent=["Male"]), male)
    assert own.signed(male).value == own.signed(male).se == 0.0
    assert own.signed_on_train(male).value == 0.0
    assert decision_bits(own, male, quick) == (0.0, (0.0, 0.0))


def test_the_original_row_put_back_sees_through_head_removal(world, male):
    before, removed = world.subject("before"), world.subject("after", absent=["Male"])
    back = restored(removed, before, male)
    assert back is not None
    assert back.value == pytest.approx(
        OwnOutput.of(before, male).signed(male).value, abs=1e-4
    )  # float32 logits
    assert restored(replace(removed), replace(before, head=None), male) is None


def test_hidden_columns_are_hidden_from_the_other_outputs(world, male, quick):
    knows, nothing = world.subject("before"), world.subject("after", absent=["Male"])
    first, second = (read_others(subject, (0,), male, quick) for subject in (knows, nothing))
    assert {name: item.value for name, item in first.items()} == {
        name: item.value for name, item in second.items()
    }


def test_a_leak_planted_in_one_retained_output_is_found(world, male, quick):
    base = world.subject("after", 0.1, absent=["Male"])
    clean = read_others(base, (0,), male, quick)

    def shift(outputs, data):
        logits = outputs.logits.copy()
        logits[:, 4] += 2.5 * (data.target[:, 0] == 1)
        return replace(outputs, logits=logits)

    planted = replace(base, probe=shift(base.probe, world.probe), test=shift(base.test, world.test))
    found = read_others(planted, (0,), male, quick)
    for name in found:
        assert (found[name] - clean[name]).lower() > 0.05


def test_trees_find_what_a_line_cannot(world, male, quick):
    base = world.subject("after", 0.1, absent=["Male"])

    def spread(outputs, data):
        logits = outputs.logits.copy()
        logits[:, 4] *= np.where(data.target[:, 0] == 1, 3.0, 0.5)
        return replace(outputs, logits=logits)

    planted = replace(base, probe=spread(base.probe, world.probe), test=spread(base.test, world.test))
    found = read_others(planted, (0,), male, quick)
    assert found["others.adv.gbt"].value > found["others.adv.lin"].value + 0.1


def test_constant_outputs_everywhere_leave_the_attacks_at_a_coin(world, male, quick):
    mute = world.subject("after", absent=["Male", "Bald", "Young", "Smiling", "Hat"])
    for item in read_others(mute, (0,), male, quick).values():
        assert (item.value, item.se) == (0.0, 0.0)


def test_the_floor_is_what_correlated_truth_tells(world, male, quick):
    retained = [1, 2, 3, 4]
    probe, test = world.probe.target[:, retained], world.test.target[:, retained]
    found = floor(probe, test, male, quick)
    assert found.lower() > 0.05  # Young goes with Male
    unknown = probe.copy(), test.copy()
    for part in unknown:
        part[:, 1] = -1
    assert floor(*unknown, male, quick).value < found.value
    assert floor(np.full_like(probe, -1), np.full_like(test, -1), male, quick).value == 0.0


def test_the_cut_is_the_best_of_all_cuts_and_knows_its_polarity():
    rng = np.random.default_rng(0)
    y = rng.random(200) < 0.4
    for sign in (1, -1):
        score = np.round(sign * (y + rng.normal(size=200)), 1)
        cut, above = best_cut(score, y)
        tries = [np.mean([np.mean(score[y] > c), np.mean(score[~y] <= c)]) for c in np.unique(score)]
        best = max(max(tries), 1 - min(tries))
        said = (score > cut) == above
        assert np.mean([said[y].mean(), (~said[~y]).mean()]) == pytest.approx(best)
        assert above == (sign > 0)


def test_information_of_two_by_two_tables():
    # Always guessing the majority tells nothing; being wrong 99.9 % of the time tells nearly all.
    big = 1e9
    assert mutual_bits(np.array([0.583, 0.417, 0, 0]) * big) == 0.0
    assert mutual_bits(np.array([0.0011, 0.9989, 0.9989, 0.0011]) / 2 * big) == pytest.approx(0.988, abs=1e-3)
    assert mutual_bits(np.array([0.65, 0.35, 0.35, 0.65]) / 2 * big) == pytest.approx(0.0659, abs=1e-4)


def test_decision_bits_do_not_care_which_way_round(world, male, quick):
    own = OwnOutput.of(world.subject("before"), male)
    value, (low, high) = decision_bits(own, male, quick)
    assert decision_bits(own.inverted(), male, quick)[0] == pytest.approx(value, abs=1e-9)
    assert 0.3 < low < value < high < 1


@pytest.mark.parametrize("people", [1, 2, 3])
def test_decision_bits_of_few_people_have_an_interval(world, male, quick, people):
    """Of n identities, a resample holds none with a chance of exp(-n)."""
    few = replace(male, test_cluster=np.arange(len(male.test)) % people)
    value, (low, high) = decision_bits(OwnOutput.of(world.subject("before"), few), few, quick)
    assert 0 <= low <= value <= high <= 1
    assert ((low, high) == (0, 1)) is (people == 1)


def test_poisson_weights_have_mean_and_variance_one():
    weights = poisson_weights(0, 200, 500)
    # 100,000 draws: three standard errors of the mean are 0.0095, of the variance about 0.02.
    assert weights.mean() == pytest.approx(1, abs=0.0095)
    assert weights.var() == pytest.approx(1, abs=0.02)
