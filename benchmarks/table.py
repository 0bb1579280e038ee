"""Prints the audits of some runs as one Markdown table: ``python benchmarks/table.py RUN [RUN ...]``."""

import json
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

ATTACKS = (
    ("own.sadv@restored", "row put back"),
    ("others.adv.lin", "others, linear"),
    ("others.adv.gbt", "others, trees"),
    ("probe.adv.lin", "linear probe"),
    ("probe.adv.mlp", "MLP probe"),
    ("probe.bits.lin", "linear, bits"),
    ("probe.bits.mlp", "MLP, bits"),
    ("util.auc.macro", "retained AUC"),
)


def cell(rows: list[dict[str, Any]]) -> str:
    """One value with half its interval, or the mean and deviation of several references."""
    if not rows:
        return "-"
    values = [row["value"] for row in rows]
    if len(values) > 1:
        return f"{fmean(values):.3f} (sd {stdev(values):.3f})"
    low, high = rows[0]["ci"] or (values[0], values[0])
    return f"{values[0]:.3f} ± {(high - low) / 2:.3f}"


def line(name: str, audit: dict[str, Any], role: str, label: str | None, cost: str, verdicts: str) -> str:
    """One row of the table."""
    cells = [
        cell(
            [
                row
                for row in audit["metrics"]
                if row["id"] == figure and row["model"] == role and row["label"] in (label, None)
            ]
        )
        for figure, _ in ATTACKS
    ]
    return f"| {name} | {cost} | {' | '.join(cells)} | {verdicts} |"


def bill(record: dict[str, Any]) -> str:
    """Steps and seconds of one model."""
    return f"{record['steps']} / {record['seconds']['total']:.1f}"


def main(runs: list[Path]) -> None:
    """Reads RUN/audit.json of each run; the runs share their original and their references."""
    audits = {run: json.loads((run / "audit.json").read_text("utf-8")) for run in runs}
    first = audits[runs[0]]
    label = first["request"]["labels"][0]
    print(
        f"| model | steps / seconds | {' | '.join(words for _, words in ATTACKS)} | C1 C2 C3 C5, headline |"
    )
    print("| --- " * (len(ATTACKS) + 3) + "|")
    print(line("original", first, "before", label, bill(first["models"]["before"]), "-"))
    references = first["models"]["references"]
    if references:
        cost = bill(references[0])
        print(line(f"Retrain, {len(references)} seeds", first, "reference", label, cost, "-"))
    for run, audit in audits.items():
        claims = " ".join(audit["claims"][name]["verdict"] for name in ("C1", "C2", "C3", "C5"))
        model = audit["models"]["after"]
        options = ", ".join(
            f"{key} {value}" for key, value in model["options"].items() if key not in ("images", "keep_row")
        )
        name = f"{model['method']}{' (' + options + ')' if options else ''}, seed {model['seed']}"
        print(line(name, audit, "after", label, bill(model), f"{claims}; {audit['headline']}"))
        if not audit["valid"]:
            print(f"\n{run}: {'; '.join(audit['invalid_because'])}\n", file=sys.stderr)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
