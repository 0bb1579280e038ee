import pytest

from unlabel.core.errors import OptionError
from unlabel.core.recipe import History, Recipe


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 94, 1000])
def test_the_rate_rises_for_a_quarter_then_falls_and_stays_within_its_peak(steps: int) -> None:
    rates = [Recipe(lr=0.2).rate(step, steps) for step in range(steps)]
    assert all(0 < rate <= 0.2 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert top <= max(1, 0.25 * steps + 1)


def test_a_long_schedule_reaches_its_peak_and_ends_near_zero() -> None:
    rates = [Recipe(lr=0.2).rate(step, 1000) for step in range(1000)]
    assert max(rates) == 0.2
    assert rates[250] == max(rates)
    assert rates[-1] < 1e-5


@pytest.mark.parametrize(
    ("epochs", "images", "batch", "steps"),
    [(1, 64, 64, 1), (1, 65, 64, 2), (0.5, 64, 64, 1), (10, 4000, 64, 625)],
)
def test_steps_cover_the_epochs(epochs, images, batch, steps) -> None:
    assert Recipe(epochs=epochs).steps(images, batch) == steps


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("epochs", 0, "--epochs is 0"),
        ("epochs", -1.0, "--epochs is -1.0"),
        ("epochs", float("nan"), "--epochs is nan"),
        ("lr", 0.0, "--lr is 0.0"),
        ("lr", float("inf"), "--lr is inf"),
        ("momentum", 1.0, "--momentum is 1.0"),
        ("weight_decay", -1.0, "--weight-decay is -1.0"),
    ],
)
def test_a_rate_out_of_range_is_refused_with_its_flag(name, value, says) -> None:
    with pytest.raises(OptionError, match=says):
        Recipe(**{name: value})


def test_momentum_and_weight_decay_below_zero_are_refused() -> None:
    for name in ("momentum", "weight_decay"):
        with pytest.raises(OptionError, match="from 0 and below 1"):
            Recipe(**{name: -0.5})
        assert getattr(Recipe(**{name: 0.0}), name) == 0.0


def test_a_history_counts_its_rows() -> None:
    assert History(({"step": 1, "lr": 0.1, "loss": 1.0},) * 3).steps == 3


def test_a_step_count_turned_into_epochs_comes_back_as_it_was() -> None:
    """Without rounding, 23 images and 94 steps of 64 came back as 95."""
    for images in range(16, 2100, 7):
        for steps in (1, 3, 94, 188):
            assert Recipe(epochs=steps * 64 / images).steps(images, 64) == steps


def test_a_constant_schedule_keeps_its_rate_and_is_recorded() -> None:
    recipe = Recipe(lr=0.01, schedule="constant")
    assert {recipe.rate(step, 7) for step in range(7)} == {0.01}
    assert Recipe(**recipe.to_json()) == recipe
    with pytest.raises(OptionError, match="expected one-cycle or constant"):
        Recipe(schedule="cosine")  # type: ignore[arg-type]


def test_the_ordinary_schedule_is_recorded_as_before_there_were_two() -> None:
    assert "schedule" not in Recipe().to_json()
    assert Recipe(**Recipe().to_json()) == Recipe()
