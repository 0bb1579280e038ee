"""A method of another package: once installed, it is listed, run and compared like one of ours."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unlabel.audit.inputs.options import AuditOptions
from unlabel.cli.settings import read_settings
from unlabel.compare import cells as cells_module
from unlabel.compare import search as search_module
from unlabel.core.errors import OptionError

METHOD = '''
"""Somebody's way to forget."""

from unlabel.forget.bill import Bill
from unlabel.forget.methods import Method
from unlabel.forget.pipeline import Pipeline, Unlearner
from unlabel.forget.repair import Train, retained_loss


def fade(*, steps: int = 4, lr: float = 0.05, note: str = "") -> Unlearner:
    """Trains on the retained labels.

    Args:
        steps: Optimiser steps, >= 1.
        lr: Peak learning rate, > 0.
        note: A line for the record.
    """
    return Pipeline(repair=Train(retained_loss, steps, lr))


def bill(unlearner, options, budget) -> Bill:
    """Every batch is said to be read twice."""
    return Bill(options["steps"], 2 * options["steps"] * budget.batch_size)


METHOD = Method(
    "any name", "let the label fade", "Doe, 2026", "MODULE:fade", bill="MODULE:bill", ladder=({"lr": 0.1},)
)
'''

FUNCTION = '''
"""The same, shorter: a function and nothing else."""

from unlabel.forget.pipeline import Pipeline


def hide():
    """Hides the label's output.

    And does nothing else.
    """
    return Pipeline()
