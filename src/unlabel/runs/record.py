"""What a run folder remembers of its making, and how to read it back: data, recipe, place."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from unlabel.core.engine import Run
from unlabel.core.errors import DataError, LabelMismatch, ModelError, OptionError
from unlabel.core.framing import plain_size
from unlabel.core.progress import Log, warn
from unlabel.core.recipe import Blueprint
from unlabel.core.request import listed
from unlabel.core.wording import counted, in_shell, listing
from unlabel.data import constant_labels, load
from unlabel.data.canaries import CanaryPlan, Planting, plant
from unlabel.data.dataset import Dataset, Source
from unlabel.runs.config import Config
from unlabel.runs.files import versions
from unlabel.runs.origin import DataRecord, Record

SCHEMA = "unlabel.run/1"


def blueprint_of(record: Record, run: Run) -> tuple[Blueprint, Run]:
    """The recorded recipe of a run's first ancestor, and the run with its batch sizes.

    A micro-batch that the user has chosen stays: another machine may hold fewer images at a time. The
    recorded one counts as chosen, so that no GPU replaces it by what its memory holds.
    """
    plan = record.blueprint
    if plan is None:
        raise OptionError(
            "this run has no recorded recipe, so it cannot be retrained the same way; train a reference"
            " with: unlabel train SOURCE --without LABEL --out RUN"
        )
    blueprint = Blueprint(plan.network, plan.stem, plan.recipe, plan.head)
    micro_batch = run.micro_batch if run.micro_batch_given else plan.micro_batch
    return blueprint, replace(
        run, batch_size=plan.batch_size, micro_batch=micro_batch, micro_batch_given=True
    )


def source_of(config: Config, record: Record, data: str | None, *, skip_bad: bool, run: Run) -> Source:
    """The data a run remembers, or another given one, in the form its model wants.

    Canaries that the run was trained with are planted again: what was trained on is what is to be forgotten.
    """
    return planted_source(config, record, data, skip_bad=skip_bad, run=run)[0]


def planted_source(
    config: Config, record: Record, data: str | None, *, skip_bad: bool, run: Run
) -> tuple[Source, Planting]:
    """`source_of`, and the canaries that were planted in it, by label; none in other data.

    Raises:
        OptionError: The run does not remember its data.
        DataError: The data has changed, so that its canaries are not those of the training.
    """
    remembered = record.data or DataRecord()
    name = data or remembered.source
    if not name:
        raise OptionError("the run does not remember its data source; name one with --data SOURCE")
    skip_bad = skip_bad or remembered.skipped_bad
    source = load(
        name,
        image_size=config.image_size,
        framing=config.framing,
        labels=config.labels,
        skip_bad=skip_bad,
        cache=run.cache,
        workers=run.workers,
        log=run.log,
    )
    source = as_answered(source.normalised(config.mean, config.std), config)
    if (said := changed_since(source, record)) is not None:
        warn(run.log, said)
    return planted_again(source, record, another=bool(data), log=run.log)


def changed_since(source: Source, record: Record) -> str | None:
    """A sentence if the data that a run names are not as they were in its training; None if they are.

    Other data than the run's own are no change.
    """
    remembered = record.data or DataRecord()
    if source.name != remembered.source or record.digest is None:
        return None
    if record.digest == source.facts.get("digest"):
        was, now = (_identities(facts) for facts in (remembered.facts or {}, source.facts))
        if was in (None, now):
            return None
        return (
            f"The identities in the data, {source.name}, have changed since the run was trained: other images"
            " count as one identity's now."
        )
    return (
        f"The data, {source.name}, have changed since the run was trained (images, annotations or splits), or"
        " another version of Pillow decodes the images otherwise; images of the training may be in the test"
        " split now."
    )


def _identities(facts: Mapping[str, Any]) -> str | None:
    """What facts tell of identities: a digest, empty where none was known; None in records of before it."""
    return "" if facts.get("identities") is False else facts.get("identity_digest")


def as_answered(source: Source, config: Config) -> Source:
    """The source, its labels taken for classes where the model answers by a softmax, and only there.

    Raises:
        ModelError: A softmax, but images with several labels or none.
    """
    exclusive = config.activation == "softmax"
    if exclusive and not source.test.exclusive:
        raise ModelError(
            f"the model answers by a softmax over classes, but {source.name} has images with several labels"
            " or none; use data whose images have exactly one label: --data SOURCE"
        )
    splits = (replace(part, exclusive=exclusive) for part in (source.train, source.probe, source.test))
    train, probe, test = splits
    return replace(source, train=train, probe=probe, test=test)


def planted_again(source: Source, record: Record, *, another: bool, log: Log) -> tuple[Source, Planting]:
    """A source with the canaries that a run was trained with, and the canaries by label.

    Args:
        source: The data, with the run's label columns.
        record: The run's record.
        another: Whether it may be other data than the run's: then, none are planted in it.
        log: Is told where none are planted.

    Raises:
        DataError: The data has changed, so that its canaries are not those of the training.
    """
    canaries, name = canaries_of(record), source.name
    if not canaries:
        return source, {}
    same = source.facts.get("digest") == record.digest
    if another and not same:
        warn(log, f"{name} is not what the run was trained on: its canaries are not planted there")
        return source, {}
    plan = CanaryPlan(canaries["count"], tuple(canaries["labels"]), canaries["seed"])
    changed, planting = plant(source, plan) if same else (source, {})
    if not same or changed.facts["canaries"]["sha256"] != canaries["sha256"]:
        raise DataError(
            f"{name} has changed since the run was trained, so its canaries cannot be planted again; restore"
            " the data, or name other data with --data SOURCE"
        )
    return changed, planting


def canaries_of(record: Record) -> Mapping[str, Any]:
    """What a run remembers of its canaries; empty where it has none.

    Raises:
        ModelError: What it remembers is damaged.
    """
    canaries = ((record.data and record.data.facts) or {}).get("canaries")
    if canaries is None:
        return {}
    kinds = {"count": int, "labels": list, "seed": int, "sha256": str}
    if not isinstance(canaries, dict) or any(
        not isinstance(canaries.get(key), kind) for key, kind in kinds.items()
    ):
        raise ModelError("the run's record of its canaries is damaged; expected what unlabel wrote")
    return canaries


def refuse_constant(data: Dataset, without: Sequence[str] = ()) -> None:
    """Refuses to train on a label of which the training split holds only one kind."""
    constant = [name for name in constant_labels(data) if name not in without]
    if constant:
        others = [name for name in data.labels if name not in constant]
        choose = f"choose the others with --labels {in_shell(listed(others))}, or " if others else ""
        raise LabelMismatch(
            f"in the training images, {counted(len(constant), 'label')} of {len(data.labels)} have one known"
            f" value or none: {listing(constant)}; expected present and absent ones: {choose}add images. A"
            " cell of -1 beside 0 and 1 is read as unknown; if it says absent, add ?absent=-1 to the source"
        )


def data_record(source: Source) -> dict[str, Any]:
    """What a run remembers of its data: where it is, how it was split, and a digest of its content."""
    return {
        "source": source.name,
        "image_size": plain_size(source.train.image_size),
        "digest": source.facts.get("digest"),
        "facts": dict(source.facts),
    }


def place_record(run: Run, command: str) -> dict[str, Any]:
    return {
        "seed": run.seed,
        "device": run.device.type,
        "precision": run.fabric.strategy.precision.precision,
        "processes": run.processes,
        "input": {"cache": run.cache, "workers": run.workers},
        "nodes": run.nodes,
        "micro_batch": run.micro_batch,
        "compiled": run.compiled,
        "versions": versions(),
        "command": command,
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
