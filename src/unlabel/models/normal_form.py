"""A network of any head as one with a single linear head: its normal form, and the way back.

Methods, sites and audits know one head: a last linear layer with one row a label. `NormalForm` gives them
one. It runs the user's network up to its last final layer, catches what the final layers read, and applies
one joined layer instead::

    one layer per label, one input     rows stacked
    one layer per label, own inputs    inputs side by side; each row reads its own, zeros elsewhere
    two logits a label                 the row of "present" less the row of "absent"
    a 1x1 convolution                  a row on the mean over positions
    no bias                            a bias of 0 that no training moves

A final layer's weights live in the joined layer alone: what stands in its place has none. `own_state` writes
them back under the user's names.
"""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unlabel.core.errors import ModelError
from unlabel.core.layout import FinalLayer, Layout
from unlabel.models.custom import one_line
from unlabel.models.eraser import eraser_of
from unlabel.models.head import REMOVED_CLASS

CHANGED = "is the network's code still the code that the model was adopted with?"


class Joined(nn.Linear):
    """One linear layer for all final layers.

    Where each row reads inputs of its own, the numbers outside are 0 and have no gradient, so that no
    training fills them. Whatever writes there all the same counts: outputs are those of the whole matrix.

    Args:
        features, outputs: As of a linear layer.
        own: (output, feature) which numbers the final layers have; None for all.
        bias: Whether all final layers have a bias; if not, it is held where it is.
    """

    own: Tensor | None

    def __init__(self, features: int, outputs: int, own: Tensor | None, *, bias: bool) -> None:
        super().__init__(features, outputs)
        self.register_buffer("own", own, persistent=False)
        self.bias.requires_grad_(bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New random numbers, where the final layers have any."""
        super().reset_parameters()
        with torch.no_grad():
            if (own := getattr(self, "own", None)) is not None:
                self.weight.mul_(own)
            if not self.bias.requires_grad:
                self.bias.zero_()

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        if self.own is None:
            return super().forward(input)
        return linear(input, torch.where(self.own, self.weight, self.weight.detach()), self.bias)


class Emptied(nn.Module):
    """Stands where a final layer was; its outputs are zeros of the same shape, and are not used.

    Args:
        layer: What was there.
    """

    def __init__(self, layer: FinalLayer) -> None:
        super().__init__()
        self.convolution = layer.convolution
        read, made = ("in_channels", "out_channels") if layer.convolution else ("in_features", "out_features")
        setattr(self, read, layer.features)
        setattr(self, made, layer.outputs)
        self.outputs = layer.outputs

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Zeros, (batch, outputs, height, width) or (..., outputs)."""
        if self.convolution:
            return input.new_zeros((input.shape[0], self.outputs, *input.shape[2:]))
        return input.new_zeros((*input.shape[:-1], self.outputs))


class _Arrived(BaseException):
    """Raised at the last final layer, past which nothing is needed; no ``except Exception`` catches it."""


class NormalForm(nn.Module):
    """A user's network whose final layers are one linear layer, ``head``.

    Args:
        network: The user's network; its final layers are taken out of it.
        layout: Where they are.

    Raises:
        ModelError: The network has no such layers.
    """

    def __init__(self, network: nn.Module, layout: Layout) -> None:
        super().__init__()
        weight, bias = _rows(network, layout)
        self.layout = layout
        self.network = network
        for layer in layout.layers:
            parent, _, name = layer.module.rpartition(".")
            network.get_submodule(parent).add_module(name, Emptied(layer))
        every = all(layer.bias for layer in layout.layers)
        self.head = Joined(weight.shape[1], weight.shape[0], _own(layout), bias=every)
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)
        self.head.to(weight.device, weight.dtype)
        self.train(network.training)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (batch, label)."""
        return self.head(self.read(images))

    def read(self, images: Tensor) -> Tensor:
        """What the head reads, (batch, feature): the inputs side by side; it raises as `inputs` does."""
        inputs = self.inputs(images)
        return inputs[0] if len(inputs) == 1 else torch.cat(inputs, -1)

    def inputs(self, images: Tensor) -> list[Tensor]:
        """The different inputs of the final layers, each (batch, feature), and the named features.

        Raises:
            ModelError: The network did not reach all of them.
        """
        rows: dict[int, Tensor] = {}
        layers = self.layout.layers

        def arrive(number: int, layer: FinalLayer) -> Callable[..., None]:
            def hook(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
                given = inputs[0] if inputs else named["input"]
                row = mean_input(given, convolution=layer.convolution)
                # what follows may work in place
                rows.setdefault(layer.reads, row if number == len(layers) - 1 else row.clone())
                if number == len(layers) - 1 and not torch.compiler.is_exporting():
                    raise _Arrived  # a tracer wants to see every module end; it drops what is not used

            return hook

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            rows[len(self.layout.inputs) - 1] = mean_output(output, self.layout.channels_last).clone()

        with ExitStack() as hooks:
            for number, layer in enumerate(layers):
                module = self.network.get_submodule(layer.module)
                handle = module.register_forward_pre_hook(arrive(number, layer), with_kwargs=True)
                hooks.callback(handle.remove)
            if self.layout.features is not None:
                module = self.network.get_submodule(self.layout.features)
                hooks.callback(module.register_forward_hook(keep).remove)
            with suppress(_Arrived):
                self.network(images)
        if len(rows) < len(self.layout.inputs):
            raise ModelError(f"the network did not come to all of its final layers; {CHANGED}")
        return [rows[number] for number in range(len(rows))]


def own_columns(model: nn.Module, label: int) -> list[int] | None:
    """The features that a label's final layer reads, among those of the head; None for all of them."""
    mask = model.head.own if isinstance(model, NormalForm) else None
    return None if mask is None else torch.nonzero(mask[label]).ravel().tolist()


