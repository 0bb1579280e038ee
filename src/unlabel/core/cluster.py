"""Which processes work together: those that a command starts itself, or that a batch system has started.

::

    OneMachine    processes of one command on this machine, or on each of several that the user starts it on
    Joined        processes that torchrun or Slurm's srun has started, of which this is one
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from unlabel.core.errors import OptionError

LAUNCHER = "_UNLABEL_LAUNCHER"  # process id of a command that starts itself anew on every GPU
BY_HAND = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")


class OneMachine(LightningEnvironment):
    """Processes of one command on this machine, whatever a batch system says in the environment.

    Fabric would take Slurm's, torchrun's or Kubeflow's variables for an order to join processes that nobody
    has started, or a port that is taken. They are read only where our own launcher has set them.

    Args:
        node: Number of this machine.
        address: Where the processes meet: the first machine.
        port: The port there; a free one by default, chosen once by the launching process.
    """

    def __init__(self, node: int = 0, address: str = "127.0.0.1", port: int | None = None) -> None:
        super().__init__()
        self._made_by = os.getpid()
        self._node, self._address, self._port = node, address, port

    @property
    def _launched(self) -> bool:
        """Whether `launch` made this process: forked, or on GPUs started anew with the command line."""
        return os.getpid() != self._made_by or os.environ.get(LAUNCHER) == str(os.getppid())

    @property
    def leads(self) -> bool:
        """Whether this process is rank 0, or becomes it."""
        return self._node == 0 and self.local_rank() == 0

    @property
    def creates_processes_externally(self) -> bool:
        """Whether others have started the processes: only where we are one of them."""
        return self._launched

    @property
    def main_address(self) -> str:
        """Where the processes meet."""
        return self._address

    @property
    def main_port(self) -> int:
        """The port where they meet."""
        if self._port is None:
            self._port = int(os.environ["MASTER_PORT"]) if self._launched else _free_port()
        return self._port

    def local_rank(self) -> int:
        """Number of this process."""
        return int(os.environ["LOCAL_RANK"]) if self._launched else 0

    def node_rank(self) -> int:
        """Number of this machine."""
        return self._node


@dataclass(frozen=True)
class Place:
    """One of the processes that a batch system has started.

    Args:
        world: How many there are.
        rank, local_rank, node: Number of this one among all, on its machine, and of its machine.
        address, port: Where they meet.
    """

    world: int
    rank: int
    local_rank: int
    node: int
    address: str
    port: int


class Joined(ClusterEnvironment):
    """Processes that were started elsewhere, each with its place."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    @property
    def leads(self) -> bool:
        """Whether this process is rank 0."""
        return self._place.rank == 0

    @property
    def creates_processes_externally(self) -> bool:
        """Always."""
        return True

    @property
    def main_address(self) -> str:
        """Where the processes meet."""
        return self._place.address

    @property
    def main_port(self) -> int:
        """The port where they meet."""
        return self._place.port

    @staticmethod
    def detect() -> bool:
        """Never: `environment` decides."""
        return False

    def world_size(self) -> int:
        """Number of processes."""
        return self._place.world

    def set_world_size(self, size: int) -> None:
        """Given from outside."""

    def global_rank(self) -> int:
        """Number of this process."""
        return self._place.rank

    def set_global_rank(self, rank: int) -> None:
        """Given from outside."""

    def local_rank(self) -> int:
        """Number of this process on its machine."""
        return self._place.local_rank

    def node_rank(self) -> int:
        """Number of this machine."""
        return self._place.node


def environment(devices: int, nodes: int, variables: Mapping[str, str]) -> OneMachine | Joined:
    """How the processes of a run find each other.

    The variables of a batch system count only if the user asked for what they say: by as many processes under
    torchrun, or by more than one machine. Elsewhere they may be another program's.

    Args:
        devices: Processes on each machine.
        nodes: Machines.
        variables: Of the environment.

    Raises:
        OptionError: Several machines are asked for, and the variables say nothing or something else.

    Example:
        >>> variables = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "NODE_RANK": "1"}
        >>> environment(2, 2, variables).node_rank(), environment(2, 1, variables).node_rank()
        (1, 0)
    """
    torchrun = "TORCHELASTIC_RUN_ID" in variables
    started = tuple(variables.get(name) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if torchrun and devices * nodes > 1 and started == (str(devices * nodes), str(devices)):
        return Joined(_torchrun(variables))
    if nodes == 1:
        return OneMachine()
    if torchrun:
        raise OptionError(
            f"torchrun started {started[0]} processes, {started[1]} on this machine; expected"
            f" {devices * nodes} and {devices}: --nodes times --devices, and --devices"
        )
    if "SLURM_JOB_ID" in variables and "NODE_RANK" not in variables:
        return Joined(_slurm(devices * nodes, variables))
    if missing := [name for name in BY_HAND if name not in variables]:
        raise OptionError(
            f"--nodes is {nodes}, but {', '.join(missing)} is not set; start the command by torchrun or by"
            " srun, or on every machine yourself with MASTER_ADDR, MASTER_PORT and NODE_RANK (0 on the first)"
        )
    node = _number(variables, "NODE_RANK")
    if not 0 <= node < nodes:
        raise OptionError(f"NODE_RANK is {node}; expected 0 to {nodes - 1}, since --nodes is {nodes}")
    return OneMachine(node, variables["MASTER_ADDR"], _number(variables, "MASTER_PORT"))


def ignored(devices: int, nodes: int, variables: Mapping[str, str]) -> str | None:
    """What to tell of variables of torchrun that `environment` does not follow; None if there are none."""
    started = variables.get("WORLD_SIZE", "1")
    if "TORCHELASTIC_RUN_ID" not in variables or started in ("1", str(devices * nodes)):
        return None
    return (
        f"the environment names {started} processes of torchrun; this command works without them, since"
        f" --nodes times --devices is {devices * nodes}"
    )


def _torchrun(variables: Mapping[str, str]) -> Place:
    world, rank, local, node, port = (
        _number(variables, name) for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "GROUP_RANK", "MASTER_PORT")
    )
    return Place(world, rank, local, node, variables.get("MASTER_ADDR", "127.0.0.1"), port)


def _slurm(processes: int, variables: Mapping[str, str]) -> Place:
    started = variables.get("SLURM_NTASKS")
    if started != str(processes) or "SLURM_PROCID" not in variables:
        raise OptionError(
            f"--nodes times --devices is {processes}, but Slurm started {started or 'no'} tasks; expected as"
            " many: srun --nodes=N --ntasks-per-node=M with --nodes N --devices M"
        )
    rank, local, node, job = (
        _number(variables, name) for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_JOB_ID")
    )
    listed = variables.get("SLURM_NODELIST", "127.0.0.1")
    first = variables.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(listed)
    port = _number(variables, "MASTER_PORT") if "MASTER_PORT" in variables else 15_000 + job % 10_000
    return Place(processes, rank, local, node, first, port)


def _number(variables: Mapping[str, str], name: str) -> int:
    value = variables.get(name, "")
    if not value.isdecimal():
        raise OptionError(f"{name} is {value!r} in the environment; expected a whole number")
    return int(value)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
