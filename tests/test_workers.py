"""Jobs shared out over worker processes: all done, one thread each, and nothing lost if one is killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
import torch

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import DataError, OutOfMemory, UnlabelError, WriteError
from unlabel.core.parallel import one_thread
from unlabel.core.progress import Advance
from unlabel.core.workers import KEPT, Held, share_out

STARTS = ["fork", pytest.param("spawn", marks=pytest.mark.slow)]
"""To start two processes anew takes about 8 seconds of a core."""


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """A hang must not hold up the whole suite."""

    def late(*_: object) -> None:
        for child in multiprocessing.active_children():
            child.kill()
        raise RuntimeError("the workers took more than five minutes")  # no OSError: joining drops those

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@dataclass
class Heard:
    """A log that keeps everything."""

    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    done: int = 0

    @contextmanager
    def track(self, stage: str, total: int, unit: str = "") -> Iterator[Advance]:
        """Keeps amounts and notes."""
        self.lines.append(f"{stage} {total} {unit}")

        def advance(amount: int = 1, note: str = "") -> None:
            self.done += amount
            self.notes.append(note)

        yield advance

    def say(self, line: str) -> None:
        """Keeps a line."""
        self.lines.append(line)


def test_a_running_child_is_seen_and_an_ended_one_is_not(left_running) -> None:
    child = multiprocessing.get_context("fork").Process(target=signal.pause)
    child.start()
    assert child.pid is not None
    assert left_running() == [child.pid]
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has joined it
    assert left_running() == []
    child.join()
    assert left_running() == []


def place(devices: int, log: Heard | None = None) -> Run:
    return replace(
        engine.start(devices=devices, accelerator="cpu", log=log or Heard(), seed=7), micro_batch=9
    )


def _write_and_hold(folder: Path, made: Path, held: "Held[int]", run: Run, job: int) -> None:
    _write(folder, run, job)
    _made_by(made, held, run, job)


def _write(folder: Path, run: Run, job: int) -> None:
    text = f"{os.getpid()} {torch.get_num_threads()} {run.seed} {run.micro_batch} {run.processes}"
    (folder / f"{job}").write_text(text)
    run.log.say(f"wrote {job}")


@pytest.mark.parametrize("start", STARTS)
def test_every_job_is_done_in_a_worker_with_one_thread_in_the_same_place(
    start, left_running, tmp_path: Path
) -> None:
    """What the jobs share is made once a process, where it is not inherited by a fork."""
    log, held = Heard(), Held(_make)
    assert held.get(place(1)) == os.getpid()
    with_threads, written, made = torch.get_num_threads(), tmp_path / "written", tmp_path / "made"
    written.mkdir()
    made.mkdir()
    torch.set_num_threads(2)
    try:
        work = partial(_write_and_hold, written, made, held)
        share_out(range(5), work, place(2, log), stage="write", unit="files", start=start)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(with_threads)
    found = [path.read_text().split() for path in sorted(written.iterdir())]
    assert [rest for _, *rest in found] == [["1", "7", "9", "1"]] * 5
    assert os.getpid() not in {int(pid) for pid, *_ in found}
    assert log.lines[0] == "write 5 files"
    assert sorted(log.lines[1:]) == [f"wrote {job}" for job in range(5)]
    assert sorted(log.notes) == [f"{job}" for job in range(5)]
    assert log.done == 5
    assert left_running() == []
    for path in made.iterdir():
        maker, own = path.read_text().split()
        assert maker == (f"{os.getpid()}" if start == "fork" else own)


def test_one_process_does_the_jobs_itself_with_one_thread(tmp_path: Path) -> None:
    log = Heard()
    torch.set_num_threads(2)
    try:
        share_out(range(3), partial(_write, tmp_path), place(1, log), stage="write", unit="files")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    texts = [path.read_text() for path in sorted(tmp_path.iterdir())]
    assert texts == [f"{os.getpid()} 1 7 9 1"] * 3
    assert (log.done, len(log.lines)) == (3, 4)


@dataclass
class HeardKept(Heard):
    """The same, and what was kept from before."""

    kept: int = 0

    @contextmanager
    def track(self, stage: str, total: int, unit: str = "") -> Iterator[Advance]:
        """Keeps amounts apart."""

        def advance(amount: int = 1, note: str = "", kept: bool = False) -> None:
            self.done, self.kept = self.done + amount, self.kept + amount * kept

        yield advance


def _kept_if_even(run: Run, job: int) -> str | None:
    return KEPT if job % 2 == 0 else None


@pytest.mark.parametrize("devices", [1, 2])
def test_jobs_that_an_earlier_process_did_are_told_apart(devices: int) -> None:
    log = HeardKept()
    share_out([1, 2, 4], _kept_if_even, place(devices, log), stage="a", unit="b", size=lambda job: job)
    assert (log.done, log.kept) == (7, 6)
    plain = Heard()
    share_out([1, 2, 4], _kept_if_even, place(devices, plain), stage="a", unit="b", size=lambda job: job)
    assert plain.done == 7


@pytest.mark.parametrize("devices", [1, 2])
def test_the_display_counts_jobs_by_their_size(devices: int, tmp_path: Path) -> None:
    log, work = Heard(), partial(_write, tmp_path)
    share_out([1, 20, 300], work, place(devices, log), stage="write", unit="bytes", size=lambda job: job)
    assert log.lines[0] == "write 321 bytes"
    assert log.done == 321


def test_no_more_processes_start_than_there_are_jobs(tmp_path: Path) -> None:
    share_out([4], partial(_write, tmp_path), place(8), stage="write", unit="files")
    assert (tmp_path / "4").read_text().startswith(f"{os.getpid()} ")


FAILURES = {
    "user": DataError("no images"),
    "disk": OSError("full"),
    "write": WriteError("cannot write out: no space"),
    "memory": torch.OutOfMemoryError("CUDA out of memory"),
    "bug": KeyError("oops"),
}


def _fail(kind: str, run: Run, job: int) -> None:
    if job == 1:
        raise FAILURES[kind]


@pytest.mark.parametrize(
    ("kind", "error", "says"),
    [
        ("user", DataError, "^no images$"),
        ("disk", UnlabelError, "^full$"),
        ("write", WriteError, "^cannot write out: no space$"),
        ("memory", OutOfMemory, "set --micro-batch to less"),
        ("bug", RuntimeError, "KeyError: 'oops'"),
    ],
)
def test_an_error_in_a_worker_is_raised_as_it_was_there(kind, error, says, left_running) -> None:
    with pytest.raises(error, match=says):
        share_out(range(4), partial(_fail, kind), place(2), stage="fail", unit="jobs")
    assert left_running() == []


def _killed_once(folder: Path, run: Run, job: int) -> None:
    """Keeps what it did; the fourth job kills its process where a file says so."""
    if (folder / f"{job}").exists():
        return
    if job == 3 and (folder / "kill").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / f"{job}").write_text(f"{os.getpid()}")


@pytest.mark.parametrize("start", STARTS)
def test_a_killed_worker_is_one_line_and_the_same_call_goes_on(start, left_running, tmp_path: Path) -> None:
    (tmp_path / "kill").touch()
    work = partial(_killed_once, tmp_path)
    with pytest.raises(
        UnlabelError, match=r"worker process was killed by SIGKILL during: 3; .* goes on"
    ) as caught:
        share_out(range(4), work, place(2), stage="work", unit="jobs", start=start)
    assert len(str(caught.value).splitlines()) == 1
    assert left_running() == []
    (tmp_path / "kill").unlink()
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert len(kept) >= 2
    share_out(range(4), work, place(2), stage="work", unit="jobs")
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert sorted(found) == ["0", "1", "2", "3"]
    assert kept.items() <= found.items()


def _make(run: Run) -> int:
    return os.getpid()


def _made_by(folder: Path, held: Held[int], run: Run, job: int) -> None:
    (folder / f"{job}").write_text(f"{held.get(run)} {os.getpid()}")


AFTER_THREADS = """
import torch
from unlabel.core import engine
from unlabel.core.workers import share_out

