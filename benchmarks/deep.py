"""The search behind the defaults of deep-probes: docs/results/auto.md.

python benchmarks/deep.py RUN --label Male --reference R1,R2,R3 < benchmarks/deep.txt

Each line of the input is a method and its options, as in benchmarks/weights.py. Beside the columns of that
search: linear probes on the earlier stages, and the AUC after the whole model was trained for 50 steps on 256
annotated images, mean of two draws, at two rates of Adam. Nothing here touches E: attacks are fitted on one
half of P, by identity, and measured on the other.
"""

import argparse
import sys
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import nn

from unlabel.audit.attacks.early_layers import stage_means
from unlabel.audit.attacks.fine_tuning import say, tune
from unlabel.audit.attacks.lessons import Lesson, draw_images
from unlabel.audit.attacks.probes import linear
from unlabel.audit.attacks.starts import renewed
from unlabel.audit.inputs.attackers import ADAM
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import UnlabelError
from unlabel.core.randomness import uniform
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods import METHODS
from unlabel.models.features import outputs
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.runs.folder import load_run
from unlabel.runs.record import source_of
from unlabel.statistics.estimate import auc
from weights import COLUMNS, _value, read

STAGES = ("stage1", "stage2", "stage3")
RATES = (1e-4, 1e-3)
Halves = tuple[Dataset, Dataset]


def stages(model: nn.Module, halves: Halves, label: str, run: Run) -> list[float]:
    """Advantage of a linear probe on the mean over positions at the end of each earlier stage."""
    logits = [outputs(model, half, run).logits for half in halves]
    means = [stage_means(model, half, run) for half in halves]
    question, options = ask(label, halves[0], halves[1], halves[1]), AuditOptions(probe_seeds=1)
    found = []
    for stage in STAGES:
        fitted, measured = (
            Outputs(said, {PENULTIMATE: rows[stage]}) for said, rows in zip(logits, means, strict=True)
        )
        found.append(linear(fitted, measured, question, options).estimates(question)[0].value)
    return found


def relearnt(model: nn.Module, halves: Halves, column: int, run: Run) -> list[float]:
    """AUC after the whole model was trained, at each rate."""
    options = AuditOptions(tune_steps=50, tune_draws=2)
    data, test = halves
    everything = np.arange(len(test))
    found = []
    for rate in RATES:
        areas = []
        for number, (rows, held) in enumerate(draw_images(data.target[:, column], column, 256, options)):
            start = renewed(model, data, column, rows, run)
            lesson = Lesson(data, column, (), (rows, held[:64]), number, options)
            other, _ = tune(start, lesson, ADAM, rate, run)
            areas.append(auc(say(other, test, everything, run), test.target[:, column], everything).value)
        found.append(fmean(areas))
    return found


def main() -> None:
    """Prints a Markdown table: the original, each reference, then every setting."""
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
    names = [*COLUMNS, *STAGES, *(f"trained {rate:g}" for rate in RATES), "retained AUC"]
    print(f"| setting | {' | '.join(names)} |\n" + "| --- " * (len(names) + 1) + "|")

    def show(name: str, model: nn.Module) -> None:
        *attacks, retained = read(model, halves, request, run)
        attacks += stages(model, halves, given.label, run) + relearnt(model, halves, request.columns[0], run)
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in attacks)} | {retained:.4f} |", flush=True)

    show("original", original.model)
    for path in filter(None, given.reference.split(",")):
        show(f"Retrain {Path(path).name}", load_run(path).model)
    for line in sys.stdin:
        method, *words = line.split("#")[0].split() or [""]
        if not method:
            continue
        options = {name: _value(text) for name, text in (word.split("=", 1) for word in words)}
        images = METHODS["deep-probes"].images
        try:
            outcome = forget_labels(
                original.model, [given.label], source.train, method, images=images, run=run, **options
            )
        except UnlabelError as error:
            print(f"| {line.strip()} | {error} |", flush=True)
            continue
        show(line.strip(), outcome.model)


if __name__ == "__main__":
    main()
