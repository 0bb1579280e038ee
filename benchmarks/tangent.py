"""How well the tangent kernel predicts the whole-model attack: predicted beside trained, by model and label.

python benchmarks/tangent.py RUNS --out DIR [--page docs/results/tangent.md]

RUNS is a folder of runs, named as in `WORLDS`; those that are not there are left out. Every model is
attacked on 256 annotated images in three draws, twice: by training it (Adam, 100 steps, the best of three
rates) and by the tangent kernel. The linear probe on the last features, `few.auc@256`, is the naive predictor
beside it. One JSON file a model and label is kept in DIR: a benchmark that was ended goes on where it was,
and several can fill one DIR. What was trained before is read from the cache, and then has no seconds.
"""

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.attacks.few_shot import few_shot
from unlabel.audit.attacks.fine_tuning import tuned
from unlabel.audit.attacks.tangent import predicted
from unlabel.audit.inputs.attackers import ADAM
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.sets import Sets, sets_of
from unlabel.audit.setup import as_answered
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
        knowing: Other runs that know it.
    """

    name: str
    original: str
    label: str
    retrained: tuple[str, ...]
    others: tuple[str, ...] = ()
    knowing: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """All of them, the original first."""
        return (self.original, *self.knowing, *self.retrained, *self.others)


WORLDS = (
    World(
        "FairFace", "ff-o", "Male", ("ff-male-1", "ff-male-2", "ff-male-3"),
        ("ff-auto-0", "ff-auto-1", "ff-auto-2", "ff-cap4-0", "ff-p-1", "ff-pr-0.06", "ff-pr-0.12",
         "ff-pr-0.24-300", "ff-dp-300", "ff-dp-450", "ff-dp-600", "ff-erasure"),
    ),
    World("FairFace", "ff-o", "Child", ("ff-child-1", "ff-child-2", "ff-child-3"), ("ff-auto-Child",)),
    World("FairFace", "ff-o", "White", ("w-ff-White-full",)),
    World("Half of FairFace", "ha-o", "Male", ("ha-m-1", "ha-m-2", "ha-m-3"), ("ha-auto-0", "ha-dp-300")),
    World(
        "Drawings", "dr-o", "Arched_Eyebrows", tuple(f"dr-Arched_Eyebrows-{seed}" for seed in (1, 2, 3)),
        ("dr-auto-Arched_Eyebrows",),
    ),
    World("Drawings", "dr-o", "Male", ("w-dr-Male-full",)),
    World("Emojis", "em-o", "Man", ("w-em-Man-full",), knowing=("em-w-1",)),
    World("Emojis", "em-o", "Skin_Dark", ("w-em-Skin_Dark-full",)),
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """One model and label: AUC on the test split after each attack, by draw, and what they cost.

    Args:
        world, run, label, role: Which; the role is original, retrained or unlearned.
        trained, predicted: By draw.
        rate: Learning rate that was best for the trained attack.
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
    rate: float
    probe: float
    difference: float
    se: float
    ridges: list[float]
    shares: dict[str, float]
    trained_seconds: float | None
    predicted_seconds: float | None


FROM_CACHE = 3.0  # seconds below which nothing was trained or predicted, but a kept table was read
T = TypeVar("T")


def timed(attack: Callable[[], T]) -> tuple[T, float | None]:
    """What an attack made, and its processor seconds; None where a kept table was read."""
    begun = time.process_time()
    made = attack()
    seconds = time.process_time() - begun
    return made, seconds if seconds > FROM_CACHE else None


