"""Long jobs shared out over worker processes, each with one device and one thread of its own.

::

    share_out(jobs, work, run)    work(place, job) for every job, on as many processes as the run has

A job gives nothing back: what it finds, it keeps on disk. So if a process is killed, only the jobs that were
running are lost, and the same call goes on from there. Libraries are held to one thread whatever the number
of processes, because the order of a sum may depend on the number of threads: one process finds the bits that
two find.

On CPUs under Linux the workers are forked, so they share the memory of data that is open already. Threads of
the parent do not live on in them; with one thread a library does not look for them. With GPUs, and on other
systems, the workers start anew and open for themselves what they need: a CUDA context does not survive a
fork.
"""

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from unlabel.core import engine, errors
from unlabel.core.engine import Run
from unlabel.core.errors import UnlabelError
from unlabel.core.parallel import follow_alone, one_thread
from unlabel.core.progress import Advance, advance_by

Item = TypeVar("Item")
Work: TypeAlias = Callable[[Run, Item], object]
"""What is done to each job, in the place of one process; its text (``str(job)``) names it to the user.

If it returns `KEPT`, an earlier process had done the job: that counts for the bar, and not for the speed.
"""

KEPT = "kept"
BUG = "bug"  # what a worker says of an error that is none of `errors`
NO_JOB = ()  # what a worker is given to end it; a job is given as a tuple of it alone

Shared = TypeVar("Shared")

Start: TypeAlias = Literal["fork", "spawn"]
Tell: TypeAlias = Callable[[str, str], object]

NOTE_SECONDS = 1.0  # between two notes of one job


def share_out(
    jobs: Sequence[Item],
    work: Work[Item],
    run: Run,
    *,
    stage: str,
    unit: str,
    size: Callable[[Item], int] = lambda job: 1,
    start: Start | None = None,
) -> None:
    """Does every job, on as many processes as the run has; returns when all are done.

    The jobs are begun in their order, each by the first process that is free: put long ones first.

    Args:
        jobs: What to do.
        work: Does one. If workers start anew, it must be possible to pickle it and the jobs.
        run: Where: its processes, device, precision, seed and sizes; its log shows the progress.
        stage, unit: What is done to what, in the progress display.
        size: How many of these units a job is.
        start: How workers start; None for what the device and the system allow.

    Raises:
        UnlabelError: As `work` raises it, or a worker was killed.
        RuntimeError: Another error in a worker, with its traceback.

    Example:
        >>> from unlabel.core import engine
        >>> share_out([1, 2], lambda place, job: print(job), engine.start(accelerator="cpu"),
        ...           stage="count", unit="numbers")
        1
        2
    """
    count, total = min(run.processes, len(jobs)), sum(map(size, jobs))
    with run.log.track(stage, total, unit) as advance:
        tell = _teller(run, advance)

        def finished(job: Item, found: object) -> None:
            advance_by(advance, size(job), str(job), kept=found == KEPT)

        if count > 1:
            how = start or ("fork" if run.device.type == "cpu" and sys.platform == "linux" else "spawn")
            with _workers(count, work, run, how) as workers:
                _hand_out(deque(jobs), workers, tell, finished)
            return
        with one_thread():
            alone = replace(engine.alone(run), log=Told(tell))
            for job in jobs:
                with engine.place_errors(alone):
                    outcome = work(alone, job)
                finished(job, outcome)


@dataclass(frozen=True)
class Held(Generic[Shared]):
    """What all jobs share. The parent has made it; a process that starts anew makes it again when asked.

    Args:
        make: Makes it, in the place of one process; must be possible to pickle.
        made: It, once it is made; not handed to a process that starts anew.
    """

    make: Callable[[Run], Shared]
    made: list[Shared] = field(default_factory=list)

    def __reduce__(self) -> Any:
        return type(self), (self.make,)

    def get(self, run: Run) -> Shared:
        """It, made where it is not there yet."""
        if not self.made:
            self.made.append(self.make(run))
        return self.made[0]


@dataclass(frozen=True)
class Told:
    """The log of one job: its stages become notes beside the display of all jobs."""

    tell: Tell

    @contextmanager
    def track(self, stage: str, total: int, unit: str = "", done: int = 0) -> Iterator[Advance]:
        """Opens a stage, of which a note is told now and then."""
        told = time.monotonic()

        def advance(amount: int = 1, note: str = "") -> None:
            nonlocal done, told
            done += amount
            if time.monotonic() - told >= NOTE_SECONDS:
                told = time.monotonic()
                self.tell("note", f"{stage} {done:,}/{total:,}")

        yield advance

    def say(self, line: str) -> None:
        """Hands a line on."""
        self.tell("say", line)


