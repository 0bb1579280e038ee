"""Rare labels: attacks also with the probe and test splits exchanged, so that the images of both are judged.

An attack fitted on the probe split is scored on the test split, one fitted on the test split is scored on the
probe split, and the two figures are pooled. Each image is judged by an attack that has not seen it. The two
directions are not independent: both compare the same two sets, and where one is unlike the other, both
figures suffer. So what is fitted gets a larger error than twice as many images would have (`TOGETHER`).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from unlabel.audit.figures import Readings
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.audit.inputs.subject import Subject
from unlabel.data.splits import PEOPLE
from unlabel.statistics.estimate import Estimate, numbered, people, rarer

TOGETHER = 4 / 3  # spread of a pooled, fitted figure over what independent directions would have

Read = Callable[[Subject, Question], Readings]


def crossed(questions: Mapping[str, Question], options: AuditOptions) -> dict[str, Question]:
    """The questions, to be asked both ways where the test split has too few images for one of them.

    All labels or none: a mean over labels is taken on the same images. None where the test split has too few
    people of a kind to fit an attack on.
    """
    rare = any(question.rare(options) for question in questions.values())
    able = all(min(people(question.test, question.test_cluster)) >= PEOPLE for question in questions.values())
    both = options.cross_fit and rare and able
    return {name: replace(question, crossed=both) for name, question in questions.items()}


def both(read: Read, subject: Subject, question: Question) -> Readings:
    """Attacks on one model and label: on the test split, and on the probe split if the question is crossed.

    Args:
        read: Fits attacks on the probe split and scores them on the test split.
        subject: The model.
        question: The label.
    """
    there = read(subject, question)
    if not question.crossed:
        return there
    turned = replace(exchanged(question), crossed=False)
    back = read(replace(subject, probe=subject.test, test=subject.probe), turned)
    return {name: pooled(there[name], back[name], question, TOGETHER) for name in there}


def exchanged(question: Question) -> Question:
    """The same question, the probe and test splits in each other's place."""
    return replace(
        question,
        probe=question.test,
        test=question.probe,
        probe_cluster=question.test_cluster,
        test_cluster=question.probe_cluster,
    )


def pooled(on_test: Estimate, on_probe: Estimate, question: Question, together: float = 1.0) -> Estimate:
    """One figure of both sets, weighted by how many images of the rarer kind each has.

    Args:
        on_test: The figure on the test split.
        on_probe: The same on the probe split.
        question: The label.
        together: What the error is multiplied by; 1 for a figure that nothing was fitted for.
    """
    sizes = rarer(question.test), rarer(question.probe)
    share = sizes[0] / sum(sizes)
    here, there = (numbered(item.cluster) for item in (on_test, on_probe))
    return Estimate(
        share * on_test.value + (1 - share) * on_probe.value,
        together * np.concatenate([share * on_test.influence, (1 - share) * on_probe.influence]),
        np.concatenate([here, there + here.max() + 1]),  # no person is in both
        np.concatenate([on_test.used, on_probe.used]),
    )
