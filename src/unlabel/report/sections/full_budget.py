"""What the full budget adds to the page's section on durability: whole-model relearning, earlier stages."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from unlabel.audit.document.stages import TOGETHER, in_words, is_stage
from unlabel.audit.document.typed import Difference, Document, Noted, Steps
from unlabel.audit.figures import AT_STAGES, FINE_TUNED
from unlabel.report.formatting import beside_margin, count, number
from unlabel.report.tables import Row, predicted, row


@dataclass(frozen=True)
class Deep:
    """One test of what the layers below still hold: its name, its figures, and what is noted of it."""

    title: str
    attack: str
    row: Row
    noted: Noted
    retrained: float | None = None  # as `durability.Gain` has it: here the comparison is with them already
    than: str = "retrained"

    @property
    def judged(self) -> Difference:
        """The comparison with retrained models; only where `compared`."""
        assert self.row.comparison is not None
        return self.row.comparison

    @property
    def measured(self) -> str:
        """The attack and the unit of its figures."""
        return measured(self.attack, self.row.any.unit)

    @property
    def compared(self) -> bool:
        """Whether there are retrained models to compare with."""
        return self.row.comparison is not None

    @property
    def distance(self) -> float:
        """How far its upper bound is above its margin, in margins."""
        return self.judged.distance


SPOKEN_UNITS: Mapping[str, str] = {"auc": "AUC", "bits": "bits", "bit": "bits"}
"""Of figures that are compared; any other is an advantage."""


def level(audit: Document, measured: str) -> str:
    """What a model is compared with, after "more than"; `measured` says it where models were retrained."""
    return "is predicted for retrained models" if predicted(audit) else measured


def measured(attack: str, unit: str) -> str:
    """An attack and the unit of its figures.

    >>> measured("Features, MLP, bits", "bits"), measured("the whole model", "auc")
    ('Features, MLP, in bits', 'the whole model, in AUC')
    """
    return f"{attack.removesuffix(', bits')}, in {SPOKEN_UNITS.get(unit, 'advantage')}"


def tuned(audit: Document, label: str) -> list[Deep]:
    """The whole model trained on few annotated images, by their number."""
    ids = {m.id for m in audit.metrics if m.id.startswith(FINE_TUNED.id)}
    sizes = sorted(int(FINE_TUNED.member(id_)) for id_ in ids)
    noted = audit.claims["C4"].notes.whole_model.get(label, {})
    return [
        Deep(f"Trained on {count(n)} images", "the whole model", found, noted.get(str(n)) or Noted())
        for n in sizes
        if (found := row(audit, FINE_TUNED.of(n), label)) is not None
    ]


def staged(audit: Document, label: str) -> list[Deep]:
    """Linear probes of all stages together, then of each stage before the last features."""
    measured = [m for m in audit.metrics if is_stage(m.layer) and m.label == label and m.id in AT_STAGES]
    places = sorted({(m.layer or "", m.id) for m in measured}, key=lambda at: (at[0] != TOGETHER, at))
    return [
        Deep(
            spoken(layer),
            "linear, bits" if measured.any.unit == "bits" else "linear",
            measured,
            Noted(),
        )
        for layer, id_ in places
        if (measured := row(audit, id_, label, layer)) is not None
    ]


def spoken(layer: str) -> str:
    """A stage's name, or that of all together.

    >>> spoken("stage3"), spoken("stages")
    ('Stage 3', 'All stages and the last features together')
    """
    words = in_words(layer)
    return words[:1].upper() + words[1:]


def deciding(items: list[Deep]) -> list[Deep]:
    """The tests that decided: what FAILs, or else, where stages were read together, that; or all."""
    failed = [item for item in items if item.judged.verdict == "FAIL"]
    return failed or [item for item in items if item.row.layer == TOGETHER] or items


def closest(tuned: list[Deep], staged: list[Deep]) -> list[Deep]:
    """Every training, and of every stage the probe closest to its margin; none without a verdict."""
    by_stage: dict[str, list[Deep]] = {}
    for item in staged:
        if item.compared:
            by_stage.setdefault(item.title, []).append(item)
    best = [max(items, key=lambda item: item.distance) for items in by_stage.values()]
    return [*(item for item in tuned if item.compared), *best]


def information(audit: Document, label: str) -> str:
    """How much of the original's excess information is left over all depths; empty where it is not known."""
    noted = audit.claims["C4"].notes.information_left.get(label)
    if noted is None:
        return ""
    return (
        f"At its stages and last features together, the original has"
        f" {number(noted.original - noted.retrained)} bits of {label} more than retrained models. Of this"
        f" excess, {number(noted.share)} is left in this model (bounds of 95 % each:"
        f" {number(noted.lower)} to {number(noted.upper)}). At 1 all is left; at 0 it is as in retrained"
        " models; below 0 there is less."
    )


def steps(noted: Noted) -> str:
    """Steps until the training told nearly as much as the original's own output: original, this, retrained.

    >>> steps(Noted(steps=Steps(10, 40, (None, 90))))
    '10; 40; —, 90'
    >>> steps(Noted(steps=Steps(None, None, (None,))))
    'not reached'
    """
    reached = noted.steps or Steps()
    if noted.steps and not any([reached.before, reached.after, *(reached.references or ())]):
        return "not reached"
    others = ", ".join(number(n, 0) for n in reached.references or [None])
    return f"{number(reached.before, 0)}; {number(reached.after, 0)}; {others}"


def beginning(row: Row) -> str:
    """What was done, and who finds something by it."""
    if row.layer == TOGETHER:
        return f"At {in_words(TOGETHER)}, a linear probe finds"
    if row.layer is not None and is_stage(row.layer):
        return f"Below its last features, at {in_words(row.layer)}, a linear probe finds"
    return f"Trained as a whole on {count(int(FINE_TUNED.member(row.id)))} annotated images, it finds"


def sentences(audit: Document, labels: list[str]) -> Iterator[str]:
    """What the two tests found, a sentence each, of the label and the test closest to its limit."""
    for of in (tuned, staged):
        every = deciding([item for label in labels for item in of(audit, label) if item.compared])
        if every:
            worst = max(every, key=lambda item: item.distance)
            unit = SPOKEN_UNITS.get(worst.row.any.unit, "advantage")
            about = f" {worst.row.label} with" if len(labels) > 1 else ""
            diff, upper = (
                beside_margin(getattr(worst.judged, side), worst.judged.margin, signed=True)
                for side in ("diff", "upper")
            )
            yield (
                f"{beginning(worst.row)}{about} {diff} {unit} more than"
                f" {level(audit, 'retrained models do')}, at most {upper};"
                f" {number(worst.judged.margin)} is allowed."
            )
