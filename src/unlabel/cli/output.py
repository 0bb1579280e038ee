"""Printing: escapes text that could control the terminal, and ends a command cleanly if a stream closes."""

import codecs
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from unlabel.core.files import UNSEEN

BROKEN_PIPE = 141
"""Exit code where the reader of stdout has gone, as of other tools: never 0, a gate may be unread."""


def escaped(text: str) -> str:
    r"""Text with escapes for what could control a terminal; line breaks and tabs stay.

    What JSON leaves as it is, from U+007F on, is written as JSON writes it: the value stays the same.

    >>> print(escaped("red \x1b[31m and \u202edne"))
    red \x1b[31m and \u202edne
    """
    return UNSEEN.sub(lambda found: found[0] if found[0] in "\n\t" else _escape(found[0]), text)


def _escape(letter: str) -> str:
    return f"\\x{ord(letter):02x}" if letter < "\x7f" else f"\\u{ord(letter):04x}"


def _unwritable(error: UnicodeError) -> tuple[str, int]:
    """A handler for letters that a stream's encoding lacks, as JSON writes them."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)), error.end


codecs.register_error("unlabel.escape", _unwritable)


class OutputError(OSError):
    """Stdout could not be written, and its reader has not gone."""


@contextmanager
def writing() -> Iterator[None]:
    """Within it, nothing but stdout is written: an error is an `OutputError`, or a `BrokenPipeError`."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.errno, error.strerror or str(error)) from error


class Plain:
    """A stream that escapes what it is given; all that a command prints goes through one.

    Args:
        stream: Where to write.
        needed: Whether the command cannot do without it; else what cannot be written is dropped.
    """

    def __init__(self, stream: TextIO, *, needed: bool) -> None:
        self.stream = stream
        self._needed = needed

    def write(self, text: str) -> int:
        """Writes the text with escapes."""
        return self._safely(self.stream.write, escaped(text)) or len(text)

    def flush(self) -> None:
        """Hands all that was written on."""
        self._safely(self.stream.flush)

    def _safely(self, call: Any, *arguments: Any) -> Any:
        if self._needed:
            with writing():
                return call(*arguments)
        try:
            return call(*arguments)
        except OSError:
            lose(self.stream)
            return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def print_json(value: Mapping[str, Any]) -> None:
    """Prints one JSON object on one line of stdout: all that a command prints there under ``--json``."""
    print(json.dumps(value, ensure_ascii=False))


@contextmanager
def plain_stdout() -> Iterator[None]:
    """Within it, stdout cannot steer a terminal."""
    yield from _replaced("stdout", needed=True)


@contextmanager
def plain_stderr() -> Iterator[None]:
    """Within it, stderr cannot steer a terminal, and its loss stops no command."""
    yield from _replaced("stderr", needed=False)


def _replaced(name: str, *, needed: bool) -> Iterator[None]:
    before = getattr(sys, name)
    setattr(sys, name, Plain(before, needed=needed))
    try:
        yield
    finally:
        setattr(sys, name, before)


def raw(stream: TextIO) -> TextIO:
    """The stream itself, for bars, which must move the cursor."""
    return stream.stream if isinstance(stream, Plain) else stream


def prepare_streams() -> bool:
    """Fills the places of closed streams, so that no other file gets their numbers; False without stdout."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        return False
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        with suppress(OSError):
            reconfigure(errors="unlabel.escape")  # a file's name need not be UTF-8, nor the terminal speak it
    return True


def lose(stream: TextIO) -> None:
    """Sends what a stream still holds nowhere: it could not be written, and shall not be tried again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
