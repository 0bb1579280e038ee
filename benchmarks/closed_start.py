"""`deep-probes` from a closed-form start in all layers, for `unlabel forget closed_start:started`.

Run where this file is found: ``PYTHONPATH=benchmarks unlabel forget closed_start:started RUN --labels LABEL
--steps 90 --pressure 0.12 --out OUT``. Its figures are in docs/results/auto.md.
"""

from dataclasses import replace
from typing import cast

from torch import nn

from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset
from unlabel.forget.methods.damp import damp
from unlabel.forget.methods.deep_probes import LOOK, DeepProbes, deep_probes
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.forget.residual import Residuals
from unlabel.models.sites import find_sites


def started(
    *, steps: int = 90, pressure: float = 0.12, lr: float = 0.2, strength: float = 2.0, rounds: int = 2
) -> Unlearner:
    """`damp` in all layers, then `deep-probes`, whose floors and first probes are the original's.

    Args:
        steps: Optimiser steps of `deep-probes`.
        pressure: Its pressure.
        lr: Its peak learning rate.
        strength: Of `damp`; 0 leaves it out.
        rounds: Of `damp`.
    """
    method = cast(DeepProbes, deep_probes(steps=steps, pressure=pressure, lr=lr))

    def unlearner(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        if strength == 0:
            return method(model, request, data, run)
        start = damp(strength=strength, rounds=rounds)(model, request, data, run)
        logits = method.logits(model, request, data, run)
        told = Residuals.of(logits, request, data, run, method.spare)
        sites = find_sites(model, len(request.labels), batch_of(data, range(LOOK), run.device).image)
        adversary, read = method.adversary(model, sites, told, data, run)
        history = method.train(start.model, adversary, told, request, data, run)
        return replace(start, history=history, images_scored=start.images_scored + read + LOOK + len(data))

    return unlearner
