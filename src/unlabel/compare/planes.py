"""Where the marks of a comparison's two pictures stand, in percent of a plane; the template draws them.

Like the report's pictures these are SVG without a viewBox: circles, lines and rectangles take percentages, so
a plane stretches while marks and text keep their size. The marks carry numbers; names are in the list below.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10
from typing import Any

from unlabel.report.numbers import number, short

SIDE, HEIGHT = (
    300.0,
    340.0,
)  # of the plane in px at its narrowest: there the numbers must not cover each other
TAG = (16.0, 15.0)
PLACES = tuple(
    (right * step, down * step)
    for step in (15.0, 22.0, 30.0, 40.0)
    for right, down in ((1, 0), (-1, 0), (0, -1), (0, 1), (0.8, -0.8), (-0.8, -0.8), (0.8, 0.8), (-0.8, 0.8))
)


@dataclass(frozen=True)
class Axis:
    """A linear scale with round ends, and its ticks as (percent, text)."""

    low: float
    high: float
    step: float

    def at(self, value: float) -> float:
        """Position in percent, held inside the picture."""
        return round(100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low))), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Positions and texts of the round values."""
        digits = max(0, -floor(log10(self.step) + 1e-9))
        steps = range(ceil(self.low / self.step - 1e-9), floor(self.high / self.step + 1e-9) + 1)
        return [(self.at(i * self.step), number(i * self.step, digits)) for i in steps]


def axis(low: float, high: float) -> Axis:
    """A scale that holds both values, in steps of 1, 2 or 5 times a power of ten, five or so.

    >>> axis(-0.5, 10.3), [text for _, text in axis(-0.002, 0.02).ticks]
    (Axis(low=-2.0, high=12.0, step=2.0), ['−0.005', '0.000', '0.005', '0.010', '0.015', '0.020'])
    """
    span = max(high - low, 1e-6)
    power = 10.0 ** floor(log10(span / 6))
    step = next(power * times for times in (1, 2, 5, 10) if span / (power * times) <= 6)
    return Axis(round(floor(low / step + 1e-9) * step, 9), round(ceil(high / step - 1e-9) * step, 9), step)


