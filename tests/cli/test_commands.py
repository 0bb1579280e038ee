import csv
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unlabel.cli.options import names
from unlabel.core.reading import file_sha256
from unlabel.forget.methods import METHODS
from unlabel.models.eraser import erasing
from unlabel.runs.folder import load_run
from unlabel.testing import differing, tiny_world

RECORDED = {
    "method",
    "options",
    "labels",
    "changed",
    "total",
    "images_used",
    "images_processed",
    "steps",
    "seconds",
    "seed",
    "versions",
}
STEPPED = (
    "bad-teacher", "cf-k", "confusion", "deep-probes", "eu-k", "fine-tune", "l1-sparse", "neg-grad",
    "neg-grad-plus", "random-label", "salun", "undo", "weight-filtering", "weight-pruning",
)  # fmt: skip
FEW_STEPS = {name: ["--steps", "3"] for name in STEPPED} | {
    "scrub": ["--rounds", "2", "--ascents", "1", "--min-steps", "1", "--max-steps", "1"],
    "unsir": ["--noise-steps", "2", "--impair-steps", "1", "--repair-steps", "2"],
}


def record_of(run: Path) -> dict:
    return json.loads((run / "unlabel.json").read_text("utf-8"))


def check_record(record: dict) -> None:
    assert set(record) >= RECORDED
    assert all(isinstance(value, float) for value in record["seconds"].values())
    assert {"unlabel", "torch", "python"} <= set(record["versions"])
    assert 0 < record["changed"] <= record["total"]


@pytest.fixture
def train(command, photos: Path, tmp_path: Path):
    """Runs ``unlabel train`` on the photos."""

    def call(out: Path, *more: object, epochs: float = 1):
        settings = ["--epochs", epochs, "--image-size", 16, "--quiet"]
        return command("train", f"folder:{photos}", "--out", out, *settings, *more)

    return call


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["forget", "runs/own", "--labels", "top"],
            "no method is named before runs/own; write the method first, such as: unlabel forget auto",
        ),
        (["forget", "auto", "runs/own", "--label", "top", "--out", "x"], "no option --label; write --labels"),
        (["forget", "outo", "runs/own"], 'Did you mean "auto"?'),
    ],
)
def test_a_slip_in_the_words_of_a_command_is_told_with_what_to_write(words, says, command) -> None:
    ran = command(*words)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1), ran
    assert says in ran.err


# -- train


def test_training_prints_the_path_last_and_records_how_it_was_made(train, photos, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "base"
    ran = train(out, "--seed", 3)
    assert (ran.code, ran.last, ran.err) == (0, str(out), "")
    record = record_of(out)
    check_record(record)
    assert record["method"] == "train"
    assert record["labels"] == ["top", "middle", "bottom"]
    assert record["changed"] == record["total"] == sum(p.numel() for p in load_run(out).model.parameters())
    assert record["seed"] == 3
    assert record["images_used"] == 48
    assert (record["steps"], record["images_processed"]) == (1, 64)
    assert record["data"]["source"] == f"folder:{photos}"
    assert record["command"].startswith("unlabel train folder:")
    assert sorted(path.name for path in out.parent.iterdir()) == ["base"]
    steps = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps] == [1]


def test_the_same_command_writes_the_same_bits(train, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tmp_path / name, "--seed", seed)
    sums = [file_sha256(tmp_path / name / "model.safetensors") for name in "abc"]
    assert sums[0] == sums[1] != sums[2]


def test_labels_are_chosen_in_the_order_named(train, tmp_path: Path) -> None:
    assert train(tmp_path / "run", "--labels", "bottom, top").code == 0
    assert load_run(tmp_path / "run").config.labels == ("bottom", "top")


def test_a_withheld_label_is_recorded_and_predicted_as_null(train, command, photos, tmp_path: Path) -> None:
    assert "without middle" in train(tmp_path / "run", "--without", "middle").out
    assert record_of(tmp_path / "run")["without"] == ["middle"]
    ran = command("predict", tmp_path / "run", photos / "images" / "00000.png", "--json")
    assert json.loads(ran.out)[0]["labels"]["middle"] is None


def test_a_killed_training_goes_on_and_ends_with_the_same_bits(
    train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unlabel.training import fit as training
    from unlabel.training.checkpoints import Checkpoint

    train(tmp_path / "whole", epochs=4)
    with monkeypatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
        save = Checkpoint.save

        def save_and_die(*arguments) -> None:
            save(*arguments)
            raise KeyboardInterrupt

        patch.setattr(Checkpoint, "save", save_and_die)
        ran = train(tmp_path / "parts", epochs=4)
    assert (ran.code, ran.out) == (130, "")
    assert ran.err == "unlabel: stopped; nothing was half-written\n"
    assert not (tmp_path / "parts").exists()
    assert train(tmp_path / "parts", epochs=4).code == 0
    sums = {file_sha256(tmp_path / name / "model.safetensors") for name in ("whole", "parts")}
    assert len(sums) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "whole"]


