"""The search behind the defaults of weight filtering and pruning: docs/results/paper-methods.md.

python benchmarks/weights.py RUN --label Male --reference R1,R2,R3 < benchmarks/weights.txt

Each line of the input is a method and its options, ``weight-filtering tau=5 contrast=false``. Nothing here
touches E: attacks are fitted on one half of P, by identity, and measured on the other, one probe seed.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import nn

from unlabel.audit.attacks.outputs import read_others
from unlabel.audit.attacks.probes import read_features
from unlabel.audit.attacks.utility import measurable, read_utility
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.subject import Subject
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import UnlabelError
from unlabel.core.randomness import uniform
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.driver import forget_labels
from unlabel.models.features import outputs
from unlabel.runs.folder import load_run
from unlabel.runs.record import source_of

COLUMNS = ("probe.adv.lin", "probe.adv.mlp", "probe.bits.mlp", "others.adv.lin", "others.adv.gbt")


def read(model: nn.Module, halves: tuple[Dataset, Dataset], request: Request, run: Run) -> list[float]:
    """The columns of one row: attacks on the forgotten label, then the mean AUC of the retained ones."""
    fitted, measured = (outputs(model, half, run) for half in halves)
    subject, options = Subject("model", "after", fitted, measured, measured), AuditOptions(probe_seeds=1)
    question = ask(request.forget[0], halves[0], halves[1], halves[1])
    advantages = {
        **read_features(fitted, measured, question, options),
        **read_others(subject, request.masked_columns, question, options),
    }
    utility = read_utility(subject, halves[1], measurable(halves[1], request.retained), options)
    return [*(advantages[name].value for name in COLUMNS), utility.macro("util.auc").value]


def show(name: str, values: list[float], stages: str = "") -> None:
    """One row of the table."""
    cells = [f"{value:.3f}" for value in values[:-1]] + [f"{values[-1]:.4f}"]
    print(f"| {name} | {' | '.join(cells)} | {stages} |", flush=True)


def main() -> None:
    """Prints a Markdown table: the original, the mean of the references, then every setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--label", default="Male")
    parser.add_argument("--reference", default="")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    run = engine.start(accelerator="cpu", seed=given.seed)
    original = load_run(given.run)
    source = source_of(original.config, original.record, None, skip_bad=False, run=run)
    request = Request.make([given.label], original.config.labels)
    coin = uniform(0, "benchmark/half", source.probe.cluster) < 0.5
    halves = source.probe.take(np.flatnonzero(coin)), source.probe.take(np.flatnonzero(~coin))
    print(f"| setting | {' | '.join(COLUMNS)} | retained AUC | seconds |")
    print("| --- " * (len(COLUMNS) + 3) + "|")
    show("original", read(original.model, halves, request, run))
    references = [load_run(path).model for path in given.reference.split(",") if path]
    if references:
        rows = [read(model, halves, request, run) for model in references]
        show(f"Retrain, mean of {len(rows)}", [fmean(column) for column in zip(*rows, strict=True)])
    for line in sys.stdin:
        method, *words = line.split("#")[0].split() or [""]
        if not method:
            continue
        options = {name: _value(text) for name, text in (word.split("=", 1) for word in words)}
        try:
            outcome = forget_labels(
                original.model, [given.label], source.train, method=method, run=run, **options
            )
        except UnlabelError as error:
            print(f"| {line.strip()} | {error} |", flush=True)
            continue
        stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in outcome.seconds.items())
        show(line.strip(), read(outcome.model, halves, request, run), stages)


def _value(text: str) -> object:
    """A number, true, false, or the word itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    main()
