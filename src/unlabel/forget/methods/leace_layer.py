"""LEACE as a layer: in closed form, no linear reader of the features finds the label."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.methods.leace import Eraser, bill_of, read, say_bill
from unlabel.forget.methods.ranges import in_range
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.models.eraser import Erase, eraser_of, insert_eraser
from unlabel.models.features import PENULTIMATE
from unlabel.models.head import find_head

SCOPE = (
    "no affine reader of the features that the head reads, nor of the outputs, beats a constant in"
    " expectation over the calibration images, for any convex loss; readers that are not affine, and all"
    " readers of earlier layers, are outside it"
)


def leace_layer(*, rare: float = 0.01) -> Unlearner:
    """Adds a layer between the features and the head that takes the label's direction out of them.

    The eraser of leace-head, kept as a layer: ``x -> x - U (V x - c)`` in float64, of one direction a label.
    So a linear probe of what the head reads is at chance, too, where leace-head hides the label from the
    outputs alone. The network below keeps its weights and all that it knows: a probe that is not linear, or
    one before the new layer, finds the label as before. One pass over the calibration images, no training.

    What it costs the retained labels is told before it is applied, and recorded: of each one's logit the
    share of its variance that goes, which is the squared correlation with the linear discriminant score of
    the forgotten label, and the AUC that it loses on the calibration images.

    The run remembers the layer, and every later command and request builds on it; a second leace-layer is
    merged into it. Later requests do not train it; where they move the features, what it took out is taken
    out of them again. An exported state dict holds the layer's numbers beside
    the network's own, which a network without the layer refuses to load; ONNX holds it as part of the graph.

    Differs from the paper: see leace-head; and units of the features that are not 0 in fewer images than a
    given share are set to 0 first. What so few images show weighs nothing in a covariance, while a reader
    may live on it.

    Args:
        rare: Share of the images in which a unit must not be 0, 0 to 1; 0 keeps all units.

    References:
        Belrose et al., LEACE: Perfect Linear Concept Erasure in Closed Form, NeurIPS 2023.
    """
    in_range("rare", rare, 0, 1)
    return EraseInFeatures(rare)


@dataclass(frozen=True)
class EraseInFeatures:
    """The unlearner of `leace_layer`."""

    rare: float

    def __call__(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        started = time.perf_counter()
        edited = copy.deepcopy(model)
        bill = erase(edited, request.forget, request, data, run, self.rare)
        seconds = {"erase": time.perf_counter() - started}
        return Work(edited, images_scored=len(data), seconds=seconds, settings=bill)


def erase(
    model: nn.Module, labels: Sequence[str], request: Request, data: Dataset, run: Run, rare: float
) -> dict[str, Any]:
    """Adds the layer that takes labels out of a model's features, in place; tells the bill before.

    Returns:
        The bill, see `leace.bill_of`.
    """
    seen = read(model, data, run)
    features = seen.features[PENULTIMATE]
    silent = np.flatnonzero((features != 0).mean(0) < rare)
    quiet = features.copy()
    quiet[:, silent] = 0.0
    eraser = Eraser.fit(quiet, data.target[:, [request.labels.index(name) for name in labels]])
    _, head = find_head(model, len(request.labels))
    weight, bias = (value.detach().double().cpu().numpy() for value in (head.weight, head.bias))
    bill = bill_of(seen.logits, eraser(quiet) @ weight.T + bias, data, request)
    bill["silenced_units"] = len(silent)
    say_bill(bill, SCOPE, run)
    layer = layer_of(eraser, silent, labels)
    if layer.rank:  # without a direction there is nothing to add
        insert_eraser(model, len(request.labels), layer)
    return bill


def layer_of(eraser: Eraser, silent: NDArray[np.integer], labels: Sequence[str]) -> Erase:
    """The layer that sets some units to 0, then erases."""
    alone = torch.eye(len(eraser.out), dtype=torch.float64)[silent]
    out, into, level = (torch.from_numpy(value) for value in (eraser.out, eraser.into, eraser.level))
    return Erase(alone.T, alone, torch.zeros(len(silent))).then(Erase(out, into, level, labels))


def erase_again(
    model: nn.Module, original: nn.Module, request: Request, data: Dataset, run: Run
) -> dict[str, Any] | None:
    """Keeps the promise of an earlier leace-layer after a later method has moved the features, in place.

    The layer is right for the features that it was fitted to. Where they have changed, the labels of earlier
    requests that it took out are taken out of the new ones, too; their annotations are used for that, and in
    no other way.

    Returns:
        The bill, or None where nothing had to be done.
    """
    layer = eraser_of(model)
    labels = [name for name in request.forgotten if layer and name in layer.labels]
    head, _ = find_head(model, len(request.labels))
    before = original.state_dict()
    below = [name for name in before if not name.startswith(f"{head}.")]
    after = model.state_dict()
    if not labels or all(torch.equal(before[name], after[name]) for name in below):
        return None
    return erase(model, labels, request, data, run, 0.0)
