"""Parts of the page as plain values for the template: cards, claims, judgements, commands."""

from collections.abc import Iterator
from typing import Any

from unlabel.audit.document.typed import Document, ModelRecord
from unlabel.audit.figures import (
    FEW_SHOT,
    FINE_TUNED,
    FLOOR,
    OWN,
    OWN_BITS,
    OWN_ON_TRAIN,
    OWN_RATE,
    OWN_SIGNED,
    UTILITY_AUC_MEAN,
    Figure,
    claim_kind,
)
from unlabel.report import charts as plots
from unlabel.report import formatting as numbers
from unlabel.report import sentences
from unlabel.report import tables as rows
from unlabel.report.readings import reading
from unlabel.report.sections import facts, provenance


def eyebrow(audit: Document) -> str:
    """Network, data and number of images, above the heading."""
    after = audit.models.after or ModelRecord()
    tested = provenance.split_size(audit, "E", "test")
    facts = [
        after.network,
        provenance.place(audit.data.source),
        tested and f"{tested:,} test images",
    ]
    return " · ".join(["unlabel report", *(str(part) for part in facts if part)])


def cards(audit: Document) -> Iterator[dict[str, Any]]:
    """The four numbers: attack, retained labels, weights, time."""
    before, after = rows.strongest(audit, "before"), rows.strongest(audit, "after")
    targets, after_model = rows.targets(audit), audit.models.after or ModelRecord()
    if before and after and before.before and after.after:
        target = after.retrained
        scale = plots.Axis(0.0, 1.0, 1.0)
        notes = [f"retrained: {reading(target)}"] if target else ["no retrained model as target"]
        if after.predicted is not None:
            notes = [f"retrained, predicted: {numbers.number(after.predicted.value)}"]
        notes += [f"now {reading(after.after)}, n {numbers.count(after.after.n)}", "0 = chance, 1 = perfect"]
        yield {
            "title": f"{numbers.spoken(targets, 2)}: best attack",
            "value": f"{numbers.number(before.before.value)} → {numbers.number(after.after.value)}",
            "target": numbers.number(target.value) if target else None,
            "notes": notes,
            "track": [scale.at(s.value) if s else None for s in (before.before, after.after, target)],
        }
    macro = rows.row(audit, UTILITY_AUC_MEAN.id)
    if macro and macro.before and macro.after:
        worst = sentences.worst_label(audit)
        notes = [f"retrained: {reading(macro.retrained)}"] if macro.retrained else []
        notes += [f"now {reading(macro.after)}"]
        notes += (
            [f"worst: {numbers.brief(worst[0])} {numbers.number(-worst[1], signed=True)}"] if worst else []
        )
        retained = sum(not mark.forgotten for mark in plots.dumbbells(audit)[1])
        yield {
            "title": f"{retained} retained label{'s' * (retained != 1)}: mean AUC",
            "value": f"{numbers.number(macro.before.value)} → {numbers.number(macro.after.value)}",
            "notes": notes,
        }
    changed, total = after_model.changed, after_model.total
    if changed is not None and total:
        yield {
            "title": "Weights changed",
            "value": numbers.percent(changed / total),
            "notes": [f"{numbers.short(changed)} of {numbers.short(total)}"],
        }
    time, steps, images = provenance.cost_rows(audit)[:3]
    if time.ours is not None:
        what = "retraining" if audit.models.references else "training the original"
        notes = [f"{numbers.count(steps.ours)} optimiser steps"] if steps.ours is not None else []
        theirs = [numbers.duration(time.theirs)] if time.theirs is not None else []
        theirs += [f"{numbers.count(steps.theirs)} steps"] if steps.theirs is not None else []
        notes += [f"{what}: {', '.join(theirs) or provenance.UNKNOWN}"]
        for cost, more, less in (
            (images, "fewer images than", "as many images as"),
            (time, "faster than", "the time of"),
        ):
            if cost.ratio:  # images before seconds, which depend on the machine and on what else it did
                ratio, words = (cost.ratio, more) if cost.ratio >= 1 else (1 / cost.ratio, less)
                notes += [f"{numbers.times(ratio)} {words} {what}"]
                break
        yield {"title": "Time to forget", "value": numbers.duration(time.ours), "notes": notes}


