"""Where the models and the data came from: splits, and what forgetting and retraining cost."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from statistics import fmean

from unlabel.audit.document.typed import Document, ModelRecord, Split
from unlabel.data.splits import TRAIN_SET

SPLITS: Mapping[str, str] = {
    "train": "training",
    TRAIN_SET: "the model was trained on them; attacks test here what it remembers",
    "P": "attackers learn here",
    "probe": "attackers learn here",
    "CAL": "calibration of closed-form erasure",
    "E": "every figure is measured here",
    "test": "every figure is measured here",
}
CROSS_FITTED: Mapping[str, str] = {
    "P": "attackers learn here, and those that learnt on E are scored here",
    "E": "attackers are scored here, and learn here for P; all other figures are measured here",
}


NAMES: Mapping[str, str] = {
    "train": "Training split",
    TRAIN_SET: f"Training images ({TRAIN_SET})",
    "P": "Probe split (P)",
    "probe": "Probe split (P)",
    "CAL": "Calibration images (CAL)",
    "E": "Test split (E)",
    "test": "Test split (E)",
}
"""What the page calls a split; the letter in brackets is that of the manual."""

UNKNOWN = "not known, no training is recorded"


def place(source: object) -> str:
    """A data source's name without the folders that it lies in: where they are is nobody's business.

    >>> place("folder:/home/ada/photos"), place("faces:train=400"), place(None)
    ('folder:photos', 'faces:train=400', '')
    >>> place("table:/home/ada/labels.csv?root=/home/ada/photos")
    'table:labels.csv'
    """
    kind, mark, where = str(source or "").partition(":")
    return kind + mark + (PurePath(where.partition("?")[0]).name if mark else "")


def splits(audit: Document) -> list[tuple[str, str, Split]]:
    """Name, use and sizes (``n``, ``n_clusters``, ``n_present`` of each forgotten label) of every split."""
    given = audit.data.splits
    counts = {name: n for name, n in audit.data.counts.items() if isinstance(n, int)}
    sizes = {name: Split(n) for name, n in counts.items()}
    if given:
        aliases = {"P": "probe", "E": "test"}
        sizes = {n: s for n, s in sizes.items() if n not in (*given, *(aliases.get(name) for name in given))}
    uses = {**SPLITS, **(CROSS_FITTED if audit.data.cross_fitted else {})}
    return [(name, uses.get(name, ""), size) for name, size in {**sizes, **given}.items()]


def identities(audit: Document) -> bool:
    """Whether it is known which images show the same identity."""
    if audit.data.identities is not None:
        return audit.data.identities
    return any(size.n_clusters not in (None, size.n) for _, _, size in splits(audit))


def split_size(audit: Document, *names: str) -> int | None:
    """Images of the first of these splits that is known."""
    sizes = {name: size.n for name, _, size in splits(audit)}
    return next((sizes[name] for name in names if sizes.get(name)), None)


def total_seconds(model: ModelRecord) -> float | None:
    """Seconds of all stages of a run."""
    stages = model.seconds or {}
    return stages["total"] if "total" in stages else sum(stages.values()) if stages else None


def making_seconds(model: ModelRecord) -> float | None:
    """Seconds that making the model took; None of an adopted one, whose record is that of the adoption.

    >>> making_seconds(ModelRecord(method="adopt", seconds={"total": 0.95}))
    >>> making_seconds(ModelRecord(method="retrain", seconds={"total": 81.5}))
    81.5
    """
    return None if model.method == "adopt" else total_seconds(model)


PROTECTED: Mapping[str, str] = {
    "outputs": "against outputs: others get what the model says",
    "features": "against features: others get its last features, too",
    "weights": "against weights: others have the model",
}
CHECKED = {
    True: "its self-check was passed",
    False: "its self-check was NOT passed",
    None: "its self-check could not tell whether it fell short",
}


def protection(record: object) -> str:
    """Whom the label was protected from, and how the method judged itself; empty where neither is on record.

    >>> protection({"options": {"against": "weights"}, "self_check": {"reached": True}})
    'against weights: others have the model; its self-check was passed'
    >>> protection({"options": {"against": ["weights"]}}), protection(None)
    ('', '')
    """
    facts = record if isinstance(record, Mapping) else {}
    options, checked = facts.get("options"), facts.get("self_check")
    against = options.get("against") if isinstance(options, Mapping) else None
    reached = checked.get("reached") if isinstance(checked, Mapping) else None
    made = isinstance(checked, Mapping) and bool(checked.get("n"))
    clauses = [
        PROTECTED.get(against, "") if isinstance(against, str) else "",
        CHECKED[reached] if isinstance(reached, bool) or (reached is None and made) else "",
    ]
    return "; ".join(part for part in clauses if part)


def trained(model: ModelRecord) -> bool:
    """Whether a model's record holds its training; an adopted model was trained elsewhere."""
    return model.method in ("train", "retrain")


def mean_of(values: Iterable[float | None]) -> float | None:
    """Mean of the known values, or None when there are none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


@dataclass(frozen=True)
class Cost:
    """One kind of effort: forgetting, and retraining (mean) or, without references, training.

    ``theirs`` is None where no training is on the record.
    """

    name: str
    ours: float | None
    theirs: float | None
    kind: str = "count"

    @property
    def ratio(self) -> float | None:
        """How many times more retraining took."""
        return self.theirs / self.ours if self.ours and self.theirs is not None else None


def cost_rows(audit: Document) -> list[Cost]:
    """Seconds, optimiser steps and images processed."""
    models = audit.models
    after = models.after or ModelRecord()
    others = list(models.references or ()) or [models.before or ModelRecord()]
    others = [model for model in others if trained(model)]
    return [
        Cost("Time", total_seconds(after), mean_of(total_seconds(m) for m in others), "time"),
        Cost("Optimiser steps", after.steps, mean_of(m.steps for m in others)),
        Cost(
            "Images processed",
            after.images_processed,
            mean_of(m.images_processed for m in others),
        ),
        Cost("Different images used", after.images_used, mean_of(m.images_used for m in others)),
    ]
