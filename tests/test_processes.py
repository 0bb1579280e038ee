"""One process computes what two do. Two are forked on the CPU; a fork that hangs is killed after a minute."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_tensors
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import Diverged, OptionError
from unlabel.core.recipe import Recipe
from unlabel.core.request import Request
from unlabel.data.batches import Batch, batch_of
from unlabel.forget.adversary import Adversary
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods import find_method
from unlabel.forget.methods.deep_probes import passes
from unlabel.forget.residual import Residuals, retained_logits
from unlabel.forget.run import forget_run
from unlabel.forget.self_check import Look, rows_of, shares_of
from unlabel.models.features import outputs
from unlabel.models.outputs import PENULTIMATE
from unlabel.models.sites import find_sites
from unlabel.runs.folder import load_run
from unlabel.testing import tiny_network, tiny_world, write_folder
from unlabel.training.fit import LabelLoss, fit
from unlabel.training.run import train_run

ALL = LabelLoss((0, 1, 2))


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """A hang must not hold up the whole suite: this process's own children are ended, and the test fails."""

    def late(*_: object) -> None:
        for child in multiprocessing.active_children():
            child.kill()
        raise RuntimeError("two processes took more than 60 s: does one wait for the other?")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def place(devices: int, **options: Any) -> Run:
    return replace(engine.start(devices=devices, accelerator="cpu"), **options)


def save_model(model: nn.Module, path: str) -> None:
    save_tensors({name: value.contiguous() for name, value in model.state_dict().items()}, path)


# -- what a batch system says


