"""``unlabel --install-completion`` writes a script that the shell can read."""

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_knows_commands_methods_and_options(shell: str, command, tmp_path: Path) -> None:
    ran = command("--install-completion", "--shell", shell, "--output", "done")
    assert (ran.code, ran.last) == (0, str(tmp_path / "done"))
    text = (tmp_path / "done").read_text("utf-8")
    for word in ("compare", "weight-filtering", "make-references", "max-loss"):
        assert word in text
    if program := shutil.which(shell):
        subprocess.run([program, "-n", tmp_path / "done"], check=True, timeout=60)


def test_bash_loads_it_from_the_user_s_folder(command, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    ran = command("--install-completion", "--shell", "bash")
    assert ran.code == 0, ran.err
    assert Path(ran.last).is_relative_to(tmp_path / "home")
    assert Path(ran.last).is_file()
    assert ran.last in (tmp_path / "home" / ".bashrc").read_text("utf-8")


def test_an_unknown_shell_is_one_line(command, monkeypatch: pytest.MonkeyPatch) -> None:
    from cyclopts.completion import detect

    def unknown() -> str:
        raise detect.ShellDetectionError

    monkeypatch.setattr(detect, "detect_shell", unknown)
    ran = command("--install-completion")
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert "--shell bash" in ran.err
    ran = command("--install-completion", "--shell", "tcsh")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
