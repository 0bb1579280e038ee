"""Writing ``audit.json`` into the run: never in place of a larger audit, or of another run's file.

An audit against other models than the one that it replaces says so, and notes that one under ``earlier``.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unlabel.audit.document.results import Audit
from unlabel.core.errors import OptionError
from unlabel.core.files import visible, write_json
from unlabel.core.places import held
from unlabel.core.reading import file_sha256, read_json
from unlabel.core.wording import joined
from unlabel.runs.files import MODEL

AUDIT = "audit.json"
MOST_EARLIER = 100  # audits that are noted, the latest ones
BUDGETS = ("quick", "standard", "full")
"""From the smallest to the largest."""


def check_place(run: Path, budget: str, *, force: bool) -> None:
    """Refuses, before any work, an audit that cannot be written into a run, or would replace a larger one.

    Args:
        run: The run to audit. Others refuse a folder that is no run.
        budget: Of the audit to come.
        force: Replace whatever audit is there.

    Raises:
        OptionError: The run is read-only, ``audit.json`` is no plain file, or must not be replaced.
    """
    file = run / AUDIT
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise OptionError(f"{file} is a link or no plain file; remove it first")
    if run.is_dir() and not os.access(run, os.W_OK | os.X_OK):
        raise OptionError(f"{run} is read-only, so {AUDIT} cannot be written; allow writing to the folder")
    if force or not file.exists():
        return
    there = _budget(file, run / MODEL)
    if there is None:
        raise OptionError(
            f"{file} is no audit of the weights in {run}; move it away, or replace it with --force"
        )
    if budget in BUDGETS and BUDGETS.index(there) > BUDGETS.index(budget):
        raise OptionError(
            f"{file} is a {there} audit, and a {budget} one would replace it; choose --budget {there}, or"
            " replace it with --force"
        )


@contextmanager
def keeping(run: Path, budget: str, *, force: bool) -> Iterator[Callable[[Audit], Audit]]:
    """Locks a run while it is audited, against signing, and yields the function that writes the audit.

    The function returns the audit as it is written, with what it replaces. If that was made against other
    models, or by another command in the meantime, a line on stderr says that this one replaces it.

    Args:
        run, budget, force: See `check_place`.

    Raises:
        OptionError: As `check_place` raises, before the work or at its end; or the run is being signed.
    """
    check_place(run, budget, force=force)
    file = run / AUDIT
    before = _digest(file)

    def keep(found: Audit) -> Audit:
        check_place(run, budget, force=force)  # another audit may have ended
        if _digest(file) != before:
            line = f"{file} was written by another audit while this one ran; this one replaces it"
            print(visible(line), file=sys.stderr)
        found = replace(found, earlier=_earlier(file, found))
        write_json(file, found.to_json())
        return found

    if not run.is_dir():
        yield keep
        return
    with held(run, alone=False) as free:
        if not free:
            raise OptionError(f"{run} is being signed; audit it afterwards, and sign it again")
        yield keep


def _earlier(file: Path, found: Audit) -> tuple[Mapping[str, Any], ...]:
    """What is noted of audits that were here before; one that is replaced now is named on stderr."""
    try:
        there = read_json(file)
        noted = [item for item in there.get("earlier", []) if isinstance(item, dict)]
        replaced = _entry(file, there)
        same = _compared(there["models"]) == _compared(found.models)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ()  # no audit was here
    if same:
        return tuple(noted)
    given = f"the references {joined(names)}" if (names := replaced["references"]) else "no references"
    line = (
        f"{file}: replaces the audit of {replaced['date']}, against the original {replaced['before']} with"
        f" {given} ({replaced['headline']}), which is noted under 'earlier'"
    )
    print(visible(line), file=sys.stderr)
    return (*noted, replaced)[-MOST_EARLIER:]


def _entry(file: Path, audit: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of an audit that another one replaces."""
    models = audit["models"]
    return {
        "date": datetime.fromtimestamp(file.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "before": str(models["before"]["run"]),
        "references": [str(item["run"]) for item in models["references"]],
        "budget": str(audit["options"]["budget"]),
        "headline": str(audit["headline"]),
        "sha256": file_sha256(file),
    }


def _compared(models: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The weights of the original and of the references."""
    return models["before"]["sha256"], sorted(item["sha256"] for item in models["references"])


def _budget(file: Path, weights: Path) -> str | None:
    """The budget of an audit of these weights; None where the file is no such audit."""
    try:
        content = read_json(file)
        budget, sha256 = content["options"]["budget"], content["models"]["after"]["sha256"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    ours = budget in BUDGETS and weights.is_file() and sha256 == file_sha256(weights)
    return budget if ours else None


def _digest(file: Path) -> str | None:
    return file_sha256(file) if file.is_file() else None
