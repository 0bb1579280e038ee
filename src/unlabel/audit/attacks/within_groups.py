"""What forgetting does within groups of images: who is still given away, and for whom labels work less well.

A group is the images with, or without, one label. Within each one, the audit measures how well a probe on
the last features finds the forgotten label, and how well the retained labels work. Nothing here decides a
claim. Exclusive classes have no such groups.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.attacks.groups import LEAST
from unlabel.audit.attacks.logistic import Floats, Standard, fit_logistic
from unlabel.audit.attacks.metric_rows import row
from unlabel.audit.attacks.probes import choose_penalty
from unlabel.audit.document.results import Metric
from unlabel.audit.figures import Figure
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.audit.inputs.subject import Subject
from unlabel.data.dataset import Dataset
from unlabel.models.outputs import PENULTIMATE
from unlabel.statistics.estimate import Estimate, advantage, auc, mean, rarer

Masks = Mapping["Part", NDArray[np.bool_]]
Found = dict["Part", Estimate]


@dataclass(frozen=True)
class Part:
    """The images of the test split with a label, or those without it; unknown ones are in neither."""

    label: str
    present: bool


def parts_of(test: Dataset, labels: Sequence[str]) -> dict[Part, NDArray[np.bool_]]:
    """bool (image,) who is in the groups of some labels; none among exclusive classes.

    Args:
        test: The test split.
        labels: Names, each giving two groups.
    """
    if test.exclusive:
        return {}
    columns = {name: test.target[:, test.labels.index(name)] for name in labels}
    return {Part(name, bool(kind)): column == kind for name, column in columns.items() for kind in (1, 0)}


def probe_scores(subject: Subject, question: Question, options: AuditOptions) -> Floats:
    """float64 (test image,) scores of a linear probe on the last features, fitted on the probe split.

    As the audit's linear probe, but fitted once: its folds calibrate probabilities, and here the order is all
    that counts.
    """
    known = question.known
    y, cluster = question.probe[known] == 1, question.probe_cluster[known]
    features = subject.probe.features[PENULTIMATE][known]
    standard = Standard.of(features)
    x = standard(features)
    fitted = fit_logistic(x, y, choose_penalty(x, y, cluster, options.seed))
    return np.asarray(fitted.decision_function(standard(subject.test.features[PENULTIMATE])), np.float64)


def leaks(subject: Subject, question: Question, masks: Masks, options: AuditOptions) -> Found:
    """Advantage of that probe within each group that has 100 images with and 100 without the forgotten label.

    Args:
        subject: The model.
        question: The forgotten label.
        masks: The groups; see `parts_of`.
        options: Seed.
    """
    targets = {part: np.where(mask, question.test, -1) for part, mask in masks.items()}
    large = {part: target for part, target in targets.items() if rarer(target) >= LEAST}
    if not large:
        return {}
    score = probe_scores(subject, question, options)
    return {part: advantage(score, target, question.test_cluster) for part, target in large.items()}


def areas(subject: Subject, test: Dataset, retained: Sequence[str], masks: Masks) -> Found:
    """Mean AUC within each group, over the retained labels that 100 of its images have and 100 have not.

    Args:
        subject: The model.
        test: The test split.
        retained: Labels.
        masks: The groups; one without any such label is left out.
    """
    by_group: Found = {}
    for part, mask in masks.items():
        rows = np.flatnonzero(mask)
        cluster, each = test.cluster[rows], []
        for column in map(test.labels.index, retained):
            target = test.target[rows, column]
            if rarer(target) >= LEAST:
                each.append(auc(subject.test.logits[rows, column], target, cluster))
        if each:
            by_group[part] = _among_all(mean(each), rows, test.cluster)
    return by_group


def _among_all(item: Estimate, rows: NDArray[np.intp], cluster: NDArray[np.int64]) -> Estimate:
    """An estimate on some rows as one on all images, of which the others have influence 0."""
    influence, used = np.zeros(len(cluster)), np.zeros(len(cluster), bool)
    influence[rows], used[rows] = item.influence, item.used
    return Estimate(item.value, influence, cluster, used)


def part_rows(
    family: Mapping[bool, Figure], label: str | None, subject: Subject, found: Mapping[Part, Estimate]
) -> list[Metric]:
    """One figure of one model in every group, as rows of ``metrics[]``.

    Args:
        family: The figure of groups with a label (True), and of those without (False).
        label: The forgotten label that it is about, or None.
        subject: The model.
        found: By group.
    """
    return [row(family[part.present].of(part.label), label, subject, item) for part, item in found.items()]
