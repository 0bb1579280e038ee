"""The only file that knows the training engine, Lightning Fabric: devices, processes, precision, memory.

The rest of the program sees a `Run` and four verbs: `launch` a function, `shard` positions, `reduce_sums`,
`gather_rows`. Models stay bare: a data-parallel wrapper averages gradients during backward, and neither
squares nor masked sums commute with averages. Sums are carried, reduced once and divided once.
"""

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from unlabel.core import errors
from unlabel.core.caching import Cache, checked_cache
from unlabel.core.cluster import LAUNCHER, Joined, OneMachine, environment, ignored
from unlabel.core.errors import OptionError, OutOfMemory, ProcessLost, UnlabelError
from unlabel.core.files import write_text
from unlabel.core.kinds import is_whole
from unlabel.core.notebook import default_log
from unlabel.core.progress import SILENT, Log, Track
from unlabel.core.randomness import uniform

Precision = Literal["32", "bf16"]
Accelerator = Literal["auto", "cpu", "cuda"]
MOST_DEVICES = 64
MOST_NODES = 1024
MOST_BATCH = 65_536
MOST_WORKERS = 256
MICRO_BATCH = 32  # on a CPU; on a GPU, `training.micro_batch` chooses
BUCKET = 2**25  # bytes that are summed over the processes at a time


