"""Whose audit a written file is of, and whether a person has changed it since.

What `unlabel report` writes ends in a comment with the sha256 of the audit that it was made from, and of its
own text above: a page that a later audit has made wrong is noticed, and a card that someone has worked on is
not written over.
"""

import hashlib
import re
from pathlib import Path

from unlabel.runs.folder import file_sha256

PAGE, CARD = "report.html", "README.md"
_MARK = re.compile(rb"<!-- unlabel: of audit\.json ([0-9a-f]{64}), text ([0-9a-f]{64}) -->\n\Z")
_LONGEST = 200  # bytes of a mark, with room to spare
MOST_BYTES = 64_000_000


def marked(text: str, audit: Path) -> bytes:
    """A text with its mark, as the bytes of a file.

    Args:
        text: HTML or Markdown.
        audit: The audit.json that it was made from.
    """
    content = text.encode("utf-8", "backslashreplace")  # a file's name need not be UTF-8
    if not content.endswith(b"\n"):
        content += b"\n"
    own = hashlib.sha256(content).hexdigest()
    return content + f"<!-- unlabel: of audit.json {file_sha256(audit)}, text {own} -->\n".encode()


def untouched(file: Path) -> bool:
    """Whether a file is as `unlabel report` wrote it, from whatever audit."""
    content = _read(file)
    found = _MARK.search(content[-_LONGEST:])
    return bool(found) and hashlib.sha256(content[: -len(found[0])]).hexdigest().encode() == found[2]


def stale(run: Path) -> list[str]:
    """The files of an audited run that `unlabel report` wrote of another audit than the one there now."""
    now = file_sha256(run / "audit.json").encode()
    marks = {name: _MARK.search(_read(run / name)[-_LONGEST:]) for name in (PAGE, CARD)}
    return [name for name, found in marks.items() if found and found[1] != now]


def _read(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() and file.stat().st_size <= MOST_BYTES else b""
