"""The loop's devices: what is for a GPU is tested here by telling the code so."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import Diverged, OutOfMemory
from unlabel.core.recipe import Recipe
from unlabel.data.batches import Batch
from unlabel.models.build import build
from unlabel.testing import differing, tiny_network, tiny_world
from unlabel.training import compiled, ledger, micro_batch
from unlabel.training.checkpoints import Checkpoint
from unlabel.training.fit import LabelLoss, fit
from unlabel.training.fit import __name__ as loop
from unlabel.training.statistics import Statistics

ALL = LabelLoss((0, 1, 2))
SHORT = Recipe(epochs=2.5, lr=0.05)


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is read every four steps, as on a GPU every sixteen."""
    monkeypatch.setitem(ledger.READ_EVERY, "cpu", 4)


def poisoned(step: int) -> Callable[[nn.Module, Batch], Tensor]:
    """The ordinary loss until a step, and NaN from then on."""
    left = 2 * (step - 1)  # two micro-batches a step

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        nonlocal left
        left -= 1
        return ALL(model, batch) * (1.0 if left >= 0 else float("nan"))

    return loss


# -- reading the loss


def test_a_loss_that_is_read_seldom_gives_the_same_history_and_bits(run: Run, monkeypatch) -> None:
    models, histories = [tiny_network(3, True) for _ in range(2)], []
    rows: list[list[int]] = [[], []]
    for number, model in enumerate(models):
        monkeypatch.setitem(ledger.READ_EVERY, "cpu", (1, 4)[number])
        track = replace(run, track=lambda _, row, at=number: rows[at].append(row["step"]))
        histories.append(fit(model, ALL, tiny_world().data, SHORT, track))
    assert differing(*models) == []
    assert histories[0].rows == histories[1].rows
    assert rows[0] == rows[1] == list(range(1, 11))


@pytest.mark.usefixtures("seldom")
@pytest.mark.parametrize("step", [1, 3, 4, 5, 10])
def test_a_nan_is_found_before_anything_is_returned_and_its_step_is_named(run: Run, step: int) -> None:
    with pytest.raises(Diverged, match=f"nan at step {step} of 10 .*lower --lr"):
        fit(tiny_network(3), poisoned(step), tiny_world().data, SHORT, run)


