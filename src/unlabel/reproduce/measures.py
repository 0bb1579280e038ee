"""What the pages need of a model beyond an audit: accuracies, attribute inference, membership, entropy.

::

    Reader(...)(subject, before, sets, request) -> plain data, kept in the model's cell

All figures are on E, where nothing was fitted; accuracies are on T_in (training images) and P as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from unlabel.audit.case import Sets
from unlabel.audit.logistic import Floats, Standard, fit_logistic
from unlabel.audit.outputs import NEVER, best_cut, log_odds, mutual_bits
from unlabel.audit.probes import folds
from unlabel.audit.statistics import Estimate, auc, average, balanced_accuracy
from unlabel.audit.subject import Question, Subject, ask
from unlabel.data.dataset import Dataset
from unlabel.models.features import PENULTIMATE, Outputs
from unlabel.request import Request

BINS = 400  # of entropy, in 0 to 1: a distance between two distributions is exact to a bin's share
PENALTY = 0.1  # C of the attribute attack's logistic regression, for every model alike


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
    known = target >= 0
    right = float(np.mean((logit[known] > 0) == (target[known] == 1)))
    share = float(np.mean(target[known] == 1))
    return {"accuracy": right, "inverted": 1.0 - right, "constant": max(share, 1.0 - share)}


def answer_of(logits: NDArray[np.floating], column: int, *, exclusive: bool) -> Floats:
    """One label's own logits (image,), or the log-odds of a class; of a removed class, its constant logit."""
    exact = np.asarray(logits, np.float64)
    if not exclusive:
        return exact[:, column]
    odds = log_odds(exact, column)
    removed = np.ptp(exact[:, column]) == 0.0 and odds.max() < NEVER
    return exact[:, column] if removed else odds


def accuracies(said: Outputs, data: Dataset, retained: tuple[int, ...]) -> dict[str, Any]:
    """Accuracy over the retained labels: of each label at a half, or of the answer among retained classes.

    Beside each label's stands what one answer for everybody would have.

    Of exclusive classes only images of a retained class have a right answer; the others are left out.
    """
    if data.exclusive:
        kept = list(retained)
        answerable = data.target[:, kept].max(1) == 1
        answer = np.asarray(kept)[said.logits[:, kept].argmax(1)]
        right = data.target[np.arange(len(data)), answer] == 1
        away = np.abs(answer - data.target.argmax(1))[answerable]
        return {
            **_with_interval(average(right.astype(float), answerable, data.cluster)),
            "labels": {},
            "distance": float(away.mean()),  # in classes, where their order means something
        }
    each = {
        data.labels[column]: own_accuracy(said.logits[:, column], data.target[:, column])
        for column in retained
    }
    known = data.target[:, list(retained)] >= 0
    right = ((said.logits[:, list(retained)] > 0) == (data.target[:, list(retained)] == 1)) & known
    shares = right.sum(1) / np.maximum(known.sum(1), 1)
    return {
        **_with_interval(average(shares, np.asarray(known.any(1)), data.cluster)),
        "labels": {name: found["accuracy"] for name, found in each.items()},
        "constant": {name: found["constant"] for name, found in each.items()},
    }


def answers(said: Outputs, data: Dataset, request: Request) -> dict[str, dict[str, float]]:
    """Of the images of each forgotten class, the share that is given to each retained class."""
    kept = list(request.retained_columns)
    answer = np.asarray(kept)[said.logits[:, kept].argmax(1)]
    found = {}
    for name, column in zip(request.masked, request.masked_columns, strict=True):
        own = answer[data.target[:, column] == 1]
        found[name] = {data.labels[at]: float(np.mean(own == at)) for at in kept}
    return found


def inference(
    on_probe: NDArray[np.floating], on_test: NDArray[np.floating], question: Question
) -> dict[str, Any]:
    """The paper's attribute inference: a classifier of the label, judged by its balanced accuracy p.

    It is fitted on one half of P, its cut and polarity are chosen on the other half, and it is scored on E.
    The halves share no identity, have the label equally often, and are the same for every model.

    Args:
        on_probe: What the attacker sees of each image of P, (image, column).
        on_test: The same of E.
        question: The label.

    Returns:
        ``p`` with ``ci``; ``advantage`` = abs(2p - 1) with ``advantage_ci`` (a p below a half is turned
        round); ``bits``: mutual information of guess and truth in the 2 x 2 table of E, Miller-Madow
        corrected: what this attack proves to be leaked at least; ``n``.
    """
    known = np.flatnonzero(question.known)
    y, cluster = question.probe == 1, question.probe_cluster[known]
    half = folds(y[known], cluster, 2, 0, "inference") == 0
    fitted, chosen = known[half], known[~half]
    standard = Standard.of(on_probe[fitted])
    model = fit_logistic(standard(on_probe[fitted]), y[fitted], PENALTY)
    cut, above = best_cut(model.decision_function(standard(on_probe[chosen])), y[chosen])
    said = (model.decision_function(standard(on_test)) > cut) == above
    p = balanced_accuracy(said, question.test, question.test_cluster)
    twice = p.affine(2.0, -1.0).absolute()
    used = question.test >= 0
    cell = 2 * said[used].astype(int) + (question.test[used] == 1)
    bits = float(mutual_bits(np.bincount(cell, minlength=4).astype(np.float64)))
    low, high = twice.interval(0.95, -1.0, 1.0)
    return {
        "p": p.value,
        "ci": p.interval(0.95, 0.0, 1.0),
        "advantage": twice.value,
        "advantage_ci": (max(0.0, low), high),
        "bits": bits,
        "n": p.n,
    }


