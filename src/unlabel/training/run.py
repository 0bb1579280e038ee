"""What `unlabel train` does: read a data source, train, write a run folder; go on after a kill."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import Diverged
from unlabel.core.framing import CENTRE, Framing, Size, sides_of
from unlabel.core.layout import Layout
from unlabel.core.places import check_output, claimed, staged
from unlabel.core.progress import warn
from unlabel.core.recipe import Blueprint, Recipe
from unlabel.core.request import Request, as_names
from unlabel.data import load
from unlabel.data.canaries import CanaryPlan, planted
from unlabel.data.dataset import Colours, Dataset, Source
from unlabel.data.survey.duplicates import shared_pictures
from unlabel.models.build import build
from unlabel.models.named import check_input, resolve
from unlabel.models.named_options import packages_of
from unlabel.models.source import code_of
from unlabel.runs.config import Config
from unlabel.runs.folder import write_run
from unlabel.runs.record import SCHEMA, data_record, place_record, refuse_constant
from unlabel.training.checkpoints import HASHED, LONGEST, Checkpoint, open_checkpoint
from unlabel.training.fit import train
from unlabel.training.micro_batch import with_micro_batch

Judge: TypeAlias = Callable[[nn.Module, Dataset, Run, Sequence[str]], dict[str, Any] | None]
"""What measures a model on images, but for labels that it was never shown; None if nothing can be measured.
All processes of a run call it."""


def train_run(
    source: str,
    out: Path,
    run: Run,
    *,
    network: str = "small",
    stem: str = "imagenet",
    head: Layout | None = None,
    recipe: Recipe | None = None,
    image_size: Size | None = None,
    framing: Framing = CENTRE,
    labels: Sequence[str] | None = None,
    without: str | Sequence[str] = (),
    normalisation: tuple[Colours, Colours] | None = None,
    canaries: CanaryPlan | None = None,
    skip_bad: bool = False,
    short: float | None = None,
    force: bool = False,
    command: str = "",
    judge: Judge | None = None,
) -> Mapping[str, Any]:
    """Trains a network on a data source and writes a run folder; goes on from a killed attempt.

    Args:
        source: ``faces`` or ``folder:PATH``; see `data.load`.
        out: Folder to write; must not exist unless ``force``.
        run: Where, batch size and seed.
        network, stem, head: See `models.build.build`; ``hf:DIR`` gives the architecture that a folder of
            Hugging Face's holds, with random weights.
        recipe: Length and rates; `Recipe`'s defaults when None.
        image_size: Side of a square input in pixels, or (height, width); the source's own when None.
        framing: How a picture of another shape comes to that size.
        labels: Label columns to learn, all when None.
        without: Labels to withhold: the Retrain reference.
        normalisation: Mean and std of red, green and blue; the source's own when None.
        canaries: Annotations to draw by a coin before training; the run folder then holds their list.
        skip_bad: Leave out unreadable images instead of refusing.
        short: Share of another run's epochs that the recipe has, for the record: such a run is no reference.
        force, command: Replace an existing run folder; the command line, for the record.
        judge: Measures the trained network on the val split, for the record's ``val``.

    Returns:
        The record that is also in ``unlabel.json``. It raises as the rooms do.
    """
    recipe, without, network = recipe or Recipe(), as_names(without), resolve(network)
    check_output(out, force=force)
    data = load(
        source,
        image_size=image_size,
        framing=framing,
        labels=labels,
        skip_bad=skip_bad,
        cache=run.cache,
        workers=run.workers,
        log=run.log,
    )
    data = data.normalised(*normalisation) if normalisation else data
    if without:
        without = Request.make(without, data.labels, see="with: unlabel data SOURCE").forget
    refuse_constant(data.train, without)
    data = _told_of_duplicates(data, run)
    data, listed = planted(data, canaries)
    sides = sides_of(data.train.image_size)
    check_input(network, len(data.labels), sides)
    run = with_micro_batch(run, lambda: build(network, len(data.labels), stem=stem, head=head), sides)
    plan = Blueprint(network, stem, recipe, head).to_json()
    plan |= {"batch_size": run.batch_size, "micro_batch": run.micro_batch}
    config = Config(
        network=network,
        stem=stem,
        labels=data.labels,
        forgotten=tuple(name for name in data.labels if name in without),
        image_size=data.train.image_size,
        mean=data.train.mean,
        std=data.train.std,
        thresholds=(0.5,) * len(data.labels),
        activation="softmax" if data.train.exclusive else "sigmoid",
        head=head,
        **asdict(framing),
    )
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "method": "train",
        "options": {**plan["recipe"], "network": network, "stem": stem, "without": list(without)},
        "labels": list(data.labels),
        "without": list(without),
        "blueprint": plan,
        **({} if short is None else {"short": short}),
        "start": "random",
        "parent": None,
        "data": data_record(data),
        **place_record(run, command),
    }
    record["versions"] |= packages_of(network)
    try:
        job = _Job(data, out, config, record, recipe, force, listed, judge)
        return engine.launch(run, _train_job, job)
    except Diverged:
        shutil.rmtree(_unfinished(out), ignore_errors=True)  # going on would end the same way
        raise


def _told_of_duplicates(data: Source, run: Run) -> Source:
    """The data, with a warning and a note in its facts if an image is in two splits."""
    told = shared_pictures(data)
    if told is None:
        return data
    warn(run.log, told)
    return replace(data, facts={**data.facts, "shared_pictures": told})


@dataclass(frozen=True)
class _Job:
    """What every process of a training is given.

    Args:
        data: The source, planted and normalised.
        out: Folder to write.
        config: Of the network.
        record: What is known before the training.
        recipe: Length and rates.
        force: Whether `out` may be replaced.
        canaries: Their list, for the run folder.
        judge: See `train_run`.
    """

    data: Source
    out: Path
    config: Config
    record: Mapping[str, Any]
    recipe: Recipe
    force: bool
    canaries: dict[str, Any] | None
    judge: Judge | None


def _train_job(run: Run, job: _Job) -> dict[str, Any]:
    with claimed(_unfinished(job.out)) if run.rank == 0 else nullcontext():
        return _trained(run, job)


def _trained(run: Run, job: _Job) -> dict[str, Any]:
    data, config, record = job.data, job.config, dict(job.record)
    checkpoint = _unfinished_training(job.out, record, config, run, force=job.force)
    started = time.perf_counter()
    model, history = train(
        data.train,
        job.recipe,
        run,
        network=config.network,
        stem=config.stem,
        head=config.head,
        without=config.forgotten,
        checkpoint=checkpoint,
    )
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = [column for column, name in enumerate(data.labels) if name not in config.forgotten]
    record |= {
        "changed": total,
        "total": total,
        "images_used": len(data.train.answerable(trained)),
        "images_processed": history.images_processed,
        "steps": history.steps,
        "seconds": {"train": history.seconds, "total": history.earlier + time.perf_counter() - started},
    }
    if job.judge and (found := job.judge(model, data.probe, run, config.forgotten)):
        record["val"] = found
    if run.rank == 0:
        with staged(job.out, force=job.force) as folder:
            write_run(folder, model, config, record, history, job.canaries)
        shutil.rmtree(checkpoint.file.parent, ignore_errors=True)
    return record


def _unfinished(out: Path) -> Path:
    return out.with_name(f".{out.name}.training")


def _unfinished_training(
    out: Path, record: Mapping[str, Any], config: Config, run: Run, *, force: bool
) -> Checkpoint:
    """What outlives a kill, in a hidden folder beside ``out``; one of another job is refused."""
    parts = {name: _short(value) for name, value in _depends_on(record, config, run).items()}
    job = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    place = {"threads": str(torch.get_num_threads())}
    if run.device.type == "cuda":
        place = {"card": torch.cuda.get_device_name(run.device)}
    return open_checkpoint(_unfinished(out), job, run, force=force, parts=parts, place=place)


def _depends_on(record: Mapping[str, Any], config: Config, run: Run) -> dict[str, Any]:
    """All that must be equal for a killed training to go on to the same bits, as a message names it."""
    plan, data = record["blueprint"], record["data"]
    return {
        **{name: value for name, value in plan.items() if name != "recipe"},
        **plan["recipe"],
        **{name: record[name] for name in ("labels", "without", "seed", "processes", "precision", "device")},
        "data": data["digest"],
        "canaries": data["facts"].get("canaries"),
        "mean": config.mean,
        "std": config.std,
        "compiled": run.compiled,
        "network's source": code_of(config.network),
        **{f"version of {name}": value for name, value in record["versions"].items()},
    }


def _short(value: Any) -> str:
    """A value as text; a long one as a hash."""
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= LONGEST else HASHED + hashlib.sha256(text.encode()).hexdigest()