SLURM = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "job", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
SLURM |= {"SLURM_NODEID": "0", "SLURM_NODELIST": "localhost", "SLURM_NTASKS_PER_NODE": "1"}
RANKS = {"RANK": "1", "LOCAL_RANK": "1", "NODE_RANK": "2", "GROUP_RANK": "2", "WORLD_SIZE": "4"}
ELSEWHERE = {"MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "1", "STANDALONE_PORT": "1"}
SYSTEMS = {
    "Slurm, two tasks": {"SLURM_NTASKS": "2"},
    "Slurm, an allocation of one task": {**SLURM, "SLURM_NTASKS": "1"},
    "Slurm, the second of two tasks": {**SLURM, "SLURM_NTASKS": "2", "SLURM_PROCID": "1"},
    "torchrun": {
        **RANKS,
        **ELSEWHERE,
        "TORCHELASTIC_RUN_ID": "1",
        "LOCAL_WORLD_SIZE": "2",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    },
    "LSF": {"LSB_JOBID": "1", "LSB_DJOB_RANKFILE": "none", "JSM_NAMESPACE_LOCAL_RANK": "1"},
    "Kubeflow": {**RANKS, **ELSEWHERE, "KUBERNETES_PORT": "tcp://192.0.2.1"},
}


def _places(run: Run) -> dict[str, Any]:
    total = torch.tensor([run.rank + 1])
    engine.reduce_sums(run, [total])
    return {"world": run.world, "rank": run.rank, "total": total.tolist()}


@pytest.mark.parametrize("system", SYSTEMS)
def test_variables_of_a_batch_system_change_nothing(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {name for found in SYSTEMS.values() for name in found}:
        monkeypatch.delenv(name, raising=False)
    for name, value in SYSTEMS[system].items():
        monkeypatch.setenv(name, value)
    assert engine.launch(place(1), _places) == {"world": 1, "rank": 0, "total": [1]}
    for _ in range(2):  # the second time on another port
        assert engine.launch(place(2), _places) == {"world": 2, "rank": 0, "total": [3]}


# -- the verbs


def _verbs(run: Run, n: int, folder: str) -> dict[str, Any]:
    own = np.array([[at, at * at] for at in run.shard(n)], np.int64).reshape(-1, 2)
    whole = engine.gather_rows(run, own, n)
    single = torch.tensor([run.rank + 1.0])
    double = torch.tensor([[0.1, 10.0 * run.rank]], dtype=torch.float64)
    count = torch.tensor([len(own)])
    engine.reduce_sums(run, [single, double, count])
    save_file({"whole": whole}, f"{folder}/{run.rank}.safetensors")
    return {
        "world": run.world,
        "single": single.tolist(),
        "double": double.tolist(),
        "count": count.tolist(),
        "threads": torch.get_num_threads(),
    }


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_rows_come_back_in_order_on_every_process_and_sums_are_sums(n: int, tmp_path: Path) -> None:
    """With 0 and 1 rows, a process has an empty share."""
    found = engine.launch(place(2), _verbs, n, str(tmp_path))
    assert found == {
        "world": 2,
        "single": [3.0],
        "double": [[0.2, 10.0]],
        "count": [n],
        "threads": 1,
    }
    expected = [[at, at * at] for at in range(n)]
    for rank in (0, 1):
        assert load_file(tmp_path / f"{rank}.safetensors")["whole"].tolist() == expected


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [0, 1, 5, 501])
def test_shares_cover_every_position_once_and_none_twice(n: int, world: int) -> None:
    class Ranked:
        def __init__(self, rank: int) -> None:
            self.global_rank, self.world_size = rank, world

    shares = [list(replace(place(1), fabric=Ranked(rank)).shard(n)) for rank in range(world)]
    assert sorted(at for share in shares for at in share) == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def _fail_on_last(run: Run) -> None:
    if run.rank == run.world - 1:
        raise OptionError("found a mistake")


def test_an_error_in_one_process_ends_them_all(left_running) -> None:
    with pytest.raises(Exception, match="found a mistake"):
        engine.launch(place(2), _fail_on_last)
    assert left_running() == []


def _stop_the_command(run: Run, command: int, folder: str) -> None:
    """Trains for long; after the first step it stops the process that has started this one, and only that."""

    def stop(*_: object) -> None:
        if run.rank == 0 and not Path(folder, "begun").exists():
            Path(folder, "begun").touch()
            os.kill(command, signal.SIGINT)

    fit(tiny_network(3), ALL, tiny_world().data, Recipe(epochs=5000), run, after_step=stop)
    Path(folder, f"finished {run.rank}").touch()


def test_a_command_that_is_stopped_ends_the_processes_that_it_started(left_running, tmp_path: Path) -> None:
    """As by ``kill -INT`` or a batch system; a terminal's Ctrl-C reaches all of them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    another = multiprocessing.get_context("fork").Process(target=signal.pause)
    another.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            engine.launch(place(2), _stop_the_command, os.getpid(), str(tmp_path))
        assert left_running() == [another.pid]
        assert [path.name for path in tmp_path.iterdir()] == ["begun"]
    finally:
        signal.signal(signal.SIGINT, before)
        for child in multiprocessing.active_children():
            child.kill()
            child.join()


# -- reading


def _read(run: Run, images: int, folder: str) -> str:
    world = tiny_world(batchnorm=True)
    found = outputs(world.model, world.source.test.take(np.arange(images)), run)
    path = f"{folder}/{run.world}-{run.rank}.safetensors"
    save_file({"logits": found.logits, "features": np.ascontiguousarray(found.features[PENULTIMATE])}, path)
    return path


@pytest.mark.parametrize("images", [1, 2, 101])
def test_outputs_are_those_of_one_process(images: int, tmp_path: Path) -> None:
    one = load_file(engine.launch(place(1), _read, images, str(tmp_path)))
    engine.launch(place(2), _read, images, str(tmp_path))
    for rank in (0, 1):
        two = load_file(tmp_path / f"2-{rank}.safetensors")
        for name in ("logits", "features"):
            assert two[name].shape == one[name].shape == (images, one[name].shape[1])
            # float32 sums of 128 terms up to about 20, in the order of another batch size
            np.testing.assert_allclose(two[name], one[name], atol=2e-5)


# -- training


def _fit(run: Run, batchnorm: bool, folder: str) -> dict[str, Any]:
    model = tiny_network(3, batchnorm)
    history = fit(model, ALL, tiny_world("unknown").data, Recipe(epochs=1.25, lr=0.05), run)
    save_model(model, f"{folder}/{run.world}-{run.rank}.safetensors")
    return {"loss": [row["loss"] for row in history.rows], "images": history.images_processed}


@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize(
    ("batch_size", "micro_batch"), [(64, 16), (64, 22), (40, 40)], ids=["even", "odd", "one empty share"]
)
def test_training_on_two_processes_is_that_of_one(batchnorm, batch_size, micro_batch, tmp_path: Path) -> None:
    """4, 3 and 1 micro-batches a step."""
    told = [
        engine.launch(
            place(devices, batch_size=batch_size, micro_batch=micro_batch), _fit, batchnorm, str(tmp_path)
        )
        for devices in (1, 2)
    ]
    assert told[0]["images"] == told[1]["images"]
    np.testing.assert_allclose(told[0]["loss"], told[1]["loss"], atol=1e-5)  # as the weights below
    one, two, other = (load_file(tmp_path / f"{name}.safetensors") for name in ("1-0", "2-0", "2-1"))
    assert one.keys() == two.keys()
    start = tiny_network(3, batchnorm).state_dict()
    for name, value in one.items():
        assert two[name].tobytes() == other[name].tobytes()
        if "num_batches" in name:
            assert two[name] == value > 1
            continue
        # each step rounds weights below 1 at 2^-24; 10 steps and the gradients' own rounding amplify it
        np.testing.assert_allclose(two[name], value, atol=1e-5)
    moved = {name: np.abs(value - start[name].numpy()).max() for name, value in one.items()}
    assert min(value for name, value in moved.items() if name.endswith("weight")) > 1e-3  # far more


def _fit_twice(run: Run, folder: str) -> None:
    """BatchNorm takes a plain mean over all steps, by its counter, and sees each micro-batch twice."""
    model = tiny_network(3, batchnorm=True)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None

    def twice(model: nn.Module, batch: Batch) -> torch.Tensor:
        return (ALL(model, batch) + ALL(model, batch)) / 2

    fit(model, twice, tiny_world("unknown").data, Recipe(epochs=1.25, lr=0.05), run)
    save_model(model, f"{folder}/{run.world}-{run.rank}.safetensors")


@pytest.mark.parametrize("micro_batch", [32, 64], ids=["one each", "one empty share"])
def test_two_processes_leave_the_file_of_one(micro_batch: int, tmp_path: Path) -> None:
    """To the byte, the counters of BatchNorm included: a sum of two has no order."""
    for devices in (1, 2):
        engine.launch(place(devices, micro_batch=micro_batch), _fit_twice, str(tmp_path))
    one, two, other = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("1-0", "2-0", "2-1"))
    assert one == two == other


def _diverge(run: Run) -> None:
    model = tiny_network(3)
    if run.rank == run.world - 1:  # one process alone sees the NaN, in its own images
        with torch.no_grad():
            model.get_parameter("0.bias")[0] = float("nan")
    fit(model, ALL, tiny_world().data, Recipe(epochs=1), run)


def test_a_nan_in_one_process_stops_both(left_running) -> None:
    with pytest.raises(Exception, match="the loss became nan at step 1"):
        engine.launch(place(2), _diverge)
    assert left_running() == []


def _forget(run: Run, method: str, options: dict[str, Any], folder: str) -> dict[str, Any]:
    world = tiny_world()
    outcome = forget_labels(world.model, ["top"], world.data, method=method, images=101, run=run, **options)
    if run.rank == 0:
        save_model(outcome.model, f"{folder}/{run.world}.safetensors")
    return {"changed": outcome.changed, "used": outcome.images_used, "processed": outcome.images_processed}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("confusion", {"steps": 6}),
        ("deep-probes", {"steps": 7}),
        ("deep-probes", {"steps": 7, "annotated": 0.3}),
        ("auto", {"against": "features"}),
        ("fine-tune", {"steps": 6}),
        ("head-removal", {}),
        ("weight-filtering", {"steps": 6, "replace": "noise"}),
        ("weight-pruning", {"steps": 6, "as_printed": True}),
        ("l1-sparse", {"steps": 6, "keep_zeros": False}),
        ("neg-grad", {"steps": 6}),
        ("neg-grad-plus", {"steps": 6, "alpha": 0.5}),
        ("random-label", {"steps": 6, "target": "bernoulli_prior"}),
        ("salun", {"steps": 6, "target": "permute"}),
        ("ssd", {"alpha": 2.0}),
        ("bad-teacher", {"steps": 6}),
        ("cf-k", {"steps": 6, "layers": 2}),
        ("eu-k", {"steps": 6, "layers": 2}),
        ("leace-head", {}),
        ("leace-layer", {}),
        ("damp", {"rounds": 2}),
        ("kodge", {}),
        ("repselect", {"distribution": "retain"}),
        ("undo", {"steps": 6}),
        ("scrub", {"rounds": 2, "max_steps": 2, "min_steps": 2, "rewind": True}),
        ("unsir", {"noise": 20, "noise_steps": 5, "impair_steps": 3, "repair_steps": 3}),
    ],
)
def test_forgetting_on_two_processes_is_that_on_one(method, options, tmp_path: Path) -> None:
    told = [engine.launch(place(n), _forget, method, options, str(tmp_path)) for n in (1, 2)]
    assert told[0]["used"] == told[1]["used"]
    assert told[0]["processed"] == told[1]["processed"]
    one, two = (load_file(tmp_path / f"{n}.safetensors") for n in (1, 2))
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=1e-5)  # as in training


def _probes(run: Run, folder: str) -> None:
    """Sites that the processes share unevenly, and fewer micro-batches than processes."""
    world, alone = tiny_world(), place(1)
    request = Request.make(["top"], world.labels)
    sites = find_sites(world.model, 3, batch_of(world.data, range(2), run.device).image)
    logits = retained_logits(world.model, request, world.data, alone)
    told = Residuals.of(logits, request, world.data, alone, 0.5)
    seen = passes(world.model, sites, told, world.data, run, 50)
    adversary = Adversary(sites, 0)
    adversary.keep(seen)
    adversary.fit(run)
    look = Look.of("weights", sites, told, (world.data.take(np.arange(60)), world.data), request, 0)
    tables = {f"rows/{name}": rows for name, rows in seen.rows.items()}
    for name, (value, error) in shares_of(rows_of(world.model, look, run), look, run).items():
        tables |= {f"share/{name}": value, f"error/{name}": error}
    for name, probe in adversary.probes.items():
        tables |= {f"{name}/{number}": part for number, part in enumerate(probe.fitted)}
    save_tensors(
        {name: table.contiguous() for name, table in tables.items()}, f"{folder}/{run.rank}-{run.world}"
    )


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_that_share_out_sites_and_images_hold_the_probes_of_one(processes, tmp_path: Path) -> None:
    """To the bit, and each of them: a site's probe is fitted by one, and zeros are added to it."""
    engine.launch(place(1), _probes, str(tmp_path))
    engine.launch(place(processes), _probes, str(tmp_path))
    one = load_file(tmp_path / "0-1")
    assert any(table.any() for name, table in one.items() if name.endswith("/2"))
    for rank in range(processes):
        other = load_file(tmp_path / f"{rank}-{processes}")
        assert other.keys() == one.keys()
        for name, table in one.items():
            np.testing.assert_array_equal(other[name], table, err_msg=name)


def test_a_process_without_a_micro_batch_does_not_stop_the_others(tmp_path: Path) -> None:
    """A batch of 64 images has two micro-batches, and there are three processes."""
    for n in (1, 3):
        engine.launch(place(n), _forget, "deep-probes", {"steps": 6}, str(tmp_path))
    one, three = (load_file(tmp_path / f"{n}.safetensors") for n in (1, 3))
    for name, value in one.items():
        np.testing.assert_allclose(three[name], value, atol=1e-5)


def _score(run: Run, method: str, options: dict[str, Any], folder: str) -> None:
    """101 images: the last micro-batch is shorter, and one process has one more."""
    world = tiny_world(batchnorm=True)
    unlearner = find_method(method).load()(**options)
    pipeline = unlearner.once
    data = world.data.take(np.arange(101))
    request = Request.make(["top"], world.labels)
    scores = pipeline.score(world.model, request, data, run)
    bands = pipeline.select(world.model, scores)
    kinds = {f"score {name}": value for name, value in scores.items()}
    kinds |= {f"band {name}": value for name, value in bands.items()}
    save_tensors(kinds, f"{folder}/{run.world}-{run.rank}.safetensors")


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("weight-filtering", {}),
        ("weight-filtering", {"solver": "cg", "exact": True}),
        ("weight-pruning", {}),
        ("weight-pruning", {"as_printed": True}),
    ],
)
def test_scores_and_selection_on_two_processes_are_those_of_one(method, options, tmp_path: Path) -> None:
    for n in (1, 2):
        engine.launch(place(n), _score, method, options, str(tmp_path))
    one, two, other = (load_file(tmp_path / f"{name}.safetensors") for name in ("1-0", "2-0", "2-1"))
    assert len(np.unique(np.concatenate([v.ravel() for n, v in one.items() if n.startswith("band")]))) > 1
    for name, value in one.items():
        assert two[name].tobytes() == other[name].tobytes()
        if name.startswith("band"):
            np.testing.assert_array_equal(two[name], value)
        else:
            # sums are float64, so that only the last float32 rounding can differ
            np.testing.assert_allclose(two[name], value, rtol=1e-5, atol=1e-9)


