"""Only the last layers forget: fine-tuned (CF-k), or given new random weights and trained again (EU-k)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from unlabel.core.engine import Run
from unlabel.core.recipe import History
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.fresh import copy_rows, reinitialise
from unlabel.forget.methods.ranges import check_schedule, in_range
from unlabel.forget.phases import training_only
from unlabel.forget.pipeline import Bands, Pipeline, Unlearner
from unlabel.forget.repair import brief, held_rows, retained_loss
from unlabel.models.head import find_head

Renewed = Literal["nothing", "rows", "layers"]

_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


def cf_k(*, layers: int = 3, reset_head_rows: bool = False, steps: int = 64, lr: float = 0.02) -> Unlearner:
    """Fine-tunes the last few layers on the retained labels and leaves all others as they are.

    ``min label_loss(retained)`` over the last so many convolutions and linear layers in the order in which
    they are registered, the head among them, and over everything registered after the first of these, such as
    the BatchNorm between them. A convolution on a shortcut counts as a layer. All other weights and running
    statistics keep their bits: their modules stay in eval mode and get no gradient.

    Nothing pushes the label out, and what the frozen layers know of it stays: expect little forgetting.

    Differs from the paper: the label's column is masked where the paper deletes images, and one short
    one-cycle schedule on the calibration images stands for 62 epochs with warm restarts.

    Args:
        layers: The paper's k: layers that train, >= 1; all of them where there are no more.
        reset_head_rows: Give the forgotten outputs' rows new random weights first, which shows only when the
            rows are kept: nothing trains them.
        steps: Optimiser steps, >= 1.
        lr: Peak learning rate, > 0.

    References:
        Goel et al., Towards Adversarial Evaluations for Inexact Machine Unlearning, 2022 (CF-k; k = 3).
    """
    in_range("layers", layers, 1)
    check_schedule(steps, lr)
    return Pipeline(repair=LastLayers(layers, "rows" if reset_head_rows else "nothing", steps, lr))


def eu_k(*, layers: int = 3, steps: int = 128, lr: float = 0.05) -> Unlearner:
    """Gives the last few layers new random weights and trains them again on the retained labels only.

    The layers are those of `cf_k`. They have then never been shown the label: exact unlearning, of these
    layers alone. Those below keep every bit and with it what they know of the label, so a probe on the
    features may find it still.

    Differs from the paper: its code re-initialises convolutions and linear layers, here BatchNorm and its
    running statistics too, since they were learnt with the label; the label's column is masked where the
    paper deletes images; and one one-cycle schedule on the calibration images stands for a full training,
    longer than CF-k's and at a higher rate, since new layers have everything to learn.

    Args:
        layers: The paper's k: layers that are renewed, >= 1; all of them where there are no more.
        steps: Optimiser steps, >= 1.
        lr: Peak learning rate, > 0.

    References:
        Goel et al., Towards Adversarial Evaluations for Inexact Machine Unlearning, 2022 (EU-k; k = 3).
    """
    in_range("layers", layers, 1)
    check_schedule(steps, lr)
    return Pipeline(repair=LastLayers(layers, "layers", steps, lr))


@dataclass(frozen=True)
class LastLayers:
    """Renews some of the last k layers, then trains them on the retained labels.

    Args:
        k: See `tail`.
        renewed: What gets new random weights first: nothing, the rows to forget, or the layers. The rows of
            labels forgotten earlier stay as they are in any case.
        steps: Optimiser steps; 0 for none.
        lr: Peak learning rate.
    """

    k: int
    renewed: Renewed
    steps: int
    lr: float

    def __call__(
        self,
        model: nn.Module,
        original: nn.Module,
        request: Request,
        data: Dataset,
        bands: Bands,
        run: Run,
    ) -> History:
        outputs = len(request.labels)
        names = tail(model, self.k)
        head_name, head = find_head(model, outputs)
        earlier = [request.labels.index(name) for name in request.forgotten]
        others = [column for column in range(outputs) if column not in request.columns]
        heads = [head_name] if head_name in names else []  # one that the user has frozen stays as it is
        renewed = {"nothing": [], "rows": heads, "layers": names}[self.renewed]
        reinitialise(model, renewed, run.seed)
        put_back_frozen(model, original)
        copy_rows(head, find_head(original, outputs)[1], others if self.renewed == "rows" else earlier)
        objective, retained, read = retained_loss(original, request, data, run)
        after = [held_rows(model, request)]
        with training_only(model, names):
            return brief(
                model, objective, retained, run, steps=self.steps, lr=self.lr, after=after, images_read=read
            )


def tail(model: nn.Module, k: int) -> list[str]:
    """Names of all modules registered from the k-th last convolution or linear layer on.

    Registration is the order of use in every network that the command line builds. A module with a weight
    that the user has frozen is left out: it stays frozen. One of which only the bias is frozen, as of a head
    that has none, trains its weight.

    Example:
        >>> tail(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)), 2)
        ['0', '1', '2', '3']
    """
    named = list(model.named_modules())
    layers = [position for position, (_, module) in enumerate(named) if isinstance(module, _LAYERS)]
    start = layers[-k] if k <= len(layers) else 0
    return [
        name
        for name, module in named[start:]
        if all(
            weight.requires_grad for own, weight in module.named_parameters(recurse=False) if own != "bias"
        )
    ]


@torch.no_grad()
def put_back_frozen(model: nn.Module, original: nn.Module) -> None:
    """Gives the parameters that may not change the numbers of the original."""
    for weight, before in zip(model.parameters(), original.parameters(), strict=True):
        if not weight.requires_grad:
            weight.copy_(before)