@dataclass(frozen=True)
class Run:
    """Where and how to compute, never what.

    Args:
        fabric: The engine's handle: device, processes, precision.
        seed: Key of all randomness, >= 0.
        batch_size: Images in one optimiser step over all processes, >= 1.
        micro_batch: Images in one forward pass, >= 1. BatchNorm sees this many at a time, whatever the
            number of processes, so that one process computes what two do.
        processes: How many processes work together, on all machines, >= 1.
        log: Receives progress.
        track: Receives the row of each optimiser step, on rank 0; None for nobody.
        cache: Where decoded images are kept.
        workers: Threads that prepare batches, and processes that decode at the first reading, for each
            process of the run; None for what usually pays, see `data.feed.workers_of`.
        nodes: Machines, >= 1.
        micro_batch_given: Whether the user chose `micro_batch`.
        compiled: Whether networks are compiled where they are trained.
        leads: Whether this process is rank 0, or becomes it in `launch`: the one that speaks.
    """

    fabric: Fabric
    seed: int = 0
    batch_size: int = 64
    micro_batch: int = MICRO_BATCH
    processes: int = 1
    log: Log = SILENT
    track: Track | None = None
    cache: Cache = "disk"
    workers: int | None = None
    nodes: int = 1
    micro_batch_given: bool = False
    compiled: bool = False
    leads: bool = True

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
        """``range(n)`` in even parts of at most `micro_batch`; no part of one image, which has no variance.

        Where all cannot have two, one has three: an odd number in micro-batches of two.
        """
        parts = ceil(n / self.micro_batch)
        return np.array_split(np.arange(n), parts if self.micro_batch == 1 else min(parts, max(n // 2, 1)))

    def with_seed(self, seed: int) -> "Run":
        """The same place with another seed."""
        return replace(self, seed=seed)


def start(
    *,
    devices: int = 1,
    nodes: int = 1,
    accelerator: Accelerator = "auto",
    precision: Precision = "32",
    seed: int = 0,
    batch_size: int = 64,
    cache: Cache = "disk",
    workers: int | None = None,
    micro_batch: int | None = None,
    log: Log | None = None,
    device: int | None = None,
) -> Run:
    """Prepares a run; nothing is launched yet.

    Args:
        devices: Processes on each machine, one a device, 1 to 64. On CPUs they are forked and share the
            cores.
        nodes: Machines, 1 to 1,024. Above 1, torchrun, Slurm's srun or the user starts the program on each.
        accelerator: ``auto`` takes a GPU where there is one.
        precision: ``32``, or ``bf16`` autocast.
        seed: Key of all randomness, >= 0.
        batch_size: Images in one optimiser step over all processes, 2 to 65,536.
        cache: Where decoded images are kept: ``disk``, ``memory`` or ``none``; see `core.caching`.
        workers: Threads that prepare batches, 0 to 256; None for what usually pays.
        micro_batch: Images in one forward pass, 2 to 65,536. By default 32; on a GPU, `train_run` and
            `forget_run` then choose it by the memory.
        log: Receives progress; by default a notebook shows it, and nothing else does.
        device: Which GPU a single process takes; None for the first.

    Raises:
        OptionError: A value is out of range or the accelerator is not there.
    """
    for name, value, least, most in (
        ("devices", devices, 1, MOST_DEVICES),
        ("nodes", nodes, 1, MOST_NODES),
        ("batch-size", batch_size, 2, MOST_BATCH),
        ("micro-batch", MICRO_BATCH if micro_batch is None else micro_batch, 2, MOST_BATCH),
    ):
        if not (is_whole(value) and least <= value <= most):
            raise OptionError(f"--{name} is {value!r}; expected a whole number from {least} to {most:,}")
    if not (is_whole(seed) and 0 <= seed < 2**31):
        raise OptionError(f"--seed is {seed!r}; expected a whole number from 0 to 2147483647")
    if workers is not None and not (is_whole(workers) and 0 <= workers <= MOST_WORKERS):
        raise OptionError(f"--workers is {workers!r}; expected a whole number from 0 to {MOST_WORKERS}")
    for name, value, choices in (
        ("accelerator", accelerator, get_args(Accelerator)),
        ("precision", precision, get_args(Precision)),
    ):
        if value not in choices:
            raise OptionError(f"--{name} is {value!r}; expected {', '.join(choices)}")
    checked_cache(cache)
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise OptionError("--accelerator is cuda, but no CUDA device is visible; use cpu or auto")
    cuda = accelerator == "cuda" or (accelerator == "auto" and torch.cuda.is_available())
    if cuda and devices > torch.cuda.device_count():
        raise OptionError(f"--devices is {devices}, but {torch.cuda.device_count()} GPUs are visible")
    together = environment(devices, nodes, os.environ)
    log = (log or default_log()) if together.leads else SILENT
    if told := ignored(devices, nodes, os.environ):
        log.say(told)
    return Run(
        fabric=_fabric(devices, nodes, precision, together, cuda=cuda, device=device),
        seed=seed,
        batch_size=batch_size,
        micro_batch=MICRO_BATCH if micro_batch is None else micro_batch,
        processes=devices * nodes,
        cache=cache,
        workers=workers,
        nodes=nodes,
        log=log,
        micro_batch_given=micro_batch is not None,
        leads=together.leads,
    )


def _fabric(
    devices: int,
    nodes: int,
    precision: Precision,
    together: OneMachine | Joined,
    *,
    cuda: bool,
    device: int | None,
) -> Fabric:
    if cuda:
        # cuBLAS needs a fixed workspace for the same seed to give the same bits.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    for name in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # "Terminating process ..."
    ours = "ddp" if cuda or isinstance(together, Joined) else "ddp_fork"
    return Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=[device] if cuda and device is not None else devices,
        num_nodes=nodes,
        strategy="auto" if devices * nodes == 1 else ours,
        precision="bf16-mixed" if precision == "bf16" else "32-true",
        plugins=together,
    )


def devices_here(accelerator: Accelerator = "auto") -> int:
    """How many processes can compute side by side: one a GPU, or one a core that we may use."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return min(torch.cuda.device_count(), MOST_DEVICES)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_DEVICES)


def precision_of(run: Run) -> Precision:
    """How a run computes."""
    return "bf16" if str(run.fabric.strategy.precision.precision).startswith("bf16") else "32"


def alone(run: Run) -> Run:
    """The same place with one process."""
    return fewer(run, 1)


def fewer(run: Run, processes: int) -> Run:
    """The same place with at most so many processes."""
    if run.processes <= processes:
        return run
    accelerator: Accelerator = "cuda" if run.device.type == "cuda" else "cpu"
    started = start(devices=processes, accelerator=accelerator, precision=precision_of(run))
    return replace(run, fabric=started.fabric, processes=processes)


def check_launched(run: Run) -> None:
    """Refuses to compute where the other processes of a run have not been started.

    Raises:
        OptionError: They have not; commands start them, and functions of Python do not.
    """
    if run.processes > 1 and not dist.is_initialized():
        raise OptionError(
            f"the run has {run.processes} processes, and this function works in one; use"
            " unlabel.start(devices=1), or the command line, which starts several"
        )


def launch(run: Run, job: Callable[..., Any], *arguments: Any) -> Any:
    """Runs ``job(run, *arguments)`` on every process and returns what rank 0 returned.

    The job must return a path and small plain data: large or tensor results can hang between processes. When
    one process fails, the others are ended; a user's mistake in any of them is raised here as it was there.
    When this process is stopped, as by Ctrl-C, those that it has started are ended too.
    A process that torchrun or Slurm has started, or that leads another machine, returns what it returned
    itself.

    Raises:
        ProcessLost: A process was killed.
        OutOfMemory: A micro-batch does not fit the memory.
    """
    if run.processes == 1:
        _deterministic(run.device)
        with place_errors(run):
            return job(run, *arguments)
    joined = isinstance(run.fabric.strategy.cluster_environment, Joined)  # type: ignore[attr-defined]
    if not joined:
        os.environ.pop("TORCHELASTIC_USE_AGENT_STORE", None)  # torchrun's, whose store is not ours to join
    threads = max(1, torch.get_num_threads() // (run.processes // run.nodes))
    entry: Callable[..., Any] = _entry
    others = multiprocessing.active_children()
    with TemporaryDirectory(prefix="unlabel-") as errors_folder:
        try:
            if not joined and run.device.type == "cuda" and os.environ.get(LAUNCHER) != str(os.getppid()):
                os.environ[LAUNCHER] = str(os.getpid())
            return run.fabric.launch(entry, run, threads, errors_folder, job, *arguments)
        except ProcessRaisedException:
            raise_told(Path(errors_folder))
            raise
        except ProcessExitedException as error:
            raise_told(Path(errors_folder))
            raise ProcessLost(f"{error}; {AGAIN}") from None
        except BaseException as error:
            if not isinstance(error, Exception):
                _end_started(run, others)
            raise


def _end_started(run: Run, others: Sequence[Any]) -> None:
    """Ends the processes that a launch has started, which would work to their end, and waits for that.

    Args:
        run: Where.
        others: Children that were there before.
    """
    forked = [child for child in multiprocessing.active_children() if child not in others]
    begun = getattr(run.fabric.strategy.launcher, "procs", [])  # on GPUs
    for child in (*forked, *begun):
        child.terminate()
    for child in forked:
        child.join()
    for child in begun:
        child.wait()
    begun.clear()  # Fabric watches them, and would take their end for a failure


AGAIN = "start the same command again: a training goes on from where it was saved"


def raise_told(folder: Path) -> None:
    """Raises what a process wrote before it ended; that others were lost only if nothing else is told.

    A process that is ended while it writes leaves a hidden file, which tells nothing.
    """
    told = []
    for file in sorted(file for file in folder.iterdir() if file.name.isdigit()):
        kind, _, message = file.read_text("utf-8").partition("\n")
        told.append(errors.again(kind, message))
    for error in sorted(told, key=lambda each: isinstance(each, ProcessLost)):
        raise error from None


def _entry(
    fabric: Fabric, run: Run, threads: int, errors_folder: str, job: Callable[..., Any], *arguments: Any
) -> Any:
    if fabric.device.type == "cpu":
        torch.set_num_threads(threads)
    _deterministic(fabric.device)
    log = run.log if fabric.global_rank == 0 else SILENT
    try:
        with place_errors(run):
            fabric.barrier()  # one that ends at once would break the connections that others still make
            return job(replace(run, fabric=fabric, log=log), *arguments)
    except (UnlabelError, OSError) as error:  # only a traceback would reach the parent process
        kind = type(error).__name__ if isinstance(error, UnlabelError) else "UnlabelError"
        write_text(Path(errors_folder, str(fabric.global_rank)), f"{kind}\n{error}")
        raise


@contextmanager
def place_errors(run: Run) -> Iterator[None]:
    """Raises a `PlaceError`, one line, where memory is too small or a process of the run is gone."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
            raise OutOfMemory(
                f"the memory of {run.device} does not hold {run.micro_batch} images at a time; set"
                f" --micro-batch to less, such as {max(2, run.micro_batch // 2)}, use --precision bf16, or"
                " smaller images"
            ) from error
        if run.processes > 1 and (isinstance(error, dist.DistError) or "gloo" in text):
            raise ProcessLost(f"another process of this command has ended; {AGAIN}") from error
        raise


def _deterministic(device: torch.device) -> None:
    """Same seed, same machine, same bits; on GPUs this costs some speed and is worth it here."""
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False


def memory(run: Run) -> int | None:
    """Bytes of the run's GPU, whoever uses them now; None on a CPU."""
    if run.device.type != "cuda":
        return None
    return torch.cuda.get_device_properties(run.device).total_memory


def place(model: nn.Module, run: Run) -> nn.Module:
    """Moves a model to the run's device, in the memory layout that is fastest there for images.

    Of what ``torch.compile`` returned, that is the network inside: a compiled function shows no layers.
    """
    model = getattr(model, "_orig_mod", model)
    return model.to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


@contextmanager
def own_draws(run: Run) -> Iterator[None]:
    """While open, a network may draw numbers of torch's, as dropout does; the caller's state stays."""
    devices = [run.device] if run.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


@contextmanager
def whole_precision() -> Iterator[None]:
    """While open, no GPU rounds float32 to TF32 in a convolution: small differences of outputs count."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def key_draws(run: Run, stream: str, *keys: int) -> None:
    """Keys what a network draws from now on: equal for any number of processes, and after a resume.

    Args:
        run: Its seed is a part of the key.
        stream: What the numbers are for.
        keys: Such as the step and the micro-batch.
    """
    seed = int(float(uniform(run.seed, f"network/{stream}", *keys)) * 2.0**53)
    if run.device.type == "cuda":
        torch.manual_seed(seed)
    else:  # without asking after other devices, for which torch notes the whole stack each time
        torch.default_generator.manual_seed(seed)


def reduce_sums(run: Run, tensors: Sequence[Tensor]) -> None:
    """Replaces each tensor by its sum over all processes, a few together."""
    if run.world == 1:
        return
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):  # in one order on every process
        for bucket in _buckets([tensor.detach() for tensor in tensors if tensor.dtype == dtype]):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            dist.all_reduce(flat)
            for tensor, total in zip(bucket, flat.split([each.numel() for each in bucket]), strict=True):
                tensor.copy_(total.view_as(tensor))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in order, in groups of about `BUCKET` bytes: a copy of all would be another network."""
    group: list[Tensor] = []
    size = 0
    for tensor in tensors:
        group.append(tensor)
        size += tensor.numel() * tensor.element_size()
        if size >= BUCKET:
            yield group
            group, size = [], 0
    if group:
        yield group


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
    positions = run.micro_batches(n)[run.rank :: run.world]
    whole = torch.zeros((n, *rows.shape[1:]), dtype=rows.dtype, device=run.device)
    if positions:
        whole[torch.from_numpy(np.concatenate(positions)).to(run.device)] = rows
    dist.all_reduce(whole)
    return whole
