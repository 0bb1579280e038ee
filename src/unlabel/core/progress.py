"""How a long job tells where it is. The command line draws bars; Python callers may pass their own."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Called with the amount of work done since the last call and an optional note such as a loss."""

    def __call__(self, amount: int = 1, note: str = "") -> None: ...


class Log(Protocol):
    """Receives progress; must not raise."""

    def track(self, stage: str, total: int, unit: str = "") -> AbstractContextManager[Advance]:
        """Opens one stage of ``total`` units of work."""
        ...

    def say(self, line: str) -> None:
        """One line for a person."""
        ...


class Track(Protocol):
    """Called after each optimiser step with the stage's name and ``{"step", "lr", "loss"}``."""

    def __call__(self, stage: str, row: Mapping[str, float], /) -> None: ...


class Silent:
    """Reports nothing: the default in Python."""

    @contextmanager
    def track(self, stage: str, total: int, unit: str = "") -> Iterator[Advance]:
        """Accepts a stage and ignores it."""

        def advance(amount: int = 1, note: str = "") -> None: ...

        yield advance

    def say(self, line: str) -> None:
        """Drops the line."""


SILENT: Log = Silent()
