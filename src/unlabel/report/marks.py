"""Whose audit a written file is of, and whether a person has changed it since.

What `unlabel report` writes ends in a comment: whether it is a page or a card, of which weights (or which
comparison) and audit, and the sha256 of its own text above. So a page that a later audit has made wrong is
noticed, and neither another run's page nor a file that someone has worked on is written over.
"""

import hashlib
import re
from contextlib import suppress
from pathlib import Path
from typing import Literal

from unlabel.audit.document.typed import Document
from unlabel.core.errors import ReadError
from unlabel.core.reading import file_sha256, read_plain

PAGE, CARD = "report.html", "README.md"
_MARK = re.compile(
    rb"<!-- unlabel: (page|card) of ([a-z]+ [0-9a-f]{64}), of [a-z]+\.json ([0-9a-f]{64}),"
    rb" text ([0-9a-f]{64}) -->\n\Z"
)
_LONGEST = 400  # bytes of a mark, with room to spare
MOST_BYTES = 64_000_000
Kind = Literal["page", "card"]


def subject(audit: Document) -> str:
    """What an audit is of: the audited weights. It may come from anyone."""
    sha256 = str(audit.models.after and audit.models.after.sha256)
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        sha256 = _sha256(sha256.encode("utf-8", "surrogatepass"))
    return f"weights {sha256}"


def marked(text: str, kind: Kind, of: str, source: Path) -> bytes:
    """A text with its mark, as the bytes of a file.

    Args:
        text: HTML or Markdown.
        kind: What it is.
        of: What it is about; see `subject`.
        source: The audit.json, or compare.json, that it was made from.
    """
    content = text.encode("utf-8", "backslashreplace")  # a file's name need not be UTF-8
    if not content.endswith(b"\n"):
        content += b"\n"
    made = f"{kind} of {of}, of {source.name} {file_sha256(source)}, text {_sha256(content)}"
    return content + f"<!-- unlabel: {made} -->\n".encode()


def written(file: Path) -> tuple[str, str]:
    """The kind of a file that `unlabel` wrote and what it is of; empty for any other, or a changed one."""
    content = _read(file)
    match = _MARK.search(content[-_LONGEST:])
    if match is None or _sha256(content[: -len(match[0])]).encode() != match[4]:
        return "", ""
    return match[1].decode(), match[2].decode()


def stale(run: Path) -> list[str]:
    """The files of an audited run that `unlabel report` wrote of another audit than the one there now."""
    now = file_sha256(run / "audit.json").encode()
    marks = {name: _MARK.search(_read(run / name)[-_LONGEST:]) for name in (PAGE, CARD)}
    return [name for name, found in marks.items() if found and found[3] != now]


def _read(file: Path) -> bytes:
    with suppress(ReadError):
        return read_plain(file, MOST_BYTES)
    return b""


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
