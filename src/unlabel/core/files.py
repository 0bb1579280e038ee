"""Files that appear whole or not at all, whenever a command is killed."""

import errno
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from unlabel.core.errors import UnlabelError
from unlabel.core.leftovers import beside, create, mode_at, sweep

RECORD = "unlabel.json"
"""A folder without this file is no run."""

STATEMENT = "statement.dsse.json"
"""What `unlabel sign` writes into a run."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
TOO_MANY = (errno.EMFILE, errno.ENFILE)
NO_MEMORY = (errno.ENOMEM, errno.EAGAIN)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters, line breaks, and marks that turn the reading direction."""


class WriteError(UnlabelError, OSError):
    """A file or folder could not be written; what was there before is there still."""

    @classmethod
    def at(cls, target: Path, error: OSError) -> "WriteError":
        """The error of writing a place that the user named, though it struck in a hidden file beside it."""
        reason = error.strerror or str(error)
        failure = cls(f"cannot write {target}: {reason}; {advice(error)}; nothing was half-written")
        failure.strerror = reason
        return failure


def advice(error: OSError) -> str:
    """What to do about an error of the file system, or about a limit of the machine."""
    number = error.errno or getattr(error.__cause__, "errno", None)
    if number in FULL:
        return "free some space there, or name another place"
    if number in TOO_MANY:
        return "allow more open files (ulimit -n), or name fewer --devices"
    if number in NO_MEMORY:
        return "free some memory, or name fewer --devices"
    if number in FORBIDDEN:
        return "allow access to it, or name another place"
    return "check that place, or name another"


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
