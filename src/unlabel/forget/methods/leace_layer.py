"""LEACE as a layer: in closed form, no linear probe of the features finds the label."""

import copy
import time
from dataclasses import dataclass

from torch import nn

from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.eraser_layer import erase, to_erase
from unlabel.forget.methods.ranges import in_range
from unlabel.forget.pipeline import Unlearner, Work


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
    merged into it. Labels of earlier requests are taken out as well, if some images are annotated with them.
    Later requests do not train the layer; where they move the features, what it took out is taken out of them
    again. An exported state dict holds the layer's numbers beside the network's own, which a network without
    the layer refuses to load; ONNX holds it as part of the graph.

    Differs from the paper: see leace-head; and units of the features that are not 0 in fewer images than a
    given share are set to 0 first. What so few images show weighs nothing in a covariance, while a probe
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
        bill = erase(edited, to_erase(model, request, data), request, data, run, self.rare)
        seconds = {"erase": time.perf_counter() - started}
        return Work(edited, images_scored=len(data), seconds=seconds, settings=bill)
