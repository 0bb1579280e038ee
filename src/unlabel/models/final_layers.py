"""Finding a network's final layers: one forward pass says which they are, another one what they make.

The first pass keeps the graph of automatic differentiation: back from what the network returns, the first
linear layers and convolutions on every path are the final ones. The second pass puts random numbers in the
place of their outputs. Where these numbers come out again, as they are or through a sigmoid or a softmax, the
network makes nothing else of them, and which one belongs to which label is known without a doubt.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from unlabel.core.errors import ModelError, NoLinearHead, OptionError
from unlabel.core.layout import FinalLayer, Layout
from unlabel.core.wording import listing, suggest
from unlabel.models.axes import find_channels_last
from unlabel.models.custom import one_line
from unlabel.models.head import find_head, shared_with
from unlabel.models.normal_form import mean_input, mean_output
from unlabel.models.returned import Columns, Reading, Returned, columns_of

SEED = 3  # of the numbers that are put in
CLOSE = 1e-5  # a probability that is made of such a number, in float32
WRAP = "`unlabel inspect` prints what was found, and a wrapper to fill in"


@dataclass(frozen=True)
class Found:
    """What makes a network's outputs.

    Args:
        layout: Its final layers; None where it has one linear layer with a bias whose outputs it returns.
        reading: Where the logits lie in what it returns.
        notes: What else the user should know, in sentences.
    """

    layout: Layout | None
    reading: Reading
    notes: tuple[str, ...] = ()


@dataclass
class Use:
    """A layer that was used, with what it read and made when it was used last.

    Args:
        name, module: In the network.
        times: How often it was used.
        nodes: Of its outputs, in the graph of automatic differentiation.
        input, output: What it read and made.
        row: Of what it read one row an image, kept from what follows, which may work in place.
        begun: The node of what it read.
    """

    name: str
    module: nn.Module
    times: int = 0
    nodes: tuple[Any, ...] = ()
    input: Tensor | None = None
    row: Tensor | None = None
    begun: Any = None
    output: Tensor | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is a linear layer or a 1x1 convolution."""
        return bool(self.name) and _may_be_final(self.module)

    @property
    def size(self) -> tuple[int, int]:
        """Outputs and features."""
        assert isinstance(self.module, nn.Linear | nn.Conv2d), "no other layer is watched"
        outputs, features = self.module.weight.flatten(1).shape
        return outputs, features


@dataclass(frozen=True)
class Pass:
    """One forward pass: what came out, the layers in the order of use, those that made the logits.

    Args:
        value: What the network returned.
        columns: The part with the logits.
        uses: Linear layers and convolutions.
        final: Those that come last on some path to the logits.
        between: Parameters that act on the outputs of final layers.
        aside: Layers that were used, but of which no logit is made.
        features: What the module of ``--features`` made, (batch, feature).
        channels_last: Whether its channels stand last, if it is a picture.
    """

    value: Any
    columns: Columns
    uses: Sequence[Use]
    final: Sequence[Use]
    between: Sequence[str]
    aside: Sequence[str] = ()
    features: Tensor | None = None
    channels_last: bool | None = None


def check_final(model: nn.Module, outputs: int) -> None:
    """Refuses a network whose layers cannot make one output a label, before anything is read or run.

    Raises:
        NoLinearHead: It has no linear layer and no 1x1 convolution, or none of a fitting size.
    """
    uses = [Use(name, layer) for name, layer in model.named_modules()]
    sizes = [use.size[0] for use in uses if use.is_plain]
    fits = any(size in (outputs, 2 * outputs) for size in sizes)
    several = sum(size < outputs or size == 2 for size in sizes) > 1
    if not (fits or several or (outputs == 1 and sizes)):
        find_head(model, outputs)  # says what is wrong
        raise NoLinearHead(f"no layer of the model has {outputs} outputs; expected one output a label")


def _may_be_final(module: nn.Module) -> bool:
    plain = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear) or (
        plain and module.stride == (1, 1) and module.padding in ((0, 0), 0)
    )


