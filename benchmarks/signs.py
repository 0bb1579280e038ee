"""Error of the random-sign diagonals against the number of micro-batches M: docs/results/paper-methods.md.

python benchmarks/signs.py RUN [--batches 32]

The exact diagonal is summed one sample and column after another; both use the same first M micro-batches
of 32 images.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from unlabel.core import engine
from unlabel.forget.gradients import Moment, moments
from unlabel.forget.score import rankable
from unlabel.forget.tasks import Task
from unlabel.runs.folder import load_run
from unlabel.runs.record import source_of


def main() -> None:
    """Prints a Markdown table: M, the bound sqrt(2/M), and the root mean square relative error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--batches", type=int, default=32)
    given = parser.parse_args()
    torch.set_num_threads(1)
    run = engine.start(accelerator="cpu")
    loaded = load_run(given.run)
    data = source_of(loaded.config, loaded.record, None, skip_bad=False, run=run).train
    task = Task(tuple(range(len(data.labels))), data.exclusive)
    names = rankable(loaded.model, len(data.labels))
    wanted = [Moment(task.loss, square=True), Moment(task.curvature, square=True)]
    totals: dict[str, torch.Tensor] = {}
    print("| M | sqrt(2/M) | empirical Fisher, rms error | Gauss-Newton, rms error |")
    print("| --- | --- | --- | --- |")
    for number in range(given.batches):
        part = data.take(np.arange(32 * number, 32 * (number + 1)))
        for way, exact in (("exact", True), ("signs", False)):
            for kind, moment in enumerate(moments(loaded.model, part, run, wanted, exact=exact)):
                flat = torch.cat([moment[name].reshape(-1) for name in names])
                totals[f"{way}{kind}"] = totals.get(f"{way}{kind}", torch.zeros_like(flat)) + flat
        m = number + 1
        if m & number:
            continue
        errors = []
        for kind in range(2):
            true, guess = totals[f"exact{kind}"], totals[f"signs{kind}"]
            used = true > 0
            errors.append(float(((guess[used] - true[used]) / true[used]).square().mean().sqrt()))
        print(f"| {m} | {(2 / m) ** 0.5:.3f} | {errors[0]:.3f} | {errors[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
