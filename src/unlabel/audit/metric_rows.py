"""The audit's figures as rows of ``metrics[]``: one a figure, a label and a model."""

from collections.abc import Mapping

import numpy as np

from unlabel.audit.attacks.outputs import OwnOutput, decision_bits
from unlabel.audit.attacks.utility import Utility
from unlabel.audit.figures import Readings, layer_of, unit_of
from unlabel.audit.inputs import AuditOptions, Question, Subject
from unlabel.audit.results import Metric
from unlabel.statistics.estimate import Estimate


def row(
    figure: str,
    label: str | None,
    subject: Subject,
    item: Estimate,
    unit: str,
    low: float = 0.0,
    high: float = 1.0,
    transform: str | None = None,
    stage: str | None = None,
) -> Metric:
    """An estimate as a row, its 95 % interval cut to the range the figure can have."""
    return Metric(
        figure,
        label,
        subject.role,
        subject.run,
        item.value,
        item.interval(0.95, low, high),
        item.n,
        unit,
        stage or layer_of(figure),
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
    signed = own.signed(question)
    rows = [
        row("own.ppr", name, subject, own.positive_rate(question), "fraction"),
        row("own.sadv", name, subject, signed, "adv", -1.0),
        row("own.sadv@train", name, subject, own.signed_on_train(question), "adv", -1.0),
        Metric(
            "own.mi_bits",
            name,
            subject.role,
            subject.run,
            bits,
            interval,
            int(np.sum(question.test >= 0)),
            "bits",
        ),
    ]
    if put_back is not None:
        rows.append(row("own.sadv@restored", name, subject, put_back, "adv", -1.0))
    for figure, item in readings.items():
        low = 0.0 if figure == "own.adv" or unit_of(figure) == "bits" else -1.0
        rows.append(row(figure, name, subject, item, unit_of(figure), low))
    return rows


def utility_rows(subject: Subject, utility: Utility) -> list[Metric]:
    """Rows of one model's retained labels, and their means."""
    rows = [
        row(figure, name, subject, item, "auc" if figure == "util.auc" else "fraction")
        for name, figures in utility.labels.items()
        for figure, item in figures.items()
    ]
    macro = row("util.auc.macro", None, subject, utility.macro("util.auc"), "auc")
    return [*rows, macro, row("util.ece.macro", None, subject, utility.macro("util.ece"), "fraction")]


def floor_rows(floors: Mapping[str, Estimate]) -> list[Metric]:
    """What the true retained labels tell: the row of no model."""
    return [
        Metric(
            "floor.adv",
            name,
            "reference",
            "ground-truth labels",
            item.value,
            item.interval(0.95, -1.0, 1.0),
            item.n,
            "adv",
        )
        for name, item in floors.items()
    ]