def test_force_replaces_a_run(train, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(out)
    (out / "audit.json").write_text("{}")
    assert train(out, "--seed", 1, "--force").code == 0
    assert record_of(out)["seed"] == 1
    assert not (out / "audit.json").exists()  # it was of the model that is gone


def test_unreadable_images_are_left_out_and_recorded_when_asked_for(command, photos, tmp_path: Path) -> None:
    copy = shutil.copytree(photos, tmp_path / "photos")
    (copy / "images" / "00003.png").write_bytes(b"not an image")
    settings = ["--epochs", 1, "--image-size", 16, "--quiet"]
    ran = command("train", f"folder:{copy}", "--out", "base", *settings, "--skip-bad")
    assert ran.code == 0
    facts = record_of(tmp_path / "base")["data"]["facts"]
    assert (facts["skipped_bad"], facts["skipped_bad_count"]) == (["00003.png"], 1)
    assert record_of(tmp_path / "base")["images_used"] == 47
    forget = ["forget", "head-removal", "base", "--labels", "top", "--quiet"]
    assert command(*forget, "--out", "less").code == 0  # the run remembers that it skipped


# -- forget


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, marks=() if number % 3 == 0 else pytest.mark.exhaustive)
        for number, method in enumerate(METHODS)
    ],
)
def test_forgetting_writes_a_run_and_leaves_its_parent_alone(method, command, base, photos, tmp_path) -> None:
    before = {path.name: path.read_bytes() for path in base.iterdir()}
    out = tmp_path / "less"
    ran = command(
        "forget", method, base, "--labels", "top", "--out", out, "--quiet", *FEW_STEPS.get(method, [])
    )
    assert (ran.code, ran.last, ran.err) == (0, str(out), "")
    assert "forgot top" in ran.out
    assert {path.name: path.read_bytes() for path in base.iterdir()} == before
    record = record_of(out)
    check_record(record)
    assert record["method"] == (METHODS[method].alias_of or method)
    assert record["labels"] == ["top"]
    assert record["parent_sha256"] == file_sha256(base / "model.safetensors")
    loaded = load_run(out)
    assert loaded.config.forgotten == ("top",)
    old, new = (dict(run.model.named_parameters()) for run in (load_run(base), loaded))
    added = sum(value.numel() for value in erasing(loaded.model).values())  # by leace-layer
    assert record["changed"] == sum(int((old[name] != new[name]).sum()) for name in old) + added
    assert record["total"] == sum(value.numel() for value in new.values()) + added
    assert bool(added) == (method == "leace-layer")

    shown = json.loads(command("show", out, "--json").out)
    assert (shown["forgotten"], shown["method"], shown["data"]) == (
        ["top"],
        record["method"],
        f"folder:{photos}",
    )
    assert "top (forgotten), middle, bottom" in command("show", out).out

    image = photos / "images" / "00001.png"
    predicted = json.loads(command("predict", out, image, "--json").out)
    assert predicted[0]["image"] == str(image)
    assert predicted[0]["labels"]["top"] is None
    assert predicted[0]["present"]["top"] is None
    assert 0 < predicted[0]["labels"]["middle"] < 1
    assert "forgotten" in command("predict", out, image).out


def test_retraining_equals_training_without_the_label_bit_for_bit(
    train, command, base, tmp_path: Path
) -> None:
    """By the recorded recipe and batch size, whatever the batch size of the command."""
    train(tmp_path / "reference", "--without", "top", "--seed", 7)
    options = ["--labels", "top", "--seed", 7, "--quiet", "--batch-size", 8]
    command("forget", "retrain", base, "--out", tmp_path / "again", *options)
    one, two = (load_run(tmp_path / name) for name in ("reference", "again"))
    assert differing(one.model, two.model) == []
    assert one.config == two.config
    assert differing(one.model, load_run(base).model) != []


def test_a_retrained_output_is_recorded_as_forgotten_even_when_its_row_is_kept(
    command, base, tmp_path: Path
) -> None:
    command("forget", "retrain", base, "--labels", "top", "--out", "again", "--keep-row", "--quiet")
    assert load_run(tmp_path / "again").config.forgotten == ("top",)


