"""A method of your own: write it, check what it promises, and compare it with a baseline.

    python examples/your_method.py

It needs no data and takes half a minute. docs/your-method.md does the same on the command line.
"""

import copy

import torch
from own_model import LABELS, MEAN, STD, loader, train

import unlabel
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.forget.repair import Train, retained_loss
from unlabel.testing import check_unlearner


def forget_by_noise(*, scale: float = 0.3, steps: int = 20, lr: float = 0.05) -> Unlearner:
    """Add noise to every weight, then train the retained labels again.

    Args:
        scale: Size of the noise, in standard deviations of the weights.
        steps: Optimiser steps.
        lr: Peak learning rate.
    """

    def unlearner(model, request, data, run):
        new = copy.deepcopy(model)
        random = torch.Generator().manual_seed(run.seed)
        for weight in new.parameters():
            noise = torch.randn(weight.shape, generator=random).to(weight)
            weight.data += scale * weight.data.std(correction=0) * noise
        return Work(new, Train(retained_loss, steps, lr)(new, model, request, data, {}, run))

    return unlearner


def main() -> None:
    """Checks the method, then forgets with it and with a baseline, and prints what attackers still find."""
    check_unlearner(forget_by_noise, steps=4)

    splits = {"train": loader(500, 1), "probe": loader(400, 2), "test": loader(400, 3)}
    source = unlabel.load(**splits, labels=LABELS, mean=MEAN, std=STD, normalised=True)
    original, retrained = train(splits["train"], [0, 1, 2], seed=0), train(splits["train"], [1, 2], seed=1)
    print(f"{'method':16s} {'probe finds':>12s} {'retrained':>12s} headline")
    for method in (forget_by_noise, "head-removal"):
        outcome = unlabel.forget_labels(original, "Disc", source.train, method)
        audit = unlabel.audit_model(original, outcome.model, retrained, source, "Disc", start="random")
        found = {m.model: m.value for m in audit.metrics if (m.id, m.label) == ("probe.adv.mlp", "Disc")}
        references = [value for name, value in found.items() if name not in ("before", "after")]
        print(f"{outcome.method:16s} {found['after']:12.2f} {references[0]:12.2f} {audit.headline}")


if __name__ == "__main__":
    main()
