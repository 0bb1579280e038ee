"""The retained labels among images with and without the forgotten one: whether one group was harmed more."""

from collections.abc import Mapping
from typing import Any

from unlabel.audit.document.typed import Document
from unlabel.audit.figures import GAP_FOUND, GAPS, in_group
from unlabel.report.charts import Axis, Dumbbell, axis
from unlabel.report.formatting import brief
from unlabel.report.readings import Reading, reading
from unlabel.report.tables import Row, audited, row

MOST_SHOWN, LEAST_SHOWN = 12, 4  # labels in a picture; the tables have all
MOST_IN_ALL = 30  # in the pictures of all forgotten labels together, unless that leaves one too few


def _rows(audit: Document, id_: str) -> dict[str, Row]:
    labels = dict.fromkeys(m.label for m in audit.metrics if m.id == id_ and m.label)
    return {label: found for label in labels if (found := row(audit, id_, label)) is not None}


def change(found: Row) -> float:
    """How much wider the gap became, whichever group it is to the disadvantage of; 0 where unknown."""
    return abs(found.after.value) - abs(found.before.value) if found.before and found.after else 0.0


def groups(audit: Document) -> list[dict[str, Any]]:
    """For every forgotten label: a sentence, the marks of the widest changes, and the table of all gaps."""
    entries = []
    for forgotten in audited(audit):
        tables = {gap.id: _rows(audit, gap.of(forgotten)) for gap in in_group(GAPS)}
        labels = list(dict.fromkeys(label for rows in tables.values() for label in rows))
        shown = sorted(tables[GAP_FOUND.id].values(), key=lambda item: -abs(change(item)))
        if not labels:
            continue
        shown = shown[: max(LEAST_SHOWN, min(MOST_SHOWN, MOST_IN_ALL // len(audited(audit))))]
        scale, marks = _marks(shown)
        entries.append(
            {
                "label": forgotten,
                "text": _sentence(tables[GAP_FOUND.id]),
                "marks": marks,
                "scale": scale,
                "left_out": len(tables[GAP_FOUND.id]) - len(shown),
                "table": [(label, [rows.get(label) for rows in tables.values()]) for label in labels],
            }
        )
    return entries


def _sentence(rows: Mapping[str, Row]) -> str:
    worst = max(rows.values(), key=change, default=None)
    if worst is None or worst.before is None or worst.after is None or change(worst) < 0.0005:
        return "No gap became wider."
    text = f"The gap that grew most is that of {brief(worst.label or '')}: from"
    text += f" {reading(worst.before, signed=True)} to {reading(worst.after, signed=True)}"
    return text + (
        f"; retrained models have {reading(worst.retrained, signed=True)}." if worst.retrained else "."
    )


def _marks(rows: list[Row]) -> tuple[Axis, list[Dumbbell]]:
    sides = [side.value for item in rows for side in (item.before, item.after, item.retrained) if side]
    scale = axis(min([-0.1, *sides]), max([0.1, *sides]))

    def at(side: Reading | None) -> float | None:
        return None if side is None else scale.at(side.value)

    return scale, [
        Dumbbell(item, False, change(item), at(item.before), at(item.after), at(item.retrained))
        for item in rows
    ]