def test_the_commands_work_on_two_processes(tmp_path: Path) -> None:
    """Training, resuming nothing, and forgetting, from a folder of photos to a run that loads."""
    source = f"folder:{write_folder(tmp_path / 'photos', tiny_world(images=96).source)}"
    for devices in (1, 2):
        run = place(devices, batch_size=32)
        recipe = Recipe(epochs=1, lr=0.01)
        train_run(source, tmp_path / f"base{devices}", run, recipe=recipe, image_size=16)
        forget_run(
            "confusion", tmp_path / f"base{devices}", ["top"], tmp_path / f"less{devices}", run, steps=2
        )
    for name in ("base", "less"):
        one, two = (load_run(tmp_path / f"{name}{devices}") for devices in (1, 2))
        assert two.record.processes == 2
        assert one.record.steps == two.record.steps
        for key, value in one.model.state_dict().items():
            # BatchNorm over 16 images divides by small deviations: rounding grows through 6 layers
            torch.testing.assert_close(two.model.state_dict()[key], value, atol=1e-3, rtol=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base1", "base2", "less1", "less2", "photos"]


def test_a_diverging_job_raises_our_error_from_two_processes() -> None:
    """So that the command line prints one line, however many processes there are."""
    with pytest.raises(Diverged, match="at step 1"):
        engine.launch(place(2), _diverge)
