"""``--track tensorboard``: a row a step, with a TensorBoard that is made up; and none without the package."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from unlabel.core.install import install_command

Rows = list[tuple[str, str, float, int]]


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Rows:
    """What was written: folder, tag, value, step."""
    rows: Rows = []

    class Writer:
        def __init__(self, log_dir: str) -> None:
            self.folder = log_dir

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            rows.append((self.folder, tag, value, step))

        def flush(self) -> None: ...

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return rows


def logged(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]


def test_curves_are_the_rows_of_the_log(board: Rows, command, photos: Path, tmp_path: Path) -> None:
    words = ("--epochs", 3, "--image-size", 16, "--batch-size", 16, "--quiet")
    ran = command("train", f"folder:{photos}", "--out", "runs/base", "--track", "tensorboard", *words)
    assert (ran.code, ran.err) == (0, "curves: tensorboard --logdir tensorboard\n")
    rows = logged(tmp_path / "runs" / "base")
    assert len(rows) == 9
    for name in ("loss", "lr"):
        expected = [("tensorboard/base", f"train/{name}", row[name], row["step"]) for row in rows]
        assert [row for row in board if row[1] == f"train/{name}"] == expected
    board.clear()
    words = ("--labels", "top", "--images", 48, "--max-loss", 1, "--steps", 3)
    ran = command("forget", "fine-tune", "runs/base", "--out", "less", "--track", "tensorboard:a/b", *words)
    assert ran.code == 0, ran.err
    assert {row[0] for row in board} == {"a/b/less"}
    assert [row[3] for row in board if row[1].endswith("loss")] == [1, 2, 3]
    assert "track" not in json.loads((tmp_path / "less" / "unlabel.json").read_text("utf-8"))["options"]


def test_without_it_nothing_is_written(board: Rows, command, photos: Path) -> None:
    words = ("--epochs", 1, "--image-size", 16, "--quiet")
    assert command("train", f"folder:{photos}", "--out", "base", *words).code == 0
    assert board == []


@pytest.mark.parametrize("asked", ["wandb", "tensorboard:", ""])
def test_another_word_is_refused_before_any_work(asked: str, board: Rows, command, photos: Path) -> None:
    ran = command("train", f"folder:{photos}", "--out", "base", "--track", asked)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "expected tensorboard, or tensorboard:DIR" in ran.err


def test_a_missing_package_is_named_with_how_to_install_it(command, photos: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    ran = command("train", f"folder:{photos}", "--out", "base", "--track", "tensorboard")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert install_command("tensorboard") in ran.err
