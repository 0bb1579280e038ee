"""References that an audit trains itself: by the original's recipe, resumably, and used again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from unlabel.audit.references.full import folder_of, make_references
from unlabel.audit.run.folders import audit_run
from unlabel.audit.setup import open_case
from unlabel.core import engine
from unlabel.core.errors import ModelError, NothingToForget, OptionError, UnlabelError
from unlabel.core.files import write_json
from unlabel.core.recipe import Recipe
from unlabel.forget.run import forget_run
from unlabel.report.page import write_report
from unlabel.report.terminal import lines
from unlabel.runs.files import read_config, read_record
from unlabel.runs.folder import load_run
from unlabel.testing import differing, tiny_world, write_folder
from unlabel.training import fit as training
from unlabel.training.checkpoints import Checkpoint
from unlabel.training.run import train_run

RECIPE = Recipe(epochs=1, lr=0.05)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``photos``, ``base`` and ``less``, which forgot top; only to be copied."""
    folder = tmp_path_factory.mktemp("made")
    photos = write_folder(folder / "photos", tiny_world(images=160).source)
    run = engine.start(accelerator="cpu", batch_size=32, seed=4)
    train_run(f"folder:{photos}", folder / "base", run, recipe=RECIPE, image_size=16)
    forget_run("head-removal", folder / "base", ["top"], folder / "less", engine.start(accelerator="cpu"))
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """``base`` and ``less`` in a folder of the test's own."""
    for name in ("base", "less"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def adopted(runs: Path) -> Path:
    """The same, as if ``base`` had been trained elsewhere, on another normalisation."""
    for name, method in (("base", "adopt"), ("less", "head-removal")):
        change(runs / name, "unlabel.json", blueprint=None, start="unknown", method=method)
        change(runs / name, "config.json", mean=[0.4, 0.5, 0.6], std=[0.2, 0.2, 0.3])
    change(runs / "base", "unlabel.json", images_processed=0, seconds={"total": 0.1})
    return runs


def change(run: Path, name: str, **values: Any) -> None:
    """Rewrites a JSON file of a run."""
    write_json(run / name, json.loads((run / name).read_text("utf-8")) | values)


def make(runs: Path, count: int = 1, **more: Any) -> list[Path]:
    where = more.pop("where", None) or engine.start(accelerator="cpu")
    case = open_case(runs / "less", runs / "base", more.pop("given", ()), where, more.pop("data", None))
    return make_references(case, count, where, **more)


def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that trainings are asked to write, from now on."""
    seen: list[Path] = []

    def spy(source: str, out: Path, *rest: Any, **more: Any) -> Any:
        seen.append(out)
        return train_run(source, out, *rest, **more)

    monkeypatch.setattr("unlabel.audit.references.full.train_run", spy)
    return seen


def test_references_repeat_the_recipe_with_seeds_of_their_own(made, runs, tmp_path) -> None:
    found = make(runs, 2)
    assert [path.name for path in found] == ["base-without-top-seed5", "base-without-top-seed6"]
    assert {path.parent for path in found} == {runs}
    original = read_record(runs / "base")
    for seed, path in enumerate(found, start=5):
        record, config = read_record(path), read_config(path)
        assert (record.seed, record.method, record.without) == (seed, "train", ("top",))
        assert record.blueprint == original.blueprint  # batch size 32, though the place says 64
        assert record.digest == original.digest
        assert config.forgotten == ("top",)
    by_hand = engine.start(accelerator="cpu", batch_size=32, seed=5)
    source = f"folder:{made / 'photos'}"
    train_run(source, tmp_path / "hand", by_hand, recipe=RECIPE, image_size=16, without=["top"])
    assert differing(load_run(found[0]).model, load_run(tmp_path / "hand").model) == []


def test_a_finished_reference_is_used_again_and_more_are_added(runs, monkeypatch) -> None:
    asked = attempts(monkeypatch)
    first = make(runs, 1)
    assert make(runs, 2)[:1] == first
    assert [path.name for path in asked] == ["base-without-top-seed5", "base-without-top-seed6"]
    given = make(runs, 1, given=asked)
    assert [path.name for path in given] == ["base-without-top-seed7"]


def gpu(monkeypatch: pytest.MonkeyPatch, run: Path, **plan: Any) -> None:
    """From now on, the machine has a GPU whose memory holds a whole batch; and another plan is recorded."""
    monkeypatch.setattr(engine, "memory", lambda run: 80 * 2**30)
    if plan:
        recorded = json.loads((run / "unlabel.json").read_text("utf-8"))["blueprint"]
        change(run, "unlabel.json", blueprint=recorded | plan)


def test_a_gpu_repeats_the_recorded_micro_batch(runs, monkeypatch) -> None:
    """BatchNorm normalises within it, so it is a part of the recipe: the card's memory does not decide."""
    gpu(monkeypatch, runs / "base", micro_batch=8)
    (path,) = make(runs, 1)
    found, original = read_record(path).blueprint, read_record(runs / "base").blueprint
    assert found == original
    assert found is not None
    assert found.micro_batch == 8
    assert make(runs, 1) == [path]
    with pytest.raises(OptionError, match="another recipe"):  # another micro-batch may be asked for
        make(runs, 1, where=engine.start(accelerator="cpu", micro_batch=4))


def test_a_gpu_chooses_where_no_micro_batch_is_recorded_and_finds_its_references_again(
    adopted, monkeypatch
) -> None:
    gpu(monkeypatch, adopted / "base")
    (path,) = make(adopted, 1, epochs=1, lr=0.05)
    plan = read_record(path).blueprint
    assert plan is not None
    assert plan.micro_batch == plan.batch_size == 64
    assert make(adopted, 1, epochs=1, lr=0.05) == [path]


def test_a_killed_training_goes_on(runs, monkeypatch) -> None:
    whole = make(runs, 1)[0]
    shutil.move(whole, runs / "whole")
    save = Checkpoint.save

    def save_and_die(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
        patch.setattr(Checkpoint, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            make(runs, 1)
    assert (runs / ".base-without-top-seed5.training" / "checkpoint.pt").is_file()
    assert make(runs, 1) == [whole]
    assert differing(load_run(whole).model, load_run(runs / "whole").model) == []
    assert not list(runs.glob(".*.training"))


def test_an_unfinished_training_of_another_recipe_is_discarded_by_force(
    adopted, command, monkeypatch
) -> None:
    def stop(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
        patch.setattr(Checkpoint, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            make(adopted, epochs=1, lr=0.05)
    audit = (
        "audit",
        "less",
        "--before",
        "base",
        "--quiet",
        "--make-references",
        1,
        "--epochs",
        1,
        "--lr",
        0.1,
    )
    ran = command(*audit)
    assert (ran.code, "discard it with --force" in ran.err) == (2, True), ran
    ran = command(*audit, "--force")
    assert ran.code == 0, ran.err
    assert read_record(adopted / "base-without-top-seed5").blueprint.recipe.lr == 0.1


def test_an_unlearned_model_is_no_reference_and_one_that_retrain_made_is(runs, command) -> None:
    """Beside another unlearned model, any method would look as good as retraining."""
    for method, out in (("leace-head", "unlearned"), ("retrain", "retrained")):
        made = command(
            "forget", method, "base", "--labels", "top", "--out", out, "--max-loss", "1", "--quiet"
        )
        assert made.code == 0, made.err
    refused = command("audit", "less", "--before", "base", "--reference", "unlearned", "--quiet")
    assert refused.code == 2
    assert "was made by 'leace-head' from a model that knew top; expected one that never saw" in refused.err
    audited = command("audit", "less", "--before", "base", "--reference", "retrained", "--quiet")
    assert audited.code == 0, audited.err


def test_the_command_trains_audits_and_says_what_it_made(runs, command) -> None:
    ran = command("audit", "less", "--before", "base", "--make-references", 2)
    assert ran.code == 0
    assert "reference 1/2, without top: training small with seed 5 into base-without-top-seed5" in ran.err
    assert "reference base-without-top-seed5\nreference base-without-top-seed6\n" in ran.out
    assert "retrained" in ran.out
    assert "would take" not in ran.out
    found = json.loads((runs / "less" / "audit.json").read_text("utf-8"))
    assert [item["run"] for item in found["models"]["references"]] == [
        "base-without-top-seed5",
        "base-without-top-seed6",
    ]
    assert found["data"]["references_differ"] == []
    assert found["claims"]["C2"]["provisional"] is True


def test_a_forgotten_original_is_named_if_the_run_records_it(runs, command) -> None:
    for parent, said in (("base", "--before base"), ("gone", "--before BEFORE"), (None, "--before BEFORE")):
        change(runs / "less", "unlabel.json", parent=parent and {"run": parent})
        ran = command("audit", "less", "--quiet")
        assert (ran.code, ran.err.strip().endswith(f"name it with {said}")) == (2, True), ran


def test_forget_says_how_references_come_about(runs, adopted, command) -> None:
    forget = ("forget", "head-removal", "base", "--labels", "top", "--quiet", "--out")
    assert "to train retrained models first: --make-references 3 in place" in command(*forget, "one").out
    change(runs / "base", "unlabel.json", adopted={"weights": "w.pt", "notes": []})
    assert "--make-references 3 --epochs EPOCHS --lr LR in place" in command(*forget, "two").out


def test_what_references_would_cost_is_said_where_there_are_none(runs, command) -> None:
    ran = command("audit", "less", "--before", "base", "--quiet")
    found = json.loads((runs / "less" / "audit.json").read_text("utf-8"))
    cost = found["models"]["reference_cost"]
    record = read_record(runs / "base")
    assert cost["images"] == record.images_processed == 96  # 80 photos, in three batches of 32
    assert cost["seconds"] == pytest.approx(record.seconds["train"], rel=1e-5)
    assert cost["command"] == "unlabel audit less --before base --make-references 3"
    assert (
        "3 references would take about 96 images each, about 1 s each (estimated from the original's"
        in ran.out
    )
    assert ran.out.splitlines()[-2].endswith(cost["command"])
    heading = next(line for line in ran.out.splitlines() if line.startswith("top  "))
    assert heading.split()[-2:] == ["the", "truth"]
    floor = next(row["value"] for row in found["metrics"] if row["id"] == "floor.adv")
    trees = next(line for line in ran.out.splitlines() if line.startswith("the other outputs, trees"))
    assert trees.split()[-1] == f"{floor:.3f}"
    probe = next(line for line in ran.out.splitlines() if line.startswith("the features, linear probe"))
    assert probe.split()[-1] == "-"
    assert cost["command"] in write_report(runs / "less").read_text("utf-8")


def test_an_adopted_original_needs_a_recipe_and_its_references_read_images_as_it_does(
    adopted, command
) -> None:
    ran = command("audit", "less", "--before", "base", "--quiet")
    assert (
        "3 references would take about 80 images an epoch for each. The original's recipe is not recorded"
        in ran.out
    )
    assert "--make-references 3 --epochs EPOCHS --lr LR" in ran.out
    assert (
        "by SGD on a one-cycle schedule. If the original was trained otherwise, other values may" in ran.out
    )
    with pytest.raises(OptionError, match="how it was trained, so --epochs and --lr must say"):
        make(adopted)
    with pytest.raises(OptionError, match="trained as unlabel train does it, by SGD on a one-cycle schedule"):
        make(adopted)
    with pytest.raises(OptionError, match="so --lr must say"):
        make(adopted, epochs=1)
    with pytest.raises(OptionError, match="by the original's own code, and adopt them with --without"):
        make(adopted)
    found = make(adopted, 3, epochs=1, lr=0.05)
    config, record = read_config(found[0]), read_record(found[0])
    assert (config.mean, config.std) == ((0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
    assert record.blueprint.recipe.lr == 0.05
    assert make(adopted, 3, epochs=1, lr=0.05) == found
    with pytest.raises(OptionError, match="is a run with another recipe; expected a reference of this audit"):
        make(adopted, 3, epochs=2, lr=0.05)


def test_c2_stays_provisional_where_nobody_knows_how_the_original_began(adopted) -> None:
    run = engine.start(accelerator="cpu")
    found = audit_run(adopted / "less", adopted / "base", make(adopted, 3, epochs=1, lr=0.05), run)
    assert found.claims["C2"].provisional
    reason = (
        "   provisional: it is not recorded from which weights the original's training began; if you know,"
    )
    assert [line for line in lines(found) if line.startswith(reason)], lines(found)
    assert any("are not recorded" in line and "provisional" in line for line in found.limitations)
    assert all("is not recorded" in line for line in found.data["references_differ"])
    page = write_report(adopted / "less").read_text("utf-8")
    assert "it is not recorded from which weights" in page
    assert "Provisional: only" not in page


def test_what_was_not_judged_is_not_provisional(adopted, command) -> None:
    ran = command("audit", "less", "--before", "base", "--quiet")
    assert "C2 NOT_EVALUATED: " in ran.out
    assert "provisional" not in ran.out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"count": 0}, "--make-references is 0; expected 1 to 20"),
        ({"count": 21}, "--make-references is 21; expected 1 to 20"),
        ({"epochs": 2.0}, "--epochs is 2, but .* was trained with 1; a reference repeats"),
        ({"lr": 0.1}, "--lr is 0.1, but .* was trained with 0.05"),
    ],
)
def test_what_is_refused_before_any_training(runs, monkeypatch, more, says) -> None:
    asked = attempts(monkeypatch)
    with pytest.raises(OptionError, match=says):
        make(runs, **more)
    assert asked == []


def test_the_recorded_recipe_may_be_repeated(runs) -> None:
    assert len(make(runs, 1, epochs=1.0, lr=0.05)) == 1


def test_another_run_in_the_place_of_a_reference_is_refused(runs, monkeypatch) -> None:
    asked = attempts(monkeypatch)
    shutil.copytree(runs / "base", runs / "base-without-top-seed6")
    with pytest.raises(
        OptionError, match="seed6 is a run with another seed and another network, labels or input"
    ):
        make(runs, 2)
    shutil.rmtree(runs / "base-without-top-seed6")
    (runs / "base-without-top-seed5").mkdir()
    (runs / "base-without-top-seed5" / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match="exists and is no whole run"):
        make(runs, 2)
    assert asked == []


def test_an_audit_reads_in_one_process_however_many_its_references_take(runs) -> None:
    two = engine.start(accelerator="cpu", devices=2)
    assert audit_run(runs / "less", runs / "base", [], two).headline == "DISABLED, NO REFERENCE"


def test_a_recipe_without_a_training_is_refused(runs, command) -> None:
    ran = command("audit", "less", "--before", "base", "--epochs", 3)
    assert (ran.code, "add --make-references" in ran.err) == (2, True)


def test_deleted_annotations_are_no_forgotten_label(runs, command) -> None:
    change(runs / "less", "unlabel.json", rows={"file": "rows.csv", "sha256": "0", "count": 1200})
    change(runs / "less", "config.json", forgotten=[])
    with pytest.raises(NothingToForget, match=r"keeps its labels: it forgot 1,200 single annotations of top"):
        make(runs)
    ran = command("audit", "less", "--before", "base")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "C6" in ran.err


def test_seeds_of_the_training_count_where_the_original_forgot_before(runs) -> None:
    """``base`` forgets one label, and its child another: the training's seed stands in the grandparent."""
    run = engine.start(accelerator="cpu", seed=5)
    forget_run("head-removal", runs / "less", ["bottom"], runs / "two", run)
    change(runs / "less", "unlabel.json", parent={"run": str(runs / "base"), "sha256": ""})
    found = make_references(open_case(runs / "two", runs / "less", [], run, None), 2, run)
    assert [path.name for path in found] == [
        "less-without-top+bottom-seed5",
        "less-without-top+bottom-seed6",
    ]
    assert read_config(found[0]).forgotten == ("top", "bottom")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"mean": [0.25, 0.5, 0.5]}, "the mean 0.5,0.5,0.5, but the original base with 0.25,0.5,0.5"),
        ({"std": [0.5, 0.5, 0.5]}, "the std 0.25,0.25,0.25, but the original base with 0.5,0.5,0.5"),
        ({"resize": "pad"}, "the framing crop, bicubic, but the original base with pad, bicubic"),
        ({"image_size": 32}, "the image size 16, but the original base with 32"),
    ],
)
def test_an_original_that_reads_photos_otherwise_than_the_runs_parent_is_refused(
    values: dict[str, Any], says: str, runs, command
) -> None:
    change(runs / "base", "config.json", **values)
    ran = command("audit", "less", "--before", "base")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1), ran
    assert says in ran.err
    assert "name the run that it was made from as --before" in ran.err


