"""Values out of range are refused by name, before anything is computed."""

from decimal import Decimal

from unlabel.core.errors import OptionError

MOST = 1e12
"""Past it no option of any method means more, and squares and exponentials begin to overflow."""


def in_range(name: str, value: float, low: float, high: float = MOST, *, above: bool = False) -> None:
    """Refuses a number outside [low, high], or outside (low, high] with ``above``.

    Raises:
        OptionError: With the option's name, the value and the range.
    """
    if (value > low if above else value >= low) and value <= high:  # NaN is neither
        return
    least = f"more than {low:g}" if above else f"{low:g} or more"
    number = value if isinstance(value, float) else Decimal(value)  # of a whole number of any length
    raise OptionError(f"--{name.replace('_', '-')} is {number:g}; expected {least}, {high:,.15g} at most")


def check_schedule(steps: int, lr: float) -> None:
    """Refuses lengths and rates of a training that does the forgetting itself: it needs a step."""
    in_range("steps", steps, 1)
    in_range("lr", lr, 0, 10, above=True)
