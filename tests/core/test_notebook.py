"""Progress in a notebook, with an IPython and a clock that are made up."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import unlabel
from unlabel.cli.progress import Lines
from unlabel.core import engine, notebook
from unlabel.core.progress import SILENT


class Screen:
    """What IPython displayed: one list of texts for each place."""

    def __init__(self) -> None:
        self.places: list[list[dict[str, str]]] = []
        self.shell = SimpleNamespace(kernel=object(), execution_count=1)

    def display(self, content: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        place = [content]
        self.places.append(place)
        return SimpleNamespace(update=lambda new, raw: place.append(new))


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A notebook; its clock moves one second at each look."""
    screen, clock = Screen(), iter(range(10_000))
    python = ModuleType("IPython")
    python.get_ipython = lambda: screen.shell  # type: ignore[attr-defined]
    shown = ModuleType("IPython.display")
    shown.display = screen.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    monkeypatch.setattr(notebook, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    return screen


def test_only_a_notebook_shows_progress_unasked(screen: Screen) -> None:
    assert isinstance(engine.start().log, notebook.Notebook)
    assert isinstance(unlabel.progress(), notebook.Notebook)
    assert engine.start(log=SILENT).log is SILENT
    screen.shell = SimpleNamespace(execution_count=1)  # IPython in a terminal
    assert engine.start().log is SILENT
    assert isinstance(unlabel.progress(), Lines)


def test_without_ipython_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not notebook.in_notebook()
    assert engine.start().log is SILENT


def test_a_stage_is_a_bar_then_a_line_in_one_place(screen: Screen) -> None:
    log = notebook.Notebook()
    with log.track("train", 100, "images") as advance:
        advance(60, "loss <0.5>")
        advance(40)
    log.say("done")
    (place,) = screen.places
    assert place[0]["text/plain"] == "train  60/100 images, 1 s left  loss <0.5>"
    assert '<progress value="60" max="100">' in place[0]["text/html"]
    assert "loss &lt;0.5&gt;" in place[0]["text/html"]
    assert place[-1]["text/plain"] == "train  100 images in 3.0 s\ndone"
    assert "progress" not in place[-1]["text/html"]


def test_what_an_earlier_process_did_counts_for_the_bar_and_not_for_the_speed(screen: Screen) -> None:
    log = notebook.Notebook()
    with log.track("train", 100, "images", 60) as advance:
        advance(20)
        advance(20)
    (place,) = screen.places
    assert place[0]["text/plain"] == "train  80/100 images, 1 s left"
    assert '<progress value="80" max="100">' in place[0]["text/html"]
    assert place[-1]["text/plain"] == "train  40 images in 3.0 s"


def test_another_cell_gets_a_place_of_its_own(screen: Screen) -> None:
    log = notebook.Notebook()
    log.say("one")
    screen.shell.execution_count = 2
    log.say("two")
    assert [place[-1]["text/plain"] for place in screen.places] == ["one", "two"]


def test_what_is_shown_cannot_steer(screen: Screen) -> None:
    notebook.Notebook().say("a\x1b[31m\u202eb")
    assert "\x1b" not in screen.places[0][0]["text/plain"]
