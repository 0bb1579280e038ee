"""Progress in a notebook: one place in a cell's output, written anew while the work goes on.

IPython draws it. It is there in every notebook, and is imported in no other place.
"""

import html
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unlabel.core.files import visible
from unlabel.core.progress import SILENT, Advance, Log

SECONDS = 0.2  # between two drawings
SHORT = 1.0  # a stage of fewer seconds leaves no line


def default_log() -> Log:
    """What Python callers get who name no log: progress in a notebook, nothing elsewhere."""
    return Notebook() if in_notebook() else SILENT


def in_notebook() -> bool:
    """Whether this code runs in the kernel of a notebook."""
    shell = _shell()
    return getattr(shell, "kernel", None) is not None


def _shell() -> Any:
    """IPython's own object of this session; None without one. IPython is not imported for it."""
    ask = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return ask() if ask else None


class Notebook:
    """A line for each finished stage and a bar for the current one, in the cell that runs."""

    def __init__(self) -> None:
        self._cell: Any = self  # no cell yet
        self._place: Any = None
        self._lines: list[str] = []

    @contextmanager
    def track(self, stage: str, total: int, unit: str = "", done: int = 0) -> Iterator[Advance]:
        """Opens a stage of ``total`` units, of which an earlier process did ``done``."""
        earlier, started = done, time.monotonic()
        drawn = started

        def advance(amount: int = 1, note: str = "", kept: bool = False) -> None:
            nonlocal done, drawn, earlier, started
            done += amount
            now = time.monotonic()
            if kept:
                started = now if done - amount == earlier else started
                earlier += amount
            if now - drawn >= SECONDS:
                drawn = now
                left = (now - started) / max(done - earlier, 1) * max(total - done, 0)
                self._draw(f"{stage}  {done:,}/{total:,} {unit}, {left:.0f} s left  {note}", done, total)

        yield advance
        seconds = time.monotonic() - started
        if seconds >= SHORT:
            self.say(f"{stage}  {done - earlier:,} {unit} in {seconds:.1f} s")
        elif drawn > started:
            self._draw("", 0, 0)

    def say(self, line: str) -> None:
        """Adds a line to the cell."""
        self._here()
        self._lines.append(visible(line.strip()))
        self._draw("", 0, 0)

    def _here(self) -> None:
        """Starts anew if another cell runs than at the last call."""
        cell = getattr(_shell(), "execution_count", None)
        if cell != self._cell:
            self._cell, self._place, self._lines = cell, None, []

    def _draw(self, now: str, done: int, total: int) -> None:
        from IPython.display import display  # type: ignore[import-not-found]

        self._here()
        lines = [*self._lines, *([visible(now.strip())] if now else [])]
        shown = "<br>".join(html.escape(line) for line in lines)
        bar = f'<br><progress value="{done}" max="{total}"></progress>' if now else ""
        content = {"text/plain": "\n".join(lines), "text/html": f"<small>{shown}{bar}</small>"}
        if self._place is None:
            self._place = display(content, raw=True, display_id=True)
        else:
            self._place.update(content, raw=True)
