"""The documentation's links, commands and words."""

import ast
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from unlabel.cli.app import app, forget_app
from unlabel.forget.methods import METHODS

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).resolve().exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_command_of_a_page_is_one_that_the_program_has(page: Path) -> None:
    blocks = re.findall(r"```(?:console|sh|bash)\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    lines = [
        line.removeprefix("$ ")
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
        if line.removeprefix("$ ").startswith("unlabel ")
    ]
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        if words[0].startswith("-"):
            continue
        assert words[0] in app, f"{page.name}: {line}"
        target = app
        if words[0] == "forget" and not words[1].startswith("-"):
            assert words[1] in METHODS, f"{page.name}: {line}"
            target, words = forget_app, words[1:]
        flags = {word.split("=")[0] for word in words if word.startswith("--")} - {"--help", "--version"}
        known = {
            name for argument in target[words[0]].assemble_argument_collection() for name in argument.names
        }
        assert flags <= known, f"{page.name}: {sorted(flags - known)} in: {line}"


def test_the_table_of_methods_is_that_of_the_catalogue() -> None:
    lines = (ROOT / "docs" / "methods.md").read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    assert [row[0].strip("`") for row in rows] == list(METHODS)
    for name, idea, differs, sees, when in rows:
        method = METHODS[name.strip("`")]
        if method.alias_of is None:
            assert idea == method.summary
            assert ("all training images" in sees) == (method.data == "train")
            assert sees.endswith("rows") == method.rows
        assert differs
        assert when
    described = "\n".join(lines[: next(at for at, line in enumerate(lines) if line.startswith("| name"))])
    assert {name for name in METHODS if f"`{name}`" not in described} <= {"auto"}


@pytest.mark.parametrize("path", [*PAGES, *SOURCES], ids=names([*PAGES, *SOURCES]))
def test_no_page_or_source_names_this_machine_or_promises_too_much(path: Path) -> None:
    text = path.read_text("utf-8")
    assert "/work" + "/" not in text
    promises = re.findall(r"(?<!Never )\b(?:is|are|was) (?:certified|compliant)\b", text, re.IGNORECASE)
    assert not promises


@pytest.mark.parametrize("path", SOURCES, ids=names(SOURCES))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    text = path.read_text("utf-8")
    assert ast.get_docstring(ast.parse(text))


def test_the_project_says_it_is_apache_licensed() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")


def test_no_file_that_git_tracks_is_large() -> None:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    tracked = [ROOT / name for name in done.stdout.split("\0") if name]
    assert [file.name for file in tracked if file.exists() and file.stat().st_size > 1_000_000] == []
