"""Attribute inference as the literature reports it, and the length of the code that a label needs."""

from itertools import pairwise
from math import log2

import numpy as np

from unlabel.audit.attacks.distances import entropy
from unlabel.audit.attacks.logistic import Floats, Standard, fit_logistic
from unlabel.audit.attacks.metric_rows import row
from unlabel.audit.attacks.outputs import best_cut, guess_linear
from unlabel.audit.document.results import Metric
from unlabel.audit.figures import (
    COMPRESSION,
    INFERRED_FEATURES,
    INFERRED_FEATURES_ADV,
    INFERRED_FEATURES_BITS,
    INFERRED_OUTPUTS,
    INFERRED_OUTPUTS_ADV,
    INFERRED_OUTPUTS_BITS,
)
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.audit.inputs.subject import Subject
from unlabel.core.randomness import permutation
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.statistics.estimate import balanced_accuracy

PARTS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0)
FEWEST = 8  # images before the first probe


def balanced_bits(present: float, absent: float) -> float:
    """Mutual information in bits of a yes-or-no answer and a label that half of the images have.

    Args:
        present: Share of images with the label that are called present.
        absent: Share of images without it that are called present.

    >>> [round(balanced_bits(p, 1 - p), 4) for p in (0.65, 0.35, 0.5, 0.46)]
    [0.0659, 0.0659, 0.0, 0.0046]
    """
    middle = (present + absent) / 2
    terms = entropy(np.array([middle, present, absent]))
    return float(terms[0] - (terms[1] + terms[2]) / 2)


def attribute_inference(subject: Subject, hidden: tuple[int, ...], question: Question) -> list[Metric]:
    """``paper_aia``: a linear attacker on the other outputs, and one on the features, as decisions.

    Balanced accuracy p of yes-or-no guesses, threshold and direction chosen on the probe split: what papers
    print. Beside it stand ``|2p - 1|``, which turning the answers round does not change, and the bits that
    the decisions tell of a label that half of the images have: never more than the attack can show, and no
    bound on others.
    """
    shown = [column for column in range(subject.test.logits.shape[1]) if column not in hidden]
    attacked = {
        (INFERRED_OUTPUTS, INFERRED_OUTPUTS_ADV, INFERRED_OUTPUTS_BITS): (
            subject.probe.logits[:, shown],
            subject.test.logits[:, shown],
        ),
        (INFERRED_FEATURES, INFERRED_FEATURES_ADV, INFERRED_FEATURES_BITS): (
            subject.probe.features[PENULTIMATE],
            subject.test.features[PENULTIMATE],
        ),
    }
    known, rows = question.known, []
    y = question.probe[known] == 1
    where = (question.label, subject.role, subject.run)
    for (share, advantage, bits), (x, x_test) in attacked.items():
        both = guess_linear(x[known], y, np.concatenate([x[known], x_test]))
        cut, above = best_cut(both[: len(y)], y)
        guesses = (both[len(y) :] > cut) == above
        right = balanced_accuracy(guesses, question.test, question.test_cluster)
        rates = [float(guesses[question.test == kind].mean()) for kind in (1, 0)]
        told = balanced_bits(*rates)
        rows += [
            row(share.id, question.label, subject, right),
            row(advantage.id, question.label, subject, right.affine(2.0, -1.0).absolute()),
            Metric(bits.id, *where, told, None, right.n, bits.unit, bits.layer),
        ]
    return rows


def code_length(outputs: Outputs, question: Question, options: AuditOptions) -> tuple[float, float, int]:
    """Bits to send the probe images' annotations, if a probe fitted to all earlier blocks codes each block.

    Blocks double; the first costs one bit an image. Images come in an order keyed by the seed.

    Returns:
        The length; the length at the label's base rate, ``n H(y)``; and n.

    References:
        Voita and Titov, Information-Theoretic Probing with Minimum Description Length, EMNLP 2020.
    """
    annotated = np.flatnonzero(question.known)
    rows = annotated[permutation(options.seed, "audit/mdl", len(annotated))]
    y = question.probe[rows] == 1
    x: Floats = Standard.of(outputs.features[PENULTIMATE])(outputs.features[PENULTIMATE][rows])
    n = len(y)
    ends = sorted({max(FEWEST, round(part * n)) for part in PARTS})
    length = float(ends[0])
    for start, end in pairwise(ends):
        learnt = y[:start]
        if learnt.all() or not learnt.any():
            length += end - start
            continue
        score = fit_logistic(x[:start], learnt, 0.1).decision_function(x[start:end])
        length += float(np.logaddexp(0.0, np.where(y[start:end], -score, score)).sum() / np.log(2))
    share = float(y.mean())
    base = -(share * log2(share) + (1 - share) * log2(1 - share))
    return length, n * base, n


def code_rows(subject: Subject, question: Question, options: AuditOptions) -> list[Metric]:
    """``mdl.compression``: 1 means that the features save nothing, more that they tell the label."""
    length, plain, n = code_length(subject.probe, question, options)
    where = (question.label, subject.role, subject.run)
    return [Metric(COMPRESSION.id, *where, plain / length, None, n, COMPRESSION.unit, COMPRESSION.layer)]
