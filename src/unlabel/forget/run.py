"""What `unlabel forget` does: read a run and its data, forget, write a new run folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import MethodError, OptionError
from unlabel.core.framing import sides_of
from unlabel.core.places import check_output, staged
from unlabel.core.reading import file_sha256
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.data.readers.tables import read_ids
from unlabel.data.splits import audit_refusal
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods import find_method
from unlabel.forget.methods.ranges import in_range
from unlabel.forget.retained import sentence_of
from unlabel.forget.self_check import instead_of
from unlabel.models.eraser import eraser_of
from unlabel.runs.config import Config
from unlabel.runs.files import read_config, read_record
from unlabel.runs.folder import load_run, write_run
from unlabel.runs.lineage import ancestors
from unlabel.runs.origin import Record
from unlabel.runs.record import SCHEMA, blueprint_of, data_record, place_record, source_of
from unlabel.training.micro_batch import with_micro_batch

MAX_LOSS = 0.1  # in the retained labels' mean AUC: what loses more is not written


def forget_run(
    method: str,
    parent: Path,
    labels: Sequence[str],
    out: Path,
    run: Run,
    *,
    data: str | None = None,
    images: int | None = None,
    keep_row: bool = False,
    rows: Path | None = None,
    max_loss: float = MAX_LOSS,
    skip_bad: bool = False,
    force: bool = False,
    command: str = "",
    **options: Any,
) -> Mapping[str, Any]:
    """Makes a run forget labels and writes a new run folder; the parent is only read.

    Args:
        method: A name of `METHODS`.
        parent: The run to start from.
        labels: Names to forget.
        out: Folder to write.
        run: Where, batch size and seed.
        data: Another data source than the one the parent remembers.
        images, keep_row, **options: See `forget.driver.forget_labels`.
        rows: Table of image names: forget the labels' annotations of these images only.
        max_loss: Most that the retained labels' mean AUC may fall, 0 to 1, on training images held back
            from the method: past it nothing is written, unless ``force``.
        skip_bad, force, command: See `train_run`.

    Returns:
        The record that is also in ``unlabel.json``.

    Raises:
        UnlabelError: As the rooms raise.
        MethodError: The retained labels lost more than ``max_loss``.
    """
    in_range("max_loss", max_loss, 0, 1)
    if out.absolute() == parent.absolute() or (out.exists() and parent.exists() and out.samefile(parent)):
        raise OptionError(f"--out {out} is the run to start from; name another folder, the original is kept")
    config, record = read_config(parent), read_record(parent)
    labels = Request.make(labels, config.labels, forgotten=config.forgotten).forget
    check_output(out, force=force)
    run = as_trained(run, record, config, lambda: load_run(parent).model)
    entry = find_method(method)
    if entry.reference:
        options["blueprint"], run = blueprint_of(record, run)
    source = source_of(config, record, data, skip_bad=skip_bad, run=run)
    if "images_trained" in entry.options() and not options.get("images_trained"):
        options["images_trained"] = images_trained(record, len(source.train))
    retraining = 0 if entry.reference else images_trained(record, len(source.train))
    parts = (source.probe, source.test, source.train)
    short = next((told for name in labels if (told := audit_refusal(name, *parts)) is not None), None)
    new: dict[str, Any] = {
        "schema": SCHEMA,
        "labels": list(labels),
        "requested_method": method,
        "blueprint": record.raw.get("blueprint"),
        "start": record.start or "unknown",
        "adopted": record.raw.get("adopted"),  # the user's own names, though the parent may be deleted
        "data": data_record(source),
        **({"retraining": {"images": retraining}} if retraining else {}),
        **({} if rows or short is None else {"too_few_to_audit": short}),
        **place_record(run, command),
    }
    listed = read_ids(rows) if rows else ()
    if rows:
        new["rows"] = {"file": rows.name, "sha256": file_sha256(rows), "count": len(listed)}
    settings = {
        "images": entry.images if images is None else images,
        "keep_row": keep_row,
        "rows": listed,
        **options,
    }
    most = inf if force else max_loss
    job = _Job(entry.name, parent, labels, out, settings, force, most)
    return engine.launch(run, _forget_job, job, source.train, new)


def as_trained(run: Run, record: Record, config: Config, network: Callable[[], nn.Module]) -> Run:
    """The run with the micro-batch of the first ancestor's training, unless the user has chosen one."""
    if run.micro_batch_given:
        return run
    if record.blueprint is None:
        return with_micro_batch(run, network, sides_of(config.image_size))
    return replace(run, micro_batch=record.blueprint.micro_batch)


@dataclass(frozen=True)
class _Job:
    """What every process of `forget_run` does."""

    method: str
    parent: Path
    labels: tuple[str, ...]
    out: Path
    settings: dict[str, Any]
    force: bool
    max_loss: float


def images_trained(record: Record, images: int) -> int:
    """Images in the original's training, each as often as it was used; 0 if no recipe is recorded.

    Args:
        record: Of the original, or of a model that was made from it.
        images: Training images.
    """
    plan = record.blueprint
    return plan.recipe.steps(images, plan.batch_size) * plan.batch_size if plan else 0


def _forget_job(run: Run, job: _Job, data: Dataset, record: dict[str, Any]) -> dict[str, Any]:
    loaded, settings = load_run(job.parent), job.settings
    outcome = forget_labels(
        loaded.model,
        job.labels,
        data,
        method=job.method,
        forgotten=loaded.config.forgotten,
        run=run,
        **settings,
    )
    if outcome.retained.past(job.max_loss):
        raise MethodError(
            f"{outcome.method} harms the {sentence_of(outcome.retained.to_json())}; the loss is more than"
            f" --max-loss {job.max_loss:g}, so nothing was written; use"
            f" {instead_of(outcome.self_check)}, raise --max-loss, or write it all the same with --force and"
            " audit it"
        )
    options = {key: value for key, value in outcome.options.items() if key != "blueprint"}
    record |= {
        "method": outcome.method,
        "options": {**options, "images": settings["images"], "keep_row": settings["keep_row"]},
        "parent": {"run": str(job.parent.absolute()), "sha256": loaded.sha256},
        "parent_sha256": loaded.sha256,
        "ancestors": ancestors(job.parent),
        "changed": outcome.changed,
        "total": outcome.total,
        "images_used": outcome.images_used,
        "images_processed": outcome.images_processed,
        "steps": outcome.history.steps,
        "seconds": outcome.seconds,
        "retained": outcome.retained.to_json(),
        **({} if outcome.self_check is None else {"self_check": dict(outcome.self_check)}),
    }
    # a retrained output is a constant from the start
    keeps_rows = settings["keep_row"] and not find_method(job.method).reference
    gone = loaded.config.forgotten if keeps_rows else outcome.request.masked
    if run.rank == 0:
        with staged(job.out, force=job.force) as folder:
            layer = eraser_of(outcome.model)
            kind = {"eraser": layer.rank, "erased": layer.labels} if layer else {"eraser": 0, "erased": ()}
            config = replace(loaded.config, forgotten=gone, **kind)
            write_run(folder, outcome.model, config, record, outcome.history)
    return record
