"""The correlations of a source's labels as a picture: SVG that needs no script, no font and no network."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_CELL = 30
_LETTER = 6.6  # width of a letter at 12 px, on average
_WIDEST = 24
_STYLE = """
    svg { background: #ffffff; }
    text { font: 12px system-ui, sans-serif; fill: #1a1a1a; }
    .value { font-size: 11px; text-anchor: middle; }
    .on-dark { fill: #ffffff; }
    .undefined { fill: none; stroke: #999999; stroke-dasharray: 2 3; }
    @media (prefers-color-scheme: dark) {
      svg { background: #16181c; }
      text { fill: #e8e8e8; }
      .value { fill: #1a1a1a; }
      .on-dark { fill: #ffffff; }
    }
"""
_UNDEFINED = '<text x="{x}" y="{y}">dotted: undefined, as a label never varies</text>'
_POSITIVE, _NEGATIVE, _NONE = (179, 88, 6), (33, 102, 172), (247, 247, 247)  # safe for the colour-blind


def correlations(found: Mapping[str, Any]) -> str:
    """The correlations of each two labels as an SVG: orange goes together, blue excludes each other.

    Args:
        found: Of `survey`; its ``correlations`` are drawn.
    """
    labels, values = found["correlations"]["labels"], found["correlations"]["phi"]
    names = [name if len(name) <= _WIDEST else name[: _WIDEST - 1] + "…" for name in labels]
    widest = max((len(name) for name in names), default=0) * _LETTER
    left, top = round(widest + 24), round(widest * 0.72 + 64)
    side = _CELL * len(names)
    width = max(left + side + round(widest * 0.72) + 16, left + 310)
    height = top + side + 80
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape('Correlations of the labels of ' + found['source'])}</title>",
        f"<style>{_STYLE}</style>",
        f'<text x="12" y="22">Correlation (phi) of each two labels,'
        f" {sum(found['splits'].values()):,} images</text>",
        *_names(names, left, top),
        *_cells(values, left, top),
        *_legend(left, top + side + 20),
        *([_UNDEFINED.format(x=left, y=top + side + 68)] if any(None in row for row in values) else ()),
        "</svg>",
    ]
    return "\n".join(body) + "\n"


def _names(names: list[str], left: int, top: int) -> Iterator[str]:
    for at, name in enumerate(names):
        middle = at * _CELL + _CELL / 2
        yield (
            f'<text x="{left - 8}" y="{top + middle + 4:g}" text-anchor="end">{escape(name)}</text>'
            f'<text transform="translate({left + middle + 4:g} {top - 8}) rotate(-45)">{escape(name)}</text>'
        )


def _cells(values: list[list[float | None]], left: int, top: int) -> Iterator[str]:
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            x, y = left + column * _CELL, top + row * _CELL
            box = f'x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" height="{_CELL - 2}"'
            if value is None:
                yield f'<rect {box} class="undefined"/>'
                continue
            yield f'<rect {box} fill="{_colour(value)}"/>'
            if row != column:
                kind = "value on-dark" if abs(value) > 0.6 else "value"
                yield (
                    f'<text class="{kind}" x="{x + _CELL / 2:g}" y="{y + _CELL / 2 + 4:g}">'
                    f"{_short(value)}</text>"
                )


def _short(value: float) -> str:
    """Two digits without the zero before the point.

    >>> _short(-0.456), _short(0.031), _short(1.0), _short(0.0)
    ('−.46', '.03', '1', '0')
    """
    rounded = round(abs(value), 2)
    digits = "1" if rounded == 1 else f"{rounded:.2f}"[1:] if rounded else "0"
    return f"−{digits}" if value < 0 and rounded else digits


def _colour(value: float) -> str:
    """Between white at 0 and a full colour at 1 or -1.

    >>> _colour(0.0), _colour(1.0), _colour(-1.0)
    ('#f7f7f7', '#b35806', '#2166ac')
    """
    end = _POSITIVE if value > 0 else _NEGATIVE
    share = min(1.0, abs(value))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(_NONE, end, strict=True))


def _legend(left: int, top: int) -> Iterator[str]:
    steps = [step / 10 - 1 for step in range(21)]
    for at, value in enumerate(steps):
        yield f'<rect x="{left + 14 * at}" y="{top}" width="14" height="12" fill="{_colour(value)}"/>'
    for at, text in ((0, "−1 one or the other"), (20, "1 both or none")):
        anchor = "start" if at == 0 else "end"
        x = left if at == 0 else left + 294
        yield f'<text x="{x}" y="{top + 28}" text-anchor="{anchor}">{text}</text>'
