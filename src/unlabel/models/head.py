"""The head: the last linear layer, whose row j makes logit j."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import log

import torch
from torch import Tensor, nn

from unlabel.core.errors import ModelError, NoLinearHead
from unlabel.data.dataset import Dataset
from unlabel.models.custom import keep_plain, needs_plain, one_line


def find_head(model: nn.Module, outputs: int) -> tuple[str, nn.Linear]:
    """Name and module of the last linear layer with one output a label.

    "Last" is by the order in which modules are registered, which is the order of use in every network
    that the command line builds; `adopt` checks by a forward pass that this layer makes the outputs.

    Args:
        model: Any network.
        outputs: Number of labels.

    Raises:
        NoLinearHead: There is no linear layer, or none has that number of outputs.

    Example:
        >>> find_head(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), 3)
        ('2', Linear(in_features=8, out_features=3, bias=True))
    """
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise NoLinearHead(
            "the model has no linear layer; expected a last linear layer with one output a label"
        )
    fitting = [(name, layer) for name, layer in linear if layer.out_features == outputs]
    name, head = (fitting or linear)[-1]
    if head.out_features != outputs:
        raise NoLinearHead(
            f"the last linear layer '{name}' has {head.out_features} outputs, but there are {outputs}"
            " labels; expected one output a label, in the labels' order"
        )
    if head.bias is None:
        raise NoLinearHead(
            f"the last linear layer '{name}' has no bias; expected one, since a removed output is a"
            " constant held by its bias"
        )
    return name, head


def shared_with(model: nn.Module, head: nn.Linear) -> str | None:
    """The weight or bias of another layer that is the head's own as well; None if the head's serve it alone.

    By such a layer a removed output would come back, and removing it would change what that layer does. A
    second name of the head itself is no other layer.

    Example:
        >>> tied = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
        >>> tied[0].weight = tied[2].weight
        >>> shared_with(tied, tied[2])
        '0.weight'
    """
    weights = {id(value) for value in head.parameters(recurse=False)}
    for name, module in model.named_modules():
        for part, value in module.named_parameters(recurse=False):
            if module is not head and id(value) in weights:
                return f"{name}.{part}".removeprefix(".")
    return None


@torch.inference_mode()
def check_head(model: nn.Module, outputs: int, images: Tensor) -> None:
    """Checks by a forward pass that the head found by name is what makes the model's outputs.

    Args:
        model: In eval mode, on the images' device.
        outputs: Number of labels.
        images: Two or more normalised images, (batch, channel, height, width).

    Raises:
        ModelError: The model raises, or returns anything but one finite tensor (batch, outputs).
        NoLinearHead: The outputs are not the head's, or its input is not one row of features an image.
    """
    name, head = find_head(model, outputs)
    passed: list[tuple[Tensor, Tensor]] = []

    def keep(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        passed.append((inputs[0], output))

    handle = head.register_forward_hook(keep)
    height, width = images.shape[-2:]
    try:
        scores = model(images)
    except Exception as error:
        number = next((weight.dtype for weight in model.parameters() if weight.dtype.is_floating_point), None)
        advice = (
            "give the size that it was made for with --image-size"
            if number in (torch.float32, None)
            else f"its weights are {number}, but images are torch.float32: pass model.float()"
        )
        raise ModelError(
            f"the model raised {one_line(error)} on {len(images)} images of {height} x {width} pixels;"
            f" {advice}"
        ) from error
    finally:
        handle.remove()
    expected = f"expected one tensor of shape ({len(images)}, {outputs}), the logits of {outputs} labels"
    if not isinstance(scores, Tensor):
        raise ModelError(f"the model returned {type(scores).__name__} for {len(images)} images; {expected}")
    if scores.shape != (len(images), outputs):
        raise ModelError(
            f"the model returned a tensor of shape {tuple(scores.shape)} for {len(images)} images; {expected}"
        )
    if not bool(torch.isfinite(scores).all()):
        raise ModelError("the model's outputs are NaN or infinite; check the weights, --mean and --std")
    if not passed or not torch.equal(passed[-1][1], scores):
        squashed = passed and any(
            torch.allclose(scores, made) for made in (passed[-1][1].sigmoid(), passed[-1][1].softmax(-1))
        )
        raise NoLinearHead(
            f"the model's outputs are not those of its last linear layer '{name}'"
            f"{' but probabilities made from them' if squashed else ''}; expected a model that returns what"
            " that layer gives, its logits"
        )
    if len(passed) != 1 or passed[0][0].ndim != 2:
        raise NoLinearHead(
            f"the last linear layer '{name}' is used {len(passed)} times on inputs of shape"
            f" {tuple(passed[0][0].shape)}; expected once, on one row of features an image"
        )


def check_in_layout(model: nn.Module, outputs: int, images: Tensor) -> bool:
    """`check_head`; a network that fails in the engine's memory layout gets PyTorch's own, in place.

    Returns:
        Whether it was given PyTorch's own; see `custom.keep_plain`.
    """
    try:
        check_head(model, outputs, images)
    except ModelError as error:
        if not needs_plain(error):
            raise
        keep_plain(model)
        check_head(model, outputs, images)
        return True
    return False


def head_rows(name: str) -> tuple[str, str]:
    """Parameter names of the head's weight and bias."""
    return f"{name}.weight", f"{name}.bias"


REMOVED_CLASS = -1e4  # its softmax probability is exactly 0 in every precision


def removed_output(data: Dataset, column: int) -> float:
    """The constant that stands for a removed output: the logit of the label's base rate.

    It keeps downstream code working and says nothing about the image. A removed *class* is never the
    answer instead: at its base rate it would still win wherever the other classes are in doubt.
    """
    if data.exclusive:
        return REMOVED_CLASS
    prior = data.prior(column)
    return log(prior / (1.0 - prior))


def remove_rows(head: nn.Linear, columns: Sequence[int], constants: Sequence[float]) -> int:
    """Turns outputs into constants: row weights 0, bias the constant. Returns how many numbers changed.

    Args:
        head: The last linear layer; changed in place.
        columns: Outputs to remove.
        constants: What each says from now on, such as `removed_output`.
    """
    changed = 0
    with torch.no_grad():
        for column, constant in zip(columns, constants, strict=True):
            changed += int((head.weight[column] != 0).sum()) + int(head.bias[column] != constant)
            head.weight[column] = 0.0
            head.bias[column] = constant
    return changed


@contextmanager
def tap(head: nn.Module, *, before_eraser: bool = False) -> Iterator[list[Tensor]]:
    """While open, the list holds the head's input (batch, feature) of the latest forward pass.

    Args:
        head: The last linear layer.
        before_eraser: Whether it is what the network makes, before an erasing layer (`models.eraser`).
    """
    tapped: list[Tensor] = []

    def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        tapped[:] = [inputs[0]]

    handle = head.register_forward_pre_hook(keep, prepend=before_eraser)
    try:
        yield tapped
    finally:
        handle.remove()
