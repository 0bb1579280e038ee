"""The audited table of docs/results/paper-methods.md: the paper's two methods beside the baselines.

python benchmarks/paper_methods.py RUN --label L --reference R1,R2,R3 --out DIR < benchmarks/paper_methods.txt

Each line of the input is a name, a method and its options: a cell of `unlabel.compare`, kept in DIR and found
again next time. What all cells share, the attacks on the original and on the references, is computed once.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from unlabel.cli.progress import terminal_log
from unlabel.compare.cells import run_cells
from unlabel.compare.jobs import Job
from unlabel.core import engine

FIGURES = (
    ("own.sadv@restored", "row put back"),
    ("others.adv.lin", "others, linear"),
    ("others.adv.gbt", "others, trees"),
    ("probe.adv.lin", "linear probe"),
    ("probe.adv.mlp", "MLP probe"),
    ("probe.bits.mlp", "MLP, bits"),
)
SPLITS = ("T_in", "P", "E")


def read(lines: Iterable[str], seed: int) -> list[tuple[str, Job]]:
    """Names and jobs."""
    jobs = []
    for line in lines:
        name, method, *settings = line.split("#")[0].split() or ("", "")
        options = {key: value_of(text) for key, text in (word.split("=", 1) for word in settings)}
        if name:
            jobs.append((name, Job(method, options, seed)))
    return jobs


def figure(records: Sequence[Mapping[str, Any]], name: str) -> str:
    """A value with half its 95 % interval, or the mean of several models with their deviation."""
    rows = [row for record in records for row in record["figures"] if row["id"] == name]
    if not rows:
        return "-"
    values = [row["value"] for row in rows]
    if len(values) > 1:
        return f"{fmean(values):.3f} sd {stdev(values):.3f}"
    low, high = rows[0]["ci"] or (values[0], values[0])
    return f"{values[0]:.3f} ± {(high - low) / 2:.3f}"


def utility(records: Sequence[Mapping[str, Any]]) -> str:
    """Mean AUC over the retained labels on training images (at most 5,000), P and E."""
    means = [fmean(record["utility"][split]["macro"]["value"] for record in records) for split in SPLITS]
    return " ".join(f"{value:.4f}" for value in means)


def show(name: str, records: Sequence[Mapping[str, Any]], cost: str, verdicts: str) -> None:
    """One row of the table."""
    cells = " | ".join(figure(records, name) for name, _ in FIGURES)
    print(f"| {name} | {cells} | {utility(records)} | {cost} | {verdicts} |", flush=True)


def main() -> None:
    """Prints the table; progress goes to stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--label", required=True)
    parser.add_argument("--reference", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    run = engine.start(accelerator="cpu", seed=given.seed, log=terminal_log())
    named = read(sys.stdin, given.seed)
    references = [Path(path) for path in given.reference.split(",")]
    table = run_cells(given.run, [given.label], [job for _, job in named], references, run, given.out)
    words = " | ".join(word for _, word in FIGURES)
    print(f"| model | {words} | AUC train, P, E | seconds score, repair; images; x fewer | C1 C2 C3 C5 |")
    print("| --- " * (len(FIGURES) + 4) + "|")
    retrain = table.references[0]["cost"]["images_processed"]
    show("original", [table.before], "", "")
    show("Retrain", table.references, f"{retrain:,} images", "")
    for (name, _), cell in zip(named, table.cells, strict=True):
        if not cell.done:
            print(f"| {name} | {cell.record['error']['message']} |", flush=True)
            continue
        bill, claims = cell.record["cost"], cell.record["claims"]
        stages, images = bill["seconds"], bill["images_processed"]
        ratio = f"{retrain / images:.1f}x" if images else "-"
        cost = (
            f"{stages.get('score', 0):.1f}, {stages.get('repair', 0):.1f}; {bill['images_used']:,}; {ratio}"
        )
        verdicts = " ".join(claims[claim]["verdict"] for claim in ("C1", "C2", "C3", "C5"))
        show(name, [cell.record], cost, f"{verdicts}: {cell.record['headline']}")


def value_of(text: str) -> object:
    """A number, true, false, or the word itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    main()
