"""How well the tangent kernel predicts the whole-model attack: predicted beside trained, by model and label.

python benchmarks/tangent.py RUNS --out DIR [--page docs/results/tangent.md]

RUNS is a folder of runs, named as in `WORLDS`; those that are not there are left out, and the page counts them.
Every model is attacked on 256 annotated images in three draws, twice: by training it (Adam, 100 steps, the best
of three rates) and by the tangent kernel. The linear probe on the last features, `few.auc@256`, is the naive
predictor beside it. One JSON file a model and label is kept in DIR: a benchmark that was ended goes on where it
was, and several can fill one DIR. What was trained before is read from the cache, and then has no seconds.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

from unlabel.audit.attacks.attackers import ADAM
from unlabel.audit.attacks.few_shot import few_shot
from unlabel.audit.attacks.fine_tuning import tuned
from unlabel.audit.attacks.tangent import predicted
from unlabel.audit.inputs import AuditOptions, ask
from unlabel.audit.setup import Sets, as_answered, sets_of
from unlabel.core import engine
from unlabel.core.files import write_text
from unlabel.core.request import Request
from unlabel.models.cached_outputs import cached_outputs
from unlabel.runs.folder import key_of, load_run
from unlabel.runs.record import planted_source
from unlabel.statistics.estimate import auc, mean

IMAGES = 256
OPTIONS = AuditOptions(budget="full", few=(IMAGES,))


@dataclass(frozen=True)
class World:
    """Models of one label, read on the original's data.

    Args:
        name: As the page has it.
        original: A run that knows the label.
        label: The label.
        retrained: Runs trained without it.
        others: Runs that forgot it.
    """

    name: str
    original: str
    label: str
    retrained: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """All of them, the original first."""
        return (self.original, *self.retrained, *self.others)


WORLDS = (
    World(
        "FairFace", "ff-o", "Male", ("ff-male-1", "ff-male-2", "ff-male-3"),
        ("ff-auto-0", "ff-auto-1", "ff-auto-2", "ff-cap4-0", "ff-p-1", "ff-pr-0.06", "ff-pr-0.12",
         "ff-dp-150", "ff-dp-300", "ff-dp-450", "ff-dp-600"),
    ),
    World("FairFace", "ff-o", "Child", ("ff-child-1", "ff-child-2", "ff-child-3"), ("ff-auto-Child",)),
    World("FairFace", "ff-o", "White", ("w-ff-White-full",)),
    World("Half of FairFace", "ha-o", "Male", ("ha-m-1", "ha-m-2", "ha-m-3"), ("ha-auto-0", "ha-dp-300")),
    World(
        "Drawings", "dr-o", "Arched_Eyebrows", tuple(f"dr-Arched_Eyebrows-{seed}" for seed in (1, 2, 3)),
        ("dr-auto-Arched_Eyebrows",),
    ),
    World("Drawings", "dr-o", "Male", ("w-dr-Male-full",)),
    World("Emojis", "em-o", "Man", ("w-em-Man-full",), ("em-w-1",)),
    World("Emojis", "em-o", "Skin_Dark", ("w-em-Skin_Dark-full",)),
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """One model and label: AUC on the test split after each attack, by draw, and what they cost.

    Args:
        world, run, label, role: Which; the role is original, retrained or unlearned.
        trained, predicted: By draw.
        probe: `few.auc@256`.
        difference, se: Predicted less trained, mean over draws, and its standard error by images.
        ridges: By draw.
        shares: By stage, of the predicted step.
        trained_seconds, predicted_seconds: Processor time; None where it was read from the cache.
    """

    world: str
    run: str
    label: str
    role: str
    trained: list[float]
    predicted: list[float]
    probe: float
    difference: float
    se: float
    ridges: list[float]
    shares: dict[str, float]
    trained_seconds: float | None
    predicted_seconds: float | None


FROM_CACHE = 3.0  # seconds below which nothing was trained or predicted, but a kept table was read


def measure(world: World, name: str, folder: Path, sets: Sets, run: engine.Run) -> Pair | None:
    """One model of a world; None where the probe split has too few images."""
    item, original = load_run(folder / name), load_run(folder / world.original)
    request = Request.make([world.label], original.config.labels)
    probe, test = (part.with_labels(request.labels) for part in (sets.probe, sets.test))
    column, seconds = request.labels.index(world.label), []
    made = []
    for attack in (
        lambda: tuned(item, world.label, IMAGES, ADAM, sets, request, OPTIONS, run),
        lambda: predicted(item, world.label, IMAGES, sets, request, OPTIONS, run),
    ):
        begun = time.process_time()
        made.append(attack())
        seconds.append(time.process_time() - begun)
    trained, guessed = made
    if trained is None or guessed is None:
        return None
    target = test.target[:, column]
    areas = [[auc(draw, target, test.cluster) for draw in each.scores] for each in (trained, guessed)]
    off = mean(areas[1]) - mean(areas[0])
    outputs = [
        cached_outputs(item.model, part, run, key_of(item, sets.digest), name) for part in (probe, test)
    ]
    question = ask(world.label, probe, test, sets.train.with_labels(request.labels))
    role = "original" if name == world.original else "retrained" if name in world.retrained else "unlearned"
    spent = [each if each > FROM_CACHE else None for each in seconds]
    return Pair(
        world.name, name, world.label, role,
        *([float(area.value) for area in each] for each in areas),
        few_shot(*outputs, question, OPTIONS)[IMAGES].mean.value,
        off.value, off.se, [float(ridge) for ridge in guessed.ridges], dict(guessed.shares), *spent,
    )  # fmt: skip


def measure_all(folder: Path, out: Path, only: Sequence[str]) -> None:
    """Every pair that is not kept yet."""
    run, read = engine.start(), cache(lambda original: _sets(folder / original, run))
    for world in WORLDS:
        for name in world.models:
            file = out / f"{name}.{world.label}.json"
            wanted = not only or f"{world.original}.{world.label}" in only
            if file.exists() or not wanted or not (folder / name / "unlabel.json").exists():
                continue
            pair = measure(world, name, folder, read(world.original), run)
            if pair is not None:
                write_text(file, json.dumps(asdict(pair), indent=1) + "\n")
                print(f"{name} {world.label} trained {np.mean(pair.trained):.3f}"
                      f" predicted {np.mean(pair.predicted):.3f} probe {pair.probe:.3f}", flush=True)  # fmt: skip


def _sets(original: Path, run: engine.Run) -> Sets:
    item = load_run(original)
    source, planting = planted_source(item.config, item.record, None, skip_bad=False, run=run)
    return sets_of(as_answered(source, item.config, item.path), OPTIONS.seed, planting)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[])
    args = parser.parse_args()
    measure_all(args.runs, args.out, args.only)
