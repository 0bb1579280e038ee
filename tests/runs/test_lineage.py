"""Where a run comes from: told by the run alone when ancestors are gone, checked against them when not."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from unlabel.core import engine
from unlabel.core.errors import ModelError
from unlabel.core.files import write_json
from unlabel.core.reading import file_sha256
from unlabel.forget.run import forget_run
from unlabel.runs.description import chain, chain_table
from unlabel.runs.files import read_record
from unlabel.runs.lineage import MOST, history


@pytest.fixture
def line(base: Path, tmp_path: Path) -> Path:
    """``base`` -> ``one``, which forgot top -> ``two``, which forgot middle as well."""
    run = engine.start(accelerator="cpu")
    shutil.copytree(base, tmp_path / "base")
    forget_run("head-removal", tmp_path / "base", ["top"], tmp_path / "one", run)
    forget_run("head-removal", tmp_path / "one", ["middle"], tmp_path / "two", run)
    return tmp_path


def change(run: Path, **values: Any) -> None:
    """Rewrites a run's record; a value of None takes an entry out."""
    record = json.loads((run / "unlabel.json").read_text("utf-8")) | values
    write_json(run / "unlabel.json", {name: value for name, value in record.items() if value is not None})


def told(run: Path) -> list[tuple[str, str, str]]:
    return [(Path(step.run).name, step.what, step.state) for step in history(run)]


WHOLE = [
    ("two", "forgot middle, by head-removal", "here"),
    ("one", "forgot top, by head-removal", "unchanged"),
    ("base", "trained", "unchanged"),
]


def test_the_chain_leads_back_to_the_training(line: Path) -> None:
    assert told(line / "two") == WHOLE
    steps = history(line / "two")
    hashes = [file_sha256(line / name / "model.safetensors") for name in ("two", "one", "base")]
    assert [step.found for step in steps] == hashes
    assert [step.recorded for step in steps] == [None, *hashes[1:]]
    assert all(step.date and step.date.endswith("Z") for step in steps)


def test_a_record_sums_up_all_ancestors(line: Path) -> None:
    record = read_record(line / "two")
    assert [entry.sha256 for entry in record.ancestors] == [
        file_sha256(line / name / "model.safetensors") for name in ("one", "base")
    ]
    assert record.ancestors[0].sha256 == record.parent.sha256
    assert record.ancestors[0].labels == ("top",)
    assert record.ancestors[1].method == "train"


def test_ancestors_that_are_gone_are_still_told(line: Path) -> None:
    for name in ("one", "base"):
        shutil.rmtree(line / name)
    assert told(line / "two") == [WHOLE[0], *((name, what, "missing") for name, what, _ in WHOLE[1:])]


def test_ancestors_that_moved_along_are_found_beside_the_run(line: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("two", "one", "base"):
        shutil.move(line / name, moved / name)
    assert told(moved / "two") == WHOLE
    assert {Path(step.run).parent for step in history(moved / "two")} == {moved}


def test_an_ancestor_with_other_weights_is_said_to_be_changed(line: Path) -> None:
    recorded = file_sha256(line / "one" / "model.safetensors")
    shutil.copy(line / "base" / "model.safetensors", line / "one" / "model.safetensors")
    change(line / "one", method="confusion", labels=["bottom"])  # and what it says now does not count
    now = file_sha256(line / "base" / "model.safetensors")
    assert f"{recorded[:12]}, CHANGED since: {now[:12]}" in chain_table(chain(line / "two"))
    assert told(line / "two") == [WHOLE[0], ("one", WHOLE[1][1], "changed"), WHOLE[2]]
    assert history(line / "two")[1].recorded == recorded != history(line / "two")[1].found


def test_runs_from_before_ancestors_were_recorded_are_told_as_far_as_they_are_there(line: Path) -> None:
    for name in ("two", "one", "base"):
        change(line / name, ancestors=None, date=None)
    assert told(line / "two") == WHOLE
    assert [step.date for step in history(line / "two")] == [None, None, None]
    shutil.rmtree(line / "one")
    assert told(line / "two") == [WHOLE[0], ("one", "how it was made is not known", "missing")]


def test_a_run_made_from_an_old_one_records_what_can_be_known(line: Path) -> None:
    change(line / "one", ancestors=None)
    forget_run("head-removal", line / "one", ["bottom"], line / "three", engine.start(accelerator="cpu"))
    assert [entry.method for entry in read_record(line / "three").ancestors] == [
        "head-removal",
        "train",
    ]


def test_a_run_that_names_itself_as_its_ancestor_ends(line: Path) -> None:
    run = line / "base"
    own = {"run": str(run), "sha256": file_sha256(run / "model.safetensors")}
    change(run, parent=own)
    assert [step.state for step in history(run)] == ["here"]
    change(line / "one", parent={"run": str(line / "base"), "sha256": own["sha256"]}, ancestors=None)
    change(run, parent={"run": str(line / "one"), "sha256": file_sha256(line / "one" / "model.safetensors")})
    assert [Path(step.run).name for step in history(line / "one")] == ["one", "base"]


def test_an_endless_chain_is_cut(line: Path) -> None:
    change(line / "two", ancestors=[{"run": f"gone/{at}", "sha256": "0" * 64} for at in range(5000)])
    assert len(history(line / "two")) == MOST


HOSTILE: dict[str, Any] = {
    "text": "base",
    "numbers": [1],
    "no hash": [{"run": "base"}],
    "a hash that is a number": [{"run": "base", "sha256": 1}],
    "labels of numbers": [{"run": "base", "sha256": "a", "labels": [1]}],
    "a date that is an object": [{"run": "base", "sha256": "a", "date": {}}],
    "a count that is true": [{"run": "base", "sha256": "a", "annotations": True}],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_record_with_other_ancestors_is_refused(what: str, line: Path) -> None:
    change(line / "two", ancestors=HOSTILE[what])
    with pytest.raises(ModelError, match=r"unlabel\.json is damaged"):
        history(line / "two")


def test_a_hostile_ancestor_is_only_looked_at(line: Path, command) -> None:
    evil = {"run": "/dev/zero", "sha256": "0" * 64, "method": "\x1b[2J", "labels": ["a\nb"], "date": "\x9b"}
    empty = {"run": "", "sha256": "0" * 64}
    change(line / "two", ancestors=[evil, empty, {"run": "a\0b", "sha256": "x"}])
    ran = command("show", line / "two", "--history")
    assert ran.code == 0
    assert not any((ord(letter) < 32 and letter != "\n") or 0x7F <= ord(letter) < 0xA0 for letter in ran.out)
    assert len(ran.out.splitlines()) == 6


def test_the_command_tells_the_chain_for_people_and_as_json(line: Path, command) -> None:
    shutil.rmtree(line / "base")
    ran = command("show", line / "two", "--history")
    assert (ran.code, ran.last) == (0, str(line / "two"))
    lines = ran.out.splitlines()
    assert len(lines) == 4
    assert lines[1].endswith("unchanged")
    assert "base: trained; " in lines[2]
    assert lines[2].endswith("missing")
    rows = json.loads(command("show", line / "two", "--history", "--json").out)["history"]
    assert [row["state"] for row in rows] == ["here", "unchanged", "missing"]
    assert rows[1]["labels"] == ["top"]


def test_a_chain_whose_beginning_is_not_recorded_says_so(line: Path, command) -> None:
    change(line / "two", parent=None, ancestors=None, parent_sha256=None)
    ran = command("show", line / "two", "--history")
    assert ran.out.splitlines()[-2] == "what came before is not recorded"
    assert "not recorded" not in command("show", line / "base", "--history").out
