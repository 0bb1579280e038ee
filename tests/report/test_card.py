"""The model card: YAML that a hub reads, Markdown that says what was measured, nothing that breaks out."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from unlabel.core.errors import ModelError, OptionError
from unlabel.report.card import card, plain, quoted, write_card
from unlabel.report.marks import stale, written
from unlabel.report.page import write_report

Make = Callable[..., dict[str, Any]]
EVIL = (
    '<script>alert(1)</script> | ![x](http://evil.example/x.png) `a` *b* [c](javascript:1) _d_ ~e~ $f$ & "g"'
)


def parts(text: str) -> tuple[dict[str, Any], str]:
    """The front matter, parsed, and the body."""
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


@pytest.fixture
def run(make_audit: Make, tmp_path: Path) -> Path:
    """A folder with an audit."""
    (tmp_path / "audit.json").write_text(json.dumps(make_audit()), "utf-8")
    return tmp_path


def test_the_front_matter_is_what_a_hub_reads(make_audit: Make) -> None:
    front, _ = parts(card(make_audit()))
    assert front["license"] == "unknown"
    assert front["library_name"] == "unlabel"
    assert front["pipeline_tag"] == "image-classification"
    assert "machine-unlearning" in front["tags"]
    (model,) = front["model-index"]
    (result,) = model["results"]
    assert (model["name"], result["task"]["type"]) == ("small without Male", "image-classification")
    assert {"type", "name"} <= set(result["dataset"])
    assert all(isinstance(m["type"], str) and isinstance(m["name"], str) for m in result["metrics"])
    assert all(isinstance(m["value"], float | int) for m in result["metrics"])
    values = {m["type"]: m["value"] for m in result["metrics"]}
    after = {m["id"]: m["value"] for m in make_audit()["metrics"] if m["model"] == "after"}
    assert values["probe.adv.lin"] == after["probe.adv.lin"]
    assert values["util.auc.macro"] == after["util.auc.macro"]
    assert "util.auc" not in values  # one label each would fill the page


def test_the_body_says_what_how_far_what_it_cost_and_what_is_open(make_audit: Make) -> None:
    audit = make_audit()
    _, body = parts(card(audit))
    assert f"**{audit['headline']}**: Male is as hard to recover" in body
    for heading in ("What was forgotten", "How far", "What it cost", "What was not tested", "Limits"):
        assert f"\n## {heading}\n" in body
    assert "- Labels: Male" in body
    assert "| C2 Retrain-equivalent | PASS |" in body
    assert "| C4 Durable | NOT EVALUATED |" in body
    assert "- Weights changed: 241,024 of 270,090 (89.2 %)" in body
    assert "perceived labels" in body
    assert all(text in body for text in ("durability: fine-tuning, compression", "not facts about persons"))
    assert "Compared with 3 models retrained" in body


def test_it_promises_nothing(make_audit: Make) -> None:
    for headline in ("UNLEARNED", "INVALID AUDIT", "DISABLED ONLY (provisional)"):
        text = card(make_audit(headline=headline)).casefold()
        assert not re.search("certifi|compliant|compliance|guarantee|anonym", text)
        assert "no legal opinion" in text


def test_an_invalid_audit_says_so_first(make_audit: Make) -> None:
    _, body = parts(card(make_audit(valid=False, invalid_because=["A decoy passed."])))
    assert body.index("A decoy passed.") < body.index("## What was forgotten")


def test_provisional_verdicts_are_marked(make_audit: Make) -> None:
    assert "| PASS (provisional) |" in card(make_audit(references=1))
    assert "Compared with no model retrained" in card(make_audit(references=0))


def test_a_verdict_against_a_predicted_level_is_marked_as_such(make_audit: Make) -> None:
    audit = make_audit(references=0)
    audit["claims"]["C2"].update(verdict="PASS", provisional=True, notes={"predicted": True})
    assert "| PASS (predicted) |" in card(audit)


def test_the_front_matter_has_no_figure_of_an_earlier_stage(make_audit: Make) -> None:
    audit = make_audit()
    probe = next(m for m in audit["metrics"] if (m["id"], m["model"]) == ("probe.adv.lin", "after"))
    audit["metrics"].append({**probe, "layer": "stage3", "value": 0.987})
    results = parts(card(audit))[0]["model-index"][0]["results"][0]["metrics"]
    assert [item["value"] for item in results if item["type"] == "probe.adv.lin"] == [probe["value"]]


def test_hostile_names_stay_text(make_audit: Make) -> None:
    audit = make_audit(labels=[EVIL, "---", "# heading", "a: b\\", "😀"], forget=[EVIL, "# heading"])
    audit["models"]["after"]["command"] = "unlabel ```\x1b[2J````` <b>"
    audit["data"]["source"] = 'folder:/tmp/a"b: c'
    front, body = parts(card(audit))
    metrics = front["model-index"][0]["results"][0]["metrics"]
    assert any(m["name"].startswith(EVIL) for m in metrics)  # the very text, in YAML
    shown = body.split("``````text")[0]  # a fence that is longer than any run of backticks inside
    assert "<script" not in body.split("``````text")[0]
    assert "](" not in shown.replace("\\](", "")
    assert "http://" not in shown
    assert not re.search(
        r"(?<!\\)[`*~$]",
        re.sub(r"\*\*[A-Z ,-]+\*\*:|`(report|audit|statement)[^`]*`|`unlabel verify`", "", shown),
    )
    assert "\x1b" not in body
    table = [line for line in shown.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} <= {4, 5}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "yes",
        "null",
        "1.0",
        "~",
        'a"b\\c',
        "é😀",
        "a: b # c",
        "-- ",
        "\ufeff\uffff",
        "\x7f\x85\u2028",
        "\udce9",
    ],
)
def test_quoted_texts_are_read_back(text: str) -> None:
    found = yaml.safe_load(f"a: {quoted(text)}")["a"]
    assert isinstance(found, str)
    if text.isprintable():
        assert found == text


def test_markdown_signs_lose_their_meaning() -> None:
    assert plain("a_b") == "a_b"
    assert plain("_a_") == r"\_a\_"
    assert plain("a\n# b") == r"a\\n\# b"
    assert plain("www.a.b x@y.z") == r"www\.a.b x\@y.z"


def test_the_card_is_written_by_report_and_the_page_with_it(run: Path, command) -> None:
    ran = command("report", run, "--license", "apache-2.0")
    assert ran.code == 0
    assert ran.out.splitlines() == [str(run / "README.md"), str(run / "report.html")]
    front, _ = parts((run / "README.md").read_text("utf-8"))
    assert front["license"] == "apache-2.0"
    assert stale(run) == []
    first = (run / "README.md").read_bytes()
    command("report", run)  # the licence that was named stays
    assert (run / "README.md").read_bytes() == first


def test_a_page_elsewhere_leaves_the_run_alone(run: Path, command, tmp_path: Path) -> None:
    assert command("report", run, "--out", tmp_path / "out" / "page.html").code == 0
    assert sorted(path.name for path in run.iterdir()) == ["audit.json", "out"]
    assert command("report", run, "--out", "page.html", "--license", "mit").code == 2


def test_a_card_that_a_person_worked_on_is_kept(run: Path, command) -> None:
    write_card(run)
    path = run / "README.md"
    assert written(path)[0] == "card"
    path.write_text(path.read_text("utf-8").replace("# small", "# Our model, small"), "utf-8")
    mine = path.read_bytes()
    ran = command("report", run)
    assert (ran.code, path.read_bytes()) == (0, mine)
    assert "is kept; delete it for a new one" in ran.out
    path.unlink()
    assert command("report", run).code == 0
    assert written(path)[0] == "card"
    path.write_text("# notes", "utf-8")
    assert write_card(run) is None
    path.unlink()
    path.symlink_to(run / "elsewhere")
    assert write_card(run) is None
    assert not (run / "elsewhere").exists()


def test_a_card_of_an_earlier_audit_is_written_anew_and_known_to_be_old(run: Path, make_audit: Make) -> None:
    write_card(run)
    write_report(run)
    (run / "audit.json").write_text(json.dumps(make_audit(references=1)), "utf-8")
    assert stale(run) == ["report.html", "README.md"]
    assert write_card(run) is not None
    assert stale(run) == ["report.html"]


@pytest.mark.parametrize("name", ["", "Apache 2.0", "mit\nlibrary_name: x", "a" * 65, '"'])
def test_a_licence_is_an_identifier(name: str, run: Path) -> None:
    with pytest.raises(OptionError, match="--license"):
        write_card(run, name)


BREAKS: dict[str, Callable[[dict[str, Any]], object]] = {
    "claims that are a list": lambda a: a.update(claims=[1]),
    "a verdict that is a list": lambda a: a["claims"]["C1"].update(verdict=[]),
    "metrics of numbers": lambda a: a.update(metrics=[1]),
    "models that are text": lambda a: a.update(models="a"),
    "labels that are numbers": lambda a: a["request"].update(labels=[1]),
    "changed that is text": lambda a: a["models"]["after"].update(changed="all"),
    "limitations that are a number": lambda a: a.update(limitations=3),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_damaged_audit_is_one_line(what: str, run: Path, make_audit: Make) -> None:
    audit = make_audit()
    BREAKS[what](audit)
    (run / "audit.json").write_text(json.dumps(audit), "utf-8")
    with pytest.raises(ModelError, match="is not an audit of this version"):
        write_card(run)
    assert not (run / "README.md").exists()
