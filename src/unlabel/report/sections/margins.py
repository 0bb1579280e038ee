"""By which margins C2 and C4 would pass: a strip a model, from failing to passing; the smallest margins."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from unlabel.audit.document.stages import in_words, is_stage
from unlabel.audit.document.typed import Document, MarginRow, SmallestMargin
from unlabel.audit.figures import name_of, transform
from unlabel.report.charts import Axis
from unlabel.report.formatting import brief, number
from unlabel.report.tables import predicted

KINDS = {
    "adv": "Advantage over {}",
    "bits": "Bits over {}",
    "auc": "AUC over {}, after few annotated images",
    "gain": "Gain over itself before a transform",
}
MODELS = {"after": "This model", "head_zero": "Original, output removed", "reference": "Retrained {}"}
WIDEST, LEAST_TOLD = 4.0, 14.0  # multiples that are shown at most; percent that a zone needs for its word


@dataclass(frozen=True)
class Zone:
    """A part of a strip, in percent, and the verdict there; its word where there is room for it."""

    kind: str
    start: float
    end: float

    @property
    def word(self) -> str:
        """What is written into it."""
        words = {"fail": "fails", "open": "open", "pass": "passes"}
        return words[self.kind] if self.end - self.start >= LEAST_TOLD else ""

    @property
    def middle(self) -> float:
        """Where the word stands, in percent."""
        return round((self.start + self.end) / 2, 1)


@dataclass(frozen=True)
class Strip:
    """One model: its name, the zones of its verdicts, and in words where they change."""

    name: str
    zones: Sequence[Zone]
    said: str
    beside: str


@dataclass(frozen=True)
class Margins:
    """A claim's picture and its table."""

    id: str
    scale: Axis
    strips: Sequence[Strip]
    smallest: Sequence[tuple[str, SmallestMargin, str]]


def margins(audit: Document) -> Iterator[Margins]:
    """Of each claim that has margins which could be other ones; none in audits made before."""
    for id_ in ("C2", "C4"):
        notes = audit.claims[id_].notes
        if not notes.margin_curve:
            continue
        ends = [end for row in notes.margin_curve for end in (row.fails_below, row.passes_above) if end]
        scale = Axis(0.0, min(WIDEST, max(2.0, ceil(2 * 1.1 * max(ends, default=1.0)) / 2)), 0.5)
        names = [item.model for item in notes.margin_curve]
        strips = [
            strip(row, scale, names[: at + 1].count(row.model)) for at, row in enumerate(notes.margin_curve)
        ]
        level = "what is predicted for retrained models" if predicted(audit) else "retrained models"
        smallest = [
            (KINDS[kind].format(level) if kind in KINDS else kind, item, of(item))
            for kind, item in notes.smallest_margin.items()
        ]
        yield Margins(id_, scale, strips, smallest)


def strip(row: MarginRow, scale: Axis, place: int) -> Strip:
    """One model's strip; `place` counts models of its role."""
    fails, passes = row.fails_below, row.passes_above
    ends = [0.0, scale.at(fails), 100.0 if passes is None else scale.at(passes), 100.0]
    zones = [
        Zone(kind, start, end)
        for kind, start, end in zip(("fail", "open", "pass"), ends, ends[1:], strict=False)
        if end > start
    ]
    above = (
        "passes by no margins" if passes is None else f"passes above {number(passes, 2)} times the margins"
    )
    below = f"fails below {number(fails, 2)}, " if fails > 0 else ""
    beside = "by none" if passes is None else f"from {number(passes, 2)} ×"
    return Strip(MODELS.get(row.model, row.model).format(place), zones, below + above, beside)


def of(item: SmallestMargin) -> str:
    """The test that needs a margin, in words."""
    name = name_of(item.figure)
    if item.transform is not None:
        name = f"{name}, after {transform(item.transform).in_words}"
    if item.layer is not None and is_stage(item.layer):
        name = f"{name}, at {in_words(item.layer)}"
    return name if item.label is None else f"{name} ({brief(item.label)})"
