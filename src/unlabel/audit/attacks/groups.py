"""Whether the retained labels work equally well for those with and without the forgotten label."""

from collections.abc import Mapping, Sequence

import numpy as np

from unlabel.audit.attacks.metric_rows import row
from unlabel.audit.document.results import Metric
from unlabel.audit.figures import GAP_AUC, GAP_CALLED, GAP_FOUND
from unlabel.audit.inputs.question import Question
from unlabel.audit.inputs.subject import Subject
from unlabel.data.dataset import Dataset
from unlabel.statistics.estimate import Estimate, auc, average

LEAST = 100  # images of a kind in each group


def gaps(subject: Subject, test: Dataset, column: int, question: Question) -> dict[str, Estimate]:
    """A retained label among images with the forgotten one, less the same among images without it.

    Args:
        subject: The model.
        test: The test split.
        column: The retained label.
        question: The forgotten label.

    Returns:
        Differences of true positive rate, false positive rate and AUC, where each group has 100 images of the
        kinds that count.
    """
    logit = subject.test.logits[:, column].astype(np.float64)
    target, cluster = test.target[:, column], test.cluster
    groups = [question.test == 1, question.test == 0]
    many = {kind: all(np.sum(group & (target == kind)) >= LEAST for group in groups) for kind in (0, 1)}
    gaps = {}
    for gap, kind in ((GAP_FOUND, 1), (GAP_CALLED, 0)):
        if many[kind]:
            rates = [
                average((logit > 0).astype(float), group & (target == kind), cluster) for group in groups
            ]
            gaps[gap.of(question.label)] = rates[0] - rates[1]
    if all(many.values()):
        areas = [auc(logit, np.where(group, target, -1), cluster) for group in groups]
        gaps[GAP_AUC.of(question.label)] = areas[0] - areas[1]
    return gaps


def group_rows(
    subjects: Sequence[Subject],
    test: Dataset,
    retained: Sequence[str],
    questions: Mapping[str, Question],
) -> list[Metric]:
    """Gaps of every retained label, by every forgotten one; none for classes, which have no such groups."""
    if test.exclusive:
        return []
    return [
        row(figure, name, subject, item)
        for question in questions.values()
        for subject in subjects
        for name in retained
        for figure, item in gaps(subject, test, test.labels.index(name), question).items()
    ]
