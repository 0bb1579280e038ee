"""A cell: one method, setting and seed, audited like any other, kept as one small file.

::

    run_cells(original, labels, jobs, references, where, folder) -> Cells
        folder/cells/KEY.json       what one job came to, written once it is finished
        folder/models/KEY.json      figures of the original and the references
        folder/attacks/             attacks on them, shared by all cells

KEY is a hash of everything that a cell depends on, so a folder may be shared by any number of comparisons:
a finished cell is found again where nothing changed, and never otherwise. A kill loses the running cell at
most.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlabel.audit.inputs import QUICK, AuditOptions, ask
from unlabel.audit.memory import Memory
from unlabel.audit.setup import open_request, sets_of
from unlabel.compare.cell_figures import Also, value_of
from unlabel.compare.jobs import Job, described, hashed, identity_of, key_of, resolved
from unlabel.compare.models import read_models
from unlabel.compare.run_cell import Workroom
from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.core.files import write_json
from unlabel.core.progress import Log
from unlabel.core.reading import read_json

SCHEMA = "unlabel.cell/1"
CHECKSUM = "sha256"


@dataclass(frozen=True)
class CellResult:
    """A finished cell.

    Args:
        job: What was done, aliases resolved.
        file: Where it is kept.
        record: Its content: ``outcome`` (``done`` or ``failed``), ``error``, ``figures``, ``utility``,
            ``claims``, ``c2``, ``c5``, ``cost``, ``shapes`` ...; docs/compare.md lists them.
    """

    job: Job
    file: Path
    record: Mapping[str, Any]

    @property
    def done(self) -> bool:
        """Whether the method came to an end and was audited."""
        return self.record["outcome"] == "done"

    def value(self, figure: str, label: str | None = None) -> float | None:
        """A figure, see `figures.value_of`; None where the cell failed."""
        return value_of(self.record, figure, label)


@dataclass(frozen=True)
class Cells:
    """Finished cells, in the order of their jobs, and the models that they are compared with.

    Args:
        before: Record of the original, with ``figures``, ``utility``, ``shapes`` and ``cost`` as in a cell.
        references: The same of every reference.
        floor: What the true retained labels tell.
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

    What a user got wrong is refused before anything is computed. What goes wrong in one cell (a loss that
    diverges, a selection that is empty) is that cell's outcome.

    Args:
        original: The run to forget from; only read.
        labels: Names to forget.
        jobs: What to do. Two equal ones are one cell.
        references: Runs retrained without the labels; none leaves C2 open.
        where: One process. Its seed is the audit's, the same for all cells; a job has its own.
        folder: Where cells are kept; may be shared.
        data: Another data source than the one the original remembers.
        options: Margins and sizes of the audit; by default those of ``unlabel audit``, without the control
            on raw pixels, which no model has a part in, and without judging rare labels on P as well, which
            a search for settings has looked at.
        force: Compute finished cells again.
        keep_models: Folder in which unlearned models are kept as runs; None: they are dropped.
        also: Reads more figures of every model, kept under ``also``; cells with another one are other cells.

    Raises:
        UnlabelError: A label, method or option is unknown, the runs do not belong together, or there are
            too few images for an audit.
    """
    if where.processes != 1:
        raise OptionError(f"--devices is {where.processes}; cells are computed in one process: leave it out")
    options = options or AuditOptions(seed=where.seed, raw_image=False, cross_fit=False)
    if options.includes != QUICK:
        raise OptionError(f"the audit's budget is {options.budget}; cells are audited by the quick one alone")
    jobs = [resolved(job) for job in jobs]
    case = open_request(labels, original, references, where, data)
    sets = sets_of(case.source, where.seed, case.planting)
    for label in case.request.masked:
        ask(label, *(part.with_labels(case.request.labels) for part in (sets.probe, sets.test, sets.train)))
    common = identity_of(case, options, where, also)
    files = [folder / "cells" / f"{key_of(common, job)}.json" for job in jobs]
    shared = folder / "models" / f"{hashed(common)}.json"
    room = Workroom(case, where, options, Memory(folder / "attacks", where.log), data, keep_models, also)
    models = None if force else kept(shared, SCHEMA, where.log)
    if models is None:
        models = {"schema": SCHEMA, **read_models(room.bench, options, room.memory, where.log, also)}
        write(shared, models)
    done: dict[Path, Mapping[str, Any]] = {}
    for number, (job, file) in enumerate(zip(jobs, files, strict=True), start=1):
        if file in done:
            continue
        found = None if force else kept(file, SCHEMA, where.log)
        if found is None:
            where.log.say(f"cell {number}/{len(jobs)}: {job.method}, seed {job.seed}")
            found = {"schema": SCHEMA, "key": file.stem, "identity": {**common, **described(job)}}
            found |= room.work(job, file.stem)
            write(file, found)
        done[file] = found
    return Cells(
        models["before"],
        tuple(models["references"]),
        tuple(models["floor"]),
        tuple(CellResult(job, file, done[file]) for job, file in zip(jobs, files, strict=True)),
        common,
    )


def kept(file: Path, schema: str, log: Log) -> dict[str, Any] | None:
    """The content of a finished file; None where there is none, it is of another version, or is damaged.

    A damaged one, of which any part has changed since it was written, is told of.
    """
    if not file.exists():
        return None
    try:
        found = read_json(file)
        if not isinstance(found, dict) or found.pop(CHECKSUM) != _checksum(found):
            raise ValueError("it was changed")
    except (OSError, ValueError, KeyError):
        log.say(f"{file} is damaged: what it held is computed again")
        return None
    return found if found.get("schema") == schema else None


def write(file: Path, content: Mapping[str, Any]) -> None:
    """Writes a finished file with its checksum, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {**content, CHECKSUM: _checksum(content)})


def _checksum(content: Mapping[str, Any]) -> str:
    """Of all else in a file, however it is laid out."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
