"""The page on predicted levels, the constants in the package, and the worlds that they were fitted to."""

import json
from pathlib import Path
from typing import Any

import pytest

from prediction.worlds import find_worlds
from unlabel.audit.attacks.prediction import RULES
from unlabel.core.files import write_json

PAGE = Path(__file__).parents[2] / "docs" / "results" / "predicted.md"
RELEARNING = PAGE.with_name("predicted-relearning.md")


def rows(section: str, page: Path = PAGE) -> list[list[str]]:
    """The cells of the first table of a section of a page."""
    text = page.read_text("utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return lines[2:]


def test_the_constants_of_the_package_are_those_of_the_page():
    both = [*rows("The rule"), *rows("The rule", RELEARNING)]
    found = {row[0]: [float(cell) for cell in row[1:]] for row in both}
    assert found == {
        unit: [rule.kept, rule.growth, rule.weight, rule.drift, rule.df] for unit, rule in RULES.items()
    }


def test_the_page_says_what_no_interval_held():
    table = rows("Every world")
    outside = sum("**outside**" in row[-1] for row in table)
    counted = [int(row[2].split(" of ")[0]) for row in rows("Coverage") if row[0] == "a data set"]
    assert len(table) - outside == sum(counted)


def test_the_page_of_relearning_says_what_no_interval_held():
    table = rows("Every world", RELEARNING)
    outside = sum("**outside**" in row[-1] for row in table)
    (everywhere,) = [row for row in rows("Coverage", RELEARNING) if row[0] == "all"]
    assert everywhere[1].startswith(f"{len(table) - outside} of {len(table)} ")


def record(folder: Path, name: str, epochs: float, *, without: tuple[str, ...] = (), **more: Any) -> None:
    """A run's record, as far as worlds are found by it."""
    recipe = {"epochs": epochs, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "augment": True}
    blueprint = {
        "network": "small",
        "stem": "imagenet",
        "recipe": recipe,
        "batch_size": 64,
        "micro_batch": 32,
    }
    (folder / name).mkdir()
    values = {"method": "train", "labels": ["Male", "Bald"], "without": list(without), "seed": 0}
    data = {"source": "faces", "digest": "a"}
    write_json(folder / name / "unlabel.json", {**values, "blueprint": blueprint, "data": data, **more})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, epochs in (("x-o", 10.0), ("x-short", 0.5), ("x-longer", 1.0)):
        record(tmp_path, name, epochs)
        record(tmp_path, f"{name}-male", epochs, without=("Male",))
    return tmp_path


def test_worlds_are_found_by_what_runs_record(runs):
    record(runs, "forgot", 10.0, method="erasure", parent={"run": "x-o", "sha256": "b"})
    record(runs, "x-o-bald", 10.0, without=("Bald",))  # and nothing short without it
    [world] = find_worlds(runs)
    assert (world.name, world.original.name) == ("x Male", "x-o")
    assert [tuple(path.name for path in pair) for pair in world.shorts] == [
        ("x-short", "x-short-male"),
        ("x-longer", "x-longer-male"),
    ]
    assert [path.name for path in world.retrained] == ["x-o-male"]


def test_a_run_that_is_not_finished_makes_no_world(runs):
    (runs / "x-short-male" / "unlabel.json").unlink()
    assert find_worlds(runs) == []
    assert json.loads((runs / "x-o" / "unlabel.json").read_text())["method"] == "train"
