"""What the full budget measures for C4: the model trained on few annotations, probes on earlier stages.

Each earlier stage is read alone, and all of them together with the last features. Whoever has the weights
reads them together: where in the network a label lies is the model's choice, and differs between retrained
models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from unlabel.audit.attacks.annotated import tune_sizes
from unlabel.audit.attacks.cross_fit import both
from unlabel.audit.attacks.few_shot import Relearnt
from unlabel.audit.attacks.metric_rows import row
from unlabel.audit.attacks.outputs import OwnOutput
from unlabel.audit.attacks.probes import linear
from unlabel.audit.document.results import Metric
from unlabel.audit.document.stages import TOGETHER, is_stage
from unlabel.audit.figures import AT_STAGES, FINE_TUNED, TUNING_STEPS, Readings
from unlabel.audit.inputs.attackers import ADAM
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.audit.inputs.subject import Subject
from unlabel.audit.inputs.tuned import Tuned
from unlabel.core.errors import OptionError
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.statistics.estimate import auc, mean

REACHED = 0.95  # of what the original's own output is above one half


@dataclass(frozen=True)
class Learner:
    """One model tuned on one number of images: how well it ends, at which rate, and when it was good.

    Args:
        relearnt: AUC on the test split.
        rate: The learning rate.
        steps: Until it told nearly as much as the original's own output; None: never.
        looks: AUC on images held back as it was trained, mean over the draws that chose the rate.
        every: Steps between two of them.
    """

    relearnt: Relearnt
    rate: float
    steps: int | None
    looks: tuple[float, ...] = ()
    every: int = ADAM.every


@dataclass(frozen=True)
class WeightAttacks:
    """Measured by label, of every model in the audit's order (before, after, references).

    Args:
        tuned: By number of images; empty where no model could be trained.
        stages: By stage before the last features, and for `TOGETHER`, the attacks of `AT_STAGES`; empty where
            there is no stage.
    """

    tuned: Mapping[str, Sequence[Mapping[int, Learner]]] = field(default_factory=dict)
    stages: Mapping[str, Sequence[Mapping[str, Readings]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for label in {*self.tuned, *self.stages}:
            for what, models in (
                ("sizes", self.tuned.get(label, ())),
                ("stages", self.stages.get(label, ())),
            ):
                if len({frozenset(found) for found in models}) > 1:
                    raise OptionError(
                        f"the models of this audit were not all tuned on, or read at, the same {what};"
                        " pass tuned= and features of every model"
                    )

    @property
    def sizes(self) -> list[int]:
        """Numbers of images for which any label has a figure of the unlearned model."""
        return sorted({n for _, after, *_ in self.tuned.values() for n in after})

    @property
    def places(self) -> list[str]:
        """Stages that were read."""
        read = {stage for _, after, *_ in self.stages.values() for stage in after}
        return sorted(read - {TOGETHER})


Taught = Mapping[tuple[str, int], Learner]  # by attacker and number of images


def taught(
    subject: Subject, tuned: Sequence[Tuned], original: OwnOutput, question: Question
) -> dict[tuple[str, int], Learner]:
    """What a model's tuned copies tell of a label, by attacker and number of images.

    Args:
        subject: The model.
        tuned: Of all models and labels.
        original: The original's own output, which says what counts as nearly as good.
        question: The label.
    """
    goal = 0.5 + REACHED * abs(original.signed(question).value) / 2
    learners = {}
    for item in tuned:
        if (item.run, item.label) == (subject.run, question.label):
            areas = [auc(draw, question.test, question.test_cluster) for draw in item.scores]
            relearnt = Relearnt(mean(areas), tuple(area.value for area in areas))
            looks = tuple(map(float, item.curve))
            learners[item.attacker, item.images] = Learner(
                relearnt, item.rate, item.steps_to(goal), looks, item.every
            )
    return learners


def judged(found: Taught, question: Question, options: AuditOptions) -> dict[int, Learner]:
    """Those by which C4 is judged, by number of images."""
    sizes = tune_sizes(question.probe, options)
    return {n: item for (name, n), item in found.items() if name == ADAM.name and n in sizes}


def stage_readings(subject: Subject, question: Question, options: AuditOptions) -> dict[str, Readings]:
    """The linear probe at every stage of a model that was read, and on all of them together.

    Args:
        subject: With its stages among its features; without, nothing is read.
        question: The label.
        options: Sizes and seed of the probes.
    """

    def fitted(layers: Sequence[str], model: Subject, asked: Question) -> Readings:
        probe, test = (joined(part, layers) for part in (model.probe, model.test))
        return dict(zip(AT_STAGES, linear(probe, test, asked, options).estimates(asked), strict=True))

    stages = [name for name in subject.probe.features if is_stage(name)]
    layers = {stage: [stage] for stage in stages} | ({TOGETHER: [*stages, PENULTIMATE]} if stages else {})
    return {name: both(partial(fitted, read), subject, question) for name, read in layers.items()}


def joined(outputs: Outputs, layers: Sequence[str]) -> Outputs:
    """Outputs whose last features are these layers' side by side."""
    tables = [outputs.features[name] for name in layers]
    return Outputs(outputs.logits, {PENULTIMATE: np.concatenate(tables, axis=1)})


def weight_rows(weights: WeightAttacks, subjects: Sequence[Subject]) -> list[Metric]:
    """Every figure as a row of ``metrics[]``; no row of steps where the mark was not reached."""
    rows: list[Metric] = []
    for label, models in weights.tuned.items():
        for subject, sizes in zip(subjects, models, strict=True):
            for n, found in sizes.items():
                rows.append(row(FINE_TUNED.of(n), label, subject, found.relearnt.mean))
                if n == max(sizes) and found.steps is not None:
                    where = (label, subject.role, subject.run)
                    steps, images = float(found.steps), found.relearnt.mean.n
                    rows.append(Metric(TUNING_STEPS.of(n), *where, steps, None, images, TUNING_STEPS.unit))
    for label, models in weights.stages.items():
        for subject, stages in zip(subjects, models, strict=True):
            for stage, readings in stages.items():
                rows += [row(figure, label, subject, item, stage=stage) for figure, item in readings.items()]
    return rows
