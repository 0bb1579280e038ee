"""What the full budget adds to C4: the whole model trained on few annotations, and probes on earlier stages.

Both are open to whoever has the weights. Both are set against the retrained models, since features relearn
fast in any network, and early ones tell something of every label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from unlabel.audit.contrasts import contrast
from unlabel.audit.crossing import both
from unlabel.audit.judging import Cell, Readings, reference_margin, unit_of
from unlabel.audit.outputs import OwnOutput
from unlabel.audit.probes import linear
from unlabel.audit.relearn import Relearnt, Tuned, faster
from unlabel.audit.rows import row
from unlabel.audit.statistics import auc, mean
from unlabel.audit.subject import AuditOptions, Question, Subject
from unlabel.errors import OptionError
from unlabel.findings import Metric
from unlabel.models.features import PENULTIMATE, Outputs

TUNE, STEPS = "tune.auc@", "tune.steps@"
BELOW = ("probe.adv.lin", "probe.bits.lin")
REACHED = 0.95  # of what the original's own output is above one half


@dataclass(frozen=True)
class Learner:
    """One model tuned on one number of images: how well it ends, at which rate, and when it was good."""

    relearnt: Relearnt
    rate: float
    steps: int | None  # until it told nearly as much as the original's own output; None: never


@dataclass(frozen=True)
class Deeper:
    """Measured by label, of every model in the audit's order (before, after, references).

    Args:
        tuned: By number of images; empty where no model could be trained.
        stages: By stage before the last features, the attacks of `BELOW`; empty where there is none.
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
        return sorted({stage for _, after, *_ in self.stages.values() for stage in after})


def learners(
    subject: Subject, tuned: Sequence[Tuned], original: OwnOutput, question: Question
) -> dict[int, Learner]:
    """What a model's tuned copies tell of a label, by number of images.

    Args:
        subject: The model.
        tuned: Of all models and labels.
        original: The original's own output, which says what counts as nearly as good.
        question: The label.
    """
    goal = 0.5 + REACHED * abs(original.signed(question).value) / 2
    found = {}
    for item in tuned:
        if (item.run, item.label) == (subject.run, question.label):
            areas = [auc(draw, question.test, question.test_cluster) for draw in item.scores]
            relearnt = Relearnt(mean(areas), tuple(area.value for area in areas))
            found[item.images] = Learner(relearnt, item.rate, item.steps_to(goal))
    return found


def in_words(stage: str) -> str:
    """A stage as it is spoken of.

    >>> in_words("stage3")
    'stage 3, before the last features,'
    """
    return f"stage {stage.removeprefix('stage')}, before the last features,"


def stage_readings(subject: Subject, question: Question, options: AuditOptions) -> dict[str, Readings]:
    """The linear probe at every stage of a model that was read."""

    def fitted(stage: str, model: Subject, asked: Question) -> Readings:
        probe, test = (
            Outputs(part.logits, {PENULTIMATE: part.features[stage]}) for part in (model.probe, model.test)
        )
        return dict(zip(BELOW, linear(probe, test, asked, options).estimates(asked), strict=True))

    stages = [name for name in subject.probe.features if name != PENULTIMATE]
    return {stage: both(partial(fitted, stage), subject, question) for stage in stages}


def deeper_cells(deeper: Deeper, options: AuditOptions) -> list[Cell]:
    """A test for every label and number of images, and for every label, stage and attack."""
    cells = [
        Cell(
            label,
            f"{TUNE}{n}",
            faster(after[n].relearnt, [reference[n].relearnt for reference in references]),
            options.d_few,
        )
        for label, (_, after, *references) in deeper.tuned.items()
        if references
        for n in after
    ]
    return cells + [
        Cell(
            label,
            figure,
            contrast(after[stage][figure], [reference[stage][figure] for reference in references]),
            reference_margin(figure, options),
            stage=stage,
        )
        for label, (_, after, *references) in deeper.stages.items()
        if references
        for stage in after
        for figure in BELOW
    ]


def tuned_table(deeper: Deeper, options: AuditOptions) -> dict[str, dict[str, dict[str, object]]]:
    """By label and number of images: D of the unlearned model and of the original, rates and steps."""
    table: dict[str, dict[str, dict[str, object]]] = {}
    for label, (before, after, *references) in deeper.tuned.items():
        for n in after:
            others = [reference[n] for reference in references]
            found: dict[str, object] = {
                "rates": {
                    "before": before[n].rate,
                    "after": after[n].rate,
                    "references": [o.rate for o in others],
                },
                "steps": {
                    "before": before[n].steps,
                    "after": after[n].steps,
                    "references": [o.steps for o in others],
                },
            }
            if others:
                relearnt = [other.relearnt for other in others]
                ours, original = faster(after[n].relearnt, relearnt), faster(before[n].relearnt, relearnt)
                found |= {
                    "excess": ours.value,
                    "upper": ours.upper(options.level),
                    "excess_of_original": original.value,
                    "original_would_fail": original.lower(options.level) > options.d_few,
                }
            table.setdefault(label, {})[str(n)] = found
    return table


def stage_table(deeper: Deeper, options: AuditOptions) -> dict[str, dict[str, dict[str, object]]]:
    """By label and stage: what the probe tells more than on retrained models, here and in the original."""
    table: dict[str, dict[str, dict[str, object]]] = {}
    for label, (before, after, *references) in deeper.stages.items():
        for stage in after:
            found: dict[str, object] = {}
            for figure in BELOW if references else ():
                others = [reference[stage][figure] for reference in references]
                ours, original = (contrast(model[stage][figure], others) for model in (after, before))
                unit = unit_of(figure)
                found |= {
                    f"excess_{unit}": ours.value,
                    f"upper_{unit}": ours.upper(options.level),
                    f"excess_of_original_{unit}": original.value,
                }
            table.setdefault(label, {})[stage] = found
    return table


def deeper_rows(deeper: Deeper, subjects: Sequence[Subject]) -> list[Metric]:
    """Every figure as a row of ``metrics[]``; no row of steps where the mark was not reached."""
    rows: list[Metric] = []
    for label, models in deeper.tuned.items():
        for subject, sizes in zip(subjects, models, strict=True):
            for n, found in sizes.items():
                rows.append(row(f"{TUNE}{n}", label, subject, found.relearnt.mean, "auc"))
                if n == max(sizes) and found.steps is not None:
                    where = (label, subject.role, subject.run)
                    steps, images = float(found.steps), found.relearnt.mean.n
                    rows.append(Metric(f"{STEPS}{n}", *where, steps, None, images, "steps"))
    for label, models in deeper.stages.items():
        for subject, stages in zip(subjects, models, strict=True):
            for stage, readings in stages.items():
                for figure, item in readings.items():
                    unit = unit_of(figure)
                    low = 0.0 if unit == "bits" else -1.0
                    rows.append(row(figure, label, subject, item, unit, low, stage=stage))
    return rows
