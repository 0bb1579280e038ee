"""A run folder may come from anywhere: whatever its JSON files hold is used or refused in one line."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unlabel.audit.run.folders import audit_run
from unlabel.core import engine
from unlabel.core.errors import ModelError, UnlabelError
from unlabel.core.files import RECORD
from unlabel.forget.run import forget_run
from unlabel.report.page import write_report
from unlabel.runs.config import Config
from unlabel.runs.files import CONFIG, read_config, read_record
from unlabel.runs.folder import load_run

DEEP = "[" * 100_000 + "]" * 100_000
NESTED: Any = {}
for _ in range(200):
    NESTED = {"a": NESTED}


@pytest.fixture
def run(base: Path, tmp_path: Path) -> Path:
    """A run that a test may damage."""
    return Path(shutil.copytree(base, tmp_path / "run"))


def rewrite(file: Path, change: Callable[[dict[str, Any]], object] | dict[str, Any] | str) -> None:
    if isinstance(change, str):
        file.write_text(change, "utf-8")
        return
    value = json.loads(file.read_text("utf-8"))
    value.update(change) if isinstance(change, dict) else change(value)
    file.write_text(json.dumps(value), "utf-8")


def labels(*names: str) -> dict[str, Any]:
    return {"labels": list(names), "thresholds": [0.5] * len(names)}


CONFIGS: dict[str, Any] = {
    "image_size -5": {"image_size": -5},
    "image_size 0": {"image_size": 0},
    "image_size a billion": {"image_size": 10**9},
    "image_size of 400 digits": {"image_size": 10**400},
    "image_size a fraction": {"image_size": 16.5},
    "image_size true": {"image_size": True},
    "image_size text": {"image_size": "16"},
    "image_size missing": lambda value: value.pop("image_size"),
    "thresholds NaN": {"thresholds": [float("nan")] * 3},
    "thresholds infinite": {"thresholds": [float("inf")] * 3},
    "thresholds out of range": {"thresholds": [-1, 2, 0.5]},
    "thresholds text": {"thresholds": "0.5"},
    "thresholds null": {"thresholds": None},
    "activation unknown": {"activation": "relu"},
    "activation null": {"activation": None},
    "activation an object": {"activation": {"a": 1}},
    "100,000 labels": labels(*map(str, range(100_000))),
    "no label": labels(),
    "labels text": {"labels": "abc"},
    "labels an object": {"labels": {"top": 1, "middle": 2, "bottom": 3}},
    "labels numbers": {"labels": [1, 2, 3]},
    "labels nested": {"labels": [["top"], ["middle"], ["bottom"]]},
    "labels null": {"labels": None},
    "a label twice": labels("top", "top", "bottom"),
    "a label without a name": labels("", "middle", "bottom"),
    "a label of a million letters": labels("a" * 10**6, "middle", "bottom"),
    "a label that clears the screen": labels("\x1b[2J", "middle", "bottom"),
    "a label with a line break": labels("top\nunlabel: fine", "middle", "bottom"),
    "a label with a C1 control": labels("\x9b31m", "middle", "bottom"),
    "a label read backwards": labels("\u202egnp.exe", "middle", "bottom"),
    "a label that is half a character": labels("\ud800", "middle", "bottom"),
    "a label with a null": labels("a\0b", "middle", "bottom"),
    "all labels forgotten": {"forgotten": ["top", "middle", "bottom"]},
    "forgotten twice": {"forgotten": ["top", "top"]},
    "forgotten a number": {"forgotten": 1},
    "mean of NaN": {"mean": [float("nan"), 0, 0]},
    "mean too large for a float": {"mean": [10**400, 0, 0]},
    "mean text": {"mean": "abc"},
    "std of zero": {"std": [0, 1, 1]},
    "std negative": {"std": [-1, 1, 1]},
    "std of four": {"std": [1, 1, 1, 1]},
    "network with a line break": {"network": "small\nlarge"},
    "network a list": {"network": ["small"]},
    "stem a number": {"stem": 7},
    "nested 200 deep": NESTED,
    "nested 100,000 deep": DEEP,
    "a number of 10,000 digits": f'{{"image_size": {"9" * 10_000}}}',
    "not a number": '{"image_size": NaN}',
    "beyond a float": '{"image_size": 1e999}',
    "a list": "[]",
    "empty": "",
    "null": "null",
}


def check_line(error: BaseException) -> None:
    text = str(error)
    assert "\n" not in text
    assert len(text) < 1000
    assert not any(ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 for letter in text), repr(text)


@pytest.mark.parametrize("what", CONFIGS)
def test_a_hostile_config_is_refused_in_one_line(what: str, run: Path) -> None:
    rewrite(run / CONFIG, CONFIGS[what])
    for read in (read_config, load_run):
        with pytest.raises(
            ModelError, match=r"config\.json is (damaged|not JSON)|holds no JSON object"
        ) as found:
            read(run)
        check_line(found.value)


RECORDS: dict[str, Any] = {
    "data text": {"data": "folder:photos"},
    "data a list": {"data": [1]},
    "source a number": lambda value: value["data"].update(source=7),
    "facts a list": lambda value: value["data"].update(facts=[1]),
    "digest an object": lambda value: value["data"].update(digest={"a": 1}),
    "blueprint text": {"blueprint": "small"},
    "blueprint without a recipe": lambda value: value["blueprint"].pop("recipe"),
    "blueprint without a batch size": lambda value: value["blueprint"].pop("batch_size"),
    "a batch of a billion": lambda value: value["blueprint"].update(batch_size=10**9),
    "a batch of none": lambda value: value["blueprint"].update(batch_size=0),
    "a recipe with another key": lambda value: value["blueprint"]["recipe"].update(evil=1),
    "a recipe of text": lambda value: value["blueprint"]["recipe"].update(epochs="ten"),
    "an endless recipe": lambda value: value["blueprint"]["recipe"].update(epochs=10**400),
    "parent text": {"parent": "/etc"},
    "parent's run a list": {"parent": {"run": ["a"]}},
    "adopted text": {"adopted": "weights.pt"},
    "adopted's names numbers": {"adopted": {"filled": [1, 2]}},
    "seed text": {"seed": "0"},
    "seconds a number": {"seconds": 5},
    "seconds of text": {"seconds": {"total": "long"}},
    "seconds of 400 digits": {"seconds": {"total": 10**400}},
    "labels a number": {"labels": 5},
    "labels nested": {"labels": [["top"]]},
    "a method without labels": lambda value: (value.pop("labels"), value.update(method="confusion")),
    "rows counted in words": {"rows": {"count": "many"}},
    "method an object": {"method": {}},
    "nested 200 deep": {"options": NESTED},
    "nested 100,000 deep": DEEP,
}


@pytest.mark.parametrize("what", RECORDS)
def test_a_hostile_record_is_refused_in_one_line(what: str, run: Path) -> None:
    rewrite(run / RECORD, RECORDS[what])
    for read in (read_record, load_run):
        with pytest.raises(ModelError, match=r"unlabel\.json is (damaged|not JSON)") as found:
            read(run)
        check_line(found.value)


COMMANDS = [
    ["show", "run"],
    ["show", "run", "--json"],
    ["predict", "run", "{photos}/images/00000.png"],
    ["forget", "retrain", "run", "--labels", "top", "--out", "less", "--quiet"],
    ["audit", "run", "--before", "{base}", "--quiet"],
    ["audit", "{base}", "--before", "run", "--quiet"],
    ["export", "run", "--to", "state-dict"],
    ["probe", "run", "--label", "top", "--quiet"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: " ".join(arguments[:2]))
@pytest.mark.parametrize(
    ("file", "what"),
    [
        (CONFIG, "image_size a billion"),
        (CONFIG, "thresholds NaN"),
        (CONFIG, "100,000 labels"),
        (CONFIG, "a label that clears the screen"),
        (CONFIG, "nested 100,000 deep"),
        (RECORD, "data text"),
        (RECORD, "blueprint text"),
        (RECORD, "nested 200 deep"),
    ],
)
def test_every_command_that_reads_a_run_says_so(arguments, file, what, command, run, base, photos) -> None:
    rewrite(run / file, (CONFIGS if file == CONFIG else RECORDS)[what])
    ran = command(*(part.format(base=base, photos=photos) for part in arguments))
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert ran.err.startswith("unlabel: ")
    assert file in ran.err


def test_what_is_wrong_with_a_config_is_found_before_a_training(
    command, photos: Path, tmp_path: Path
) -> None:
    """And not when the run is to be read again."""
    copy = Path(shutil.copytree(photos, tmp_path / "photos"))
    table = copy / "attributes.csv"
    table.write_text(table.read_text().replace("top", "t\x1b[2Jp", 1))
    ran = command("train", f"folder:{copy}", "--out", "out", "--epochs", 1, "--image-size", 16, "--quiet")
    assert ran.code == 2
    assert "\x1b" not in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "Müller & Söhne", "年齢", "نیم‌فاصله", "👩‍🔬", "a'b\"c"]
)
def test_names_in_any_script_are_names(name: str) -> None:
    config = Config("small", "imagenet", (name, "other"), (), 16, (0, 0, 0), (1, 1, 1), (0.5, 0.5))
    assert config.labels[0] == name


def test_a_record_steers_no_terminal(command, run: Path) -> None:
    hostile = "\x1b]0;owned\x07 \x9b31m \u202e\r"
    rewrite(run / RECORD, {"command": hostile, "options": {hostile: hostile}})
    for flags in ([], ["--json"]):
        ran = command("show", run, *flags)
        assert ran.code == 0
        assert not set("\x1b\x07\x9b\u202e\r") & set(ran.out)
    assert r"\x1b]0;owned" in command("show", run).out


def test_a_name_that_is_not_utf8_is_shown_with_escapes(command, run: Path) -> None:
    rewrite(run / RECORD, {"command": "unlabel train folder:caf\udce9"})
    ran = command("show", run)
    assert ran.code == 0
    assert r"folder:caf\udce9" in ran.out


def test_a_larger_json_file_than_any_run_has_is_not_read(run: Path) -> None:
    with (run / RECORD).open("ab") as file:
        os.truncate(file.fileno(), 10**9)
    with pytest.raises(ModelError, match="more than 16,000,000 bytes"):
        load_run(run)


def test_a_run_names_no_code_that_was_not_allowed(command, run: Path, tmp_path: Path, photos: Path) -> None:
    (tmp_path / "evil.py").write_text("open('owned', 'w').close()\ndef make(n): ...\n")
    rewrite(run / CONFIG, {"network": "evil:make"})
    rewrite(run / RECORD, lambda value: value["blueprint"].update(network="evil:make"))
    for arguments in COMMANDS[2:]:
        ran = command(*(part.format(base=run, photos=photos) for part in arguments))
        assert (ran.code, ran.out) == (2, "")
        assert len(ran.err.splitlines()) == 1
    assert not (tmp_path / "owned").exists()


# -- audit.json


@pytest.fixture(scope="module")
def audited(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an audit."""
    less, run = tmp_path_factory.mktemp("audited") / "less", engine.start(accelerator="cpu")
    forget_run("head-removal", base, ["top"], less, run)
    audit_run(less, base, [], run)
    return less