def membership(train_loss: Floats, test_loss: Floats) -> dict[str, Any]:
    """AUC of telling training images from unseen ones by a loss: a half is a coin, above: training is lower.

    Args:
        train_loss: Loss of training images, (image,).
        test_loss: Loss of images of E, (image,).
    """
    score = -np.concatenate([train_loss, test_loss])
    target = np.repeat(np.array([1, 0], np.int8), [len(train_loss), len(test_loss)])
    return _with_interval(auc(score, target, np.arange(len(score))))


def entropy_counts(said: Outputs, retained: tuple[int, ...]) -> list[int]:
    """Images by the mean entropy of their retained outputs, in bits, in `BINS` equal bins from 0 to 1."""
    logit = said.logits[:, list(retained)].astype(np.float64)
    log_yes, log_no = -np.logaddexp(0.0, -logit), -np.logaddexp(0.0, logit)
    bits = -(expit(logit) * log_yes + expit(-logit) * log_no).mean(1) / np.log(2.0)
    return np.histogram(np.clip(bits, 0.0, 1.0), BINS, (0.0, 1.0))[0].tolist()


@dataclass(frozen=True)
class Reader:
    """Reads one model; its version is part of the key of what is kept."""

    version: int = 1

    def __call__(self, subject: Subject, before: Subject, sets: Sets, request: Request) -> dict[str, Any]:
        """All measures of one model, as plain data.

        Args:
            subject: The model.
            before: The original, whose output row is put back on the model's features.
            sets: P, E and T_in.
            request: What was forgotten.
        """
        probe, test, train = (
            part.with_labels(request.labels) for part in (sets.probe, sets.test, sets.train)
        )
        retained = request.retained_columns
        splits = {"T_in": (subject.train, train), "P": (subject.probe, probe), "E": (subject.test, test)}
        return {
            "accuracy": {name: accuracies(said, data, retained) for name, (said, data) in splits.items()},
            "labels": {
                name: read_label(subject, before, ask(name, probe, test, train), retained, test.exclusive)
                for name in request.masked
            },
            "membership": _sample_membership(subject, train, test, retained),
            "answers": answers(subject.test, test, request) if test.exclusive else None,
            "entropy": {
                name: None if data.exclusive else entropy_counts(said, retained)
                for name, (said, data) in splits.items()
                if name != "P"
            },
        }


def read_label(
    subject: Subject, before: Subject, question: Question, retained: tuple[int, ...], exclusive: bool
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
        found = own_accuracy(logit, question.test)
        if exclusive:
            there = question.test == 1
            found["answered"] = float(np.mean(table[there].argmax(1) == column))
        sign = auc(logit, question.test, question.test_cluster).affine(2.0, -1.0)
        return {**found, "advantage": sign.value, "advantage_ci": sign.interval(0.95, -1.0, 1.0)}

    others = list(retained)
    return {
        "own": own(logits),
        "put_back": own(put_back),
        "inference": {
            "outputs": inference(subject.probe.logits[:, others], subject.test.logits[:, others], question),
            "features": inference(subject.probe.features[PENULTIMATE], features, question),
        },
        "membership": _label_membership(subject, question),
    }


def _label_membership(subject: Subject, question: Question) -> dict[str, Any]:
    """Whether a probe of the features is surer of training images' annotations than of unseen ones.

    Retrain has no output for the label, so the loss is that of a linear probe fitted on P, for every model.
    """
    known = question.known
    standard = Standard.of(subject.probe.features[PENULTIMATE][known])
    model = fit_logistic(
        standard(subject.probe.features[PENULTIMATE][known]), question.probe[known] == 1, PENALTY
    )

    def loss(said: Outputs, target: NDArray[np.int8]) -> Floats:
        used = target >= 0
        score = model.decision_function(standard(said.features[PENULTIMATE][used]))
        return np.logaddexp(0.0, np.where(target[used] == 1, -score, score))

    return membership(loss(subject.train, question.train), loss(subject.test, question.test))


def _sample_membership(
    subject: Subject, train: Dataset, test: Dataset, retained: tuple[int, ...]
) -> dict[str, Any]:
    """The same by the loss of the retained labels, or of the answer among retained classes."""
    kept = list(retained)

    def loss(said: Outputs, data: Dataset) -> Floats:
        logit, target = said.logits[:, kept].astype(np.float64), data.target[:, kept]
        if data.exclusive:
            there = (target == 1).any(1)
            own = logit[there][target[there] == 1]
            return np.logaddexp.reduce(logit[there], axis=1) - own
        return np.where(target >= 0, np.logaddexp(0.0, np.where(target == 1, -logit, logit)), 0.0).sum(1)

    return membership(loss(subject.train, train), loss(subject.test, test))


def _with_interval(item: Estimate) -> dict[str, Any]:
    return {"value": item.value, "ci": item.interval(0.95, 0.0, 1.0), "n": item.n}


Measures = Mapping[str, Any]
"""What a `Reader` found, as kept in a cell."""