def measure(world: World, name: str, folder: Path, sets: Sets, run: engine.Run) -> Pair | None:
    """One model of a world; None where the probe split has too few images."""
    item, original = load_run(folder / name), load_run(folder / world.original)
    request = Request.make([world.label], original.config.labels)
    probe, test = (part.with_labels(request.labels) for part in (sets.probe, sets.test))
    column = request.labels.index(world.label)
    given = world.label, IMAGES
    trained, slow = timed(lambda: tuned(item, *given, ADAM, sets, request, OPTIONS, run))
    guessed, quick = timed(lambda: predicted(item, *given, sets, request, OPTIONS, run))
    if trained is None or guessed is None:
        return None
    target = test.target[:, column]
    drawn = trained.scores[: len(guessed.scores)]  # the same draws
    areas = [auc(draw, target, test.cluster) for draw in drawn], guessed.areas(target, test.cluster)
    off = mean(areas[1]) - mean(areas[0])
    read = [cached_outputs(item.model, part, run, key_of(item, sets.digest), name) for part in (probe, test)]
    question = ask(world.label, probe, test, sets.train.with_labels(request.labels))
    knows = name in (world.original, *world.knowing)
    role = "original" if knows else "retrained" if name in world.retrained else "unlearned"
    return Pair(
        world=world.name,
        run=name,
        label=world.label,
        role=role,
        trained=[area.value for area in areas[0]],
        predicted=[area.value for area in areas[1]],
        rate=trained.rate,
        probe=few_shot(read[0], read[1], question, OPTIONS)[IMAGES].mean.value,
        difference=off.value,
        se=off.se,
        ridges=[float(ridge) for ridge in guessed.ridges],
        shares=dict(guessed.shares),
        trained_seconds=slow,
        predicted_seconds=quick,
    )


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
                areas = " ".join(f"{value:.3f}" for value in areas_of(pair))
                print(f"{name} {world.label}: trained, predicted, probe {areas}", flush=True)


def _sets(original: Path, run: engine.Run) -> Sets:
    item = load_run(original)
    source, planting = planted_source(item.config, item.record, None, skip_bad=False, run=run)
    return sets_of(as_answered(source, item.config, item.path), OPTIONS.seed, planting)


# The page


Values = NDArray[np.float64]
RESAMPLES = 2000
LEAST = 4  # pairs for a correlation


def kept(out: Path) -> list[Pair]:
    """All pairs that are kept, in the order of `WORLDS`."""
    files = [out / f"{name}.{world.label}.json" for world in WORLDS for name in world.models]
    return [Pair(**json.loads(file.read_text())) for file in files if file.exists()]


def interval(statistic: Callable[[Values, Values], float], x: Values, y: Values) -> str:
    """A statistic of pairs and its 95 % interval, by resampling pairs."""
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(x), len(x)) for _ in range(RESAMPLES)]
    found = [statistic(x[each], y[each]) for each in draws if np.ptp(x[each]) > 0 and np.ptp(y[each]) > 0]
    low, high = np.quantile(found, [0.025, 0.975])
    return f"{short(statistic(x, y))} ({short(low)} to {short(high)})"


def correlation(x: Values, y: Values) -> float:
    """Pearson's."""
    return float(np.corrcoef(x, y)[0, 1])


def error(x: Values, y: Values) -> float:
    """Mean absolute."""
    return float(np.mean(np.abs(x - y)))


def short(value: float) -> str:
    """Three places, without the 0 before the point."""
    text = f"{abs(value):.3f}".removeprefix("0")
    return f"-{text}" if round(value, 3) < 0 else text


def excesses(pairs: Sequence[Pair]) -> list[tuple[Pair, Values]]:
    """Of each model that is not retrained: its AUC by each attack, less its retrained models' mean."""
    found = []
    for pair in pairs:
        same = [each for each in pairs if (each.world, each.label) == (pair.world, pair.label)]
        others = [areas_of(each) for each in same if each.role == "retrained"]
        if pair.role != "retrained" and others:
            found.append((pair, areas_of(pair) - np.mean(others, 0)))
    return found


def areas_of(pair: Pair) -> Values:
    """Trained, predicted, probed."""
    return np.array([np.mean(pair.trained), np.mean(pair.predicted), pair.probe])


def _summary(name: str, table: Values) -> list[str]:
    """Rows of both predictors against the trained attack; columns of the table as of `areas_of`."""
    return [
        f"| {name} | {len(table)} | {who} | {interval(correlation, guess, table[:, 0])} |"
        f" {interval(error, guess, table[:, 0])} | {short(float(np.mean(guess - table[:, 0])))} |"
        for who, guess in (("tangent kernel", table[:, 1]), ("linear probe", table[:, 2]))
        if len(table) >= LEAST
    ]


