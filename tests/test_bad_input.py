"""A user's mistake is one line that names what was found and what to do, exit code 2, and nothing written."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unlabel.cli.app import build_app
from unlabel.forget.methods import METHODS
from unlabel.runs.files import MODEL
from unlabel.training import fit as training
from unlabel.training.checkpoints import Checkpoint

HUGE = 10**21  # of 22 digits, as no 64 bits hold
TRAIN = ["--epochs", 1, "--image-size", 16, "--quiet"]


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def refused(command, tmp_path: Path) -> Callable[..., str]:
    """Runs a command that must be refused; returns its line."""

    def call(*arguments: object, says: tuple[str, ...]) -> str:
        before = tree(tmp_path)
        ran = command(*arguments)
        assert ran.code == 2, ran
        assert ran.out == ""
        assert len(ran.err.splitlines()) == 1, ran.err
        assert ran.err.startswith("unlabel: ")
        assert "Traceback" not in ran.err
        for part in says:
            assert part in ran.err
        assert tree(tmp_path) == before, "something was written or lost"
        return ran.err

    return call


@pytest.fixture
def data(photos: Path, tmp_path: Path) -> Path:
    """Photos that a test may damage."""
    return Path(shutil.copytree(photos, tmp_path / "photos"))


@pytest.fixture
def run(base: Path, tmp_path: Path) -> Path:
    """A run that a test may damage."""
    return Path(shutil.copytree(base, tmp_path / "base"))


# -- what is asked for


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ("topp", ("no label 'topp' among the model's 3", "Close: top", "unlabel show")),
        ("TOP", ("no label 'TOP'", "Close: top")),
        ("", ("no label to forget was named", "--labels A,B")),
        (" , ", ("no label to forget was named", "--labels A,B")),
        ("top,middle,bottom", ("all 3 labels would be forgotten", "at least one must be retained")),
        ("top,top", ("'top' is named more than once", "once")),
    ],
)
@pytest.mark.parametrize("method", ["confusion", "head-removal", "retrain"])
def test_labels_that_cannot_be_forgotten(method, labels, says, refused, run) -> None:
    refused("forget", method, run, "--labels", labels, "--out", "less", "--quiet", says=says)


def test_a_label_that_is_forgotten_already(command, refused, run) -> None:
    command("forget", "head-removal", run, "--labels", "top", "--out", "less", "--quiet")
    says = ("'top' was forgotten by an earlier request", "name another")
    refused("forget", "fine-tune", "less", "--labels", "top", "--out", "two", "--quiet", says=says)


def test_signing_without_a_key_says_how_to_make_one(refused) -> None:
    refused("sign", "base", says=("--key", "Make a key, if you have none: unlabel keygen --out KEY"))
    assert "keygen" not in refused("sign", says=("--run",))
    assert "keygen" not in refused("export", "base", says=("argument",))


@pytest.mark.parametrize("words", [("train", "--data", "faces", "--out", "run"), ("data", "--data=faces")])
def test_a_source_given_as_an_option_is_told_its_place(words: tuple[str, ...], refused) -> None:
    refused(*words, says=(f"the source is its first word, as in: unlabel {words[0]} folder:PATH",))


@pytest.mark.parametrize("out", ["", ".", "/", "keys/.."])
def test_a_key_needs_a_name(out: str, refused) -> None:
    refused("keygen", "--out", out, says=("is no name for a file", "keys/ada"))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--labels", "topp"], ("no label column 'topp'", "Close: top")),
        (["--labels", "top,top"], ("'top' is named more than once",)),
        (
            ["--without", "botom"],
            ("no label 'botom'", "Close: bottom", "See them all with: unlabel data SOURCE"),
        ),
        (["--without", "top,middle,bottom"], ("all 3 labels",)),
        (["--without", "top,top"], ("'top' is named more than once",)),
    ],
)
def test_labels_that_cannot_be_learnt(flags, says, refused, photos) -> None:
    refused("train", f"folder:{photos}", "--out", "run", *TRAIN, *flags, says=says)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--epochs", 0], ("--epochs is 0", "above 0 and below 10,000")),
        (["--epochs", "nan"], ("--epochs is nan",)),
        (["--epochs", "two"], ("two", "--epochs", "float")),
        (["--lr", 0], ("--lr is 0", "above 0 and below 10")),
        (["--lr", 11], ("--lr is 11",)),
        (["--image-size", 4], ("image size 4", "16 to 512")),
        (["--image-size", "big"], ("--image-size", "big", "whole number", "256,128")),
        (["--image-size", "16,8"], ("image size 16,8", "16 to 512")),
        (["--image-size", "16,16,16"], ("--image-size", "16,16,16", "height,width")),
        (["--resize", "crob"], ("--resize", "crob", "crop")),
        (["--crop-pct", 0], ("crop_pct is 0", "above 0, at most 1")),
        (["--crop-pct", 0.5, "--resize", "pad"], ("crop_pct is 0.5", "cuts nothing off")),
        (["--seed", -1], ("--seed is -1", "0 to 2147483647")),
        (["--seed", 2**31], ("--seed is 2147483648",)),
        (["--batch-size", 0], ("--batch-size is 0", "from 2 to")),
        (["--batch-size", 10**6], ("--batch-size is 1000000", "to 65,536")),
        (["--devices", 0], ("--devices is 0", "from 1 to")),
        (["--devices", 65], ("--devices is 65", "to 64")),
        (["--image-size", 513], ("image size 513", "16 to 512")),
        (["--epochs", 10_000], ("--epochs is 10000", "above 0 and below 10,000")),
        *((["--" + name, HUGE], ("--" + name, "expected")) for name in ("seed", "devices", "batch-size")),
        *((["--" + name, HUGE], ("--" + name,)) for name in ("image-size", "canaries", "epochs", "lr")),
        (["--precision", 16], ("16", "bf16")),
        (["--model", "smal"], ("smal", "resnet18")),
        (["--epoch", 3], ("--epoch", "--epochs")),
    ],
)
def test_training_options_out_of_range(flags, says, refused, photos) -> None:
    default = {str(flag): value for flag, value in zip(TRAIN[::2], [*TRAIN[1::2], None], strict=True)}
    default.pop("--quiet")
    kept = [part for flag, value in default.items() if flag != flags[0] for part in (flag, value)]
    refused("train", f"folder:{photos}", "--out", "run", "--quiet", *kept, *flags, says=says)


@pytest.mark.parametrize(
    ("method", "flags", "says"),
    [
        ("confusion", ["--images", 3], ("--images is 3", "from 16 to")),
        ("retrain", ["--images", 3], ("--images is 3", "from 16 to")),
        ("confusion", ["--strength", -1], ("--strength is -1", "more than 0")),
        ("confusion", ["--strength", "strong"], ("--strength", "strong", "float")),
        ("confusion", ["--steps", 0], ("--steps is 0", "1 or more")),
        ("confusion", ["--lr", 0], ("--lr is 0",)),
        ("fine-tune", ["--lr", 99], ("--lr is 99",)),
        ("fine-tune", ["--steps", -5], ("--steps is -5",)),
        ("confusion", ["--strenght", 1], ("--strenght", "--strength")),
        ("fine-tune", ["--strength", 1], ("--strength",)),
        ("confusion", ["--images", 10**10], ("--images is 10000000000", "to 1,000,000,000")),
        ("unsir", ["--noise", 10**6], ("--noise is 1000000", "4,096 at most")),
        *(
            (method, ["--" + name.replace("_", "-"), value], ("--" + name.replace("_", "-"),))
            for method in METHODS
            for name, option in {"images": None, **METHODS[method].options()}.items()
            if option is None or "int" in str(option.annotation)
            for value in (HUGE, -HUGE)
        ),
        ("confusion", ["--seed", -1], ("--seed is -1",)),
        ("confusion", ["--batch-size", 1], ("--batch-size is 1",)),
    ],
)
def test_forgetting_options_out_of_range(method, flags, says, refused, run) -> None:
    refused("forget", method, run, "--labels", "top", "--out", "less", "--quiet", *flags, says=says)


def test_a_row_that_is_kept_where_only_the_row_changes(refused, run) -> None:
    flags = ["--labels", "top", "--out", "less", "--quiet", "--keep-row"]
    says = ("'head-removal' changed none of", "choose another method")
    refused("forget", "head-removal", run, *flags, says=says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tran", "faces"], ("tran", "train")),
        (["forget", "confusoin", "base"], ("confusoin", "confusion")),
        (["methods", "--jsno"], ("--jsno", "--json")),
        (["train"], ("source",)),
        (["train", "faces"], ("--out",)),
        (["forget", "confusion", "base", "--out", "less"], ("--labels",)),
        (["predict", "base"], ("no image is named",)),
        (["show", "a", "b"], ("b",)),
    ],
)
def test_mistyped_commands(arguments, says, refused) -> None:
    refused(*arguments, says=says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[train]\nepochz = 3\n", ("epochz", "epochs")),
        ("[train]\nepochs = 'two'\n", ("two", "float")),
        ("[train\n", ("unlabel.toml",)),
    ],
)
def test_a_mistake_in_the_settings_file(text, says, refused, photos, tmp_path) -> None:
    (tmp_path / "unlabel.toml").write_text(text)
    flags = ["--image-size", 16, "--quiet"]
    refused("train", f"folder:{photos}", "--out", "run", *flags, says=says)


# -- where things are


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("face", ("no data source 'face'", "Close: faces", "folder:PATH")),
        ("folders:x", ("no data source 'folders'", "Close: folder")),
        ("folder:", ("without a folder", "folder:PATH")),
        ("folder:nowhere", ("nowhere does not exist", "attributes.csv")),
        ("photos", ("write folder:photos",)),
        ("faces:train=two", ("two",)),
        ("", ("no data source ''",)),
    ],
)
def test_an_unknown_source(source, says, refused, data) -> None:
    refused("train", source, "--out", "run", *TRAIN, says=says)


@pytest.mark.parametrize("what", ["train", "forget"])
def test_an_output_folder_that_exists(what, refused, run, photos, tmp_path) -> None:
    shutil.copytree(run, tmp_path / "old")
    says = ("--out old exists", "--force")
    if what == "train":
        refused("train", f"folder:{photos}", "--out", "old", *TRAIN, says=says)
    else:
        refused("forget", "head-removal", run, "--labels", "top", "--out", "old", "--quiet", says=says)


@pytest.mark.parametrize("what", ["train", "forget"])
def test_force_on_a_folder_that_is_no_run(what, refused, run, photos, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    says = ("--out mine exists and is no run folder", "name another")
    if what == "train":
        refused("train", f"folder:{photos}", "--out", "mine", *TRAIN, "--force", says=says)
    else:
        flags = ["--labels", "top", "--out", "mine", "--quiet", "--force"]
        refused("forget", "head-removal", run, *flags, says=says)


@pytest.mark.parametrize("out", ["base", "./base/", "link"])
def test_writing_over_the_run_to_start_from(out, refused, run, tmp_path) -> None:
    (tmp_path / "link").symlink_to(run)
    says = ("is the run to start from", "name another folder")
    refused(
        "forget", "head-removal", "base", "--labels", "top", "--out", out, "--force", "--quiet", says=says
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["forget", "confusion", "{}", "--labels", "top", "--out", "less", "--quiet"],
        ["show", "{}"],
        ["show", "{}", "--json"],
        ["predict", "{}", "photos/images/00000.png"],
    ],
)
@pytest.mark.parametrize(
    ("run", "says"), [("nowhere", "no run folder nowhere"), ("photos", "photos is no run folder: it has no")]
)
def test_a_path_that_is_no_run(arguments, run, says, refused, data) -> None:
    refused(*(part.format(run) for part in arguments), says=(says, "unlabel"))


def test_images_that_cannot_be_predicted(refused, run, data, tmp_path) -> None:
    (tmp_path / "letter.txt").write_text("Dear all")
    good = "photos/images/00000.png"
    refused("predict", run, good, "letter.txt", says=("letter.txt cannot be used", "expected an image"))
    refused("predict", run, good, "none.png", says=("no file none.png", "expected an image"))
    (tmp_path / "nothing").mkdir()
    refused("predict", run, "nothing", says=("no image in nothing", ".jpg"))
    refused(
        "predict", run, "letter.txt", "--skip-bad", says=("none of the 1 images can be read", "not an image")
    )
    refused("predict", run, good, "--csv", "letter.txt", says=("letter.txt exists", "--force"))


# -- damaged data


def edit_table(data: Path, change: Callable[[list[list[str]]], object], name: str = "attributes.csv") -> None:
    with (data / name).open(newline="") as file:
        rows = list(csv.reader(file))
    change(rows)
    with (data / name).open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def make_constant(rows: list[list[str]]) -> None:
    for row in rows[1:]:
        row[2] = "1"


DAMAGE: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "a missing image": (
        lambda data: (data / "images" / "00007.png").unlink(),
        ("1 of 96 rows", "'00007.png'", "add the files or remove the rows"),
    ),
    "a corrupt image": (
        lambda data: (data / "images" / "00007.png").write_bytes(b"no image"),
        ("1 of 96 images cannot be read", "'00007.png'", "--skip-bad"),
    ),
    "a truncated image": (
        lambda data: (data / "images" / "00007.png").write_bytes(
            (data / "images" / "00007.png").read_bytes()[:300]
        ),
        ("1 of 96 images cannot be read", "'00007.png'", "--skip-bad"),
    ),
    "a duplicate id": (
        lambda data: edit_table(data, lambda rows: rows.append(rows[1])),
        ("'00000.png'", "line 98", "line 2", "one row an image"),
    ),
    "a row without an image": (
        lambda data: (
            edit_table(data, lambda rows: rows.append(["ghost.png", "0", "1", "0"])),
            edit_table(data, lambda rows: rows.append(["ghost.png", "train", ""]), "meta.csv"),
        ),
        ("'ghost.png'", "1 of 97 rows"),
    ),
    "a value that is no label": (
        lambda data: edit_table(data, lambda rows: rows[3].__setitem__(1, "yes")),
        ("line 4", "'top'", "'yes'", "expected 1 (present)"),
    ),
    "a row that is too short": (
        lambda data: edit_table(data, lambda rows: rows[3].pop()),
        ("line 4", "found 3 values", "expected 4"),
    ),
    "no table": (lambda data: (data / "attributes.csv").unlink(), ("no attributes.csv",)),
    "no images": (lambda data: shutil.rmtree(data / "images"), ("no images in",)),
    "an unknown split": (
        lambda data: edit_table(data, lambda rows: rows[1].__setitem__(1, "tset"), "meta.csv"),
        ("'tset'", "train, val or test"),
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_data_is_refused_by_training_and_by_forgetting(what, refused, data, run) -> None:
    damage, says = DAMAGE[what]
    damage(data)
    refused("train", f"folder:{data}", "--out", "run", *TRAIN, says=says)
    flags = ["--labels", "top", "--out", "less", "--quiet", "--data", f"folder:{data}"]
    refused("forget", "head-removal", run, *flags, says=says)


def test_a_constant_column_is_refused_by_training_unless_it_is_left_out(command, refused, data) -> None:
    edit_table(data, make_constant)
    says = ("1 label of", "middle", "--labels")
    refused("train", f"folder:{data}", "--out", "run", *TRAIN, says=says)
    for name, flag in (("a", ["--labels", "top,bottom"]), ("b", ["--without", "middle"])):
        assert command("train", f"folder:{data}", "--out", name, *TRAIN, *flag).code == 0


def test_a_constant_column_cannot_be_forgotten(refused, data, run) -> None:
    edit_table(data, make_constant)
    flags = ["--labels", "middle", "--out", "less", "--quiet", "--data", f"folder:{data}"]
    says = ("label 'middle' is present in all of 48 images", "use more images")
    refused("forget", "confusion", run, *flags, says=says)


def test_data_without_a_column_of_the_model(refused, data, run) -> None:
    edit_table(data, lambda rows: rows[0].__setitem__(1, "Top"))
    flags = ["--labels", "middle", "--out", "less", "--quiet", "--data", f"folder:{data}"]
    refused("forget", "confusion", run, *flags, says=("no label column 'top'", "Close: Top"))


# -- damaged runs


def poison(run: Path) -> None:
    state = load_file(run / MODEL)
    state["8.weight"][0, 0] = float("nan")
    save_file(state, run / MODEL)


def rewrite(run: Path, name: str, change: Callable[[dict], object]) -> None:
    value = json.loads((run / name).read_text("utf-8"))
    change(value)
    (run / name).write_text(json.dumps(value), "utf-8")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda run: (run / MODEL).write_bytes((run / MODEL).read_bytes()[:-9]), ("damaged or truncated",)),
        (poison, ("holds NaN or infinity in '8.weight'",)),
        (lambda run: (run / "config.json").write_text("{"), ("is not JSON",)),
        (lambda run: rewrite(run, "config.json", lambda value: value.pop("mean")), ("is damaged",)),
        (lambda run: rewrite(run, "config.json", lambda value: value["thresholds"].pop()), ("is damaged",)),
    ],
    ids=["truncated", "NaN", "half JSON", "no mean", "a threshold too few"],
)
def test_a_damaged_run(damage, says, refused, run, data) -> None:
    damage(run)
    refused("forget", "confusion", run, "--labels", "top", "--out", "less", "--quiet", says=says)
    refused("predict", run, "photos/images/00000.png", says=says)


@pytest.mark.parametrize("method", ["confusion", "retrain"])
def test_a_run_that_does_not_remember_its_data(method, refused, run) -> None:
    rewrite(run, "unlabel.json", lambda value: value.pop("data"))
    refused("forget", method, run, "--labels", "top", "--out", "less", "--quiet", says=("--data",))


def test_a_run_without_a_recipe_cannot_be_retrained(refused, run) -> None:
    rewrite(run, "unlabel.json", lambda value: value.pop("blueprint"))
    says = ("no recorded recipe", "--without")
    refused("forget", "retrain", run, "--labels", "top", "--out", "less", "--quiet", says=says)


def test_a_run_whose_data_is_gone(refused, run, photos, tmp_path) -> None:
    gone = f"folder:{tmp_path}/gone"
    rewrite(run, "unlabel.json", lambda value: value["data"].update(source=gone))
    refused(
        "forget", "confusion", run, "--labels", "top", "--out", "less", "--quiet", says=("does not exist",)
    )


# -- work that fails half-way


def nan_loss(**options):
    return lambda logits, target, columns: float("nan") * logits.sum(1)


@pytest.fixture
def diverging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every loss NaN from the first step on."""
    monkeypatch.setattr(training, "loss_of", nan_loss)


