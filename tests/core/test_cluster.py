"""Whose processes a run joins, by the variables alone; what they do is in test_processes and test_nodes."""

import pytest

from unlabel.core.cluster import Joined, OneMachine, environment, ignored
from unlabel.core.errors import OptionError

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "3", "LOCAL_RANK": "1",
    "GROUP_RANK": "1", "MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "1234",
}  # fmt: skip
SLURM = {
    "SLURM_JOB_ID": "70042", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1", "SLURM_NODELIST": "gpu[07-08]",
}  # fmt: skip
BY_HAND = {"MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "1234", "NODE_RANK": "1"}


def place(found: OneMachine | Joined) -> tuple[object, ...]:
    return found.node_rank(), found.local_rank(), found.main_address, found.main_port, found.leads


@pytest.mark.parametrize("nodes", [1, 2])
def test_torchrun_is_joined_by_as_many_processes_as_it_started(nodes: int) -> None:
    variables = {**TORCHRUN, "WORLD_SIZE": str(2 * nodes)}
    found = environment(2, nodes, variables)
    assert isinstance(found, Joined)
    assert found.creates_processes_externally
    assert (found.world_size(), found.global_rank()) == (2 * nodes, 3)
    assert place(found) == (1, 1, "192.0.2.1", 1234, False)
    assert ignored(2, nodes, variables) is None


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_other_processes_of_torchrun_are_not_joined_and_that_is_said(devices: int) -> None:
    variables = {**TORCHRUN, "WORLD_SIZE": "8"}
    assert place(environment(devices, 1, variables))[:3] == (0, 0, "127.0.0.1")
    assert f"8 processes of torchrun.*{devices}" in (ignored(devices, 1, variables) or "").replace(
        "; this command works without them, since --nodes times --devices is ", ".*"
    )
    assert ignored(devices, 1, {}) is None


def test_slurm_is_joined_only_where_several_machines_are_asked_for() -> None:
    found = environment(2, 2, SLURM)
    assert isinstance(found, Joined)
    assert (found.world_size(), found.global_rank()) == (4, 3)
    assert place(found) == (1, 1, "gpu07", 15_042, False)
    assert isinstance(environment(4, 1, SLURM), OneMachine)
    given = environment(2, 2, {**SLURM, "MASTER_ADDR": "192.0.2.9", "MASTER_PORT": "99"})
    assert (given.main_address, given.main_port) == ("192.0.2.9", 99)


def test_machines_started_by_hand_meet_where_the_variables_say() -> None:
    found = environment(1, 2, BY_HAND)
    assert isinstance(found, OneMachine)
    assert place(found) == (1, 0, "192.0.2.1", 1234, False)
    assert environment(1, 2, {**BY_HAND, "NODE_RANK": "0"}).leads
    assert place(environment(1, 1, BY_HAND))[:3] == (0, 0, "127.0.0.1")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "MASTER_ADDR, MASTER_PORT, NODE_RANK is not set; start the command by torchrun or by srun"),
        ({**BY_HAND, "NODE_RANK": "2"}, "NODE_RANK is 2; expected 0 to 1"),
        ({**BY_HAND, "MASTER_PORT": "x"}, "MASTER_PORT is 'x'"),
        (
            {**TORCHRUN, "WORLD_SIZE": "8"},
            "torchrun started 8 processes, 2 on this machine; expected 4 and 2",
        ),
        ({**SLURM, "SLURM_NTASKS": "2"}, "Slurm started 2 tasks"),
        ({"SLURM_JOB_ID": "7"}, "Slurm started no tasks"),
        ({**SLURM, "SLURM_PROCID": "-"}, "SLURM_PROCID is '-'"),
    ],
)
def test_machines_that_nobody_started_are_refused_with_what_to_do(variables, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        environment(2, 2, variables)