def find_layout(
    model: nn.Module,
    labels: Sequence[str],
    images: Tensor,
    *,
    logits: str | None = None,
    features: str | None = None,
) -> Found:
    """Finds the final layers of a network, and how its logits are made of them.

    Args:
        model: In eval mode, on the images' device.
        labels: Names, in the outputs' order.
        images: Two or more normalised images, (batch, 3, height, width).
        logits: The part of a returned dict or tuple that holds the logits; told by its name or shape if None.
        features: A module whose output counts as features, besides what the final layers read.

    Raises:
        ModelError: The network raises, or returns nothing that can be its logits.
        NoLinearHead: The logits are not those of final layers.
        OptionError: There is no such part or module.

    Example:
        >>> class Two(nn.ModuleDict):
        ...     def forward(self, images):
        ...         return {name: layer(images.flatten(1)) for name, layer in self.items()}
        >>> two = Two([[name, nn.Linear(12, 1)] for name in "ab"])
        >>> find_layout(two, ["b", "a"], torch.randn(2, 3, 2, 2)).layout.rows
        ((1,), (0,))
    """
    trace = look(model, labels, images, logits=logits, features=features)
    if not bool(torch.isfinite(trace.columns.values).all()):
        raise ModelError("the model's outputs are NaN or infinite; check the weights, --mean and --std")
    if features is None and _is_plain(model, trace, len(labels)):
        return Found(None, Reading("", (), tuple(range(len(labels))), "logits"))
    _check_final(trace, model)
    reading, rows = _matched(model, labels, images, trace)
    layers, width = _described(trace)
    used = {row for pair in rows for row in pair}
    total = sum(layer.outputs for layer in layers)
    if len(used) != total or sum(map(len, rows)) != total:
        raise NoLinearHead(
            f"the final layers {_names(trace)} have {total} outputs, of which {len(used)} make the logits of"
            f" {len(labels)} labels; expected each output once; {WRAP}"
        )
    layout = Layout(layers, rows, features, width, trace.channels_last)
    return Found(layout, reading, tuple(_notes(trace, reading, layers)))


def look(
    model: nn.Module,
    labels: Sequence[str],
    images: Tensor,
    *,
    logits: str | None = None,
    features: str | None = None,
) -> Pass:
    """One forward pass, with what `find_layout` needs to know of it; raises as that does."""
    uses: dict[str, Use] = {}
    made: list[Any] = []
    with ExitStack() as hooks:
        hooks.enter_context(_watching(model, uses))
        if features is not None:
            module = _module(model, features)
            handle = module.register_forward_hook(lambda _module, _inputs, output: made.append(output))
            hooks.callback(handle.remove)
        hooks.enter_context(_all_free(model))
        hooks.enter_context(torch.inference_mode(False))
        hooks.enter_context(torch.enable_grad())
        value = run_on(model, images.detach().clone().requires_grad_() * 1.0)
        columns = columns_of(value, labels, logits)
        final, between = _walk(columns.values, list(uses.values()), model)
        above = _graph(columns.values.grad_fn)
    aside = [use.name for use in uses.values() if not above & {*use.nodes}]
    if features is not None and not made:
        raise OptionError(f"--features names '{features}', which the forward pass does not use")
    last = find_channels_last(model, images).get(features) if features is not None else None
    rows = mean_output(made[-1], last) if made else None
    return Pass(value, columns, list(uses.values()), final, between, aside, rows, last)


def used_layers(model: nn.Module, images: Tensor) -> list[Use]:
    """The linear layers and convolutions in the order of use; it raises as `run_on` does."""
    uses: dict[str, Use] = {}
    with torch.no_grad(), _watching(model, uses):
        run_on(model, images)
    return list(uses.values())


@contextmanager
def _watching(model: nn.Module, uses: dict[str, Use]) -> Iterator[None]:
    """While open, a forward pass notes the linear layers and convolutions that it uses."""
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                handle = module.register_forward_hook(_watch(uses, name), with_kwargs=True)
                hooks.callback(handle.remove)
        yield