def test_a_nan_loss_while_training_leaves_nothing_behind(
    command, refused, photos, tmp_path, monkeypatch
) -> None:
    says = ("the loss became nan at step 1 of 1", "lower --lr")
    with monkeypatch.context() as patch:
        patch.setattr(training, "loss_of", nan_loss)
        refused("train", f"folder:{photos}", "--out", "run", *TRAIN, "--lr", 9, says=says)
    assert command("train", f"folder:{photos}", "--out", "run", *TRAIN, "--lr", 0.01).code == 0


@pytest.mark.parametrize("method", ["fine-tune", "retrain"])
def test_a_nan_loss_while_forgetting_leaves_nothing_behind(method, diverging, refused, run) -> None:
    says = ("the loss became nan at step 1", "lower --lr")
    refused("forget", method, run, "--labels", "top", "--out", "less", "--quiet", says=says)


def test_a_nan_loss_leaves_a_run_that_was_to_be_replaced(diverging, refused, run, photos) -> None:
    refused("train", f"folder:{photos}", "--out", "base", *TRAIN, "--force", says=("the loss became nan",))


def test_a_real_divergence_on_one_and_two_processes(refused, photos, monkeypatch) -> None:
    """The whole way: the network's own loss overflows, in a process that was forked."""
    weights = training.build

    def huge(*arguments, **options):
        model = weights(*arguments, **options)
        with torch.no_grad():
            model[-1].weight.mul_(1e40)
        return model

    monkeypatch.setattr(training, "build", huge)
    for devices in (1, 2):
        flags = [*TRAIN, "--devices", devices]
        refused("train", f"folder:{photos}", "--out", "run", *flags, says=("the loss became", "lower --lr"))


