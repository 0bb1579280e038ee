"""Training against a bare PyTorch loop of the same network and batches, and two processes against one."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from unlabel.bench.pairs import Line, against, by_turns, seconds
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.recipe import Recipe
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset
from unlabel.models.build import build
from unlabel.models.features import outputs
from unlabel.training.fit import LabelLoss, fit

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


def loop_line(network: str, side: int, images: int, run: Run, rounds: int) -> Line:
    """Our training loop, with its input and augmentation, against steps on batches that lie ready.

    The bare loop has the same network, optimiser, batch and loss, in one forward pass a batch.
    """
    data, recipe = noise(images, side), Recipe(epochs=1)
    ours, bare = (engine.place(build(network, LABELS), run) for _ in range(2))
    steps = recipe.steps(len(data), run.batch_size)
    ready = batch_of(data, np.arange(min(run.batch_size, images)), run.device)
    target = ready.target.float()
    optimiser = torch.optim.SGD(bare.parameters(), lr=0.01, momentum=0.9, nesterov=True)

    def train() -> None:
        fit(ours, LabelLoss(tuple(range(LABELS))), data, recipe, run)

    def step_on() -> None:
        bare.train()
        for _ in range(steps):
            optimiser.zero_grad(set_to_none=True)
            _loss(bare, ready.image, target).backward()
            optimiser.step()
        if run.device.type == "cuda":
            torch.cuda.synchronize()

    what = f"training loop, {network}, {side} pixels, input included, against a bare loop on ready batches"
    return by_turns(what, train, step_on, rounds, images=steps * run.batch_size, steps=steps)


def _loss(model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(model(image), target)


def process_lines(images: int, run: Run) -> list[Line]:
    """One process with one thread against two with one thread each; both are started before the clock."""
    data = noise(images, 64)
    found = {}
    for count in (1, 2):
        where = replace(
            engine.start(accelerator="cpu", devices=count, batch_size=run.batch_size), seed=run.seed
        )
        found[count] = engine.launch(where, _both, data)
    return [
        against(f"{what}: two processes against one, a thread each", two, one, images=images)
        for what, two, one in zip(("training", "reading features"), found[2], found[1], strict=True)
    ]


def _both(run: Run, data: Dataset) -> tuple[float, float]:
    torch.set_num_threads(1)
    model = engine.place(build("small", LABELS), run)
    warm = data.take(np.arange(min(len(data), 2 * run.batch_size)))
    fit(model, LabelLoss(tuple(range(LABELS))), warm, Recipe(epochs=1), run)
    outputs(model, warm, run)
    trained, _ = seconds(lambda: fit(model, LabelLoss(tuple(range(LABELS))), data, Recipe(epochs=1), run))
    read, _ = seconds(lambda: outputs(model, data, run))
    return trained, read
