"""What is reported beside C4 if it is asked for: attackers whom no method was tuned against, and positions.

Nothing here decides a claim. Beside each figure stands that of the retrained models, as everywhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from unlabel.audit.attacks.attackers import ADAM, ATTACKERS, CURVE
from unlabel.audit.attacks.cross_fit import both
from unlabel.audit.attacks.metric_rows import row
from unlabel.audit.attacks.probes import Readings as Probed
from unlabel.audit.attacks.probes import linear, multilayer
from unlabel.audit.attacks.whole_model import Learner, Taught
from unlabel.audit.figures import (
    ALL_STAGES,
    ALL_STAGES_MLP,
    GRID_PROBE,
    STAGE_MLP,
    TRIED_BY,
    TRIED_BY_BEST,
)
from unlabel.audit.inputs import AuditOptions, Question, Subject
from unlabel.audit.results import Metric
from unlabel.models.features import PENULTIMATE, Outputs
from unlabel.statistics.estimate import Estimate

Place = tuple[str, str | None]  # a figure, and the stage that it is read at
Probe = Callable[[Outputs, Outputs, Question, AuditOptions], Probed]


@dataclass(frozen=True)
class HeldOut:
    """Measured by label, of every model in the audit's order (before, after, references).

    Args:
        taught: By attacker and number of images: what the model tells after that training.
        depth: By figure and stage: probes that see positions, or several stages.
    """

    taught: Mapping[str, Sequence[Taught]] = field(default_factory=dict)
    depth: Mapping[str, Sequence[Mapping[Place, Estimate]]] = field(default_factory=dict)

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


def depth_readings(subject: Subject, question: Question, options: AuditOptions) -> dict[Place, Estimate]:
    """Probes on cells of positions, on each stage by a neural probe, and on all stages together.

    One seed of probes: these figures only describe.

    Args:
        subject: A model that was read at its stages and cells.
        question: The label.
        options: Sizes and seed of the probes.
    """
    few = replace(options, probe_seeds=1)

    def read(layers: Sequence[str], probe: Probe, model: Subject, asked: Question) -> dict[str, Estimate]:
        parts = [
            Outputs(part.logits, {PENULTIMATE: np.concatenate([part.features[name] for name in layers], 1)})
            for part in (model.probe, model.test)
        ]
        return {"adv": probe(parts[0], parts[1], asked, few).estimates(asked)[0]}

    names = list(subject.probe.features)
    stages = [name for name in names if name.startswith("stage")]
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
    for label, models in found.depth.items():
        for subject, readings in zip(subjects, models, strict=True):
            for (figure, stage), item in readings.items():
                rows.append(row(figure, label, subject, item, stage=stage))
    return rows
