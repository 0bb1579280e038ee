"""For the tests of this package and of methods written elsewhere: small worlds, and the contract of a method.

::

    tiny_world()                    three bands of the picture; each label lights one
    tiny_world("duplicate")         a label with a twin: forgetting one alone cannot work
    tiny_world("never-learnt")      a label that is in no pixel: nothing to forget
    check_unlearner(my_method)      what every method promises, checked on such a world

Beside this module: `stage`, an audit waiting for a model; `cheats`, models that only look as if they had
forgotten; `weight_attacks`, the attacks of C4 on these.
"""

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import NothingLeft, NothingToForget, OptionError
from unlabel.core.request import Request
from unlabel.core.wording import listing
from unlabel.data.dataset import Dataset
from unlabel.forget.bill import DEFAULT_IMAGES
from unlabel.forget.driver import check_options, constants, forget_labels, shown
from unlabel.forget.methods import Method, as_method
from unlabel.forget.pipeline import Outcome, Unlearner
from unlabel.models.eraser import erasing
from unlabel.models.head import find_head
from unlabel.testing.worlds import SIZE, Kind, World, own_arrays, tiny_network, tiny_world, write_folder

__all__ = ["Kind", "World", "check_unlearner", "differing", "tiny_network", "tiny_world", "write_folder"]


def check_unlearner(
    method: str | Method | Callable[..., Any],
    *,
    world: World | None = None,
    labels: str | Sequence[str] = ("top",),
    forgotten: str | Sequence[str] = (),
    random: bool = True,
    seed: int = 0,
    **options: Any,
) -> None:
    """Checks what every method promises, and raises an `AssertionError` that names the broken promise.

    Of the unlearner: the argument model stays bit-identical, with its modes and ``requires_grad``; so do the
    data's targets, rows and identities; the same seed gives the same bits, and another seed others where the
    method is random; the result is finite, with the keys, shapes and dtypes of the original (and those of an
    erasing layer, where it adds one), ``requires_grad`` kept, and survives safetensors. Of a method, further,
    run by `forget_labels`: every forgotten output is a constant at the base rate, what changed is counted
    right, and all labels, none, or an unknown option are refused.

    Args:
        method: What `forget_labels` takes: a name, a `Method`, or the function that makes an unlearner from
            keyword-only options. Or an unlearner itself, a function of (model, request, data, run).
        world: Where to try it; `tiny_world` by default.
        labels: Labels to forget.
        forgotten: Labels that an earlier request removed from the world's model.
        random: Whether another seed must give another result.
        seed: Key of the method's randomness.
        **options: The method's own; not beside an unlearner, which is made already.

    Raises:
        OptionError: No such method or option, or options beside an unlearner.

    Example:
        >>> check_unlearner("confusion", steps=4)
        >>> check_unlearner(lambda model, request, data, run: None)
        Traceback (most recent call last):
        AssertionError: the unlearner returned NoneType, not a Work with a model
    """
    world = world or tiny_world()
    run = engine.start(accelerator="cpu", seed=seed)
    request = Request.make(labels, world.labels, forgotten=forgotten)
    unlearner, entry = _opened(method, options)
    first = _unlearn(unlearner, world, request, run)
    _require_same(first, _unlearn(unlearner, world, request, run), "with the same seed")
    if random:
        other = _unlearn(unlearner, world, request, run.with_seed(seed + 1))
        _require(differing(first, other) != [], "another seed gave the same bits; pass random=False if meant")
    if entry is not None:
        _check_driver(entry, world, request, run, options)


def _opened(
    method: str | Method | Callable[..., Any], options: dict[str, Any]
) -> tuple[Unlearner, Method | None]:
    """The unlearner, and the method that made it; None of an unlearner that was given itself."""
    if callable(method) and _takes_a_model(method):
        if options:
            raise OptionError(
                f"an unlearner takes no options, found {', '.join(options)}; give the function that makes it,"
                " with its options: check_unlearner(my_method, steps=4)"
            )
        return method, None
    entry = as_method(method)
    check_options(entry, options)
    unlearner = entry.load()(**options)
    _require(
        callable(unlearner),
        f"method '{entry.name}' returned {type(unlearner).__name__}, not a function of (model, request, data,"
        " run)",
    )
    return unlearner, entry


def _takes_a_model(method: Callable[..., Any]) -> bool:
    """Whether a function takes (model, request, data, run), as an unlearner does."""
    try:
        inspect.signature(method).bind(*range(4))
    except TypeError:
        return False
    except ValueError:  # it tells no signature
        return True
    return True


