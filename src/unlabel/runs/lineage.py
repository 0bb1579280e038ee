"""Where a run comes from: the chain of runs back to the one that was trained or adopted.

A run's record names its parent and sums up the ones before, so that a chain can be told when they are gone::

    "parent": {"run": ..., "sha256": ...}
    "ancestors": [{"run", "sha256", "method", "labels", "annotations", "date"}, ...]     the parent first

The hashes are of the weights as they were when the next run was made from them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unlabel.core.errors import ModelError, UnlabelError
from unlabel.runs.folder import MODEL, file_sha256, read_record

State = Literal["here", "unchanged", "changed", "missing"]
MOST = 1000
"""Steps of a chain; a longer one is no chain that anybody made."""

MADE = ("train", "adopt")  # a chain ends at one of these


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
    steps = [_step(str(run), _facts(record), None, digest, "here")]
    ahead, seen = _ahead(record), {run.resolve()}
    while ahead and len(steps) < MOST:
        entry = ahead.pop(0)
        place, digest, state = locate(entry["run"], entry["sha256"], run)
        facts = dict(entry)
        if place is not None and place.resolve() in seen:
            break  # a record that names itself as its own ancestor
        if place is not None and state == "unchanged":
            seen.add(place.resolve())
            own = _record(place)
            facts = {**_facts(own), **{name: value for name, value in entry.items() if value is not None}}
            ahead = ahead or _ahead(own)
        steps.append(_step(str(place or entry["run"]), facts, entry["sha256"], digest, state))
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
    for place in (Path(recorded), run.absolute().parent / Path(recorded).name):
        file = place / MODEL
        try:
            digest = file_sha256(file) if file.is_file() else None
        except (OSError, ValueError):  # not ours to read, or no path at all
            continue
        if digest == sha256:
            return place, digest, "unchanged"
        changed = changed or (digest and (place, digest))
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
        place, _, state = locate(str(path), sha256, path)
        if place is not None and state == "unchanged":
            return place
    place, _, state = locate(recorded, sha256, run)
    if place is not None and state == "unchanged":
        return place
    there = f"has other weights now ({place})" if place else "is not there"
    raise ModelError(
        f"{recorded}, which the audit compared with, {there}; put it beside {run}"
        + (f", or name it with {flag}" if flag else "")
    )


def _ahead(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The ancestors that a record names; of one from before they were summed up, the parent alone."""
    parent = record.get("parent") or {}
    told = isinstance(parent.get("run"), str) and isinstance(parent.get("sha256"), str)
    known = record.get("ancestors") or ([parent] if told else [])
    return [{**dict.fromkeys(("method", "labels", "annotations", "date")), **entry} for entry in known]


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    method = record.get("method")
    labels = record.get("without" if method in MADE else "labels")
    return {
        "method": method,
        "labels": labels if labels is not None or method not in MADE else [],
        "annotations": (record.get("rows") or {}).get("count"),
        "date": record.get("date"),
    }


def _record(run: Path) -> Mapping[str, Any]:
    try:
        return read_record(run)
    except UnlabelError:
        return {}


def _step(run: str, facts: Mapping[str, Any], recorded: str | None, found: str | None, state: State) -> Step:
    labels = facts["labels"]
    return Step(
        run,
        facts["method"],
        None if labels is None else tuple(labels),
        facts["annotations"],
        facts["date"],
        recorded,
        found,
        state,
    )
