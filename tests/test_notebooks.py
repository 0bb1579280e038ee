"""The notebooks of examples/: their code runs in plain Python, and their stored outputs are clean."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import unlabel
from unlabel.forget.methods import auto

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
SMALL: dict[str, Any] = {
    "probe_seeds": 1, "folds": 2, "epochs": 3, "trees": 3, "permutations": 2, "resamples": 10, "rare": 5,
    "raw_image": False,
}  # fmt: skip

each = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda path: path.stem)


def cells(file: Path, kind: str = "code") -> list[dict[str, Any]]:
    """The cells of one kind, in order."""
    return [cell for cell in json.loads(file.read_text("utf-8"))["cells"] if cell["cell_type"] == kind]


@pytest.mark.slow
@each
def test_its_code_runs_in_plain_python(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """About 10 seconds each, with small audits and short trainings of `auto`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(unlabel, "audit_model", partial(unlabel.audit_model, **SMALL))
    monkeypatch.setattr(auto, "PASSES", 0.25)
    monkeypatch.setattr(auto, "SHARE", 0.0)
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells(file)):
        exec(compile("".join(cell["source"]), f"{file.stem}, cell {number}", "exec"), names)
    assert "audit" in names or "audits" in names


def test_there_are_two() -> None:
    assert [file.stem for file in NOTEBOOKS] == ["compare_methods", "own_model_in_five_minutes"]


@each
def test_its_outputs_are_stored_in_order_and_name_no_error_and_no_folder(file: Path) -> None:
    code = cells(file)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    text = json.dumps(outputs)
    assert "Audit of Disc" in text
    assert not re.search(r"(/home|/root|/work|/tmp|/Users)/|Traceback|Warning", text)
    assert file.stat().st_size < 50_000


@each
def test_no_sentence_of_it_is_long(file: Path) -> None:
    text = "\n\n".join("".join(cell["source"]) for cell in cells(file, "markdown"))
    plain = re.sub(r"`[^`]*`", "code", text)
    sentences = [part for block in plain.split("\n") for part in re.split(r"(?<=[.!?:;])\s+", block)]
    assert [part for part in sentences if len(part.split()) > 25] == []


def test_the_first_is_the_script_beside_it() -> None:
    """Its functions are those of own_model.py: one is not changed without the other."""
    script = (EXAMPLES / "own_model.py").read_text("utf-8")
    text = "\n".join("".join(cell["source"]) for cell in cells(EXAMPLES / "own_model_in_five_minutes.ipynb"))
    for name in ("loader", "network", "train"):
        (body,) = re.findall(rf"^def {name}\(.*?(?=\n\n\n)", script, re.DOTALL | re.MULTILINE)
        assert body in text
