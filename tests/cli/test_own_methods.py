"""Methods of the user's own: ``module:function`` in the current folder; and docs/your-method.md."""

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import unlabel
from unlabel.audit.inputs.options import AuditOptions
from unlabel.cli.settings import read_settings
from unlabel.compare import cells as cells_module
from unlabel.compare.jobs import Job, described
from unlabel.core.errors import MethodError, OptionError
from unlabel.forget.methods import METHODS, as_method
from unlabel.forget.pipeline import Work
from unlabel.testing import World, tiny_world

PAGE = Path(__file__).parents[2] / "docs" / "your-method.md"
TINY = AuditOptions(
    probe_seeds=1, folds=2, epochs=3, trees=3, permutations=2, resamples=10, rare=5, raw_image=False
)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module into the current folder; until the end of the test."""
    modules, path = [], [*sys.path]
    monkeypatch.chdir(tmp_path)

    def call(text: str, module: str = "mymethod") -> Path:
        modules.append(module)
        (tmp_path / f"{module}.py").write_text(text)
        return tmp_path

    yield call
    sys.path[:] = path
    for module in modules:
        sys.modules.pop(module, None)


def code() -> list[str]:
    """The Python blocks of the page, in order."""
    return re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def commands() -> list[list[str]]:
    """The commands of the page, in order, without the name of the program."""
    (block,) = re.findall(r"```console\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return [shlex.split(line)[2:] for line in block.splitlines()]


@pytest.fixture(scope="module")
def world() -> World:
    """A network that knows top, middle and bottom."""
    return tiny_world()


@pytest.mark.slow
def test_the_page_leads_from_an_empty_folder_to_a_table(
    command, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands and its code as they stand, with smaller audits. About 8 seconds."""
    monkeypatch.setattr(cells_module, "AuditOptions", lambda **_: TINY)
    method, *others = code()
    assert len([line for line in method.splitlines() if line.strip()]) <= 24
    folder = write(method)
    for words in commands():
        ran = command(*words)
        assert ran.code == 0, ran.err
        if words[0] == "methods":
            assert ran.out.startswith("mymethod:forget_by_noise Add noise to every weight")
    record = json.loads((folder / "unlearned" / "unlabel.json").read_text("utf-8"))
    assert (record["method"], record["options"]["scale"]) == ("mymethod:forget_by_noise", 0.5)
    table = json.loads((folder / "table" / "compare.json").read_text("utf-8"))
    assert [row["method"] for row in table["methods"]] == ["mymethod:forget_by_noise", "confusion"]
    assert "mymethod:forget_by_noise" in (folder / "table" / "compare.html").read_text("utf-8")
    monkeypatch.syspath_prepend(folder)
    names: dict[str, Any] = {}
    for text in others:
        exec(text, names)
    assert names["outcome"].options["scale"] == 0.5
    assert names["NOISE"].settings(3) == [{}, {"scale": 0.1}, {"scale": 1.0}]


def test_its_options_are_flags_with_their_help(command, write: Write) -> None:
    write(code()[0])
    ran = command("forget", "mymethod:forget_by_noise", "--help")
    assert ran.code == 0
    for text in ("Add noise to every weight", "--scale", "in standard deviations", "--labels", "--steps"):
        assert text in " ".join(ran.out.split())
    (row,) = json.loads(command("methods", "mymethod:forget_by_noise", "--json").out)
    assert row["options"][0] == {"name": "scale", "type": "float", "default": 0.3}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import no_such_package\n", "raised ModuleNotFoundError: No module named 'no_such_package'"),
        ("", "'forget' is not there in the module 'mymethod'"),
        ("forget = 3\n", "'forget' is no function"),
        ("def forgett(): ...\n", "Close: forgett"),
        ("def forget(steps): ...\n", "has the parameter 'steps'; expected keyword-only options"),
        ("def forget(*, steps): ...\n", "each with a default"),
        ("def forget(*, steps=1): ...\n", "returned NoneType; expected an unlearner"),
        (
            "def forget():\n    return lambda *given: given[0]\n",
            "returned Sequential; expected unlabel.forget",
        ),
    ],
)
def test_a_faulty_one_is_one_line(text: str, says: str, command, write: Write, base: Path) -> None:
    write(text)
    ran = command("forget", "mymethod:forget", base, "--labels", "top", "--out", "out", "--images", 48)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert says in ran.err


def test_a_module_that_is_not_there_is_one_line(command, write: Write, base: Path) -> None:
    for words in (
        ("methods", "gone:forget"),
        ("forget", "gone:forget", base, "--labels", "top", "--out", "o"),
    ):
        ran = command(*words)
        assert (ran.code, len(ran.err.splitlines())) == (2, 1)
        assert "no Python module 'gone' in" in ran.err


BOOM = "raise SystemError('imported')\n"


def test_neither_a_run_nor_a_file_of_settings_has_one_imported(
    command, write: Write, base: Path, tmp_path: Path
) -> None:
    """Only its user's words do: the trust rule of networks."""
    write(BOOM)
    ran = command("forget", "head-removal", base, "--labels", "top", "--out", "out", "--images", 48)
    assert ran.code == 0, ran.err
    file = tmp_path / "out" / "unlabel.json"
    record = json.loads(file.read_text("utf-8")) | {"method": "mymethod:f", "requested_method": "mymethod:f"}
    file.write_text(json.dumps(record))
    assert "mymethod:f" in command("show", "out").out
    for words in (("audit", "out", "--plan", "--before", base), ("inspect", "out")):
        assert "imported" not in command(*words).err
    (tmp_path / "unlabel.toml").write_text('[forget."mymethod:f"]\nsteps = 3\n')
    with pytest.raises(OptionError, match=r"has a table \[forget.mymethod:f\]"):
        read_settings(tmp_path / "unlabel.toml")
    ran = command("show", "out")
    assert "imported" not in ran.err
    assert "mymethod" not in sys.modules


def test_an_edited_method_is_another_job(write: Write) -> None:
    """So that a comparison does not show what an earlier version of the file did."""
    write("def forget():\n    return lambda *given: None\n")
    first = described(Job("mymethod:forget"))
    assert first == described(Job("mymethod:forget"))
    write("def forget():\n    return lambda *given: 1\n")
    assert described(Job("mymethod:forget"))["method_code"] != first["method_code"]
    assert "method_code" not in described(Job("ssd"))


def hide(*, times: int = 1):
    """Return a copy of the model."""
    import copy

    return lambda model, request, data, run: Work(copy.deepcopy(model))


def test_in_python_a_method_may_be_the_function_itself(world: World) -> None:
    outcome = unlabel.forget_labels(world.model, "top", world.data, hide, times=2)
    assert (outcome.method, outcome.options) == ("hide", {"times": 2})
    assert as_method(METHODS["retrain"]) is METHODS["retrain"]
    with pytest.raises(OptionError, match=r"'hide' has no option 'time'; .* Close: times"):
        unlabel.forget_labels(world.model, "top", world.data, hide, time=2)
    with pytest.raises(MethodError, match="returned tuple; expected an unlearner"):
        unlabel.forget_labels(world.model, "top", world.data, lambda: (1, 2))
