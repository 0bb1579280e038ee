"""Every attack on one label, of a model that need not have an output for it, and the controls.

Where the label has an output, it is read by itself and hidden from the attack on the others. What is attacked
beside the model: the same network before any training, references, the pixels alone, the true other labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np

from unlabel.audit.attacks import controls
from unlabel.audit.attacks.cross_fit import both
from unlabel.audit.attacks.logistic import Standard
from unlabel.audit.attacks.outputs import OwnOutput, floor, read_others
from unlabel.audit.attacks.probes import linear, read_features
from unlabel.audit.attacks.whole_model import stage_readings
from unlabel.audit.figures import FLOOR, LINEAR_PROBE, OWN
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.audit.inputs.subject import Subject, has_features
from unlabel.core.parallel import Job
from unlabel.data.dataset import Dataset
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.statistics.estimate import Estimate

PIXELS, SHUFFLED, PLANTED = "pixels.auc", "control.shuffled", "control.planted"
PLANTED_LEAST = 0.9  # AUC with which a label that the features carry must be found

ModelRole: TypeAlias = Literal["model", "untrained", "reference"]
Key: TypeAlias = tuple[str, str | None]  # id of a figure, and where it is read


@dataclass(frozen=True)
class Answers:
    """One model on the probe and test splits.

    Args:
        name: As the user named it.
        role: Its part.
        labels: Names of its outputs; empty where nobody names them.
        exclusive: Whether it answers by a softmax over its labels.
        subject: Its outputs.
    """

    name: str
    role: ModelRole
    labels: tuple[str, ...]
    exclusive: bool
    subject: Subject

    def column(self, label: str) -> int | None:
        """The output for a label; None where there is none."""
        return self.labels.index(label) if label in self.labels else None


@dataclass(frozen=True)
class Asked:
    """The models, the images and what is known of them.

    Args:
        answers: The model, then an untrained one where there is one, then the references.
        probe, test: The images; without pixels, of outputs in a file.
        has_pixels: Whether the images are here.
        overlap: What the splits share, in a sentence; None: nothing.
        notes: For the reader.
        source: Where the images are from.
    """

    answers: Sequence[Answers]
    probe: Dataset
    test: Dataset
    has_pixels: bool
    overlap: str | None
    notes: tuple[str, ...] = ()
    source: str = ""


def answering(name: str, probe: Outputs, test: Outputs) -> Subject:
    """A model's outputs on the probe and test splits as attacks take them; of no training images."""
    nothing = Outputs(probe.logits[:0], {key: table[:0] for key, table in probe.features.items()})
    return Subject(name, "before", probe, test, nothing)


def jobs_of(asked: Asked, question: Question, options: AuditOptions) -> dict[tuple[str, int], Job]:
    """Every attack on every model, and the controls."""
    label, first = question.label, asked.answers[0]
    jobs: dict[tuple[str, int], Job] = {}
    for at, answers in enumerate(asked.answers):
        column = answers.column(label)
        hidden = () if column is None else (column,)
        subject = answers.subject
        if column is not None:
            jobs["own", at] = partial(_own, answers, replace(question, column=column))
        if subject.test.logits.shape[1] > len(hidden):
            jobs["others", at] = partial(_others, subject, hidden, question, options)
        if has_features(subject):
            jobs["features", at] = partial(_features, subject, question, options)
        if len(subject.probe.features) > 1:
            jobs["stages", at] = partial(_stages, subject, question, options)
    if asked.has_pixels:
        jobs["pixels", 0] = partial(_pixels, asked, question, options)
    others = [name for name in first.labels if name != label]
    if others and set(others) <= set(asked.test.labels) and not asked.test.exclusive and not first.exclusive:
        jobs["truth", 0] = partial(_truth, asked, others, question, options)
    column = first.column(label)
    hidden = () if column is None else (column,)
    jobs["shuffled", 0] = partial(_shuffled, first.subject, hidden, question, options)
    jobs["planted", 0] = partial(_planted, first.subject, question, options)
    return jobs


def _own(answers: Answers, question: Question) -> dict[Key, Estimate]:
    own_output = OwnOutput.of(answers.subject, question, exclusive=answers.exclusive)
    return {(OWN.id, None): own_output.signed(question).absolute()}


