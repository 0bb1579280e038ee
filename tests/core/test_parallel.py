"""Independent jobs: the same results in any number of processes, one thread each, and none left behind."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from unlabel.core.errors import DataError, ProcessLost
from unlabel.core.parallel import run_jobs
from unlabel.core.progress import SILENT


@pytest.fixture(params=[1, 2])
def workers(request: pytest.FixtureRequest) -> Iterator[int]:
    """As many cores as torch may use."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def two() -> Iterator[None]:
    """Two cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_stand_in_the_order_of_the_jobs(workers: int) -> None:
    jobs = {name: (lambda name=name: name.upper()) for name in "dacb"}
    assert list(run_jobs(jobs, SILENT).items()) == [("d", "D"), ("a", "A"), ("c", "C"), ("b", "B")]
    assert torch.get_num_threads() == workers
    assert run_jobs({}, SILENT) == {}


def test_every_job_has_one_thread_and_two_cores_are_two_processes(workers: int) -> None:
    def where() -> tuple[int, int, set[int]]:
        return os.getpid(), torch.get_num_threads(), {pool["num_threads"] for pool in threadpool_info()}

    done = run_jobs(dict.fromkeys(range(8), where), SILENT)
    assert {threads for _, threads, _ in done.values()} == {1}
    assert {number for _, _, pools in done.values() for number in pools} == {1}
    numbers = {number for number, _, _ in done.values()}
    assert (os.getpid() in numbers) == (workers == 1)
    assert len(numbers) <= workers


def test_any_number_of_processes_gives_the_same_bits(workers: int) -> None:
    table = np.random.default_rng(0).normal(size=(300, 40))
    jobs = {n: (lambda n=n: table[n:].T @ table[n:]) for n in range(4)}
    for number, found in run_jobs(jobs, SILENT).items():
        assert np.array_equal(found, table[number:].T @ table[number:])


@pytest.mark.usefixtures("two")
def test_an_error_is_raised_as_it_was_and_what_waits_never_begins(tmp_path: Path, left_running) -> None:
    def note(number: int) -> None:
        if number == 0:
            raise DataError("no images")
        (tmp_path / str(number)).touch()

    with pytest.raises(DataError, match="no images"):
        run_jobs({n: (lambda n=n: note(n)) for n in range(2000)}, SILENT)
    assert len([*tmp_path.iterdir()]) < 1999
    assert left_running() == []
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two")
def test_a_killed_process_is_one_line(left_running) -> None:
    with pytest.raises(ProcessLost, match=r"a process that ran attacks was killed.*OMP_NUM_THREADS=1"):
        run_jobs({n: (lambda: os.kill(os.getpid(), signal.SIGKILL)) for n in range(3)}, SILENT)
    assert left_running() == []


@pytest.mark.usefixtures("two")
def test_who_stops_the_command_waits_for_no_job(tmp_path: Path, left_running) -> None:
    """A job that had begun does not come to its end."""

    def interrupted(number: int) -> None:
        if number == 0:
            raise KeyboardInterrupt
        time.sleep(20)
        (tmp_path / str(number)).touch()

    with pytest.raises(KeyboardInterrupt):
        run_jobs({n: (lambda n=n: interrupted(n)) for n in range(4)}, SILENT)
    assert [*tmp_path.iterdir()] == []
    assert left_running() == []


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("forbidden", ["a worker", "a GPU"])
def test_threads_stand_in_where_forking_is_unsafe(forbidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if forbidden == "a GPU":
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    else:
        monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # pyright: ignore
    done = run_jobs(dict.fromkeys(range(4), lambda: (os.getpid(), threading.current_thread().name)), SILENT)
    assert {number for number, _ in done.values()} == {os.getpid()}
    assert threading.main_thread().name not in {name for _, name in done.values()}
