"""The files of a comparison, and whose they are."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unlabel.core.errors import OptionError
from unlabel.core.places import check_file, check_folder
from unlabel.core.reading import file_sha256, read_json
from unlabel.core.wording import listing
from unlabel.runs.files import MODEL

JSON, CSV, PAGE = "compare.json", "compare.csv", "compare.html"

WRONG = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, StopIteration),
    *(TypeError, ValueError),
)
"""What reading a comparison raises where a value in it is of another kind than a comparison's."""


def check_comparison(out: Path, original: Path, labels: Sequence[str], *, force: bool) -> None:
    """Refuses, before any work, a folder whose files are not of a comparison of this run and these labels.

    Args:
        out, original, labels, force: See `compare_run`.

    Raises:
        OptionError: It is no folder to write to, or holds another comparison or other files of its names.
    """
    check_folder(out)
    files = [out / name for name in (JSON, CSV, PAGE) if (out / name).exists() or (out / name).is_symlink()]
    for file in files:
        check_file(file, force=True)
    if not files or force or not (original / MODEL).is_file():
        return
    try:
        same = subject_of(read_json(out / JSON)) == _about(file_sha256(original / MODEL), labels)
    except (OSError, *WRONG):
        same = False
    if not same:
        raise OptionError(
            f"{files[0]} exists and is of no comparison of {original} without {listing(labels)}; name another"
            " folder, or replace it with --force"
        )


def subject_of(comparison: Mapping[str, Any]) -> str:
    """What a comparison is of: its original's weights and its labels."""
    return _about(str(comparison["original"]["sha256"]), [str(label) for label in comparison["labels"]])


def _about(sha256: str, labels: Sequence[str]) -> str:
    return "comparison " + hashlib.sha256(json.dumps([sha256, sorted(labels)]).encode()).hexdigest()
