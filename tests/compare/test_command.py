"""`unlabel compare` as a person types it: what it writes, how it resumes, what it refuses."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.setup import open_request
from unlabel.compare import cells as cells_module
from unlabel.compare import run_cell as work
from unlabel.compare import search as search_module
from unlabel.compare.jobs import Job, resolved
from unlabel.compare.page import render
from unlabel.compare.plan import spend
from unlabel.compare.search import search
from unlabel.compare.text_table import csv_text
from unlabel.core import engine
from unlabel.core.errors import Diverged
from unlabel.forget.bill import Budget
from unlabel.forget.methods import METHODS, MOST_SETTINGS


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tiny: AuditOptions) -> None:
    """Audits of the command take a fraction of a second; their margins are the published ones."""
    monkeypatch.setattr(cells_module, "AuditOptions", lambda **_: tiny)
    monkeypatch.setattr(search_module, "AuditOptions", lambda **_: tiny)


@pytest.fixture
def forgets(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts forgetting by method, from now on."""
    seen: Counter[str] = Counter()
    honest = work.forget_labels

    def spy(*rest, method, **more):
        seen[method] += 1
        return honest(*rest, method=method, **more)

    monkeypatch.setattr(work, "forget_labels", spy)
    return seen


@pytest.fixture
def run(command, made, quick):
    """Runs the command on the tiny runs."""

    def call(*more: object, labels: str = "top", out: str = "out"):
        flags = {"--reference": ",".join(map(str, made.references)), "--batch-size": 16}
        flags |= {"--devices": 1}  # what the tests count, they count in this process
        flags |= {"--budget-steps": 10, "--images": 64, "--labels": labels, "--out": out}
        shared = [part for name, value in flags.items() if name not in more for part in (name, value)]
        return command("compare", made.base, *shared, *more)

    return call


def test_what_the_command_writes_agrees(run, tmp_path: Path) -> None:
    ran = run("--methods", "confusion,ssd,head-removal", "--seeds", 2, "--devices", 2)
    assert ran.code == 0, ran.err
    assert ran.last == "out/compare.html"
    found = json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))
    assert [row["method"] for row in found["methods"]] == ["confusion", "ssd", "head-removal"]
    assert found["budget"] == {
        "steps": 10, "batch_size": 16, "images": 160, "calibration_images": 64, "seeds": [0, 1],
    }  # fmt: skip
    assert (tmp_path / "out" / "compare.csv").read_text("utf-8") == csv_text(found)
    kept = {file.stem for file in (tmp_path / "out" / "cells").iterdir()}
    assert kept == {row["key"] for row in found["cells"]}
    for row in found["cells"]:
        cell = json.loads((tmp_path / "out" / "cells" / f"{row['key']}.json").read_text("utf-8"))
        assert (cell["identity"]["method"], cell["identity"]["seed"]) == (row["method"], row["seed"])
        assert cell["c2"]["excess"] == row["c2_excess"]
    page = (tmp_path / "out" / "compare.html").read_text("utf-8")
    assert found["command"] in page.replace("&#39;", "'").replace("&amp;", "&")
    assert "cell 1/6: confusion, seed 0" in ran.err
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_it_resumes_and_grows(run, forgets, tmp_path: Path) -> None:
    first = run("--methods", "confusion", "--seeds", 1)
    again = run("--methods", "confusion,ssd", "--seeds", 2, "--json")
    assert forgets == {"confusion": 2, "ssd": 2}
    found = json.loads(again.out)
    assert len(found["cells"]) == 4
    same = run("--methods", "confusion", "--seeds", 1)
    assert forgets == {"confusion": 2, "ssd": 2}
    drop = ("seconds", "unlabel compare")
    assert [line for line in same.out.splitlines() if not any(word in line for word in drop)] == (
        first.out.splitlines()
    )
    run("--methods", "confusion", "--seeds", 1, "--budget-steps", 9)
    run("--methods", "confusion", "--seeds", 1, "--force")
    assert forgets == {"confusion": 4, "ssd": 2}