def _teller(run: Run, advance: Advance) -> Tell:
    """Shows what a job tells, in the process that has the display."""
    return lambda kind, text: run.log.say(text) if kind == "say" else advance(0, text)


# -- the parent


@dataclass
class _Worker:
    process: BaseProcess
    channel: "Connection[Any, Any]"
    job: Any = None

    def give(self, job: Any) -> None:
        self.job = job
        self._send((job,))

    def end(self) -> None:
        """Ends it, whatever it does: one that waits for a job may miss a signal that comes just before."""
        self.process.terminate()
        self._send(NO_JOB)

    def _send(self, job: tuple[Any, ...]) -> None:
        with suppress(BrokenPipeError):  # it has ended: what is read next says so
            self.channel.send(job)


@contextmanager
def _workers(count: int, work: Work[Any], run: Run, how: Start) -> Iterator[list[_Worker]]:
    """Starts processes that wait for jobs, and ends them."""
    context: Any = multiprocessing.get_context(how)
    workers: list[_Worker] = []
    try:
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, os.getpid(), _Place.of(run), number, work), daemon=True
            )
            process.start()
            theirs.close()  # only the worker holds it: if that ends, we read the end of the file
            workers.append(_Worker(process, ours))
        yield workers
    finally:
        for worker in workers:
            worker.end()
        for worker in workers:
            worker.process.join()
            worker.channel.close()


def _hand_out(
    waiting: "deque[Any]", workers: Sequence[_Worker], tell: Tell, finished: Callable[[Any, object], None]
) -> None:
    """Gives each worker one job after another, until all are done."""
    for worker in workers:
        worker.give(waiting.popleft())
    busy = {worker.channel: worker for worker in workers}
    while busy:
        for channel in wait(list(busy)):
            worker = busy[channel]  # type: ignore[index]
            kind, text = _received(worker)
            if kind in ("say", "note"):
                tell(kind, text)
                continue
            if kind != "done":
                raise _raised(kind, text)
            finished(worker.job, text)
            if waiting:
                worker.give(waiting.popleft())
            else:
                del busy[worker.channel]


def _received(worker: _Worker) -> tuple[str, str]:
    """What a worker says.

    Raises:
        UnlabelError: It has ended without an answer.
    """
    try:
        return worker.channel.recv()
    except (EOFError, OSError):
        worker.process.join()
        code = worker.process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise UnlabelError(
            f"a worker process {how} during: {worker.job}; finished jobs are kept, so the same command goes"
            " on from there; if memory ran out, use fewer processes with --devices"
        ) from None


def _raised(kind: str, text: str) -> Exception:
    return RuntimeError(text) if kind == BUG else errors.again(kind, text)


# -- the worker


@dataclass(frozen=True)
class _Place:
    """A run's place as plain data, which a process that starts anew can be given.

    Args:
        settings: All numbers of the run by name.
        accelerator, precision: What its engine was started with.
    """

    settings: Mapping[str, Any]
    accelerator: engine.Accelerator
    precision: engine.Precision

    @classmethod
    def of(cls, run: Run) -> "_Place":
        settings = {
            name: value for name, value in vars(run).items() if name not in ("fabric", "log", "track")
        }
        return cls(settings, "cuda" if run.device.type == "cuda" else "cpu", engine.precision_of(run))

    def start(self, number: int, tell: Tell) -> Run:
        """The run of one worker: one process, and of several GPUs the one of its number."""
        run = engine.start(accelerator=self.accelerator, precision=self.precision, device=number)
        return replace(run, **{**self.settings, "processes": 1, "workers": 0}, log=Told(tell))


def _serve(channel: "Connection[Any, Any]", parent: int, place: _Place, number: int, work: Work[Any]) -> None:
    """What a worker does: one job after another, until its parent ends it.

    It then leaves no half-written file: SIGTERM ends it as an exception does. Python drops an exception that
    a signal raises inside a finaliser or a callback, so the worker waits for no further job after SIGTERM. If
    the signal comes just before the wait begins, Python raises nothing until the wait ends: `NO_JOB` ends it.
    """
    ended = False

    def end(number: int, _: object) -> None:
        nonlocal ended
        ended = True
        sys.exit(128 + number)

    follow_alone(parent)
    signal.signal(signal.SIGTERM, end)
    try:
        run = place.start(number, lambda kind, text: channel.send((kind, text)))
        while not ended and (given := channel.recv()) != NO_JOB:
            with engine.place_errors(run):
                outcome = work(run, *given)
            channel.send(("done", KEPT if outcome == KEPT else ""))
    except EOFError:
        pass
    except (UnlabelError, OSError) as error:
        kind = type(error).__name__ if isinstance(error, UnlabelError) else "UnlabelError"
        channel.send((kind, str(error)))
    except Exception:
        channel.send((BUG, traceback.format_exc()))
