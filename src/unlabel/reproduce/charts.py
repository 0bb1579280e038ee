"""Two pictures, built by hand (docs/decisions/0002): curves on a shared plane, and bars with their spread.

They stand beside a Markdown page as files, follow the reader's light or dark mode, and hold no script and no
font. The same numbers give the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH = 720
STYLE = """<style>
svg { background: #ffffff; } text { font: 14px system-ui, sans-serif; fill: #1f2328; }
.axis, .grid { stroke: #8c959f; stroke-width: 1; fill: none; } .grid { stroke: #d1d9e0; }
.a { stroke: #57606a; } .b { stroke: #0969da; } .c { stroke: #bc4c00; } .d { stroke: #8250df; }
.line { stroke-width: 2.5; fill: none; } .bar { fill: #0969da; } .aim { fill: #57606a; }
.whisker { stroke: #1f2328; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117; } text { fill: #e6edf3; } .axis { stroke: #8b949e; } .grid { stroke: #30363d; }
.a { stroke: #adb5bd; } .b { stroke: #58a6ff; } .c { stroke: #f0883e; } .d { stroke: #bc8cff; }
.bar { fill: #58a6ff; } .aim { fill: #adb5bd; } .whisker { stroke: #e6edf3; } }
</style>"""
STROKES = (("a", "8 5"), ("b", ""), ("c", "2 3"), ("d", "12 3 2 3"))
"""Colour class and dashes of each curve: told apart without colour, too."""


@dataclass(frozen=True)
class Curve:
    """A distribution: its name, and shares of equal bins."""

    name: str
    shares: Sequence[float]


@dataclass(frozen=True)
class Bar:
    """A value with its lowest and highest measurement, and words behind it."""

    name: str
    value: float
    low: float
    high: float
    words: str
    aim: bool = False


def curves(lines: Sequence[Curve], across: tuple[float, float], below: str, beside: str) -> str:
    """Up to four distributions over one axis, with a legend.

    Args:
        lines: Curves with the same number of bins.
        across: Values at the left and right end.
        below: What the horizontal axis is.
        beside: What the vertical axis is.
    """
    left, right, top, bottom = 64, WIDTH - 16, 16 + 24 * ((len(lines) + 1) // 2), 380
    # the axis ends where the last image is
    last = max(at for curve in lines for at, share in enumerate(curve.shares) if share > 0) + 1
    bins = len(lines[0].shares)
    end = across[0] + (across[1] - across[0]) * min(bins, last + 1) / bins
    most = max(share for curve in lines for share in curve.shares)
    step = nice(most / 4)
    ceiling = step * ceil(most / step - 1e-9)
    elements = [opened(WIDTH, 432)]

    def at_x(value: float) -> float:
        return left + (right - left) * (value - across[0]) / (end - across[0])

    def at_y(share: float) -> float:
        return bottom - (bottom - top) * share / ceiling

    for number in range(round(ceiling / step) + 1):
        y = at_y(number * step)
        elements.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
        elements.append(f'<text x="{left - 8}" y="{y + 5:.1f}" text-anchor="end">{number * step:.2g}</text>')
    tick = nice((end - across[0]) / 6)
    for number in range(floor((end - across[0]) / tick + 1e-9) + 1):
        value = across[0] + number * tick
        elements.append(
            f'<text x="{at_x(value):.1f}" y="{bottom + 22}" text-anchor="middle">{value:.2g}</text>'
        )
    elements.append(f'<path class="axis" d="M{left} {bottom}H{right}"/>')
    for curve, (colour, dashes) in zip(lines, STROKES, strict=False):
        width = (across[1] - across[0]) / bins
        points = []
        for number, share in enumerate(curve.shares[: min(bins, last + 1)]):
            start = across[0] + number * width
            points.append(f"{at_x(start):.1f} {at_y(share):.1f}H{at_x(start + width):.1f}")
        elements.append(
            f'<path class="line {colour}" stroke-dasharray="{dashes}" d="M{" V".join(_steps(points))}"/>'
        )
    for number, (curve, (colour, dashes)) in enumerate(zip(lines, STROKES, strict=False)):
        x, y = left + 330 * (number % 2), 20 + 24 * (number // 2)
        elements.append(f'<path class="line {colour}" stroke-dasharray="{dashes}" d="M{x} {y - 5}h44"/>')
        elements.append(f'<text x="{x + 54}" y="{y}">{escape(curve.name)}</text>')
    elements.append(f'<text x="{(left + right) / 2}" y="424" text-anchor="middle">{escape(below)}</text>')
    elements.append(
        f'<text transform="translate(16 {(top + bottom) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(beside)}</text>"
    )
    return "\n".join([*elements, "</svg>"]) + "\n"


def _steps(points: Sequence[str]) -> list[str]:
    """A staircase: each step but the first begins where the last one ended, so only its height is new."""
    return [points[0], *(point.split(" ", 1)[1] for point in points[1:])]


def bars(rows: Sequence[Bar], below: str) -> str:
    """One bar a row on a logarithmic axis, with the range of its measurements.

    Args:
        rows: Values above 0.
        below: What the axis is.
    """
    left, right, row = 170, WIDTH - 190, 34
    bottom = 16 + row * len(rows)
    low = 10.0 ** floor(log10(min(bar.low for bar in rows)))
    high = 10.0 ** ceil(log10(max(bar.high for bar in rows)) + 1e-9)
    elements = [opened(WIDTH, bottom + 56)]

    def at(value: float) -> float:
        return left + (right - left) * (log10(value) - log10(low)) / (log10(high) - log10(low))

    for power in range(round(log10(low)), round(log10(high)) + 1):
        x = at(10.0**power)
        elements.append(f'<path class="grid" d="M{x:.1f} 10V{bottom}"/>')
        elements.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{10.0**power:g}</text>')
    for number, bar in enumerate(rows):
        y = 16 + row * number
        kind = "aim" if bar.aim else "bar"
        elements.append(f'<text x="{left - 10}" y="{y + 18}" text-anchor="end">{escape(bar.name)}</text>')
        elements.append(
            f'<rect class="{kind}" x="{left}" y="{y + 4}" width="{at(bar.value) - left:.1f}" height="18"/>'
        )
        elements.append(f'<path class="whisker" d="M{at(bar.low):.1f} {y + 13}H{at(bar.high):.1f}"/>')
        elements.append(
            f'<text x="{max(at(bar.high), left) + 8:.1f}" y="{y + 18}">{escape(bar.words)}</text>'
        )
    elements.append(
        f'<text x="{(left + right) / 2}" y="{bottom + 46}" text-anchor="middle">{escape(below)}</text>'
    )
    return "\n".join([*elements, "</svg>"]) + "\n"


def nice(step: float) -> float:
    """The next round step: 1, 2 or 5 times a power of ten.

    >>> nice(0.013), nice(0.3)
    (0.02, 0.5)
    """
    power = 10.0 ** floor(log10(step))
    return next(round(unit * power, 12) for unit in (1, 2, 5, 10) if unit * power >= step * (1 - 1e-9))


def opened(width: int, height: int) -> str:
    """The beginning of a picture of this size, with its style."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img">\n{STYLE}'
    )
