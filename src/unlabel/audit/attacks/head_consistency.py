"""Whether a model's answers are those of its last linear layer, or something behind it has changed them.

Attacks read values as numbers. A label that is written into their last digits, with a key, looks like noise
to whoever lacks the key. But what a linear layer makes of its features is known, up to rounding: any answer
that is something else has been through more than the network that the audit knows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.inputs import Subject
from unlabel.core.wording import joined
from unlabel.models.features import PENULTIMATE, Outputs

ROUNDINGS = 16.0
"""Errors of one rounding that a sum may have; in the networks of the tests it has fewer than two."""

SINGLE, BRAIN = 2.0**-24, 2.0**-8  # one rounding of float32, of bfloat16


def changed_answers(subject: Subject) -> tuple[int, ...]:
    """Columns whose logits are not what the head makes of the features, on some image of any split.

    ``|logit - (w x + b)| <= 16 u (|w| |x| + |b|)`` with one rounding u of the precision that the features are
    in. An output that is one constant is left out: it says nothing, and a run may hold it otherwise.

    Args:
        subject: The model; without a head, nothing is known.
    """
    if subject.head is None:
        return ()
    weight, bias = (np.asarray(part, np.float64) for part in subject.head)
    tables = (subject.probe, subject.test, subject.train)
    wrong = np.zeros(len(bias), bool)
    for outputs in tables:
        wrong |= (_off(outputs, weight, bias)).any(0)
    varies = np.ptp(np.concatenate([outputs.logits for outputs in tables]), axis=0) > 0
    return tuple(int(column) for column in np.flatnonzero(wrong & varies))


def tampered(subject: Subject, labels: Sequence[str]) -> tuple[str, ...]:
    """What `changed_answers` finds, as a sentence; none where it finds nothing."""
    names = [labels[column] for column in changed_answers(subject)]
    if not names:
        return ()
    return (
        f"The answers for {joined(names)} are not what the last linear layer makes of the features: something"
        " behind it changes them, where it could hide anything.",
    )


def _off(outputs: Outputs, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> NDArray[np.bool_]:
    features = outputs.features[PENULTIMATE]
    exact = features.astype(np.float64)
    size = np.abs(exact) @ np.abs(weight).T + np.abs(bias)
    unit = BRAIN if len(features) and not (features.view(np.uint32) & 0xFFFF).any() else SINGLE
    allowed = (2.0 if unit == BRAIN else ROUNDINGS) * unit * size
    return np.abs(outputs.logits - (exact @ weight.T + bias)) > allowed
