"""The documentation: its links, commands and words, and that it can be built."""

import ast
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cyclopts import App

import unlabel
from unlabel.audit.claims.gate import FAILED, OPEN
from unlabel.cli.app import build_app
from unlabel.cli.output import BROKEN_PIPE
from unlabel.forget.methods import METHODS

app = build_app(METHODS)
forget_app = app["forget"]
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
OPTIONS = DOCS / "options.md"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
PLAIN = [
    page
    for page in PAGES
    if page.parent in (ROOT, DOCS) and page.name not in ("theorems.md", "options.md", "figures.md")
]
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
DEMO_NETWORKS = ("original", "retrained-1", "retrained-2", "retrained-3")
LONGEST = 25
"""Words of a sentence. A table's cell ends one as well. A colon or a semicolon does not."""


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL), re.M
    )
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).lower() for text in headings]
    return {re.sub(r"[^\w -]", "", text).strip().replace(" ", "-") for text in plain}


def flags(command: App) -> set[str]:
    found = {name for argument in command.assemble_argument_collection() for name in argument.names}
    return {name for name in found if name.startswith("--")}


def own_commands(of: App) -> list[str]:
    return [name for name in of if not name.startswith("-")]


def sentences(text: str) -> Iterator[str]:
    """The sentences of a page of Markdown: no code, links by their words, each cell of a table by itself."""
    text = re.sub(r"```.*?```|^ {4}.*$|!\[[^\]]*\]\([^)]*\)", "\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`]*`", "code", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text))
    text = re.sub(r"^(#.*)$", r"\1\n", text, flags=re.MULTILINE)
    for block in re.split(r"\n\s*\n|\n(?=\s*[-*|#] ?|\s*\d+\. )", text):
        for cell in block.split("|") if block.strip().startswith("|") else [block]:
            yield from re.split(r"(?<=[.!?])[*\"')]*\s+", " ".join(cell.split()))


