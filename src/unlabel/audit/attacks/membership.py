"""Whether training images can be told from others: by the forgotten label's annotation, by the retained ones.

Two games, never mixed. *Label*: how sure a probe, fitted on the probe split, is of the annotation of a
training image, against a test image. *Sample*: how small the model's own loss on the retained labels is.
Training and test images may differ by themselves, so neither means anything without the same figure on
retrained models.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, log_softmax

from unlabel.audit.attacks.metric_rows import row
from unlabel.audit.attacks.probes import linear
from unlabel.audit.document.results import Metric
from unlabel.audit.figures import SAMPLE_MEMBERSHIP, SAMPLES_CAUGHT
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.audit.inputs.subject import Subject
from unlabel.data.dataset import Dataset
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.statistics.estimate import Estimate, Floats, auc, people_in_effect, share_bounds

FALSE_ALARMS = 0.01


@dataclass(frozen=True)
class Membership:
    """Sample-level membership of one model.

    Args:
        auc: How well its loss ranks training images before those of the test split.
        caught: Training images whose loss is below that of all but 1 % of the test split, and how many there
            are.
        bounds: Of their share, 95 %.
    """

    auc: Estimate
    caught: tuple[int, int]
    bounds: tuple[float, float]


def label_membership(subject: Subject, question: Question, options: AuditOptions) -> Estimate:
    """AUC of a probe's certainty of the true annotation, training images against the test split.

    The probe is the linear one, with one seed; it has seen neither.
    """
    both = np.concatenate([subject.train.features[PENULTIMATE], subject.test.features[PENULTIMATE]])
    target = np.concatenate([question.train, question.test])
    probed = linear(
        subject.probe,
        Outputs(np.zeros((len(both), 1), np.float32), {PENULTIMATE: both}),
        question,
        replace(options, probe_seeds=1),
    )
    sure = np.where(target == 1, probed.log_present[:, 0], probed.log_absent[:, 0])
    return _ranked(sure, len(question.train), target >= 0, _clusters(question))


def _clusters(question: Question) -> np.ndarray:
    return np.concatenate([question.train_cluster, question.test_cluster])


def _ranked(score: Floats, members: int, known: np.ndarray, cluster: np.ndarray) -> Estimate:
    member = np.where(np.arange(len(score)) < members, 1, 0)
    return auc(score, np.where(known, member, -1), cluster)


def retained_loss(outputs: Outputs, data: Dataset, columns: tuple[int, ...]) -> Floats:
    """Mean loss of each image over its known retained labels, in nats; NaN where none is known.

    Of classes, the softmax loss among the retained ones.
    """
    logits, target = outputs.logits[:, list(columns)].astype(np.float64), data.target[:, list(columns)]
    if data.exclusive:
        true_class = target == 1
        loss = -(log_softmax(logits, axis=1) * true_class).sum(1)
        return np.where(true_class.any(1), loss, np.nan)
    annotated = target >= 0
    terms = np.where(annotated, -log_expit(np.where(target == 1, logits, -logits)), 0.0)
    count = annotated.sum(1)
    return np.where(count > 0, terms.sum(1) / np.maximum(count, 1), np.nan)


def membership_untested(
    train: Dataset, test: Dataset, columns: tuple[int, ...], options: AuditOptions
) -> tuple[str, ...]:
    """Why `sample_membership` cannot be measured, in a sentence: of too few people a label is known."""
    people = [people_in_effect(_answered(part, columns), part.cluster)[0] for part in (train, test)]
    if min(people) >= options.least_people:
        return ()
    return (
        f"Whether training images can be told from others: fewer than {options.least_people} identities in"
        f" effect of the {'training' if people[0] <= people[1] else 'test'} images have a known retained"
        " label.",
    )


def _answered(data: Dataset, columns: tuple[int, ...]) -> NDArray[np.int8]:
    """(image,) 1 where a retained label is known, else 0; of classes, where the image's class is retained."""
    target = data.target[:, list(columns)]
    known = (target == 1) if data.exclusive else (target >= 0)
    return np.asarray(known.any(1), np.int8)


def sample_membership(
    subject: Subject, train: Dataset, test: Dataset, columns: tuple[int, ...]
) -> Membership:
    """How well a model's loss on the retained labels separates training from test images."""
    losses = [retained_loss(subject.train, train, columns), retained_loss(subject.test, test, columns)]
    score = -np.concatenate(losses)
    measured = np.isfinite(score)
    cluster = np.concatenate([train.cluster, test.cluster])
    members, others = (-loss[np.isfinite(loss)] for loss in losses)
    bar = np.quantile(others, 1 - FALSE_ALARMS, method="higher")
    area = _ranked(np.where(measured, score, 0.0), len(train), measured, cluster)
    bounds = share_bounds(members > bar, train.cluster[np.isfinite(losses[0])], 0.975)
    return Membership(area, (int(np.sum(members > bar)), len(members)), bounds)


def membership_rows(subject: Subject, found: Membership) -> list[Metric]:
    """The sample-level figures of one model."""
    hits, n = found.caught
    where = (None, subject.role, subject.run)
    return [
        row(SAMPLE_MEMBERSHIP.id, None, subject, found.auc),
        Metric(SAMPLES_CAUGHT.id, *where, hits / n, found.bounds, n, SAMPLES_CAUGHT.unit),
    ]
