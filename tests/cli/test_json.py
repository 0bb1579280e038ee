"""``--json`` on every command: one JSON value on stdout and nothing else, with the documented keys."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unlabel.audit.document.results import Audit
from unlabel.cli.app import build_app

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
APP = build_app(["head-removal"])
ALWAYS = {
    "train": {"run", "method", "labels", "options", "steps", "seconds", "data"},
    "forget": {"run", "method", "labels", "options", "changed", "total", "retained"},
    "report": {"page", "card"},
    "export": {"file", "notes"},
    "sign": {"statement", "headline", "audited", "files", "key_id"},
    "verify": {"verified", "signature", "signer", "problems", "statement"},
    "keygen": {"private", "public"},
    "demo": {"page", "audit", "runs"},
    "reproduce": {"plan"},
}
NO_RESULT = {"try"}
"""Commands that end only when they are stopped, and have no result to print."""


def documented() -> dict[str, set[str]]:
    """The keys of each command's object, as docs/cli.md lists them."""
    table = DOCS.read_text("utf-8").split("| command | keys under")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", table, re.MULTILINE)
    return {name: set(re.findall(r"`([^`]+)`", keys)) for name, keys in rows}


@pytest.mark.parametrize("name", [name for name in APP if not name.startswith("-") and name not in NO_RESULT])
def test_every_command_has_it(name: str) -> None:
    command = APP["forget"]["head-removal"] if name == "forget" else APP[name]
    flags = {flag for argument in command.assemble_argument_collection() for flag in argument.names}
    assert "--json" in flags
    assert ALWAYS.get(name, set()) <= documented()[name]


@pytest.fixture
def printed(command) -> Callable[..., dict[str, Any]]:
    """What a command prints under --json; one object on stdout."""

    def call(*words: object) -> dict[str, Any]:
        ran = command(*words, "--json")
        assert ran.code == 0, ran.err
        content = json.loads(ran.out)
        assert isinstance(content, dict)
        assert ALWAYS[str(words[0])] <= set(content)
        return content

    return call


def test_training_and_forgetting_print_the_record(printed, photos: Path, tmp_path: Path) -> None:
    shown = printed("train", f"folder:{photos}", "--out", "base", "--epochs", 1, "--image-size", 16)
    assert shown.pop("run") == "base"
    assert shown == json.loads((tmp_path / "base" / "unlabel.json").read_text("utf-8"))
    words = ("--labels", "top", "--out", "less", "--images", 48, "--max-loss", 1)
    shown = printed("forget", "head-removal", "base", *words)
    assert shown.pop("run") == "less"
    assert shown == json.loads((tmp_path / "less" / "unlabel.json").read_text("utf-8"))


def test_keys_are_paths(printed, tmp_path: Path) -> None:
    shown = printed("keygen", "--out", "ada.pem")
    assert shown == {"private": "ada.pem", "public": "ada.pem.pub"}
    assert (tmp_path / "ada.pem.pub").is_file()


def test_signing_says_what_was_signed(printed, command, base: Path, tmp_path: Path) -> None:
    command("keygen", "--out", "ada.pem")
    ran = command("forget", "head-removal", base, "--labels", "top", "--out", "less", "--images", 48)
    assert ran.code == 0
    shown = printed("sign", "less", "--key", "ada.pem")
    assert shown["statement"] == "less/statement.dsse.json"
    assert (shown["audited"], len(shown["key_id"])) == (False, 64)
    assert printed("verify", "less", "--key", "ada.pem.pub")["verified"] is True


def test_an_export_is_a_file(printed, base: Path, tmp_path: Path) -> None:
    shown = printed("export", base, "--to", "state-dict", "--out", "weights.safetensors")
    assert shown["file"] == "weights.safetensors"
    assert (tmp_path / "weights.safetensors").is_file()


def test_a_report_is_a_page_and_a_card(printed, tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden" / "runs" / "less"
    run = Path(shutil.copytree(golden, tmp_path / "less"))
    shown = printed("report", run, "--force")
    assert shown["page"] == str(run / "report.html")
    assert shown["card"] in (str(run / "README.md"), None)
    assert printed("report", run, "--out", "page.html") == {"page": "page.html", "card": None}


def test_a_plan_of_a_page_is_a_list(printed) -> None:
    shown = printed("reproduce", "table1", "--dry-run")
    assert shown["plan"]
    assert all(isinstance(line, str) for line in shown["plan"])


def test_a_demo_prints_its_page_and_runs_and_no_audit(
    printed, command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    golden = Path(__file__).parents[1] / "golden" / "runs" / "less"
    found = Audit.from_json(json.loads((golden / "audit.json").read_text("utf-8")))

    def made(out: Path) -> None:
        out.mkdir(parents=True)
        (out / "unlabel.json").write_text("{}")

    steps = {
        "_make": lambda _item, out, *_, **__: made(out),
        "forget_run": lambda _method, _run, _labels, out, *_, **__: made(out),
        "audit_run": lambda *_, **__: found,
        "write_card": lambda *_: None,
        "write_report": lambda _run, page, **__: page,
    }
    for name, step in steps.items():
        monkeypatch.setattr(f"unlabel.cli.demo_steps.{name}", step)
    shown = printed("demo", "--out", "demo")
    runs = ["original", "retrained-1", "retrained-2", "retrained-3", "unlearned"]
    assert shown["runs"] == [f"demo/{name}" for name in runs]
    assert shown["page"] == "demo/report.html"
    lines = command("demo", "--out", "plain").out.splitlines()
    assert (lines[0], lines[-1]) == (found.headline, "plain/report.html")