'''

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package of one module, with an entry point for each method, as pip would; until the end."""
    site, modules = tmp_path / "site", []

    def call(module: str, text: str, **methods: str) -> Path:
        package = site / f"{module}-1.0.dist-info"
        package.mkdir(parents=True)
        (package / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        rows = "".join(f"{name.replace('_', '-')} = {module}:{item}\n" for name, item in methods.items())
        (package / "entry_points.txt").write_text(f"[unlabel.methods]\n{rows}")
        (site / f"{module}.py").write_text(text.replace("MODULE", module))
        modules.append(module)
        monkeypatch.syspath_prepend(site)
        return site

    yield call
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def fade(install: Install) -> Path:
    """A package whose method `fade` names its own bill and its own ladder."""
    return install("doe_fade", METHOD, fade="METHOD")


def test_it_is_listed_with_its_summary_paper_and_options(command, fade: Path) -> None:
    assert "fade               let the label fade\n                   Doe, 2026\n" in command("methods").out
    (row,) = [row for row in json.loads(command("methods", "--json").out) if row["name"] == "fade"]
    assert row["options"] == [
        {"name": "steps", "type": "int", "default": 4},
        {"name": "lr", "type": "float", "default": 0.05},
        {"name": "note", "type": "str", "default": ""},
    ]


def test_a_process_of_its_own_finds_it_on_the_path(fade: Path, tmp_path: Path) -> None:
    """No patch of this test's is in it: only the package, as pip leaves it."""
    path = os.pathsep.join([str(fade), *filter(None, sys.path)])
    ran = subprocess.run(
        [sys.executable, "-m", "unlabel", "forget", "fade", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    for text in ("let the label fade", "--steps", "Peak learning rate, > 0.", "--labels"):
        assert text in ran.stdout


def test_it_forgets_with_its_own_option(command, fade: Path, base: Path, tmp_path: Path) -> None:
    ran = command(
        "forget",
        "fade",
        base,
        "--labels",
        "top",
        "--out",
        "out",
        "--steps",
        3,
        "--images",
        64,
        "--max-loss",
        1,
    )
    assert ran.code == 0, ran.err
    record = json.loads((tmp_path / "out" / "unlabel.json").read_text("utf-8"))
    assert (record["method"], record["steps"]) == ("fade", 3)
    assert record["options"] == {"steps": 3, "lr": 0.05, "note": "", "images": 64, "keep_row": False}
    ran = command("forget", "fade", base, "--labels", "top", "--out", "other", "--step", 3)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)


def test_it_is_compared_by_its_own_bill_and_ladder(
    command, fade: Path, made, tiny: AuditOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A budget of 10 steps and 160 images is 5 steps of a method whose bill counts every batch twice."""
    monkeypatch.setattr(cells_module, "AuditOptions", lambda **_: tiny)
    monkeypatch.setattr(search_module, "AuditOptions", lambda **_: tiny)
    ran = command(
        *("compare", made.base, "--labels", "top", "--methods", "fade,head-removal", "--out", "out"),
        *("--reference", ",".join(map(str, made.references)), "--seeds", 1, "--search", 2),
        *("--batch-size", 16, "--budget-steps", 10, "--images", 64),
    )
    assert ran.code == 0, ran.err
    result = json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))
    assert [row["method"] for row in result["methods"]] == ["fade", "head-removal"]
    (cell,) = [cell for cell in result["cells"] if cell["method"] == "fade"]
    assert cell["options"]["steps"] == 5
    assert [one["setting"] for one in result["search"]["methods"]["fade"]["tries"]] == [{}, {"lr": 0.1}]


def test_a_function_alone_is_a_method(command, install: Install, base: Path) -> None:
    install("doe_hide", FUNCTION, just_hide="hide")
    assert "just-hide          Hides the label's output\n" in command("methods").out
    ran = command("forget", "just-hide", base, "--labels", "top", "--out", "out", "--images", 64)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("just-hide: forgot top; 129 of ")  # the row and its bias


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import no_such_package\n", "(ModuleNotFoundError: No module named 'no_such_package')"),
        ("raise SystemError('line one\\nline two')\n", "(SystemError: line one line two)"),
        ("broken = 3\n", "(doe_broken:broken) is of type int; expected a function"),
        ("", "cannot be loaded from doe_broken:broken"),
    ],
)
def test_a_broken_one_is_one_line_and_harms_no_other_command(
    text: str, says: str, command, install: Install, base: Path
) -> None:
    install("doe_broken", text, bad="broken")
    for words in (("methods",), ("forget", "bad", base, "--labels", "top", "--out", "out")):
        ran = command(*words)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
        assert says in ran.err
        assert "'bad'" in ran.err
    assert command("show", base).code == 0


def test_a_file_of_settings_may_have_its_table(command, fade: Path, base: Path, tmp_path: Path) -> None:
    """As for our methods: how to compute, and own options that are no text."""
    file = tmp_path / "unlabel.toml"
    file.write_text("[forget.fade]\nimages = 32\nsteps = 2\n")
    ran = command("forget", "fade", base, "--labels", "top", "--out", "out", "--max-loss", 1)
    assert ran.code == 0, ran.err
    assert "options read from" in ran.err
    record = json.loads((tmp_path / "out" / "unlabel.json").read_text("utf-8"))
    assert (record["steps"], record["images_used"]) == (2, 32)
    for key in ("note", "force", "max-loss"):
        file.write_text(f"[forget.fade]\n{key} = 1\n")
        with pytest.raises(OptionError, match=rf"sets '{key.replace('-', '_')}' in \[forget.fade\]"):
            read_settings(file)


def test_a_table_of_a_method_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "unlabel.toml").write_text("[forget.fade]\nimages = 64\n")
    with pytest.raises(OptionError, match=r"has a table \[forget.fade\]"):
        read_settings(tmp_path / "unlabel.toml")


def test_options_may_be_annotated_late_and_one_without_a_type_is_typed(
    command, install: Install, base: Path, tmp_path: Path
) -> None:
    """``from __future__ import annotations`` leaves text in a signature; an option without a type is text."""
    text = "from __future__ import annotations\n" + METHOD.replace('note: str = ""', "note=''")
    install("doe_late", text, late="METHOD")
    ran = command("forget", "late", base, "--labels", "top", "--out", "out", "--steps", 2, "--max-loss", 1)
    assert ran.code == 0, ran.err
    assert json.loads((tmp_path / "out" / "unlabel.json").read_text("utf-8"))["steps"] == 2
    (tmp_path / "unlabel.toml").write_text("[forget.late]\nnote = 'x'\n")
    with pytest.raises(OptionError, match=r"sets 'note' in \[forget.late\]"):
        read_settings(tmp_path / "unlabel.toml")
