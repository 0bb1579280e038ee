import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlabel.core.randomness import normal, permutation, uniform

MANY = np.arange(100_000)


@given(st.integers(0, 2**31 - 1), st.lists(st.integers(0, 2**40), min_size=1, max_size=20))
def test_a_number_depends_on_its_key_alone(seed: int, keys: list[int]) -> None:
    together = uniform(seed, "a", np.array(keys))
    assert together.tolist() == [float(uniform(seed, "a", key)) for key in keys]


def test_uniform_numbers_fill_the_interval_evenly() -> None:
    found = uniform(3, "a", MANY)
    assert found.min() >= 0
    assert found.max() < 1
    counts = np.histogram(found, 100, (0, 1))[0]
    # chi-square with 99 degrees of freedom: 160 is passed once in 10,000 seeds, and this seed is fixed
    assert ((counts - 1000.0) ** 2 / 1000.0).sum() < 160


def test_normal_numbers_have_the_moments_of_a_standard_normal() -> None:
    found = normal(3, "a", MANY)
    # four standard errors of each moment of 100,000 numbers: sqrt(1, 2, 15, 96 / n)
    for power, expected, error in ((1, 0, 0.0127), (2, 1, 0.0179), (3, 0, 0.049), (4, 3, 0.124)):
        assert (found**power).mean() == pytest.approx(expected, abs=error)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (uniform(0, "a", MANY), uniform(1, "a", MANY)),
        (uniform(0, "a", MANY), uniform(0, "b", MANY)),
        (uniform(0, "a", 0, MANY), uniform(0, "a", 1, MANY)),
        (uniform(0, "a", MANY, 0), uniform(0, "a", 0, MANY)),
        (uniform(0, "a", MANY), uniform(0, "a", MANY + 1)),
        (normal(0, "a", MANY), normal(1, "a", MANY)),
    ],
    ids=["seed", "stream", "first key", "key order", "neighbour", "normal seed"],
)
def test_other_keys_give_unrelated_numbers(one, two) -> None:
    # four standard errors of a correlation of 100,000 pairs
    assert abs(np.corrcoef(one, two)[0, 1]) < 4 / np.sqrt(len(MANY))


def test_keys_broadcast() -> None:
    table = uniform(0, "a", np.arange(3)[:, None], np.arange(4))
    assert table.shape == (3, 4)
    assert table[2, 1] == uniform(0, "a", 2, 1)


@given(st.integers(0, 200), st.integers(0, 5))
def test_a_permutation_holds_each_position_once(n: int, epoch: int) -> None:
    assert sorted(permutation(0, "order", n, epoch).tolist()) == list(range(n))


def test_permutations_of_epochs_and_seeds_differ() -> None:
    found = {tuple(permutation(seed, "order", 50, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(found) == 25
