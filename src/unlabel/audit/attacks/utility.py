"""How well every retained label still works: ranking, precision, decisions, probabilities.

Exclusive classes are judged among the retained classes alone, for every model alike: a class by its log-odds
against the other retained ones, and on images that have a retained class, since an image of a forgotten
class has no right answer left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from unlabel.audit.attacks.outputs import log_odds
from unlabel.audit.figures import (
    UTILITY_ACCURACY,
    UTILITY_AUC,
    UTILITY_BRIER,
    UTILITY_CALIBRATION,
    UTILITY_PRECISION,
)
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.subject import Subject
from unlabel.data.dataset import Dataset
from unlabel.statistics.estimate import (
    Estimate,
    auc,
    average_precision,
    balanced_accuracy,
    brier,
    calibration_error,
    mean,
    people_in_effect,
    rarer,
)


@dataclass(frozen=True)
class Utility:
    """The figures of one model: per label and id, and the means over labels.

    Args:
        labels: Without labels of which the test split has fewer than two images of a kind.
        steady: Those of which it shows enough people of each kind, so that their errors can be trusted.
        left_out: Those that no mean by which the model is judged counts.
    """

    labels: dict[str, dict[str, Estimate]]
    steady: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def macro(self, figure: str) -> Estimate:
        """Mean of one figure over the labels."""
        return mean([row[figure] for row in self.labels.values()])

    def judged_area(self) -> Estimate:
        """Mean AUC by which the model is judged: over the steady labels, or over all where none is."""
        return mean([self.labels[name][UTILITY_AUC.id] for name in self.steady or self.labels])

    def judged_calibration(self) -> Estimate:
        """Mean calibration error by which the model is judged: over all labels that are not left out."""
        rows = [row for name, row in self.labels.items() if name not in self.left_out]
        return mean([row[UTILITY_CALIBRATION.id] for row in rows])


def answerable(test: Dataset, retained: Sequence[int]) -> Dataset:
    """E with the truth unknown where no retained class is the right answer; labels that stand alone as is."""
    if not test.exclusive:
        return test
    answered = (test.target[:, list(retained)] == 1).any(1)
    return replace(test, target=np.where(answered[:, None], test.target, -1).astype(np.int8))


def measurable(test: Dataset, retained: tuple[str, ...], least: int = 2, persons: int = 1) -> tuple[str, ...]:
    """Retained labels with so many test images of each kind, of so many people in effect."""
    counts = {name: test.target[:, test.labels.index(name)] for name in retained}
    return tuple(
        name
        for name, column in counts.items()
        if rarer(column) >= least and min(people_in_effect(column, test.cluster)) >= persons
    )


def read_utility(
    subject: Subject,
    test: Dataset,
    labels: tuple[str, ...],
    options: AuditOptions,
    among: Sequence[int] | None = None,
) -> Utility:
    """All utility figures of one model on the test split.

    A label counts as present from a probability of one half; the most likely class is the answer among
    exclusive classes. Both unless the options name a label's threshold.

    Args:
        subject: The model.
        test: The test split; of exclusive classes, as `answerable` gives it.
        labels: Labels to judge.
        options: Thresholds.
        among: Columns of the classes that may be answered; all where None. Not used for other labels.
    """
    rows: dict[str, dict[str, Estimate]] = {}
    classes = list(range(len(test.labels)) if among is None else among)
    answer = np.asarray(classes)[subject.test.logits[:, classes].argmax(1)] if test.exclusive else None
    for name in labels:
        column = test.labels.index(name)
        target, cluster = test.target[:, column], test.cluster
        if answer is None:
            logit = subject.test.logits[:, column].astype(np.float64)
        else:
            logit = log_odds(subject.test.logits[:, classes], classes.index(column))
        if answer is None or name in options.thresholds:
            decision = logit > options.thresholds.get(name, 0.0)
        else:
            decision = answer == column
        rows[name] = {
            UTILITY_AUC.id: auc(logit, target, cluster),
            UTILITY_PRECISION.id: average_precision(logit, target, cluster),
            UTILITY_ACCURACY.id: balanced_accuracy(decision, target, cluster),
            UTILITY_BRIER.id: brier(logit, target, cluster),
            UTILITY_CALIBRATION.id: calibration_error(logit, target, cluster),
        }
    return Utility(rows, measurable(test, labels, persons=options.least_people))
