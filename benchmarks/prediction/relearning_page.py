"""``docs/results/predicted-relearning.md``: how far predictions of relearning miss, and what C4 would say."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from prediction.fitted import PARAMETERS
from prediction.page import share_of
from prediction.relearning import FEW, SIZES, WEIGHT, Curves, Miss, Taught, fitted, left_out, rms
from unlabel.audit.attacks.few_shot import faster
from unlabel.statistics.contrast import seeded

TEMPLATE = Path(__file__).with_name("relearning.txt")
WAYS = {
    "what the annotations explain, without training": 0.0,
    "the growth of the short pair": 1.0,
    "**both, the short pair at one quarter**": WEIGHT,
}


def page(worlds: Sequence[Taught]) -> str:
    """The page, from what was read of every world."""
    found = left_out(worlds)
    return TEMPLATE.read_text("utf-8").format(
        worlds=len(worlds),
        sets=len({one.world.data for one in worlds}),
        rule="\n".join(_rules(worlds, found)),
        error=" and ".join(f"{rms([item for item in found if item.n == n]):.3f}" for n in SIZES),
        others=f"{rms(left_out(worlds, own=False)):.3f}",
        own=f"{rms(found):.3f}",
        ways="\n".join(_ways(worlds)),
        coverage="\n".join(_coverage(found)),
        verdicts="\n".join(_verdicts(found)),
        table="\n".join(_table(found)),
    )


def _rules(worlds: Sequence[Taught], found: Sequence[Miss]) -> Iterator[str]:
    rule = fitted(worlds)
    for n in SIZES:
        of_size = [item for item in found if item.n == n]
        yield (
            f"| few@{n} | {rule.kept:.3f} | {rule.growth:.3f} | {rule.weight:g} |"
            f" {2 * rms(of_size):.4f} | {len(of_size) - PARAMETERS} |"
        )


def inside(item: Miss) -> bool:
    """Whether the 90 % interval of the page holds the truth."""
    around = seeded(item.level.mean, ())
    return around.lower(0.95) <= item.truth <= around.upper(0.95)


def _ways(worlds: Sequence[Taught]) -> Iterator[str]:
    for name, weight in WAYS.items():
        found = left_out(worlds, weight=weight)
        yield f"| {name} | {rms(found):.3f} | {np.mean([item.value for item in found]):+.3f} |"


def _coverage(found: Sequence[Miss]) -> Iterator[str]:
    names = sorted({item.taught.world.data for item in found})
    for name in ["all", *names]:
        own = [item for item in found if name in ("all", item.taught.world.data)]
        each = {item.taught.world.name: True for item in own}
        for item in own:
            each[item.taught.world.name] &= inside(item)
        yield (
            f"| {name} | {share_of(sum(map(inside, own)), len(own))} |"
            f" {share_of(sum(each.values()), len(each))} | {rms(own):.3f} |"
            f" {np.mean([item.value for item in own]):+.3f} | {max(abs(item.value) for item in own):.3f} |"
        )


def verdict(model: Curves, own: Sequence[Miss]) -> str:
    """What C4's tests of relearning say of a model against the predicted level, by all numbers of images."""
    found = [faster(model[item.n], [item.level]) for item in own]
    if all(item.upper(FEW.level) < FEW.d_few for item in found):
        return "PASS"
    corrected = 1.0 - FEW.alpha / len(found)
    return "FAIL" if any(item.lower(corrected) > FEW.d_few for item in found) else "INCONCLUSIVE"


def _verdicts(found: Sequence[Miss]) -> Iterator[str]:
    by_world: dict[str, list[Miss]] = {}
    for item in found:
        by_world.setdefault(item.taught.world.name, []).append(item)
    judged: dict[str, list[str]] = {"full Retrains": [], "originals": []}
    for own in by_world.values():
        taught = own[0].taught
        judged["full Retrains"] += [verdict(model, own) for model in taught.retrained]
        judged["originals"].append(verdict(taught.models[taught.world.original], own))
    for name, verdicts in judged.items():
        counts = [verdicts.count(word) for word in ("PASS", "INCONCLUSIVE", "FAIL")]
        yield f"| {name} | " + " | ".join(share_of(count, len(verdicts)) for count in counts) + " |"


def _table(found: Sequence[Miss]) -> Iterator[str]:
    for item in found:
        taught, around = item.taught, seeded(item.level.mean, ())
        pair, whole = taught.shorts[-1], taught.models[taught.world.original]
        mark = "" if inside(item) else " **outside**"
        yield (
            f"| {taught.world.name} | {item.n} | {whole[item.n].mean.value:.3f} |"
            f" {pair.original[item.n].mean.value:.3f}, {pair.retrained[item.n].mean.value:.3f} |"
            f" {item.level.mean.value:.3f} ({around.lower(0.95):.3f} to {around.upper(0.95):.3f}) |"
            f" {item.truth:.3f} ({len(taught.retrained)}) | {item.value:+.3f}{mark} |"
        )
