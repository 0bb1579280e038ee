"""What the full budget adds to the page's section on durability: whole-model relearning, earlier stages."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from unlabel.audit.figures import FINE_TUNED
from unlabel.report.formatting import count, number
from unlabel.report.tables import Json, Row, row


@dataclass(frozen=True)
class Deep:
    """One test of what the layers below still hold: its name, its figures, and what is noted of it."""

    title: str
    attack: str
    row: Row
    noted: Json
    retrained: float | None = None  # as `durability.Gain` has it: here the comparison is with them already
    than: str = "retrained"

    @property
    def judged(self) -> Json:
        """The comparison; empty where there is no retrained model."""
        return self.row.comparison or {}

    @property
    def distance(self) -> float:
        """How far its upper bound is above its margin, in margins."""
        return (self.judged["upper"] - self.judged["margin"]) / self.judged["margin"]


def tuned(audit: Json, label: str) -> list[Deep]:
    """The whole model trained on few annotated images, by their number."""
    ids = {m["id"] for m in audit["metrics"] if m["id"].startswith(FINE_TUNED.id)}
    sizes = sorted(int(FINE_TUNED.member(id_)) for id_ in ids)
    noted: Mapping[str, Json] = (_notes(audit, "whole_model")).get(label) or {}
    return [
        Deep(f"Trained on {count(n)} images", "the whole model", found, noted.get(str(n)) or {})
        for n in sizes
        if (found := row(audit, FINE_TUNED.of(n), label)) is not None
    ]


def staged(audit: Json, label: str) -> list[Deep]:
    """Linear readers of the stages before the last features."""
    places = sorted(
        {(m["layer"], m["id"]) for m in audit["metrics"] if is_stage(m.get("layer")) and m["label"] == label}
    )
    return [
        Deep(spoken(layer), "linear, bits" if found.any.unit == "bits" else "linear", found, {})
        for layer, id_ in places
        if (found := row(audit, id_, label, layer)) is not None
    ]


def is_stage(layer: str | None) -> bool:
    """Whether a layer is a stage before the last features."""
    return layer is not None and layer.startswith("stage")


def spoken(layer: str) -> str:
    """A stage's name.

    >>> spoken("stage3")
    'Stage 3'
    """
    return f"Stage {layer.removeprefix('stage')}"


def closest(tuned: list[Deep], staged: list[Deep]) -> list[Deep]:
    """Every training, and of every stage the reader closest to its margin; none without a verdict."""
    by_stage: dict[str, list[Deep]] = {}
    for item in staged:
        if item.judged:
            by_stage.setdefault(item.title, []).append(item)
    best = [max(items, key=lambda item: item.distance) for items in by_stage.values()]
    return [*(item for item in tuned if item.judged), *best]


def steps(noted: Json) -> str:
    """Steps until the training told nearly as much as the original's own output: original, this, retrained.

    >>> steps({"steps": {"before": 10, "after": 40, "references": [None, 90]}})
    '10; 40; —, 90'
    >>> steps({"steps": {"before": None, "after": None, "references": [None]}})
    'not reached'
    """
    found = noted.get("steps") or {}
    known = [found.get("before"), found.get("after"), *(found.get("references") or ())]
    if found and not any(known):
        return "not reached"
    others = ", ".join(number(n, 0) for n in found.get("references") or [None])
    return f"{number(found.get('before'), 0)}; {number(found.get('after'), 0)}; {others}"


def sentences(audit: Json, labels: list[str]) -> Iterator[str]:
    """What the two tests found, a sentence each, of the label and the test closest to its limit."""
    for of, template in (
        (tuned, "Trained as a whole on {images} annotated images, it tells"),
        (staged, "Below its last features, at {stage}, a linear reader tells"),
    ):
        every = [item for label in labels for item in of(audit, label) if item.judged]
        if every:
            worst = max(every, key=lambda item: item.distance)
            unit = {"auc": "AUC", "bits": "bits"}.get(worst.row.any.unit, "advantage")
            head = template.format(
                images=FINE_TUNED.member(worst.row.id), stage=spoken(worst.row.layer or "").lower()
            )
            about = f" {worst.row.label} with" if len(labels) > 1 else ""
            diff, upper = (number(worst.judged[side], signed=True) for side in ("diff", "upper"))
            yield (
                f"{head}{about} {diff} {unit} more than retrained models do, at most {upper};"
                f" {number(worst.judged['margin'])} is allowed."
            )


def _notes(audit: Json, name: str) -> Json:
    return ((audit["claims"].get("C4") or {}).get("notes") or {}).get(name) or {}