VALUES: list[Any] = [
    None,
    0,
    -1,
    1e308,
    10**400,
    "",
    "<script>",
    "\ud800\x1b",
    [],
    [1],
    {},
    {"a": 1},
    True,
    NESTED,
]


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a JSON value; of a list, only what stands first."""
    inner = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value[:1]))
        if isinstance(value, list)
        else []
    )
    return [path, *(spot for key, item in inner for spot in spots(item, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def test_any_value_anywhere_in_an_audit_makes_a_page_or_one_line(audited: Path, tmp_path: Path) -> None:
    """Every spot with one of the values; a bug of the page would be another kind of error."""
    whole = json.loads((audited / "audit.json").read_text("utf-8"))
    found = [spot for spot in spots(whole) if spot]
    assert len(found) > 150
    refused = 0
    for at, spot in enumerate(found):
        hostile = replaced(whole, spot, VALUES[5 * at % len(VALUES)])
        (tmp_path / "audit.json").write_text(json.dumps(hostile), "utf-8")
        try:
            page = write_report(tmp_path).read_text("utf-8")
        except UnlabelError as error:
            check_line(error)
            refused += 1
        else:
            assert "<script" not in page
    assert refused > 20


@pytest.mark.parametrize("name", ["C1", "C2", "C3", "C4", "C5", "C6"])
def test_an_audit_without_one_of_its_claims_makes_no_page(name: str, audited: Path, tmp_path: Path) -> None:
    audit = json.loads((audited / "audit.json").read_text("utf-8"))
    del audit["claims"][name]
    (tmp_path / "audit.json").write_text(json.dumps(audit), "utf-8")
    with pytest.raises(ModelError, match=f"of the claims C1 to C6 it lacks {name}.*run again") as found:
        write_report(tmp_path)
    check_line(found.value)


@pytest.mark.parametrize("text", [DEEP, '{"a": NaN}', '{"a": 1e999}', "", "[]", '"text"', "\ufeff{}"])
def test_an_audit_that_is_none_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(text, "utf-8")
    with pytest.raises(ModelError, match="run again: unlabel audit") as found:
        write_report(tmp_path)
    check_line(found.value)
    assert [path.name for path in tmp_path.iterdir()] == ["audit.json"]
