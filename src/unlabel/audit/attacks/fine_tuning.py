"""Relearning a label by training the whole model on few annotated images, as who has the weights would.

The head is replaced by a new one with a single output, which starts as the linear probe that these images
give: from 0, the features would be pulled about before the head has learnt anything. Then every weight is
trained. So whatever an edit left in the layers below can be brought up again, and what stood between the
features and the head is gone. It is done to every model of an audit alike, and says something only beside the
retained ones. `attackers` lists who does it otherwise; the loop is the same.

    tune_all(models, ...)    tables: what each tuned model says of the test split
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unlabel.audit.attacks.annotated import Target, curve_sizes, tune_sizes
from unlabel.audit.attacks.lessons import Lesson, batch_at, draw_images
from unlabel.audit.attacks.starts import START, can_attack, start_of
from unlabel.audit.inputs.attackers import ADAM, ATTACKERS, CURVE, Attacker
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.sets import Sets
from unlabel.audit.inputs.tuned import Scores, Tuned
from unlabel.core.engine import Run
from unlabel.core.errors import ModelError
from unlabel.core.loss import loss_of
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.data.feed import batches, in_order
from unlabel.models.cached_outputs import kept_tables
from unlabel.models.features import BATCH as READ
from unlabel.runs.folder import Loaded, key_of
from unlabel.statistics.estimate import auc

Tables = Mapping[str, np.ndarray]
Training = tuple[Attacker, int]  # who trains, and on how many images


def trainings(options: AuditOptions, target: Target) -> list[Training]:
    """Who trains every model on how many images: what the budget includes, and what was asked for beside it.

    Args:
        options: The budget, and the numbers of images that are wanted.
        target: int8 (probe image,) annotations of the label, which say how many there can be.

    >>> options = AuditOptions(budget="standard", attackers=("lora",))
    >>> target = np.repeat([1, 0], 500).astype(np.int8)
    >>> [(attacker.name, n) for attacker, n in trainings(options, target)]
    [('adam-100', 256), ('lora', 256)]
    """
    asked = [ATTACKERS[name] for name in options.asked if name in ATTACKERS]
    wanted = [(ADAM, n) for n in (tune_sizes(target, options) if options.includes.fine_tuning else ())]
    attacked = tune_sizes(target, options, options.attacked)
    wanted += [(attacker, n) for attacker in ([ADAM, *asked] if asked else []) for n in attacked]
    if CURVE in options.asked:
        wanted += [(ADAM, n) for n in curve_sizes(target, options)]
    return list(dict.fromkeys(wanted))


def tune_all(
    loaded: Sequence[Loaded],
    sets: Sets,
    request: Request,
    options: AuditOptions,
    where: Run,
    asked: Mapping[str, Sequence[Training]] | None = None,
) -> list[Tuned]:
    """Trains a copy of every model again for every label, attacker, number of images, draw and rate.

    The same images, batches and augmentation for every model. Nothing is chosen on the test split.

    Args:
        loaded: The models.
        sets: The probe and test splits.
        request: The labels.
        options: Numbers of images, draws, steps and seed.
        where: One process.
        asked: By label, see `trainings`; by default, `ADAM` on the numbers of images of the options.

    Returns:
        One for every model, label, attacker and number of images for which the probe split has enough. An
        attacker whom the network of some model gives nothing to train is left out.
    """
    data = sets.probe.with_labels(request.labels)
    if asked is None:
        asked = {name: [(ADAM, n) for n in options.tune] for name in request.masked}
    able = {
        attacker.name
        for attacker in dict(chain.from_iterable(asked.values()))
        if all(can_attack(attacker, item.model, scaled(data, item), where) for item in loaded)
    }
    return [
        found
        for item in loaded
        for name in request.masked
        for attacker, n in asked[name]
        if attacker.name in able
        and (found := tuned(item, name, n, attacker, sets, request, options, where)) is not None
    ]


def trainings_of(request: Request, sets: Sets, options: AuditOptions) -> dict[str, list[Training]]:
    """By label, see `trainings`."""
    target = sets.probe.with_labels(request.labels).target
    return {name: trainings(options, target[:, request.labels.index(name)]) for name in request.masked}


def scaled(data: Dataset, item: Loaded) -> Dataset:
    """The images, normalised as a model wants them."""
    return replace(data, mean=item.config.mean, std=item.config.std)


def tuned(
    item: Loaded,
    name: str,
    n: int,
    attacker: Attacker,
    sets: Sets,
    request: Request,
    options: AuditOptions,
    where: Run,
) -> Tuned | None:
    """One model for one label and attacker, from the cache or for it; None where too few images are.

    Args:
        item: The model.
        name: The label.
        n: Annotated images.
        attacker: Who trains.
        sets, request, options, where: See `tune_all`.
    """
    column = request.labels.index(name)
    probe, test = (scaled(part.with_labels(request.labels), item) for part in (sets.probe, sets.test))
    draws = draw_images(probe.target[:, column], column, n, options)
    if not draws:
        return None
    lessons = [
        Lesson(probe, column, request.retained_columns, draw, number, options)
        for number, draw in enumerate(draws)
    ]
    rated, further = lessons[: options.rated_draws], lessons[options.rated_draws :]
    sizes = f"{name}/{n}/{len(rated)}/{options.tune_steps}/{options.seed}"
    if attacker != ADAM:
        sizes += f"/{attacker.key}/{request.retained_columns}"
    stage = f"tune {item.path.name} ({n})" if attacker == ADAM else f"{attacker.name} {item.path.name} ({n})"

    def kept(make: Callable[[], Tables], draws: int, key: str) -> Tables:
        def fits(tables: Tables) -> bool:
            return tables["scores"].shape == (draws, len(test))

        return kept_tables(make, fits, test, where, key_of(item, sets.digest, "tuned", START, key))

    first = partial(best_of_rates, item.model, rated, test, attacker, where, stage=stage)
    tables = kept(first, len(rated), sizes)
    rate, scores, curve = float(tables["rate"][0]), tables["scores"], tables["curve"]
    if further:
        more = partial(at_rate, item.model, further, test, attacker, rate, where, stage=stage)
        tables = kept(more, len(further), f"{sizes}/{len(further)} at {rate}")
        scores = np.concatenate([scores, tables["scores"]])
    return Tuned(str(item.path), name, n, rate, scores, curve, attacker.name, attacker.every)


def best_of_rates(
    model: nn.Module,
    lessons: Sequence[Lesson],
    test: Dataset,
    attacker: Attacker,
    run: Run,
    *,
    stage: str = "tune",
) -> dict[str, NDArray[np.floating]]:
    """Tunes copies of a model at every rate and takes the rate with the best mean AUC on images held back.

    Args:
        model: Not changed.
        lessons: One a draw.
        test: Images to score.
        attacker: Who trains.
        run: Where.
        stage: Name in the progress display.

    Returns:
        ``scores`` (draw, test image), ``curve`` (look,) and ``rate`` (1,).
    """
    starts = [start_of(model, lesson, attacker, run) for lesson in lessons]
    best: tuple[float, float, list[nn.Module], NDArray[np.float64]] | None = None
    with run.log.track(stage, len(attacker.rates) * len(lessons), "trainings") as advance:
        for rate in attacker.rates:
            tuned, looks = [], []
            for start, lesson in zip(starts, lessons, strict=True):
                other, curve = tune(start, lesson, attacker, rate, run)
                tuned.append(other)
                looks.append(curve)
                advance(1)
            mean = np.mean(looks, axis=0)
            reached = float(mean[-1] if attacker.keeps == "last" else np.mean(np.max(looks, axis=1)))
            if best is None or reached > best[0]:
                best = reached, rate, tuned, mean
    assert best is not None, "there are rates"
    reached, rate, tuned, curve = best
    if reached == -inf:
        raise ModelError(
            f"training a model again ended in NaN or infinite outputs at every rate ({stage}); expected"
            " finite ones at one rate at least: C4 cannot be judged of such weights by this budget"
        )
    curve = np.where(np.isfinite(curve), curve, 0.5)
    return {"scores": _scores(tuned, test, run, stage), "curve": curve, "rate": np.array([rate])}


def at_rate(
    model: nn.Module,
    lessons: Sequence[Lesson],
    test: Dataset,
    attacker: Attacker,
    rate: float,
    run: Run,
    *,
    stage: str = "tune",
) -> dict[str, NDArray[np.floating]]:
    """Tunes copies of a model at one rate, which other draws chose.

    Args:
        model: Not changed.
        lessons: One a draw.
        test: Images to score.
        attacker: Who trains.
        rate: Learning rate.
        run: Where.
        stage: Name in the progress display.

    Returns:
        ``scores`` (draw, test image).
    """
    tuned = []
    with run.log.track(stage, len(lessons), "trainings") as advance:
        for lesson in lessons:
            start = start_of(model, lesson, attacker, run)
            tuned.append(tune(start, lesson, attacker, rate, run, looks=attacker.keeps == "best")[0])
            advance(1)
    return {"scores": _scores(tuned, test, run, stage)}


def _scores(tuned: Sequence[nn.Module], test: Dataset, run: Run, stage: str) -> NDArray[np.floating]:
    """What tuned models say of the test images: float32 (model, image).

    Raises:
        ModelError: One of them has no finite output.
    """
    everything = np.arange(len(test))
    scores = np.stack([say(other, test, everything, run) for other in tuned])
    if not np.isfinite(scores).any(axis=1).all():
        raise ModelError(
            f"a model that was trained again has NaN or infinite outputs alone ({stage}); expected finite"
            " ones: C4 cannot be judged of such weights by this budget"
        )
    return finite(scores)


def finite(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """The scores, 0 where one is NaN or infinite."""
    return np.nan_to_num(scores, posinf=0.0, neginf=0.0)


def tune(
    start: nn.Module, lesson: Lesson, attacker: Attacker, rate: float, run: Run, *, looks: bool = True
) -> tuple[nn.Module, NDArray[np.float64]]:
    """A copy of a model, trained on some images by an attacker, and its AUC on others as it went.

    At a constant rate on the cross-entropy; BatchNorm learns its statistics from the batches, and any dropout
    is keyed.

    Args:
        start: The model, see `start_of`; not changed. Its first output is the label's.
        lesson: The images, steps and seed.
        attacker: Optimiser, augmentation, and which look is kept.
        rate: Learning rate.
        run: Where.
        looks: Whether to measure that AUC. Only an attacker who keeps the best look needs it.
    """
    other, (rows, held), data, options = copy.deepcopy(start), lesson.draw, lesson.data, lesson.options
    optimiser = _optimiser(attacker, other, rate)
    seen, best = [], None
    devices = [run.device] if run.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(options.seed + lesson.number)
        count = options.tune_steps * attacker.times
        steps = (batch_at(step, len(rows), lesson.number, options.seed) for step in range(count))
        wanted = ((rows[positions], epoch if attacker.augmented else None) for positions, epoch in steps)
        for step, batch in enumerate(batches(data, wanted, run, seed=options.seed)):
            other.train()
            with run.fabric.autocast():
                logits = other(batch.image).float()
            loss = _loss(logits, batch.target, lesson)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            if looks and (step + 1) % attacker.every == 0:
                scores = say(other, data, held, run)
                broke = not np.isfinite(scores).all()
                reached = auc(finite(scores), data.target[held, lesson.column], np.arange(len(held))).value
                seen.append(-inf if broke else reached)
                if attacker.keeps == "best" and not broke and seen[-1] == max(seen):
                    best = copy.deepcopy(other.state_dict())
    if best is not None:
        other.load_state_dict(best)
    return other.eval(), np.array(seen)


def _optimiser(attacker: Attacker, model: nn.Module, rate: float) -> torch.optim.Optimizer:
    moving = [weight for weight in model.parameters() if weight.requires_grad]
    if attacker.optimiser == "sgd":
        return torch.optim.SGD(moving, lr=rate, momentum=0.9)
    return torch.optim.Adam(moving, lr=rate)


def _loss(logits: Tensor, target: Tensor, lesson: Lesson) -> Tensor:
    """Cross-entropy of the first output, and of the retained labels where the model has their outputs."""
    wanted = target[:, lesson.column].float()
    loss = nn.functional.binary_cross_entropy_with_logits(logits[:, 0], wanted)
    if logits.shape[1] == 1:
        return loss
    retained = target[:, list(lesson.retained)]
    beside = loss_of(exclusive=lesson.data.exclusive)(logits[:, 1:], retained, range(retained.shape[1]))
    return loss + beside.mean()


@torch.inference_mode()
def say(model: nn.Module, data: Dataset, positions: NDArray[np.int64], run: Run) -> Scores:
    """The only output of a tuned model on some images, float32; of a model that broke no finite number."""
    model.eval()
    scores = []
    for batch in in_order(data, run, READ, positions):
        with run.fabric.autocast():
            scores.append(model(batch.image)[:, 0].float().cpu().numpy())
    return np.concatenate(scores)