def _unlearn(unlearner: Unlearner, world: World, request: Request, run: Run) -> nn.Module:
    """Runs an unlearner once and checks everything that one run shows."""
    model = engine.place(copy.deepcopy(world.model), run).eval()
    before, looks = _state(model), _looks(model)
    data = own_arrays(world.data)
    work = unlearner(model, request, data, run)
    new = getattr(work, "model", None)
    if not isinstance(new, nn.Module):
        raise AssertionError(f"the unlearner returned {type(work).__name__}, not a Work with a model")
    for name in ("target", "rows", "cluster"):
        same = np.array_equal(getattr(data, name), getattr(world.data, name))
        _require(same, f"the unlearner wrote into the data it was given: {name} changed")
    _require(new is not model, "the unlearner returned its argument instead of a new model")
    _require_same(before, _state(model), "in the argument model")
    _require(_looks(model) == looks, "the argument model's modes or requires_grad changed")
    after = _state(new)
    layers = {*erasing(model), *erasing(new)}
    shapes = [
        {name: (v.shape, v.dtype) for name, v in state.items() if name not in layers}
        for state in (before, after)
    ]
    _require(shapes[0] == shapes[1], "the new model's keys, shapes or dtypes are not the original's")
    unusable = [name for name, value in after.items() if not torch.isfinite(value.float()).all()]
    _require(not unusable, f"the new model is not finite in {unusable}")
    _require(_looks(new)[1] == looks[1], "the new model's requires_grad is not the original's")
    stored = load(save({name: value.cpu().contiguous() for name, value in after.items()}))
    _require_same(after, stored, "after safetensors")
    return new


def _check_driver(method: Method, world: World, request: Request, run: Run, options: dict[str, Any]) -> None:
    """Checks what a method promises when `forget_labels` runs it."""
    given = copy.deepcopy(world.model).train()
    before, looks = _state(given), _looks(given)

    def forget(labels: Sequence[str], **changes: Any) -> Outcome:
        settings = {"method": method, "forgotten": request.forgotten, "run": run, **options, **changes}
        return forget_labels(given, labels, world.data, **settings)

    outcome = forget(request.forget)
    _require_same(before, _state(given), "in the model given to forget_labels")
    _require(_looks(given) == looks, "forget_labels changed modes or requires_grad of the model given")
    after = {**dict(outcome.model.named_parameters()), **erasing(outcome.model)}
    counts = [(_differences(before.get(name), value), value.numel()) for name, value in after.items()]
    changed, total = (sum(column) for column in zip(*counts, strict=True))
    _require(outcome.changed == changed > 0, f"changed is {outcome.changed}, but {changed} numbers differ")
    _require(outcome.total == total, f"total is {outcome.total}, but there are {total} numbers")
    _check_removed(outcome, given, shown(method, world.data, DEFAULT_IMAGES, run.seed)[0])
    left = [name for name in world.labels if name not in request.forgotten]
    for names, error, changes in (
        (left, NothingLeft, {}),
        ((), NothingToForget, {}),
        (request.forget, OptionError, {"no_option": 1}),
    ):
        try:
            forget(names, **changes)
        except error:
            continue
        raise AssertionError(
            f"labels {list(names)} and options {changes} were not refused with {error.__name__}"
        )


def _differences(before: Tensor | None, after: Tensor) -> int:
    if before is None or before.shape != after.shape:
        return after.numel()
    return int((before != after).sum())


def _check_removed(outcome: Outcome, original: nn.Module, data: Dataset) -> None:
    """Every label forgotten now or earlier has a constant output, see `forget.driver.constants`."""
    request = outcome.request
    _, head = find_head(outcome.model, len(request.labels))
    images = torch.randn(32, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    logits = outcome.model(images.to(head.weight.device)).detach()
    constant = dict(zip(request.masked_columns, constants(original, request, data), strict=True))
    for column, expected in constant.items():
        value = head.bias[column].item()
        # the bias is a float32: a number below 8 is stored to 2.4e-7
        _require(abs(value - expected) < 1e-6, f"output {column} is {value}, but expected {expected}")
        _require(bool((logits[:, column] == value).all()), f"output {column} still depends on the image")


def differing(one: nn.Module | dict[str, Tensor], two: nn.Module | dict[str, Tensor]) -> list[str]:
    """Names of the tensors of two models or state dicts that are not bit-identical.

    >>> differing({"w": torch.zeros(2), "b": torch.ones(1)}, {"w": -torch.zeros(2), "b": torch.ones(1)})
    ['w']
    """
    left, right = (_state(side) if isinstance(side, nn.Module) else side for side in (one, two))
    same = {name for name in {*left} & {*right} if _bits(left[name]) == _bits(right[name])}
    return sorted({*left, *right} - same)


def _bits(value: Tensor) -> tuple[Any, ...]:
    return value.dtype, value.shape, value.detach().cpu().numpy().tobytes()


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _looks(model: nn.Module) -> tuple[dict[str, bool], dict[str, bool]]:
    """Mode of each module and ``requires_grad`` of each parameter."""
    modes = {name: module.training for name, module in model.named_modules()}
    return modes, {name: parameter.requires_grad for name, parameter in model.named_parameters()}


def _require(holds: bool, broken: str) -> None:
    """An assertion that Python's -O does not remove."""
    if not holds:
        raise AssertionError(broken)


def _require_same(one: nn.Module | dict[str, Tensor], two: nn.Module | dict[str, Tensor], where: str) -> None:
    different = differing(one, two)
    _require(not different, f"{where}, {len(different)} tensors are not bit-identical: {listing(different)}")
