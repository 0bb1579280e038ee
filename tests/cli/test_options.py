"""An option that cannot do what it says is refused: a fraction for a count, an empty list, no use."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from unlabel.cli.app import build_app
from unlabel.core.caching import Cache
from unlabel.models.build import BUILDERS, STEMMED, build

IMAGES = Path(__file__).parents[2] / "docs" / "images.md"


def refused(ran, *says: str) -> None:
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran
    assert all(text in ran.err for text in says), ran.err


def commands() -> dict[str, list[tuple[Any, set[str]]]]:
    """What each command takes, as the kind and the names; one method for all that forget."""
    app = build_app(["auto"])
    every = {name: app[name] if name != "forget" else app["forget"]["auto"] for name in app if name[0] != "-"}
    return {
        name: [
            (argument.hint, {*argument.names} - {"*"})
            for argument in command.assemble_argument_collection()
            if argument.parse
        ]
        for name, command in every.items()
    }


def test_no_command_has_two_options_of_one_name() -> None:
    for name, options in commands().items():
        flags = [flag for _, names in options for flag in names]
        assert sorted({*flags}) == sorted(flags), name


def test_the_commands_that_take_a_cache_are_those_of_the_page() -> None:
    taking = {name for name, options in commands().items() if (Cache, {"--cache"}) in options}
    (sentence,) = re.findall(r"^(`data`.*) take `--cache`", IMAGES.read_text("utf-8"), re.MULTILINE)
    assert {*re.findall(r"`([\w-]+)`", sentence)} == taking


def test_the_commands_without_quiet_are_those_of_the_page() -> None:
    without = {
        name for name, options in commands().items() if not any("--quiet" in flag for _, flag in options)
    }
    text = " ".join((IMAGES.parent / "cli.md").read_text("utf-8").split())
    (sentence,) = re.findall(r"`--quiet` prints no progress, but warnings; (.*?) do not have it", text)
    assert {*re.findall(r"`([\w-]+)`", sentence)} == without


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
        (("--budget", "full"), "--budget changes nothing in a plan: --plan shows every budget"),
        (("--budget=quick",), "--budget changes nothing in a plan: --plan shows every budget"),
        (("--batch-size", "128"), "--batch-size changes nothing in a plan: --plan computes no output"),
        (("--micro-batch", "8"), "--micro-batch changes nothing in a plan"),
        (("--precision", "bf16"), "--precision changes nothing in a plan"),
        (("--compile",), "--compile changes nothing in a plan"),
    ],
)
def test_a_plan_refuses_what_cannot_change_it(command, base: Path, options: tuple, said: str) -> None:
    refused(command("audit", base, "--plan", "--labels", "top", *options), said)


def test_an_option_of_the_file_that_does_not_apply_stops_nothing(command, base: Path, photos: Path) -> None:
    Path("unlabel.toml").write_text(
        '[audit]\nbudget = "full"\n[forget.head-removal]\ncompile = true\n[train]\nstem = "small"\n'
    )
    plan = ("audit", base, "--plan", "--labels", "top", "--json", "--quiet")
    shown = [command(*plan)]
    less = command("forget", "head-removal", base, "--labels", "top", "--out", "less", "--quiet")
    small = ("--out", "run", "--epochs", 1, "--image-size", 16, "--quiet")
    assert (less.code, command("train", f"folder:{photos}", *small).code) == (0, 0)
    Path("unlabel.toml").unlink()
    shown.append(command(*plan))
    assert shown[0].out == shown[1].out


@pytest.mark.parametrize("stem", ["imagenet", "small"])
def test_a_stem_is_for_the_networks_that_have_one(command, stem: str) -> None:
    for model in ("small", "timm:vit_tiny_patch16_224"):
        ran = command("train", "faces", "--out", "run", "--model", model, "--stem", stem)
        refused(ran, f"--stem is the first layer of resnet18 and resnet50, and --model is {model}; leave")


def test_networks_with_a_stem_are_those_that_it_changes() -> None:
    sizes = {
        name: [
            sum(p.numel() for p in build(name, 2, stem=stem).parameters()) for stem in ("imagenet", "small")
        ]
        for name in BUILDERS
    }
    assert [name for name, (usual, small) in sizes.items() if usual != small] == list(STEMMED)


@pytest.mark.parametrize("method", ["head-removal", "erasure", "ssd"])
def test_a_method_that_trains_nothing_refuses_to_compile(command, base: Path, method: str) -> None:
    ran = command("forget", method, base, "--labels", "top", "--out", "less", "--compile")
    refused(ran, f"--compile is for training, and {method} computes its change without; leave it out")


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