def _others(
    subject: Subject, hidden: tuple[int, ...], question: Question, options: AuditOptions
) -> dict[Key, Estimate]:
    readings = both(lambda s, q: read_others(s, hidden, q, options), subject, question)
    return {(id_, None): item for id_, item in readings.items()}


def _features(subject: Subject, question: Question, options: AuditOptions) -> dict[Key, Estimate]:
    readings = both(lambda s, q: read_features(s.probe, s.test, q, options), subject, question)
    return {(id_, PENULTIMATE): item for id_, item in readings.items()}


def _stages(subject: Subject, question: Question, options: AuditOptions) -> dict[Key, Estimate]:
    return {
        (id_, stage): item
        for stage, readings in stage_readings(subject, question, options).items()
        for id_, item in readings.items()
        if id_ == LINEAR_PROBE.id
    }


def _pixels(asked: Asked, question: Question, options: AuditOptions) -> dict[Key, Estimate]:
    """What anyone with the picture finds without the model; as the audit's control on raw images."""
    pictures = controls.raw_images(asked.probe, asked.test, options.seed)
    probe, test = (
        Outputs(np.zeros((len(x), 1), np.float32), {PENULTIMATE: x.astype(np.float32)}) for x in pictures
    )
    readings = both(
        lambda s, q: {
            PIXELS: controls.read_raw((s.probe.features[PENULTIMATE], s.test.features[PENULTIMATE]), q)
        },
        answering("pixels", probe, test),
        question,
    )
    return {(PIXELS, None): readings[PIXELS]}


def _truth(
    asked: Asked, known: Sequence[str], question: Question, options: AuditOptions
) -> dict[Key, Estimate]:
    """What the true values of the model's other labels tell."""
    probe, test = (
        Outputs(part.with_labels(known).target.astype(np.float32), {}) for part in (asked.probe, asked.test)
    )
    readings = both(
        lambda s, q: {
            FLOOR.id: floor(s.probe.logits.astype(np.int8), s.test.logits.astype(np.int8), q, options)
        },
        answering("true labels", probe, test),
        question,
    )
    return {(FLOOR.id, None): readings[FLOOR.id]}


def _shuffled(
    subject: Subject, hidden: tuple[int, ...], question: Question, options: AuditOptions
) -> dict[str, Any]:
    """Linear attacks fitted on shuffled annotations: they must not find the label."""
    if subject.test.logits.shape[1] == len(hidden):
        hidden = ()
    readings = controls.permuted(subject, hidden, question, options)
    return {
        f"{SHUFFLED}.{name}": {
            "value": _auc(item.value),
            "ci": [_auc(item.lower(0.975)), _auc(item.upper(0.975))],
            "passed": item.lower(options.level) <= options.d_permuted,
        }
        for name, item in readings.items()
    }


def _planted(subject: Subject, question: Question, options: AuditOptions) -> dict[str, Any]:
    """A label that the features carry, as it is made of them: the probe must find it.

    Present where the first principal component of the features, or of the outputs, is above its median.
    """
    tables = [
        part.features.get(PENULTIMATE, part.logits).astype(np.float64)
        for part in (subject.probe, subject.test)
    ]
    standard = Standard.of(tables[0])
    x, x_test = (standard(table) for table in tables)
    direction = np.linalg.svd(x - x.mean(0), full_matrices=False)[2][0]
    cut = float(np.median(x @ direction))
    target = [(table @ direction > cut).astype(np.int8) for table in (x, x_test)]
    if min(len(np.unique(part)) for part in target) < 2:
        return {PLANTED: {"value": 0.5, "passed": False}}
    planted = replace(question, probe=target[0], test=target[1], crossed=False)
    probe, test = (
        Outputs(part.logits, {PENULTIMATE: table.astype(np.float32)})
        for part, table in zip((subject.probe, subject.test), tables, strict=True)
    )
    item = linear(probe, test, planted, replace(options, probe_seeds=1)).estimates(planted)[0]
    value = _auc(item.value)
    return {PLANTED: {"value": value, "n": item.n, "passed": value >= PLANTED_LEAST}}


def _auc(advantage: float) -> float:
    return 0.5 + advantage / 2
