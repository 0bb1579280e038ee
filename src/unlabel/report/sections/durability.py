"""Whether forgetting lasts: what each change brings back, and how few annotations teach it again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, TypeVar

from unlabel.audit.document.typed import Difference, Document, Noted, Notes
from unlabel.audit.figures import FEW_SHOT, RECOVERED, transform
from unlabel.report.charts import Axis, axis
from unlabel.report.formatting import NOTHING, beside_margin, brief, count, number, spoken
from unlabel.report.readings import Reading, reading
from unlabel.report.sections import beside, binding, full_budget
from unlabel.report.tables import Row, audited, predicted, row, targets


@dataclass(frozen=True)
class Gain:
    """What one change brought back for one attack: more than before it, or than on retrained models.

    ``retrained`` is what it brought back on retrained models, where this model is compared with itself.
    ``predicted`` says that the level of retrained models is a predicted one.
    """

    transform: str
    row: Row
    retrained: float | None
    predicted: bool = False

    @property
    def judged(self) -> Difference:
        """The comparison."""
        assert self.row.comparison is not None
        return self.row.comparison

    @property
    def title(self) -> str:
        """The change in a few words."""
        return transform(self.transform).name

    @property
    def attack(self) -> str:
        """The attack, without the change."""
        return self.row.name.split(", after ")[0]

    @property
    def measured(self) -> str:
        """The attack and the unit of its figures."""
        return full_budget.measured(self.attack, self.row.any.unit)

    @property
    def distance(self) -> float:
        """How far its upper bound is above its margin, in margins."""
        return self.judged.distance

    @property
    def than(self) -> str:
        """What it is compared with."""
        if self.judged.against == "itself":
            return "before it"
        return "predicted for retrained" if self.predicted else "retrained"


def gains(audit: Document, label: str) -> dict[str, list[Gain]]:
    """By transform, the gain of every attack on a label that was judged."""
    by_change: dict[str, list[Gain]] = {}
    for c in audit.comparisons:
        change = c.transform
        if change is None or c.label != label:
            continue
        changed = row(audit, c.id, label, c.layer, change)
        if changed is None:
            continue
        plain = row(audit, RECOVERED.member(c.id), label, c.layer)
        both = (changed.retrained, plain.retrained if plain else None)
        itself = c.against == "itself"
        retrained = both[0].value - both[1].value if itself and both[0] and both[1] else None
        by_change.setdefault(change, []).append(Gain(change, changed, retrained, predicted(audit)))
    return by_change


def closest(found: Mapping[str, Sequence[Gain]]) -> list[Gain]:
    """Of each transform, the attack that came closest to its margin."""
    return [max(items, key=lambda item: item.distance) for items in found.values()]


MOST_SHOWN, LEAST_SHOWN = 24, 3  # changes in the pictures of all labels together, and in each


Tested = TypeVar("Tested", Gain, full_budget.Deep)


def nearest(shown: Sequence[Tested], labels: int) -> list[Tested]:
    """Those of them that came closest to their margin, in their order: all, where few labels were tested."""
    most = max(LEAST_SHOWN, MOST_SHOWN // labels)
    chosen = sorted(shown, key=lambda item: -item.distance)[:most]
    return [item for item in shown if item in chosen]


def gain_axis(shown: Sequence[Gain | full_budget.Deep]) -> Axis:
    """A scale that holds every interval, every margin and what retrained models gained."""
    ends = [end for item in shown for end in (item.judged.lower, item.judged.upper)]
    ends += [item.judged.margin for item in shown]
    ends += [item.retrained for item in shown if item.retrained is not None]
    return axis(min([-0.02, *ends]), max([0.06, *ends]))


@dataclass(frozen=True)
class Point:
    """A figure of one model at one number of images: where it stands in percent, and its text."""

    x: float
    y: float
    low: float
    high: float
    said: str


@dataclass(frozen=True)
class Curve:
    """How well a new probe tells a label after few annotated images, by model."""

    sizes: Sequence[int]
    rows: Sequence[Row]
    known: Sequence[
        Difference | Noted
    ]  # excess over retrained models, of sizes that are judged and of those that are not
    scale: Axis
    series: Mapping[str, Sequence[Point]]  # "before", "after", "retrained"
    predicted: bool = False  # whether the level of retrained models is

    @property
    def table(self) -> list[tuple[int, Row, Difference | Noted]]:
        """Size, figures and excess, a row a size."""
        return list(zip(self.sizes, self.rows, self.known, strict=True))

    @property
    def last(self) -> float:
        """The excess at the largest size, 0 where no verdict rests on it."""
        return self.rows[-1].comparison.diff if self.rows[-1].comparison else 0.0

    @property
    def columns(self) -> list[tuple[float, str]]:
        """Where each size stands, in percent."""
        return [(round(100 * (at + 0.5) / len(self.sizes), 2), f"{n:,}") for at, n in enumerate(self.sizes)]

    @property
    def levels(self) -> list[tuple[float, str]]:
        """Where each round AUC stands, in percent from the top."""
        return [(round(100 - at, 2), text) for at, text in self.scale.ticks]


SHIFT: Mapping[str, float] = {"before": -1.2, "after": 0.0, "retrained": 1.2}
"""How far each model's marks stand beside the size, in percent, so that intervals do not hide each other."""


