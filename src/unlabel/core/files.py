"""Files that appear whole or not at all, whenever a command is killed."""

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from unlabel.core.errors import WriteError
from unlabel.core.leftovers import beside, create, mode_at, sweep

RECORD = "unlabel.json"
"""A folder without this file is no run."""

STATEMENT = "statement.dsse.json"
"""What `unlabel sign` writes into a run."""

UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters, line breaks, and marks that turn the reading direction."""


def make_parent(file: Path) -> None:
    """Makes the folder of a file that is about to be written, and those above it, where they are missing.

    Raises:
        WriteError: It cannot be made.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError.at(file, error) from error


def write_json(file: Path, value: Any) -> None:
    """Writes JSON atomically: a reader sees the old file or the new one, never half of one."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError:  # a file's name that is not UTF-8, say in the command line
        content = json.dumps(value, indent=2, allow_nan=False).encode()
    write_bytes(file, content + b"\n")


def write_text(file: Path, text: str) -> None:
    """Writes a text file atomically."""
    write_bytes(file, text.encode("utf-8"))


def write_bytes(file: Path, content: bytes) -> None:
    """Writes a file atomically, under a name that nobody can guess until it is whole; a link is replaced.

    Raises:
        WriteError: The disk is full, or something else of the kind.
    """
    try:
        sweep(file)
        with beside(file, "tmp") as temporary:
            create(temporary, content, mode_at(file, 0o666))
            try:
                os.replace(temporary, file)
            except OSError:
                with suppress(OSError):
                    temporary.unlink()
                raise
    except OSError as error:
        raise WriteError.at(file, error) from error


def visible(text: str) -> str:
    r"""Text with escapes for what could steer a terminal: control characters, turned reading direction.

    >>> print(visible("red \x1b[31m, end\n"))
    red \x1b[31m, end\n
    """
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