def mean_input(value: Tensor, *, convolution: bool) -> Tensor:
    """One row an image of what a final layer reads: (batch, feature), the mean over positions."""
    if convolution:
        return value.mean((2, 3))
    return value.flatten(1, -2).mean(1) if value.ndim > 2 else value


def mean_output(value: Any, channels_last: bool | None = None) -> Tensor:
    """One row an image of what any module makes: (batch, feature), the mean over positions.

    Args:
        value: What it makes.
        channels_last: Whether the channels of a picture stand last; None, as in runs from before this was
            recorded: where the other two axes are equal.

    Raises:
        ModelError: It is no tensor with one row an image.
    """
    first = value[0] if isinstance(value, tuple | list) and value else value
    if not isinstance(first, Tensor) or not 2 <= first.ndim <= 4 or not first.is_floating_point():
        raise ModelError(
            f"--features names a module that makes {_kind(first)}; expected a tensor of numbers with one row,"
            " one sequence or one picture an image"
        )
    if first.ndim == 4:
        if channels_last is None:
            channels_last = first.shape[1] == first.shape[2] != first.shape[3]
        return first.mean((1, 2)) if channels_last else first.mean((2, 3))
    return first.mean(1) if first.ndim == 3 else first


def _kind(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def normal_form(network: nn.Module, layout: Layout | None) -> nn.Module:
    """The normal form of a network; the network itself where it has one linear head already.

    Args:
        network: Becomes a part of the result.
        layout: Of `models.final_layers.find_layout`, or of a run's ``config.json``.

    Raises:
        ModelError: The network has no such layers.

    Example:
        >>> from unlabel.core.layout import FinalLayer, Layout
        >>> two = nn.Sequential(nn.Flatten(), nn.Linear(12, 2, bias=False))
        >>> model = normal_form(two, Layout((FinalLayer("1", 2, 12, 0, False),), ((0,), (1,))))
        >>> [*model.state_dict()], model(torch.zeros(1, 3, 2, 2)).tolist()
        (['head.weight', 'head.bias'], [[0.0, 0.0]])
    """
    return network if layout is None else NormalForm(network, layout)


def _layers(network: nn.Module, layout: Layout) -> list[nn.Linear | nn.Conv2d]:
    """The modules of the final layers, checked against their description."""
    layers: list[nn.Linear | nn.Conv2d] = []
    for layer in layout.layers:
        try:
            module = network.get_submodule(layer.module)
        except AttributeError as error:
            raise ModelError(
                f"the network has no layer '{layer.module}' ({one_line(error)}); {CHANGED}"
            ) from error
        if not isinstance(module, nn.Conv2d if layer.convolution else nn.Linear):
            raise ModelError(f"'{layer.module}' is a {type(module).__name__} in this network; {CHANGED}")
        if module.weight.flatten(1).shape != (layer.outputs, layer.features) or layer.bias == (
            module.bias is None
        ):
            raise ModelError(
                f"'{layer.module}' has a weight of shape {tuple(module.weight.shape)} in this network, but"
                f" {layer.outputs} x {layer.features} is recorded; {CHANGED}"
            )
        layers.append(module)
    if layout.features is not None:
        try:
            network.get_submodule(layout.features)
        except AttributeError as error:
            raise ModelError(f"the network has no module '{layout.features}'; {CHANGED}") from error
    return layers


@torch.no_grad()
def _rows(network: nn.Module, layout: Layout) -> tuple[Tensor, Tensor]:
    """Weight (label, feature) and bias (label,) of the joined layer."""
    modules = _layers(network, layout)
    first, total = modules[0].weight, sum(layer.outputs for layer in layout.layers)
    weight = first.new_zeros(total, layout.inputs[-1].stop)
    bias = first.new_zeros(total)
    start = 0
    for layer, module in zip(layout.layers, modules, strict=True):
        rows = slice(start, start + layer.outputs)
        weight[rows, layout.inputs[layer.reads]] = module.weight.flatten(1)
        if module.bias is not None:
            bias[rows] = module.bias
        start += layer.outputs
    present = [rows[-1] for rows in layout.rows]
    if not layout.pairs:
        return weight[present], bias[present]
    absent = [rows[0] for rows in layout.rows]
    return weight[present] - weight[absent], bias[present] - bias[absent]


def _own(layout: Layout) -> Tensor | None:
    """(label, feature) which numbers of the joined layer the final layers have; None for all."""
    if len(layout.inputs) == 1:
        return None
    mask = torch.zeros(len(layout.rows), layout.inputs[-1].stop, dtype=torch.bool)
    for label, rows in enumerate(layout.rows):
        for row in rows:
            mask[label, layout.inputs[layout.owner(row)[0].reads]] = True
    return mask


@torch.no_grad()
def own_state(model: NormalForm) -> tuple[dict[str, Tensor], list[str]]:
    """A normal form's numbers under the user's own names, for the user's own network.

    Of two logits a label, each gets half of the difference: their softmax is the label's probability.

    Returns:
        The state dict, and what the reader should know about it, in sentences.

    Raises:
        ModelError: The user's network has no place for some number.
    """
    layout, head = model.layout, model.head
    constant = _check_way_back(model)
    state = {
        name.removeprefix("network."): value
        for name, value in model.state_dict().items()
        if name.startswith("network.")
    }
    for layer in layout.layers:
        shape = (layer.outputs, layer.features, *((1, 1) if layer.convolution else ()))
        state[f"{layer.module}.weight"] = head.weight.new_zeros(shape)
        if layer.bias:
            state[f"{layer.module}.bias"] = head.bias.new_zeros(layer.outputs)
    for label, rows in enumerate(layout.rows):
        owners = [layout.owner(row) for row in rows]
        for (layer, number), sign in zip(owners, (-1, 1) if layout.pairs else (1,), strict=True):
            share = sign / sum(other.reads == layer.reads for other, _ in owners)
            row = head.weight[label, layout.inputs[layer.reads]] * share
            state[f"{layer.module}.weight"][number] = row.view_as(state[f"{layer.module}.weight"][number])
            if layer.bias:
                state[f"{layer.module}.bias"][number] = head.bias[label] * sign / len(rows)
    notes = []
    if layout.pairs:
        notes.append(
            "the two logits of a label are each other's negatives now; their difference and their softmax are"
            " the run's"
        )
    if constant:
        notes.append(
            f"{_without_bias(layout)} has no bias, so a removed output is 0, a probability of 0.5, and not"
            " the label's base rate"
        )
    return state, notes


def _check_way_back(model: NormalForm) -> bool:
    """Refuses numbers that the user's layers cannot hold; whether a removed output loses its constant."""
    head, layout = model.head, model.layout
    if eraser_of(model) is not None:
        raise ModelError(
            "the run holds a layer that takes directions out of the features, and the network has no place"
            " for it between its own layers; export --to onnx, or forget by a method without such a layer"
        )
    if head.own is not None and bool(head.weight[~head.own].any()):
        raise ModelError(
            "the method gave a label's output features that its own layer does not read, so"
            f" '{layout.layers[0].module}' and the others cannot hold the rows; export --to onnx, or forget"
            " by another method, such as deep-probes or erasure"
        )
    if all(layer.bias for layer in layout.layers):
        return False
    biased = torch.tensor([all(layout.owner(row)[0].bias for row in rows) for rows in layout.rows])
    moved = (head.bias != 0) & ~biased.to(head.bias.device)
    if bool((moved & (head.weight.any(1) | (head.bias == REMOVED_CLASS))).any()):
        raise ModelError(
            f"the method moved an output by a constant, but {_without_bias(layout)} has no bias to hold it;"
            " export --to onnx, or adopt the model with a bias of 0 in that layer: nn.Linear(..., bias=True)"
        )
    return bool(moved.any())


def _without_bias(layout: Layout) -> str:
    return f"'{next(layer.module for layer in layout.layers if not layer.bias)}'"