@pytest.mark.usefixtures("seldom")
def test_a_nan_is_found_before_a_checkpoint_is_written(run: Run, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(f"{loop}.CHECKPOINT_SECONDS", -1.0)
    saved: list[int] = []
    monkeypatch.setattr(
        Checkpoint, "save", lambda self, model, optimiser, rows, seconds: saved.append(len(rows))
    )
    with pytest.raises(Diverged, match="at step 7"):
        fit(
            tiny_network(3), poisoned(7), tiny_world().data, SHORT, run, checkpoint=Checkpoint(tmp_path / "c")
        )
    assert saved == [4]  # and not 8, when step 7 had made the weights NaN


@pytest.mark.usefixtures("seldom")
def test_an_error_that_an_unread_nan_has_caused_is_told_as_that_nan(run: Run) -> None:
    def solves(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        if not all(bool(weight.isfinite().all()) for weight in model.parameters()):
            raise RuntimeError("the decomposition did not converge")

    with pytest.raises(Diverged, match="at step 2"):
        fit(tiny_network(3), poisoned(2), tiny_world().data, SHORT, run, after_step=solves)


# -- statistics


def test_a_step_of_one_micro_batch_needs_no_copy_of_the_statistics(run: Run, monkeypatch) -> None:
    """It is the same with copies, which are made if another process takes part."""
    whole, of = replace(run, micro_batch=64), Statistics.of
    plain, copied = tiny_network(3, True), tiny_network(3, True)
    assert of(plain.train(), 1, 1).now == []
    assert len(of(plain.train(), 1, 2).now) == len(of(plain.train(), 2, 1).now) == 2
    fit(plain, ALL, tiny_world().data, SHORT, whole)
    monkeypatch.setattr(f"{loop}.Statistics.of", lambda model, parts, world: of(model, parts, 2))
    fit(copied, ALL, tiny_world().data, SHORT, whole)
    assert differing(plain, copied) == []


# -- how many images at a time


def gpu(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    monkeypatch.setattr(engine, "memory", lambda run: int(gib * 2**30))


def test_a_cpu_keeps_its_micro_batch_and_builds_no_network_to_find_it(run: Run) -> None:
    def never() -> nn.Module:
        raise AssertionError

    assert micro_batch.with_micro_batch(run, never, (64, 64)) == run
    assert run.micro_batch == 32


@pytest.mark.parametrize(
    ("gib", "processes", "expected"), [(80, 1, 64), (80, 4, 16), (0.6, 1, 64), (0.4, 1, 16), (0.1, 1, 2)]
)
def test_a_gpu_takes_its_share_of_a_batch_or_what_its_memory_holds(
    run: Run, gib: float, processes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """resnet18 at 64 pixels: 45 MB of weights, 224 MB with what training holds of them; 1.8 MB an image."""
    gpu(monkeypatch, gib)
    where = replace(run, processes=processes)
    found = micro_batch.with_micro_batch(where, lambda: build("resnet18", 10), (64, 64))
    assert found.micro_batch == expected
    asked = replace(where, micro_batch=7, micro_batch_given=True)
    assert micro_batch.with_micro_batch(asked, lambda: build("resnet18", 10), (64, 64)).micro_batch == 7


def test_bfloat16_leaves_less_of_an_image() -> None:
    model = build("resnet18", 10)
    wide, narrow = (micro_batch.bytes_an_image(model, (64, 64), bf16=bf16) for bf16 in (False, True))
    assert 0.4 * wide < narrow < 0.8 * wide


def test_memory_that_is_too_small_is_one_line_that_says_what_to_set(run: Run) -> None:
    def full(run: Run) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB ...")

    with pytest.raises(OutOfMemory, match=r"hold 32 images at a time; set --micro-batch to less, such as 16"):
        engine.launch(run, full)
    with pytest.raises(RuntimeError, match="another fault"):
        engine.launch(run, lambda run: (_ for _ in ()).throw(RuntimeError("another fault")))


def test_a_gpu_has_the_fused_optimiser_and_a_cpu_the_plain_one(run: Run) -> None:
    from unlabel.training.fit import _sgd

    on_gpu: Any = SimpleNamespace(device=SimpleNamespace(type="cuda"))
    assert [_sgd(tiny_network(3), SHORT, where).defaults["fused"] for where in (run, on_gpu)] == [None, True]


# -- compiling


def test_without_a_compiler_the_reason_is_said_and_the_training_is_the_plain_one(
    run: Run, monkeypatch
) -> None:
    class Broken(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            raise RuntimeError("no working C++ compiler\nand a long trace")

    said: list[str] = []
    log = SimpleNamespace(track=run.log.track, say=said.append)
    monkeypatch.setattr(compiled.torch, "compile", lambda model: Broken())
    plain, other = tiny_network(3, True), tiny_network(3, True)
    fit(plain, ALL, tiny_world().data, SHORT, run)
    fit(other, ALL, tiny_world().data, SHORT, replace(run, compiled=True, log=log))
    assert said == ["not compiled: RuntimeError: no working C++ compiler"]
    assert differing(plain, other) == []


def test_an_objective_that_looks_inside_the_network_is_not_compiled(run: Run, monkeypatch) -> None:
    def hidden(model: nn.Module, batch: Batch) -> Tensor:
        return ALL(model, batch)

    said: list[str] = []
    log = SimpleNamespace(track=run.log.track, say=said.append)
    monkeypatch.setattr(compiled.torch, "compile", lambda model: pytest.fail("it was compiled"))
    fit(tiny_network(3), hidden, tiny_world().data, SHORT, replace(run, compiled=True, log=log))
    assert said == ["not compiled: function reads layers inside the network"]


def test_a_trial_step_leaves_no_trace(run: Run, monkeypatch) -> None:
    """With a compiler that does nothing, the bits are those of the plain training: dropout's, too."""

    def network() -> nn.Module:
        return nn.Sequential(nn.Dropout(0.5), tiny_network(3, True))

    monkeypatch.setattr(compiled.torch, "compile", lambda model: model)
    plain, other = network(), network()
    fit(plain, ALL, tiny_world().data, SHORT, run)
    fit(other, ALL, tiny_world().data, SHORT, replace(run, compiled=True))
    assert differing(plain, other) == []
    assert np.isfinite(plain.get_parameter("1.0.weight").detach().numpy()).all()


@pytest.mark.slow
def test_a_compiled_training_is_the_plain_one_to_rounding(run: Run) -> None:
    """20 s and more, of which nearly all is the compiler's."""
    said: list[str] = []
    log = SimpleNamespace(track=run.log.track, say=said.append)
    plain, fast = tiny_network(3, True), tiny_network(3, True)
    one = fit(plain, ALL, tiny_world().data, SHORT, run)
    two = fit(fast, ALL, tiny_world().data, SHORT, replace(run, compiled=True, log=log))
    if said:
        pytest.skip(said[0])
    # float32 sums in another order, over ten steps
    np.testing.assert_allclose(
        [row["loss"] for row in one.rows], [row["loss"] for row in two.rows], atol=1e-4
    )
