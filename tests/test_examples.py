"""Every script of examples/ runs as it stands, in an empty folder, with small audits and short trainings."""

import runpy
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import unlabel
from unlabel.forget.methods import auto

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL: dict[str, Any] = {
    "probe_seeds": 1, "folds": 2, "epochs": 3, "trees": 3, "permutations": 2, "resamples": 10, "rare": 5,
    "raw_image": False,
}  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder to run in, where audits from Python are small and `auto` trains briefly."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(unlabel, "audit_model", partial(unlabel.audit_model, **SMALL))
    monkeypatch.setattr(unlabel, "AuditOptions", partial(unlabel.AuditOptions, **SMALL))
    monkeypatch.setattr(auto, "PASSES", 0.25)
    monkeypatch.setattr(auto, "SHARE", 0.0)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_a_script_runs(script: Path, small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Up to 10 seconds each."""
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out
