"""Attacks that can make a claim FAIL and never PASS: what they found, for a fold below the other attacks."""

from dataclasses import dataclass

from unlabel.audit import figures
from unlabel.audit.document.typed import Document
from unlabel.report.formatting import number
from unlabel.report.tables import Row, audited, row


@dataclass(frozen=True)
class Condemning:
    """One of these attacks on one label: its name, its figures, whether it condemns, and by what numbers."""

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
            binding = "C1" in audit.claims and audit.claims["C1"].binding == id_
            reason = (
                f"{number(c.diff, signed=True)}, at least {number(c.lower, signed=True)}; limit"
                f" {number(c.margin)}"
                if c is not None
                else ""
            )
            attacks.append(Condemning(name, item, binding or (c is not None and c.verdict == "FAIL"), reason))
    return attacks
