"""Progress on the terminal: what an earlier process did counts for the bar, and not for the speed."""

from types import SimpleNamespace

import pytest
from rich import progress as rich

from unlabel.cli import progress
from unlabel.core.progress import advance_by, warn


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves ten seconds at each look."""
    looks = iter(range(0, 10_000, 10))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(looks))))


def test_lines_tell_the_speed_of_this_process(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Lines().track("train", 100, "images", 60) as advance:
        advance(10, "loss 0.5")
        advance(30)
    assert capsys.readouterr().err.splitlines() == [
        "train     70/100 images, 30 s left  loss 0.5",
        "train     40 images in 30.0 s (1/s)",
    ]


def test_quiet_prints_warnings_and_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    log = progress.terminal_log(quiet=True)
    with log.track("train", 2, "images") as advance:
        advance(1, "loss 0.5")
        advance(1)
    log.say("going on with the unfinished training in a")
    warn(log, "2 images cannot be read")
    assert capsys.readouterr().err == "warning: 2 images cannot be read\n"


def test_lines_tell_no_time_left_before_anything_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Lines().track("train", 100, "images", 60) as advance:
        advance(0)
    assert capsys.readouterr().err.splitlines()[0] == "train     60/100 images"


def test_lines_tell_the_time_left_of_new_work_and_show_kept_work_apart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress.Lines().track("read", 1000, "images") as advance:
        advance_by(advance, 500, "one", kept=True)
        advance_by(advance, 300, "two", kept=True)
        advance_by(advance, 100, "three", kept=False)
    assert capsys.readouterr().err.splitlines() == [
        "read      500/1,000 images, 500 of them kept from before  one",
        "read      800/1,000 images, 800 of them kept from before  two",
        "read      900/1,000 images, 800 of them kept from before, 10 s left  three",
        "read      100 images in 20.0 s (5/s)",
    ]


def test_one_of_a_kind_is_no_plural(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Lines().track("audit", 1, "attacks") as advance:
        advance(1)
    assert capsys.readouterr().err == "audit     1 attack in 20.0 s (20.0 s each)\n"


def test_a_bar_begins_where_the_earlier_process_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[rich.Progress] = []
    honest = rich.Progress.__enter__
    monkeypatch.setattr(rich.Progress, "__enter__", lambda self: (made.append(self), honest(self))[1])
    with progress.Bars().track("train", 100, "images", 60) as advance:
        (task,) = made[0].tasks
        assert (task.completed, task.total, task.speed) == (60, 100, None)
        advance(10)
        assert task.completed == 70


def test_a_bars_speed_is_that_of_new_work(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[rich.Progress] = []
    honest = rich.Progress.__enter__
    monkeypatch.setattr(rich.Progress, "__enter__", lambda self: (made.append(self), honest(self))[1])
    with progress.Bars().track("read", 1000, "images") as advance:
        (task,) = made[0].tasks
        advance_by(advance, 800, "kept", kept=True)
        assert (task.completed, task.speed) == (800, None)
        advance_by(advance, 100, "made", kept=False)
        assert task.completed == 900
