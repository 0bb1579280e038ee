"""Work done side by side by several processes: on many small files, and on arrays."""

import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from threading import Thread
from typing import Any, TypeAlias, TypeVar

import torch
from threadpoolctl import threadpool_limits

from unlabel.core.errors import ProcessLost
from unlabel.core.progress import Log

Key = TypeVar("Key", bound=Hashable)
Job: TypeAlias = Callable[[], Any]

Each: TypeAlias = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""A `map`: results in the order of the inputs."""

_FEW = 512
"""Below this many items, starting processes costs more than it saves."""

_AHEAD = 4
"""Items that are given to a worker before its first result is asked for."""


def cores() -> int:
    """Cores that this process may use, at least one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def side_by_side(items: int, workers: int | None = None) -> Iterator[Each]:
    """A `map` over processes, or the plain one where there is little to do.

    Threads would take turns: for a photo of 64 pixels most of the time is Python's. They stand in only where
    forking is unsafe or forbidden. What is mapped must be a module-level function or a `partial` of one.

    Args:
        items: How many items there are in all.
        workers: Processes, >= 0; None for one a core, 0 or 1 for none beside this one.

    Example:
        >>> with side_by_side(items=3) as each:
        ...     list(each(abs, [-1, 2, -3]))
        [1, 2, 3]
    """
    workers = cores() if workers is None else workers
    if workers <= 1 or items < _FEW:
        yield map
        return
    if _may_fork():
        fork = multiprocessing.get_context("fork")
        pool = ProcessPoolExecutor(workers, fork, follow_parent, (os.getpid(),))
    else:
        pool = ThreadPoolExecutor(workers)
    try:
        yield partial(_in_order, pool, _AHEAD * workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _may_fork() -> bool:
    """Whether this process may start others that go on from its memory."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


def _in_order(
    pool: Executor, most: int, function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
    """A `map` that takes few items ahead of what was asked for, so that neither items nor results pile up."""
    waiting: deque[Future[Any]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def follow_parent(parent: int) -> None:
    """What a worker process begins with: it leaves Ctrl-C to its parent, and ends soon after its parent.

    Args:
        parent: The parent's number.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


@contextmanager
def one_thread() -> Iterator[None]:
    """While open, libraries compute with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def run_jobs(
    jobs: Mapping[Key, Job], log: Log, stage: str = "audit", unit: str = "attacks"
) -> dict[Key, Any]:
    """Runs independent jobs of arrays, one core each; their results in the order of the jobs.

    Forked processes run them: threads would hold each other up where Python works. Threads stand in where
    forking is unsafe or forbidden. Every library inside is held to one thread: the jobs are many and small,
    threads inside them would wait for each other far longer than they work, and the order of a sum would
    depend on their number.

    Args:
        jobs: What to run, by whatever names it. In a process, a job changes nothing that others see.
        log: Receives progress.
        stage, unit: What is done to what, in the progress display.

    Raises:
        ProcessLost: A process was killed.
    """
    threads = torch.get_num_threads()
    results: dict[Key, Any] = {}
    with one_thread(), log.track(stage, len(jobs), unit) as advance:
        try:
            with _begun([*jobs.values()], threads) as begun:
                waiting = dict(zip(begun, jobs, strict=True))
                for future in as_completed(waiting):
                    results[waiting[future]] = future.result()
                    advance(1)
        except BrokenProcessPool:
            raise ProcessLost(
                f"a process that ran {unit} was killed; if memory ran out, start the same command again with"
                " OMP_NUM_THREADS=1 in the environment: then they run one at a time"
            ) from None
    return {key: results[key] for key in jobs}


_jobs: list[Job] = []
"""What `_run` finds by number: a forked process inherits closures, which cannot be sent to it."""


@contextmanager
def _begun(jobs: Sequence[Job], workers: int) -> Iterator[list["Future[Any]"]]:
    """Jobs that run side by side; if the block fails, their processes end, and what waits never begins."""
    pool: Executor
    others = multiprocessing.active_children()
    if workers > 1 and len(jobs) > 1 and _may_fork() and not torch.cuda.is_initialized():
        _jobs[:] = jobs
        fork = multiprocessing.get_context("fork")
        pool = ProcessPoolExecutor(min(workers, len(jobs)), fork, follow_alone, (os.getpid(),))
        begun = [pool.submit(_run, number) for number in range(len(jobs))]
    else:
        pool = ThreadPoolExecutor(workers, initializer=_alone)
        begun = [pool.submit(job) for job in jobs]
    try:
        yield begun
    except BaseException:
        for child in multiprocessing.active_children():
            if child not in others:
                child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        _jobs.clear()


def _run(number: int) -> Any:
    return _jobs[number]()


def _alone() -> None:
    torch.set_num_threads(1)
    threadpool_limits(1)


def follow_alone(parent: int) -> None:
    """What a worker process that computes begins with: as `follow_parent`, and with one thread."""
    follow_parent(parent)
    _alone()
