"""All pages, made once at a size that only shows that they can be made: figures mean nothing."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from unlabel.audit.inputs.options import AuditOptions
from unlabel.compare.run_cell import CellRunner
from unlabel.core import engine
from unlabel.core.reading import read_json
from unlabel.core.recipe import Recipe
from unlabel.reproduce import measure, study
from unlabel.reproduce.command import PAGES, Request, make_page
from unlabel.reproduce.scale import TEN, Scale, Task, drawn_tasks
from unlabel.reproduce.trained import Frontier, sized

DRAWN = drawn_tasks(train=160, probe=120, test=120, size=16, small=16)


def tiny_task(name: str, task: Task) -> Task:
    """A label that is frequent enough for the few images there are."""
    forget = ("Male", "Young") if task.labels == TEN else task.forget
    size = 16 if name in ("cifar10", "mnist", "svhn") else task.image_size
    return replace(task, forget=forget if name != "decorrelated" else ("Male",), image_size=size)


TASKS = {name: tiny_task(name, task) for name, task in DRAWN.items()}
TASKS["mnist"] = replace(TASKS["mnist"], source=TASKS["svhn"].source)  # 1,797 digits take 20 seconds

TINY = Scale(
    "tiny",
    networks=(("small", "imagenet"),),
    recipe=Recipe(epochs=1),
    batch_size=32,
    tasks=MappingProxyType(TASKS),
    unlearning_seeds=(11,),
    retrain_seeds=(1, 2),
    images=64,
    steps=12,
    audit=MappingProxyType(
        {
            "probe_seeds": 1, "trees": 3, "resamples": 20, "permutations": 2, "folds": 2, "epochs": 2,
            "raw_image": False,
        }
    ),
    rounds=1,
    auto=MappingProxyType({"steps": 2}),
)  # fmt: skip
TUNED = {"tune": (4, 12), "tune_draws": 2, "rated_draws": 1, "tune_steps": 10}
FEW = Frontier(methods=("erasure", "head-removal", "fine-tune"), steps=(4,))
FRONTIER = sized(replace(TINY, audit={**TINY.audit, **TUNED}), FEW)


def scale_of(name: str) -> Scale:
    """The sizes of a page here."""
    return FRONTIER if name == "frontier" else TINY


@pytest.fixture(scope="session")
def tiny() -> Scale:
    """The sizes of all pages here."""
    return TINY


@pytest.fixture(scope="session")
def sizes() -> Callable[[str], Scale]:
    """The sizes of each page."""
    return scale_of


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs and cells of all pages; only to be added to."""
    return tmp_path_factory.mktemp("reproduce")


@pytest.fixture
def nothing_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, a test fails if a model is trained or a cell is computed."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(CellRunner, "work", refuse)
    monkeypatch.setattr(study, "train_run", refuse)


class Lazy(Mapping[str, Any]):
    """A value for every page, each made when it is first asked for."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        self.make, self.made = make, dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        if name not in PAGES:
            raise KeyError(name)
        if name not in self.made:
            self.made[name] = self.make(name)
        return self.made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(PAGES)

    def __len__(self) -> int:
        return len(PAGES)


@pytest.fixture(scope="session")
def pages(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The Markdown of every page."""
    out, run = tmp_path_factory.mktemp("pages"), engine.start(accelerator="cpu")

    def make(name: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(measure, "AuditOptions", lambda: AuditOptions(folds=2))
            return make_page(Request(name, scale_of(name), out, cache, f"unlabel reproduce {name}"), run)

    return Lazy(make)


@pytest.fixture(scope="session")
def every_page(pages: Mapping[str, Path]) -> Mapping[str, Path]:
    """The same, and all of them are there."""
    return dict(pages)


@pytest.fixture(scope="session")
def contents(pages: Mapping[str, Path]) -> Mapping[str, dict[str, Any]]:
    """The JSON beside every page."""
    return Lazy(lambda name: read_json(pages[name].with_suffix(".json")))
