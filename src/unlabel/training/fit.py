"""One training loop, `fit`: for training, retraining and every repair after an edit.

What makes it more than a loop: batches are cut into fixed micro-batches that are shared out over the
processes, so that one process computes what two do; randomness is keyed by image; a killed job goes on
from its checkpoint to the same bits; weights that must not move are put back after each step.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import CheckpointMismatch, MethodError, ModelError
from unlabel.core.layout import Layout
from unlabel.core.loss import loss_of
from unlabel.core.progress import going_on
from unlabel.core.randomness import permutation
from unlabel.core.recipe import History, Recipe
from unlabel.core.request import Request
from unlabel.data.batches import Batch
from unlabel.data.dataset import Dataset
from unlabel.data.feed import Wanted, batches
from unlabel.models.build import build
from unlabel.models.head import find_head, remove_rows, removed_output
from unlabel.training.checkpoints import Checkpoint
from unlabel.training.compiled import compiled
from unlabel.training.ledger import ledger
from unlabel.training.statistics import Statistics

Objective = Callable[[nn.Module, Batch], Tensor]  # -> one loss a sample, (batch,)
AfterStep = Callable[[nn.Module, torch.optim.Optimizer], None]

CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True)
class LabelLoss:
    """The ordinary objective: the loss of the model's logits over some columns, see `core.loss.loss_of`."""

    columns: tuple[int, ...]
    exclusive: bool = False
    compiles: ClassVar[bool] = True  # reads no layer inside the network, see `training.compiled`

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        return loss_of(exclusive=self.exclusive)(model(batch.image), batch.target, self.columns)


