"""Two requests after one another: do the first label's attacks rise? docs/results/paper-methods.md.

python benchmarks/sequential.py RUN --first Male --then Bald --methods confusion,weight-filtering
python benchmarks/sequential.py RUN --start confusion --methods scrub,bad-teacher [--unguarded]

Attacks on the first label, fitted on P and measured on E with both outputs hidden: on the original, after the
first request and after the second. The interval is of the paired difference between the last two.
"""

import argparse
from pathlib import Path

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
from unlabel.core.request import Request
from unlabel.data.dataset import Source
from unlabel.forget import repair
from unlabel.forget.driver import forget_labels
from unlabel.models.features import outputs
from unlabel.runs.folder import load_run
from unlabel.runs.record import source_of
from unlabel.statistics.estimate import Estimate

ATTACKS = ("probe.adv.lin", "probe.adv.mlp", "probe.bits.mlp", "others.adv.lin", "others.adv.gbt")


def read(model: nn.Module, source: Source, request: Request, run: Run) -> dict[str, Estimate]:
    """Every attack on the first label."""
    answers = outputs(model, source.probe, run), outputs(model, source.test, run)
    subject, options = Subject("model", "after", *answers, answers[1]), AuditOptions(probe_seeds=1)
    question = ask(request.forgotten[0], source.probe, source.test, source.test)
    utility = read_utility(subject, source.test, measurable(source.test, request.retained), options)
    return {
        **read_features(*answers, question, options),
        **read_others(subject, request.masked_columns, question, options),
        "retained AUC": utility.macro("util.auc"),
    }


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--first", default="Male")
    parser.add_argument("--then", default="Bald")
    parser.add_argument("--methods", default="confusion,weight-filtering,weight-pruning")
    parser.add_argument("--start", help="method of the first request; the same by default")
    parser.add_argument("--unguarded", action="store_true", help="do not keep the first label forgotten")
    given = parser.parse_args()
    if given.unguarded:
        repair.fitted = lambda *_: None
    torch.set_num_threads(1)
    run = engine.start(accelerator="cpu")
    original = load_run(given.run)
    source = source_of(original.config, original.record, None, skip_bad=False, run=run)
    request = Request.make([given.then], source.labels, forgotten=[given.first])
    print(
        f"| method | attack on {given.first} | original | after {given.first} | after {given.then} | rise |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    before = read(original.model, source, request, run)
    for method in given.methods.split(","):
        start = given.start or method
        one = forget_labels(original.model, [given.first], source.train, method=start, run=run)
        two = forget_labels(
            one.model, [given.then], source.train, method=method, forgotten=[given.first], run=run
        )
        first, second = (read(outcome.model, source, request, run) for outcome in (one, two))
        for name in (*ATTACKS, "retained AUC"):
            rise = second[name] - first[name]
            low, high = rise.interval(0.95, -1.0, 1.0)
            values = " | ".join(f"{each[name].value:.3f}" for each in (before, first, second))
            print(
                f"| {method} | {name} | {values} | {rise.value:+.3f} ({low:+.3f} to {high:+.3f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
