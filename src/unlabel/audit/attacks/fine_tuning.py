"""Relearning a label by training the whole model on few annotated images, as who has the weights would.

The head is replaced by a new one with a single output, which starts as the linear probe that these images
give: from 0, the features would be pulled about before the head has learnt anything. Then every weight is
trained. So whatever an edit left in the layers below can be brought up again, and what stood between the
features and the head is gone. It is done to every model of an audit alike, and says something only beside the
retrained ones.

    tune_all(models, ...)    tables: what each tuned model says of the test split
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unlabel.audit.attacks.few_shot import balanced
from unlabel.audit.attacks.logistic import Standard, fit_logistic
from unlabel.audit.attacks.tuned import EVERY, Scores, Tuned
from unlabel.audit.inputs import AuditOptions
from unlabel.audit.setup import Sets
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.progress import SILENT
from unlabel.core.randomness import permutation, uniform
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.data.feed import batches, in_order
from unlabel.models.cached_outputs import kept_tables
from unlabel.models.features import BATCH as READ
from unlabel.models.features import PENULTIMATE, outputs
from unlabel.models.head import find_head
from unlabel.runs.folder import Loaded, key_of
from unlabel.statistics.estimate import auc

RATES = (1e-4, 1e-3, 1e-2)  # of Adam; the attacker takes the best
BATCH = 64  # images a step, all in one forward pass
HELD = 1024  # probe images by which the attacker chooses, at most
LEAST = 32  # of each kind among them


def tune_all(
    loaded: Sequence[Loaded], sets: Sets, request: Request, options: AuditOptions, where: Run
) -> list[Tuned]:
    """Trains a copy of every model again for every forgotten label, number of images, draw and rate.

    The same images, batches and augmentation for every model. Nothing is chosen on the test split.

    Args:
        loaded: The models.
        sets: The probe and test splits.
        request: The labels.
        options: Numbers of images, draws, steps and seed.
        where: One process.

    Returns:
        One for every model, label and number of images for which the probe split has enough.
    """
    return [
        tuned
        for item in loaded
        for name in request.masked
        for n in options.tune
        if (tuned := _tuned(item, name, n, sets, request, options, where)) is not None
    ]


def _tuned(
    item: Loaded, name: str, n: int, sets: Sets, request: Request, options: AuditOptions, where: Run
) -> Tuned | None:
    config, column = item.config, request.labels.index(name)
    probe, test = (
        replace(part.with_labels(request.labels), mean=config.mean, std=config.std)
        for part in (sets.probe, sets.test)
    )
    draws = draw_images(probe.target[:, column], column, n, options)
    if not draws:
        return None
    stage = f"tune {item.path.name} ({n})"
    sizes = f"{name}/{n}/{len(draws)}/{options.tune_steps}/{options.seed}"
    tables = kept_tables(
        partial(best_of_rates, item.model, probe, test, column, draws, options, where, stage=stage),
        lambda tables: tables["scores"].shape == (len(draws), len(test)),
        test,
        where,
        key_of(item, sets.digest, "tuned", sizes),
    )
    return Tuned(str(item.path), name, n, float(tables["rate"][0]), tables["scores"], tables["curve"])


Draw = tuple[NDArray[np.int64], NDArray[np.int64]]  # positions in the probe split: trained on, held back


def draw_images(target: NDArray[np.int8], column: int, n: int, options: AuditOptions) -> list[Draw]:
    """Of each draw, n images to train on, half of them present, and others to choose by.

    Keyed by label, draw and position alone, so they are the same for every model. None where too few are
    left.
    """
    draws = []
    for draw, rows in enumerate(balanced(target, column, n, options.tune_draws, f"tune/{n}", options.seed)):
        rank = uniform(options.seed, f"audit/held/{n}", column, draw, np.arange(len(target)))
        rank[rows], rank[target < 0] = 2.0, 2.0
        order = np.argsort(rank, kind="stable")
        held = np.sort(order[: min(HELD, int(np.sum(rank < 1.0)))])
        if min(np.sum(target[held] == kind) for kind in (0, 1)) < LEAST:
            return []
        draws.append((rows, held))
    return draws


def best_of_rates(
    model: nn.Module,
    probe: Dataset,
    test: Dataset,
    column: int,
    draws: Sequence[Draw],
    options: AuditOptions,
    run: Run,
    *,
    stage: str = "tune",
) -> dict[str, NDArray[np.floating]]:
    """Tunes copies of a model at every rate and takes the rate with the best mean AUC on images held back.

    Returns:
        ``scores`` (draw, test image), ``curve`` (look,) and ``rate`` (1,).
    """
    starts = [renewed(model, probe, column, rows, run) for rows, _ in draws]
    best: tuple[float, float, list[nn.Module], NDArray[np.float64]] | None = None
    with run.log.track(stage, len(RATES) * len(draws), "trainings") as advance:
        for rate in RATES:
            tuned, looks = [], []
            for number, (start, draw) in enumerate(zip(starts, draws, strict=True)):
                other, curve = tune(start, probe, column, draw, number, rate, options, run)
                tuned.append(other)
                looks.append(curve)
                advance(1)
            mean = np.mean(looks, axis=0)
            if best is None or mean[-1] > best[0]:
                best = float(mean[-1]), rate, tuned, mean
    assert best is not None, "there are rates"
    _, rate, tuned, curve = best
    everything = np.arange(len(test))
    scores = np.stack([say(other, test, everything, run) for other in tuned])
    return {"scores": scores, "curve": curve, "rate": np.array([rate])}


def tune(
    start: nn.Module,
    data: Dataset,
    column: int,
    draw: Draw,
    number: int,
    rate: float,
    options: AuditOptions,
    run: Run,
) -> tuple[nn.Module, NDArray[np.float64]]:
    """A copy of a model with one output, trained on some images, and its AUC on others as it went.

    Adam at a constant rate on the cross-entropy, images augmented as in training; BatchNorm learns its
    statistics from the batches, and any dropout is keyed.

    Args:
        start: The model, see `renewed`; not changed.
        data: The probe split.
        column: The label.
        draw: Positions to train on and to look at.
        number: Of the draw, a part of the key of batches and dropout.
        rate: Learning rate.
        options: Steps and seed.
        run: Where.
    """
    other, (rows, held) = copy.deepcopy(start), draw
    optimiser = torch.optim.Adam(other.parameters(), lr=rate)
    looks = []
    devices = [run.device] if run.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(options.seed + number)
        steps = (batch_at(step, len(rows), number, options.seed) for step in range(options.tune_steps))
        wanted = ((rows[positions], epoch) for positions, epoch in steps)
        for step, batch in enumerate(batches(data, wanted, run, seed=options.seed)):
            other.train()
            with run.fabric.autocast():
                logits = other(batch.image)[:, 0].float()
            loss = nn.functional.binary_cross_entropy_with_logits(logits, batch.target[:, column].float())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            if (step + 1) % EVERY == 0:
                scores = say(other, data, held, run)
                looks.append(auc(scores, data.target[held, column], np.arange(len(held))).value)
    return other.eval(), np.array(looks)


def renewed(model: nn.Module, data: Dataset, column: int, rows: NDArray[np.int64], run: Run) -> nn.Module:
    """A copy whose head is the linear probe of one label that some images give; every weight can move.

    Args:
        model: The model; not changed.
        data: The probe split.
        column: The label.
        rows: Positions of the images.
        run: Where.
    """
    other, quiet = engine.place(copy.deepcopy(model), run), replace(run, log=SILENT)
    features = outputs(other, data.take(rows), quiet).features[PENULTIMATE]
    standard = Standard.of(features)
    fitted = fit_logistic(standard(features), data.target[rows, column] == 1)
    weight = np.zeros(features.shape[1])
    weight[standard.keep] = fitted.coef_[0][: len(standard.keep)] / standard.scale
    bias = float(np.ravel(fitted.intercept_)[0] - weight[standard.keep] @ standard.centre)
    name, head = find_head(other, len(data.labels))
    parent, _, layer = name.rpartition(".")
    fresh = nn.Linear(head.in_features, 1, device="meta").to_empty(device="cpu")  # draws no random number
    with torch.no_grad():
        fresh.weight.copy_(torch.from_numpy(weight[None]))
        fresh.bias.fill_(bias)
    setattr(other.get_submodule(parent), layer, fresh)
    return engine.place(other.requires_grad_(True), run)


def batch_at(step: int, n: int, draw: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions and epochs of one full batch: one keyed permutation after another without a break."""
    stream = np.arange(step * BATCH, (step + 1) * BATCH)
    epochs = range(stream[0] // n, ceil((stream[-1] + 1) / n))
    order = np.concatenate([permutation(seed, f"audit/tune/{n}", n, draw, epoch) for epoch in epochs])
    return order[stream - epochs[0] * n], stream // n


@torch.inference_mode()
def say(model: nn.Module, data: Dataset, positions: NDArray[np.int64], run: Run) -> Scores:
    """The only output of a tuned model on some images, float32; a model that broke says 0."""
    model.eval()
    scores = []
    for batch in in_order(data, run, READ, positions):
        with run.fabric.autocast():
            scores.append(model(batch.image)[:, 0].float().cpu().numpy())
    return np.nan_to_num(np.concatenate(scores), posinf=0.0, neginf=0.0)