def refreshed(text: str, out: Path) -> str:
    """The page with its tables made anew: each stands between ``<!-- NAME -->`` and ``<!-- end -->``."""
    pairs = kept(out)
    made = {"summary": summary, "pairs": pair_rows, "excess": excess_rows, "costs": costs, "shares": shares}
    for name, table in made.items():
        rows = "\n".join(table(pairs))
        text = re.sub(rf"(?s)(<!-- {name} -->\n).*?(<!-- end -->)", rf"\g<1>\n{rows}\n\n\g<2>", text)
    return text


def summary(pairs: Sequence[Pair]) -> list[str]:
    """Both predictors against the trained attack, of all pairs and of some."""
    areas = np.array([areas_of(pair) for pair in pairs])
    knows = np.array([pair.role == "original" for pair in pairs])
    photos = np.array(["FairFace" in pair.world for pair in pairs])
    above = excesses(pairs)
    over = np.array([each for _, each in above])
    unlearned = np.array([pair.role == "unlearned" for pair, _ in above])
    seen = np.array(["FairFace" in pair.world for pair, _ in above])
    return [
        "| AUC | n | predictor | correlation | mean absolute error | mean error |",
        "| --- | --- | --- | --- | --- | --- |",
        *_summary("all", areas),
        *_summary("without originals", areas[~knows]),
        *_summary("without originals, photographs", areas[~knows & photos]),
        *_summary("without originals, drawings and emojis", areas[~knows & ~photos]),
        *_summary("excess over retrained models", over),
        *_summary("the same, unlearned models alone", over[unlearned]),
        *_summary("the same, unlearned models of photographs", over[unlearned & seen]),
    ]


def pair_rows(pairs: Sequence[Pair]) -> list[str]:
    """Every model and label."""
    return [
        "| data | label | model | trained | at rate | predicted | predicted less trained | probe |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *map(_pair_row, pairs),
    ]


def excess_rows(pairs: Sequence[Pair]) -> list[str]:
    """How much more each model tells than retrained ones, by each attack."""
    return [
        "| model | label | trained | predicted | probe |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {p.run} | {p.label} | {' | '.join(map(short, each))} |" for p, each in excesses(pairs)),
    ]


def _pair_row(pair: Pair) -> str:
    trained, guess, probe = map(short, areas_of(pair))
    return (
        f"| {pair.world} | {pair.label} | {pair.run}, {pair.role} | {trained} | {pair.rate:g} | {guess} |"
        f" {short(pair.difference)} ± {short(1.96 * pair.se)} | {probe} |"
    )


def costs(pairs: Sequence[Pair]) -> Iterator[str]:
    """Processor seconds of both, by data set; of what was not read from the cache."""
    yield "| processor seconds, median | n | trained | predicted | ratio |"
    yield "| --- | --- | --- | --- | --- |"
    for world in dict.fromkeys(pair.world for pair in pairs):
        here = [pair for pair in pairs if pair.world == world]
        slow = [pair.trained_seconds for pair in here if pair.trained_seconds is not None]
        quick = [pair.predicted_seconds for pair in here if pair.predicted_seconds is not None]
        if slow and quick:
            a, b = float(np.median(slow)), float(np.median(quick))
            yield f"| {world} | {len(slow)} and {len(quick)} | {a:.0f} | {b:.1f} | {short(b / a)} |"


def shares(pairs: Sequence[Pair]) -> Iterator[str]:
    """Where the predicted step lies, mean over models of a kind."""
    names = list(dict.fromkeys(name for pair in pairs for name in pair.shares))
    yield f"| part of the step | {' | '.join(names)} |"
    yield f"| --- |{' --- |' * len(names)}"
    for world, label in dict.fromkeys((pair.world, pair.label) for pair in pairs):
        for role in ("original", "retrained", "unlearned"):
            here = [p.shares for p in pairs if (p.world, p.label, p.role) == (world, label, role)]
            if here:
                means = [float(np.mean([each.get(name, 0.0) for each in here])) for name in names]
                yield f"| {world}, {label}, {role} ({len(here)}) | {' | '.join(map(short, means))} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[], help="ORIGINAL.LABEL of the worlds to measure")
    parser.add_argument("--page", type=Path, default=None)
    args = parser.parse_args()
    measure_all(args.runs, args.out, args.only)
    if args.page is not None:
        write_text(args.page, refreshed(args.page.read_text("utf-8"), args.out))