def claim(audit: Document, id_: str) -> dict[str, Any]:
    """One claim with its title, verdict, reason, notes and facts."""
    kind, claim, cost = claim_kind(id_), audit.claims[id_], audit.models.reference_cost
    notes = claim.notes
    texts = []
    if notes.attainable is False:
        texts.append("Not attainable here: even retraining leaves more than chance.")
    if text := sentences.beyond(id_, claim.verdict):
        texts.append(text)
    if id_ == "C4" and (text := attacker(audit)):
        texts.append(text)
    if notes.prediction is not None and claim.verdict != "NOT_EVALUATED":
        texts.append(
            "Predicted: no model was retrained in full. `--require` takes a predicted PASS as not decided."
        )
    elif claim.provisional and claim.verdict != "NOT_EVALUATED":
        why = sentences.why_provisional(notes.references, start_unknown=notes.start == "unknown")
        texts.append(f"Provisional: {why}.")
    if notes.bound is not None:
        texts.append(f"Bound without training: {notes.bound.verdict}. {notes.bound.sentence}")
    if cost and notes.finding == "no reference":
        texts.append(f"{cost.sentence}: {cost.command}")
    return {
        "id": id_,
        "title": kind.title,
        "meaning": kind.meaning_by(claim.budget),
        "verdict": claim.verdict,
        "sentence": claim.sentence,
        "notes": texts,
        "rule": facts.rule(notes.rule),
        "facts": facts.rows(audit, id_),
        "per_label": claim.per_label if len(claim.per_label) > 1 else {},
    }


def attacker(audit: Document) -> str:
    """Which attacker C4 covers: with how many annotations and steps.

    Empty if relearning was not tested, or if the claim's own sentence says it.
    """
    claim = audit.claims["C4"]
    if claim.verdict == "PASS" and claim.notes.too_few_in_p:
        return ""

    def most(family: Figure) -> int:
        """The largest number of images, of the label for which it is smallest."""
        largest: dict[str | None, int] = {}
        for m in audit.metrics:
            if m.id.startswith(family.id) and (member := family.member(m.id)).isdigit():
                largest[m.label] = max(int(member), largest.get(m.label, 0))
        return min(largest.values(), default=0)

    steps = audit.raw.get("options", {}).get("tune_steps")
    who = "This covers an attacker who has the weights, with at most {} annotations and {}."
    if (images := most(FINE_TUNED)) and isinstance(steps, int):
        return who.format(numbers.count(images), f"{numbers.count(steps)} steps")
    if images := most(FEW_SHOT):
        return who.format(numbers.count(images), "no training but of a new probe")
    return ""


def judge(audit: Document, row: rows.Row) -> tuple[str, str] | None:
    """Verdict and its reason for one attack, or None where it is only described."""
    c = row.comparison
    if c is not None:
        most = numbers.beside_margin(c.upper, c.margin, signed=True)
        excess = f"{numbers.number(c.diff, signed=True)}, at most {most}"
        return c.verdict, f"{excess}; limit {numbers.number(c.margin)}"
    if row.id in (OWN.id, OWN_SIGNED.id, OWN_ON_TRAIN.id):
        claim = audit.claims["C1"]
        verdict = claim.per_label.get(row.label or "", claim.verdict)
        return verdict, "C1: the output against chance"
    return None


def described(audit: Document) -> list[rows.Row]:
    """Descriptive figures that no verdict rests on."""
    floor = () if audit.data.exclusive else (FLOOR,)
    listed = [
        rows.row(audit, item.id, label)
        for label in rows.audited(audit)
        for item in (*floor, OWN_SIGNED, OWN_RATE, OWN_BITS)
    ]
    return [row for row in listed if row is not None]


def commands(audit: Document, command: str | None) -> list[str]:
    """The commands that made the models, the audit and this page, each once, in the order of use."""
    models = audit.models
    chain = [models.before, models.after, *(models.references or ())]  # an audit may make the references
    texts = [model.command for model in chain if model and model.command]
    texts += [text for text in (models.command, command) if text]
    return list(dict.fromkeys(texts))
