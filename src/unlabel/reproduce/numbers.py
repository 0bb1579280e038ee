"""Numbers of a table: a value with its spread over seeds or its interval, as plain data, and as text."""

from collections.abc import Iterable, Mapping
from math import isfinite
from statistics import fmean, stdev
from typing import Any, TypeAlias

Entry: TypeAlias = str | Mapping[str, Any]
"""What stands in a table's field: words, or a number with ``value`` and ``digits``, and ``sd`` or ``ci``."""


def spread(values: Iterable[float | None], digits: int = 3) -> Entry:
    """Mean and standard deviation over seeds; a dash where there is no value.

    Example:
        >>> text(spread([0.9, 0.94])), text(spread([0.5])), text(spread([None]))
        ('0.920 sd 0.028', '0.500', '-')
    """
    numbers = [float(value) for value in values if value is not None]
    if not numbers:
        return "-"
    assert all(map(isfinite, numbers)), "a figure is NaN or infinite"
    entry: dict[str, Any] = {"value": fmean(numbers), "n": len(numbers), "digits": digits}
    if len(numbers) > 1:
        entry["sd"] = stdev(numbers)
    return entry


def percent(values: Iterable[float | None], digits: int = 1) -> Entry:
    """Like `spread`, for shares that are shown in percent.

    >>> text(percent([0.931, 0.935]))
    '93.3 sd 0.3'
    """
    return spread([None if value is None else 100 * value for value in values], digits)


def deviation(values: Iterable[float | None]) -> float:
    """Standard deviation over seeds; 0 where there is one.

    >>> round(deviation([0.9, 0.94]), 3), deviation([0.5])
    (0.028, 0.0)
    """
    numbers = [value for value in values if value is not None]
    return stdev(numbers) if len(numbers) > 1 else 0.0


def interval(value: float, ci: Iterable[float], digits: int = 3) -> Entry:
    """A value with its 95 % interval over images.

    >>> text(interval(0.5, (0.4, 0.61)))
    '0.500 (0.400 to 0.610)'
    """
    low, high = ci
    return {"value": float(value), "ci": [float(low), float(high)], "digits": digits}


def between(values: Iterable[float], digits: int = 1) -> str:
    """The range of some values in words; a single number where both ends read the same.

    >>> between([57.01, 56.98]), between([57.0, 58.2, 57.5])
    ('57.0', '57.0 to 58.2')
    """
    numbers = list(values)
    low, high = f"{min(numbers):,.{digits}f}", f"{max(numbers):,.{digits}f}"
    return low if low == high else f"{low} to {high}"


def whole(values: Iterable[float | None]) -> Entry:
    """Like `spread`, for counts: the mean, and the deviation only where it is not 0.

    >>> text(whole([96, 96])), text(whole([1024.0, 2048.0]))
    ('96', '1,536 sd 724')
    """
    return spread(values, 0)


def text(entry: Entry) -> str:
    """An entry as the page shows it."""
    if isinstance(entry, str):
        return entry
    digits = entry["digits"]
    shown = f"{entry['value']:,.{digits}f}"
    if "ci" in entry:
        low, high = entry["ci"]
        return f"{shown} ({low:,.{digits}f} to {high:,.{digits}f})"
    if "sd" in entry and not (digits == 0 and entry["sd"] == 0):
        return f"{shown} sd {entry['sd']:,.{digits}f}"
    return shown


def value(entry: Entry) -> float | None:
    """An entry's number; None where it is words."""
    return None if isinstance(entry, str) else float(entry["value"])
