"""Without --force nothing is overwritten but what the same command made from the same run; what cannot be
written is refused before anything is computed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from unlabel.audit.document.keeping import keeping
from unlabel.audit.document.results import Audit
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.run import folders as auditing
from unlabel.cli import demo_steps as demo
from unlabel.compare import command as comparing
from unlabel.core import engine
from unlabel.core.errors import OptionError
from unlabel.core.files import RECORD
from unlabel.core.places import check_file, check_folder, check_output, staged
from unlabel.core.reading import file_sha256
from unlabel.exchange import adopt as adopting
from unlabel.exchange import export as exporting
from unlabel.forget import run as forgetting
from unlabel.forget.run import forget_run
from unlabel.report import examples
from unlabel.report.page import write_report
from unlabel.reproduce import command as pages
from unlabel.runs.files import MODEL
from unlabel.statement.schema import audit_faults
from unlabel.training import run as training

SMALL = AuditOptions(probe_seeds=1, epochs=5, trees=10, permutations=5, resamples=50)
MINE = "years of work"
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@pytest.fixture(scope="module")
def audited(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs ``base`` and ``less``, which forgot top and is audited; only to be read."""
    here, run = tmp_path_factory.mktemp("audited"), engine.start(accelerator="cpu")
    shutil.copytree(base, here / "base")
    forget_run("head-removal", here / "base", ["top"], here / "less", run)
    auditing.audit_run(here / "less", here / "base", [], run, options=SMALL)
    return here


@pytest.fixture
def here(audited: Path, tmp_path: Path) -> Path:
    """A copy of `audited` that a test may change: the folder that commands run in."""
    shutil.copytree(audited, tmp_path, dirs_exist_ok=True)
    return tmp_path


def refused(ran: Any, *says: str) -> None:
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1), ran
    for part in says:
        assert part in ran.err, ran.err


