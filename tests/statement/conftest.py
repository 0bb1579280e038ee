"""Signed runs, and keys to sign with."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.run.folders import audit_run
from unlabel.core import engine
from unlabel.core.recipe import Recipe
from unlabel.forget.run import forget_run
from unlabel.report.card import write_card
from unlabel.report.page import write_report
from unlabel.statement.keys import write_keys
from unlabel.statement.sign import sign_run
from unlabel.testing import tiny_world, write_folder
from unlabel.training.run import train_run

TIME = "2026-11-24T18:00:00Z"
SMALL = AuditOptions(probe_seeds=1, epochs=5, trees=10, permutations=5, resamples=50)
LITTLE = Recipe(epochs=1, lr=0.05)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, the runs ``base``, ``less`` (forgot top) and ``again`` (never saw top), keys; only to be read.

    ``less`` is audited against both and reported; about two seconds.
    """
    folder = tmp_path_factory.mktemp("made")
    photos = write_folder(folder / "photos", tiny_world(images=160).source)
    run = engine.start(accelerator="cpu", batch_size=32, seed=4)
    source = f"folder:{photos}"
    train_run(source, folder / "base", run, recipe=LITTLE, image_size=16)
    train_run(source, folder / "again", run.with_seed(5), recipe=LITTLE, image_size=16, without=["top"])
    forget_run("head-removal", folder / "base", ["top"], folder / "less", run)
    audit_run(folder / "less", folder / "base", [folder / "again"], run, options=SMALL)
    write_report(folder / "less")
    write_card(folder / "less")
    for name in ("ada", "eve"):
        write_keys(folder / name)
    return folder


@pytest.fixture
def small() -> AuditOptions:
    """The sizes of the audit of ``less``."""
    return SMALL


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """A copy of `made` that a test may change; ``less`` is not signed yet."""
    return Path(shutil.copytree(made, tmp_path / "here"))


@pytest.fixture
def signed(here: Path) -> Path:
    """The run ``less``, signed by Ada; its relatives lie beside it."""
    sign_run(here / "less", here / "ada", signer="Ada", issued_at=TIME)
    return here / "less"


@pytest.fixture
def resign(made: Path) -> Callable[[Path], None]:
    """Signs a run anew with Ada's key, as if nothing had happened to it."""

    def do(run: Path) -> None:
        sign_run(run, made / "ada", issued_at=TIME, force=True)

    return do
