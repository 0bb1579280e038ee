"""What an attacker's training starts from: the model with a new head, and perhaps with new weights below.

::

    start_of(model, lesson, attacker, run)    a model with new outputs, what may move set to move
    can_attack(attacker, model, ...)          whether the network has what the attacker trains
    stage_of_weights(model, labels, images)   in which stage each weight lies
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, kl_div

from unlabel.audit.attacks.adapters import add_adapters, free_norms, layers, norms
from unlabel.audit.attacks.lessons import Lesson, batch_at
from unlabel.audit.attacks.logistic import Standard, fit_logistic
from unlabel.audit.inputs.attackers import Attacker
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.progress import SILENT
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset
from unlabel.forget.fresh import reinitialise, untrained
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.models.outputs import PENULTIMATE
from unlabel.models.sites import find_stages

START = "newton"  # how a new head starts: a part of the name of all that is kept of a training from it
LARGEST = 1e30  # weight of a new head, which float32 can hold
LOOK = 2  # images by which the stages are found
DISTILLED = 3  # times as many steps for the new network as for the training after it
DISTILLING_RATE = 1e-3  # of Adam
FRESH = 2_000_003  # added to the seed of new weights: not those of the control on an untrained network


def start_of(model: nn.Module, lesson: Lesson, attacker: Attacker, run: Run) -> nn.Module:
    """What an attacker makes of a model before the first step; the model is not changed.

    Args:
        model: Any network that `can_attack` allows.
        lesson: The images.
        attacker: Who trains it.
        run: Where.
    """
    data, seed = lesson.data, lesson.options.seed + FRESH
    labels = len(data.labels)
    body = engine.place(copy.deepcopy(model), run)
    if attacker.anew == "upper-half":
        reinitialise(body, upper_half(body, labels, _few(data, run)), seed)
    elif attacker.anew == "network":
        body = distilled(body, lesson, run)
    beside = lesson.retained if attacker.learns == "all-labels" else ()
    other = renewed(body, data, lesson.column, lesson.draw[0], run, beside)
    head = other.get_submodule(find_head(body, labels)[0])
    if attacker.moves == "adapters":
        add_adapters(other, head, seed)
    elif attacker.moves == "norms":
        free_norms(other, head)
    return engine.place(other, run)


def can_attack(attacker: Attacker, model: nn.Module, data: Dataset, run: Run) -> bool:
    """Whether a network has the layers that an attacker trains, or can be given new weights."""
    labels = len(data.labels)
    if attacker.moves == "adapters":
        return bool(layers(model, find_head(model, labels)[1]))
    if attacker.moves == "norms":
        return bool(norms(model))
    if attacker.anew == "upper-half":
        return bool(upper_half(engine.place(model, run), labels, _few(data, run)))
    return attacker.anew != "network" or untrained(_without_head(model, labels), 0) is not None


def renewed(
    model: nn.Module,
    data: Dataset,
    column: int,
    rows: NDArray[np.int64],
    run: Run,
    beside: Sequence[int] = (),
) -> nn.Module:
    """A copy whose head is the linear probe of one label that some images give; every weight can move.

    Args:
        model: The model; not changed.
        data: The probe split.
        column: The label.
        rows: Positions of the images.
        run: Where.
        beside: Columns whose outputs stay, after that of the label.
    """
    other, quiet = engine.place(copy.deepcopy(model), run), replace(run, log=SILENT)
    features = outputs(other, data.take(rows), quiet).features[PENULTIMATE]
    standard = Standard.of(features)
    fitted = fit_logistic(standard(features), data.target[rows, column] == 1)
    weight = np.zeros(features.shape[1])
    weight[standard.keep] = fitted.coef_[0][: len(standard.keep)] / standard.scale
    weight[np.abs(weight) > LARGEST] = 0.0  # of features so small, the product with float32 is inf or NaN
    bias = float(np.ravel(fitted.intercept_)[0] - weight[standard.keep] @ standard.centre)
    _, head = find_head(other, len(data.labels))
    fresh = nn.Linear(head.in_features, 1 + len(beside), device="meta").to_empty(
        device="cpu"
    )  # draws nothing
    with torch.no_grad():
        fresh.weight[0] = torch.from_numpy(weight)
        fresh.bias[0] = bias
        fresh.weight[1:], fresh.bias[1:] = head.weight[list(beside)].cpu(), head.bias[list(beside)].cpu()
    replace_head(other, len(data.labels), fresh)
    return engine.place(other.requires_grad_(True), run)


def replace_head(model: nn.Module, labels: int, head: nn.Linear) -> None:
    """Puts another last linear layer into a model with so many labels, in place."""
    name, _ = find_head(model, labels)
    parent, _, layer = name.rpartition(".")
    setattr(model.get_submodule(parent), layer, head)


def _without_head(model: nn.Module, labels: int) -> nn.Module:
    """A copy with a plain layer for its head, and so without whatever stood before the head."""
    other = copy.deepcopy(model)
    width = find_head(other, labels)[1].in_features
    with torch.random.fork_rng(devices=[]):
        replace_head(other, labels, nn.Linear(width, labels))
    return other


def _few(data: Dataset, run: Run) -> Tensor:
    return batch_of(data, np.arange(min(LOOK, len(data))), run.device).image


@torch.no_grad()
def upper_half(model: nn.Module, labels: int, images: Tensor) -> list[str]:
    """Modules of the fewest last stages that hold at least half of the weights; none without stages.

    Args:
        model: On the images' device.
        labels: Their number.
        images: Two normalised images.

    Returns:
        Names of the modules that begin to compute after the end of a stage and have weights of their own.

    Example:
        >>> from unlabel.models.build import small
        >>> upper_half(small(3), 3, torch.randn(2, 3, 64, 64))
        ['3.0', '3.1', '4.0', '4.1', '5.0', '5.1', '8']
    """
    begun, ended = _order(model, images)
    weights = {name: _own(model.get_submodule(name)) for name in begun}
    for site in reversed(find_stages(model, labels, images)):
        after = [name for name, at in begun.items() if at > ended[site.module] and weights[name]]
        if 2 * sum(weights[name] for name in after) >= sum(weights.values()):
            return after
    return []


@torch.no_grad()
def stage_of_weights(model: nn.Module, labels: int, images: Tensor) -> dict[str, str]:
    """The stage in which each weight lies: the first that ends after the weight's module begins to compute.

    Args:
        model: On the images' device.
        labels: Their number.
        images: Two normalised images.

    Returns:
        By name of weight: ``stage1`` ..., ``features`` for what follows the last stage, or ``head``.

    Example:
        >>> from unlabel.models.build import small
        >>> found = stage_of_weights(small(3), 3, torch.randn(2, 3, 64, 64))
        >>> found["0.0.weight"], found["4.1.bias"], found["8.weight"]
        ('stage1', 'stage3', 'head')
    """
    begun, ended = _order(model, images)
    sites, (head, _) = find_stages(model, labels, images), find_head(model, labels)

    def stage(module: str) -> str:
        if module == head:
            return "head"
        while module not in begun:  # its parent computes with its weights
            module = module.rpartition(".")[0]
        after = (site.name for site in sites if ended[site.module] > begun[module])
        return next(after, "features")

    return {name: stage(name.rpartition(".")[0]) for name, _ in model.named_parameters()}


def _own(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters(recurse=False))


def _order(model: nn.Module, images: Tensor) -> tuple[dict[str, int], dict[str, int]]:
    """When each module first begins to compute, and when it last ends, in one forward pass."""
    begun: dict[str, int] = {}
    ended: dict[str, int] = {}
    clock = count()
    handles = []
    for name, module in model.named_modules():

        def begins(*_: Any, name: str = name) -> None:
            begun.setdefault(name, next(clock))

        def ends(*_: Any, name: str = name) -> None:
            ended[name] = next(clock)

        handles += [module.register_forward_pre_hook(begins), module.register_forward_hook(ends)]
    was_training = model.training
    model.eval()
    try:
        model(images)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return begun, ended


def distilled(model: nn.Module, lesson: Lesson, run: Run) -> nn.Module:
    """A network of the same form with new weights, which learns a model's retained outputs.

    From images of the probe split, whose annotations it does not see, augmented as in training.

    Args:
        model: The teacher, on the run's device.
        lesson: The images, the retained labels, the steps and the seed.
        run: Where.
    """
    data, columns, options = lesson.data, list(lesson.retained), lesson.options
    student = untrained(_without_head(model, len(data.labels)), options.seed + FRESH)
    assert student is not None, "can_attack has looked"
    student, teacher = engine.place(student, run).requires_grad_(True).train(), model.eval()
    optimiser = torch.optim.Adam(student.parameters(), lr=DISTILLING_RATE)
    with engine.own_draws(run):
        torch.manual_seed(options.seed)
        for step in range(DISTILLED * options.tune_steps):
            positions, epoch = batch_at(step, len(data), lesson.number, options.seed)
            batch = batch_of(data, positions, run.device, seed=options.seed, epoch=epoch)
            with torch.no_grad(), run.fabric.autocast():
                wanted = teacher(batch.image)[:, columns].float()
            with run.fabric.autocast():
                logits = student(batch.image)[:, columns].float()
            if data.exclusive:
                loss = kl_div(logits.log_softmax(1), wanted.softmax(1), reduction="batchmean")
            else:
                loss = binary_cross_entropy_with_logits(logits, wanted.sigmoid())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    return student.eval()
