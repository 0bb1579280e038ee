"""Rows of the report's tables, read from the parsed audit.json.

A `Row` sets the readings of one attack (or of one label's utility) side by side: before, after, retrained.
Tables, pictures and sentences are views of these rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from unlabel.audit import figures
from unlabel.audit.document.stages import is_stage
from unlabel.audit.document.typed import Difference, Document, Figure
from unlabel.audit.figures import (
    ATTACKED,
    LARGER,
    MEASURES,
    OWN,
    OWN_SIGNED,
    RECOVERED,
    UTILITY_AUC,
    Group,
    find,
    in_group,
    name_of,
)
from unlabel.report.readings import Reading

UNITS: Mapping[str, str] = {
    "adv": "0 = chance, 1 = perfect",
    "bits": "bits; 0 = nothing",
    "bit": "bits; 0 = nothing",
    "auc": "AUC; 0.5 = chance, 1 = perfect",
    "fraction": "share, 0 to 1",
    "steps": "optimiser steps",
    "nats": "nats; 0 = nothing",
    "ratio": "ratio",
}


@dataclass(frozen=True)
class Row:
    """One measured thing in the original, the edited and the retrained models."""

    id: str
    label: str | None
    layer: str | None
    before: Reading | None
    after: Reading | None
    retrained: Reading | None
    comparison: Difference | None = None
    transform: str | None = None
    predicted: Reading | None = None

    @property
    def any(self) -> Reading:
        """A reading that exists, for the unit and the number of images."""
        reading = self.after or self.before or self.retrained
        assert reading is not None
        return reading

    @property
    def name(self) -> str:
        """The attack in two or three words."""
        name = name_of(RECOVERED.member(self.id)) if find(self.id) else self.id
        name = name if self.layer in (None, "penultimate") else f"{name}, {self.layer}"
        return f"{name}, after {self.transform}" if self.transform else name


def _mean(rows: Sequence[Figure]) -> Reading | None:
    if not rows:
        return None
    values = [row.value for row in rows]
    ci = rows[0].ci if len(rows) == 1 else None
    sd = stdev(values) if len(values) > 1 else None
    return Reading(fmean(values), ci, rows[0].n, rows[0].unit, sd, len(values))


def row(
    audit: Document,
    id_: str,
    label: str | None = None,
    layer: str | None = None,
    transform: str | None = None,
) -> Row | None:
    """Everything known of one metric of one label in one layer, after one transform or none, or None."""
    key = (id_, label, layer, transform)
    metrics = [m for m in audit.metrics if _key(m) == key]
    if not metrics:
        return _pooled(audit, id_, layer) if label is None else None
    roles = {
        role: _mean([m for m in metrics if m.model == role]) for role in ("before", "after", "reference")
    }
    return Row(
        id_,
        label,
        layer,
        roles["before"],
        roles["after"],
        roles["reference"],
        next((c for c in audit.comparisons if _key(c) == key), None),
        transform,
        _predicted(audit, metrics[0]) if transform is None and not is_stage(layer) else None,
    )


def _predicted(audit: Document, like: Figure) -> Reading | None:
    """The level that short trainings predict for an attack on a label."""
    for claim in audit.claims.values():
        figures = claim.notes.prediction.figures if claim.notes.prediction else {}
        if level := figures.get(like.label or "", {}).get(like.id):
            return Reading(level.value, (level.low, level.high), like.n, like.unit)
    return None


def _key(item: Figure | Difference) -> tuple[str, str | None, str | None, str | None]:
    """What a metric and its comparison have in common."""
    return item.id, item.label, item.layer, item.transform


def _pooled(audit: Document, id_: str, layer: str | None) -> Row | None:
    """The mean over labels, where the audit compared that mean with the references."""
    comparison = next((c for c in audit.comparisons if _key(c) == (id_, None, layer, None)), None)
    if comparison is None:
        return None
    rows = [part for label in audited(audit) if (part := row(audit, id_, label, layer)) is not None]

    def pool(side: str) -> Reading | None:
        readings = [getattr(part, side) for part in rows if getattr(part, side) is not None]
        return (
            Reading(fmean(r.value for r in readings), None, readings[0].n, readings[0].unit)
            if readings
            else None
        )

    return Row(id_, None, layer, pool("before"), pool("after"), pool("retrained"), comparison)


def _layers(audit: Document, id_: str, label: str | None) -> list[str | None]:
    listed: list[Figure | Difference] = [*audit.metrics, *audit.comparisons]
    return list(dict.fromkeys(m.layer for m in listed if (m.id, m.label) == (id_, label)))


def attack_rows(audit: Document, label: str | None) -> list[tuple[Group, list[Row]]]:
    """Attacks on a label, grouped by what the attacker was given."""
    groups = []
    for group in ATTACKED:
        rows = [
            found
            for item in in_group(group)
            for layer in _layers(audit, item.id, label)
            if not is_stage(layer)  # those are the durability section's
            if (found := row(audit, item.id, label, layer)) is not None
        ]
        if any(found.id == OWN.id for found in rows):
            rows = [found for found in rows if found.id != OWN_SIGNED.id]
        if rows:
            groups.append((group, rows))
    return groups


def further(audit: Document) -> list[tuple[str, list[Row]]]:
    """Figures of the larger budgets, by kind, each as plain rows."""
    groups = []
    ids = dict.fromkeys(m.id for m in audit.metrics)
    group_of = {id_: known.group for id_ in ids if (known := find(id_))}
    for group in LARGER:
        keys = dict.fromkeys(_key(m) for m in audit.metrics if group_of.get(m.id) is group)
        rows = [found for key in keys if (found := row(audit, *key)) is not None]
        if rows:
            groups.append((group.title, rows))
    return groups


def how(id_: str) -> str:
    """What an attack does, for a person."""
    figure = find(id_)
    return figure.how if figure else ""


def targets(audit: Document) -> list[str]:
    """The labels that this request forgets."""
    return list(audit.request.labels)


def audited(audit: Document) -> list[str]:
    """The labels that are attacked: those of this request and those forgotten earlier."""
    return [*targets(audit), *audit.request.forgotten_earlier]


def predicted(audit: Document) -> bool:
    """Whether C2 compares with a predicted level: no model was retrained in full."""
    return audit.claims["C2"].notes.predicted


def strongest(audit: Document, side: str) -> Row | None:
    """The attack with the highest score on a 0-to-1 scale before or after, over all forgotten labels."""
    compared = {item.id for item in figures.FIGURES if item.unit == "adv" and "C2" in item.claims}
    rows = [
        found
        for label in targets(audit)
        for _, group in attack_rows(audit, label)
        for found in group
        if found.id in compared and getattr(found, side) is not None
    ]
    return max(rows, key=lambda found: getattr(found, side).value, default=None)


def label_rows(audit: Document) -> list[Row]:
    """AUC of every label before, after and retrained, the largest loss first.

    A forgotten label's AUC comes from its own output: (1 + signed advantage) / 2.
    """
    forgotten = audited(audit)
    labels = dict.fromkeys([*forgotten, *(m.label for m in audit.metrics if m.id == UTILITY_AUC.id)])
    rows = []
    for label in labels:
        signed = row(audit, OWN_SIGNED.id, label) if label in forgotten else None
        item = _as_auc(signed) if signed else row(audit, UTILITY_AUC.id, label)
        if item is not None:
            rows.append(item)
    return sorted(rows, key=lambda found: (-(loss(found) or 0.0), found.label or ""))


def loss(found: Row) -> float | None:
    """Before minus after, where both are known."""
    return found.before.value - found.after.value if found.before and found.after else None


def _as_auc(own: Row) -> Row:
    def convert(reading: Reading | None) -> Reading | None:
        if reading is None:
            return None
        ci = [(1 + bound) / 2 for bound in reading.ci] if reading.ci else None
        return Reading((1 + reading.value) / 2, ci, reading.n, "auc")

    return Row(UTILITY_AUC.id, own.label, None, convert(own.before), convert(own.after), None)


def measures(audit: Document) -> list[tuple[str, list[Row | None]]]:
    """The other measures of every retained label, in the registry's order."""
    ids = [item.id for item in in_group(MEASURES)]
    retained = dict.fromkeys(m.label for m in audit.metrics if m.id in ids and m.label)
    return [(label, [row(audit, id_, label) for id_ in ids]) for label in retained]
