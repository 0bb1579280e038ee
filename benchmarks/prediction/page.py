"""``docs/results/predicted.md``: how far predicted references miss, and what C2 would then say."""

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from pathlib import Path

import numpy as np

from prediction.fitted import (
    UNITS,
    Guess,
    by_data,
    by_world,
    figures,
    guess,
    left_out,
    levels_of,
    with_drift,
)
from prediction.measured import MOST, OPTIONS, Read
from prediction.other_ways import other_ways
from unlabel.audit.attacks.controls import head_zero
from unlabel.audit.attacks.prediction import Rule, scaled, share
from unlabel.audit.claims.c2_retrain_equivalent import weigh
from unlabel.audit.figures import Readings, unit_of
from unlabel.audit.figures import figure as entry
from unlabel.statistics.contrast import seeded
from unlabel.statistics.estimate import clopper_pearson

Rules = dict[str, Rule]
MARGINS = {"adv": OPTIONS.d_reference, "bits": OPTIONS.d_reference_bits}
CHOSEN = {
    "d30 Heavy_Makeup",
    "d30 Male",
    "d30 Young",
    "dr Arched_Eyebrows",
    "dr Male",
    "f10 Asian",
    "f10 Beard",
    "f10 Male",
    "f10 Young",
    "f40 Black_Woman",
    "f40 Male",
    "f40 Young",
    "ff Black",
    "ff Child",
    "ff Male",
}  # worlds that were there when the form of the rule was chosen
TEMPLATE = Path(__file__).with_name("page.txt")


def page(reads: Sequence[Read]) -> str:
    """The page, from what was read of every world."""
    sets, worlds = left_out(reads, by_data), left_out(reads, by_world)
    guesses = [item for read, rules in sets for item in guess(read, rules)]
    names = sorted({read.world.data for read in reads})
    worst = max(guesses, key=lambda item: abs(item.miss))
    return TEMPLATE.read_text("utf-8").format(
        worlds=len(reads),
        chosen=sum(read.world.name in CHOSEN for read in reads),
        later=_later(reads, guesses),
        now=_now(guesses, sets),
        sets=len(names),
        probe=f"{MOST[0]:,}",
        test=f"{MOST[1]:,}",
        rules="\n".join(_rules(with_drift(reads, by_data))),
        coverage="\n".join(_coverage(sets, worlds)),
        held="\n".join(_coverage_by_set(sets)),
        others="\n".join(_others(reads)),
        verdicts="\n".join(_verdicts(sets, worlds)),
        table="\n".join(_table(guesses)),
        failure="\n".join(_failure(worst, {read.world.name: rules for read, rules in sets})),
        worst=f"{worst.read.world.name}, {entry(worst.figure).name.lower()}",
    )


def _rules(rules: Rules) -> Iterator[str]:
    for unit, rule in rules.items():
        yield (
            f"| {unit} | {rule.kept:.3f} | {rule.growth:.3f} | {rule.weight:g} |"
            f" {rule.drift:.4f} | {rule.df} |"
        )


def _later(reads: Sequence[Read], guesses: Sequence[Guess]) -> str:
    """How the rule does on worlds that had no part in choosing its form."""
    new = [read.world.name for read in reads if read.world.name not in CHOSEN]
    own = [item for item in guesses if item.read.world.name in new]
    if not new:
        return ""
    parts = [
        f"{sum(map(inside, each))} of {len(each)} figures in {words}, root mean square {_rms(each):.3f}"
        for unit, words in (("adv", "advantage"), ("bits", "bits"))
        if (each := [item for item in own if unit_of(item.figure) == unit])
    ]
    return (
        f" {len(new)} worlds had not been read with this measure ({', '.join(new)}). With their data set left"
        f" out, the interval holds {' and '.join(parts)}."
    )


def _now(guesses: Sequence[Guess], way: Sequence[tuple[Read, Rules]]) -> str:
    """The row of today's rule beside the one that it replaced."""
    groups = [
        [
            item
            for item in guesses
            if unit_of(item.figure) == unit and (item.read.world.name in CHOSEN) is seen
        ]
        for seen in (True, False)
        for unit in UNITS
    ]
    cells = [f"{_rms(group):.3f}" if group else "-" for group in groups]
    for unit in UNITS:
        own = [item for item in guesses if unit_of(item.figure) == unit]
        cells.append(f"{sum(map(inside, own))} of {len(own)}")
    passed, _, failed, _, caught = verdicts_of(way)
    return " | ".join([*cells, *(f"{hits} of {n}" for hits, n in (passed, failed, caught))])


def inside(item: Guess) -> bool:
    """Whether the 90 % interval of the page holds the truth."""
    around = seeded(item.level, ())
    return around.lower(0.95) <= item.truth.value <= around.upper(0.95)


def share_of(hits: int, n: int) -> str:
    """A count of a number, with its 95 % interval in percent."""
    low, high = clopper_pearson(hits, n, 0.975)
    return f"{hits} of {n} ({100 * low:.0f} to {100 * high:.0f} %)"


