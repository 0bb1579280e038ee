"""A tiny original with two references, and an audit that takes a second."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from unlabel import engine
from unlabel.audit import AuditOptions
from unlabel.compare.cells import Cells, Job, run_cells
from unlabel.recipe import Recipe
from unlabel.testing import tiny_world, write_folder
from unlabel.workflow import train_run

TINY = AuditOptions(
    probe_seeds=1, folds=2, epochs=5, trees=5, permutations=2, resamples=10, rare=5, raw_image=False
)
Compare = Callable[..., Cells]


class Runs(NamedTuple):
    """Run folders and their data; only to be read."""

    base: Path
    references: list[Path]
    photos: Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A network that knows top, middle and bottom, and two that never saw top."""
    folder = tmp_path_factory.mktemp("compared")
    photos = write_folder(folder / "photos", tiny_world(images=240).source)
    for name, seed, without in (("base", 0, ()), ("re1", 1, ("top",)), ("re2", 2, ("top",))):
        run = engine.start(accelerator="cpu", batch_size=16, seed=seed)
        recipe = Recipe(epochs=6, lr=0.1)
        train_run(f"folder:{photos}", folder / name, run, recipe=recipe, image_size=16, without=without)
    return Runs(folder / "base", [folder / "re1", folder / "re2"], photos)


@pytest.fixture
def where() -> engine.Run:
    """This machine, batches of 16."""
    return engine.start(accelerator="cpu", batch_size=16)


@pytest.fixture
def tiny() -> AuditOptions:
    """An audit of a fraction of a second."""
    return TINY


@pytest.fixture
def compare(made: Runs, where: engine.Run, tmp_path: Path) -> Compare:
    """`run_cells` on the tiny runs, in a folder of the test's own."""

    def call(*jobs: Job, labels: tuple[str, ...] = ("top",), folder: Path | None = None, **more) -> Cells:
        settings = {"options": TINY, **more}
        base, place = settings.pop("base", made.base), settings.pop("where", where)
        references = settings.pop("references", made.references)
        return run_cells(base, labels, jobs, references, place, folder or tmp_path / "out", **settings)

    return call
