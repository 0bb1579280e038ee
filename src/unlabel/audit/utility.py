"""How well every retained label still works: ranking, precision, decisions, probabilities."""

from dataclasses import dataclass

import numpy as np

from unlabel.audit.statistics import (
    Estimate,
    auc,
    average_precision,
    balanced_accuracy,
    brier,
    calibration_error,
    mean,
)
from unlabel.audit.subject import AuditOptions, Subject
from unlabel.data.dataset import Dataset

IDS = ("util.auc", "util.ap", "util.bacc", "util.brier", "util.ece")


@dataclass(frozen=True)
class Utility:
    """The figures of one model: per label and id, and the means over labels.

    Labels with fewer than two images of a kind in E are left out.
    """

    labels: dict[str, dict[str, Estimate]]

    def macro(self, figure: str) -> Estimate:
        """Mean of one figure over the labels."""
        return mean([row[figure] for row in self.labels.values()])


def measurable(test: Dataset, retained: tuple[str, ...], least: int = 2) -> tuple[str, ...]:
    """Retained labels with at least this many present and absent images in E."""
    counts = {name: test.target[:, test.labels.index(name)] for name in retained}
    return tuple(
        name for name, column in counts.items() if min(np.sum(column == 1), np.sum(column == 0)) >= least
    )


def read_utility(subject: Subject, test: Dataset, labels: tuple[str, ...], options: AuditOptions) -> Utility:
    """All utility figures of one model on E.

    Decisions are taken at a probability of one half unless the options name a label's threshold.
    """
    rows: dict[str, dict[str, Estimate]] = {}
    for name in labels:
        column = test.labels.index(name)
        logit = subject.test.logits[:, column].astype(np.float64)
        target, cluster = test.target[:, column], test.cluster
        decision = logit > options.thresholds.get(name, 0.0)
        rows[name] = {
            "util.auc": auc(logit, target, cluster),
            "util.ap": average_precision(logit, target, cluster),
            "util.bacc": balanced_accuracy(decision, target, cluster),
            "util.brier": brier(logit, target, cluster),
            "util.ece": calibration_error(logit, target, cluster),
        }
    return Utility(rows)
