"""The network and the annotations that `forget_labels` is given, checked before any method runs.

A network whose outputs are not those of its last linear layer would keep the label, or lose another one. A
label that was forgotten earlier comes back in silence if nobody says that it was, or if nobody annotates it.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import LabelMismatch, MethodError, NoLinearHead
from unlabel.core.request import Request
from unlabel.core.wording import listing
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset
from unlabel.models.custom import copied
from unlabel.models.head import check_in_layout, find_head, shared_with

FEW = 2  # images on which outputs are looked at, before and after; they are on no bill


def taken(model: object, request: Request, data: Dataset, run: Run) -> tuple[nn.Module, bool]:
    """A copy of a network, on the run's device and in evaluation mode; and whether it needs plain memory.

    Args:
        model: What was passed.
        request: The labels.
        data: Images of the size that it takes.
        run: Where.

    Raises:
        ModelError: It is no network, cannot be copied, or does not return one row of logits an image.
        NoLinearHead: Its outputs are not those of its last linear layer, or that layer's weights are made of
            others, or serve another layer as well.
        LabelMismatch: An output is a constant, and nobody said that its label was forgotten.
    """
    original = engine.place(copied(model, "model"), run).eval()
    images = batch_of(data, np.arange(min(FEW, len(data))), run.device).image
    plain = check_in_layout(original, len(request.labels), images)
    name, head = find_head(original, len(request.labels))
    if is_parametrized(head):
        raise NoLinearHead(
            f"the weights of the last linear layer '{name}' are computed from others (a parametrisation), so"
            f" its rows cannot be set; call torch.nn.utils.parametrize.remove_parametrizations("
            f"model.get_submodule('{name}'), 'weight') first"
        )
    if other := shared_with(original, head):
        raise NoLinearHead(
            f"the last linear layer '{name}' shares its weights with '{other}', so removing an output would"
            " change what that layer does; expected weights of its own: give one of them a copy"
        )
    _refuse_unsaid(head, request)
    return original, plain


def _refuse_unsaid(head: nn.Linear, request: Request) -> None:
    """Refuses a row of zeros, as of a label that was removed, whose label nobody named as forgotten."""
    silent = (head.weight == 0).all(1).tolist()
    unsaid = [
        name
        for name, zero in zip(request.labels, silent, strict=True)
        if zero and name not in (*request.forget, *request.forgotten)
    ]
    if unsaid and not all(silent):
        names = ", ".join(repr(name) for name in unsaid[:3])
        raise LabelMismatch(
            f"the output of {listing(unsaid)} is the same for every image: all its weights in the last layer"
            " are 0, as of a label that was removed. Say so, or it comes back: in Python by"
            f" forgotten=[{names}]; else adopt the model again with --without"
        )


def annotated(request: Request, data: Dataset) -> list[str]:
    """The labels forgotten now or earlier that some images show as present and others as absent."""
    columns = zip(request.masked, request.masked_columns, strict=True)
    return [name for name, column in columns if {0, 1} <= set(np.unique(data.target[:, column]).tolist())]


def refuse_unannotated(request: Request, data: Dataset) -> None:
    """Refuses to train on where nothing says which images have a label that was forgotten earlier.

    Raises:
        LabelMismatch: A label forgotten earlier is not annotated as present and as absent.
    """
    if missing := [name for name in request.forgotten if name not in annotated(request, data)]:
        raise LabelMismatch(
            f"{listing(missing)} was forgotten earlier, and no images are annotated with it as present, or"
            " none as absent; so a training could bring it back unseen. Use annotated images, or a method"
            " that moves no weights below the last layer: head-removal, leace-head"
        )


@torch.inference_mode()
def check_constant(model: nn.Module, request: Request, data: Dataset, run: Run) -> None:
    """Looks whether the forgotten outputs are the same for several images.

    Raises:
        MethodError: They are not.
    """
    images: Tensor = batch_of(data, np.arange(min(FEW, len(data))), run.device).image
    scores = model(images)[:, list(request.masked_columns)]
    if not torch.equal(scores, scores[:1].expand_as(scores)):
        raise MethodError(
            "the forgotten outputs still differ from image to image after their rows were set to 0; expected"
            " a method that leaves the last linear layer as what makes the outputs"
        )
