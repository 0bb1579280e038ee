"""What every table must contain: doing nothing but hiding, hoping, and starting again."""

import time
from dataclasses import dataclass

from torch import nn

from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.core.recipe import Blueprint
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.halves import retain_part
from unlabel.forget.pipeline import Pipeline, Unlearner, Work
from unlabel.forget.repair import Train, retained_loss
from unlabel.training.fit import train


def head_removal() -> Unlearner:
    """Changes no weight but the output row, which every method removes at its end.

    The trivial baseline: perfect on every metric of the output, and the network knows what it knew.
    """
    return Pipeline()


def fine_tune(*, steps: int = 188, lr: float = 0.05) -> Unlearner:
    """Trains on the retained labels' true values and hopes that the forgotten one fades.

    Nothing pushes the label out: expect little forgetting.

    Args:
        steps: Optimiser steps, >= 1.
        lr: Peak learning rate, > 0.

    References:
        Golatkar, Achille and Soatto, Eternal Sunshine of the Spotless Net, CVPR 2020 (as a baseline).
    """
    if steps < 1:
        raise OptionError(f"--steps is {steps}; expected 1 or more")
    return Pipeline(repair=Train(retained_loss, steps, lr))


def retrain(*, blueprint: Blueprint) -> Unlearner:
    """Trains again from random weights by the original's own recipe, never shown the label.

    The reference that others are measured against. Equal, bit for bit, to ``unlabel train --without``
    with the same seed.

    Args:
        blueprint: The recorded network and recipe; the command line reads it from the run.
    """
    return Again(blueprint)


@dataclass(frozen=True)
class Again:
    """The unlearner of `retrain`; needs the whole training split."""

    blueprint: Blueprint

    def __call__(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        started = time.perf_counter()
        plan = self.blueprint
        new, history = train(
            retain_part(data, request).data,
            plan.recipe,
            run,
            network=plan.network,
            stem=plan.stem,
            head=plan.head,
            without=request.masked,
        )
        return Work(new, history, 0, {"train": time.perf_counter() - started})
