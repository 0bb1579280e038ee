"""Attacks that can make a claim FAIL and never PASS: what they found, for a fold below the other attacks."""

from dataclasses import dataclass

from unlabel.audit import figures
from unlabel.audit.document.typed import Document
from unlabel.report.formatting import beside_margin, number
from unlabel.report.tables import Row, audited, row


@dataclass(frozen=True)
class Condemning:
    """One of these attacks on one label: name, figures, whether it fails the model, by what numbers."""

    name: str
    row: Row
    condemns: bool
    reason: str


def condemning(audit: Document) -> list[Condemning]:
    """Every such attack of an audit, by label."""
    attacks = []
    condemn = {item.id: item.name for item in figures.FIGURES if item.condemning}
    layers = {m.id: m.layer for m in audit.metrics if m.id in condemn}
    for label in audited(audit):
        for id_, name in condemn.items():
            if (item := row(audit, id_, label, layers.get(id_))) is None:
                continue
            c = item.comparison
            disabled = audit.claims["C1"]
            binding = disabled.binding == id_ and disabled.per_label.get(label) == "FAIL"
            binding = binding and _above_chance(item, audit)
            reason = (
                f"{number(c.diff, signed=True)}, at least"
                f" {beside_margin(c.lower, c.margin, signed=True)}; limit {number(c.margin)}"
                if c is not None
                else ""
            )
            attacks.append(Condemning(name, item, binding or (c is not None and c.verdict == "FAIL"), reason))
    return attacks


def _above_chance(item: Row, audit: Document) -> bool:
    """Whether the unlearned model's figure is above C1's margin; C1 has judged by its bound."""
    return item.after is not None and item.after.value > audit.options.d_chance
