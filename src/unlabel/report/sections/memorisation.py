"""What is remembered of single annotations and images: planted coins, and membership."""

from typing import Any

from unlabel.audit.document.typed import Document
from unlabel.audit.figures import (
    CANARY_OWN,
    CANARY_OWN_CALIBRATED,
    CANARY_OWN_CALIBRATED_PRIVACY,
    CANARY_OWN_PRIVACY,
    CANARY_PROBE,
    CANARY_PROBE_CALIBRATED,
    CANARY_PROBE_CALIBRATED_PRIVACY,
    CANARY_PROBE_PRIVACY,
    CANARY_RESTORED,
    CANARY_RESTORED_CALIBRATED,
    CANARY_RESTORED_CALIBRATED_PRIVACY,
    CANARY_RESTORED_PRIVACY,
    LABEL_MEMBERSHIP,
    SAMPLE_MEMBERSHIP,
    SAMPLES_CAUGHT,
    figure,
)
from unlabel.report.formatting import beside_margin, brief, count, names, number
from unlabel.report.readings import reading
from unlabel.report.tables import Row, audited, row

CANARIES = (
    CANARY_OWN,
    CANARY_OWN_PRIVACY,
    CANARY_OWN_CALIBRATED,
    CANARY_OWN_CALIBRATED_PRIVACY,
    CANARY_RESTORED,
    CANARY_RESTORED_PRIVACY,
    CANARY_RESTORED_CALIBRATED,
    CANARY_RESTORED_CALIBRATED_PRIVACY,
    CANARY_PROBE,
    CANARY_PROBE_PRIVACY,
    CANARY_PROBE_CALIBRATED,
    CANARY_PROBE_CALIBRATED_PRIVACY,
)


def _rows(audit: Document, *ids: str) -> list[Row]:
    layers = {(m.id, m.label): m.layer for m in audit.metrics if m.id in ids}
    keys = [(id_, label) for id_ in ids for label in (*audited(audit), None) if (id_, label) in layers]
    return [found for key in keys if (found := row(audit, *key, layers[key])) is not None]


def canaries(audit: Document) -> dict[str, Any] | None:
    """Two sentences and a table about planted annotations, or None where there are none."""
    rows = _rows(audit, *(item.id for item in CANARIES))
    told = [found for found in rows if figure(found.id).claims and found.after]
    if not told:
        return None
    planted = audit.claims["C6"].notes.canaries
    sizes = [
        f"{count(n)} images" + (f" ({label})" if len(planted) > 1 else "") for label, n in planted.items()
    ]
    worst = max(told, key=lambda found: found.after.value if found.after else 0.0)
    assert worst.after is not None
    attack = figure(worst.id).in_words
    of = f" of {brief(worst.label)}" if len(audited(audit)) > 1 and worst.label else ""
    text = f"Before training, a coin drew the annotations of {names(sizes) or 'some images'}: whoever does"
    text += " not remember them is right about half of them. "
    text += f"The best attack, {attack}, is right about a share{of} of {reading(worst.after)}"
    text += f" (original: {reading(worst.before)})." if worst.before else "."
    return {"text": text, "rows": rows}


def membership(audit: Document) -> dict[str, Any] | None:
    """Two sentences and a table about telling training images from others, or None where not measured."""
    rows = _rows(audit, LABEL_MEMBERSHIP.id, SAMPLE_MEMBERSHIP.id, SAMPLES_CAUGHT.id)
    sample = next((found for found in rows if found.id == SAMPLE_MEMBERSHIP.id and found.after), None)
    label = max(
        (found for found in rows if found.id == LABEL_MEMBERSHIP.id and found.after),
        key=lambda found: found.after.value if found.after else 0.0,
        default=None,
    )
    texts = [
        f"{lead} tells training images from others with an AUC of {reading(found.after)}" + _target(found)
        for lead, found in [
            ("The model's own loss on the retained labels", sample),
            (f"How sure a new probe is of {brief(label.label or '') if label else ''}", label),
        ]
        if found and found.after
    ]
    return {"text": " ".join(texts), "rows": rows} if texts else None


def _target(found: Row) -> str:
    return f", on retrained models {reading(found.retrained)}; 0.5 is chance." if found.retrained else "."


def verdict(audit: Document, found: Row) -> tuple[str, str] | None:
    """Verdict and reason of a row of these tables, or None where it is only shown."""
    if (c := found.comparison) is not None:
        excess = f"{number(c.diff, signed=True)}, at most {beside_margin(c.upper, c.margin, signed=True)}"
        return c.verdict, f"C2: {excess}; limit {number(c.margin)}"
    return None
