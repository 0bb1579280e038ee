"""What users rely on stays as it is: runs, audits, pages, cards, statements and help texts made before.

`tests/golden/make.py` makes the files anew; a change of one of them is a decision, and a commit by itself.
"""

import csv
import json
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from unlabel.audit.setup import request_of
from unlabel.exchange.predict import predict_files
from unlabel.report.card import card, write_card
from unlabel.report.page import render, write_report
from unlabel.runs.folder import load_run

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))
import making  # noqa: E402
from making import RUNS, STANDARD  # noqa: E402

AUDITS = {"quick": RUNS / "less" / "audit.json", "standard": STANDARD / "audit.json.gz"}
NEAR = 1e-6  # of a figure, relative: libraries may add in another order


@pytest.fixture(autouse=True)
def trusted_network() -> Iterator[None]:
    """The network of the golden runs, as its user would have named it."""
    with making.trusted():
        yield


def golden(budget: str) -> dict[str, Any]:
    """A stored audit, parsed."""
    return json.loads(making.read_text(AUDITS[budget]))


def differences(now: Any, then: Any, place: str = "") -> Iterator[str]:
    """Where two parsed files are not the same: keys and their order, texts, and figures beyond `NEAR`."""
    if isinstance(then, dict) and isinstance(now, dict):
        if list(now) != list(then):
            yield f"{place}: keys {list(now)}, expected {list(then)}"
        for key in then:
            if key in now:
                yield from differences(now[key], then[key], f"{place}/{key}")
    elif isinstance(then, list) and isinstance(now, list):
        if len(now) != len(then):
            yield f"{place}: {len(now)} items, expected {len(then)}"
        for at, (one, other) in enumerate(zip(now, then, strict=False)):
            yield from differences(one, other, f"{place}/{at}")
    elif isinstance(then, float) and isinstance(now, int | float):
        if not math.isclose(now, then, rel_tol=NEAR, abs_tol=NEAR):
            yield f"{place}: {now}, expected {then}"
    elif type(now) is not type(then) or now != then:
        yield f"{place}: {now!r}, expected {then!r}"


FIRST = GOLDEN / "first"


def test_a_difference_is_seen() -> None:
    then = {"a": [1.0, "x"], "b": None}
    assert not list(differences({"a": [1.0 + 1e-8, "x"], "b": None}, then))
    for now in ({"b": None, "a": [1.0, "x"]}, {"a": [1.0], "b": None}, {"a": [1.001, "x"], "b": None},
                {"a": [1.0, "y"], "b": None}, {"a": [1.0, "x"], "b": 0}, {"a": [1.0, "x"]}):  # fmt: skip
        assert list(differences(now, then)), now


@pytest.mark.usefixtures("every_penalty")
@pytest.mark.parametrize("budget", AUDITS)
def test_the_audit_of_stored_tables_comes_out_the_same(budget: str) -> None:
    then = golden(budget)
    now = making.again(then)
    assert now.pop("seconds").keys() == then.pop("seconds").keys()
    assert not list(differences(now, then))


def test_page_and_card_of_a_stored_run_are_equal_to_the_byte(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("report.html", "README.md"):
        then = (RUNS / "less" / name).read_bytes()
        shutil.copytree(RUNS / "less", "runs/less", dirs_exist_ok=True)
        (Path("runs/less") / name).unlink()
        write_report(Path("runs/less"))
        write_card(Path("runs/less"))
        assert (Path("runs/less") / name).read_bytes() == then


def test_page_and_card_of_a_standard_audit_are_equal_to_the_byte() -> None:
    audit = golden("standard")
    assert render(audit) == making.read_text(STANDARD / "report.html.gz")
    assert card(audit) == (STANDARD / "README.md").read_text("utf-8")


def test_a_run_that_was_signed_verifies(command) -> None:
    alone = command("verify", RUNS / "less", "--quiet")
    assert (alone.code, "valid, signer not checked" in alone.out) == (0, True)
    signed = command("verify", RUNS / "less", "--key", GOLDEN / "ada.pub", "--quiet")
    assert (signed.code, "by the key that was named" in signed.out) == (0, True)


def test_a_run_that_the_first_version_signed_still_opens_and_verifies(tmp_path: Path, command) -> None:
    """Never made anew: whoever kept a signed run must be able to check it with every later version."""
    signed = command("verify", FIRST / "less", "--key", FIRST / "ada.pub", "--quiet")
    assert (signed.code, "by the key that was named" in signed.out) == (0, True)
    run = Path(shutil.copytree(FIRST / "less", tmp_path / "less"))
    assert load_run(run).config.forgotten == ("top",)
    assert "DISABLED ONLY" in write_report(run, tmp_path / "page.html").read_text("utf-8")
    assert command("show", run, "--history").code == 0


def test_a_signed_run_that_was_changed_does_not(tmp_path: Path, command) -> None:
    run = Path(shutil.copytree(RUNS / "less", tmp_path / "less"))
    (run / "audit.json").write_text((run / "audit.json").read_text("utf-8") + " ", "utf-8")
    assert command("verify", run, "--quiet").code == 3


def test_stored_runs_load_and_belong_together() -> None:
    base, less, again = (load_run(RUNS / name) for name in ("base", "less", "again"))
    assert base.config.labels == less.config.labels == again.config.labels == ("top", "middle", "bottom")
    assert request_of(less, base).forget == ("top",)
    assert again.config.forgotten == ("top",)
    models = golden("quick")["models"]
    assert [models["before"]["sha256"], models["after"]["sha256"]] == [base.sha256, less.sha256]
    assert models["references"][0]["sha256"] == again.sha256


def test_a_stored_run_predicts_the_same() -> None:
    with (GOLDEN / "predicted.csv").open(encoding="utf-8") as file:
        then = list(csv.DictReader(file))
    now = predict_files(RUNS / "less", [GOLDEN / "photos" / row["image"] for row in then])
    for row, found in zip(then, now, strict=True):
        labels = {name: float(value) if value else None for name, value in row.items() if name != "image"}
        assert (found["labels"].pop("top"), labels.pop("top")) == (None, None)
        assert found["labels"] == pytest.approx(labels, rel=1e-5)


def test_help_texts_are_the_same() -> None:
    now = making.helps()
    then = {path.stem: path.read_text("utf-8") for path in (GOLDEN / "help").iterdir()}
    assert sorted(name.replace(" ", "-") for name in now) == sorted(then)
    for name, text in now.items():
        assert text == then[name.replace(" ", "-")], name


def test_the_golden_files_stay_small() -> None:
    kept = [path for path in GOLDEN.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in kept) < 600_000
