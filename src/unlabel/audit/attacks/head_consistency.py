"""Check that a model's outputs are those of its last linear layer: that nothing after it changes them.

An attack reads outputs as numbers. If a model encrypts a label into their last digits, they look like noise.
But the output of a linear layer is known from its features, up to rounding. Any other output was changed
after that layer, where the audit cannot read.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.inputs.subject import Subject
from unlabel.core.engine import Precision
from unlabel.core.wording import joined
from unlabel.models.outputs import PENULTIMATE, Outputs

ROUNDINGS = 16.0
"""Errors of one rounding that a sum may have; in the networks of the tests it has fewer than two."""

SINGLE, BRAIN = 2.0**-24, 2.0**-8  # one rounding of float32, of bfloat16
ALLOWED: Mapping[Precision, float] = {"32": ROUNDINGS * SINGLE, "bf16": 2.0 * BRAIN}
"""Share of a sum's size by which an output may differ, by how the audit ran the model.

It is never taken from the numbers: a model chooses these, and may round its features.
"""


def changed_outputs(subject: Subject) -> tuple[int, ...]:
    """Columns whose logits are not what the head makes of the features, on some image of any split.

    ``|logit - (w x + b)| <= 16 u (|w| |x| + |b|)`` with one rounding u of float32; of bfloat16, 2 roundings,
    if the audit ran the model so. A constant output is left out: it leaks nothing, and a run may store it
    otherwise.

    Args:
        subject: The model; without a head, nothing is known.
    """
    if subject.head is None:
        return ()
    weight, bias = (np.asarray(part, np.float64) for part in subject.head)
    tables = (subject.probe, subject.test, subject.train)
    wrong = np.zeros(len(bias), bool)
    for outputs in tables:
        wrong |= _off(outputs, weight, bias, ALLOWED[subject.precision]).any(0)
    varies = np.ptp(np.concatenate([outputs.logits for outputs in tables]), axis=0) > 0
    return tuple(int(column) for column in np.flatnonzero(wrong & varies))


def tampered(subject: Subject, labels: Sequence[str]) -> tuple[str, ...]:
    """What `changed_outputs` finds, as a sentence; none where it finds nothing."""
    names = [labels[column] for column in changed_outputs(subject)]
    if not names:
        return ()
    return (
        f"The outputs for {joined(names)} are not those of the last linear layer: a later step changes them,"
        " and the audit cannot read what it does.",
    )


def _off(
    outputs: Outputs, weight: NDArray[np.float64], bias: NDArray[np.float64], allowed: float
) -> NDArray[np.bool_]:
    exact = outputs.features[PENULTIMATE].astype(np.float64)
    size = np.abs(exact) @ np.abs(weight).T + np.abs(bias)
    return np.abs(outputs.logits - (exact @ weight.T + bias)) > allowed * size
