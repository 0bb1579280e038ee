"""Several machines, all of them this one: two commands that meet on 127.0.0.1 compute what one does."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from unlabel.core import engine
from unlabel.core.cluster import _free_port
from unlabel.core.engine import Run
from unlabel.core.errors import CheckpointMismatch, ProcessLost
from unlabel.core.recipe import Recipe
from unlabel.models.features import outputs
from unlabel.runs.folder import load_run
from unlabel.testing import tiny_network, tiny_world
from unlabel.training import fit as training
from unlabel.training.checkpoints import Checkpoint
from unlabel.training.fit import LabelLoss, fit

ALL = LabelLoss((0, 1, 2))
SHORT = Recipe(epochs=1.25, lr=0.05)
fork = multiprocessing.get_context("fork")


def _train(run: Run, folder: str, name: str) -> None:
    model, world = tiny_network(3, batchnorm=True), tiny_world("unknown")
    fit(model, ALL, world.data, SHORT, run)
    rows = torch.from_numpy(outputs(model, world.source.test, run).logits)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file({**state, "logits": rows}, f"{folder}/{name}{run.rank}.safetensors")


def _machine(node: int, port: int, job: Any, *arguments: Any) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": str(node)}
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC"))]:
        del os.environ[name]
    engine.launch(engine.start(nodes=2, accelerator="cpu"), job, *arguments)


def machines(job: Any, *arguments: Any) -> list[int | None]:
    """Starts a job on two machines; their exit codes."""
    port = _free_port()
    started = [fork.Process(target=_machine, args=(node, port, job, *arguments)) for node in (0, 1)]
    for each in started:
        each.start()
    for each in started:
        each.join(100)
        each.kill()
    return [each.exitcode for each in started]


def test_two_machines_compute_the_bits_of_one_process(tmp_path: Path) -> None:
    """A batch has two micro-batches, one for each: a sum of two has no order."""
    _train(engine.start(accelerator="cpu"), str(tmp_path), "one")
    assert machines(_train, str(tmp_path), "two") == [0, 0]
    one, first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("one0", "two0", "two1"))
    start = tiny_network(3, batchnorm=True).state_dict()
    assert not torch.equal(one["0.weight"], start["0.weight"])
    for name, value in one.items():
        if name != "logits":
            assert torch.equal(value, first[name])
        assert torch.equal(first[name], second[name])
    # other images stand together in a batch of 256
    torch.testing.assert_close(one["logits"], first["logits"], atol=2e-5, rtol=0)


def _lost(run: Run) -> None:
    """The second machine is killed in its third step."""

    def after_step(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        steps.append(0)
        if run.rank == 1 and len(steps) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    steps: list[int] = []
    fit(tiny_network(3), ALL, tiny_world().data, SHORT, run, after_step=after_step)


def _told(node: int, port: int, folder: str) -> None:
    try:
        _machine(node, port, _lost)
    except ProcessLost as error:
        Path(folder, f"told{node}").write_text(str(error))


def test_a_machine_that_is_lost_ends_the_other_with_one_line(tmp_path: Path) -> None:
    port = _free_port()
    started = [fork.Process(target=_told, args=(node, port, str(tmp_path))) for node in (0, 1)]
    for each in started:
        each.start()
    for each in started:
        each.join(100)
        assert each.exitcode == 0
    assert "another process of this command has ended; start the same" in (tmp_path / "told0").read_text()
    assert "SIGKILL" in (tmp_path / "told1").read_text()
    assert "\n" not in (tmp_path / "told0").read_text() + (tmp_path / "told1").read_text()


def _killed(run: Run, folder: str, at: int) -> None:
    training.CHECKPOINT_SECONDS = -1.0
    steps: list[int] = []

    def after_step(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        steps.append(0)
        if run.rank == 1 and len(steps) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    model, file = tiny_network(3, batchnorm=True), Checkpoint(Path(folder, "checkpoint.pt"), "job")
    fit(model, ALL, tiny_world().data, SHORT, run, after_step=after_step, checkpoint=file)
    if run.rank == 0:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, f"{folder}/end")


def test_a_killed_process_ends_all_in_one_line_and_the_job_goes_on_to_the_same_bits(
    left_running, tmp_path: Path
) -> None:
    two = engine.start(devices=2, accelerator="cpu")
    (tmp_path / "whole").mkdir()
    engine.launch(two, _killed, str(tmp_path / "whole"), 99)
    with pytest.raises(ProcessLost, match=r"start the same command again"):
        engine.launch(two, _killed, str(tmp_path), 4)
    assert (tmp_path / "checkpoint.pt").exists()
    assert left_running() == []
    engine.launch(two, _killed, str(tmp_path), 99)
    whole, parts = load_file(tmp_path / "whole/end"), load_file(tmp_path / "end")
    for name, value in whole.items():
        assert torch.equal(value, parts[name])


def _apart(run: Run, folder: str) -> None:
    """Each process has a checkpoint file of its own, as machines without a shared disk have."""
    file = Checkpoint(Path(folder, f"checkpoint{run.rank}.pt"), "job")
    fit(tiny_network(3), ALL, tiny_world().data, SHORT, run, checkpoint=file)


def test_a_checkpoint_that_not_all_machines_see_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    two = engine.start(devices=2, accelerator="cpu")
    engine.launch(two, _apart, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint0.pt"]  # only rank 0 writes
    with pytest.raises(CheckpointMismatch, match="not all machines see"):
        engine.launch(two, _apart, str(tmp_path))


COMMAND = ["train", "faces:train=96,probe=40,test=40", "--image-size", "16", "--epochs", "1"]
COMMAND += ["--quiet", "--accelerator", "cpu"]


@pytest.mark.slow
def test_torchrun_on_two_nodes_writes_the_run_of_one_process(tmp_path: Path) -> None:
    """Five Python processes: about 30 s. Only the first prints."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC")}
    clean |= {"OMP_NUM_THREADS": "1", "UNLABEL_CACHE": str(tmp_path / "cache")}
    app = ["-m", "unlabel.cli.app", *COMMAND]
    subprocess.run([sys.executable, *app, "--out", "one"], cwd=tmp_path, env=clean, check=True)
    meet = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={_free_port()}"]
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *meet, f"--node-rank={node}", *app,
             "--nodes", "2", "--out", "two"],
            cwd=tmp_path, env=clean, stdout=subprocess.PIPE, text=True,
        )
        for node in (0, 1)
    ]  # fmt: skip
    printed = [each.communicate(timeout=240)[0] for each in nodes]
    assert [each.returncode for each in nodes] == [0, 0]
    assert printed[0].splitlines()[-1] == "two"
    assert printed[1] == ""
    one, two = (load_run(tmp_path / name) for name in ("one", "two"))
    assert (two.record.processes, two.record.nodes) == (2, 2)
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, two.model.state_dict()[name])
