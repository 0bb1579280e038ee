"""How a long job tells where it is. The command line draws bars; Python callers may pass their own."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from inspect import signature
from typing import Protocol


class Advance(Protocol):
    """Called with the amount of work done since the last call and an optional note such as a loss.

    An advance may know a third parameter, ``kept``: the amount was done by an earlier process; see
    `advance_by`.
    """

    def __call__(self, amount: int = 1, note: str = "") -> None: ...


class Log(Protocol):
    """Receives progress; must not raise."""

    def track(self, stage: str, total: int, unit: str = "", done: int = 0) -> AbstractContextManager[Advance]:
        """Opens one stage of ``total`` units of work, of which ``done`` were done by an earlier process.

        These count for the bar, and not for the speed. A log without the last parameter will do, too.
        """
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
    def track(self, stage: str, total: int, unit: str = "", done: int = 0) -> Iterator[Advance]:
        """Accepts a stage and ignores it."""

        def advance(amount: int = 1, note: str = "") -> None: ...

        yield advance

    def say(self, line: str) -> None:
        """Drops the line."""


SILENT: Log = Silent()

_WARNING = "warning: "


def warn(log: Log, text: str) -> None:
    """One line on what a person should know before the result is used, such as data that are left out.

    Args:
        log: Receives it, with ``warning:`` before it.
        text: Lower case, without a full stop.
    """
    log.say(f"{_WARNING}{text}")


class Warnings(Silent):
    """Reports no progress, and hands warnings on.

    Args:
        log: Receives them.
    """

    def __init__(self, log: Log) -> None:
        self._log = log

    def say(self, line: str) -> None:
        """Hands a line on if it is a warning."""
        if line.startswith(_WARNING):
            self._log.say(line)


@contextmanager
def going_on(log: Log, stage: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    """Opens a stage of which a part may be done already, also in a caller's log that knows no such part.

    Args:
        log: Receives progress.
        stage, total, unit: See `Log.track`.
        done: Units that an earlier process did.
    """
    knows = "done" in signature(log.track).parameters
    with log.track(stage, total, unit, **({"done": done} if knows else {})) as advance:
        if done and not knows:
            advance(done)
        yield advance


def advance_by(advance: Advance, amount: int, note: str, *, kept: bool) -> None:
    """Counts work of which some was kept from an earlier process, also in a caller's log that knows none.

    Args:
        advance: Of a stage.
        amount, note: See `Advance`.
        kept: Whether it was kept: it then counts for the bar, and not for the speed.
    """
    knows = kept and "kept" in signature(advance).parameters
    advance(amount, note, **({"kept": True} if knows else {}))


class Noticing:
    """A log that hands everything on, and remembers whether a stage was opened: whether there was work.

    Args:
        log: To which it hands on.
    """

    def __init__(self, log: Log) -> None:
        self._log, self.worked = log, False

    def track(self, stage: str, total: int, unit: str = "", done: int = 0) -> AbstractContextManager[Advance]:
        """Opens a stage of the other log."""
        self.worked = True
        return going_on(self._log, stage, total, unit, done)

    def say(self, line: str) -> None:
        """Hands a line on."""
        self._log.say(line)
