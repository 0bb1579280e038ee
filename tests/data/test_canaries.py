"""Planting annotations that are drawn by a coin."""

import json
from dataclasses import replace

import numpy as np
import pytest

from unlabel.core.errors import OptionError
from unlabel.data.canaries import CanaryPlan, digest, manifest, most_balanced, plant
from unlabel.testing import tiny_world


@pytest.fixture(scope="module")
def source():
    return tiny_world("unknown", images=2048).source


def test_only_the_canaries_annotations_change(source):
    changed, found = plant(source, CanaryPlan(100, ("top", "bottom"), seed=3))
    for name, item in found.items():
        column = source.labels.index(name)
        assert len(item.positions) == len(np.unique(item.positions)) == 100
        assert np.array_equal(changed.train.target[item.positions, column], item.planted)
        assert np.array_equal(source.train.target[item.positions, column], item.true)
        assert set(np.unique(item.true).tolist()) == {0, 1}  # a canary replaces a known annotation
        others = np.delete(np.arange(len(source.train)), item.positions)
        assert np.array_equal(changed.train.target[others, column], source.train.target[others, column])
    assert np.array_equal(changed.train.target[:, 1], source.train.target[:, 1])
    assert changed.test is source.test
    assert changed.probe is source.probe
    assert not np.array_equal(found["top"].positions, found["bottom"].positions)


def test_coins_are_fair_and_know_nothing_of_the_truth(source):
    planted, true = [], []
    for seed in range(80):
        item = plant(source, CanaryPlan(100, ("top",), seed))[1]["top"]
        planted.append(item.planted)
        true.append(item.true)
    coins, truth = np.concatenate(planted), np.concatenate(true)
    # 8,000 coins: three standard errors are 0.017
    assert abs(coins.mean() - 0.5) < 0.017
    assert abs((coins == truth).mean() - 0.5) < 0.017


def test_the_seed_alone_decides_and_the_list_never_tells_the_truth(source):
    one, two, other = (plant(source, CanaryPlan(50, ("top",), seed)) for seed in (1, 1, 2))
    assert one[0].facts["canaries"] == two[0].facts["canaries"]
    assert one[0].facts["canaries"]["sha256"] != other[0].facts["canaries"]["sha256"]
    listed = manifest(source.train, one[1], 1)
    assert set(listed["labels"]["top"]) == {"ids", "planted"}
    assert listed["labels"]["top"]["ids"] == source.train.ids[one[1]["top"].positions].tolist()
    assert digest(json.loads(json.dumps(listed))) == one[0].facts["canaries"]["sha256"]


def test_by_default_the_most_evenly_spread_label_is_chosen(source):
    target = source.train.target.copy()
    target[:, 0], target[:, 2] = np.arange(len(target)) % 10 == 0, np.arange(len(target)) % 2
    uneven = replace(source, train=replace(source.train, target=target))
    assert most_balanced(uneven.train) == "bottom"
    assert list(plant(uneven, CanaryPlan(30))[1]) == ["bottom"]


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (CanaryPlan(103), "expected 20 to 102, a tenth"),
        (CanaryPlan(5), "expected 20 to 102"),
        (CanaryPlan(30, ("topp",)), "Close: top"),
        (CanaryPlan(30, ("top", "top")), "more than once"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(source, plan, said):
    with pytest.raises(OptionError, match=said):
        plant(source, plan)


def test_classes_take_no_coin(source):
    classes = replace(source, train=replace(source.train, exclusive=True))
    with pytest.raises(OptionError, match="classes"):
        plant(classes, CanaryPlan(30))
