"""A cell: one method, setting and seed, audited as usual, and stored as one small file.

::

    run_cells(original, labels, jobs, references, where, folder) -> Cells
        folder/cells/KEY.json       the result of one job, written when it is finished
        folder/models/KEY.json      figures of the original and the references
        folder/attacks/             attacks on them, shared by all cells

KEY is a hash of everything that a cell depends on, so any number of comparisons may share a folder: a
finished cell is used again if nothing changed, and never otherwise. If the command is killed, only the
running cell is lost.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from unlabel.audit.inputs.memory import Memory
from unlabel.audit.inputs.options import QUICK, AuditOptions
from unlabel.audit.inputs.question import ask
from unlabel.audit.inputs.sets import sets_of
from unlabel.audit.setup import open_request
from unlabel.compare.cell_figures import Also, value_of
from unlabel.compare.jobs import Job, described, hashed, identity_of, key_of, resolved
from unlabel.compare.models import read_models
from unlabel.compare.run_cell import CellRunner, kept_run
from unlabel.core.engine import Run
from unlabel.core.errors import DataError, OptionError
from unlabel.core.files import write_json
from unlabel.core.progress import Log
from unlabel.core.reading import read_json
from unlabel.core.workers import Held, share_out

SCHEMA = "unlabel.cell/2"
CHECKSUM = "sha256"


@dataclass(frozen=True)
class CellResult:
    """A finished cell.

    Args:
        job: Method, options and seed, aliases resolved.
        file: Where it is stored.
        record: Its content: ``outcome`` (``done`` or ``failed``), ``error``, ``figures``, ``utility``,
            ``claims``, ``c2``, ``c5``, ``cost``, ``shapes`` ...; docs/compare.md lists them.
    """

    job: Job
    file: Path
    record: Mapping[str, Any]

    @property
    def done(self) -> bool:
        """Whether the method ended without an error and was audited."""
        return self.record["outcome"] == "done"

    def value(self, figure: str, label: str | None = None) -> float | None:
        """A figure, see `cell_figures.value_of`; None if the cell failed."""
        return value_of(self.record, figure, label)


@dataclass(frozen=True)
class Cells:
    """Finished cells, in the order of their jobs, and the models that they are compared with.

    Args:
        before: Record of the original, with ``figures``, ``utility``, ``shapes`` and ``cost`` as in a cell.
        references: The same of every reference.
        floor: The advantage from the true retained labels alone.
        cells: One a job.
        facts: Labels, data and audit options in common.
    """

    before: Mapping[str, Any]
    references: tuple[Mapping[str, Any], ...]
    floor: tuple[Mapping[str, Any], ...]
    cells: tuple[CellResult, ...]
    facts: Mapping[str, Any]


def run_cells(
    original: Path,
    labels: Sequence[str],
    jobs: Sequence[Job],
    references: Sequence[Path],
    where: Run,
    folder: Path,
    *,
    data: str | None = None,
    options: AuditOptions | None = None,
    force: bool = False,
    keep_models: Path | None = None,
    also: Also | None = None,
) -> Cells:
    """Forgets and audits every job that is not finished yet, and returns all of them.

    A user's mistake is refused before anything is computed. A failure of one cell (a loss that diverges, a
    selection that is empty) is that cell's outcome.

    Args:
        original: The run to forget from; only read.
        labels: Names to forget.
        jobs: What to do. Two equal ones are one cell.
        references: Runs retrained without the labels. Without any, C2 is not evaluated.
        where: Its processes share the cells out. Its seed is the audit's, the same for all cells; a job has
            its own.
        folder: Where cells are stored; comparisons may share it.
        data: Another data source than the one the original remembers.
        options: Margins and sizes of the audit; by default those of ``unlabel audit``, without the control
            on raw pixels, which depends on no model, and without judging rare labels on the probe split as
            well, which a search for settings has used.
        force: Compute finished cells again.
        keep_models: Folder in which unlearned models are stored as runs; None stores none. A finished cell
            whose model is not there is computed again.
        also: Reads more figures of every model, stored under ``also``; cells with another one are other
            cells.

    Raises:
        UnlabelError: A label, method or option is unknown, the runs do not belong together, or there are
            too few images for an audit.
    """
    options = options or AuditOptions(seed=where.seed, raw_image=False, cross_fit=False)
    if options.includes != QUICK:
        raise OptionError(
            f"the audit's budget is {options.budget}; cells are audited with the quick one only"
        )
    jobs = [resolved(job) for job in jobs]
    case = open_request(labels, original, references, where, data)
    sets = sets_of(case.source, where.seed, case.planting)
    for label in case.request.masked:
        ask(label, *(part.with_labels(case.request.labels) for part in (sets.probe, sets.test, sets.train)))
    common = identity_of(case, options, where, also)
    files = [folder / "cells" / f"{key_of(common, job)}.json" for job in jobs]
    file_of_models = folder / "models" / f"{hashed(common)}.json"
    again = partial(_open, original, labels, references, folder, data, options, keep_models, also)
    held: Held[CellRunner] = Held(again)
    models = None if force else read_finished(file_of_models, SCHEMA, where.log)
    pending = _pending(jobs, files, common, where.log, force=force, keep_models=keep_models)
    if models is None or pending:
        memory = Memory(folder / "attacks", where.log)
        held.made.append(CellRunner.of(case, where, options, memory, data, keep_models, also))
    if models is None:
        figures = read_models(held.made[0].shared, options, held.made[0].memory, where.log, also)
        models = {"schema": SCHEMA, **figures}
        write(file_of_models, models)
    if pending:
        share_out(pending, partial(_compute, held), where, stage="cells", unit="cells")
    done = {file: read_finished(file, SCHEMA, where.log) for file in files}
    if gone := [file for file, record in done.items() if record is None]:
        raise DataError(f"{gone[0]} was written and is damaged or gone; run the same command again")
    now = [str(item.path) for item in case.references]  # a run may have been moved since it was read
    return Cells(
        {**models["before"], "run": str(case.original.path)},
        tuple({**record, "run": run} for record, run in zip(models["references"], now, strict=True)),
        tuple(models["floor"]),
        tuple(CellResult(job, file, done[file] or {}) for job, file in zip(jobs, files, strict=True)),
        common,
    )


@dataclass(frozen=True)
class _Cell:
    """A cell to compute."""

    job: Job
    file: Path
    identity: Mapping[str, Any]
    number: str

    def __str__(self) -> str:
        return f"{self.job.method}, seed {self.job.seed}"


def _pending(
    jobs: Sequence[Job],
    files: Sequence[Path],
    common: Mapping[str, Any],
    log: Log,
    *,
    force: bool,
    keep_models: Path | None,
) -> list[_Cell]:
    """The cells that are not finished, each once; or whose model is to be kept and is not there."""

    def finished(job: Job, file: Path) -> bool:
        record = read_finished(file, SCHEMA, log)
        if record is None or keep_models is None or record["outcome"] != "done":
            return record is not None
        return kept_run(keep_models, job, file.stem).is_dir()

    first = {file: number for number, file in reversed(list(enumerate(files)))}
    return [
        _Cell(jobs[at], file, {**common, **described(jobs[at])}, f"{at + 1}/{len(jobs)}")
        for file, at in sorted(first.items(), key=lambda item: item[1])
        if force or not finished(jobs[at], file)
    ]


def _compute(held: Held[CellRunner], run: Run, cell: _Cell) -> None:
    """Computes one cell and writes its file."""
    run.log.say(f"cell {cell.number}: {cell}")
    result = held.get(run).work(cell.job, cell.file.stem, run)
    write(cell.file, {"schema": SCHEMA, "key": cell.file.stem, "identity": cell.identity, **result})


def _open(
    original: Path,
    labels: Sequence[str],
    references: Sequence[Path],
    folder: Path,
    data: str | None,
    options: AuditOptions,
    keep_models: Path | None,
    also: Also | None,
    run: Run,
) -> CellRunner:
    """What all cells share, in a process that starts anew."""
    case, memory = open_request(labels, original, references, run, data), Memory(folder / "attacks", run.log)
    return CellRunner.of(case, run, options, memory, data, keep_models, also)


def read_finished(file: Path, schema: str, log: Log) -> dict[str, Any] | None:
    """The content of a finished file; None if there is none, or it is damaged or of another version.

    If the file was changed since it was written, the log says so.
    """
    if not file.exists():
        return None
    try:
        content = read_json(file)
        if not isinstance(content, dict) or content.pop(CHECKSUM) != _checksum(content):
            raise ValueError("it was changed")
    except (OSError, ValueError, KeyError):
        log.say(f"{file} is damaged; its content is computed again")
        return None
    return content if content.get("schema") == schema else None


def write(file: Path, content: Mapping[str, Any]) -> None:
    """Writes a finished file with its checksum, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {**content, CHECKSUM: _checksum(content)})


def _checksum(content: Mapping[str, Any]) -> str:
    """Of all else in a file, however it is laid out."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