@pytest.fixture
def unfinished(command, photos, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training of seed 0 that was killed after its first checkpoint, beside ``run``."""
    save = Checkpoint.save

    def save_and_die(*arguments) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
        patch.setattr(Checkpoint, "save", save_and_die)
        assert command("train", f"folder:{photos}", "--out", "run", *TRAIN).code == 130


def test_an_unfinished_training_with_other_options(unfinished, command, refused, photos, tmp_path) -> None:
    says = ("an unfinished training with other options", "--force")
    for devices in (1, 2):  # of two processes, one refuses while the other waits for it
        flags = ["--seed", 1, "--devices", devices]
        refused("train", f"folder:{photos}", "--out", "run", *TRAIN, *flags, says=says)
    assert command("train", f"folder:{photos}", "--out", "run", *TRAIN, "--seed", 1, "--force").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_an_unfinished_training_with_a_damaged_checkpoint(unfinished, refused, photos, tmp_path) -> None:
    file = tmp_path / ".run.training" / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:1000])
    says = ("checkpoint.pt of an unfinished training is damaged", "delete", ".run.training")
    refused("train", f"folder:{photos}", "--out", "run", *TRAIN, says=says)


@pytest.mark.parametrize("command_", ["compare", "audit", "reproduce", "demo", "adopt"])
def test_whole_numbers_that_no_machine_holds(command_, refused, run) -> None:
    known = build_app()[command_].assemble_argument_collection()
    options = [argument.name for argument in known if "int" in str(argument.hint)]
    assert "--seed" in options
    assert command_ != "compare" or {"--seeds", "--budget-steps", "--search", "--images"} <= {*options}
    given = {
        "compare": [run, "--labels", "top", "--out", "x"],
        "audit": [run, "--before", run],
        "reproduce": ["table1"],
        "demo": [],
        "adopt": ["small", "--weights", "w", "--labels", "l", "--data", "faces", "--out", "x"],
    }[command_]
    for option in options:
        for value in (HUGE, -HUGE):
            refused(command_, *given, f"{option}={value}", says=(f"{option} is {value}",))
