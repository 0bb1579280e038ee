"""An audit whose readings are shared out over processes: the same bits, each table made once, none lost."""

import json
import os
import signal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from unlabel.audit.attacks import fine_tuning
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.sets import sets_of
from unlabel.audit.run import jobs as shared_out
from unlabel.audit.run.folders import audit_run
from unlabel.audit.run.jobs import Opened, read_ahead, readings
from unlabel.audit.setup import open_case
from unlabel.core import engine
from unlabel.core.errors import UnlabelError
from unlabel.core.recipe import Recipe
from unlabel.forget.run import forget_run
from unlabel.models import cached_outputs
from unlabel.testing import tiny_world, write_folder
from unlabel.training.run import train_run

FULL = AuditOptions(
    budget="full", probe_seeds=1, folds=2, epochs=5, trees=5, permutations=2, resamples=10, rare=5,
    raw_image=False, few=(64,), draws=2, tune=(128,), tune_draws=2, rated_draws=1, tune_steps=10,
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
    photos = write_folder(folder / "photos", tiny_world(images=880).source)
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
    """Where an empty cache of the test's own keeps tables."""
    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path))
    tmp_path.chmod(0o700)
    return tmp_path / "outputs"


def place(devices: int) -> engine.Run:
    return engine.start(accelerator="cpu", devices=devices, batch_size=16)


def audited(runs: Runs, devices: int) -> dict[str, Any]:
    result = audit_run(
        runs.after, runs.before, [runs.reference], place(devices), options=FULL, force=True
    ).to_json()
    del result["seconds"]
    return json.loads(json.dumps(result))


def opened(runs: Runs) -> Opened:
    case = open_case(runs.after, runs.before, [runs.reference], place(1), None)
    return Opened(case, sets_of(case.source, FULL.seed, case.planting), FULL)


def tables(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.iterdir()}


class Alone(NamedTuple):
    """What one process found, and the tables that it kept."""

    audit: dict[str, Any]
    tables: dict[str, bytes]


@pytest.fixture(scope="module")
def alone(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """The audit on one process, in a cache of its own."""
    folder = tmp_path_factory.mktemp("alone")
    folder.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNLABEL_CACHE", str(folder))
        return Alone(audited(runs, 1), tables(folder / "outputs"))


def test_two_processes_find_what_one_finds_to_the_bit(runs, alone, cache, monkeypatch) -> None:
    """The full budget: outputs, perturbed images, transforms, stages and trainings; all made by workers."""
    made = []
    honest = cached_outputs.write_bytes
    monkeypatch.setattr(cached_outputs, "write_bytes", lambda *rest: (made.append(1), honest(*rest)))
    found = audited(runs, 2)
    assert made == []  # in this process
    assert len(alone.tables) > 40
    assert tables(cache) == alone.tables
    assert found == alone.audit
    assert found["claims"]["C4"]["verdict"] != "NOT_EVALUATED"


def test_one_process_makes_every_table_itself(runs, alone, cache, monkeypatch) -> None:
    """So the count of the test above can find something."""
    made = []
    honest = cached_outputs.write_bytes
    monkeypatch.setattr(cached_outputs, "write_bytes", lambda *rest: (made.append(1), honest(*rest)))
    read_ahead(opened(runs), place(1), None)
    assert len(made) == len(tables(cache)) == len(alone.tables)


def test_each_reading_counts_the_images_that_it_reads(runs) -> None:
    """What is trained on counts three times: 3 rates of one draw, which alone looks, and 1 of the other."""
    at_hand = opened(runs)
    sets, found = at_hand.sets, {job.name: job.images for job in readings(at_hand)}
    splits = {"probe": len(sets.probe), "test": len(sets.test), "train": len(sets.train)}
    for part, images in splits.items():
        assert found[f"before, {part} split"] == images
    assert found["after (int8)"] == splits["probe"] + splits["test"]
    held, looks = 1024, 10 // 10
    assert found["tune before (128)"] == 4 * 3 * 10 * 64 + 3 * looks * held + 2 * splits["test"]


def test_a_killed_worker_loses_its_table_alone_and_the_same_call_goes_on(
    runs, alone, cache, monkeypatch
) -> None:
    honest = fine_tuning.best_of_rates

    def killed(model, *rest, stage):
        if "reference" in stage:
            os.kill(os.getpid(), signal.SIGKILL)
        return honest(model, *rest, stage=stage)

    with monkeypatch.context() as patch:
        patch.setattr(fine_tuning, "best_of_rates", killed)
        with pytest.raises(UnlabelError, match=r"killed by SIGKILL during: tune reference \(128\); "):
            read_ahead(opened(runs), place(2), None)
    left = tables(cache)
    assert 0 < len(left) < len(alone.tables)
    assert left.items() <= alone.tables.items()
    read_ahead(opened(runs), place(2), None)
    assert tables(cache) == alone.tables


@pytest.mark.exhaustive
def test_a_process_that_starts_anew_opens_the_runs_and_finds_the_same(
    runs, alone, cache, monkeypatch
) -> None:
    """As on GPUs, where no process may be forked."""
    honest = shared_out.share_out
    monkeypatch.setattr(shared_out, "share_out", lambda *rest, **more: honest(*rest, **more, start="spawn"))
    read_ahead(opened(runs), place(2), None)
    assert tables(cache) == alone.tables
