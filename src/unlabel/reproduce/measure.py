"""What the pages need of a model beyond an audit: accuracies, attribute inference, membership, entropy.

::

    Reader(...)(subject, before, sets, request) -> plain data, kept in the model's cell

All figures are on E, where nothing was fitted; accuracies are on training images and P as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from unlabel.audit.attacks.attribute_inference import attribute_inference
from unlabel.audit.attacks.distances import entropy
from unlabel.audit.attacks.logistic import Floats
from unlabel.audit.attacks.membership import label_membership, sample_membership
from unlabel.audit.attacks.outputs import NEVER, log_odds
from unlabel.audit.document.results import Metric
from unlabel.audit.figures import (
    INFERRED_FEATURES,
    INFERRED_FEATURES_ADV,
    INFERRED_FEATURES_BITS,
    INFERRED_OUTPUTS,
    INFERRED_OUTPUTS_ADV,
    INFERRED_OUTPUTS_BITS,
    Figure,
)
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question, ask
from unlabel.audit.inputs.sets import Sets
from unlabel.audit.inputs.subject import Subject
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.data.splits import TRAIN_SET
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.runs.folder import Loaded
from unlabel.statistics.estimate import Estimate, auc, average

BINS = 400  # of entropy, in 0 to 1: a distance between two distributions is exact to a bin's share


def own_accuracy(logit: NDArray[np.floating], target: NDArray[np.int8]) -> dict[str, float]:
    """How often an output is right, how often its opposite is, and how often guessing one answer always is.

    Args:
        logit: Scores of one label, (image,); present above 0.
        target: 1 present, 0 absent, -1 unknown (left out).

    Returns:
        ``accuracy``, ``inverted`` (1 - accuracy) and ``constant``, all 0 to 1.

    Example:
        >>> own_accuracy(np.array([-9.0, -9.0, 9.0, -9.0]), np.array([1, 1, 0, 0], np.int8))
        {'accuracy': 0.25, 'inverted': 0.75, 'constant': 0.5}
    """
    annotated = target >= 0
    right = float(np.mean((logit[annotated] > 0) == (target[annotated] == 1)))
    share = float(np.mean(target[annotated] == 1))
    return {"accuracy": right, "inverted": 1.0 - right, "constant": max(share, 1.0 - share)}


def answer_of(logits: NDArray[np.floating], column: int, *, exclusive: bool) -> Floats:
    """One label's own logits (image,), or the log-odds of a class; of a removed class, its constant logit."""
    exact = np.asarray(logits, np.float64)
    if not exclusive:
        return exact[:, column]
    odds = log_odds(exact, column)
    removed = np.ptp(exact[:, column]) == 0.0 and odds.max() < NEVER
    return exact[:, column] if removed else odds


def accuracies(read: Outputs, data: Dataset, retained: tuple[int, ...]) -> dict[str, Any]:
    """Accuracy over the retained labels: of each label at a half, or of the answer among retained classes.

    Beside each label's stands what one answer for everybody would have.

    Of exclusive classes only images of a retained class have a right answer; the others are left out.
    """
    if data.exclusive:
        columns = list(retained)
        answerable = data.target[:, columns].max(1) == 1
        answer = np.asarray(columns)[read.logits[:, columns].argmax(1)]
        right = data.target[np.arange(len(data)), answer] == 1
        away = np.abs(answer - data.target.argmax(1))[answerable]
        return {
            **_with_interval(average(right.astype(float), answerable, data.cluster)),
            "labels": {},
            "distance": float(away.mean()),  # in classes, where their order means something
        }
    each = {
        data.labels[column]: own_accuracy(read.logits[:, column], data.target[:, column])
        for column in retained
    }
    annotated = data.target[:, list(retained)] >= 0
    right = ((read.logits[:, list(retained)] > 0) == (data.target[:, list(retained)] == 1)) & annotated
    shares = right.sum(1) / np.maximum(annotated.sum(1), 1)
    return {
        **_with_interval(average(shares, np.asarray(annotated.any(1)), data.cluster)),
        "labels": {name: figures["accuracy"] for name, figures in each.items()},
        "constant": {name: figures["constant"] for name, figures in each.items()},
    }