@contextmanager
def _all_free(model: nn.Module) -> Iterator[None]:
    """While open, every parameter is in the graph, those that are frozen too."""
    frozen = [weight for weight in model.parameters() if not weight.requires_grad]
    try:
        for weight in frozen:
            weight.requires_grad_(weight.is_floating_point())
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def run_on(model: nn.Module, images: Tensor) -> Any:
    """What the model returns, or an error that names the size of the images."""
    height, width = images.shape[-2:]
    try:
        return model(images)
    except Exception as error:
        raise ModelError(
            f"the model raised {one_line(error)} on {len(images)} images of {height} x {width} pixels; give"
            " the size that it was made for with --image-size"
        ) from error


def _module(model: nn.Module, name: str) -> nn.Module:
    modules = dict(model.named_modules())
    if not name or name not in modules:
        raise OptionError(
            f"--features names '{name}', which is no module of the network; it has"
            f" {listing([each for each in modules if each and '.' not in each])}.{suggest(name, modules)}"
        )
    return modules[name]


def _watch(uses: dict[str, Use], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> None:
        use = uses.pop(name, None) or Use(name, module)
        use.times += 1
        read = inputs[0] if inputs else named["input"]
        use.input, use.output = read, output
        use.nodes += (output.grad_fn,)
        use.begun = read.grad_fn
        if use.is_plain:
            use.row = mean_input(read.detach(), convolution=isinstance(module, nn.Conv2d)).clone()
        uses[name] = use

    return hook


def _walk(columns: Tensor, uses: Sequence[Use], model: nn.Module) -> tuple[list[Use], list[str]]:
    """The first layers on every path back from the logits, in the order of use; parameters met before."""
    of_node = {node: use for use in uses for node in use.nodes if node is not None}
    of_weight = {id(weight): name for name, weight in model.named_parameters()}
    waiting, visited, final, between = [columns.grad_fn], set(), set(), []
    while waiting:
        node = waiting.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if node in of_node:
            final.add(of_node[node].name)
            continue
        if (name := of_weight.get(id(getattr(node, "variable", None)))) is not None:
            between.append(name)
        waiting += [following for following, _ in node.next_functions]
    return [use for use in uses if use.name in final], between


def _is_plain(model: nn.Module, seen: Pass, outputs: int) -> bool:
    """Whether the network returns what its last linear layer gives, with a bias, for a row of features."""
    if not isinstance(seen.value, Tensor) or len(seen.final) != 1 or seen.value.shape[1:] != (outputs,):
        return False
    use = seen.final[0]
    assert use.input is not None, "it was used"
    assert use.output is not None, "it was used"
    if not isinstance(use.module, nn.Linear) or use.times != 1 or use.input.ndim != 2:
        return False
    if (
        use.output.shape != seen.value.shape
        or not torch.equal(use.output, seen.value)
        or is_parametrized(use.module)
        or shared_with(model, use.module)
    ):
        return False
    try:
        return find_head(model, outputs)[0] == use.name
    except NoLinearHead:
        return False


def _names(seen: Pass) -> str:
    return listing([f"'{use.name}'" for use in seen.final], 4)


def _check_final(seen: Pass, model: nn.Module) -> None:
    """Refuses final layers that no joined layer can stand for."""
    if not seen.final:
        raise NoLinearHead(
            "the model's outputs come from no linear layer and no 1x1 convolution, as far as automatic"
            f" differentiation shows (does it detach them, or use weights that are no module?); {WRAP}"
        )
    for use in seen.final:
        if not use.is_plain:
            raise NoLinearHead(
                f"the model's outputs come from the {type(use.module).__name__} '{use.name or 'itself'}' with"
                " no linear layer after it; expected a linear layer or a 1x1 convolution, last on every path;"
                f" {WRAP}"
            )
        if use.times != 1:
            raise NoLinearHead(
                f"the final layer '{use.name}' is used {use.times} times in one forward pass; expected once;"
                f" {WRAP}"
            )
        if is_parametrized(use.module):
            raise NoLinearHead(
                f"the final layer '{use.name}' has parametrised weights; expected plain ones: call"
                " torch.nn.utils.parametrize.remove_parametrizations in your function"
            )
        if shared := _second_name(model, use):
            raise NoLinearHead(
                f"the final layer '{use.name}' shares '{shared[0]}' with '{shared[1]}', by which a removed"
                " output would come back; expected weights of its own: in your function, give the second name"
                " a copy of them, or leave it out"
            )


def _second_name(model: nn.Module, use: Use) -> tuple[str, str] | None:
    """A weight or bias of a final layer, and another name of it in the network; None where it has one."""
    own = {id(value): f"{use.name}.{name}" for name, value in use.module.named_parameters(recurse=False)}
    for name, value in model.named_parameters(remove_duplicate=False):
        if name != own.get(id(value), name):
            return own[id(value)], name
    return None


def _matched(
    model: nn.Module, labels: Sequence[str], images: Tensor, seen: Pass
) -> tuple[Reading, tuple[tuple[int, ...], ...]]:
    """How the logits come back when random numbers are put in the place of the final layers' outputs."""
    generator = torch.Generator().manual_seed(SEED)
    put: list[Tensor] = []
    with ExitStack() as hooks:
        for use in seen.final:
            assert use.output is not None, "it was used"
            number = torch.randn(use.output.shape, generator=generator).to(use.output)
            put.append(number)
            hook = _replace(number)
            hooks.callback(use.module.register_forward_hook(hook).remove)
        with torch.no_grad():
            columns = columns_of(run_on(model, images), labels, seen.columns.entry)
    rows = torch.cat(
        [
            mean_input(number, convolution=isinstance(use.module, nn.Conv2d))
            for number, use in zip(put, seen.final, strict=True)
        ],
        1,
    )
    for returned, absent, present, made in _ways(columns, rows, len(labels)):
        matched = _same(columns.values, made, absent, present, exact=returned == "logits")
        if matched is not None:
            return Reading(columns.entry, absent, present, returned), matched
    raise NoLinearHead(_no_match(seen, columns, rows))


def _replace(number: Tensor) -> Callable[..., Tensor]:
    return lambda _module, _inputs, _output: number.clone()  # an activation may work in place


Way = tuple[Returned, tuple[int, ...], tuple[int, ...], list[tuple[tuple[int, ...], Tensor]]]


def _ways(columns: Columns, rows: Tensor, count: int) -> Iterator[Way]:
    """What may have become of the rows: how it is returned, in which columns, and candidates by row."""
    total = rows.shape[1]
    single = [((number,), rows[:, number]) for number in range(total)]
    halves = (
        [tuple(range(0, total, 2)), tuple(range(1, total, 2))],
        [
            tuple(range(total // 2)),
            tuple(range(total // 2, total)),
        ],
    )
    differences = [
        [((low, high), rows[:, high] - rows[:, low]) for low, high in zip(*half, strict=True)]
        for half in (halves if total == 2 * count else ())
    ]
    if columns.pairs:
        if len(columns.pairs) == 1:
            absent, present = columns.pairs[0]
            yield "logits", absent, present, single
        for _, present in columns.pairs:
            for made in differences:
                yield "sigmoid", (), present, [(row, value.sigmoid()) for row, value in made]
                yield (
                    "log-sigmoid",
                    (),
                    present,
                    [(row, nn.functional.logsigmoid(value)) for row, value in made],
                )
        return
    every = tuple(range(count))
    for made in (single, *differences):
        yield "logits", (), every, made
        yield "sigmoid", (), every, [(row, value.sigmoid()) for row, value in made]
        yield "log-sigmoid", (), every, [(row, nn.functional.logsigmoid(value)) for row, value in made]
    if total == count:
        yield "softmax", (), every, [((row,), value) for row, value in enumerate(rows.softmax(1).unbind(1))]
        logs = rows.log_softmax(1).unbind(1)
        yield "log-softmax", (), every, [((row,), value) for row, value in enumerate(logs)]


def _same(
    values: Tensor,
    made: list[tuple[tuple[int, ...], Tensor]],
    absent: tuple[int, ...],
    present: tuple[int, ...],
    *,
    exact: bool,
) -> tuple[tuple[int, ...], ...] | None:
    """Of each label the rows that its columns show; None where a column shows none."""
    candidates = torch.stack([value for _, value in made], 1)
    rows_of: list[list[int]] = [[] for _ in present]
    for group in (absent, present):
        for label, column in enumerate(group):
            away = (candidates - values[:, column, None]).abs().amax(0)
            nearest = int(away.argmin())
            if not float(away[nearest]) <= CLOSE * (10 if exact else 1):
                return None
            rows_of[label] += made[nearest][0]
    return tuple(tuple(rows) for rows in rows_of)


def _no_match(seen: Pass, columns: Columns, rows: Tensor) -> str:
    """Says what stands between the final layers and the outputs."""
    names = _names(seen)
    if len(columns.pairs) > 1:
        beside = "side by side or one after another"
        return (
            f"the model returned {columns.values.shape[1]} numbers for {columns.values.shape[1] // 2} labels:"
            f" the two logits of a label may lie {beside}; expected a network that returns (batch, label, 2),"
            f" or their difference, (batch, label); {WRAP}"
        )
    layer = (
        "last linear layer" if len(seen.final) == 1 and isinstance(seen.final[0].module, nn.Linear) else ""
    )
    weights = f", where '{seen.between[0]}' acts on them" if seen.between else ""
    return (
        f"the model's outputs are not those of its {layer or 'final layers'} {names}{weights}; expected those"
        " outputs, or their sigmoid, their softmax or their mean over positions, and nothing else after them;"
        f" {WRAP}"
    )


def _described(seen: Pass) -> tuple[tuple[FinalLayer, ...], int]:
    """The final layers, with equal inputs that the same weights make taken for one; the features' width."""
    inputs: list[tuple[Tensor, frozenset[Any]]] = []
    layers = []
    for use in seen.final:
        assert use.row is not None, "it was used"
        row, ends = use.row, _ends(use.begun)
        equal = [
            number
            for number, (other, begun) in enumerate(inputs)
            if ends == begun and other.shape == row.shape and torch.equal(other, row)
        ]
        if not equal:
            inputs.append((row, ends))
        reads = equal[0] if equal else len(inputs) - 1
        bias, convolution = use.module.bias is not None, isinstance(use.module, nn.Conv2d)
        layers.append(FinalLayer(use.name, *use.size, reads, bias, convolution))
    width = 0 if seen.features is None else seen.features.shape[1]
    return tuple(layers), width


def _ends(node: Any) -> frozenset[Any]:
    """The parameters that a tensor is made of, as the ends of its graph."""
    return frozenset(each for each in _graph(node) if not each.next_functions)


def _graph(node: Any) -> set[Any]:
    """All that a tensor is made of, as nodes of automatic differentiation."""
    waiting, visited = [node], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in visited:
            visited.add(node)
            waiting += [following for following, _ in node.next_functions]
    return visited


def _notes(seen: Pass, reading: Reading, layers: Sequence[FinalLayer]) -> Iterator[str]:
    """What was found that differs from one linear layer whose outputs are returned."""
    entry = f" of '{reading.entry}'" if reading.entry else ""
    total = sum(layer.outputs for layer in layers)
    paired = "softmax" if reading.returned == "sigmoid" else "log-softmax"
    kind = f"{paired} of two logits a label" if total > len(reading.present) else reading.returned
    if reading.returned != "logits":
        yield f"the model returns the {kind}{entry}; the run returns logits"
    elif entry:
        yield f"the logits are those{entry}"
    if seen.columns.order:
        yield (
            f"the keys of what is returned are no labels ({listing(seen.columns.order)}): their order is"
            " taken for the labels'"
        )
    reads = {layer.reads for layer in layers}
    inputs = "one input" if len(reads) == 1 else f"{len(reads)} inputs"
    kind = "1x1 convolution" if layers[0].convolution else "linear layer"
    what = f"{kind} '{layers[0].module}'" if len(layers) == 1 else f"{len(layers)} layers {_names(seen)}"
    yield f"head: {what} on {inputs}, read as one linear layer"
    if not all(layer.bias for layer in layers):
        yield "a final layer has no bias: its outputs keep a bias of 0"
    if seen.aside:
        yield (
            f"no logit is made of {listing([repr(name) for name in seen.aside], 3)}, so erasing does not"
            " reach it: what else the network returns may still tell of a forgotten label"
        )
