"""Progress on the terminal's stderr: bars for a person, a few plain lines for a log file."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from unlabel.cli.output import raw
from unlabel.core.files import visible
from unlabel.core.notebook import Notebook, in_notebook
from unlabel.core.progress import Advance, Log, Warnings

PLAIN_SECONDS = 10.0


def terminal_log(*, quiet: bool = False) -> Log:
    """Bars when stderr is a terminal, a line every ten seconds when it is not, warnings alone when quiet."""
    log = Bars() if sys.stderr.isatty() else Lines()
    return Warnings(log) if quiet else log


def progress() -> Log:
    """Progress for Python callers: ``unlabel.start(log=unlabel.progress())``.

    Returns:
        Bars if stderr is a terminal, a line every ten seconds if it is not; in a notebook, the cell's output.

    Example:
        >>> import unlabel
        >>> unlabel.start(log=unlabel.progress()).log  # doctest: +ELLIPSIS
        <unlabel.cli.progress.Lines object at 0x...>
    """
    return Notebook() if in_notebook() else terminal_log()


def speed(done: int, seconds: float) -> str:
    """Units a second, or seconds a unit where one takes longer.

    >>> speed(1583, 2.0), speed(16, 50.6), speed(0, 3.0)
    ('792/s', '3.2 s each', '0/s')
    """
    return f"{seconds / done:.1f} s each" if 0 < done < seconds else f"{done / seconds:,.0f}/s"


def _units(count: int, unit: str) -> str:
    """A unit as it stands after a number.

    >>> _units(1, "attacks"), _units(2, "attacks")
    ('attack', 'attacks')
    """
    return unit.removesuffix("s") if count == 1 else unit


class Lines:
    """One line when a stage ends, and every ten seconds while it runs."""

    @contextmanager
    def track(self, stage: str, total: int, unit: str = "", done: int = 0) -> Iterator[Advance]:
        """Opens a stage of ``total`` units, of which an earlier process did ``done``."""
        earlier, started, found = done, time.monotonic(), 0
        told = started

        def advance(amount: int = 1, note: str = "", kept: bool = False) -> None:
            nonlocal done, told, earlier, started, found
            done += amount
            now = time.monotonic()
            if kept:
                started = now if done - amount == earlier else started
                earlier, found = earlier + amount, found + amount
            if now - told >= PLAIN_SECONDS and done < total:
                told = now
                made = done - earlier
                left = f", {(now - started) / made * (total - done):.0f} s left" if made else ""
                apart = f", {found:,} of them kept from before" if found else ""
                amounts = f"{done:,}/{total:,} {_units(total, unit)}{apart}{left}"
                self.say(f"{stage:9s} {amounts}  {note}".rstrip())

        yield advance
        seconds = time.monotonic() - started
        if seconds >= 1.0:
            made = done - earlier
            self.say(f"{stage:9s} {made:,} {_units(made, unit)} in {seconds:.1f} s ({speed(made, seconds)})")

    def say(self, line: str) -> None:
        """Prints a line on stderr."""
        print(visible(line), file=sys.stderr, flush=True)


class Bars:
    """A bar a stage with rate, time left and the latest note."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(file=raw(sys.stderr))

    @contextmanager
    def track(self, stage: str, total: int, unit: str = "", done: int = 0) -> Iterator[Advance]:
        """Opens a bar of ``total`` units, of which an earlier process did ``done``."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description:9s}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(visible(stage), total=total, completed=done, note="")

            worked = False

            def advance(amount: int = 1, note: str = "", kept: bool = False) -> None:
                nonlocal done, worked
                done, worked = done + amount, worked or (amount > 0 and not kept)
                if kept and not worked:
                    progress.reset(task, completed=done)  # the clock and the speed begin here
                progress.update(task, completed=done, note=visible(note))

            yield advance

    def say(self, line: str) -> None:
        """Prints a line on stderr without disturbing the bars."""
        self._console.print(visible(line), markup=False, highlight=False)
