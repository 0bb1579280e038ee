"""What a killed command leaves in a run breaks no signature and is never signed, nor is a half-made audit."""

import json
import os
from pathlib import Path

import pytest

from unlabel.audit.document.keeping import keeping
from unlabel.core.errors import OptionError
from unlabel.core.leftovers import machine
from unlabel.core.places import held
from unlabel.statement import sign_run, verify_run
from unlabel.statement.contents import STATEMENT

TOKEN = f"{machine()}89abcdef"


def ended() -> int:
    """The number of a process that has ended."""
    number = os.fork()
    if number == 0:
        os._exit(0)
    os.waitpid(number, 0)
    return number


@pytest.mark.parametrize("name", ["audit.json", "report.html", STATEMENT])
def test_a_genuine_run_is_verified_beside_a_leftover_which_is_named(name: str, signed: Path, command) -> None:
    left = f".{name}.{ended()}.{TOKEN}.tmp"
    (signed / left).write_text("half")
    found = verify_run(signed)
    assert (found.ok, found.ignored) == (True, (left,))
    ran = command("verify", signed)
    assert ran.code == 0
    assert f"{left}: left by a command that was killed, not signed; delete it" in ran.out
    assert json.loads(command("verify", signed, "--json").out)["ignored"] == [left]


@pytest.mark.parametrize(
    "name",
    [
        ".audit.json.4711.tmp",
        f"audit.json.4711.{TOKEN}.tmp",
        f".audit.json.4711.{TOKEN}.sh",
        f".audit.json.4711.{TOKEN.upper()}.tmp",
        f"deep/.audit.json.4711.{TOKEN}.tmp",
        ".hidden",
    ],
)
def test_no_other_name_hides_a_file(name: str, signed: Path) -> None:
    (signed / name).parent.mkdir(exist_ok=True)
    (signed / name).write_text("rm -rf /")
    assert [(problem.where, problem.what) for problem in verify_run(signed).problems] == [
        (name, "was added after the signing")
    ]


def test_a_link_by_a_leftovers_name_is_a_link(signed: Path) -> None:
    left = f".audit.json.4711.{TOKEN}.tmp"
    (signed / left).symlink_to("/etc/passwd")
    assert [problem.where for problem in verify_run(signed).problems] == [left]


def test_leftovers_are_removed_by_the_signing_and_never_signed(here: Path) -> None:
    run = here / "less"
    gone, living = (f".audit.json.{process}.{TOKEN}.tmp" for process in (ended(), os.getppid()))
    for name in (gone, living):
        (run / name).write_text("half")
    _, said, _ = sign_run(run, here / "ada")
    assert not any(item["name"].startswith(".") for item in said["subject"])
    assert not (run / gone).exists()
    assert (run / living).exists()
    (run / living).unlink()
    assert verify_run(run).ok


def test_nothing_is_signed_while_it_is_audited(here: Path, command) -> None:
    run = here / "less"
    with keeping(run, "quick", force=False):
        with pytest.raises(OptionError, match="is being audited or signed; sign it when that has ended"):
            sign_run(run, here / "ada")
        ran = command("sign", run, "--key", here / "ada")
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        with keeping(run, "quick", force=False):
            pass  # a second audit may run
    assert not (run / STATEMENT).exists()
    sign_run(run, here / "ada")


def test_nothing_is_audited_while_it_is_signed(here: Path) -> None:
    with (
        held(here / "less", alone=True),
        pytest.raises(OptionError, match="is being signed"),
        keeping(here / "less", "quick", force=False),
    ):
        raise AssertionError("the audit must not begin")


def test_a_killed_audit_holds_nothing(here: Path) -> None:
    run = here / "less"
    child = os.fork()
    if child == 0:
        with keeping(run, "quick", force=False):
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    sign_run(run, here / "ada")
    assert verify_run(run).ok
