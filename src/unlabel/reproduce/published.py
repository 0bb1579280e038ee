"""The paper's own figures: one data file, with where they stand."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("published.json")


@cache
def published() -> Mapping[str, Any]:
    """What the paper prints, by page; null where it prints no figure that we can quote.

    Example:
        >>> published()["table2"]["retained_accuracy_test"]["WP"]
        95.1
    """
    return json.loads(FILE.read_text("utf-8"))


def shown(value: float | list[float] | None, digits: int = 1) -> str:
    """A published figure as the paper has it: a number, a range, or a dash.

    >>> shown(95.1), shown([72.0, 85.0], 0), shown(None)
    ('95.1', '72 to 85', '-')
    """
    if value is None:
        return "-"
    if isinstance(value, list):
        return f"{value[0]:.{digits}f} to {value[1]:.{digits}f}"
    return f"{value:.{digits}f}"