def answers(read: Outputs, data: Dataset, request: Request) -> dict[str, dict[str, float]]:
    """Of the images of each forgotten class, the share that is given to each retained class."""
    columns = list(request.retained_columns)
    answer = np.asarray(columns)[read.logits[:, columns].argmax(1)]
    shares = {}
    for name, column in zip(request.masked, request.masked_columns, strict=True):
        given = answer[data.target[:, column] == 1]
        shares[name] = {data.labels[at]: float(np.mean(given == at)) for at in columns}
    return shares


def entropy_counts(read: Outputs, retained: tuple[int, ...]) -> list[int]:
    """Images by the mean entropy of their retained outputs, in bits, in `BINS` equal bins from 0 to 1."""
    bits = entropy(expit(read.logits[:, list(retained)].astype(np.float64))).mean(1)
    return np.histogram(np.clip(bits, 0.0, 1.0), BINS, (0.0, 1.0))[0].tolist()


@dataclass(frozen=True)
class Reader:
    """Reads one model; its version is part of the key of what is kept."""

    version: int = 1

    def __call__(
        self, loaded: Loaded, subject: Subject, before: Subject, sets: Sets, request: Request
    ) -> dict[str, Any]:
        """All measures of one model, as plain data.

        Args:
            loaded: The model, which is not needed here.
            subject: Its outputs.
            before: The original, whose output row is put back on the model's features.
            sets: Training images, P and E.
            request: What was forgotten.
        """
        probe, test, train = (
            part.with_labels(request.labels) for part in (sets.probe, sets.test, sets.train)
        )
        retained = request.retained_columns
        splits = {TRAIN_SET: (subject.train, train), "P": (subject.probe, probe), "E": (subject.test, test)}
        return {
            "accuracy": {name: accuracies(read, data, retained) for name, (read, data) in splits.items()},
            "labels": {
                name: read_label(
                    subject, before, ask(name, probe, test, train), request.masked_columns, test.exclusive
                )
                for name in request.masked
            },
            "membership": _with_interval(sample_membership(subject, train, test, retained).auc),
            "answers": answers(subject.test, test, request) if test.exclusive else None,
            "entropy": {
                name: None if data.exclusive else entropy_counts(read, retained)
                for name, (read, data) in splits.items()
                if name != "P"
            },
        }


def read_label(
    subject: Subject, before: Subject, question: Question, hidden: tuple[int, ...], exclusive: bool
) -> dict[str, Any]:
    """Measures of one forgotten label: its output as it is and put back, attribute inference, membership."""
    column, features = question.column, subject.test.features[PENULTIMATE]
    logits = subject.test.logits.astype(np.float64)
    put_back = None
    if before.head is not None and before.head[0].shape[1] == features.shape[1]:
        weights, bias = (np.asarray(part, np.float64) for part in before.head)
        put_back = features.astype(np.float64) @ weights.T + bias

    def own(table: Floats | None) -> dict[str, Any] | None:
        if table is None:
            return None
        logit = answer_of(table, column, exclusive=exclusive)
        figures = own_accuracy(logit, question.test)
        if exclusive:
            there = question.test == 1
            figures["answered"] = float(np.mean(table[there].argmax(1) == column))
        sign = auc(logit, question.test, question.test_cluster).affine(2.0, -1.0)
        return {**figures, "advantage": sign.value, "advantage_ci": sign.interval(0.95, -1.0, 1.0)}

    attacks = {row.id: row for row in attribute_inference(subject, hidden, question)}
    return {
        "own": own(logits),
        "put_back": own(put_back),
        "inference": {
            "outputs": _attack(attacks, INFERRED_OUTPUTS, INFERRED_OUTPUTS_ADV, INFERRED_OUTPUTS_BITS),
            "features": _attack(attacks, INFERRED_FEATURES, INFERRED_FEATURES_ADV, INFERRED_FEATURES_BITS),
        },
        "membership": _with_interval(label_membership(subject, question, AuditOptions())),
    }


def _attack(rows: Mapping[str, Metric], share: Figure, adv: Figure, bits: Figure) -> dict[str, Any]:
    """One attack's balanced accuracy p, abs(2p - 1) and bits."""
    p, advantage = rows[share.id], rows[adv.id]
    return {
        "p": p.value,
        "ci": p.ci,
        "advantage": advantage.value,
        "advantage_ci": advantage.ci,
        "bits": rows[bits.id].value,
        "n": p.n,
    }


def _with_interval(item: Estimate) -> dict[str, Any]:
    return {"value": item.value, "ci": item.interval(0.95, 0.0, 1.0), "n": item.n}
