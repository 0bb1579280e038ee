"""LEACE: in closed form, no linear probe finds the label. At the head; `leace_layer` is for the features."""

import copy
import time

import numpy as np
import torch
from torch import nn

from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.eraser_layer import to_erase
from unlabel.forget.leace import Eraser, bill_of, read, say_bill
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.models.head import find_head
from unlabel.models.outputs import PENULTIMATE

SCOPE = (
    "no affine probe of the outputs beats a constant in expectation over the calibration images, for any"
    " convex loss; probes that are not affine, and all probes of the features, are not covered"
)


def leace_head() -> Unlearner:
    """Removes the label's direction from what the outputs read of the features; changes the head only.

    With x the penultimate features, Sigma their covariance and C their covariances with the forgotten
    labels, the eraser is ``r(x) = x - C (C' Sigma^-1 C)^+ C' Sigma^-1 (x - mean) = P x + mean - P mean``: of
    all affine functions that leave no covariance with the labels, the one that moves x least in units of
    Sigma. It is folded into the head's rows, ``W <- W P`` and ``b <- b + W (mean - P mean)``. One pass over
    the calibration images, no training.

    How far it goes: no *linear* probe of what the head reads can tell the label on the images it was fitted
    on; a non-linear probe of the features still finds it. The features themselves are unchanged, bit for
    bit, so that any probe of them, a linear one too, finds the label as before. It is a control for attacks
    on the outputs, and an upper bound for what editing the head alone can do. For the features, leace-layer
    adds a layer: they come out of an activation, so that no weight is there to take the eraser up.

    Labels of earlier requests are taken out as well, if some images are annotated with them: an eraser of the
    new label alone would give their direction back to the outputs.

    What it costs the retained labels is told before it is applied, and recorded, see `bill_of`. A label that
    goes along with the forgotten one pays most.

    Differs from the paper: the covariance with each label is taken over the images in which it is known, and
    variances below 1e-8 of the largest count as that much, which does not touch the guarantee.

    References:
        Belrose et al., LEACE: Perfect Linear Concept Erasure in Closed Form, NeurIPS 2023.
    """
    return erase_at_head


def erase_at_head(model: nn.Module, request: Request, data: Dataset, run: Run, *, told: bool = True) -> Work:
    """The unlearner of `leace_head`; its cost is told, or is only in the settings, for `say_bill`."""
    started = time.perf_counter()
    answers = read(model, data, run)
    features = answers.features[PENULTIMATE]
    columns = [request.labels.index(name) for name in to_erase(model, request, data)]
    eraser = Eraser.fit(features, data.target[:, columns])
    edited = copy.deepcopy(model)
    _, head = find_head(edited, len(request.labels))
    live = [column for column, name in enumerate(request.labels) if name not in request.forgotten]
    weight, bias = eraser.fold(*(value.detach().double().cpu().numpy() for value in (head.weight, head.bias)))
    bill = bill_of(answers.logits, features.astype(np.float64) @ weight.T + bias, data, request)
    bill["scope"] = SCOPE
    if told:
        say_bill(bill, run)
    with torch.no_grad():
        head.weight[live] = torch.from_numpy(weight[live]).to(head.weight)
        head.bias[live] = torch.from_numpy(bias[live]).to(head.bias)
    return Work(
        edited, images_scored=len(data), seconds={"erase": time.perf_counter() - started}, settings=bill
    )
