"""Writing ``audit.json`` into the run: never in place of a larger audit, or of another run's file."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unlabel.core.errors import OptionError
from unlabel.core.files import visible, write_json
from unlabel.core.places import held
from unlabel.core.reading import read_json
from unlabel.runs.folder import MODEL, file_sha256

AUDIT = "audit.json"
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
def keeping(run: Path, budget: str, *, force: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Locks a run while it is audited, against signing, and yields the function that writes the audit.

    If another command writes an audit in the meantime, a line on stderr says that this one replaces it.

    Args:
        run, budget, force: See `check_place`.

    Raises:
        OptionError: As `check_place` raises, before the work or at its end; or the run is being signed.
    """
    check_place(run, budget, force=force)
    file = run / AUDIT
    before = _digest(file)

    def keep(found: Mapping[str, Any]) -> None:
        check_place(run, budget, force=force)  # another audit may have ended
        if _digest(file) != before:
            line = f"{file} was written by another audit while this one ran; this one replaces it"
            print(visible(line), file=sys.stderr)
        write_json(file, found)

    if not run.is_dir():
        yield keep
        return
    with held(run, alone=False) as free:
        if not free:
            raise OptionError(f"{run} is being signed; audit it afterwards, and sign it again")
        yield keep


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