def compute():
    layer = torch.nn.Conv2d(8, 8, 3)
    layer(torch.randn(16, 8, 32, 32)).square().mean().backward()
    wide = torch.randn(300, 300)
    torch.linalg.solve(wide.double() @ wide.double().T + torch.eye(300), wide.double())

torch.set_num_threads(4)
assert torch.get_num_threads() == 4
compute()
two = engine.start(devices=2, accelerator="cpu")
share_out(range(4), lambda run, job: compute(), two, stage="a", unit="b")
compute()
print("done", torch.get_num_threads())
"""


def test_a_fork_after_more_threads_have_run_does_not_hang() -> None:
    """The children keep to one thread, so they do not look for the parent's."""
    environment = {**os.environ, "OMP_NUM_THREADS": "4"}
    ran = subprocess.run(
        [sys.executable, "-c", AFTER_THREADS], env=environment, capture_output=True, text=True, timeout=240
    )
    assert (ran.returncode, ran.stdout) == (0, "done 4\n"), ran.stderr


def stop_inside() -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
        raise KeyboardInterrupt


def test_one_thread_ends_with_the_number_that_was() -> None:
    torch.set_num_threads(3)
    try:
        with pytest.raises(KeyboardInterrupt):
            stop_inside()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)


def _write_or_fail(folder: Path, run: Run, job: str) -> None:
    half = folder / ".half.tmp"
    if job == "write":
        try:
            half.write_bytes(b"half")
            signal.pause()
        finally:
            half.unlink()
    while not half.exists():
        pass
    raise DataError("the disk is full")


def test_if_one_worker_fails_the_others_leave_no_half_written_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the disk is full"):
        share_out(["write", "fail"], partial(_write_or_fail, tmp_path), place(2), stage="w", unit="files")
    assert list(tmp_path.iterdir()) == []


def _swallow_or_fail(folder: Path, run: Run, job: str) -> None:
    if job == "fail":
        while not (folder / "waits").exists():
            time.sleep(0.01)
        raise DataError("no images")
    with suppress(SystemExit):  # as Python does if the signal comes while a finaliser runs
        (folder / "waits").touch()
        signal.pause()


def test_a_worker_whose_signal_was_swallowed_ends_too(left_running, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images"):
        share_out(["wait", "fail"], partial(_swallow_or_fail, tmp_path), place(2), stage="hold", unit="jobs")
    assert left_running() == []


def _turn_deaf(_: Run, job: str) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def test_a_waiting_worker_that_sigterm_does_not_wake_ends_too(left_running) -> None:
    """As if the signal came after Python has looked for signals, and before it waits for a job.

    It was seen twice, on a busy machine: the last answer of a worker is what makes its parent end it.
    """
    share_out(["one", "two"], _turn_deaf, place(2), stage="turn", unit="jobs")
    assert left_running() == []
