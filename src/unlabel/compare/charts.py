"""Where the marks of a comparison's two pictures stand, in percent of a plane; the template draws them.

Like the report's pictures these are SVG without a viewBox: circles, lines and rectangles take percentages, so
a plane stretches while marks and text keep their size. The marks carry numbers; names are in the list below.
Marks that would hide each other, as those of equal cost do, are set side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, floor, log10
from typing import Any

from unlabel.report.charts import Axis, axis
from unlabel.report.formatting import short

SIDE, HEIGHT = (
    300.0,
    340.0,
)  # of the plane in px at its narrowest: there the numbers must not cover each other
TAG = (16.0, 15.0)
DOT, ASIDE = 11.0, 12.0  # px: nearer marks hide each other, and how far each is then set aside
PLACES = tuple(
    (right * step, down * step)
    for step in (15.0, 22.0, 30.0, 40.0)
    for right, down in ((1, 0), (-1, 0), (0, -1), (0, 1), (0.8, -0.8), (-0.8, -0.8), (0.8, 0.8), (-0.8, 0.8))
)


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

    def room(self, text: str) -> str:
        """The class of a tick; powers of ten are few, and fit anywhere."""
        return ""


@dataclass(frozen=True)
class Mark:
    """One method, or retraining, on a plane.

    Args:
        number: What the picture calls it; 0 for retraining.
        row: Its row of the comparison.
        x, y: Position in percent, y from the top.
        across, upright: Ends of its spread over seeds, from the left and from the top; None for none.
        aside: How far it is set to the right of its place, in px; below 0, to the left.
        tag: Where its number stands, in px from the mark.
    """

    number: int
    row: Mapping[str, Any]
    x: float
    y: float
    across: tuple[float, float] | None
    upright: tuple[float, float] | None
    aside: float = 0.0
    tag: tuple[float, float] = (0.0, 0.0)

    @property
    def spot(self) -> tuple[float, float]:
        """Where it is drawn on the narrowest plane, in px."""
        return SIDE * self.x / 100 + self.aside, HEIGHT * self.y / 100


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
    measured = retrain["excess"] and retrain["loss"]
    retrain_mark = _mark(0, retrain, retrain["loss"], horizontal, vertical) if measured else None
    return Plane(horizontal, vertical, tuple(tagged(apart(marks, retrain_mark))), retrain_mark)


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
    retrain_mark = None
    if retrain["excess"] and retrain["cost"]["images"]:
        retrain_mark = _mark(0, retrain, retrain["cost"]["images"], horizontal, vertical)
    return Plane(horizontal, vertical, tuple(tagged(apart(marks, retrain_mark))), retrain_mark, front(marks))


def heights(found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Axis:
    """One scale of C2's excess for both pictures, with 0, the margin and every seed on it.

    Where none is below 0, as when an output was removed, it ends a little below, where marks have room.
    """
    measured = [*rows, *([found["retrain"]] if found["retrain"]["excess"] else [])]
    values = [value for row in measured for value in row["excess"]["values"]]
    scale = axis(min([0.0, *values]), max([1.5, *values]))
    return replace(scale, low=min(scale.low, -scale.step / 2))


def numbered(found: Mapping[str, Any]) -> dict[str, int]:
    """The number of every method: its place in the table."""
    return {row["method"]: at for at, row in enumerate(found["methods"], start=1)}


def front(marks: Sequence[Mark]) -> tuple[tuple[float, float, float, float], ...]:
    """The front as steps: what is reached at a cost is reached at every higher one."""
    best = sorted((mark for mark in marks if mark.row["front"]), key=lambda mark: (mark.x, -mark.y))
    lines: list[tuple[float, float, float, float]] = []
    for here, then in pairwise(best):
        lines += [(here.x, here.y, then.x, here.y), (then.x, here.y, then.x, then.y)]
    return (*lines, (best[-1].x, best[-1].y, 100.0, best[-1].y)) if best else ()


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


def apart(marks: Sequence[Mark], retrain: Mark | None) -> list[Mark]:
    """Sets a mark aside, as little as it takes, until it hides neither retraining nor one that came before.

    Where there is no room left in the plane, it stays.
    """
    taken = [retrain.spot] if retrain else []
    moved: dict[int, Mark] = {}
    steps = [0.0, *(way * ASIDE * step for step in range(1, int(SIDE / ASIDE)) for way in (1, -1))]
    for mark in sorted(marks, key=lambda mark: not mark.row["front"]):  # the front's line leads to its marks
        places = (replace(mark, aside=step) for step in steps)
        free = (place for place in places if 0 <= place.spot[0] <= SIDE and not _hides(place.spot, taken))
        moved[mark.number] = next(free, mark)
        taken.append(moved[mark.number].spot)
    return [moved[mark.number] for mark in marks]


def _hides(spot: tuple[float, float], taken: Sequence[tuple[float, float]]) -> bool:
    return any(abs(spot[0] - u) < DOT and abs(spot[1] - v) < DOT for u, v in taken)


def tagged(marks: Sequence[Mark]) -> list[Mark]:
    """Gives every number a place beside its mark where it covers neither a mark nor a number.

    Where a crowd leaves none, the place that covers least is taken.
    """
    dots = [mark.spot for mark in marks]
    taken: list[tuple[float, float]] = []
    result: list[Mark] = []
    for mark, (x, y) in zip(marks, dots, strict=True):

        def cost(spot: tuple[float, float], x: float = x, y: float = y) -> tuple[int, float]:
            at = (x + spot[0], y + spot[1])
            outside = not (8 <= at[0] <= SIDE - 8 and 8 <= at[1] <= HEIGHT - 8)
            tags = sum(abs(at[0] - u) < TAG[0] and abs(at[1] - v) < TAG[1] for u, v in taken)
            under = sum(abs(at[0] - u) < 12 and abs(at[1] - v) < 11 for u, v in dots)
            return 2 * tags + under + 2 * outside, abs(spot[0]) + abs(spot[1])

        spot = min(PLACES, key=cost)
        taken.append((x + spot[0], y + spot[1]))
        result.append(replace(mark, tag=spot))
    return result
