"""An audit whose readings are shared out over processes: the same bits, each table made once, none lost."""

import json
import os
import signal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from unlabel.audit import shared_out
from unlabel.audit.attacks import fine_tuning
from unlabel.audit.command import audit_run
from unlabel.audit.inputs import AuditOptions
from unlabel.core import engine
from unlabel.core.errors import UnlabelError
from unlabel.core.recipe import Recipe
from unlabel.forget.run import forget_run
from unlabel.models import cached_outputs
from unlabel.testing import tiny_world, write_folder
from unlabel.training.run import train_run

FULL = AuditOptions(
    budget="full", probe_seeds=1, folds=2, epochs=5, trees=5, permutations=2, resamples=10, rare=5,
    raw_image=False, few=(64,), tune=(128,), tune_draws=2, tune_steps=10,
)  # fmt: skip


class Runs(NamedTuple):
    """Run folders; only to be read, but for the unlearned one, whose audit is replaced."""

    after: Path
    before: Path
    reference: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A network with BatchNorm that knows three labels, one without top, and one that was to forget it."""
    folder = tmp_path_factory.mktemp("shared")
    photos = write_folder(folder / "photos", tiny_world(images=1200).source)
    run, recipe = engine.start(accelerator="cpu", batch_size=16), Recipe(epochs=2, lr=0.1)
    for name, seed, without in (("before", 0, ()), ("reference", 1, ("top",))):
        train_run(
            f"folder:{photos}",
            folder / name,
            run.with_seed(seed),
            recipe=recipe,
            image_size=16,
            without=without,
        )
    forget_run("fine-tune", folder / "before", ["top"], folder / "after", run, steps=3)
    return Runs(folder / "after", folder / "before", folder / "reference")


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the test's own."""
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("UNLABEL_CACHE", str(folder))
    return folder / "outputs"


def audited(runs: Runs, devices: int) -> dict[str, Any]:
    where = engine.start(accelerator="cpu", devices=devices, batch_size=16)
    result = audit_run(runs.after, runs.before, [runs.reference], where, options=FULL, force=True).to_json()
    del result["seconds"]
    return json.loads(json.dumps(result))


def tables(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.iterdir()}


def test_two_processes_find_what_one_finds_to_the_bit(runs, cache, monkeypatch, tmp_path) -> None:
    """The full budget: outputs, perturbed images, transforms, stages and whole-model trainings."""
    one, kept = audited(runs, 1), tables(cache)
    assert len(kept) > 40
    second = tmp_path / "second"
    second.mkdir(mode=0o700)
    monkeypatch.setenv("UNLABEL_CACHE", str(second))
    assert audited(runs, 2) == one
    assert tables(second / "outputs") == kept


def test_after_the_readings_the_parent_makes_no_table_of_its_own(runs, cache, monkeypatch) -> None:
    """What makes a table is counted in this process: none with workers; with one process, all of them."""
    made = []
    honest = cached_outputs.write_bytes
    monkeypatch.setattr(cached_outputs, "write_bytes", lambda *rest: (made.append(1), honest(*rest)))
    audited(runs, 2)
    assert made == []
    for path in cache.iterdir():
        path.unlink()
    audited(runs, 1)
    assert len(made) == len(list(cache.iterdir())) > 40


def test_a_killed_worker_loses_its_table_alone_and_the_same_call_goes_on(runs, cache, monkeypatch) -> None:
    whole = audited(runs, 1)
    kept = tables(cache)
    for path in cache.iterdir():
        path.unlink()
    honest = fine_tuning.best_of_rates

    def killed(model, *rest, stage):
        if "reference" in stage:
            os.kill(os.getpid(), signal.SIGKILL)
        return honest(model, *rest, stage=stage)

    with monkeypatch.context() as patch:
        patch.setattr(fine_tuning, "best_of_rates", killed)
        with pytest.raises(UnlabelError, match=r"killed by SIGKILL during: tune reference \(128\); "):
            audited(runs, 2)
    left = tables(cache)
    assert 0 < len(left) < len(kept)
    assert left.items() <= kept.items()
    assert audited(runs, 2) == whole
    assert tables(cache) == kept


def test_a_process_that_starts_anew_opens_the_runs_and_finds_the_same(runs, cache, monkeypatch) -> None:
    """As on GPUs, where no process may be forked."""
    audited(runs, 1)
    kept = tables(cache)
    for path in cache.iterdir():
        path.unlink()
    honest = shared_out.share_out
    monkeypatch.setattr(shared_out, "share_out", lambda *rest, **more: honest(*rest, **more, start="spawn"))
    audited(runs, 2)
    assert tables(cache) == kept