def change_audit(run: Path, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Changes a run's audit and returns its bytes."""
    audit = json.loads((run / "audit.json").read_text("utf-8"))
    change(audit)
    (run / "audit.json").write_text(json.dumps(audit), "utf-8")
    return (run / "audit.json").read_bytes()


# -- report


def test_a_report_replaces_its_own_page_and_no_other_file(here: Path, command) -> None:
    (here / "thesis.html").write_text(MINE)
    refused(command("report", "less", "--out", "thesis.html"), "thesis.html exists", "--force")
    assert (here / "thesis.html").read_text() == MINE
    assert command("report", "less", "--out", "page.html").code == 0
    assert command("report", "less", "--out", "page.html").code == 0
    assert command("report", "less", "--out", "thesis.html", "--force").code == 0
    assert (here / "thesis.html").read_bytes().startswith(b"<!doctype html>")


def test_a_page_of_another_run_or_changed_by_hand_is_kept(here: Path, command) -> None:
    shutil.copytree(here / "less", here / "other")
    change_audit(here / "other", lambda audit: audit["models"]["after"].update(sha256="0" * 64))
    assert command("report", "other", "--out", "page.html").code == 0
    refused(command("report", "less", "--out", "page.html"), "page.html exists")
    assert command("report", "less").code == 0
    page = here / "less" / "report.html"
    page.write_bytes(page.read_bytes().replace(b"</title>", b", as I see it</title>", 1))
    mine = page.read_bytes()
    refused(command("report", "less"), "report.html exists", "--force")
    assert page.read_bytes() == mine
    assert not (here / "less" / "README.md").is_symlink()


def test_a_page_of_an_earlier_audit_of_the_same_run_is_written_anew(here: Path, command) -> None:
    assert command("report", "less").code == 0
    change_audit(here / "less", lambda audit: audit["options"].update(budget="standard"))
    assert command("report", "less").code == 0


@pytest.mark.parametrize(
    "name", [MODEL, RECORD, "config.json", "audit.json", "README.md", "statement.dsse.json"]
)
def test_a_part_of_a_run_is_never_replaced_by_a_page_or_an_export(name: str, here: Path, command) -> None:
    for run in ("less", "base"):
        file = here / run / name
        file.touch()
        before = file.read_bytes()
        for force in ([], ["--force"]):
            refused(command("report", "less", "--out", file, *force), "is a part of a run")
        assert file.read_bytes() == before
    if name == MODEL:
        export = ["export", "base", "--to", "state-dict", "--out", "base/" + MODEL]
        before = (here / "base" / MODEL).read_bytes()
        refused(command(*export, "--force"), "is a part of a run")
        assert (here / "base" / MODEL).read_bytes() == before


def test_photographs_replace_nothing_unasked_before_anything_is_computed(here, command, monkeypatch) -> None:
    monkeypatch.setattr(examples, "gallery", computed)
    (here / "less-with-images.html").write_text(MINE)
    refused(command("report", "less", "--with-images"), "exists", "--force")
    refused(command("report", "less", "--with-images", "--out", "base/" + MODEL, "--force"), "part of a run")


# -- audit


def computed(*_: object, **__: object) -> None:
    raise AssertionError("it was computed")


@pytest.mark.parametrize("theirs", ["standard", "full"])
def test_a_quick_audit_does_not_replace_a_deeper_one(theirs, here: Path, command, monkeypatch) -> None:
    monkeypatch.setattr(auditing, "open_case", computed)
    before = change_audit(here / "less", lambda audit: audit["options"].update(budget=theirs))
    audit = ["audit", "less", "--before", "base", "--quiet"]
    refused(command(*audit), f"is a {theirs} audit", f"--budget {theirs}", "--force")
    refused(command(*audit, "--make-references", 3), f"is a {theirs} audit")
    assert (here / "less" / "audit.json").read_bytes() == before
    with pytest.raises(AssertionError, match="it was computed"):
        command(*audit, "--force")
    with pytest.raises(AssertionError, match="it was computed"):
        command(*audit, "--budget", theirs)


@pytest.mark.parametrize("what", ["of other weights", "damaged", "no audit"])
def test_an_audit_does_not_replace_what_is_no_audit_of_the_run(what, here, command, monkeypatch) -> None:
    monkeypatch.setattr(auditing, "open_case", computed)
    if what == "of other weights":
        change_audit(here / "less", lambda audit: audit["models"]["after"].update(sha256="0" * 64))
    else:
        (here / "less" / "audit.json").write_text('{"half' if what == "damaged" else '{"mine": 1}')
    refused(command("audit", "less", "--before", "base"), "is no audit of the weights in less", "--force")


def test_the_later_of_two_audits_is_kept_and_says_so(here: Path, capsys) -> None:
    run = here / "less"
    with keeping(run, "quick", force=False) as keep:
        change_audit(run, lambda audit: audit.update(headline="ANOTHER"))
        content = json.loads((run / "audit.json").read_text("utf-8")) | {"headline": "MINE"}
        keep(mine := Audit.from_json(content))
    assert json.loads((run / "audit.json").read_text("utf-8"))["headline"] == "MINE"
    said = capsys.readouterr().err
    assert "was written by another audit while this one ran; this one replaces it" in said
    with keeping(run, "quick", force=False) as keep:
        keep(mine)
    assert capsys.readouterr().err == ""


def test_a_deeper_audit_that_ended_meanwhile_is_kept(here: Path) -> None:
    run = here / "less"
    with keeping(run, "quick", force=False) as keep:
        mine = Audit.from_json(json.loads((run / "audit.json").read_text("utf-8")))
        full = change_audit(run, lambda audit: audit["options"].update(budget="full"))
        with pytest.raises(OptionError, match="is a full audit"):
            keep(mine)
    assert (run / "audit.json").read_bytes() == full


def test_an_audit_against_other_models_notes_the_one_that_it_replaces(here: Path, capsys) -> None:
    file = here / "less" / "audit.json"
    first, content = file_sha256(file), json.loads(file.read_text("utf-8"))
    mine = Audit.from_json(content)
    other = {**content["models"]["before"], "run": "runs/other", "sha256": "1" * 64}
    for models, count in (
        (content["models"], 0),
        ({**content["models"], "references": [other]}, 1),
        ({**content["models"], "references": [other]}, 1),
        ({**content["models"], "before": other}, 2),
    ):
        with keeping(here / "less", "quick", force=False) as keep:
            kept = keep(replace(mine, models=models))
        said = capsys.readouterr().err
        assert len(kept.earlier) == count
        assert Audit.from_json(json.loads(file.read_text("utf-8"))) == kept
    assert kept.earlier[0]["sha256"] == first
    assert (kept.earlier[0]["references"], kept.earlier[1]["references"]) == ([], ["runs/other"])
    assert kept.earlier[0]["headline"] == content["headline"]
    assert f"replaces the audit of {kept.earlier[1]['date']}, against the original" in said
    assert "with the references runs/other (" in said
    if find_spec("jsonschema"):
        assert audit_faults(json.loads(file.read_text("utf-8"))) == []


# -- compare, reproduce and demo


@pytest.mark.parametrize("name", ["compare.json", "compare.csv", "compare.html"])
def test_a_comparison_replaces_no_file_of_another(name: str, here: Path, command, monkeypatch) -> None:
    monkeypatch.setattr(comparing, "open_request", computed)
    (here / "out").mkdir()
    (here / "out" / name).write_text(MINE)
    compare = ["compare", "base", "--labels", "top", "--reference", "base", "--out", "out"]
    refused(command(*compare), f"out/{name} exists and is of no comparison of base without top", "--force")
    assert (here / "out" / name).read_text() == MINE
    with pytest.raises(AssertionError, match="it was computed"):
        command(*compare, "--force")


def test_a_comparison_goes_on_only_where_run_and_labels_are_the_same(here, command, monkeypatch) -> None:
    monkeypatch.setattr(comparing, "open_request", computed)
    (here / "out").mkdir()
    found = {"original": {"sha256": file_sha256(here / "base" / MODEL)}, "labels": ["top", "middle"]}
    (here / "out" / "compare.json").write_text(json.dumps(found))
    compare = ["compare", "base", "--reference", "base", "--out", "out", "--labels"]
    refused(command(*compare, "top"), "is of no comparison")
    refused(command("compare", "base", "--labels", "top", "--out", "less"), "is a run; name a folder")
    with pytest.raises(AssertionError, match="it was computed"):
        command(*compare, "middle,top")


@pytest.mark.parametrize("name", ["table2.md", "table2.json"])
def test_a_page_of_the_paper_replaces_no_foreign_file(name: str, here: Path, command, monkeypatch) -> None:
    monkeypatch.setattr(pages, "carry_out", computed)
    (here / "docs").mkdir()
    (here / "docs" / name).write_text(MINE)
    refused(command("reproduce", "table2", "--out", "docs"), f"docs/{name} exists", "--force")
    assert (here / "docs" / name).read_text() == MINE
    with pytest.raises(AssertionError, match="it was computed"):
        command("reproduce", "table2", "--out", "docs", "--force")
    (here / "docs" / "table2.json").write_text('{"schema": "unlabel.reproduce/1", "page": "table2"}')
    with pytest.raises(AssertionError, match="it was computed"):
        command("reproduce", "table2", "--out", "docs")


def test_a_demo_replaces_no_foreign_page_and_no_deeper_audit(here: Path, command, monkeypatch) -> None:
    monkeypatch.setattr(demo, "copy_network", computed)
    (here / "demo").mkdir()
    (here / "demo" / "report.html").write_text(MINE)
    refused(command("demo"), "demo/report.html exists", "--force")
    (here / "demo" / "report.html").unlink()
    shutil.copytree(here / "base", here / "demo" / "original")
    shutil.copytree(here / "less", here / "demo" / "unlearned")
    record = json.loads((here / "demo" / "unlearned" / RECORD).read_text("utf-8"))
    record["parent"]["run"] = str(here / "demo" / "original")
    (here / "demo" / "unlearned" / RECORD).write_text(json.dumps(record), "utf-8")
    change_audit(here / "demo" / "unlearned", lambda audit: audit["options"].update(budget="full"))
    refused(command("demo"), "is a full audit")
    change_audit(here / "demo" / "unlearned", lambda audit: audit["options"].update(budget="quick"))
    (here / "demo" / "unlearned" / "statement.dsse.json").write_text("{}")
    refused(command("demo"), "was signed, and would be made anew")
    with pytest.raises(AssertionError, match="it was computed"):
        command("demo", "--force")


# -- two commands, one place


def test_of_two_commands_that_make_one_run_the_second_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def early() -> None:
        with staged(out, force=False) as folder:
            (folder / RECORD).write_text("early")

    def late() -> None:
        with staged(out, force=False) as folder:
            (folder / RECORD).write_text("late")
            early()

    with pytest.raises(OptionError, match="was written by another command meanwhile and is kept"):
        late()
    assert (out / RECORD).read_text() == "early"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("what", ["file", "link", "foreign folder"])
@pytest.mark.parametrize("force", [False, True])
def test_nothing_that_appeared_meanwhile_is_replaced(what: str, force: bool, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def appears() -> None:
        if what == "file":
            out.write_text(MINE)
        elif what == "link":
            out.symlink_to(tmp_path / "nowhere")
        else:
            out.mkdir()
            (out / "thesis.txt").write_text(MINE)

    def make() -> None:
        with staged(out, force=force) as folder:
            (folder / RECORD).write_text("{}")
            appears()

    with pytest.raises(OptionError, match=r"exists|is kept"):
        make()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert out.is_symlink() or MINE in (out if out.is_file() else out / "thesis.txt").read_text()


def test_two_processes_at_once_lose_no_result(here: Path) -> None:
    """Both begin together; one exits with 2 and one line, and the other's run is there."""
    line = [
        sys.executable,
        "-m",
        "unlabel.cli.app",
        "forget",
        "head-removal",
        "base",
        "--out",
        "out",
        "--quiet",
    ]
    both = [
        subprocess.Popen([*line, "--labels", label], cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for label in ("top", "middle")
    ]
    said = [process.communicate(timeout=300)[1].decode() for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 2], said
    assert said[codes.index(2)].count("\n") == 1
    kept = json.loads((here / "out" / RECORD).read_text("utf-8"))
    assert kept["labels"] == [("top", "middle")[codes.index(0)]]


# -- refused before anything is computed

TRAIN = ["train", "faces:train=64,probe=64,test=64,size=16"]
FORGET = ["forget", "head-removal", "base", "--labels", "top"]
ADOPT = ["adopt", "small", "--weights", f"base/{MODEL}", "--labels", "labels.txt", "--data", "faces"]
COMPARE = ["compare", "base", "--labels", "top", "--reference", "base"]
PLACES = {
    "train": (TRAIN, training, "load"),
    "forget": (FORGET, forgetting, "source_of"),
    "adopt": (ADOPT, adopting, "load"),
    "compare": (COMPARE, comparing, "open_request"),
    "reproduce": (["reproduce", "table2"], pages, "carry_out"),
    "report": (["report", "less", "--with-images"], examples, "gallery"),
    "export": (["export", "base", "--to", "state-dict"], exporting, "_state_dict"),
    "demo": (["demo"], demo, "copy_network"),
}


@pytest.fixture
def refuse(here: Path, command, monkeypatch) -> Callable[..., None]:
    """Runs a command of `PLACES` that must be refused before it computes anything."""
    (here / "labels.txt").write_text("top\nmiddle\nbottom\n")
    for _, module, name in PLACES.values():
        monkeypatch.setattr(module, name, computed)

    def call(verb: str, out: str, *says: str, force: bool = False) -> None:
        flags = ["--force"] if force else []
        refused(command(*PLACES[verb][0], "--out", out, *flags), *says)

    return call


@pytest.mark.parametrize("verb", PLACES)
@pytest.mark.parametrize("leads", ["nowhere", "to a run", "to a file"])
def test_a_link_is_refused_before_the_work(verb: str, leads: str, here: Path, refuse) -> None:
    out = here / "out.pt"
    shutil.copytree(here / "base", here / "other")
    out.symlink_to(
        {"nowhere": here / "nowhere", "to a run": here / "other", "to a file": here / "labels.txt"}[leads]
    )
    for force in (False, True):
        refuse(verb, "out.pt", "out.pt exists and is a link", force=force)
    assert out.is_symlink()


@pytest.mark.parametrize("verb", PLACES)
def test_a_read_only_place_is_refused_before_the_work(verb: str, here: Path, refuse, monkeypatch) -> None:
    """As a user sees it: root may write anywhere, so the answer of the system is made up."""
    closed, access = here / "closed", os.access
    closed.mkdir()
    shutil.copytree(here / "less", closed / "run")
    monkeypatch.setattr(
        os, "access", lambda path, bits: not Path(path).is_relative_to(closed) and access(path, bits)
    )
    refuse(verb, str(closed / "out.pt"), "is not a folder one can write to")


def test_an_audit_that_could_not_be_written_is_refused_before_the_work(here, command, monkeypatch) -> None:
    monkeypatch.setattr(auditing, "open_case", computed)
    (here / "less" / "audit.json").rename(here / "audit.json")
    (here / "less" / "audit.json").symlink_to(here / "audit.json")
    refused(command("audit", "less", "--before", "base", "--force"), "audit.json is a link")
    (here / "less" / "audit.json").unlink()
    monkeypatch.setattr(os, "access", lambda path, bits: Path(path).name != "less")
    refused(command("audit", "less", "--before", "base"), "less is read-only")


@root
def test_read_only_is_what_the_system_says(here: Path, open_up: Callable[[Path], None]) -> None:
    """The same as an unprivileged user, whom modes bind."""
    open_up(here)
    (here / "less").chmod(0o555)
    (here / "page.html").write_text(MINE)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            for check in (
                lambda: check_output(here / "less", force=True),
                lambda: check_output(here / "new", force=False),
                lambda: check_folder(here),
                lambda: check_file(here / "page.html", force=True),
            ):
                with pytest.raises(OptionError, match=r"read-only|write to"):
                    check()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_device_is_never_replaced(here: Path) -> None:
    with pytest.raises(OptionError, match="no plain file"):
        write_report(here / "less", Path("/dev/null"), force=True)
    assert not Path("/dev/null").is_file()
