"""One row of docs/results/confusion-sweep.md: forget, then one pass of the audit's attacks, one probe seed.

python benchmarks/confusion.py RUN --strength 1 --steps 188 --lr 0.05 [--images 2048] [--label Male]
"""

import argparse
from pathlib import Path

import torch

from unlabel.audit.attacks.outputs import read_others
from unlabel.audit.attacks.probes import read_features
from unlabel.audit.attacks.utility import measurable, read_utility
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.subject import Subject
from unlabel.audit.run.folders import sets_of
from unlabel.core import engine
from unlabel.core.request import Request
from unlabel.forget.driver import forget_labels
from unlabel.models.features import outputs
from unlabel.runs.folder import load_run
from unlabel.runs.record import source_of


def main() -> None:
    """Prints advantage and bits of the probes, advantage of the other outputs, and the retained AUC."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--label", default="Male")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=188)
    for name, default in (("strength", 1.0), ("lr", 0.05)):
        parser.add_argument(f"--{name}", type=float, default=default)
    given = parser.parse_args()
    torch.set_num_threads(1)
    run = engine.start(accelerator="cpu")
    original = load_run(given.run)
    source = source_of(original.config, original.record, None, skip_bad=False, run=run)
    sets, request = sets_of(source, run.seed), Request.make([given.label], original.config.labels)
    options = AuditOptions(probe_seeds=1)
    outcome = forget_labels(
        original.model,
        [given.label],
        source.train,
        method="confusion",
        images=given.images,
        run=run,
        strength=given.strength,
        steps=given.steps,
        lr=given.lr,
    )
    read = {name: outputs(outcome.model, getattr(sets, name), run) for name in ("probe", "test", "train")}
    subject = Subject("unlearned", "after", **read)
    question = ask(given.label, sets.probe, sets.test, sets.train)
    estimates = {
        **read_features(subject.probe, subject.test, question, options),
        **read_others(subject, request.masked_columns, question, options),
    }
    for name, estimate in estimates.items():
        print(f"{name:18s} {estimate.value:.3f}")
    utility = read_utility(subject, sets.test, measurable(sets.test, request.retained), options)
    print(f"{'util.auc.macro':18s} {utility.macro('util.auc').value:.4f}")


if __name__ == "__main__":
    main()
