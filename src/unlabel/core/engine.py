"""The only file that knows the training engine, Lightning Fabric: devices, processes, precision.

The rest of the program sees a `Run` and four verbs: `launch` a function, `shard` positions, `reduce_sums`,
`gather_rows`. Models stay bare: a data-parallel wrapper averages gradients during backward, and neither
squares nor masked sums commute with averages. Sums are carried, reduced once and divided once.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessRaisedException

from unlabel.core import errors
from unlabel.core.caching import Cache, checked_cache
from unlabel.core.errors import OptionError, UnlabelError
from unlabel.core.notebook import default_log
from unlabel.core.progress import SILENT, Log, Track
from unlabel.core.randomness import uniform

Precision = Literal["32", "bf16"]
Accelerator = Literal["auto", "cpu", "cuda"]
MOST_DEVICES = 64
MOST_BATCH = 65_536
MOST_WORKERS = 256

_LAUNCHER = "_UNLABEL_LAUNCHER"  # process id of a command that starts itself anew on every GPU


@dataclass(frozen=True)
class Run:
    """Where and how to compute, never what.

    Args:
        fabric: The engine's handle: device, processes, precision.
        seed: Key of all randomness, >= 0.
        batch_size: Images in one optimiser step over all processes, >= 1.
        micro_batch: Images in one forward pass, >= 1. BatchNorm sees this many at a time, whatever the
            number of processes, so that one process computes what two do.
        processes: How many processes `launch` starts, >= 1.
        log: Receives progress.
        track: Receives the row of each optimiser step, on rank 0; None for nobody.
        cache: Where decoded images are kept.
        workers: Threads that prepare batches, and processes that decode at the first reading, for each
            process of the run; None for what usually pays, see `data.feed.workers_of`.
    """

    fabric: Fabric
    seed: int = 0
    batch_size: int = 64
    micro_batch: int = 32
    processes: int = 1
    log: Log = SILENT
    track: Track | None = None
    cache: Cache = "disk"
    workers: int | None = None

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self.fabric.device

    @property
    def rank(self) -> int:
        """Number of this process, 0 for the one that writes files."""
        return self.fabric.global_rank

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.fabric.world_size

    def shard(self, n: int) -> range:
        """This process's positions among ``range(n)``: strided, never padded, perhaps empty."""
        return range(self.rank, n, self.world)

    def micro_batches(self, n: int) -> list[np.ndarray]:
        """``range(n)`` in even parts of at most `micro_batch`: a last part of one image has no variance."""
        return np.array_split(np.arange(n), ceil(n / self.micro_batch))

    def with_seed(self, seed: int) -> "Run":
        """The same place with another seed."""
        return replace(self, seed=seed)


