"""The page and the picture of `calibrate.py`, from its counts and the words in `page.txt`."""

import json
from pathlib import Path
from typing import Any

from scipy.stats import beta

from calibration.trials_durable import LESS
from unlabel.audit.attacks.recovery import REPEATED
from unlabel.audit.figures import TRANSFORMS

MARGINS = {"C1": 0.1, "C2": 0.1, "C3": 0.1, "C4": 0.1, "C4few": 0.03, "C5": 0.01}
PANELS = (
    ("C1", None, "C1 disabled"),
    ("C2", 3, "C2 like retrained, 3 references"),
    ("C5", 3, "C5 useful, 3 references"),
    ("C3", None, "C3 erased"),
    ("C2", 5, "C2 like retrained, 5 references"),
    ("C5", 5, "C5 useful, 5 references"),
    ("C4", 3, "C4 after a transform, 3 ref."),
    ("C4", 5, "C4 after a transform, 5 ref."),
    ("C4few", 3, "C4 few annotations, 3 ref."),
)
NAMES = {"C4": "C4, after a transform", "C4few": "C4, few annotations"}
WIDE, HIGH, LEFT, TOP, GAP_X, GAP_Y = 230, 150, 56, 74, 60, 86
SIZES = (1500, 5000)
SHAPES = {"line": "a line", "xor": "the sign of a product", "norm": "the spread"}

Counts = dict[str, int]


def interval(hits: int, of: int) -> tuple[float, float]:
    """Clopper-Pearson, 95 %."""
    low = float(beta.ppf(0.025, hits, of - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, of - hits)) if hits < of else 1.0
    return low, high


def rows_of(
    done: dict[str, Any], claim: str, images: int, references: int | None
) -> dict[float | None, Counts]:
    """Counts of verdicts by the true excess in margins; None: one more retrained model."""
    rows: dict[float | None, Counts] = {}
    for key, counts in done[f"{claim}/{images}"].items():
        planted = json.loads(key)
        if isinstance(planted, list):
            if planted[0] != references:
                continue
            planted = planted[1]
        rows[None if planted is None else round(planted / MARGINS[claim], 6)] = counts
    return rows


def share(counts: Counts, verdict: str) -> float:
    """How often a verdict was given."""
    return counts.get(verdict, 0) / sum(counts.values())


def percent(counts: Counts, verdict: str) -> str:
    """The share in percent with its 95 % interval."""
    hits, of = counts.get(verdict, 0), sum(counts.values())
    low, high = interval(hits, of)
    return f"{100 * hits / of:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def table(head: str, rows: list[str]) -> str:
    """A Markdown table."""
    return "\n".join([head, "| " + " | ".join(["---"] * (head.count("|") - 1)) + " |", *rows])


def power_table(done: dict[str, Any]) -> str:
    """PASS, INCONCLUSIVE, FAIL in percent by the true excess."""
    steps = (0.0, 0.5, 1.0, 1.5, 2.0)
    lines = []
    for claim, references, _ in sorted(PANELS, key=lambda panel: (panel[0], panel[1] or 0)):
        for n in SIZES:
            rows = rows_of(done, claim, n, references)
            cells = [
                " / ".join(f"{100 * share(rows[step], v):.0f}" for v in ("PASS", "INCONCLUSIVE", "FAIL"))
                for step in steps
            ]
            lines.append(f"| {NAMES.get(claim, claim)} | {n:,} | {references or '-'} | {' | '.join(cells)} |")
    head = "| claim | images | references | " + " | ".join(f"{step:g} margin" for step in steps) + " |"
    return table(head, lines)


def error_table(done: dict[str, Any]) -> str:
    """False alarms and false passes, with binomial intervals."""
    lines = []
    for claim, references, _ in sorted(PANELS, key=lambda panel: (panel[0], panel[1] or 0)):
        for n in SIZES:
            rows = rows_of(done, claim, n, references)
            retrained = percent(rows[None], "PASS") if None in rows else "-"
            wrong = percent(rows[None], "FAIL") if None in rows else percent(rows[0.0], "FAIL")
            passes, fails = (percent(rows[1.0], verdict) for verdict in ("PASS", "FAIL"))
            name = NAMES.get(claim, claim)
            lines.append(
                f"| {name} | {n:,} | {references or '-'} | {retrained} | {wrong} | {passes} |"
                f" {fails} | {sum(rows[1.0].values())} |"
            )
    return table(
        "| claim | images | references | Retrain passes | Retrain (C1, C3: nothing) fails |"
        " passes at the margin | fails at the margin | draws |",
        lines,
    )