def test_the_page_is_written_again_from_its_data(command, make_comparison, fifteen, tmp_path: Path) -> None:
    folder = tmp_path / "cmp"
    folder.mkdir()
    found = make_comparison(fifteen)
    (folder / "compare.json").write_text(json.dumps(found))
    ran = command("report", "cmp")
    assert (ran.code, ran.last) == (0, "cmp/compare.html")
    page = (folder / "compare.html").read_text("utf-8")
    assert page.startswith(render(found) + "\n<!-- unlabel: page of comparison ")
    assert command("report", "cmp").code == 0, "its own page is replaced"
    (folder / "compare.html").write_text(page.replace("</title>", ", as I see it</title>"))
    ran = command("report", "cmp")
    assert (ran.code, ran.out) == (2, "")
    assert "compare.html exists; name another file, or replace it with --force" in ran.err
    assert command("report", "cmp", "--force").code == 0
    assert command("report", "cmp", "--out", "other/page.html").last == "other/page.html"
    assert command("report", "cmp", "--license", "mit").code == 2
    for damage in (
        "",
        "[]",
        "{}",
        json.dumps({**found, "methods": 3}),
        json.dumps({**found, "budget": None}),
    ):
        (folder / "compare.json").write_text(damage)
        ran = command("report", "cmp")
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
        assert "is not a comparison of this version" in ran.err
    assert (folder / "compare.html").read_text("utf-8") == page


def test_errors_of_a_cell_are_shown_and_the_others_go_on(run, monkeypatch) -> None:
    honest = work.forget_labels

    def fail(*rest, method, **more):
        if method == "ssd":
            raise Diverged("the loss became NaN")
        return honest(*rest, method=method, **more)

    monkeypatch.setattr(work, "forget_labels", fail)
    ran = run("--methods", "ssd,head-removal", "--seeds", 1)
    assert ran.code == 0
    assert "ssd: 1 failed, Diverged: the loss became NaN" in ran.out
    assert " PASS " in next(line for line in ran.out.splitlines()[::-1] if line.startswith("head-removal "))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--methods", "confusoin"), "no method 'confusoin'"),
        (("--methods", "retrain"), "name its runs with --reference"),
        (("--methods", ","), "names no method"),
        (("--seeds", 0), "--seeds is 0; expected 1 to 100"),
        (("--budget-steps", 0), "--budget-steps is 0"),
        (("--images", 3), "--images is 3"),
        (("--search", 7), "--search is 7; expected 0 to 6"),
        (("--devices", 65), "--devices is 65"),
        (("--data", "folder:nowhere"), "nowhere"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_computed(run, forgets, tmp_path, more, says) -> None:
    ran = run(*more)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert says in ran.err
    assert not forgets
    assert not (tmp_path / "out").exists()


def test_unknown_labels_and_missing_references_are_refused(run, command, made, forgets) -> None:
    assert "no label 'tip'" in run(labels="tip").err
    ran = command("compare", made.base, "--labels", "top", "--out", "out")
    assert (ran.code, "--make-references 3" in ran.err) == (2, True)
    Path("file").write_text("mine")
    assert "is a file" in run(out="file").err
    assert not forgets


def test_references_are_made_on_request(command, made, quick, tmp_path: Path) -> None:
    shutil.copytree(made.base, tmp_path / "base")
    ran = command(
        "compare", "base", "--labels", "top,bottom", "--methods", "ssd", "--seeds", 1, "--out", "out",
        "--make-references", 2, "--keep-models", "--batch-size", 16, "--images", 64,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    found = json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))
    assert found["retrain"]["runs"] == [f"base-without-top+bottom-seed{k}" for k in (1, 2)]
    assert found["labels"] == ["top", "bottom"]
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 1


# -- settings