def _coverage(*ways: Sequence[tuple[Read, Rules]]) -> Iterator[str]:
    for name, way in zip(("a data set", "a world"), ways, strict=True):
        guesses = [item for read, rules in way for item in guess(read, rules)]
        for unit in UNITS:
            own = [item for item in guesses if unit_of(item.figure) == unit]
            every = [all(inside(item) for item in own if item.read is read) for read, _ in way]
            half = np.mean([seeded(item.level, ()).upper(0.95) - item.level.value for item in own])
            yield (
                f"| {name} | {unit} | {share_of(sum(map(inside, own)), len(own))} |"
                f" {share_of(sum(every), len(every))} |"
                f" {_rms(own):.3f} | {np.mean([item.miss for item in own]):+.3f} |"
                f" {max(abs(item.miss) for item in own):.3f} | {half:.3f} | {MARGINS[unit]:g} |"
            )


def _coverage_by_set(way: Sequence[tuple[Read, Rules]]) -> Iterator[str]:
    for data in sorted({read.world.data for read, _ in way}):
        guesses = [item for read, rules in way if read.world.data == data for item in guess(read, rules)]
        for unit in UNITS:
            own = [item for item in guesses if unit_of(item.figure) == unit]
            yield (
                f"| {data} | {unit} | {sum(map(inside, own))} of {len(own)} | {_rms(own):.3f} |"
                f" {np.mean([item.miss for item in own]):+.3f} |"
            )


def _rms(items: Sequence[Guess]) -> float:
    return sqrt(float(np.mean([item.miss**2 for item in items])))


def _others(reads: Sequence[Read]) -> Iterator[str]:
    """Other ways to predict, every data set left out."""
    for name, misses in other_ways(reads).items():
        cells = [sqrt(float(np.mean(np.square(misses[unit])))) for unit in UNITS]
        yield f"| {name} | " + " | ".join(f"{value:.3f}" for value in cells) + " |"


def _verdicts(*ways: Sequence[tuple[Read, Rules]]) -> Iterator[str]:
    for name, way in zip(("a data set", "a world"), ways, strict=True):
        passed, counted, failed, missed, caught = verdicts_of(way)
        counts = (passed, counted, failed, missed, caught)
        yield f"| {name} | " + " | ".join(share_of(hits, n) for hits, n in counts) + " |"


def verdicts_of(way: Sequence[tuple[Read, Rules]]) -> list[tuple[int, int]]:
    """What C2 would say, as counts and of how many: see the page's section."""
    retrains = [(read, rules, other) for read, rules in way for other in read.retrained]
    verdicts = [c2_of(other, [levels_of(read, rules)], read) for read, rules, other in retrains]
    removed = [(read, c2_of(head(read.whole), [levels_of(read, rules)], read)) for read, rules in way]
    firm = [word for read, word in removed if c2_of(head(read.whole), read.retrained, read) != "PASS"]
    caught = {id(read): word for read, word in removed}
    counted = sum(
        verdict == "PASS" and caught[id(read)] in ("PASS", "FAIL")
        for verdict, (read, _, _) in zip(verdicts, retrains, strict=True)
    )
    return [
        (verdicts.count("PASS"), len(verdicts)),
        (counted, len(verdicts)),
        (verdicts.count("FAIL"), len(verdicts)),
        (firm.count("PASS"), len(firm)),
        (firm.count("FAIL"), len(firm)),
    ]


def head(readings: Readings) -> Readings:
    """The original without its output row."""
    return head_zero(readings)


def c2_of(model: Readings, references: Sequence[Readings], read: Read) -> str:
    """C2's verdict of a model, before it is asked whether the data can tell."""
    label = read.world.label
    judged_names = ("own.adv", *figures(read))

    def chosen(rows: Mapping) -> dict[str, Readings]:
        return {label: {name: rows[name] for name in judged_names}}

    rare = frozenset([label] if read.rare else [])
    return weigh(chosen(model), [chosen(rows) for rows in references], rare, OPTIONS).verdict


def _table(guesses: Sequence[Guess]) -> Iterator[str]:
    for item in guesses:
        around = seeded(item.level, ())
        mark = "" if inside(item) else " **outside**"
        pair = item.read.shorts[-1]
        yield (
            f"| {item.read.world.name} | `{item.figure}` | {item.read.whole[item.figure].value:.3f} |"
            f" {pair.original[item.figure].value:.3f}, {pair.retrained[item.figure].value:.3f} |"
            f" {item.level.value:.3f} ({around.lower(0.95):.3f} to {around.upper(0.95):.3f}) |"
            f" {item.truth.value:.3f} ({len(item.read.retrained)}) | {item.miss:+.3f}{mark} |"
        )


def _failure(worst: Guess, rules: Mapping[str, Rules]) -> Iterator[str]:
    """One world in full."""
    read, known = worst.read, worst.read.known
    for item in guess(read, rules[read.world.name]):
        unit = unit_of(item.figure)
        whole = scaled(read.whole[item.figure], unit).value
        truth = scaled(item.truth, unit).value / whole
        shares = [
            scaled(pair.retrained[item.figure], unit).value / scaled(pair.original[item.figure], unit).value
            for pair in read.shorts
        ]
        expected = share(rules[read.world.name][unit], known)
        yield (
            f"| `{item.figure}` | {read.whole[item.figure].value:.3f} | {shares[0]:.2f} | {shares[1]:.2f} |"
            f" {expected:.2f} | {truth:.2f} | {item.level.value:.3f} | {item.truth.value:.3f} |"
            f" {item.miss:+.3f} |"
        )
    yield ""
    yield (
        f"A linear probe on the original's features has the advantage {known.found:.3f}, and"
        f" {known.told:.3f} if it is fitted to what the retained annotations predict."
    )
