"""Every attack against several models, as one table: which catch what others miss, and whom they condemn.

python benchmarks/attacks.py RUN [RUN ...]

Each run was audited with the same original and the same retrained models, with ``--budget full --attackers
NAMES``. A cell is the figure with its verdict against the retrained models: ``+`` within the margin, ``x``
beyond it, ``?`` undecided. One run may be a retrained model that is not among the references.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

PROBES = {
    "others.adv.lin": "other outputs, linear",
    "others.adv.gbt": "other outputs, trees",
    "probe.adv.lin": "features, linear",
    "probe.adv.mlp": "features, MLP",
    "probe.bits.mlp": "features, MLP, bits",
    "few.auc@64": "probe on 64 images, AUC",
    "few.auc@256": "probe on 256 images, AUC",
    "tune.auc@256": "whole model on 256 images, AUC",
    "tune.auc@1024": "whole model on 1,024 images, AUC",
}
SIGNS = {"PASS": "+", "FAIL": "x", "INCONCLUSIVE": "?"}
MARGIN = 0.03  # of AUC, as C4 has it
READ = 0.1  # of an advantage, as C2 has it
DEPTH = {
    "depth.adv.stitch": "the original goes on from",
    "depth.adv.grid": "4 x 4 positions, linear,",
    "depth.adv.mlp": "mean over positions, neural,",
    "depth.adv.all.lin": "all stages, linear",
    "depth.adv.all.mlp": "all stages, neural",
}

HANDFUL = {"prototype.auc": "nearest mean,", "cluster.auc": "clusters that begin at"}


@dataclass(frozen=True)
class Row:
    """One attack on all models.

    Args:
        name: The attack.
        before: Its figure of the original.
        retrained: Its figures of the retrained models.
        after: Its figure and sign, by run.
    """

    name: str
    before: float
    retrained: list[float]
    after: list[str]


def values(audit: dict[str, Any], figure: str, layer: str | None, role: str) -> list[float]:
    """Figures of the models of one role, unchanged by any transform."""
    return [
        row["value"]
        for row in audit["metrics"]
        if (row["id"], row["model"], row["transform"]) == (figure, role, None)
        and (row["layer"] == layer or (layer is None and row["layer"] == "penultimate"))
    ]


def probed(audits: Sequence[dict[str, Any]]) -> Iterator[Row]:
    """The attacks that decide C2 and C4, from the comparisons of each audit."""
    stages = sorted(
        {row["layer"] for row in audits[0]["metrics"] if (row["layer"] or "").startswith("stage")}
    )
    named = [(figure, None, name) for figure, name in PROBES.items()]
    for figure, layer, name in [*named, *(("probe.adv.lin", stage, f"{stage}, linear") for stage in stages)]:
        before = values(audits[0], figure, layer, "before")
        if not before:
            continue
        after = []
        for audit in audits:
            signs = [
                SIGNS[each["verdict"]]
                for each in audit["comparisons"]
                if (each["id"], each["transform"]) == (figure, None)
                and (each["layer"] == layer or (layer is None and each["layer"] in (None, "penultimate")))
            ]
            (value,) = values(audit, figure, layer, "after")
            after.append(f"{value:.3f} {signs[0] if signs else ''}".strip())
        yield Row(name, before[0], values(audits[0], figure, layer, "reference"), after)


def attacked(audits: Sequence[dict[str, Any]]) -> Iterator[Row]:
    """The attackers beside C4."""
    (label,) = audits[0]["request"]["labels"]
    notes = [audit["claims"]["C4"]["notes"]["attackers"][label] for audit in audits]
    for attacker, sizes in notes[0].items():
        for size in sizes:
            figure = f"tune.{attacker}@{size}"
            before = values(audits[0], figure, None, "before")
            if not before:
                continue
            after = []
            for audit, note in zip(audits, notes, strict=True):
                (value,) = values(audit, figure, None, "after")
                after.append(f"{value:.3f} {sign_of(note[attacker][size], MARGIN)}")
            retrained = values(audits[0], figure, None, "reference")
            yield Row(f"{attacker} on {size} images, AUC", before[0], retrained, after)


def beside(audits: Sequence[dict[str, Any]]) -> Iterator[Row]:
    """What trains nothing: the original going on from a stage, positions, the tangent kernel, a handful."""
    (label,) = audits[0]["request"]["labels"]
    notes = [audit["claims"]["C4"]["notes"] for audit in audits]
    for figure, places in notes[0].get("depth", {}).get(label, {}).items():
        for place in places:
            layer = place if place.startswith("stage") else None
            bounds = [note["depth"][label][figure][place] for note in notes]
            yield from read(audits, (figure, layer), f"{DEPTH.get(figure, figure)} {layer or ''}", bounds)
    for size in notes[0].get("tangent", {}).get(label, {}):
        bounds = [note["tangent"][label][size] for note in notes]
        name = f"tangent kernel, {size} images, AUC"
        yield from read(audits, (f"tangent.auc@{size}", None), name, bounds, MARGIN)
    for figure, sizes in notes[0].get("prototypes", {}).get(label, {}).items():
        for size in sizes:
            bounds = [note["prototypes"][label][figure][size] for note in notes]
            name = f"{HANDFUL[figure]} {size} images, AUC"
            yield from read(audits, (f"{figure}@{size}", None), name, bounds, MARGIN)


def read(
    audits: Sequence[dict[str, Any]],
    place: tuple[str, str | None],
    name: str,
    bounds: Sequence[dict[str, float]],
    margin: float = READ,
) -> Iterator[Row]:
    """The row of one figure; none if it was not measured."""
    if before := values(audits[0], *place, "before"):
        after = [
            f"{values(audit, *place, 'after')[0]:.3f} {sign_of(each, margin)}"
            for audit, each in zip(audits, bounds, strict=True)
        ]
        yield Row(name.strip(), before[0], values(audits[0], *place, "reference"), after)


def sign_of(bounds: dict[str, float], margin: float) -> str:
    """Within the margin, beyond it, or undecided."""
    return "+" if bounds["upper"] < margin else "x" if bounds["lower"] > margin else "?"


def main(runs: Sequence[Path]) -> None:
    """Prints the table."""
    audits = [json.loads((run / "audit.json").read_text("utf-8")) for run in runs]
    print(f"| attack | original | Retrain, mean (range) | {' | '.join(run.name for run in runs)} |")
    print("| --- " * (len(runs) + 3) + "|")
    for row in [*probed(audits), *attacked(audits), *beside(audits)]:
        spread = f"{fmean(row.retrained):.3f} ({min(row.retrained):.3f} to {max(row.retrained):.3f})"
        print(f"| {row.name} | {row.before:.3f} | {spread} | {' | '.join(row.after)} |")
    for run, audit in zip(runs, audits, strict=True):
        verdicts = {name: claim["verdict"] for name, claim in audit["claims"].items()}
        print(f"{run.name}: {audit['headline']} {verdicts}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="+", type=Path)
    main(parser.parse_args().run)
