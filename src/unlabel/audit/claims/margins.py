"""By which margins a claim would pass: the smallest ones, and how its verdict changes as all margins do.

A claim passes if every test's upper bound is below its margin, and fails if some test is above its margin
after Holm's correction: the smallest p-value of m tests is below alpha / m. Both are bounds of the tests, so
the verdict changes at two multiples of the margins and nowhere else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from unlabel.audit.claims.judging import Cell
from unlabel.audit.figures import layer_of, unit_of
from unlabel.audit.inputs.options import AuditOptions

Choice = Sequence[Cell]  # tests of which one within its margin is enough; most often a single one
Row = dict[str, object]
NOTES = ("smallest_margin", "margin_curve")
"""Where a claim's notes say by which margins it would pass; they know of no other tests."""


@dataclass(frozen=True)
class Limits:
    """Where a verdict changes, in multiples of all margins.

    Args:
        fails_below: With smaller margins than this multiple, the claim fails.
        passes_above: With larger ones, it passes; None: by no margins.
        binding: By kind of margin, the test that needs the largest, and that margin.
    """

    fails_below: float
    passes_above: float | None
    binding: Mapping[str, tuple[float, Cell]]

    def row(self, model: str) -> Row:
        """As the claim's notes hold it."""
        return {"model": model, "fails_below": self.fails_below, "passes_above": self.passes_above}


def limits(
    choices: Sequence[Choice], options: AuditOptions, published: Mapping[str, float], *, open_: bool = False
) -> Limits:
    """The two multiples of a claim's margins at which its verdict changes.

    Args:
        choices: The tests. If some are of the mean over labels (label None), only these must pass; of each
            label, the value itself must be below its margin.
        options: Level of the tests.
        published: By kind of margin (see `kind_of`), the margin that the options give.
        open_: Whether something else than its tests keeps the claim from a PASS.
    """
    means = [choice for choice in choices if choice[0].label is None]
    level = 1.0 - options.alpha / len(choices)
    fails = max(min(c.contrast.lower(level) / c.margin for c in choice) for choice in choices)

    def needed(cell: Cell) -> float:
        """The margin that the test needs, as a multiple of its own; one that only FAILs needs not to."""
        bound = cell.contrast.lower(level) if cell.only_fails else cell.upper(options)
        return bound / cell.margin

    by_need = [[(needed(cell), cell) for cell in choice] for choice in means or choices]
    easiest = [min(choice, key=itemgetter(0)) for choice in by_need]
    factors = [(max(factor, 0.0), cell) for factor, cell in easiest]
    singles = [cell for (cell,) in choices if cell.label and not cell.only_fails] if means else []
    factors += [(max(cell.contrast.value / cell.margin, 0.0), cell) for cell in singles]
    binding: dict[str, tuple[float, Cell]] = {}
    for factor, cell in factors:
        kind = kind_of(cell, published)
        if kind not in binding or factor * published[kind] > binding[kind][0]:
            binding[kind] = factor * published[kind], cell
    fails = max(fails, 0.0)
    return Limits(fails, None if open_ else max(fails, *(factor for factor, _ in factors)), binding)


def without_margins(notes: Mapping[str, Any]) -> dict[str, Any]:
    """A claim's notes, if something else than the tests behind its margins has changed its verdict."""
    return {name: value for name, value in notes.items() if name not in NOTES}


def kind_of(cell: Cell, published: Mapping[str, float]) -> str:
    """Which margin a test has: ``gain`` over itself before a transform, or that of its unit.

    An AUC counts as half an advantage where no margin is its own.
    """
    if cell.against == "itself":
        return "gain"
    unit = unit_of(cell.figure)
    return "adv" if unit == "auc" and "auc" not in published else unit


def smallest(found: Limits, published: Mapping[str, float]) -> dict[str, Row]:
    """By kind of margin, the smallest that would pass and the test that needs it; empty if none would."""
    if found.passes_above is None:
        return {}
    return {
        kind: {
            "margin": margin,
            "published": published[kind],
            "figure": cell.figure,
            "label": cell.label,
            "layer": cell.stage or layer_of(cell.figure),
            "transform": cell.transform,
        }
        for kind, (margin, cell) in sorted(found.binding.items())
    }
