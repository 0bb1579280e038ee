"""Batches one after another, prepared by worker threads while the network computes.

Threads, not processes: reading, decoding and arithmetic on pixels leave Python's lock, so threads share the
cores, and no image is copied between processes; see docs/decisions/0024-input.md.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from unlabel.core.engine import Run
from unlabel.core.parallel import cores
from unlabel.data.batches import Batch, Unfinished, finish, read_batch
from unlabel.data.dataset import Dataset

Wanted: TypeAlias = tuple[NDArray[np.integer] | Sequence[int], NDArray[np.integer] | int | None]
"""Positions in a split, and the epoch of these visits; None for images as they are."""

T = TypeVar("T")

_AHEAD = 2  # batches a worker, so that none waits for the network
_MOST_WORKERS = 16  # more are for the user to name


def batches(
    data: Dataset, wanted: Iterable[Wanted], run: Run, *, seed: int | None = None
) -> Generator[Batch, None, None]:
    """The wanted batches in their order, equal to the bit for any number of workers.

    On a CPU a worker prepares the whole batch. For a GPU it reads and decodes into page-locked memory, and
    this thread starts the copy and the augmentation there, for which it does not wait.

    Args:
        data: The split.
        wanted: What each batch holds; read a few batches ahead of the network.
        run: Where, and with how many workers; see `workers_of`.
        seed: Key of the augmentation; the run's by default.

    Raises:
        DataError: An image that is decoded now cannot be read.
    """
    key, late = run.seed if seed is None else seed, run.device.type != "cpu"

    def prepare(item: Wanted) -> Batch | Unfinished:
        batch = read_batch(data, item[0], key, item[1], pinned=late)
        return batch if late else finish(batch, data, run.device)

    for batch in _ahead(prepare, wanted, workers_of(data, run)):
        yield batch if isinstance(batch, Batch) else finish(batch, data, run.device)


def in_order(
    data: Dataset, run: Run, size: int, positions: NDArray[np.integer] | Sequence[int] | None = None
) -> Iterator[Batch]:
    """Images as they are, in batches of a size: all of a split, or those at some positions."""
    where = np.asarray(range(len(data)) if positions is None else positions, np.int64)
    return batches(data, ((where[start : start + size], None) for start in range(0, len(where), size)), run)


def workers_of(data: Dataset, run: Run) -> int:
    """How many threads prepare batches beside the computing one: the run's number, or what usually pays.

    Images that are decoded as they are asked for get a thread for each core of this process. Pixels that lie
    in a file or in memory get two on a GPU, and none on a CPU, whose cores the network uses.
    """
    if run.workers is not None:
        return run.workers
    if not isinstance(data.pixels, np.ndarray):
        return min(max(1, cores() // run.processes), _MOST_WORKERS)
    return 0 if run.device.type == "cpu" else 2


def _ahead(prepare: Callable[[Any], T], items: Iterable[Any], workers: int) -> Iterator[T]:
    """What is prepared of each item, in order; by threads that are a few items ahead."""
    if workers == 0:
        yield from map(prepare, items)
        return
    with ThreadPoolExecutor(workers, "unlabel-input", _alone) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(prepare, item))
                if len(waiting) > _AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _alone() -> None:
    """Holds this worker's torch to one thread, and leaves the network's number as it is."""
    torch.get_num_threads()  # sets this thread's number, once; what follows then stays
    threadpool_limits(1, user_api="openmp")
