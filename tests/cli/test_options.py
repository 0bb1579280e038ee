"""An option that cannot do what it says is refused: a fraction for a count, an empty list, no use."""

import json
import re
from pathlib import Path

import pytest

from unlabel.cli.app import build_app
from unlabel.core.caching import Cache
from unlabel.forget.methods import METHODS

IMAGES = Path(__file__).parents[2] / "docs" / "images.md"


def refused(ran, *says: str) -> None:
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran
    assert all(text in ran.err for text in says), ran.err


def test_no_command_has_two_options_of_one_name() -> None:
    app = build_app(METHODS)
    commands = [app[name] for name in app if name != "forget"] + [app["forget"][name] for name in METHODS]
    for command in commands:
        flags = [flag for argument in command.assemble_argument_collection() for flag in argument.names]
        assert sorted({*flags}) == sorted(flags), command.name


def test_the_commands_that_take_a_cache_are_those_of_the_page() -> None:
    app = build_app(["auto"])
    commands = {name: app["forget"]["auto"] if name == "forget" else app[name] for name in app}
    taking = {
        name
        for name, command in commands.items()
        if any(argument.hint == Cache for argument in command.assemble_argument_collection())
    }
    (sentence,) = re.findall(r"^(`data`.*) take `--cache`", IMAGES.read_text("utf-8"), re.MULTILINE)
    assert {*re.findall(r"`([\w-]+)`", sentence)} == taking


# -- whole numbers


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "faces", "--out", "run", "--seed", "1.7"), "--seed is 1.7; expected a whole number"),
        (("train", "faces", "--out", "run", "--micro-batch=2.5"), "--micro-batch is 2.5;"),
        (("audit", "run", "--before", "base", "--make-references", "2.5"), "--make-references is 2.5;"),
        (
            ("forget", "fine-tune", "base", "--labels", "top", "--out", "run", "--steps", "9.5"),
            "--steps is 9.5;",
        ),
        (("train", "faces", "--out", "run", "--seed", "1.0e999"), "--seed is 1.0e999;"),
    ],
)
def test_a_fraction_is_refused_where_a_whole_number_is_expected(command, words: tuple, said: str) -> None:
    refused(command(*words), said)
    assert not Path("run").exists()


def test_a_fraction_in_the_file_of_options_is_refused(command) -> None:
    Path("unlabel.toml").write_text("[train]\nseed = 1.5\n")
    refused(command("train", "faces", "--out", "run"), "--seed is 1.5; expected a whole number")


def test_a_whole_number_may_be_written_with_a_point_and_an_epoch_may_be_half() -> None:
    words = ["train", "faces", "--out", "run", "--seed", "2.0", "--epochs", "0.5"]
    _, bound, _ = build_app().parse_args(words, exit_on_error=False, print_error=False)
    assert (bound.arguments["place"].seed, bound.arguments["epochs"]) == (2, 0.5)


# -- lists


@pytest.mark.parametrize(
    "words",
    [
        ("train", "faces", "--out", "run", "--labels"),
        ("train", "faces", "--out", "run", "--without"),
        ("data", "faces", "--labels"),
        ("adopt", "small", "--data", "faces", "--out", "run", "--without"),
        ("audit", "run", "--before", "base", "--reference"),
        ("audit", "run", "--before", "base", "--attackers"),
        ("audit", "run", "--plan", "--labels"),
        ("audit", "--outputs"),
        ("probe", "run", "--label", "top", "--reference"),
        ("compare", "run", "--labels", "top", "--out", "out", "--methods"),
        ("compare", "run", "--labels", "top", "--out", "out", "--reference"),
        ("reproduce", "frontier", "--methods"),
        ("reproduce", "frontier", "--steps"),
        ("bench", "--parts"),
        ("bench", "--methods"),
    ],
    ids=lambda words: f"{words[0]} {words[-1]}",
)
def test_a_list_that_names_nothing_is_refused(command, words: tuple[str, ...]) -> None:
    for empty in ("", " , "):
        refused(command(*words, empty), f"{words[-1]} is '{empty}' and names no ", "leave it out")


# -- options without use


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--fail-on", "fail"), "--fail-on judges an audit, and --plan makes none; leave one of them out"),
        (("--require", "C1"), "--require judges an audit, and --plan makes none; leave one of them out"),
        (("--epochs", "3"), "--epochs and --lr are for training references, and --plan only tells"),
        (("--lr", "0.1"), "--epochs and --lr are for training references, and --plan only tells"),
        (("--force",), "--force replaces an audit, and --plan writes none"),
        (("--make-references", "0"), "--make-references is 0; expected 1 to"),
    ],
)
def test_a_plan_refuses_what_cannot_change_it(command, base: Path, options: tuple, said: str) -> None:
    refused(command("audit", base, "--plan", "--labels", "top", *options), said)


def test_a_plan_counts_references_that_are_to_be_trained(command, base: Path) -> None:
    words = ("audit", base, "--plan", "--labels", "top", "--quiet")
    assert "3 retrained models (4 given)" in command(*words, "--make-references", 4).out
    plans = [json.loads(command(*words, "--json", *more).out) for more in ((), ("--make-references", 20))]
    assert [plan["references"]["given"] for plan in plans] == [0, 20]
    least, made = (plan["seconds"]["references"] for plan in plans)
    needed = plans[0]["references"]["needed"]
    assert needed < 20
    assert made == pytest.approx(20 / needed * least)
    assert not list(base.parent.glob("base-without-*"))


@pytest.mark.parametrize("option", ["--mean", "--std", "--labels-file"])
def test_a_probe_of_a_run_refuses_what_only_an_onnx_file_needs(command, base: Path, option: str) -> None:
    ran = command("probe", base, "--label", "top", option, "0.1,0.1,0.1")
    refused(ran, "--labels-file, --mean and --std are for ONNX files; a run and a file of outputs have their")
