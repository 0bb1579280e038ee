"""What a cell keeps of a model: attack figures, utility on three splits, and small tables for pictures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax

from unlabel.audit.attacks.outputs import OwnOutput
from unlabel.audit.attacks.utility import answerable, measurable, read_utility
from unlabel.audit.document.results import Metric, plain
from unlabel.audit.figures import UTILITY_AUC, UTILITY_CALIBRATION
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.audit.inputs.sets import Sets
from unlabel.audit.inputs.subject import Subject
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.data.splits import TRAIN_SET
from unlabel.models.outputs import Outputs
from unlabel.runs.folder import Loaded

ENTROPY_EDGES = tuple(round(0.05 * k, 2) for k in range(21))
LOGIT_EDGES = tuple(float(k) for k in range(-10, 11))
ALL_CLASSES = "(all classes)"


class Also(Protocol):
    """More figures of a model than an audit has, read from the same outputs or from the model itself.

    Its text (``repr``) is a part of every key, so it should be a frozen dataclass with a version.
    """

    def __call__(
        self, loaded: Loaded, subject: Subject, before: Subject, sets: Sets, request: Request
    ) -> Mapping[str, Any]:
        """Plain data of one model; the original ``before`` and the references are read, too."""
        ...


def figure_rows(metrics: Iterable[Metric]) -> list[dict[str, Any]]:
    """An audit's rows of one model as a cell holds them; utility has a table of its own."""
    return [
        {"id": m.id, "label": m.label, "value": m.value, "ci": m.ci, "n": m.n, "unit": m.unit}
        for m in metrics
        if not m.id.startswith("util.")
    ]


def utility_of(subject: Subject, sets: Sets, request: Request, options: AuditOptions) -> dict[str, Any]:
    """AUC of the retained labels on every split: the mean, the worst and each, with 95 % intervals.

    Labels without two images of each kind in a split are left out there; a split without any is None.
    """
    splits: dict[str, tuple[Dataset, Outputs]] = {
        TRAIN_SET: (sets.train, subject.train),
        "P": (sets.probe, subject.probe),
        "E": (sets.test, subject.test),
    }
    table: dict[str, Any] = {}
    for name, (data, outputs) in splits.items():
        judged_on = answerable(data.with_labels(request.labels), request.retained_columns)
        labels = measurable(judged_on, request.retained)
        if not labels:
            table[name] = None
            continue
        utility = read_utility(
            replace(subject, test=outputs), judged_on, labels, options, request.retained_columns
        )
        each = {label: utility.labels[label][UTILITY_AUC.id] for label in labels}
        macro = utility.macro(UTILITY_AUC.id)
        worst = min(each, key=lambda label: each[label].value)
        table[name] = {
            "macro": {"value": macro.value, "ci": macro.interval(0.95, 0.0, 1.0), "n": macro.n},
            "worst": {"label": worst, "value": each[worst].value},
            "labels": {
                label: {"value": item.value, "ci": item.interval(0.95, 0.0, 1.0), "n": item.n}
                for label, item in each.items()
            },
            "ece": utility.macro(UTILITY_CALIBRATION.id).value,
        }
    return table


def shapes_of(
    subject: Subject, questions: Mapping[str, Question], sets: Sets, *, exclusive: bool
) -> dict[str, Any]:
    """Counts for pictures: entropy of every output on two splits, and the forgotten labels' own test logits.

    Entropy is in bits, of each label's probability; of exclusive classes, of the answer as a whole divided
    by that of an even guess. Logits (log-odds of a class) beyond the outer edges are counted at the edge.
    """
    labels = [ALL_CLASSES] if exclusive else list(sets.test.labels)
    entropy: dict[str, Any] = {}
    for name, outputs in ((TRAIN_SET, subject.train), ("E", subject.test)):
        table = entropies(outputs.logits, exclusive=exclusive)
        entropy[name] = {
            label: {"counts": binned(table[:, at], ENTROPY_EDGES), "mean": float(table[:, at].mean())}
            for at, label in enumerate(labels)
        }
    logits: dict[str, Any] = {}
    for name, question in questions.items():
        logit = OwnOutput.of(subject, question, exclusive=exclusive).test
        logits[name] = {
            word: binned(logit[question.test == kind], LOGIT_EDGES)
            for word, kind in (("present", 1), ("absent", 0))
        }
    return {
        "entropy": {"unit": "bits", "edges": ENTROPY_EDGES, **entropy},
        "own_logit": {"edges": LOGIT_EDGES, "labels": logits},
    }


def entropies(logits: NDArray[np.floating], *, exclusive: bool) -> NDArray[np.float64]:
    """Entropy of every output in bits, (image, label); of exclusive classes (image, 1), in 0 to 1.

    >>> entropies(np.array([[0.0, 800.0]]), exclusive=False).tolist()
    [[1.0, 0.0]]
    >>> entropies(np.array([[0.0, 0.0, 0.0]]), exclusive=True).round(9).tolist()
    [[1.0]]
    """
    exact = np.asarray(logits, np.float64)
    if exclusive:
        log = log_softmax(exact, axis=1)
        whole = -(np.exp(log) * log).sum(1, keepdims=True) / np.log(exact.shape[1])
        return np.clip(whole, 0.0, 1.0)
    log_present, log_absent = -np.logaddexp(0.0, -exact), -np.logaddexp(0.0, exact)
    nats = -(expit(exact) * log_present + expit(-exact) * log_absent)
    return np.clip(nats / np.log(2.0), 0.0, 1.0)


def binned(values: NDArray[np.floating], edges: Sequence[float]) -> list[int]:
    """How many values lie between each two edges; those outside count at the nearest.

    >>> binned(np.array([-5.0, 0.2, 0.7, 3.0]), (0.0, 0.5, 1.0))
    [2, 2]
    """
    inside = np.clip(values, edges[0], edges[-1])
    return np.histogram(inside, np.asarray(edges))[0].tolist()


def reading(
    metrics: Iterable[Metric],
    subject: Subject,
    questions: Mapping[str, Question],
    sets: Sets,
    request: Request,
    options: AuditOptions,
) -> dict[str, Any]:
    """All that is kept of one model, as plain data: ``figures``, ``utility`` and ``shapes``."""
    exclusive = sets.test.exclusive
    return plain(
        {
            "figures": figure_rows(metrics),
            "utility": utility_of(subject, sets, request, options),
            "shapes": shapes_of(subject, questions, sets, exclusive=exclusive),
        }
    )


def value_of(record: Mapping[str, Any], figure: str, label: str | None = None) -> float | None:
    """A figure of a cell or a model: of one label, or the mean over the forgotten ones; None if not there.

    ``util.auc.macro`` is the mean AUC of the retained labels on the test split, ``util.auc.worst`` the
    lowest; ``@`` and a key after it name another split: `TRAIN_SET` (training) or ``P`` (probe).
    """
    if figure.startswith("util.auc."):
        name, _, split = figure.removeprefix("util.auc.").partition("@")
        table = (record.get("utility") or {}).get(split or "E")
        return None if table is None else table[name]["value"]
    values = [
        row["value"]
        for row in record.get("figures", ())
        if row["id"] == figure and label in (None, row["label"])
    ]
    return float(np.mean(values)) if values else None
