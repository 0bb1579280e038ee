"""What is reported beside C4 if it is asked for: attackers whom no method was tuned against, positions, what
training the whole model is predicted to find, and what a handful of annotated images tells.

Nothing here decides a claim. Beside each figure stands that of the retrained models, as everywhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from unlabel.audit.attacks.cross_fit import both
from unlabel.audit.attacks.few_shot import Relearnt
from unlabel.audit.attacks.metric_rows import row
from unlabel.audit.attacks.probes import Readings as Probed
from unlabel.audit.attacks.probes import linear, multilayer
from unlabel.audit.attacks.prototypes import Handful
from unlabel.audit.attacks.stitching import stitched_readings
from unlabel.audit.attacks.whole_model import Learner, Taught, joined
from unlabel.audit.document.results import Metric
from unlabel.audit.document.stages import is_stage
from unlabel.audit.figures import (
    ALL_STAGES,
    ALL_STAGES_MLP,
    GRID_PROBE,
    STAGE_MLP,
    STITCHED_OUTPUT,
    TANGENT_AUC,
    TANGENT_SHARE,
    TRIED_BY,
    TRIED_BY_BEST,
)
from unlabel.audit.inputs.attackers import ADAM, ATTACKERS, CURVE, POSITIONS
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.audit.inputs.subject import Subject
from unlabel.audit.inputs.tuned import Predicted
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.statistics.estimate import Estimate, mean

Place = tuple[str, str | None]  # a figure, and the stage that it is read at
Probe = Callable[[Outputs, Outputs, Question, AuditOptions], Probed]


@dataclass(frozen=True)
class Foretold:
    """What training one model whole is predicted to find.

    Args:
        relearnt: AUC on the test split.
        shares: By stage, the part of the predicted step that lies there; see `Predicted`.
    """

    relearnt: Relearnt
    shares: Mapping[str, float]


@dataclass(frozen=True)
class HeldOut:
    """Measured by label, of every model in the audit's order (before, after, references).

    Args:
        taught: By attacker and number of images: what the model tells after that training.
        depth: By figure and stage: probes that see positions, or several stages.
        foretold: By number of images: what training the whole model is predicted to find.
        handful: By figure and number of images: what means and clusters of a handful of images tell.
    """

    taught: Mapping[str, Sequence[Taught]] = field(default_factory=dict)
    depth: Mapping[str, Sequence[Mapping[Place, Estimate]]] = field(default_factory=dict)
    foretold: Mapping[str, Sequence[Mapping[int, Foretold]]] = field(default_factory=dict)
    handful: Mapping[str, Sequence[Handful]] = field(default_factory=dict)

    def tried(self, label: str, options: AuditOptions) -> list[tuple[str, int]]:
        """Attackers and numbers of images that are reported, `ADAM` first; those that every model has."""
        names = [ADAM.name, *(name for name in options.asked if name in ATTACKERS)]
        models = self.taught.get(label, ())
        there = [each for each in (models[0] if models else ()) if all(each in model for model in models)]
        sizes = dict.fromkeys(n for name, n in there if name in names[1:])
        return [(name, n) for n in sizes for name in names if (name, n) in there]

    def sizes(self, label: str, options: AuditOptions) -> list[int]:
        """Numbers of images of the curve: all on which `ADAM` trained every model."""
        models = self.taught.get(label, ())
        if CURVE not in options.asked or not models:
            return []
        return sorted(n for name, n in models[0] if name == ADAM.name and all((name, n) in m for m in models))


def best(found: Taught, tried: Sequence[tuple[str, int]], n: int) -> tuple[str, Learner]:
    """The attacker who did best on images held back, of those who had n images."""

    def held(name: str) -> float:
        looks = found[name, n].looks
        return max(looks) if name in ATTACKERS and ATTACKERS[name].keeps == "best" else looks[-1]

    name = max((name for name, size in tried if size == n), key=held)
    return name, found[name, n]


def foretold(subject: Subject, predicted: Sequence[Predicted], question: Question) -> dict[int, Foretold]:
    """What is predicted of one model and label, by number of annotated images.

    Args:
        subject: The model.
        predicted: Of all models and labels.
        question: The label.
    """
    by_images = {}
    for item in predicted:
        if (item.run, item.label) == (subject.run, question.label):
            areas = item.areas(question.test, question.test_cluster)
            relearnt = Relearnt(mean(areas), tuple(area.value for area in areas))
            by_images[item.images] = Foretold(relearnt, item.shares)
    return by_images


def depth_readings(subject: Subject, question: Question, options: AuditOptions) -> dict[Place, Estimate]:
    """Probes on cells of positions, on each stage and on all stages together; and stitches.

    What was asked for. One seed of probes: these figures only describe.

    Args:
        subject: A model that was read at its stages and cells, or stitched.
        question: The label.
        options: Sizes and seed of the probes.
    """
    stitched: dict[Place, Estimate] = {
        (STITCHED_OUTPUT.id, stage): found for stage, found in stitched_readings(subject, question).items()
    }
    return stitched | (position_readings(subject, question, options) if POSITIONS in options.asked else {})


def position_readings(subject: Subject, question: Question, options: AuditOptions) -> dict[Place, Estimate]:
    """Probes on cells of positions, on each stage by an MLP, and on all stages together."""
    few = replace(options, probe_seeds=1)

    def read(layers: Sequence[str], probe: Probe, model: Subject, asked: Question) -> dict[str, Estimate]:
        fitted, judged = (joined(part, layers) for part in (model.probe, model.test))
        return {"adv": probe(fitted, judged, asked, few).estimates(asked)[0]}

    names = list(subject.probe.features)
    stages = [name for name in names if is_stage(name)]
    wanted: dict[Place, tuple[list[str], Probe]] = {}
    for name in names:
        if name.startswith("cells"):
            wanted[GRID_PROBE.id, name.replace("cells", "stage")] = ([name], linear)
    wanted |= {(STAGE_MLP.id, name): ([name], multilayer) for name in stages}
    if stages:
        wanted[ALL_STAGES.id, None] = ([*stages, PENULTIMATE], linear)
        wanted[ALL_STAGES_MLP.id, None] = ([*stages, PENULTIMATE], multilayer)
    return {
        place: both(partial(read, layers, probe), subject, question)["adv"]
        for place, (layers, probe) in wanted.items()
    }


def held_out_rows(found: HeldOut, subjects: Sequence[Subject], options: AuditOptions) -> list[Metric]:
    """Every figure as a row of ``metrics[]``."""
    rows: list[Metric] = []
    for label, models in found.taught.items():
        tried = found.tried(label, options)
        curve = [(ADAM.name, n) for n in found.sizes(label, options)]
        for subject, taught in zip(subjects, models, strict=True):
            for name, n in dict.fromkeys([*tried, *curve]):
                rows.append(row(TRIED_BY[name].of(n), label, subject, taught[name, n].relearnt.mean))
            for n in dict.fromkeys(n for _, n in tried):
                _, learner = best(taught, tried, n)
                rows.append(row(TRIED_BY_BEST.of(n), label, subject, learner.relearnt.mean))
    for label, models in found.foretold.items():
        for subject, sizes in zip(subjects, models, strict=True):
            for n, item in sizes.items():
                rows.append(row(TANGENT_AUC.of(n), label, subject, item.relearnt.mean))
                for stage, share in item.shares.items():
                    where = (label, subject.role, subject.run, share, None, n, TANGENT_SHARE.unit, stage)
                    rows.append(Metric(TANGENT_SHARE.of(n), *where))
    for label, models in found.handful.items():
        for subject, told in zip(subjects, models, strict=True):
            for (figure, n), relearnt in told.items():
                rows.append(row(f"{figure}{n}", label, subject, relearnt.mean))
    for label, models in found.depth.items():
        for subject, readings in zip(subjects, models, strict=True):
            for (figure, stage), item in readings.items():
                rows.append(row(figure, label, subject, item, stage=stage))
    return rows