def estimate_table(done: dict[str, Any]) -> str:
    """Estimates against the truth."""
    lines = []
    for key, figures in done.items():
        if not key.startswith("estimate/"):
            continue
        _, shape, _, prior, _, images, seeds = key.split("/")
        lines += [
            estimate_row(name, figures[name], SHAPES[shape], prior, images, seeds)
            for name in ("probe.adv.lin", "probe.adv.mlp", "probe.bits.lin", "probe.bits.mlp")
        ]
    return table(
        "| label held by | share | images | probe seeds | figure | truth | mean | bias | spread |"
        " mean error | truth inside |",
        lines,
    )


def others_table(done: dict[str, Any]) -> str:
    """Attacks on the other outputs against the truth."""
    lines = []
    for key, figures in done.items():
        if not key.startswith("estimate/line/"):
            continue
        _, _, _, prior, follow, images, _ = key.split("/")
        lines += [
            estimate_row(name, figures[name], f"{100 * float(follow):.0f} %", prior, images)
            for name in ("others.adv.lin", "others.adv.gbt", "floor.adv")
        ]
    return table(
        "| retained labels agree in | share | images | figure | truth | mean | bias | spread |"
        " mean error | truth inside |",
        lines,
    )


def estimate_row(name: str, row: dict[str, Any], what: str, prior: str, images: str, *more: str) -> str:
    """One figure of one planted world."""
    low, high = interval(row["covered"], row["of"])
    head = " | ".join([what, prior, f"{int(images):,}", *more, f"`{name}`"])
    bias = row["mean"] - row["truth"]
    return (
        f"| {head} | {abs(row['truth']):.3f} | {row['mean'] + 0.0:.3f} | {bias:+.3f} |"
        f" {row['sd']:.3f} | {row['se']:.3f} |"
        f" {row['covered']}/{row['of']} ({100 * low:.0f} to {100 * high:.0f} %) |"
    )


def spread_table(done: dict[str, Any]) -> str:
    """Standard errors against what they should be."""
    lines = []
    for key, figures in done.items():
        if not key.startswith("errors/"):
            continue
        _, images, adv = key.split("/")
        for name, row in figures.items():
            ratio = row["to_bootstrap"]
            low, high = interval(row["covered"], row["of"])
            lines.append(
                f"| {name} | {adv} | {int(images):,} | {row['sd']:.4f} | {row['clustered']:.4f} |"
                f" {sum(ratio) / len(ratio):.3f} ({min(ratio):.2f} to {max(ratio):.2f}) |"
                f" {row['naive'] / row['sd']:.2f} | {row['covered']}/{row['of']} ({100 * low:.0f} to"
                f" {100 * high:.0f} %) |"
            )
    return table(
        "| figure | true advantage | images | spread over draws | the audit's error |"
        " to the bootstrap's, mean and range | without identities, to the spread | truth inside |",
        lines,
    )


def page(done: dict[str, Any]) -> str:
    """The Markdown page."""
    few = done["estimate/line/0.5/0.5/0.6/1500/1"]
    xor = done["estimate/xor/0.5/0.5/0.6/1500/1"]["probe.adv.mlp"]
    weak = done["estimate/xor/0.2/0.5/0.55/1500/1"]["probe.adv.mlp"]
    smaller = done["estimate/xor/0.5/0.5/0.6/5000/1"]["probe.adv.mlp"]
    trees, better = few["others.adv.gbt"], done["estimate/line/0.5/0.5/0.6/5000/1"]["others.adv.gbt"]
    half = {n: share(rows_of(done, "C2", n, 5)[1.5], "FAIL") for n in SIZES}
    return (
        Path(__file__)
        .with_name("page.txt")
        .read_text("utf-8")
        .format(
            errors=error_table(done),
            power=power_table(done),
            estimates=estimate_table(done),
            others=others_table(done),
            spreads=spread_table(done),
            repetitions=done["repetitions"],
            trees_truth=trees["truth"],
            trees=trees["mean"],
            trees_better=better["mean"],
            xor_truth=xor["truth"],
            xor=xor["mean"],
            xor_more=smaller["mean"],
            weak_truth=weak["truth"],
            weak=weak["mean"],
            half_few=100 * half[1500],
            half_many=100 * half[5000],
            c1=100 * share(rows_of(done, "C1", 1500, None)[0.0], "PASS"),
            c2=100 * share(rows_of(done, "C2", 1500, 3)[None], "PASS"),
            c4_tests=len(TRANSFORMS) * len(REPEATED) + len(LESS),
            c4=100 * share(rows_of(done, "C4", 5000, 3)[None], "PASS"),
            c4_five=100 * share(rows_of(done, "C4", 5000, 5)[None], "PASS"),
            c4_few=100 * share(rows_of(done, "C4", 1500, 3)[None], "PASS"),
            c4_five_few=100 * share(rows_of(done, "C4", 1500, 5)[None], "PASS"),
            c4_fail=100 * share(rows_of(done, "C4", 5000, 5)[1.5], "FAIL"),
            few_fail=100 * share(rows_of(done, "C4few", 5000, 5)[1.5], "FAIL"),
            c2_many=100 * share(rows_of(done, "C2", 5000, 3)[None], "PASS"),
        )
    )