def test_requests_accumulate_over_runs(command, base, photos, tmp_path: Path) -> None:
    for parent, label, out in ((base, "top", "one"), ("one", "bottom", "two")):
        ran = command("forget", "fine-tune", parent, "--labels", label, "--out", out, "--steps", 2, "--quiet")
        assert ran.code == 0
    loaded = load_run(tmp_path / "two")
    assert loaded.config.forgotten == ("top", "bottom")
    assert loaded.record.labels == ("bottom",)
    assert loaded.record.parent.run == str(tmp_path / "one")
    logits = loaded.model(torch.randn(9, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert logits.std(0).gt(0).tolist() == [False, True, False]
    ran = command("forget", "retrain", "two", "--labels", "middle", "--out", "three", "--quiet")
    assert (ran.code, "all 3 labels" in ran.err) == (2, True)


def test_a_kept_row_goes_on_answering(command, base, photos, tmp_path: Path) -> None:
    shared = ["--labels", "top", "--out", "less", "--steps", 2, "--quiet", "--keep-row"]
    assert command("forget", "confusion", base, *shared).code == 0
    assert load_run(tmp_path / "less").config.forgotten == ()
    ran = command("predict", "less", photos / "images" / "00001.png", "--json")
    assert 0 < json.loads(ran.out)[0]["labels"]["top"] < 1


def test_options_given_as_flags_reach_the_method_and_the_record(command, base, tmp_path: Path) -> None:
    flags = ["--strength", 0.7, "--steps", 2, "--lr", 0.01, "--images", 32, "--seed", 4]
    command("forget", "confusion", base, "--labels", "top,bottom", "--out", "less", "--quiet", *flags)
    record = record_of(tmp_path / "less")
    assert record["options"] == {"strength": 0.7, "steps": 2, "lr": 0.01, "images": 32, "keep_row": False}
    assert (record["seed"], record["steps"], record["images_used"]) == (4, 2, 32)
    assert record["labels"] == ["top", "bottom"]


def test_forgetting_reads_another_source_when_one_is_named(command, base, photos, tmp_path: Path) -> None:
    moved = shutil.copytree(photos, tmp_path / "moved")
    with (moved / "attributes.csv").open(newline="") as file:
        rows = [
            [row[0], "0" if number else "Extra", *row[:0:-1]] for number, row in enumerate(csv.reader(file))
        ]
    with (moved / "attributes.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)  # columns in another order, and one more
    shared = ["--labels", "top", "--steps", 2, "--quiet"]
    command("forget", "confusion", base, *shared, "--out", "one")
    command("forget", "confusion", base, *shared, "--out", "two", "--data", f"folder:{moved}")
    assert record_of(tmp_path / "two")["data"]["source"] == f"folder:{moved}"
    assert differing(load_run(tmp_path / "one").model, load_run(tmp_path / "two").model) == []


# -- reading


def test_probabilities_are_the_models_own(command, base, photos) -> None:
    world = tiny_world(images=96)
    part = world.source.test
    files = [photos / "images" / name for name in part.ids[:3]]
    rows = json.loads(command("predict", base, *files, "--json").out)
    loaded = load_run(base)
    pixels = torch.from_numpy(part.images(slice(0, 3)).copy()).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        expected = torch.sigmoid(loaded.model((pixels - 0.5) / 0.25)).tolist()
    for row, numbers in zip(rows, expected, strict=True):
        # float32 in another memory order
        assert list(row["labels"].values()) == pytest.approx(numbers, abs=1e-5)
        assert row["present"] == {name: value >= 0.5 for name, value in row["labels"].items()}


def test_the_catalogue_is_listed_for_people_and_as_json(command) -> None:
    rows = json.loads(command("methods", "--json").out)
    assert [row["name"] for row in rows] == list(METHODS)
    assert all({"name", "summary", "paper", "options"} <= set(row) for row in rows)
    strength = next(row for row in rows if row["name"] == "confusion")["options"][0]
    assert strength == {"name": "strength", "type": "float", "default": 1.0}
    assert all(name in command("methods").out for name in METHODS)


def test_showing_a_run_says_where_it_came_from(command, base) -> None:
    ran = command("show", base)
    assert ran.last == str(base)
    assert "top, middle, bottom" in ran.out
    facts = json.loads(command("show", base, "--json").out)
    assert facts["sha256"] == file_sha256(base / "model.safetensors")
    assert facts["parent"] is None


@pytest.mark.parametrize(
    ("text", "is_one"), [('{"headline": "UNLEARNED"}', True), ("[]", False), ("{}", False), ("", False)]
)
def test_a_run_is_shown_as_audited_if_its_file_holds_an_audit(
    text: str, is_one: bool, command, base, tmp_path
) -> None:
    run = Path(shutil.copytree(base, tmp_path / "run"))
    assert json.loads(command("show", run, "--json").out)["audited"] is False
    (run / "audit.json").write_text(text, "utf-8")
    assert json.loads(command("show", run, "--json").out)["audited"] is is_one


@pytest.mark.parametrize(
    "command_", ["train", "forget", "audit", "report", "show", "methods", "predict", "demo"]
)
def test_every_command_of_the_contract_is_in_the_help(command, command_) -> None:
    ran = command("--help")
    assert ran.code == 0
    assert f" {command_} " in ran.out
    assert command(command_, "--help").code == 0


def test_the_methods_options_are_in_its_help(command) -> None:
    shown = command("forget", "confusion", "--help").out
    for flag in ("--strength", "--steps", "--lr", "--images", "--keep-row", "--labels", "--out", "--seed"):
        assert flag in shown
    assert "--strength" not in command("forget", "fine-tune", "--help").out
    assert "--blueprint" not in command("forget", "retrain", "--help").out


def heavy_after(done: str) -> set[str]:
    """The large packages that are imported after some lines of Python."""
    code = (
        f"import sys\n{done}\n"
        "heavy = {'torch', 'torchvision', 'lightning_fabric', 'sklearn', 'scipy', 'numpy', 'matplotlib'}\n"
        "print('heavy:', *(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    return set(ran.stdout.splitlines()[-1].split()[1:])


def running(*arguments: object) -> str:
    """Python that runs a command and expects it to end well."""
    words = [str(argument) for argument in arguments]
    return (
        "from unlabel.cli.app import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit as stop:\n    assert not stop.code"
    )


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["methods", "--help"], ["--version"]])
def test_help_imports_no_torch(arguments: list[str]) -> None:
    assert heavy_after(running(*arguments)) == set()


def test_what_computes_nothing_imports_no_torch(base: Path, tmp_path: Path) -> None:
    assert heavy_after(running("keygen", "--out", tmp_path / "key")) == set()
    assert heavy_after(running("show", base)) <= {"numpy"}
    page = heavy_after("import unlabel.compare.files, unlabel.report.card, unlabel.report.page")
    assert page <= {"numpy", "scipy"}


def test_lists_are_split_at_commas() -> None:
    assert names(" A, B,,C ") == ("A", "B", "C")
    assert names("") == names(None) == ()


def test_a_label_with_a_comma_can_be_learnt_and_forgotten(train, command, photos, tmp_path: Path) -> None:
    copy = shutil.copytree(photos, tmp_path / "photos")
    with (copy / "attributes.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    with (copy / "attributes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[{"top": "Hat, red"}.get(name, name) for name in header], *rows])
    settings = ["--epochs", 1, "--image-size", 16, "--quiet", "--out"]
    flags = ["--labels", r"bottom,Hat\, red", "--without", r"Hat\, red"]
    assert command("train", f"folder:{copy}", *settings, "retrained", *flags).code == 0
    assert record_of(tmp_path / "retrained")["without"] == ["Hat, red"]
    assert command("train", f"folder:{copy}", *settings, "base").code == 0
    forget = ["forget", "head-removal", "base", "--out", "less", "--quiet", "--labels"]
    ran = command(*forget, "Hat, red")
    assert (ran.code, "after a backslash: 'Hat\\, red'" in ran.err) == (2, True)
    assert command(*forget, r"middle, Hat\, red").code == 0
    assert load_run(tmp_path / "less").config.forgotten == ("Hat, red", "middle")


def test_a_command_that_is_printed_can_be_copied_as_it_stands(base: Path, command) -> None:
    """Also where a name has spaces, an apostrophe or a dollar."""
    shutil.copytree(base, "my run's $HOME")
    ran = command(
        "forget", "head-removal", "my run's $HOME", "--labels", "top", "--out", "it is less", "--quiet"
    )
    assert ran.code == 0, ran.err
    (line,) = (line for line in ran.out.splitlines() if "unlabel audit" in line)
    expected = ["unlabel", "audit", "it is less", "--before", "my run's $HOME", "--reference", "RETRAINED"]
    assert shlex.split(line.partition(": ")[2]) == expected
    refused = command("report", "it is less")
    assert "first run: unlabel audit 'it is less' --before BEFORE" in refused.err
    refused = command("inspect", "faces:train=10, test=10")
    assert "unlabel data 'faces:train=10, test=10'" in refused.err
