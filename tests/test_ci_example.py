"""The gate of examples/ci: its commands run on a tiny run, and a model that leaks is stopped."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from unlabel.cli.app import main

EXAMPLES = Path(__file__).parents[1] / "examples"
WORKFLOW = EXAMPLES / "ci" / "unlabel-gate.yml"


def steps() -> Iterator[list[str]]:
    """The words of each command of the workflow."""
    for step in yaml.safe_load(WORKFLOW.read_text("utf-8"))["jobs"]["gate"]["steps"]:
        yield from (shlex.split(line, comments=True) for line in step.get("run", "").splitlines())


@pytest.fixture(scope="module")
def runs(base: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs that the workflow names, for the label "top" of `photos`."""
    folder = tmp_path_factory.mktemp("gate") / "runs"
    shutil.copytree(base, folder / "original")
    remove = ["forget", "head-removal", str(base), "--labels", "top", "--quiet", "--out"]
    main([*remove, str(folder / "forgotten")])
    for seed in (1, 2, 3):
        main([
            *("train", f"folder:{photos}", "--without", "top", "--epochs", "1", "--image-size", "16"),
            *("--quiet", "--seed", str(seed), "--out", str(folder / f"retrained-{seed}")),
        ])  # fmt: skip
    return folder


def test_the_commands_of_the_workflow_run(runs: Path, command) -> None:
    shutil.copytree(runs, "runs")
    commands = [words for words in steps() if words[0] == "unlabel"]
    assert [words[1] for words in commands] == ["audit", "probe", "report"]
    codes = {}
    for words in commands:
        ran = command(
            *(word.replace("Male", "top") for word in words[1:]), *(["--quiet"] * (words[1] != "report"))
        )
        assert ran.code in (0, 3, 4), ran
        codes[words[1]] = ran.code
    assert codes["audit"] in (3, 4)  # a label of an epoch on 48 pictures, and 24 to judge
    assert Path("runs/forgotten/report.html").is_file()


def test_a_model_that_tells_the_label_is_stopped(runs: Path, command) -> None:
    asked = ("probe", runs / "original", "--label", "top", "--quiet", "--fail-above")
    stopped, passed = (command(*asked, limit) for limit in (0.55, 1.0))
    assert (stopped.code, passed.code) == (3, 0), (stopped, passed)
    assert "not met" in stopped.err
    refused = command(*asked, 0.2)
    assert (refused.code, refused.out) == (2, "")


@pytest.mark.slow
def test_the_shell_script_runs(tmp_path: Path) -> None:
    """Four commands in processes of their own: 20 s."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "unlabel"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m unlabel "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    script = EXAMPLES / "ci_gate.sh"
    done = subprocess.run(
        ["sh", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "the gate is open"
