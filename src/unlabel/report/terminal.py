"""An audit as a few lines for a terminal."""

from statistics import fmean

from unlabel.audit.results import Audit, Metric
from unlabel.models.features import PENULTIMATE

ATTACKS = (
    ("own.adv", "its own output"),
    ("own.sadv@restored", "the output row put back"),
    ("others.adv.lin", "the other outputs, linear"),
    ("others.adv.gbt", "the other outputs, trees"),
    ("probe.adv.lin", "the features, linear probe"),
    ("probe.adv.mlp", "the features, MLP probe"),
    ("probe.bits.lin", "the features, linear, bits"),
    ("probe.bits.mlp", "the features, MLP, bits"),
    ("few.auc@64", "AUC from 64 annotated images"),
    ("few.auc@256", "AUC from 256"),
    ("tune.auc@256", "whole model trained on 256"),
    ("tune.auc@1024", "whole model trained on 1,024"),
    ("mia.label.auc", "membership by annotation, AUC"),
)
FLOOR = "floor.adv"


def lines(audit: Audit) -> list[str]:
    """The headline, each attack before, after and retrained, the claims and the reasons.

    An advantage is 0 for a coin and 1 for a perfect attack; bits are what the attack learns of the label.
    Without a retrained model, the last column holds what the true retained labels tell, where that is a
    measure, and the last line what references would cost.
    """
    out = [audit.headline]
    out += [f"  invalid: {reason}" for reason in audit.invalid_because]
    retrained = any(row.model == "reference" and row.id != FLOOR for row in audit.metrics)
    floors = {row.label: row.value for row in audit.metrics if row.id == FLOOR}
    if retrained or audit.data.get("exclusive"):
        floors = {}
    column = "retrained" if retrained else "the truth" if floors else ""
    earlier = list(audit.request["forgotten_earlier"])
    for label in [*audit.request["labels"], *earlier]:
        title = f"{label} (earlier)" if label in earlier else label
        heading = f"{title:28s} {'before':>8s} {'after':>8s} {'95 % interval':>16s} {column:>10s}"
        out += ["", heading.rstrip()]
        for name, words in ATTACKS:
            rows = [row for row in audit.metrics if (row.id, row.label) == (name, label) and not _early(row)]
            if rows:
                least = floors.get(label) if name.startswith("others.") else None
                out.append(_attack(words, rows, least, shown=bool(column)))
        early = [row for row in audit.metrics if row.label == label and _early(row) and ".adv" in row.id]
        for stage in dict.fromkeys(row.layer for row in early):
            rows = [row for row in early if row.layer == stage]
            out.append(_attack(f"{stage}, linear probe", rows, shown=bool(column)))
    macro = [row for row in audit.metrics if row.id == "util.auc.macro"]
    if macro:
        out.append(_attack("retained labels, mean AUC", macro, shown=bool(column)))
    if floors:
        out += [
            "the truth: what the true retained labels tell by themselves; outputs that answer them correctly",
            "tell as much",
        ]
    out.append("")
    for name in sorted(audit.claims):
        claim = audit.claims[name]
        mark = " (provisional)" if claim.provisional else ""
        out.append(f"{name} {claim.verdict}{mark}: {claim.sentence}")
    cost = audit.models.get("reference_cost")
    if cost:
        out.append(f"{cost['sentence']}: {cost['command']}")
    return out


def _early(row: Metric) -> bool:
    """Whether a figure was read before the last features."""
    return row.layer not in (None, PENULTIMATE)


def _attack(words: str, rows: list[Metric], least: float | None = None, *, shown: bool = True) -> str:
    def value(role: str) -> str:
        found = [row.value for row in rows if row.model == role]
        return f"{fmean(found):.3f}" if found else "-"

    after = next((row for row in rows if row.model == "after"), None)
    interval = f"{after.ci[0]:.3f} to {after.ci[1]:.3f}" if after is not None and after.ci else "exact"
    last = (value("reference") if least is None else f"{least:.3f}") if shown else ""
    return f"{words:28s} {value('before'):>8s} {value('after'):>8s} {interval:>16s} {last:>10s}".rstrip()