class OneMachine(LightningEnvironment):
    """Processes of one command on one machine, whatever a batch system says in the environment.

    Fabric would take Slurm's, torchrun's or Kubeflow's variables for an order to join processes that nobody
    has started, or a port that is taken. They are read only where our own launcher has set them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._made_by = os.getpid()

    @property
    def _launched(self) -> bool:
        """Whether `launch` made this process: forked, or on GPUs started anew with the command line."""
        return os.getpid() != self._made_by or os.environ.get(_LAUNCHER) == str(os.getppid())

    @property
    def creates_processes_externally(self) -> bool:
        """Whether others have started the processes: only where we are one of them."""
        return self._launched

    @property
    def main_address(self) -> str:
        """This machine."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """A free port, chosen once by the launching process."""
        if self._main_port == -1:
            self._main_port = int(os.environ["MASTER_PORT"]) if self._launched else _free_port()
        return self._main_port

    def local_rank(self) -> int:
        """Number of this process."""
        return int(os.environ["LOCAL_RANK"]) if self._launched else 0

    def node_rank(self) -> int:
        """Number of this machine."""
        return 0


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(
    *,
    devices: int = 1,
    accelerator: Accelerator = "auto",
    precision: Precision = "32",
    seed: int = 0,
    batch_size: int = 64,
    cache: Cache = "disk",
    workers: int | None = None,
    log: Log | None = None,
) -> Run:
    """Prepares a run on this machine; nothing is launched yet.

    Args:
        devices: Processes, one a device, 1 to 64. On CPUs they are forked and share the cores.
        accelerator: ``auto`` takes a GPU where there is one.
        precision: ``32``, or ``bf16`` autocast.
        seed: Key of all randomness, >= 0.
        batch_size: Images in one optimiser step over all processes, 2 to 65,536.
        cache: Where decoded images are kept: ``disk``, ``memory`` or ``none``; see `core.caching`.
        workers: Threads that prepare batches, 0 to 256; None for what usually pays.
        log: Receives progress; by default a notebook shows it, and nothing else does.

    Raises:
        OptionError: A value is out of range or the accelerator is not there.
    """
    if not 1 <= devices <= MOST_DEVICES:
        raise OptionError(f"--devices is {devices}; expected 1 or more, {MOST_DEVICES} at most")
    if not 0 <= seed < 2**31:
        raise OptionError(f"--seed is {seed}; expected 0 to 2147483647")
    if not 2 <= batch_size <= MOST_BATCH:
        raise OptionError(f"--batch-size is {batch_size}; expected 2 or more, {MOST_BATCH:,} at most")
    if workers is not None and not 0 <= workers <= MOST_WORKERS:
        raise OptionError(f"--workers is {workers}; expected 0 or more, {MOST_WORKERS} at most")
    checked_cache(cache)
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise OptionError("--accelerator is cuda, but no CUDA device is visible; use cpu or auto")
    cuda = accelerator == "cuda" or (accelerator == "auto" and torch.cuda.is_available())
    if cuda and devices > torch.cuda.device_count():
        raise OptionError(f"--devices is {devices}, but {torch.cuda.device_count()} GPUs are visible")
    if cuda:
        # cuBLAS needs a fixed workspace for the same seed to give the same bits.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    for name in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # "Terminating process ..."
    parallel = "auto" if devices == 1 else ("ddp" if cuda else "ddp_fork")
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=devices,
        strategy=parallel,
        precision="bf16-mixed" if precision == "bf16" else "32-true",
        plugins=OneMachine(),
    )
    return Run(
        fabric=fabric,
        seed=seed,
        batch_size=batch_size,
        processes=devices,
        log=log or default_log(),
        cache=cache,
        workers=workers,
    )


def launch(run: Run, job: Callable[..., Any], *arguments: Any) -> Any:
    """Runs ``job(run, *arguments)`` on every process and returns what rank 0 returned.

    The job must return a path and small plain data: large or tensor results can hang between processes. When
    one process fails, the others are ended; a user's mistake in any of them is raised here as it was there.
    """
    if run.processes == 1:
        _deterministic(run.device)
        return job(run, *arguments)
    os.environ.pop("TORCHELASTIC_USE_AGENT_STORE", None)  # torchrun's, whose store is not ours to join
    threads = max(1, torch.get_num_threads() // run.processes)
    entry: Callable[..., Any] = _entry
    with TemporaryDirectory(prefix="unlabel-") as errors_folder:
        try:
            if run.device.type == "cuda" and os.environ.get(_LAUNCHER) != str(os.getppid()):
                os.environ[_LAUNCHER] = str(os.getpid())
            return run.fabric.launch(entry, run, threads, errors_folder, job, *arguments)
        except ProcessRaisedException:
            for file in sorted(Path(errors_folder).iterdir()):
                kind, _, message = file.read_text("utf-8").partition("\n")
                raise getattr(errors, kind, UnlabelError)(message) from None
            raise


def _entry(
    fabric: Fabric, run: Run, threads: int, errors_folder: str, job: Callable[..., Any], *arguments: Any
) -> Any:
    if fabric.device.type == "cpu":
        torch.set_num_threads(threads)
    _deterministic(fabric.device)
    fabric.barrier()  # a process that ends at once would break the connections that others still make
    log = run.log if fabric.global_rank == 0 else SILENT
    try:
        return job(replace(run, fabric=fabric, log=log), *arguments)
    except (UnlabelError, OSError) as error:  # only a traceback would reach the parent process
        kind = type(error).__name__ if isinstance(error, UnlabelError) else "UnlabelError"
        Path(errors_folder, str(fabric.global_rank)).write_text(f"{kind}\n{error}", "utf-8")
        raise


def _deterministic(device: torch.device) -> None:
    """Same seed, same machine, same bits; on GPUs this costs some speed and is worth it here."""
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False


def place(model: nn.Module, run: Run) -> nn.Module:
    """Moves a model to the run's device, in the memory layout that is fastest there for images."""
    return model.to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


@contextmanager
def own_draws(run: Run) -> Iterator[None]:
    """While open, a network may draw numbers of torch's, as dropout does; the caller's state stays."""
    devices = [run.device] if run.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def key_draws(run: Run, stream: str, *keys: int) -> None:
    """Keys what a network draws from now on: equal for any number of processes, and after a resume.

    Args:
        run: Its seed is a part of the key.
        stream: What the numbers are for.
        keys: Such as the step and the micro-batch.
    """
    torch.manual_seed(int(float(uniform(run.seed, f"network/{stream}", *keys)) * 2.0**53))


def reduce_sums(run: Run, tensors: Sequence[Tensor]) -> None:
    """Replaces each tensor by its sum over all processes, in one collective a dtype."""
    if run.world == 1:
        return
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):  # in one order on every process
        group = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in group])
        dist.all_reduce(flat)
        for tensor, total in zip(group, flat.split([tensor.numel() for tensor in group]), strict=True):
            tensor.detach().copy_(total.view_as(tensor))


def gather_rows(run: Run, rows: np.ndarray, n: int) -> np.ndarray:
    """Puts the rows of ``run.shard(n)`` from every process back in order, on every process.

    Args:
        rows: This process's rows, (len(run.shard(n)), ...); may be empty in its first axis.
        n: Rows in all.

    Returns:
        (n, ...) of the same dtype, equal on every process.
    """
    if run.world == 1:
        return rows
    whole = torch.zeros((n, *rows.shape[1:]), dtype=torch.from_numpy(rows[:0]).dtype, device=run.device)
    whole[run.rank :: run.world] = torch.from_numpy(rows).to(run.device)
    dist.all_reduce(whole)
    return whole.cpu().numpy()


def gather_micro_batches(run: Run, rows: Tensor, n: int) -> Tensor:
    """Puts the rows of every process's micro-batches back in the batch's order, on every process.

    Args:
        rows: Of this process's micro-batches, ``run.micro_batches(n)[run.rank :: run.world]``, together.
        n: Images in the batch.

    Returns:
        (n, ...) of the same dtype, equal on every process.
    """
    if run.world == 1:
        return rows
    own = run.micro_batches(n)[run.rank :: run.world]
    whole = torch.zeros((n, *rows.shape[1:]), dtype=rows.dtype, device=run.device)
    if own:
        whole[torch.from_numpy(np.concatenate(own)).to(run.device)] = rows
    dist.all_reduce(whole)
    return whole
