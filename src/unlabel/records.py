"""What a run folder remembers of its making, and how to read it back: data, recipe, place."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from unlabel.data import constant_labels, load
from unlabel.data.dataset import Dataset, Source
from unlabel.engine import Run
from unlabel.errors import LabelMismatch, OptionError, listing
from unlabel.recipe import Blueprint, Recipe
from unlabel.runs import Config, versions


def blueprint_of(record: Mapping[str, Any], run: Run) -> tuple[Blueprint, Run]:
    """The recorded recipe of a run's first ancestor, and the run with its batch sizes."""
    plan = record.get("blueprint")
    if not plan:
        raise OptionError(
            "this run has no recorded recipe, so it cannot be retrained the same way; train a reference"
            " with: unlabel train SOURCE --without LABEL --out RUN"
        )
    blueprint = Blueprint(plan["network"], plan["stem"], Recipe(**plan["recipe"]))
    return blueprint, replace(run, batch_size=plan["batch_size"], micro_batch=plan["micro_batch"])


def source_of(
    config: Config, record: Mapping[str, Any], data: str | None, *, skip_bad: bool, run: Run
) -> Source:
    """The data a run remembers, or another given one, in the form its model wants."""
    remembered = record.get("data") or {}
    name = data or remembered.get("source")
    if not name:
        raise OptionError("the run does not remember its data source; name one with --data SOURCE")
    bad = skip_bad or bool(remembered.get("facts", {}).get("skipped_bad"))
    source = load(name, image_size=config.image_size, labels=config.labels, skip_bad=bad, log=run.log)
    return source.normalised(config.mean, config.std)


def refuse_constant(data: Dataset, without: Sequence[str] = ()) -> None:
    """Refuses to train on a label of which the training split holds only one kind."""
    constant = [name for name in constant_labels(data) if name not in without]
    if constant:
        raise LabelMismatch(
            f"{len(constant)} label(s) have one value only in the training images: {listing(constant)};"
            " expected present and absent ones: choose the others with --labels A,B, or add images"
        )


def data_record(source: Source) -> dict[str, Any]:
    """What a run remembers of its data: where it is, how it was split, and a digest of its content."""
    return {
        "source": source.name,
        "image_size": source.train.image_size,
        "digest": source.facts.get("digest"),
        "facts": dict(source.facts),
    }


def place_record(run: Run, command: str) -> dict[str, Any]:
    return {
        "seed": run.seed,
        "device": run.device.type,
        "precision": run.fabric.strategy.precision.precision,
        "processes": run.processes,
        "versions": versions(),
        "command": command,
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
