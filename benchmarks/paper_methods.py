"""The audited table of docs/results/paper-methods.md: the paper's two methods beside the baselines.

python benchmarks/paper_methods.py RUN --label L --reference R1,R2,R3 --out DIR < benchmarks/paper_methods.txt

Each line of the input is a name, a method and its options. Every setting is forgotten into DIR (kept when it
is there already) and audited by the code of ``unlabel audit``; what all audits share, the attacks on the
original and on the references, is computed once.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from unlabel import engine
from unlabel.audit import evidence
from unlabel.audit.command import audit_run, sets_of
from unlabel.audit.readings import cached_outputs
from unlabel.audit.statistics import auc
from unlabel.engine import Run
from unlabel.log import Log
from unlabel.records import source_of
from unlabel.runs import load_run
from unlabel.workflow import forget_run

FIGURES = (
    ("own.sadv@restored", "row put back"),
    ("others.adv.lin", "others, linear"),
    ("others.adv.gbt", "others, trees"),
    ("probe.adv.lin", "linear probe"),
    ("probe.adv.mlp", "MLP probe"),
    ("probe.bits.mlp", "MLP, bits"),
)


def share_attacks() -> None:
    """Makes later audits reuse every attack of the first but those on the unlearned model, number 1."""
    kept: dict[Any, Any] = {}
    honest = evidence.side_by_side

    def once(jobs: Mapping[Any, Any], log: Log) -> dict[Any, Any]:
        fresh = {key: job for key, job in jobs.items() if key not in kept or key[2] == 1}
        kept.update(honest(fresh, log))
        return {key: kept[key] for key in jobs}

    evidence.side_by_side = once


def utility(path: Path, label: str, run: Run) -> str:
    """Mean AUC over the retained labels on training images (at most 5,000), P and E."""
    loaded = load_run(path)
    source = source_of(loaded.config, loaded.record, None, skip_bad=False, run=run)
    sets = sets_of(source, run.seed)
    found = []
    for data in (sets.train, sets.probe, sets.test):
        logits = cached_outputs(loaded.model, data, run, f"{loaded.sha256}/{sets.digest}", path.name).logits
        columns = [column for column, name in enumerate(data.labels) if name != label]
        each = [auc(logits[:, at].astype(np.float64), data.target[:, at], data.cluster) for at in columns]
        found.append(fmean(item.value for item in each))
    return " ".join(f"{value:.4f}" for value in found)


def cell(audit: dict[str, Any], figure: str, role: str) -> str:
    """A value with half its 95 % interval, or the mean of the references with their deviation."""
    rows = [row for row in audit["metrics"] if row["id"] == figure and row["model"] == role]
    if not rows:
        return "-"
    values = [row["value"] for row in rows]
    if len(values) > 1:
        return f"{fmean(values):.3f} sd {stdev(values):.3f}"
    low, high = rows[0]["ci"] or (values[0], values[0])
    return f"{values[0]:.3f} ± {(high - low) / 2:.3f}"


def show(name: str, audit: dict[str, Any], role: str, auc_by_set: str, cost: str, verdicts: str) -> None:
    """One row of the table."""
    cells = " | ".join(cell(audit, figure, role) for figure, _ in FIGURES)
    print(f"| {name} | {cells} | {auc_by_set} | {cost} | {verdicts} |", flush=True)


def main() -> None:
    """Prints the table; progress goes to stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--label", required=True)
    parser.add_argument("--reference", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    run = engine.start(accelerator="cpu", seed=given.seed)
    references = [Path(path) for path in given.reference.split(",")]
    share_attacks()
    words = " | ".join(word for _, word in FIGURES)
    print(f"| model | {words} | AUC train, P, E | seconds score, repair; images; x fewer | C1 C2 C3 C5 |")
    print("| --- " * (len(FIGURES) + 4) + "|")
    for number, line in enumerate(sys.stdin):
        name, method, *settings = line.split("#")[0].split()
        options = {key: value_of(text) for key, text in (word.split("=", 1) for word in settings)}
        out = given.out / name
        if not (out / "unlabel.json").is_file():
            forget_run(method, given.run, [given.label], out, run, **options)
        audit = audit_run(out, given.run, references, run).to_json()
        retrain = load_run(references[0]).record["images_processed"]
        if number == 0:
            show("original", audit, "before", utility(given.run, given.label, run), "", "")
            spread = [utility(path, given.label, run) for path in references]
            means = [fmean(map(float, column)) for column in zip(*map(str.split, spread), strict=True)]
            show(
                "Retrain", audit, "reference", " ".join(f"{v:.4f}" for v in means), f"{retrain:,} images", ""
            )
        record = audit["models"]["after"]
        seconds, images = record["seconds"], record["images_processed"]
        ratio = f"{retrain / images:.1f}x" if images else "-"
        cost = f"{seconds['score']:.1f}, {seconds['repair']:.1f}; {record['images_used']:,}; {ratio}"
        claims = " ".join(audit["claims"][claim]["verdict"] for claim in ("C1", "C2", "C3", "C5"))
        utilities = utility(out, given.label, run)
        show(name, audit, "after", utilities, cost, f"{claims}: {audit['headline']}")


def value_of(text: str) -> object:
    """A number, true, false, or the word itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    main()
