"""Exact shares without a sort, whatever the ties."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from unlabel.core.errors import EmptySelection
from unlabel.forget.select import Percentiles, Share, Threshold, last_layers, lowest

SCORES = st.lists(st.sampled_from([0.0, 0.0, 0.5, 1.0, 1.0, 2.0, 7.5]), min_size=1, max_size=60)
MODEL = nn.Identity()


def parts(values: list[float]) -> dict[str, torch.Tensor]:
    """The values as two tensors of different shapes."""
    cut = len(values) // 2
    return {"a": torch.tensor(values[:cut]), "b": torch.tensor([values[cut:]])}


def whole(bands: dict[str, torch.Tensor]) -> np.ndarray:
    return np.concatenate([bands[name].reshape(-1).numpy() for name in ("a", "b")])


@given(SCORES, st.integers(0, 70))
def test_the_lowest_are_those_of_a_stable_sort(values: list[float], count: int) -> None:
    expected = np.zeros(len(values), bool)
    expected[np.argsort(np.array(values), kind="stable")[:count]] = True
    assert lowest(torch.tensor(values), count).tolist() == expected.tolist()


@given(SCORES, st.floats(0, 100), st.sampled_from(["low", "high"]))
def test_a_share_is_exact_and_from_the_right_end(values: list[float], percent: float, direction) -> None:
    chosen = whole(Share(percent, direction)(MODEL, parts(values))) == 1
    assert chosen.sum() == round(len(values) * percent / 100)
    scores = np.array(values)
    if 0 < chosen.sum() < len(values):
        inside, outside = scores[chosen], scores[~chosen]
        assert (inside.max() <= outside.min()) if direction == "low" else (inside.min() >= outside.max())


@given(SCORES, st.sampled_from(["low", "high"]), st.sampled_from([100.0, 50.0, 10.0]))
def test_percentile_bands_follow_the_ranks(values: list[float], direction, within: float) -> None:
    """The oracle sorts; ties go by place."""
    scores = np.array(values)
    taken = round(len(values) * within / 100)
    members = np.sort(np.argsort(-scores, kind="stable")[:taken])
    order = members[np.argsort(scores[members] * (1 if direction == "low" else -1), kind="stable")]
    expected = np.zeros(len(values), int)
    for rank, place in enumerate(order):
        expected[place] = 1 + sum(rank >= round(taken * cut / 100) for cut in (25, 50, 75))
    assert (
        whole(Percentiles((25, 50, 75), direction, within)(MODEL, parts(values))).tolist()
        == expected.tolist()
    )


def test_a_threshold_is_a_multiple_of_the_mean_on_either_side() -> None:
    scores = {"w": torch.tensor([0.0, 1.0, 2.0, 5.0])}
    assert Threshold(1.0, "low")(MODEL, scores)["w"].tolist() == [1, 1, 0, 0]
    assert Threshold(1.0, "high")(MODEL, scores)["w"].tolist() == [0, 0, 0, 1]


def test_the_last_layers_are_the_last_scored_ones() -> None:
    scores = {name: torch.ones(1) for name in ("one", "two", "three")}
    assert list(last_layers(scores, 2)) == ["two", "three"]
    assert list(last_layers(scores, None)) == ["one", "two", "three"]


def test_no_scores_and_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(EmptySelection, match="no convolution or linear layer"):
        Share(5, "low")(MODEL, {})
    with pytest.raises(EmptySelection, match="NaN"):
        Share(5, "low")(MODEL, {"w": torch.tensor([1.0, float("nan")])})
