"""Where a run comes from: the chain of runs back to the one that was trained or adopted.

A run's record names its parent and sums up the ones before, so that a chain can be told when they are gone::

    "parent": {"run": ..., "sha256": ...}
    "ancestors": [{"run", "sha256", "method", "labels", "annotations", "date"}, ...]     the parent first

The hashes are of the weights as they were when the next run was made from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from unlabel.core.errors import ModelError, UnlabelError
from unlabel.core.reading import file_sha256
from unlabel.runs.files import MODEL, read_record
from unlabel.runs.origin import MADE, Ancestor, Record

State = Literal["here", "unchanged", "changed", "missing"]
MOST = 1000
"""Steps of a chain; a longer one is no chain that anybody made."""


@dataclass(frozen=True)
class Step:
    """One run of a chain.

    Args:
        run: Its folder: where it was found, else where it was.
        method: How it was made, None where that is not known.
        labels: What it forgot, or was trained without; None where that is not known.
        annotations: How many single annotations it forgot, where it forgot no whole label.
        date: When it was made, if recorded.
        recorded: Hash of its weights when its child was made; None for the run itself.
        found: Hash of its weights now; None where they are missing.
        state: ``here`` for the run itself, else what became of it.
    """

    run: str
    method: str | None
    labels: tuple[str, ...] | None
    annotations: int | None
    date: str | None
    recorded: str | None
    found: str | None
    state: State

    @property
    def what(self) -> str:
        """How it was made, in words."""
        names = ", ".join(self.labels or ())
        if self.method in MADE:
            verb = "trained" if self.method == "train" else "adopted"
            return f"{verb} without {names}" if names else verb
        if self.method is None:
            return "how it was made is not known"
        many = f"{self.annotations:,} annotations of " if self.annotations else ""
        return f"forgot {many}{names}, by {self.method}"


def history(run: Path) -> list[Step]:
    """A run and its ancestors, the run first; as far as records go.

    An ancestor is looked for where it was, and beside the run. What was recorded when its child was made
    counts; its own record fills the gaps, if its weights are still the same.

    Args:
        run: A run folder.

    Raises:
        UnlabelError: The run cannot be read.
    """
    record = read_record(run)
    weights = run / MODEL
    digest = file_sha256(weights) if weights.is_file() else None
    itself = _entry(record, str(run), "")
    steps = [_step(itself, str(run), None, digest, "here")]
    ahead, visited = _ahead(record), {run.resolve()}
    while ahead and len(steps) < MOST:
        entry = ahead.pop(0)
        folder, digest, state = locate(entry.run, entry.sha256, run)
        if folder is not None and folder.resolve() in visited:
            break  # a record that names itself as its own ancestor
        if folder is not None and state == "unchanged":
            visited.add(folder.resolve())
            itself = _record(folder)
            entry = _filled(entry, _entry(itself, entry.run, entry.sha256))
            ahead = ahead or _ahead(itself)
        steps.append(_step(entry, str(folder or entry.run), entry.sha256, digest, state))
    return steps


def ancestors(parent: Path) -> list[dict[str, Any]]:
    """What a new run records of its parent and of the runs before.

    Args:
        parent: The run that it is made from.
    """
    return [
        {
            "run": str(Path(step.run).absolute()),
            "sha256": step.recorded or step.found,
            "method": step.method,
            "labels": None if step.labels is None else list(step.labels),
            "annotations": step.annotations,
            "date": step.date,
        }
        for step in history(parent)
        if step.recorded or step.found
    ]


def locate(recorded: str, sha256: str, run: Path) -> tuple[Path | None, str | None, State]:
    """Finds a run that another one remembers: where it was, or beside the other.

    Args:
        recorded: Its path as remembered.
        sha256: Hash of its weights as remembered.
        run: The other run.

    Returns:
        Its folder or None, the hash found there or None, and what became of it.
    """
    changed = None
    for folder in (Path(recorded), run.absolute().parent / Path(recorded).name):
        file = folder / MODEL
        try:
            digest = file_sha256(file) if file.is_file() else None
        except (OSError, ValueError):  # not ours to read, or no path at all
            continue
        if digest == sha256:
            return folder, digest, "unchanged"
        changed = changed or (digest and (folder, digest))
    return (*changed, "changed") if changed else (None, None, "missing")


def at_hand(recorded: str, sha256: str, run: Path, named: Sequence[Path] = (), flag: str = "") -> Path:
    """The folder of a model that a run's audit names, with the very weights that were audited.

    Args:
        recorded: Its path in the audit.
        sha256: Hash of its weights there.
        run: The audited run, beside which it is looked for, too.
        named: Folders to look at first.
        flag: The command line's flag that names one.

    Raises:
        ModelError: It is in none of these places, or has other weights there.
    """
    for path in named:
        folder, _, state = locate(str(path), sha256, path)
        if folder is not None and state == "unchanged":
            return folder
    folder, _, state = locate(recorded, sha256, run)
    if folder is not None and state == "unchanged":
        return folder
    there = f"has other weights now ({folder})" if folder else "is not there"
    raise ModelError(
        f"{recorded}, which the audit compared with, {there}; put it beside {run}"
        + (f", or name it with {flag}" if flag else "")
    )


def _ahead(record: Record) -> list[Ancestor]:
    """The ancestors that a record names; of one from before they were summed up, the parent alone."""
    if record.ancestors:
        return list(record.ancestors)
    parent = record.parent
    if parent is None or parent.run is None or parent.sha256 is None:
        return []
    return [Ancestor(parent.run, parent.sha256)]


def _entry(record: Record, run: str, sha256: str) -> Ancestor:
    """A run's own record as its children sum it up."""
    labels = record.labels if record.method not in MADE else record.without or ()
    rows = record.rows.count if record.rows else None
    return Ancestor(run, sha256, record.method, labels, rows, record.date)


def _filled(entry: Ancestor, record: Ancestor) -> Ancestor:
    """An entry, with the record's facts where it has none."""
    return replace(record, **{name: value for name, value in vars(entry).items() if value is not None})


def _record(run: Path) -> Record:
    try:
        return read_record(run)
    except UnlabelError:
        return Record()


def _step(entry: Ancestor, run: str, recorded: str | None, found: str | None, state: State) -> Step:
    return Step(run, entry.method, entry.labels, entry.annotations, entry.date, recorded, found, state)
