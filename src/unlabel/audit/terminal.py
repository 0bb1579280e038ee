"""An audit as a few lines for a terminal."""

from statistics import fmean

from unlabel.findings import Audit, Metric

ATTACKS = (
    ("own.adv", "its own output"),
    ("own.sadv@restored", "the output row put back"),
    ("others.adv.lin", "the other outputs, linear"),
    ("others.adv.gbt", "the other outputs, trees"),
    ("probe.adv.lin", "the features, linear probe"),
    ("probe.adv.mlp", "the features, MLP probe"),
    ("probe.bits.lin", "the features, linear, bits"),
    ("probe.bits.mlp", "the features, MLP, bits"),
)


def lines(audit: Audit) -> list[str]:
    """The headline, each attack before, after and retrained, the claims and the reasons.

    An advantage is 0 for a coin and 1 for a perfect attack; bits are what the attack learns of the label.
    """
    out = [audit.headline]
    out += [f"  invalid: {reason}" for reason in audit.invalid_because]
    earlier = list(audit.request["forgotten_earlier"])
    for label in [*audit.request["labels"], *earlier]:
        title = f"{label} (earlier)" if label in earlier else label
        out += ["", f"{title:28s} {'before':>8s} {'after':>8s} {'95 % interval':>16s} {'retrained':>10s}"]
        for name, words in ATTACKS:
            rows = [row for row in audit.metrics if row.id == name and row.label == label]
            if rows:
                out.append(_attack(words, rows))
    macro = [row for row in audit.metrics if row.id == "util.auc.macro"]
    if macro:
        out.append(_attack("retained labels, mean AUC", macro))
    out.append("")
    for name in sorted(audit.claims):
        claim = audit.claims[name]
        mark = " (provisional)" if claim.provisional else ""
        out.append(f"{name} {claim.verdict}{mark}: {claim.sentence}")
    return out


def _attack(words: str, rows: list[Metric]) -> str:
    def value(role: str) -> str:
        found = [row.value for row in rows if row.model == role]
        return f"{fmean(found):.3f}" if found else "-"

    after = next((row for row in rows if row.model == "after"), None)
    interval = f"{after.ci[0]:.3f} to {after.ci[1]:.3f}" if after is not None and after.ci else "exact"
    return f"{words:28s} {value('before'):>8s} {value('after'):>8s} {interval:>16s} {value('reference'):>10s}"
