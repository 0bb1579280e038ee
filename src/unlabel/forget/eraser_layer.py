"""A layer before the head that erases labels: fitted, and fitted again after later requests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.given import annotated
from unlabel.forget.leace import Eraser, bill_of, read, say_bill
from unlabel.models.eraser import Erase, eraser_of, insert_eraser
from unlabel.models.head import find_head
from unlabel.models.outputs import PENULTIMATE

SCOPE = (
    "no affine probe of the features that the head reads, nor of the outputs, beats a constant in"
    " expectation over the calibration images, for any convex loss; probes that are not affine, and all"
    " probes of earlier layers, are not covered"
)


def to_erase(model: nn.Module, request: Request, data: Dataset) -> list[str]:
    """The annotated labels, forgotten now or earlier, that no layer takes out of a model's features already.

    An eraser of the new label alone moves the directions of the earlier ones, and so gives them back to a
    head from which they were taken.
    """
    layer = eraser_of(model)
    return [name for name in annotated(request, data) if not (layer and name in layer.labels)]


def erase(
    model: nn.Module, labels: Sequence[str], request: Request, data: Dataset, run: Run, rare: float
) -> dict[str, Any]:
    """Adds the layer that takes labels out of a model's features, in place; writes the cost before.

    Returns:
        The bill, see `leace.bill_of`.
    """
    answers = read(model, data, run)
    features = answers.features[PENULTIMATE]
    silent = np.flatnonzero((features != 0).mean(0) < rare)
    quiet = features.copy()
    quiet[:, silent] = 0.0
    eraser = Eraser.fit(quiet, data.target[:, [request.labels.index(name) for name in labels]])
    _, head = find_head(model, len(request.labels))
    weight, bias = (value.detach().double().cpu().numpy() for value in (head.weight, head.bias))
    bill = bill_of(answers.logits, eraser(quiet) @ weight.T + bias, data, request)
    bill |= {"silenced_units": len(silent), "scope": SCOPE}
    say_bill(bill, run)
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
    """Fits the layer of an earlier leace-layer again after a later method has changed the features, in place.

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