def test_every_setting_of_a_ladder_is_one_that_its_method_takes() -> None:
    for name, method in METHODS.items():
        defaults = resolved(Job(name)).options
        for setting in method.ladder:
            job = resolved(Job(name, setting))
            assert job.options != defaults
            assert "steps" not in setting
        assert len({str(setting) for setting in method.ladder}) == len(method.ladder) < MOST_SETTINGS
    assert METHODS["ssd"].settings(2) == [{}, {"alpha": 5.0}]


def test_a_search_takes_the_best_setting_and_tells_its_bill(run, forgets, tmp_path: Path) -> None:
    ran = run("--methods", "confusion,head-removal", "--seeds", 1, "--search", 3)
    assert ran.code == 0, ran.err
    found = json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))
    told = found["search"]["methods"]["confusion"]
    assert [one["setting"] for one in told["tries"]] == METHODS["confusion"].settings(3)
    mild = [one for one in told["tries"] if one["loss"] < 0.01]
    assert told["tries"][told["chosen"]]["excess"] == min(one["excess"] for one in mild)
    chosen = found["methods"][0]["options"]
    assert chosen == {**chosen, **told["tries"][told["chosen"]]["setting"], "steps": 10}
    assert told["images_processed"] == 3 * 160
    assert found["search"]["images_processed"] == 480
    assert "search tried 4 settings on the probe split: 30 steps and 480 images" in ran.out
    assert "fewer settings exist of head-removal" in ran.out
    assert forgets["confusion"] == 3 + 1
    run("--methods", "confusion,head-removal", "--seeds", 1, "--search", 3)
    assert forgets["confusion"] == 3 + 1


def test_the_choice_never_sees_e(made, tmp_path: Path, quick) -> None:
    """Every annotation and every pixel of E spoilt, and the search comes to the same, to the digit."""
    spoilt = tmp_path / "spoilt"
    shutil.copytree(made.photos, spoilt)
    split = dict(line.split(",")[:2] for line in (spoilt / "meta.csv").read_text().splitlines())
    rows = (spoilt / "attributes.csv").read_text().splitlines()
    tested = [at for at, row in enumerate(rows) if split[row.split(",")[0]] == "test"]
    assert len(tested) == 60
    for at in tested:
        name, *values = rows[at].split(",")
        rows[at] = ",".join([name, *(str(1 - int(value)) for value in values)])
        Image.new("RGB", (16, 16), (at % 256, 0, 0)).save(spoilt / "images" / name)
    (spoilt / "attributes.csv").write_text("\n".join(rows) + "\n")
    where = engine.start(accelerator="cpu", batch_size=16)
    budget = Budget(4, 16, 64)
    jobs = [spend(Job(name, images=64), budget) for name in ("confusion", "random-label")]

    def look(data: Path, out: str):
        case = open_request(["top"], made.base, made.references, where, f"folder:{data}")
        found, best = search(case, jobs, where, tmp_path / out, budget, 2, data=f"folder:{data}")
        tries = {name: row["tries"] for name, row in found["methods"].items()}
        for each in tries.values():
            for one in each:
                del one["seconds"]
        return tries, best

    assert look(made.photos, "one") == look(spoilt, "two")


def test_a_setting_that_fails_is_not_taken(made, tmp_path, quick, where, monkeypatch) -> None:
    honest = work.forget_labels

    def fail(*rest, strength=1.0, **more):
        if strength != 3.0:
            raise Diverged("the loss became NaN")
        return honest(*rest, strength=strength, **more)

    monkeypatch.setattr(work, "forget_labels", fail)
    budget = Budget(4, 16, 64)
    jobs = [spend(Job("confusion", images=64), budget)]
    case = open_request(["top"], made.base, made.references, where, None)
    found, best = search(case, jobs, where, tmp_path / "out", budget, 3)
    tries = found["methods"]["confusion"]["tries"]
    assert [one["error"] is None for one in tries] == [False, False, True]
    assert found["methods"]["confusion"]["chosen"] == 2
    assert best[0].options["strength"] == 3.0
