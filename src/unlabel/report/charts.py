"""Where things stand in the report's pictures, in percent of the width; `charts.html` draws them.

The pictures are SVG without a viewBox: they stretch with the page while text and strokes keep their
size, so that they read at 390 px and on paper, and take their colours from the style sheet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log2, log10

from unlabel.audit.document.typed import Document
from unlabel.core.wording import decimals
from unlabel.report.formatting import number
from unlabel.report.readings import Reading
from unlabel.report.tables import Row, attack_rows, audited, label_rows, loss

DIGIT, APART = 7.5, 8.0  # px: a sign of a tick's text, and the room between two texts
ROOMS = {"wide": 270.0, "middle": 160.0}
"""Class of the ticks that do not fit side by side into so many px; narrow charts hide them (`style.css`)."""


@dataclass(frozen=True)
class Axis:
    """A linear scale from `low` to `high` with its ticks as (percent, text)."""

    low: float
    high: float
    step: float

    def at(self, value: float) -> float:
        """Position in percent, held inside the picture.

        >>> Axis(0.5, 1.0, 0.1).at(0.75), Axis(0.5, 1.0, 0.1).at(2.0)
        (50.0, 100.0)
        """
        return round(100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low))), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Positions and texts of the round values."""
        digits = max(0, -floor(log10(self.step) + 1e-9))
        steps = range(ceil(self.low / self.step - 1e-9), floor(self.high / self.step + 1e-9) + 1)
        return [(self.at(i * self.step), number(i * self.step, digits)) for i in steps]

    def beyond(self, value: float) -> int:
        """-1 where a value lies before the axis begins, 1 where it lies after its end, else 0.

        >>> Axis(-2.0, 3.0, 0.5).beyond(-2.94), Axis(-2.0, 3.0, 0.5).beyond(3.0)
        (-1, 0)
        """
        return (value > self.high) - (value < self.low)

    def room(self, text: str) -> str:
        """The class of a tick: by it, the style sheet hides ticks for which a narrow chart has no room.

        >>> wide = Axis(-2.0, 3.0, 0.5)
        >>> wide.room("0.0"), wide.room("1.0"), wide.room("0.5"), Axis(0.0, 1.0, 0.5).room("0.5")
        ('', 'middle', 'wide', '')
        """
        return next((kind for kind, width in ROOMS.items() if text not in self._shown(width)), "")

    def _shown(self, width: float) -> list[str]:
        """Texts of the ticks that fit side by side into so many px: every one, second, fourth ..., with 0."""
        texts = [text for _, text in self.ticks]
        wanted = max((len(text) for text in texts), default=0) * DIGIT + APART
        spacing = width * self.step / (self.high - self.low)
        start = -ceil(self.low / self.step - 1e-9)
        stride = 2 ** max(0, ceil(log2(wanted / spacing)))
        return [text for at, text in enumerate(texts) if (at - start) % stride == 0]


def axis(low: float, high: float) -> Axis:
    """A scale with round ends for both values, in at most six steps of 1, 2 or 5 times a power of ten.

    >>> axis(0.497, 0.98)
    Axis(low=0.4, high=1.0, step=0.1)
    >>> axis(-0.5, 10.3), [text for _, text in axis(-0.002, 0.02).ticks]
    (Axis(low=-2.0, high=12.0, step=2.0), ['−0.005', '0.000', '0.005', '0.010', '0.015', '0.020'])
    """
    span = max(high - low, 1e-6)
    power = 10.0 ** floor(log10(span / 6))
    step = next(power * times for times in (1, 2, 5, 10) if span / (power * times) <= 6)
    return Axis(round(floor(low / step + 1e-9) * step, 9), round(ceil(high / step - 1e-9) * step, 9), step)


@dataclass(frozen=True)
class Dumbbell:
    """One label: where it was, where it is, where retraining puts it."""

    row: Row
    forgotten: bool
    loss: float | None
    before: float | None
    after: float | None
    retrained: float | None


def dumbbells(audit: Document) -> tuple[Axis, list[Dumbbell], float]:
    """Scale, labels by loss, and the position of chance."""
    rows = label_rows(audit)
    sides = [side.value for found in rows for side in (found.before, found.after, found.retrained) if side]
    scale = axis(min([0.5, *sides]), 1.0)

    def at(side: Reading | None) -> float | None:
        return None if side is None else scale.at(side.value)

    gone = audited(audit)
    marks = [Dumbbell(f, f.label in gone, loss(f), at(f.before), at(f.after), at(f.retrained)) for f in rows]
    return scale, marks, scale.at(0.5)


@dataclass(frozen=True)
class Excess:
    """How much of the original's excess over retraining an attack still finds: 0 = Retrain, 1 = original.

    ``excess = (after - retrained) / (before - retrained)``; its bounds and its margin are divided by the
    same gap, which is taken as it was measured. Undefined (`value` None) where the gap is no larger than
    the uncertainty of the comparison.
    """

    row: Row
    gap: float
    value: float | None = None
    lower: float = 0.0
    upper: float = 0.0
    margin: float = 0.0

    @property
    def blind(self) -> bool:
        """Whether the original itself would be within the limit, so that the attack says little here."""
        return self.value is not None and self.margin >= 1.0

    @property
    def digits(self) -> int:
        """Decimals that show each bound on its side of the margin, which is no round number either."""
        return max(decimals(end, self.margin) for end in (self.lower, self.upper))

    @property
    def verdict(self) -> str:
        """The comparison's verdict."""
        assert self.row.comparison is not None
        return self.row.comparison.verdict


def excesses(audit: Document, label: str | None) -> list[Excess]:
    """The excess of every attack on a label that was compared with retrained models."""
    compared = []
    for _, rows in attack_rows(audit, label):
        for row in rows:
            if row.comparison is None or row.before is None or row.retrained is None:
                continue
            c, gap = row.comparison, row.before.value - row.retrained.value
            if gap <= max(c.upper - c.diff, c.diff - c.lower, 1e-9):
                compared.append(Excess(row, gap))
            else:
                compared.append(Excess(row, gap, c.diff / gap, c.lower / gap, c.upper / gap, c.margin / gap))
    return compared


def excess_axis(rows: Sequence[Excess]) -> Axis:
    """A scale that shows 0 and 1 and, within reason, every interval; what lies beyond it is marked so."""
    measured = [row for row in rows if row.value is not None]
    low = min([-0.25, *(row.lower - 0.05 for row in measured)])
    high = max([1.1, *(max(row.upper, row.margin) for row in measured)])
    return Axis(max(low, -2.0), min(high, 3.0), 0.5)


def goes_on(rows: Sequence[Excess], scale: Axis) -> bool:
    """Whether some interval, or the value in it, goes on beyond the scale."""
    measured = [row for row in rows if row.value is not None]
    return any(scale.beyond(row.lower) < 0 or scale.beyond(row.upper) > 0 for row in measured)
