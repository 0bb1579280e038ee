"""A tiny original with two references, an audit that takes a second, and comparisons that are made up."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from unlabel.audit.inputs.options import AuditOptions
from unlabel.compare.cells import CellResult, Cells, Job, run_cells
from unlabel.compare.table import table
from unlabel.core import engine
from unlabel.core.recipe import Recipe
from unlabel.forget.bill import Budget
from unlabel.testing import tiny_world, write_folder
from unlabel.training.run import train_run

TINY = AuditOptions(
    probe_seeds=1, folds=2, epochs=5, trees=5, permutations=2, resamples=10, rare=5, raw_image=False,
    cross_fit=False,
)  # fmt: skip
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


def figures(label: str, knows: float) -> list[dict[str, Any]]:
    """Rows of one model that knows a label to a degree."""
    values = {"own.adv": 0.0, "own.sadv@restored": 0.9 * knows, "others.adv.lin": 0.8 * knows}
    values |= {"others.adv.gbt": 0.8 * knows, "probe.adv.lin": knows, "probe.adv.mlp": knows}
    values |= {"probe.bits.lin": 0.7 * knows, "probe.bits.mlp": 0.7 * knows}
    return [
        {
            "id": name,
            "label": label,
            "value": value,
            "ci": [value - 0.02, value + 0.02],
            "n": 5000,
            "unit": "adv",
        }
        for name, value in values.items()
    ]


def utility(auc: float) -> dict[str, Any]:
    """The same mean AUC on all splits, with one label below it."""
    split = {
        "macro": {"value": auc, "ci": [auc - 0.01, auc + 0.01], "n": 5000},
        "worst": {"label": "Bald", "value": auc - 0.1},
        "labels": {"Bald": {"value": auc - 0.1, "ci": [0, 1], "n": 5000}},
        "ece": 0.01,
    }
    return {"T_in": split, "P": split, "E": split}


def model(run: str, knows: float, auc: float, seed: int, label: str = "Male") -> dict[str, Any]:
    """A made-up record of the original or of a reference."""
    cost = {"steps": 3125, "images_processed": 200_000, "images_used": 20_000, "seconds": {"total": 311.0}}
    return {
        "run": run,
        "sha256": "ab" * 32,
        "seed": seed,
        "cost": cost,
        "figures": figures(label, knows),
        "utility": utility(auc),
    }


def cell(
    method: str,
    seed: int,
    knows: float,
    loss: float,
    images: int,
    *,
    label: str = "Male",
    error: str | None = None,
    steps: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> CellResult:
    """A made-up cell; Retrain knows the label to 0.6 and keeps an AUC of 0.8."""
    job, file = Job(method, options or {"lr": 0.05}, seed), Path(f"cells/{method}-{seed}.json")
    if error:
        return CellResult(job, file, {"outcome": "failed", "error": {"kind": "Diverged", "message": error}})
    excess = (knows - 0.6) / 0.1
    verdicts = {"C1": "PASS", "C2": "PASS" if excess < 0.7 else "FAIL" if excess > 1.3 else "INCONCLUSIVE"}
    verdicts |= {"C3": "FAIL", "C5": "PASS" if loss < 0.007 else "FAIL"}
    record = {
        "outcome": "done", "error": None, "headline": "DISABLED ONLY", "figures": figures(label, knows),
        "utility": utility(0.8 - loss),
        "claims": {name: {"verdict": verdict} for name, verdict in verdicts.items()},
        "c2": {"excess": excess, "upper": excess + 0.3, "figure": "probe.adv.lin", "rows": []},
        "c5": {"macro_auc_loss": {"value": loss, "upper": loss + 0.003, "margin": 0.01}},
        "cost": {
            "steps": images // 64 if steps is None else steps, "images_processed": images,
            "images_used": 2048, "seconds": {"total": images / 700},
        },
    }  # fmt: skip
    return CellResult(job, file, record)


Make = Callable[..., dict[str, Any]]


@pytest.fixture
def make_comparison() -> Make:
    """A made-up compare.json of some cells, made by the code that makes real ones."""

    def make(
        cells: Sequence[CellResult],
        *,
        label: str = "Male",
        references: int = 3,
        steps: int = 188,
        **more: Any,
    ) -> dict[str, Any]:
        audit = {"d_reference": 0.1, "d_reference_bits": 0.075, "d_macro": 0.01}
        facts = {
            "original": "cd" * 32,
            "labels": [label],
            "audit": audit,
            "versions": {"unlabel": "0.1.0"},
            "data": "ef" * 32,
        }
        retrained = [model(f"re{k}", 0.58 + 0.02 * k, 0.798 + 0.002 * k, k, label) for k in range(references)]
        floor = [{"id": "floor.adv", "label": label, "value": 0.4}]
        whole = Cells(model("base", 0.9, 0.81, 0, label), tuple(retrained), tuple(floor), tuple(cells), facts)
        return table(whole, Budget(steps, 64), original="runs/base", **more)

    return make


@pytest.fixture
def fifteen() -> list[CellResult]:
    """Fifteen methods of three seeds: crowded, far apart, without cost, without end, over the budget."""
    plan = {
        "confusion": (0.63, 0.006, 12_032),
        "weight-filtering": (0.71, 0.012, 12_030),
        "weight-pruning": (0.74, 0.013, 12_028),
        "bad-teacher": (0.80, 0.004, 12_000),
        "cf-k": (0.86, 0.001, 12_032),
        "eu-k": (0.84, 0.031, 12_032),
        "l1-sparse": (0.87, 0.002, 12_032),
        "leace-head": (0.895, 0.003, 2_048),
        "neg-grad": (0.70, 0.055, 12_032),
        "neg-grad-plus": (0.78, 0.009, 12_032),
        "random-label": (0.68, 0.004, 12_032),
        "salun": (0.71, 0.011, 12_000),
        "scrub": (0.79, 0.006, 12_000),
        "ssd": (0.88, 0.02, 2_048),
        "head-removal": (0.9, -0.005, 0),
    }
    found = [
        cell(name, seed, knows + 0.015 * (seed - 1), loss + 0.001 * (seed - 1), images)
        for name, (knows, loss, images) in plan.items()
        for seed in range(3)
    ]
    found += [
        cell("unsir", 0, 0.7, 0.02, 15_000),
        cell("unsir", 1, 0, 0, 0, error="the loss became NaN at step 3"),
    ]
    return [*found, cell("unsir", 2, 0.72, 0.02, 15_000)]


@pytest.fixture
def make_cell() -> Callable[..., CellResult]:
    """`cell`, for the tests."""
    return cell