@dataclass(frozen=True)
class LogAxis:
    """A logarithmic scale over whole powers of ten; 0 stands at its left end, apart from the rest."""

    low: int
    high: int
    zero: bool

    def at(self, value: float) -> float:
        """Position in percent.

        >>> LogAxis(2, 4, False).at(1000), LogAxis(2, 4, True).at(0), LogAxis(2, 4, True).at(100)
        (50.0, 4.0, 16.0)
        """
        if value <= 0:
            return 4.0
        start = 16.0 if self.zero else 0.0
        share = (log10(value) - self.low) / (self.high - self.low)
        return round(start + (100 - start) * min(1.0, max(0.0, share)), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Positions and texts of the powers."""
        powers = [
            (self.at(10.0**power), short(10**power).replace(".0", ""))
            for power in range(self.low, self.high + 1)
        ]
        return ([(4.0, "0")] if self.zero else []) + powers


@dataclass(frozen=True)
class Mark:
    """One method, or retraining, on a plane.

    Args:
        number: What the picture calls it; 0 for retraining.
        row: Its row of the comparison.
        x, y: Position in percent, y from the top.
        across, upright: Ends of its spread over seeds, from the left and from the top; None for none.
        tag: Where its number stands, in px from the mark.
    """

    number: int
    row: Mapping[str, Any]
    x: float
    y: float
    across: tuple[float, float] | None
    upright: tuple[float, float] | None
    tag: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Plane:
    """A picture: its scales, its marks, and where the margins run."""

    horizontal: Axis | LogAxis
    vertical: Axis
    marks: tuple[Mark, ...]
    retrain: Mark | None
    steps: tuple[tuple[float, float, float, float], ...] = ()
    """Lines of the front: x1, y1, x2, y2 in percent."""

    def down(self, value: float) -> float:
        """Position from the top."""
        return round(100 - self.vertical.at(value), 2)


def scatter(found: Mapping[str, Any]) -> Plane | None:
    """What methods cost the retained labels, against what they leave of the forgotten one."""
    rows = [row for row in found["methods"] if row["excess"] and row["loss"]]
    if not rows:
        return None
    retrain, margin = found["retrain"], found["margins"]["c5_macro"]
    loss = [value for row in (*rows, retrain) if row["loss"] for value in row["loss"]["values"]]
    horizontal, vertical = axis(min([-margin, *loss]), max([2 * margin, *loss])), heights(found, rows)
    numbers = numbered(found)
    marks = [_mark(numbers[row["method"]], row, row["loss"], horizontal, vertical) for row in rows]
    known = retrain["excess"] and retrain["loss"]
    own = _mark(0, retrain, retrain["loss"], horizontal, vertical) if known else None
    return Plane(horizontal, vertical, tuple(tagged(marks)), own)


def costs(found: Mapping[str, Any]) -> Plane | None:
    """What methods cost in processed images, against what they leave of the forgotten label; the front."""
    rows = [row for row in found["methods"] if row["excess"] and row["cost"]["images"]]
    if not rows:
        return None
    retrain = found["retrain"]
    amounts = [row["cost"]["images"]["mean"] for row in rows]
    if retrain["cost"]["images"]:
        amounts.append(retrain["cost"]["images"]["mean"])
    positive = [amount for amount in amounts if amount > 0] or [1.0]
    low, high = floor(log10(min(positive))), ceil(log10(max(positive)))
    horizontal, vertical = LogAxis(low, max(high, low + 1), min(amounts) <= 0), heights(found, rows)
    numbers = numbered(found)
    marks = [_mark(numbers[row["method"]], row, row["cost"]["images"], horizontal, vertical) for row in rows]
    own = None
    if retrain["excess"] and retrain["cost"]["images"]:
        own = _mark(0, retrain, retrain["cost"]["images"], horizontal, vertical)
    return Plane(horizontal, vertical, tuple(tagged(marks)), own, front(marks))


def heights(found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Axis:
    """One scale of C2's excess for both pictures, with 0, the margin and every seed on it."""
    known = [*rows, *([found["retrain"]] if found["retrain"]["excess"] else [])]
    values = [value for row in known for value in row["excess"]["values"]]
    return axis(min([-0.5, *values]), max([1.5, *values]))


def numbered(found: Mapping[str, Any]) -> dict[str, int]:
    """The number of every method: its place in the table."""
    return {row["method"]: at for at, row in enumerate(found["methods"], start=1)}


def front(marks: Sequence[Mark]) -> tuple[tuple[float, float, float, float], ...]:
    """The front as steps: what is reached at a cost is reached at every higher one."""
    best = sorted((mark for mark in marks if mark.row["front"]), key=lambda mark: (mark.x, -mark.y))
    found: list[tuple[float, float, float, float]] = []
    for here, then in pairwise(best):
        found += [(here.x, here.y, then.x, here.y), (then.x, here.y, then.x, then.y)]
    return (*found, (best[-1].x, best[-1].y, 100.0, best[-1].y)) if best else ()


def _mark(
    number: int, row: Mapping[str, Any], across: Mapping[str, Any], horizontal: Axis | LogAxis, vertical: Axis
) -> Mark:
    def ends(item: Mapping[str, Any]) -> tuple[float, float] | None:
        return (min(item["values"]), max(item["values"])) if len(item["values"]) > 1 else None

    wide, tall = ends(across), ends(row["excess"])
    return Mark(
        number,
        row,
        horizontal.at(across["mean"]),
        round(100 - vertical.at(row["excess"]["mean"]), 2),
        (horizontal.at(wide[0]), horizontal.at(wide[1])) if wide else None,
        (round(100 - vertical.at(tall[1]), 2), round(100 - vertical.at(tall[0]), 2)) if tall else None,
    )


def tagged(marks: Sequence[Mark]) -> list[Mark]:
    """Gives every number a place beside its mark where it covers neither a mark nor a number.

    Where a crowd leaves none, the place that covers least is taken.
    """
    dots = [(SIDE * mark.x / 100, HEIGHT * mark.y / 100) for mark in marks]
    taken: list[tuple[float, float]] = []
    found: list[Mark] = []
    for mark, (x, y) in zip(marks, dots, strict=True):

        def cost(place: tuple[float, float], x: float = x, y: float = y) -> tuple[int, float]:
            at = (x + place[0], y + place[1])
            outside = not (8 <= at[0] <= SIDE - 8 and 8 <= at[1] <= HEIGHT - 8)
            tags = sum(abs(at[0] - u) < TAG[0] and abs(at[1] - v) < TAG[1] for u, v in taken)
            under = sum(abs(at[0] - u) < 12 and abs(at[1] - v) < 11 for u, v in dots)
            return 2 * tags + under + 2 * outside, abs(place[0]) + abs(place[1])

        place = min(PLACES, key=cost)
        taken.append((x + place[0], y + place[1]))
        found.append(Mark(mark.number, mark.row, mark.x, mark.y, mark.across, mark.upright, place))
    return found