def test_a_reference_of_another_framing_is_refused_and_another_normalisation_is_its_own(runs) -> None:
    where = engine.start(accelerator="cpu")
    (reference,) = make(runs)
    change(reference, "config.json", mean=[0.4, 0.5, 0.6])
    assert open_case(runs / "less", runs / "base", [reference], where, None).references
    change(reference, "config.json", resize="squash")
    with pytest.raises(ModelError, match="the framing squash, bicubic, but the original"):
        open_case(runs / "less", runs / "base", [reference], where, None)


def test_a_run_and_its_original_in_the_wrong_order_are_told_so(runs, command) -> None:
    ran = command("audit", "base", "--before", "less")
    assert (ran.code, "Are RUN and --before swapped?" in ran.err) == (2, True), ran


def test_labels_are_checked_before_the_folder_that_exists(runs) -> None:
    where = engine.start(accelerator="cpu")
    with pytest.raises(UnlabelError, match="nope"):
        forget_run("head-removal", runs / "base", ["nope"], runs / "less", where)
    with pytest.raises(OptionError, match="exists"):
        forget_run("head-removal", runs / "base", ["top"], runs / "less", where)


def test_names_of_folders_are_safe_and_never_shared() -> None:
    base = Path("runs/base")
    odd = [folder_of(base, [name], 1).name for name in ("a/b", "a_b", "a b", "é", "..", "a" * 300)]
    assert len({*odd}) == len(odd)
    assert all(len(name) < 130 and "/" not in name and name.isascii() for name in odd)
    assert folder_of(base, ["a+b"], 1) != folder_of(base, ["a", "b"], 1)
    assert folder_of(Path(), ["a"], 1).name == f"{Path().resolve().name}-without-a-seed1"
