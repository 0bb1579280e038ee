"""One function runs any method, checks that it did something, and removes the output rows."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import EmptySelection, LabelMismatch, MethodError, OptionError
from unlabel.core.kinds import is_whole
from unlabel.core.randomness import uniform
from unlabel.core.request import Request, as_names
from unlabel.core.wording import listing, suggest
from unlabel.data.dataset import Dataset
from unlabel.forget.eraser_layer import erase_again
from unlabel.forget.given import check_constant, refuse_unannotated, taken
from unlabel.forget.methods import Method, as_method, methods
from unlabel.forget.pipeline import Outcome, Work
from unlabel.forget.retained import compare, held_back, sample_to_measure
from unlabel.models.custom import freed
from unlabel.models.eraser import erasing
from unlabel.models.head import find_head, remove_rows, removed_output

MOST_IMAGES = 10**9


def forget_labels(
    model: nn.Module,
    labels: str | Sequence[str],
    data: Dataset,
    method: str | Method | Callable[..., Any] = "auto",
    *,
    images: int | None = None,
    keep_row: bool = False,
    forgotten: str | Sequence[str] = (),
    rows: str | Sequence[str] = (),
    run: Run | None = None,
    **options: Any,
) -> Outcome:
    """Makes a copy of a model forget some of its labels.

    Every method ends by making the forgotten outputs constant (row weights 0, bias logit of the base
    rate), so that downstream code keeps its K outputs. A constant of an earlier request stays as it is.

    Args:
        model: Any network whose last linear layer has one output a label of the data; not changed.
        labels: Names to forget, or one bare name.
        data: Training images, such as ``source.train``; a keyed sample of them is used, never all by default.
        method: A name of `methods`, ``module:function``, or the function itself of a method of your own.
        images: Calibration images, 16 or more; fewer are used when there are fewer. None for the method's own
            number.
        keep_row: Leave the forgotten outputs as the method left them.
        forgotten: Labels that earlier requests removed from this model.
        rows: Names of training images: forget the labels' annotations of these images only, and keep the
            labels. Not every method can.
        run: Where and with which seed; this machine and 0 by default.
        **options: The method's own.

    Returns:
        The unlearned model, on the run's device and in eval mode, with the bill, and with what the retained
        labels' mean AUC was before and after on training images held back from the method: ``retained``.
        Nothing is refused for what it lost; that check is not on the method's bill, nor are two looks at the
        outputs of two images.

    Raises:
        RequestError: The labels do not fit.
        OptionError: No such method or option, or a value out of range.
        LabelMismatch: A forgotten label is constant in the data, or nothing is annotated; or an output is a
            constant, and ``forgotten`` does not name it.
        ModelError: The network does not return one row of logits an image, or not those of its last linear
            layer.
        EmptySelection: The method changed nothing.
        Diverged: The loss became NaN.

    Example:
        >>> from unlabel.testing import tiny_world
        >>> world = tiny_world()
        >>> outcome = forget_labels(world.model, ["top"], world.data, method="head-removal")
        >>> outcome.changed, outcome.total
        (17, 2507)
    """
    if not isinstance(data, Dataset):
        raise OptionError(
            f"data is a {type(data).__name__}; expected images to learn from, such as source.train"
        )
    entry, run = as_method(method), run or engine.start()
    engine.check_launched(run)
    if rows and not entry.rows:
        able = ", ".join(name for name, each in methods().items() if each.rows)
        raise OptionError(f"method '{entry.name}' forgets whole labels only; with --rows, use one of {able}")
    request = Request.make(
        labels,
        data.labels,
        forgotten=forgotten,
        rows=positions_of(data, rows),
        see="in source.train.labels",
    )
    check_options(entry, options)
    check_blueprint(entry, options)
    parameters = entry.options()
    unlearner = entry.load()(**options)
    sample, held = shown(
        entry, data, entry.images if images is None else images, run.seed, listed=request.rows
    )
    check_columns(sample, request)
    head_only = entry.head_only or (entry.name == "auto" and options.get("against") == "outputs")
    if request.forgotten and not (entry.reference or head_only):
        refuse_unannotated(request, sample)
    original, plain = taken(model, request, sample, run)
    started = time.perf_counter()
    work = unlearned(entry, unlearner, original, request, sample, run)
    again = erase_again(work.model, original, request, sample, run)
    _, head = find_head(work.model, len(request.labels))
    if not keep_row:
        remove_rows(head, request.masked_columns, constants(original, request, sample))
        check_constant(work.model.eval(), request, sample, run)
    seconds = {**work.seconds, "total": time.perf_counter() - started}
    changed, total = count_changed(original, work.model)
    if changed == 0:
        raise EmptySelection(
            f"method '{entry.name}' changed none of {total:,} weights, so nothing can have been forgotten;"
            " choose another method, or do not keep the output row"
        )
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    return Outcome(
        model=freed(work.model.eval()) if plain else work.model.eval(),
        request=request,
        method=work.method or entry.name,
        options={**defaults, **options, **work.settings, **({"erased_again": again} if again else {})},
        changed=changed,
        total=total,
        images_used=len(sample) if work.history.steps or work.images_scored else 0,
        images_processed=work.history.images_processed + work.images_scored + (len(sample) if again else 0),
        seconds=seconds,
        history=work.history,
        retained=compare(original, work.model.eval(), held, request, run, unseen=entry.data != "train"),
        self_check=work.self_check,
    )


def constants(original: nn.Module, request: Request, data: Dataset) -> list[float]:
    """What each forgotten output says from now on; one that was removed earlier says what it said."""
    _, head = find_head(original, len(request.labels))
    return [
        head.bias[column].item()
        if name in request.forgotten and not head.weight[column].any()
        else removed_output(data, column)
        for name, column in zip(request.masked, request.masked_columns, strict=True)
    ]


def unlearned(
    entry: Method, unlearner: Any, original: nn.Module, request: Request, sample: Dataset, run: Run
) -> Work:
    """What an unlearner hands back.

    Raises:
        MethodError: The method's function returned no unlearner, or that returned no `Work`.
    """
    if not callable(unlearner):
        raise MethodError(
            f"method '{entry.name}' returned {type(unlearner).__name__}; expected an unlearner: a function of"
            " (model, request, data, run)"
        )
    work = unlearner(original, request, sample, run)
    if not isinstance(work, Work):
        raise MethodError(
            f"the unlearner of method '{entry.name}' returned {type(work).__name__}; expected"
            " unlabel.forget.pipeline.Work(model) with the new model"
        )
    return work


def check_options(entry: Method, options: Iterable[str]) -> None:
    """Refuses an option that a method does not have.

    Raises:
        OptionError: With the options that it has.
    """
    parameters = entry.options()
    for name in options:
        if name not in parameters:
            flags = ", ".join(f"--{option.replace('_', '-')}" for option in parameters) or "no options"
            raise OptionError(
                f"method '{entry.name}' has no option '{name}'; it has {flags}.{suggest(name, parameters)}"
            )


def check_blueprint(entry: Method, options: Iterable[str]) -> None:
    """Refuses a method that trains anew where nobody says how the network was trained."""
    if entry.reference and "blueprint" not in options:
        raise OptionError(
            f"method '{entry.name}' trains anew by the recipe of a run, which a network does not have; use"
            " unlabel.train(data, recipe, run, without=labels)"
        )


def positions_of(data: Dataset, names: Sequence[str]) -> tuple[int, ...]:
    """Positions in the whole source of training images given by name.

    Raises:
        LabelMismatch: A name is no training image.
    """
    names = as_names(names)
    row_of = dict(zip(data.ids.tolist(), data.rows.tolist(), strict=True)) if names else {}
    unknown = [name for name in names if name not in row_of]
    if unknown:
        raise LabelMismatch(
            f"{len(unknown)} of {len(names)} names in --rows are not among the {len(data):,} training images:"
            f" {listing([repr(name) for name in unknown], 3)}; write them as in image_id"
        )
    return tuple(row_of[name] for name in names)


def calibration(data: Dataset, images: int, seed: int, *, listed: Sequence[int] = ()) -> Dataset:
    """A keyed sample of the training images: which ones depends on the seed and the images alone.

    Images that are listed by their position in the whole source are always in it.
    """
    if not (is_whole(images) and 16 <= images <= MOST_IMAGES):
        raise OptionError(f"--images is {images!r}; expected a whole number from 16 to {MOST_IMAGES:,}")
    rank = uniform(seed, "calibration", data.rows)
    rank[np.isin(data.rows, np.array(listed, np.int64))] = -1.0
    images = max(images, len(listed))
    return data.take(np.sort(np.argsort(rank, kind="stable")[:images]))


def shown(
    entry: Method, data: Dataset, images: int, seed: int, *, listed: Sequence[int] = ()
) -> tuple[Dataset, Dataset]:
    """The images that a method sees, and those on which the retained labels are measured."""
    sample = calibration(data, images, seed, listed=listed)
    if entry.data == "train":
        return data, sample_to_measure(data, seed)
    return held_back(data, sample, seed, listed=listed)


def check_columns(data: Dataset, request: Request) -> None:
    """Refuses a forgotten label of which there is only one kind: there is nothing to forget in it."""
    for name, column in zip(request.forget, request.columns, strict=True):
        kinds = set(np.unique(data.target[:, column]).tolist()) - {-1}
        if len(kinds) < 2:
            state = {0: "absent", 1: "present"}.get(next(iter(kinds), -1), "unknown")
            raise LabelMismatch(
                f"label '{name}' is {state} in all of {len(data):,} images; expected both present and absent"
                " ones: use more images (--images), or data in which it varies"
            )


def count_changed(before: nn.Module, after: nn.Module) -> tuple[int, int]:
    """How many numbers differ, and how many there are, among parameters and in an erasing layer."""
    reference, new = ({**dict(model.named_parameters()), **erasing(model)} for model in (before, after))
    changed = total = 0
    with torch.no_grad():
        for name, value in new.items():
            old = reference.get(name)
            same = old is not None and old.shape == value.shape
            changed += int((value != old).sum()) if same else value.numel()
            total += value.numel()
    return changed, total
