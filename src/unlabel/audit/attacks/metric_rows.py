"""The audit's figures as rows of ``metrics[]``: one a figure, a label and a model."""

from collections.abc import Mapping

import numpy as np

from unlabel.audit.attacks.outputs import OwnOutput, decision_bits
from unlabel.audit.attacks.utility import Utility
from unlabel.audit.document.results import Metric
from unlabel.audit.figures import (
    FLOOR,
    OWN_BITS,
    OWN_ON_TRAIN,
    OWN_RATE,
    OWN_RESTORED,
    OWN_SIGNED,
    UTILITY_AUC,
    UTILITY_AUC_MEAN,
    UTILITY_CALIBRATION,
    UTILITY_CALIBRATION_MEAN,
    Readings,
)
from unlabel.audit.figures import figure as entry
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.audit.inputs.subject import Subject
from unlabel.statistics.estimate import Estimate


def row(
    figure: str,
    label: str | None,
    subject: Subject,
    item: Estimate,
    *,
    transform: str | None = None,
    stage: str | None = None,
) -> Metric:
    """An estimate as a row, its 95 % interval cut to the range the figure can have."""
    registered = entry(figure)
    return Metric(
        figure,
        label,
        subject.role,
        subject.run,
        item.value,
        item.interval(0.95, *registered.range),
        item.n,
        registered.unit,
        stage or registered.layer,
        transform,
    )


def label_rows(
    subject: Subject,
    own: OwnOutput,
    readings: Readings,
    put_back: Estimate | None,
    question: Question,
    options: AuditOptions,
) -> list[Metric]:
    """Rows of one model and one forgotten label.

    Args:
        subject: The model.
        own: Its output for the label.
        readings: Every attack on it.
        put_back: The original's output row on its features, for the unlearned model.
        question: The label.
        options: Seed and resamples of the bootstrap.
    """
    name = question.label
    bits, interval = decision_bits(own, question, options)
    where = (name, subject.role, subject.run)
    rows = [
        row(OWN_RATE.id, name, subject, own.positive_rate(question)),
        row(OWN_SIGNED.id, name, subject, own.signed(question)),
        Metric(OWN_BITS.id, *where, bits, interval, int(np.sum(question.test >= 0)), OWN_BITS.unit),
    ]
    if (on_train := own.signed_on_train(question)) is not None:
        rows.insert(2, row(OWN_ON_TRAIN.id, name, subject, on_train))
    if put_back is not None:
        rows.append(row(OWN_RESTORED.id, name, subject, put_back))
    return [*rows, *(row(figure, name, subject, item) for figure, item in readings.items())]


def utility_rows(subject: Subject, utility: Utility) -> list[Metric]:
    """Rows of one model's retained labels, and their means."""
    rows = [
        row(figure, name, subject, item)
        for name, figures in utility.labels.items()
        for figure, item in figures.items()
    ]
    means = ((UTILITY_AUC_MEAN, UTILITY_AUC), (UTILITY_CALIBRATION_MEAN, UTILITY_CALIBRATION))
    return [*rows, *(row(whole.id, None, subject, utility.macro(each.id)) for whole, each in means)]


def floor_rows(floors: Mapping[str, Estimate]) -> list[Metric]:
    """What the true retained labels tell: the row of no model."""
    return [
        Metric(
            FLOOR.id,
            name,
            "reference",
            "ground-truth labels",
            item.value,
            item.interval(0.95, *FLOOR.range),
            item.n,
            FLOOR.unit,
        )
        for name, item in floors.items()
    ]