def curve(audit: Document, label: str) -> Curve | None:
    """The few-shot curve of a label, or None where it was not measured."""
    listed = [m for m in audit.metrics if m.id.startswith(FEW_SHOT.id) and m.label == label]
    layers = {m.id: m.layer for m in listed}
    sizes = sorted(int(FEW_SHOT.member(id_)) for id_ in layers)
    rows = [found for n in sizes if (found := row(audit, FEW_SHOT.of(n), label, layers[FEW_SHOT.of(n)]))]
    if not rows:
        return None
    predicted = any(found.predicted and not found.retrained for found in rows)
    sides = {side: [getattr(found, side) for found in rows] for side in SHIFT}
    if predicted:
        sides["retrained"] = [found.predicted for found in rows]
    ends = {side: [_interval(one) if one else None for one in found] for side, found in sides.items()}
    inside = [end for found in ends.values() for pair in found if pair for end in pair]
    scale = axis(min([0.5, *inside]), max(0.6, *inside))
    series = {
        side: [
            Point(
                round(100 * (at + 0.5) / len(rows) + SHIFT[side], 2),
                *(round(100 - scale.at(value), 2) for value in (one.value, *pair)),
                said=f"{side}, {sizes[at]:,} images: {reading(one)}",
            )
            for at, (one, pair) in enumerate(zip(sides[side], ends[side], strict=True))
            if one and pair
        ]
        for side in SHIFT
    }
    noted = notes(audit).few_shot.get(label, {})
    comparisons = [
        found.comparison or noted.get(str(n)) or Noted() for n, found in zip(sizes, rows, strict=True)
    ]
    shown = {side: points for side, points in series.items() if points}
    return Curve(sizes, rows, comparisons, scale, shown, predicted)


def _interval(found: Reading) -> tuple[float, float]:
    if found.ci:
        return found.ci[0], found.ci[1]
    sd = found.sd or 0.0
    return found.value - sd, found.value + sd


def notes(audit: Document) -> Notes:
    """What the audit notes of C4; empty where the claim is not there."""
    return audit.claims["C4"].notes


def sections(audit: Document) -> list[dict[str, Any]]:
    """For every label that was tested: its gains, the ones that are shown, their scale, the curve."""
    entries = []
    for label in audited(audit):
        each, few = gains(audit, label), curve(audit, label)
        tuned, staged = full_budget.tuned(audit, label), full_budget.staged(audit, label)
        other = {
            "attackers": beside.attackers(audit, label),
            "depth": beside.depth(audit, label),
            "foretold": beside.foretold(audit, label),
            "handful": beside.handful(audit, label),
            "information": full_budget.information(audit, label),
            "planes": list(beside.planes(audit, label)),
            "needed": beside.needed(audit, label),
            "beside": list(beside.sentences(audit, label)),
        }
        if each or few:
            shown = nearest(closest(each), len(audited(audit)))
            deep = nearest(full_budget.closest(tuned, staged), len(audited(audit)))
            entries.append(
                {"label": label, "gains": each, "shown": shown, "scale": gain_axis(shown), "curve": few}
                | {"tuned": tuned, "staged": staged, "deep": deep, "deep_scale": gain_axis(deep)}
                | other
            )
    return entries


def lasting(audit: Document) -> str:
    """Whether it lasts, in two to five sentences; empty where it was not tested."""
    each = {label: closest(gains(audit, label)) for label in targets(audit)}
    every = [item for items in each.values() for item in items]
    text = ""
    if every:
        worst = max(every, key=lambda item: item.distance)
        ways = len({item.transform for item in every})
        spoken_ = transform(worst.transform).of_model
        unit = full_budget.SPOKEN_UNITS.get(worst.row.any.unit, "advantage")
        whose = f", for {brief(worst.row.label)}" if worst.row.label and len(targets(audit)) > 1 else ""
        than = (
            "before"
            if worst.judged.against == "itself"
            else full_budget.level(audit, "it does on retrained models")
        )
        text = (
            f"A copy of the model was changed in {ways} way{'s' * (ways != 1)} that models meet in use, and"
            f" attacked again. After {spoken_}, the attack that came closest to its limit"
            f" ({worst.attack[:1].lower()}{worst.attack[1:]}{whose}) finds"
            f" {number(worst.judged.diff, signed=True)} {unit} more than"
            f" {than}, at most"
            f" {beside_margin(worst.judged.upper, worst.judged.margin, signed=True)};"
            f" {number(worst.judged.margin)} is allowed."
        )
    deep = full_budget.sentences(audit, targets(audit))
    return " ".join(part for part in (text, _relearnt(audit), *deep, binding.sentence(audit, "C4")) if part)


def _relearnt(audit: Document) -> str:
    curves = {label: found for label in targets(audit) if (found := curve(audit, label))}
    if not curves:
        return ""
    label, n, shown = max(
        ((label, n, tried) for label, each in curves.items() for n, tried, _ in each.table),
        key=lambda one: (one[2].comparison.distance if one[2].comparison else -inf, one[1]),
    )
    sides = {"this model": shown.after, "the original": shown.before, "retrained ones": shown.retrained}
    sides |= {"a retrained one, as predicted": shown.predicted} if curves[label].predicted else {}
    words = [f"{reading(side)} on {who}" for who, side in sides.items() if side]
    return (
        f"A new probe that is shown {count(n)} annotated images predicts"
        f" {brief(label) if len(targets(audit)) > 1 else spoken(targets(audit)) or NOTHING} with an AUC of"
        f" {', '.join(words)}.{_judged(audit, shown.comparison)}"
    )


def _judged(audit: Document, test: Difference | None) -> str:
    """What follows the figures of a probe if a verdict rests on them: its excess, bound and limit."""
    if test is None:
        return ""
    diff, upper = (beside_margin(value, test.margin, signed=True) for value in (test.diff, test.upper))
    than = full_budget.level(audit, "on retrained models")
    return f" That is {diff} AUC more than {than}, at most {upper}; {number(test.margin)} is allowed."
