"""An audit as a few lines for a terminal."""

from collections.abc import Iterator
from statistics import fmean

from unlabel.audit import figures
from unlabel.audit.document.results import Audit, Claim, Metric
from unlabel.audit.document.stages import TOGETHER
from unlabel.audit.figures import FLOOR, LINEAR_PROBE, OTHER_OUTPUTS, UTILITY_AUC, UTILITY_AUC_MEAN
from unlabel.models.outputs import PENULTIMATE
from unlabel.report.sentences import UNKNOWN_START, why_provisional


def lines(audit: Audit) -> list[str]:
    """The headline, each attack before, after and retrained, the claims and the reasons.

    An advantage is 0 for a coin and 1 for a perfect attack; bits are what the attack learns of the label.
    Without a retrained model, the last column holds the level that short trainings predict. Without those, it
    holds what the true retained labels tell, where that is a measure; the last line then says what references
    would cost.
    """
    out = [audit.headline]
    out += [f"  invalid: {reason}" for reason in audit.invalid_because]
    retrained = any(row.model == "reference" and row.id != FLOOR.id for row in audit.metrics)
    floors = {row.label: row.value for row in audit.metrics if row.id == FLOOR.id}
    if retrained or audit.data.get("exclusive"):
        floors = {}
    predicted = _predicted(audit)
    if predicted:
        floors = {}
    column = "retrained" if retrained else "predicted" if predicted else "the truth" if floors else ""
    earlier = list(audit.request["forgotten_earlier"])
    for label in [*audit.request["labels"], *earlier]:
        title = f"{label} (earlier)" if label in earlier else label
        heading = f"{title:28s} {'before':>8s} {'after':>8s} {'95 % interval':>16s} {column:>10s}"
        out += ["", heading.rstrip()]
        for item in (item for item in figures.FIGURES if item.terminal):
            least = floors.get(label) if item.group is OTHER_OUTPUTS else None
            for words, rows in _rows(audit, item, label):
                level = predicted.get((label, rows[0].id), least)
                out.append(_attack(words, rows, level, shown=bool(column)))
        early = [
            row for row in audit.metrics if (row.id, row.label) == (LINEAR_PROBE.id, label) and _early(row)
        ]
        for stage in dict.fromkeys(row.layer for row in early):
            rows = [row for row in early if row.layer == stage]
            where = "all stages" if stage == TOGETHER else stage
            out.append(_attack(f"{where}, linear probe", rows, shown=bool(column)))
    macro = [row for row in audit.metrics if row.id == UTILITY_AUC_MEAN.id]
    if macro:
        count = len({row.label for row in audit.metrics if row.id == UTILITY_AUC.id})
        words = f"{count} retained label{'s' * (count != 1)}, mean AUC"
        out.append(_attack(words, macro, shown=bool(column)))
    if floors:
        out += [
            "the truth: what the true retained labels tell by themselves; outputs that answer them correctly",
            "tell as much",
        ]
    out.append("")
    for name in sorted(audit.claims):
        claim = audit.claims[name]
        out.append(f"{name} {claim.verdict}{claim.mark}: {claim.sentence}")
        out += _provisional(audit, claim)
        if bound := claim.notes.get("bound"):
            out.append(f"   bound without training: {bound['verdict']}. {bound['sentence']}")
        if own_check := claim.notes.get("own_check"):
            out.append(f"   {own_check}")
    cost = audit.models.get("reference_cost")
    if cost:
        out.append(f"{cost['sentence']}: {cost['command']}")
    return out


def _provisional(audit: Audit, claim: Claim) -> list[str]:
    """Why a claim's verdict is provisional, and what would make it firm; nothing if it is not."""
    if claim.mark != " (provisional)":
        return []
    unknown = claim.notes.get("start") == "unknown"
    why = why_provisional(len(audit.models.get("references", ())), start_unknown=unknown)
    adopted = why == UNKNOWN_START and audit.models.get("before", {}).get("method") == "adopt"
    return [f"   provisional: {why}{'; if you know, adopt it again with --start random' if adopted else ''}"]


def _predicted(audit: Audit) -> dict[tuple[str, str], float]:
    """By label and figure, the level that short trainings predict."""
    return {
        (label, figure): level["value"]
        for claim in audit.claims.values()
        for label, figures in claim.notes.get("prediction", {}).get("figures", {}).items()
        for figure, level in figures.items()
    }


def _rows(audit: Audit, item: figures.Figure, label: str) -> Iterator[tuple[str, list[Metric]]]:
    """Words and rows of a figure of a label that was measured, or of each number of its family."""
    metrics = [r for r in audit.metrics if r.label == label and not _early(r)]
    if not item.is_family:
        numbers = {item.id: item.terminal}
    else:
        members = {item.member(r.id) for r in metrics if r.id.startswith(item.id)}
        numbers = {item.of(n): item.terminal.format(f"{int(n):,}") for n in sorted(members, key=int)}
    for id_, words in numbers.items():
        if rows := [r for r in metrics if r.id == id_]:
            yield words, rows


def _early(row: Metric) -> bool:
    """Whether a figure was read before the last features."""
    return row.layer not in (None, PENULTIMATE)


def _attack(words: str, rows: list[Metric], least: float | None = None, *, shown: bool = True) -> str:
    def value(role: str) -> str:
        values = [row.value for row in rows if row.model == role]
        return f"{fmean(values):.3f}" if values else "-"

    after = next((row for row in rows if row.model == "after"), None)
    interval = f"{after.ci[0]:.3f} to {after.ci[1]:.3f}" if after is not None and after.ci else "exact"
    last = (value("reference") if least is None else f"{least:.3f}") if shown else ""
    return f"{words:28s} {value('before'):>8s} {value('after'):>8s} {interval:>16s} {last:>10s}".rstrip()
