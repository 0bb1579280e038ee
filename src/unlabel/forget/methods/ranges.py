"""Values out of range are refused by name, before anything is computed."""

from math import isfinite

from unlabel.core.errors import OptionError


def in_range(name: str, value: float, low: float, high: float | None = None, *, above: bool = False) -> None:
    """Refuses a number outside [low, high], or outside (low, high] with ``above``.

    Raises:
        OptionError: With the option's name, the value and the range.
    """
    if isfinite(value) and (value > low if above else value >= low) and (high is None or value <= high):
        return
    least = f"more than {low:g}" if above else f"{low:g} or more"
    most = "" if high is None else f", {high:g} at most"
    raise OptionError(f"--{name.replace('_', '-')} is {value:g}; expected {least}{most}")


def check_schedule(steps: int, lr: float) -> None:
    """Refuses lengths and rates of a training that does the forgetting itself: it needs a step."""
    in_range("steps", steps, 1)
    in_range("lr", lr, 0, 10, above=True)
