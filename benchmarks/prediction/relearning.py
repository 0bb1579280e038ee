"""What probes on few annotated images tell of every model of a world, and how far predictions miss it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from prediction.fitted import PARAMETERS
from prediction.measured import MOST, OPTIONS, asked, known_of, read
from prediction.worlds import SHARES, World
from unlabel.audit.attacks.explained import Explained
from unlabel.audit.attacks.few_shot import Relearnt, few_shot
from unlabel.audit.attacks.prediction import RULES, Rule, d_prime, predict_relearning, share
from unlabel.audit.inputs.memory import Memory, key_of
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.short_pair import ShortPair
from unlabel.core.engine import Run
from unlabel.core.reading import file_sha256
from unlabel.runs.files import MODEL
from unlabel.statistics.estimate import Estimate, mean

SIZES = (64, 256)  # annotated images at which the error is measured
WEIGHT = RULES["adv"].weight  # of the short pair
FEW = AuditOptions(budget="standard", probe_seeds=1)
Curves = Mapping[int, Relearnt]


@dataclass(frozen=True)
class Taught:
    """One world.

    Args:
        world: Which.
        models: By folder, and by number of annotated images: what probes on them tell.
        known: What the retained annotations explain of the label.
    """

    world: World
    models: Mapping[Path, Curves]
    known: Explained

    @property
    def shorts(self) -> list[ShortPair[Curves]]:
        """Of the short pairs."""
        return [
            ShortPair(share, self.models[original], self.models[retrained])
            for share, (original, retrained) in zip(SHARES, self.world.shorts, strict=True)
        ]

    @property
    def retrained(self) -> list[Curves]:
        """Of the full Retrains."""
        return [self.models[path] for path in self.world.retrained]

    @property
    def sizes(self) -> list[int]:
        """Numbers of images that C4 judges."""
        return [n for n in self.models[self.world.original] if n >= FEW.few_judged]


@dataclass(frozen=True)
class Miss:
    """One number of images in one world.

    Args:
        taught: The world.
        n: Annotated images.
        level: AUC that was predicted, with the drift of its mean.
        truth: Mean of the full Retrains.
    """

    taught: Taught
    n: int
    level: Relearnt
    truth: float

    @property
    def value(self) -> float:
        """Prediction less truth, AUC."""
        return self.level.mean.value - self.truth


def taught(world: World, where: Run, scratch: Path) -> Taught:
    """Reads every model of a world once, into the scratch folder."""
    memory = Memory(scratch / "few")
    question = asked(world.original, world.label, where)
    models = {}
    for path in world.models:
        key = key_of("few", file_sha256(path / MODEL), world.label, FEW.to_json(), MOST)
        if (found := memory.recall(key)) is None:
            where.log.say(f"{world.name}: {path.name}")
            subject = read(path, world.original, where)
            found = _packed(few_shot(subject.probe, subject.test, question, FEW))
            memory.keep(key, found)
        models[path] = _unpacked(found)  # pyright: ignore[reportArgumentType]  (only estimates are kept here)
    key = key_of(
        "explained-by-probe", file_sha256(world.original / MODEL), world.label, OPTIONS.to_json(), MOST
    )
    if (kept := memory.recall(key)) is None:
        known = known_of(world, question, where)
        kept = {name: _number(getattr(known, name)) for name in ("told", "found")}
        memory.keep(key, kept)
    return Taught(world, models, Explained(**{name: item.value for name, item in kept.items()}))


def _number(value: float) -> Estimate:
    none = np.zeros(0)
    return Estimate(value, none, none.astype(np.int64), none.astype(bool))


def _packed(curves: Curves) -> dict[str, Estimate]:
    return {
        f"{n} {at}": item
        for n, found in curves.items()
        for at, item in enumerate([found.mean, *map(_number, found.draws)])
    }


def _unpacked(found: Mapping[str, Estimate]) -> dict[int, Relearnt]:
    sizes = dict.fromkeys(int(name.split()[0]) for name in found)
    curves = {}
    for n in sizes:
        first, *draws = (item for name, item in found.items() if name.split()[0] == str(n))
        curves[n] = Relearnt(first, tuple(item.value for item in draws))
    return curves


def misses(worlds: Sequence[Taught], rule: Rule) -> list[Miss]:
    """How far a rule misses in every world, and at every number of images that C4 judges."""
    found = []
    for one in worlds:
        predicted = predict_relearning(one.models[one.world.original], one.shorts, one.known, rule)
        for n in one.sizes:
            truth = float(np.mean([other[n].mean.value for other in one.retrained]))
            found.append(Miss(one, n, predicted.levels[n], truth))
    return found


def rms(found: Sequence[Miss]) -> float:
    """Root mean square, AUC."""
    return sqrt(float(np.mean([item.value**2 for item in found])))


def fitted(worlds: Sequence[Taught]) -> Rule:
    """The constants that fit worlds best; each data set counts as the root of its worlds."""
    rows, count = [], Counter(one.world.data for one in worlds)
    for one in worlds:
        pair = one.shorts[-1]
        for n in one.sizes:
            curves = (one.models[one.world.original], pair.original, pair.retrained)
            whole, first, short = (d_prime(2 * item[n].mean.value - 1) for item in curves)
            truth = d_prime(2 * mean([other[n].mean for other in one.retrained]).value - 1)
            rows.append((count[one.world.data] ** -0.5, one.known, whole, first, short, truth))

    def missed(values: np.ndarray) -> list[float]:
        rule = replace(RULES["adv"], kept=float(values[0]))
        return [w * (share(rule, known) - truth / whole) for w, known, whole, _, _, truth in rows]

    kept = float(least_squares(missed, [0.55]).x[0])
    grown = np.array([(truth - short, whole - first) for _, _, whole, first, short, truth in rows])
    growth = float(np.mean(grown[:, 0] * grown[:, 1]) / np.mean(grown[:, 1] ** 2))
    return replace(RULES["adv"], kept=kept, growth=growth)


def left_out(worlds: Sequence[Taught], *, own: bool = True, weight: float = WEIGHT) -> list[Miss]:
    """The misses of each data set, its error being that of the other data sets.

    Args:
        worlds: All of them.
        own: Whether the constants are fitted to these figures of the other data sets, and not those of
            advantages.
        weight: Of the short pair.
    """
    found: list[Miss] = []
    for data in sorted({one.world.data for one in worlds}):
        rest = [one for one in worlds if one.world.data != data]
        rule = replace(fitted(rest) if own else RULES["adv"], weight=weight)
        for n in SIZES:
            others = [item for item in misses(rest, rule) if item.n == n]
            here = replace(rule, drift=2 * rms(others), df=len(others) - PARAMETERS * own)
            missed = misses([one for one in worlds if one.world.data == data], here)
            found += [item for item in missed if item.n == n]
    return found
