"""Training against a bare PyTorch loop of the same network and batches, and two processes against one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import process_time

import numpy as np
import torch
from torch import Tensor, nn

from unlabel.bench.pairs import Line, against, by_turns, seconds
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.recipe import Recipe
from unlabel.data.batches import Batch, batch_of
from unlabel.data.dataset import Dataset
from unlabel.models.build import build
from unlabel.models.features import outputs
from unlabel.training.fit import LabelLoss, fit
from unlabel.training.micro_batch import with_micro_batch

LABELS = 10


def noise(images: int, side: int) -> Dataset:
    """Pictures and labels without meaning: only their number and size count here."""
    draw = np.random.default_rng(0)
    return Dataset(
        draw.integers(0, 256, (images, side, side, 3), dtype=np.uint8),
        np.arange(images),
        draw.integers(0, 2, (images, LABELS)).astype(np.int8),
        np.arange(images),
        np.arange(images).astype(str),
        tuple(f"label{number}" for number in range(LABELS)),
    )


def loop_lines(network: str, side: int, images: int, run: Run, rounds: int) -> list[Line]:
    """Our training loop, with its input and augmentation, against steps on batches that lie ready.

    The bare loop has the same network, optimiser, batch and loss: once in one forward pass a batch, and once
    in our micro-batches, which is what they themselves cost.
    """
    data, recipe = noise(images, side), Recipe(epochs=1)
    run = with_micro_batch(run, lambda: build(network, LABELS), (side, side))
    ours = engine.place(build(network, LABELS), run)
    steps = recipe.steps(len(data), run.batch_size)
    ready = batch_of(data, np.arange(min(run.batch_size, images)), run.device)

    def train() -> None:
        fit(ours, LabelLoss(tuple(range(LABELS))), data, recipe, run)

    what = f"training loop, {network}, {side} pixels, input included, against a bare loop on ready batches"
    lines = []
    for ending, micro_batches in (
        (" in one pass", [np.arange(len(ready.rows))]),
        (f" of {run.micro_batch}", run.micro_batches(len(ready.rows))),
    ):
        bare = _bare(engine.place(build(network, LABELS), run), ready, micro_batches, steps, recipe)
        lines.append(by_turns(what + ending, train, bare, rounds, images=steps * run.batch_size, steps=steps))
    return lines


def _bare(
    model: nn.Module, ready: Batch, parts: Sequence[np.ndarray], steps: int, recipe: Recipe
) -> Callable[[], None]:
    """Steps of SGD as the recipe has it, on one batch in some parts, and nothing else."""
    optimiser = torch.optim.SGD(
        model.parameters(), 0.01, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )
    batches = [(ready.image[part], ready.target[part].float()) for part in parts]

    def step_on() -> None:
        model.train()
        for _ in range(steps):
            optimiser.zero_grad(set_to_none=True)
            for image, target in batches:
                (_loss(model, image, target) * (len(image) / len(ready.rows))).backward()
            optimiser.step()
        if ready.image.device.type == "cuda":
            torch.cuda.synchronize()

    return step_on


def _loss(model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(model(image), target)


def process_lines(images: int, run: Run) -> list[Line]:
    """One process with one thread against two with one thread each; both are started before the clock.

    ``cpu`` is the ratio that the processor's time allows: what one process used over what each of two did. On
    a machine with other work, or with fewer than two free cores, it says more than the clock.
    """
    data = noise(images, 64)
    timings = {}
    for count in (1, 2):
        where = replace(
            engine.start(accelerator="cpu", devices=count, batch_size=run.batch_size), seed=run.seed
        )
        timings[count] = engine.launch(where, _both, data)
    return [
        against(
            f"{what}: two processes against one, a thread each",
            timings[2][what][0],
            timings[1][what][0],
            images=images,
            cpu=round(timings[1][what][1] / max(timings[2][what][1], 1e-9), 3),
        )
        for what in timings[1]
    ]


def _both(run: Run, data: Dataset) -> dict[str, tuple[float, float]]:
    """Seconds by the clock, and of the processor in each process on average."""
    torch.set_num_threads(1)
    model = engine.place(build("small", LABELS), run)
    warm = data.take(np.arange(min(len(data), 2 * run.batch_size)))
    loss, once = LabelLoss(tuple(range(LABELS))), Recipe(epochs=1)
    jobs = {
        "training": lambda images: fit(model, loss, images, once, run),
        "reading features": lambda images: outputs(model, images, run),
    }
    timings = {}
    for name, job in jobs.items():
        job(warm)
        run.fabric.barrier()
        before = process_time()
        took, _ = seconds(lambda job=job: job(data))
        used = torch.tensor(process_time() - before, dtype=torch.float64, device=run.device)
        engine.reduce_sums(run, [used])
        timings[name] = (took, float(used) / run.world)
    return timings