@dataclass(frozen=True)
class PutBack:
    """After each step, restores given parts of given parameters to given values, bit for bit.

    Masking gradients is not enough: momentum and weight decay move a weight without a gradient.

    Args:
        parts: Parameter name -> (boolean mask of its shape, values of its shape).
    """

    parts: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def head_rows(cls, model: nn.Module, outputs: int, columns: Sequence[int]) -> "PutBack":
        """Holds the head's rows for these columns where they are now."""
        name, head = find_head(model, outputs)
        masked = {}
        for parameter, value in ((f"{name}.weight", head.weight), (f"{name}.bias", head.bias)):
            mask = torch.zeros_like(value, dtype=torch.bool)
            mask[list(columns)] = True
            masked[parameter] = (mask, value.detach().clone())
        return cls(masked)

    @torch.no_grad()
    def __call__(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        parameters = dict(model.named_parameters())
        for name, (mask, value) in self.parts.items():
            parameters[name].copy_(torch.where(mask, value, parameters[name]))


def fit(
    model: nn.Module,
    objective: Objective,
    data: Dataset,
    recipe: Recipe,
    run: Run,
    *,
    after_step: AfterStep | None = None,
    clip: float | None = None,
    checkpoint: Checkpoint | None = None,
    stage: str = "train",
) -> History:
    """Trains a model in place.

    A batch is ``run.batch_size`` images, cut into micro-batches of ``run.micro_batch``. Each process takes
    every world-th micro-batch; gradients are summed over all and divided once. BatchNorm normalises within
    a micro-batch and its running statistics become the mean over the batch's micro-batches. What a network
    draws itself, as dropout does, is keyed by the step and the micro-batch. The order of images is one keyed
    permutation after another without a break: every batch is full, no image favoured.

    Args:
        model: On the run's device; left in training mode as it was given.
        objective: One loss a sample; the mean over the batch is minimised.
        data: Images to train on, at least one.
        recipe: Length and rates.
        run: Where and with which seed.
        after_step: Called with the model and the optimiser after each step, such as `PutBack`.
        clip: Longest gradient, as the norm over all parameters; a longer one is shortened. None for any.
        checkpoint: What to save to about every half minute and to go on from; only rank 0 writes.
        stage: Name in the progress display.

    Returns:
        The history, with the rows of steps before a resume.

    Raises:
        Diverged: The loss is NaN or infinite; the model is then useless.
        ModelError: No weight may be trained.
        CheckpointMismatch: The checkpoint is damaged, or is another training's.
    """
    engine.check_launched(run)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ModelError(
            "no weight of the model may be trained, as requires_grad is off for all; expected some that may:"
            " model.requires_grad_(True)"
        )
    was_training = model.training
    model.train()
    steps = recipe.steps(len(data), run.batch_size)
    optimiser = _sgd(model, recipe, run)
    rates = [recipe.rate(step, steps) for step in range(steps)]
    rows, earlier = checkpoint.resume(model, optimiser, rates) if checkpoint else ([], 0.0)
    if checkpoint is not None:
        _same_everywhere(len(rows), run)
    started = saved = time.perf_counter()
    told = ledger(steps, run.device, rows)
    track = run.track if run.rank == 0 else None
    if track is not None:
        for row in rows:
            track(stage, row)  # of the part before a resume
    network = compiled(model, objective, data, run)
    wanted = _wanted(len(data), recipe, run, range(len(rows), steps))
    with (
        closing(batches(data, wanted, run)) as feed,
        going_on(run.log, stage, steps * run.batch_size, "images", len(rows) * run.batch_size) as advance,
        told.first_cause(),
    ):
        for step in range(len(rows), steps):
            done = len(told.rows)
            for group in optimiser.param_groups:
                group["lr"] = rates[step]
            optimiser.zero_grad(set_to_none=True)
            with engine.own_draws(run):
                loss = _accumulate(network, objective, feed, run, step)
            read = told.note(step, rates[step], loss)
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimiser.step()
            if after_step is not None:
                after_step(model, optimiser)
            if track is not None:
                for row in told.rows[done:]:
                    track(stage, row)
            advance(run.batch_size, f"loss {told.rows[-1]['loss']:.3f}" if told.rows else "")
            now = time.perf_counter()
            if checkpoint is not None and read and run.rank == 0 and now - saved > CHECKPOINT_SECONDS:
                checkpoint.save(model, optimiser, told.rows, earlier + now - started)
                saved = now
    optimiser.zero_grad(set_to_none=True)  # as large as the network, and of no more use
    model.train(was_training)
    seconds = earlier + time.perf_counter() - started
    return History(tuple(told.rows), steps * run.batch_size, seconds, earlier)


def _same_everywhere(steps: int, run: Run) -> None:
    """Refuses to go on from a checkpoint that not every machine sees."""
    made = torch.zeros(run.world, device=run.device)
    made[run.rank] = steps
    engine.reduce_sums(run, [made])
    if len(set(made.tolist())) > 1:
        raise CheckpointMismatch(
            "not all machines see the checkpoint of the unfinished training; expected --out on a disk that"
            " all share: name another --out"
        )


def _sgd(model: nn.Module, recipe: Recipe, run: Run) -> torch.optim.SGD:
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(
        [
            {"params": [p for p in moving if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in moving if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        fused=True if run.device.type == "cuda" else None,  # on a CPU it would round otherwise
    )


def _order(step: int, n: int, run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Positions and epochs of one batch in the unbroken stream of permutations."""
    stream = np.arange(step * run.batch_size, (step + 1) * run.batch_size)
    epoch, offset = stream // n, stream % n
    positions = np.empty(len(stream), np.int64)
    for number in np.unique(epoch):
        now = epoch == number
        positions[now] = _permutation(run.seed, n, int(number))[offset[now]]
    return positions, epoch


@lru_cache(maxsize=2)
def _permutation(seed: int, n: int, epoch: int) -> np.ndarray:
    return permutation(seed, "order", n, epoch)


def _wanted(n: int, recipe: Recipe, run: Run, steps: range) -> Iterator[Wanted]:
    """This process's micro-batches of some steps, of `n` images."""
    micro_batches = run.micro_batches(run.batch_size)[run.rank :: run.world]
    for step in steps:
        positions, epoch = _order(step, n, run)
        for part in micro_batches:
            yield positions[part], epoch[part] if recipe.augment else None


def _accumulate(model: nn.Module, objective: Objective, feed: Iterator[Batch], run: Run, step: int) -> Tensor:
    """Leaves the batch's gradient in the parameters, equal on every process, and returns its mean loss.

    Nothing here waits for the device: the loss is a float64 tensor there.
    """
    micro_batches = run.micro_batches(run.batch_size)
    statistics = Statistics.of(model, len(micro_batches), run.world)
    loss_sum = torch.zeros((), dtype=torch.float64, device=run.device)
    for number in range(run.rank, len(micro_batches), run.world):
        engine.key_draws(run, "fit", step, number)
        batch = next(feed)
        statistics.restart()
        with run.fabric.autocast():
            losses = objective(model, batch).float()
        try:
            (losses.sum() / run.batch_size).backward()
        except CheckpointError as error:
            raise MethodError(
                "the network uses torch.utils.checkpoint, which computes layers a second time, but they were"
                " read while they were computed first; switch checkpointing off in the network"
            ) from error
        loss_sum += losses.detach().double().sum()
        statistics.add()
    gradients = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    engine.reduce_sums(run, [*gradients, *statistics.total, loss_sum])
    statistics.finish()
    return loss_sum / run.batch_size


def train(
    data: Dataset,
    recipe: Recipe,
    run: Run,
    *,
    network: str = "small",
    stem: str = "imagenet",
    head: Layout | None = None,
    without: str | Sequence[str] = (),
    checkpoint: Checkpoint | None = None,
) -> tuple[nn.Module, History]:
    """Trains a network from random weights, on all labels or never shown some of them.

    Trained ``without`` a label, a network is the reference for having forgotten it (*Retrain*): the column
    is left out of the loss, and the output is a constant at the label's base rate from first step to last.
    Trained without a class, it sees none of that class's images, and never answers with it.

    Args:
        data: Training images.
        recipe: Length and rates.
        run: Where; its seed keys the initial weights, the order of images and their augmentation.
        network: `small`, `resnet18`, `resnet50`, or a network by name, see `models.build.build`.
        stem: First layer of a ResNet: `imagenet`, or `small` for images of few pixels.
        head: Where the outputs of a network of the user's own are made; see `models.normal_form`.
        without: Label or labels to withhold.
        checkpoint: See `fit`.

    Returns:
        The model on the run's device, in eval mode, and its history.

    Raises:
        RequestError: A label to withhold is none of the data's, or is all that there are.
    """
    columns = Request.make(without, data.labels, see="in source.train.labels").columns if without else ()
    model = engine.place(build(network, len(data.labels), stem=stem, seed=run.seed, head=head), run)
    _, last = find_head(model, len(data.labels))
    remove_rows(last, columns, [removed_output(data, column) for column in columns])
    trained = tuple(column for column in range(len(data.labels)) if column not in columns)
    hold = PutBack.head_rows(model, len(data.labels), columns)
    history = fit(
        model,
        LabelLoss(trained, data.exclusive),
        data.answerable(trained),
        recipe,
        run,
        after_step=hold,
        checkpoint=checkpoint,
    )
    return model.eval(), history