def picture(done: dict[str, Any]) -> str:
    """The power curves as SVG: three by three panels, light or dark as the reader's page is."""
    width = LEFT + 3 * WIDE + 2 * GAP_X + 24
    height = TOP + 3 * HIGH + 2 * GAP_Y + 60
    elements = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" role="img" aria-labelledby="t">',
        '<title id="t">How often each claim passes and fails, against the true excess</title>',
        STYLE,
        f'<rect class="paper" width="{width}" height="{height}"/>',
        *legend(),
    ]
    for number, (claim, references, name) in enumerate(PANELS):
        x, y = LEFT + number % 3 * (WIDE + GAP_X), TOP + number // 3 * (HIGH + GAP_Y)
        elements += panel(done, claim, references, name, x, y)
    return "\n".join([*elements, "</svg>", ""])


def legend() -> list[str]:
    """What the lines mean."""
    elements, x = [], LEFT
    for verdict, word in (("pass", "PASS"), ("fail", "FAIL")):
        for size, dash in (("5,000", ""), ("1,500", " few")):
            elements.append(f'<path class="{verdict}{dash}" d="M{x} 20h34"/>')
            elements.append(f'<text x="{x + 42}" y="24">{word}, {size} images</text>')
            x += 186
    return elements


def panel(done: dict[str, Any], claim: str, references: int | None, name: str, x: int, y: int) -> list[str]:
    """One claim: its rates against the true excess in margins, 0 to 2."""
    elements = [f'<text class="name" x="{x}" y="{y - 14}">{name}</text>']
    for rate in (0, 50, 100):
        at = y + HIGH * (1 - rate / 100)
        elements.append(f'<path class="grid" d="M{x} {at:g}h{WIDE}"/>')
        elements.append(tick(f"{rate} %", x - 8, at + 4, "end"))
    for step, word in ((0, "0"), (1, "margin"), (2, "2 margins")):
        at, anchor = x + WIDE * step / 2, ("start", "middle", "end")[step]
        elements.append(
            f'<text class="tick" x="{at:g}" y="{y + HIGH + 18}" text-anchor="{anchor}">{word}</text>'
        )
    elements.append(f'<path class="margin" d="M{x + WIDE / 2:g} {y}v{HIGH}"/>')
    if y > TOP + HIGH + GAP_Y:
        elements.append(tick("true excess", x + WIDE / 2, y + HIGH + 38, "middle"))
    for n, few in ((1500, " few"), (5000, "")):
        rows = rows_of(done, claim, n, references)
        for verdict in ("PASS", "FAIL"):
            points = " ".join(
                f"{x + WIDE * step / 2:.1f},{y + HIGH * (1 - share(rows[step], verdict)):.1f}"
                for step in sorted(key for key in rows if key is not None)
            )
            elements.append(f'<polyline class="{verdict.lower()}{few}" points="{points}"/>')
    return elements


def tick(word: str, x: float, y: float, anchor: str) -> str:
    """A small text."""
    return f'<text class="tick" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{word}</text>'


STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #1d2733 }
.name { font-weight: 600 } .tick { font-size: 12px; fill: #5a6675 }
.paper { fill: #fff } .grid { stroke: #dfe4ea; fill: none } .margin { stroke: #8a94a2; stroke-dasharray: 2 3 }
.pass, .fail { fill: none; stroke-width: 2.2; stroke-linejoin: round }
.pass { stroke: #0b6e9c } .fail { stroke: #c2410c } .few { stroke-dasharray: 6 4; stroke-width: 1.8 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6eaf0 } .tick { fill: #9aa6b5 } .paper { fill: #10151c } .grid { stroke: #2a333f }
  .margin { stroke: #6b7786 } .pass { stroke: #5cc3f0 } .fail { stroke: #fb923c }
}
</style>"""
