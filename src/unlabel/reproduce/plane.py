"""The picture of the frontier: cost across, what comes back upwards, every mark with its name beside it.

It is 480 wide, so that its text reads at 390 px as at its own size. Names stand where they cover neither a
name nor a mark; a line leads to a name that stands apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from unlabel.compare.charts import LogAxis
from unlabel.report.charts import Axis, axis
from unlabel.reproduce.charts import opened

WIDTH, HEIGHT = 480, 720
LEFT, RIGHT, TOP, BOTTOM = 56, 456, 82, 662
LETTER, LINE = 7.9, 16.0  # px of a letter and of a line at 14 px of text
MARK = 6.0
STYLE = """<style>
text { font-size: 14px; } .lead { stroke: #57606a; stroke-dasharray: 2 2; }
.band { fill: #8c959f; opacity: .25; } .mean { stroke: #57606a; stroke-width: 1.5; }
.start { stroke: #57606a; stroke-width: 1.5; stroke-dasharray: 6 4; }
.thin { stroke: #8c959f; stroke-width: 1; }
.good { fill: #0969da; stroke: #0969da; } .poor { fill: #ffffff; stroke: #bc4c00; stroke-width: 2; }
.front { stroke: #0969da; stroke-width: 1.5; fill: none; opacity: .6; } .aim { fill: #57606a; }
.halo { stroke: #ffffff; stroke-width: 4; paint-order: stroke; stroke-linejoin: round; }
@media (prefers-color-scheme: dark) { .band { fill: #8b949e; } .mean, .start { stroke: #adb5bd; }
.good { fill: #58a6ff; stroke: #58a6ff; } .poor { fill: #0d1117; stroke: #f0883e; }
.front { stroke: #58a6ff; } .aim { fill: #adb5bd; } .halo { stroke: #0d1117; } .thin { stroke: #6e7681; }
.lead { stroke: #adb5bd; } }
</style>"""

Box = tuple[float, float, float, float]  # left, top, right, bottom in px
Spot = tuple[float, float]


@dataclass(frozen=True)
class Point:
    """One model, or the mean over seeds.

    Args:
        name: Written beside it.
        cost: Where it stands across, and the end of what its cost may be; 0 has a place of its own.
        value: Where it stands upwards, with both ends of its interval.
        good: Whether the retained labels kept what they must.
        front: Whether no other good point is as cheap and as low.
    """

    name: str
    cost: tuple[float, float]
    value: tuple[float, float, float]
    good: bool
    front: bool = False


@dataclass(frozen=True)
class Level:
    """What has no cost, or is the aim: a line across, with a band."""

    name: str
    value: float
    low: float
    high: float


def plane(
    points: Sequence[Point], retrain: Point, band: Level, start: Level, across: str, upwards: str
) -> str:
    """The picture as SVG text.

    Args:
        points: Methods.
        retrain: Retraining, at its own cost.
        band: What comes back of retrained models, from the lowest to the highest.
        start: The original, which forgot nothing.
        across, upwards: What the axes are.
    """
    horizontal, vertical = scales(points, retrain, (band, start))

    def at(cost: float, value: float) -> Spot:
        return (
            LEFT + (RIGHT - LEFT) * horizontal.at(cost) / 100,
            BOTTOM - (BOTTOM - TOP) * vertical.at(value) / 100,
        )

    (_, high), (_, low) = at(1, band.high), at(1, band.low)
    elements = [opened(WIDTH, HEIGHT), STYLE, *_legend(), *_grid(horizontal, vertical, across, upwards)]
    elements.append(
        f'<rect class="band" x="{LEFT}" y="{high:.1f}" width="{RIGHT - LEFT}"'
        f' height="{max(low - high, 1):.1f}"/>'
    )
    for level, kind in ((band, "mean"), (start, "start")):
        y = at(1, level.value)[1]
        elements.append(f'<path class="{kind}" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
    front = sorted((point for point in points if point.front), key=lambda point: point.cost[0])
    if front:
        x, y = at(front[0].cost[0], front[0].value[0])
        steps = [at(point.cost[0], point.value[0]) for point in front[1:]]
        path = "".join(f"H{u:.1f}V{v:.1f}" for u, v in steps)
        elements.append(f'<path class="front" d="M{x:.1f} {y:.1f}{path}H{RIGHT}"/>')
    spots = [at(point.cost[0], point.value[0]) for point in (*points, retrain)]
    for point, (x, y) in zip((*points, retrain), spots, strict=True):
        elements += _whiskers(x, y, at(*_end(point, 2)), at(*_end(point, 1)))
    for point, spot in zip(points, spots, strict=False):
        elements.append(mark(*spot, good=point.good))
    x, y = spots[-1]
    elements.append(f'<rect class="aim" x="{x - 6:.1f}" y="{y - 6:.1f}" width="12" height="12"/>')
    texts = [point.name for point in (*points, retrain)]
    # the original has no mark; its name stands by its line, at the right end
    lines = [(*spots, (RIGHT - 4.0, at(1, start.value)[1] - 3.0)), (*texts, start.name)]
    for text, spot, box in zip(lines[1], lines[0], names(*lines), strict=True):
        elements += _name(text, spot, box, led=text != start.name)
    return "\n".join([*elements, "</svg>"]) + "\n"


def scales(points: Sequence[Point], retrain: Point, levels: Sequence[Level]) -> tuple[LogAxis, Axis]:
    """Axes that hold every mark with its ends."""
    costs = [cost for point in (*points, retrain) for cost in point.cost]
    positive = [cost for cost in costs if cost > 0] or [1.0]
    low = floor(log10(min(positive)))
    horizontal = LogAxis(low, max(ceil(log10(max(positive))), low + 1), min(costs) <= 0)
    values = [value for point in (*points, retrain) for value in point.value]
    values += [value for level in levels for value in (level.low, level.high)]
    return horizontal, axis(min(values), max(values))


def names(spots: Sequence[Spot], texts: Sequence[str]) -> list[Box]:
    """A box for every name, beside its spot or as near as there is room; none covers another.

    Args:
        spots: Of the marks, in px.
        texts: Names.

    Example:
        >>> first, second = names([(200, 200), (203, 201)], ["one", "two"])
        >>> overlap(first, second)
        False
    """
    marks = [(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in spots]
    near = [places(spot, text) for spot, text in zip(spots, texts, strict=True)]
    crowd = [sum(abs(x - u) < 90 and abs(y - v) < 40 for u, v in spots) for x, y in spots]
    keys = (lambda at: crowd[at], lambda at: -crowd[at], lambda at: spots[at][1], lambda at: -spots[at][1])
    tries = [_placed(sorted(range(len(spots)), key=key), near, marks) for key in keys]
    return min(tries, key=lambda boxes: sum(map(distance, spots, boxes)))


def _placed(order: Sequence[int], near: Sequence[Sequence[Box]], marks: Sequence[Box]) -> list[Box]:
    """A box for every name: each takes the nearest that is free when its turn comes, or its first."""
    boxes: dict[int, Box] = {}
    for number in order:
        taken = [*marks, *boxes.values()]
        free = (box for box in near[number] if not any(overlap(box, other) for other in taken))
        boxes[number] = next(free, near[number][0])
    return [boxes[number] for number in range(len(near))]


def places(spot: Spot, text: str) -> list[Box]:
    """Boxes inside the plane for a name, the nearest to its spot first."""
    width, (x, y) = LETTER * len(text) + 4, spot
    lefts = [x + MARK + 3, x - MARK - 3 - width, x - width / 2]
    lefts += [LEFT + 4 + 12.0 * step for step in range(int((RIGHT - LEFT) / 12))]
    tops = [y - LINE / 2 + way * 4.0 * step for step in range(int((BOTTOM - TOP) / 4)) for way in (1, -1)]
    boxes = [
        (left, top, left + width, top + LINE)
        for left in lefts
        for top in tops
        if left >= LEFT + 2 and left + width <= RIGHT - 2 and top >= TOP and top + LINE <= BOTTOM
    ]

    return sorted(boxes, key=lambda box: distance(spot, box))


def distance(spot: Spot, box: Box) -> float:
    """How far a name stands from its mark, squared; up or down counts double.

    >>> distance((0, 0), (3, -2, 9, 2)), distance((0, 0), (-1, 2, 1, 4))
    (9.0, 16.0)
    """
    across = max(box[0] - spot[0], spot[0] - box[2], 0.0)
    return float(across**2 + (2 * max(box[1] - spot[1], spot[1] - box[3], 0.0)) ** 2)


def overlap(first: Box, second: Box) -> bool:
    """Whether two boxes share a point.

    >>> overlap((0, 0, 2, 2), (1, 1, 3, 3)), overlap((0, 0, 2, 2), (2, 0, 3, 2))
    (True, False)
    """
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def mark(x: float, y: float, *, good: bool) -> str:
    """A full circle, or an empty diamond: told apart without colour."""
    if good:
        return f'<circle class="good" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
    return f'<path class="poor" d="M{x:.1f} {y - MARK:.1f}l6 6l-6 6l-6 -6z"/>'


def _end(point: Point, which: int) -> tuple[float, float]:
    """Cost and value at the far or near end: 2 is the dearest and highest, 1 the cheapest and lowest."""
    return point.cost[which - 1], point.value[which]


def _whiskers(x: float, y: float, high: Spot, low: Spot) -> list[str]:
    lines = [f'<path class="thin" d="M{x:.1f} {high[1]:.1f}V{low[1]:.1f}"/>']
    return [*lines, f'<path class="thin" d="M{x:.1f} {y:.1f}H{high[0]:.1f}"/>'] if high[0] > x else lines


def _name(text: str, spot: Spot, box: Box, *, led: bool) -> list[str]:
    """A name, and the line that leads to it where it stands apart."""
    (x, y), middle = spot, (box[1] + box[3]) / 2
    near = min(max(x, box[0] + 2), box[2] - 2)
    down = min(max(y, box[1] + 3), box[3] - 3) if near != x else (box[1] + 3 if box[1] > y else box[3] - 2)
    apart = distance(spot, box) > (2 * MARK) ** 2
    lead = [f'<path class="lead" d="M{x:.1f} {y:.1f}L{near:.1f} {down:.1f}"/>'] if led and apart else []
    return [*lead, f'<text class="halo" x="{box[0] + 2:.1f}" y="{middle + 4.5:.1f}">{escape(text)}</text>']


def _legend() -> list[str]:
    return [
        mark(16, 16, good=True),
        '<text x="32" y="21">retained labels within the margin of Retrain</text>',
        mark(16, 38, good=False),
        '<text x="32" y="43">retained labels lose more</text>',
        '<rect class="band" x="246" y="30" width="20" height="16"/><path class="mean" d="M246 38h20"/>',
        '<text x="272" y="43">Retrain, lowest to highest</text>',
        '<path class="front" d="M6 60h20"/>',
        '<text x="32" y="65">the frontier</text>',
        '<path class="start" d="M246 60h20"/>',
        '<text x="272" y="65">the original</text>',
    ]


def _grid(horizontal: LogAxis, vertical: Axis, across: str, upwards: str) -> list[str]:
    elements = []
    for percent, text in vertical.ticks:
        y = BOTTOM - (BOTTOM - TOP) * percent / 100
        elements.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        elements.append(f'<text x="{LEFT - 6}" y="{y + 4.5:.1f}" text-anchor="end">{text}</text>')
    for percent, text in horizontal.ticks:
        x = LEFT + (RIGHT - LEFT) * percent / 100
        elements.append(f'<path class="grid" d="M{x:.1f} {TOP}V{BOTTOM}"/>')
        elements.append(f'<text x="{x:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{text}</text>')
    middle = (LEFT + RIGHT) / 2
    elements.append(f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">{escape(across)}</text>')
    turned = f"translate(14 {(TOP + BOTTOM) / 2}) rotate(-90)"
    return [*elements, f'<text transform="{turned}" text-anchor="middle">{escape(upwards)}</text>']