def run_mkdocs(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Builds with a proxy that nobody answers, so that a download fails.

    Not under --quiet, which hides warnings from ``strict`` as well.
    """
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {**os.environ, **nowhere, "no_proxy": "", "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", config, "--site-dir", site]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def loaded(html: str) -> list[str]:
    """Addresses elsewhere that a browser asks for when it opens this page or style sheet."""
    tags = re.findall(r"<(?:script|img|iframe|source)\b[^>]*?\bsrc=[\"']?((?:https?:)?//[^\"'\s>]+)", html)
    links = [
        re.sub(r".*?\bhref=[\"']?([^\"'\s>]*).*", r"\1", tag, flags=re.DOTALL)
        for tag in re.findall(r"<link\b[^>]*>", html)
        if not re.search(r"rel=[\"']?(?:canonical|prev|next)", tag)
    ]
    styles = re.findall(r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"')\s]+)", html)
    return [*tags, *(link for link in links if "//" in link), *styles]


def test_the_manual_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = run_mkdocs(ROOT / "mkdocs.yml", tmp_path / "site")
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr
    files = [path for path in (tmp_path / "site").rglob("*") if path.suffix in (".html", ".css")]
    assert len([path for path in files if path.suffix == ".html"]) >= len(list(DOCS.rglob("*.md")))
    assert {path.name: found for path in files if (found := loaded(path.read_text("utf-8")))} == {}
    python = (tmp_path / "site" / "api.html").read_text("utf-8")
    assert [name for name in unlabel.__all__ if name not in python] == []


def test_a_font_from_elsewhere_would_be_noticed() -> None:
    assert loaded('<link rel="stylesheet" href="https://fonts.example/a.css">') == [
        "https://fonts.example/a.css"
    ]
    assert loaded("<script src=//cdn.example/x.js></script>") == ["//cdn.example/x.js"]
    assert loaded("a { background: url(https://cdn.example/x.png) }") == ["https://cdn.example/x.png"]
    assert loaded('<a href="https://example.org">words</a> <script src="assets/x.js"></script>') == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[gone](gone.md)", "'gone.md', but the target is not found"),
        ("[here](#nowhere)", "'#nowhere', but there is no such anchor"),
        ("", 'not included in the "nav"'),
    ],
    ids=["link", "anchor", "menu"],
)
def test_a_fault_of_a_page_stops_the_build(text: str, fault: str, tmp_path: Path) -> None:
    pages = tmp_path / "docs"
    pages.mkdir()
    (pages / "index.md").write_text(f"# Title\n\n{text}\n")
    (pages / "other.md").write_text("# Other\n")
    menu = ["index.md", "other.md"] if text else ["index.md"]
    config = {"INHERIT": str(ROOT / "mkdocs.yml"), "docs_dir": str(pages), "nav": menu, "plugins": []}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config))
    done = run_mkdocs(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 1
    assert fault in done.stderr


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_anchor_of_a_page_is_a_heading(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text("utf-8"))
    inside = [(link, anchor) for link, anchor in links if "://" not in link]
    if page != OPTIONS:
        assert [
            (link, anchor)
            for link, anchor in inside
            if anchor not in anchors(page.parent / link if link else page)
        ] == []


def test_the_table_of_commands_is_that_of_the_program() -> None:
    text = (DOCS / "cli.md").read_text("utf-8")
    table = text.split("| command |")[1].split("\n\n")[0]
    assert sorted(re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE)) == sorted(own_commands(app))
    codes = text.split("| exit code |")[1]
    numbers = re.findall(r"^\| (\d+) ", codes, re.MULTILINE)
    assert numbers == ["0", "1", "2", "3", "4", "130", "141"]
    assert str(BROKEN_PIPE) in numbers
    assert {str(FAILED), str(OPEN)} <= set(numbers)


def test_the_settings_shown_are_options_of_the_commands() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", (DOCS / "cli.md").read_text("utf-8"), re.DOTALL)
    settings = tomllib.loads(block)
    (method,) = settings["forget"]
    assert {f"--{key}" for key in settings["train"]} <= flags(app["train"])
    assert {f"--{key}" for key in settings["forget"][method]} <= flags(forget_app[method])


@pytest.mark.parametrize(
    ("title", "command"),
    [(name, app[name]) for name in own_commands(app) if name != "forget"]
    + [(f"forget {name}", forget_app[name]) for name in own_commands(forget_app)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_options_listed_are_those_of_the_program(title: str, command: App) -> None:
    parts = re.split(r"^#+ unlabel +(.*)$", OPTIONS.read_text("utf-8"), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert title in sections, f"docs/options.md does not list {title}; write it anew: make docs"
    section = " ".join(sections[title].split())
    listed = set(re.findall(r"--[\w-]+", " ".join(re.findall(r"\* `([^`]*)`:", section))))
    assert listed == flags(command) - {"--help", "--version"}, "write docs/options.md anew: make docs"
    said = [argument.parameter.help or "" for argument in command.assemble_argument_collection()]
    missing = [words for words in said if " ".join(words.split()) not in section]
    assert missing == [], "write docs/options.md anew: make docs"


def snippet(page: Path) -> str:
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)[0]


def test_the_readme_is_short_and_its_program_is_that_of_the_python_pages() -> None:
    text = README.read_text("utf-8")
    assert len(text.splitlines()) < 120
    assert snippet(README) == snippet(DOCS / "api.md") == snippet(DOCS / "python.md")
    targets = re.findall(r"^\$ make (\w+)", text, re.MULTILINE)
    assert targets == ["demo", "test"]
    assert {f"{target}:" for target in targets} <= set((ROOT / "Makefile").read_text("utf-8").split())
    assert len(re.findall(r"^!\[", text, re.MULTILINE)) == 1


def test_the_names_of_the_readme_s_program_are_public() -> None:
    used = set(re.findall(r"unlabel\.(\w+)\(", snippet(README)))
    assert used
    assert used <= set(unlabel.__all__)


def glossary() -> dict[str, str]:
    rows = re.findall(r"^\| ([^|]+) \| (.+) \|$", (DOCS / "glossary.md").read_text("utf-8"), re.MULTILINE)
    return {word.strip("` "): meaning for word, meaning in rows}


def test_the_glossary_has_one_row_for_each_idea() -> None:
    words = glossary()
    assert {
        *(
            "label",
            "forgotten label",
            "retained labels",
            "probe",
            "attack",
            "original",
            "unlearned",
            "retrained",
        ),
        *(
            "train split",
            "probe split, P",
            "test split, E",
            "canary",
            "advantage",
            "bits",
            "calibration images",
        ),
        *("headline", "margin", "provisional", "budget of an audit", "PASS", "FAIL", "INCONCLUSIVE"),
        *("NOT_EVALUATED", "INVALID AUDIT", "leak", "recover", "reference", "run", "decoy", "excess"),
    } <= set(words)
    claims = ("disabled", "retrain-equivalent", "erased", "durable", "useful", "unmemorised")
    for number, name in enumerate(claims, 1):
        assert words[f"C{number}"].startswith(f"{name} |")
        assert f"| C{number} | {name} |" in README.read_text("utf-8")


def long(page: Path) -> list[str]:
    """The sentences with more than `LONGEST` words."""
    return [
        text
        for text in sentences(page.read_text("utf-8"))
        if len([word for word in text.split() if re.search(r"\w", word)]) > LONGEST
    ]


@pytest.mark.parametrize("page", PLAIN, ids=names(PLAIN))
def test_no_sentence_of_the_manual_is_long(page: Path) -> None:
    assert long(page) == []


def test_a_long_sentence_would_be_noticed() -> None:
    words = "word " * 20
    assert [len(text.split()) for text in sentences(f"{words}: {words}; end.")] == [43]
    assert max(len(text.split()) for text in sentences(f"# Title\n{words}\n{words}end. Next.\n")) == 41
    assert (
        max(len(text.split()) for text in sentences(f"# Title\n{words}.\n\n- {words}\n| a | {words} |")) < 23
    )


def test_the_citation_names_the_version_the_licence_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    (paper,) = citation["references"]
    assert paper["doi"] == "10.1007/978-3-032-06096-9_16"
    assert [author["family-names"] for author in paper["authors"]] == ["Hossain", "Marasco", "Lin", "King"]


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).resolve().exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_command_of_a_page_is_one_that_the_program_has(page: Path) -> None:
    blocks = re.findall(r"```(?:console|sh|bash)\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    if page == OPTIONS:  # it shows how each command is used; its own test compares it with the program
        blocks = []
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
        target = app
        assert words[0] in target, f"{page.name}: {line}"
        if words[0] == "forget" and ":" in words[1]:
            continue  # a method of one's own, with its own flags: tests/cli/test_own_methods.py runs it
        if words[0] == "forget" and not words[1].startswith("-"):
            assert words[1] in METHODS, f"{page.name}: {line}"
            target, words = forget_app, words[1:]
        used = {word.split("=")[0] for word in words if word.startswith("--")} - {"--help", "--version"}
        known = flags(target[words[0]])
        assert used <= known, f"{page.name}: {sorted(used - known)} in: {line}"


CITED = {*PAGES, *SOURCES}
PLACEHOLDERS = {"NAME.md", "readme.md"}  # the second is a name that is compared in small letters


def test_every_document_that_a_text_cites_is_there() -> None:
    there = {page.name for page in PAGES}
    for text in CITED:
        found = {Path(name).name for name in re.findall(r"[\w./-]*\w\.md\b", text.read_text("utf-8"))}
        assert found <= there | PLACEHOLDERS, f"{text.relative_to(ROOT)}: {sorted(found - there)}"


def is_there(name: str) -> bool:
    """Whether a dotted name is a module of the package or something in one."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("page", CURRENT, ids=names(CURRENT))
def test_every_name_of_the_package_in_a_page_is_there(page: Path) -> None:
    names = set(re.findall(r"(?<![\w./:-])unlabel(?:\.\w+)+", page.read_text("utf-8")))
    files = {name for name in names if name.split(".")[1] in ("toml", "json")}
    assert [name for name in sorted(names - files) if not is_there(name)] == []


def test_a_name_that_is_gone_would_be_noticed() -> None:
    assert is_there("unlabel.audit.figures.FIGURES")
    assert not is_there("unlabel.workflow.train_run")
    assert not is_there("unlabel.audit.gone")


def test_the_quick_tests_name_files_of_every_room() -> None:
    listed = re.search(
        r"^QUICK := \$\(addprefix tests/,(.*?)\)$", (ROOT / "Makefile").read_text(), re.M | re.S
    )
    assert listed
    files = listed[1].replace("\\\n", " ").split()
    assert [name for name in files if not (ROOT / "tests" / name).is_file()] == []
    rooms = {path.parent.name for path in (ROOT / "src" / "unlabel").glob("*/__init__.py")}
    text = "\n".join((ROOT / "tests" / name).read_text("utf-8") for name in files)
    assert [room for room in rooms if not re.search(rf"\bunlabel\.{room}\b", text)] == []


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


def test_the_python_api_can_be_listed() -> None:
    assert {*unlabel.__all__} <= {*dir(unlabel)}
    assert {*unlabel._HOME} < {*unlabel.__all__}
    assert all(getattr(unlabel, name) is not None for name in dir(unlabel))


@pytest.mark.parametrize("path", SOURCES, ids=names(SOURCES))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


def test_the_project_says_it_is_apache_licensed() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")


def test_no_file_that_git_tracks_is_large() -> None:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    tracked = [ROOT / name for name in done.stdout.split("\0") if name]
    large = {file for file in tracked if file.exists() and file.stat().st_size > 1_000_000}
    networks = ROOT / "src" / "unlabel" / "cli" / "demo_networks"  # tests/cli/test_demo.py bounds them
    assert large == {networks / name / "model.safetensors" for name in DEMO_NETWORKS}
