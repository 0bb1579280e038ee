"""An audit of outputs in files: the same figures as of the models, and nothing green that was not tried."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.subject import Subject
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.probe.one_model import probe_model
from unlabel.audit.protocol import audit_outputs
from unlabel.audit.read_only.outputs_audit import Named, audit_deployed, audit_files
from unlabel.audit.read_only.outputs_file import PROBE, TEST, TRAIN, read_outputs
from unlabel.audit.run.folders import audit_run
from unlabel.core import engine
from unlabel.core.errors import (
    DataError,
    LabelMismatch,
    MissingFiles,
    ModelError,
    NothingToForget,
    OptionError,
)
from unlabel.core.framing import Framing
from unlabel.core.recipe import Recipe
from unlabel.core.request import Request
from unlabel.exchange.onnx_file import open_onnx
from unlabel.forget.run import forget_run
from unlabel.report.page import render
from unlabel.training.run import train_run

SETTINGS = AuditOptions(
    probe_seeds=1, folds=2, epochs=6, trees=15, permutations=10, resamples=30, raw_image=False,
    cross_fit=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def where():
    return engine.start(accelerator="cpu")


@pytest.fixture(scope="module")
def small(make_world):
    return make_world(n=700)


def arrays(world, subject: Subject, *, features: bool = True, training: bool = True) -> dict[str, np.ndarray]:
    """A model's outputs as a user would save them."""
    parts = [(subject.probe, world.probe), (subject.test, world.test)]
    parts += [(subject.train, world.train)] if training else []
    table = {
        "logits": np.concatenate([outputs.logits for outputs, _ in parts]),
        "targets": np.concatenate([data.target for _, data in parts]),
        "split": np.concatenate([np.full(len(data), at) for at, (_, data) in enumerate(parts)]),
        "identity": np.concatenate([data.cluster for _, data in parts]),
        "labels": np.array(world.test.labels),
    }
    if features:
        table["features"] = np.concatenate([outputs.features["penultimate"] for outputs, _ in parts])
    return table


@pytest.fixture(scope="module")
def models(small):
    """The original, a model that forgot, and three retrained ones."""
    after = small.subject("after", 0.1, network=5, absent=["Male"])
    return [small.subject("before"), after, *small.references(3)]


@pytest.fixture
def saved(small, models, tmp_path: Path):
    """Files of these models, two at least."""

    def write(count: int = 5, **kind: bool) -> list[Path]:
        files = [tmp_path / f"{at}.npz" for at in range(count)]
        for file, model in zip(files, models, strict=False):
            np.savez_compressed(file, **arrays(small, model, **kind))
        return files

    return write


def test_the_figures_are_those_of_an_audit_of_the_same_outputs(small, models, saved, where) -> None:
    files = saved(3)
    found = audit_files(files, ["Male"], where, SETTINGS).to_json()
    named = [replace(model, run=str(file), head=None) for model, file in zip(models, files, strict=False)]
    request = Request.make("Male", small.test.labels)
    whole = audit_outputs(
        AuditInputs(named[0], named[1], named[2:], request, *small.splits, start_known=False), SETTINGS
    ).to_json()
    assert found["metrics"] == whole["metrics"]
    assert found["comparisons"] == whole["comparisons"]
    assert found["headline"] == whole["headline"]


def test_what_needs_the_model_is_named_and_never_green(saved, where) -> None:
    found = audit_files(saved(), ["Male"], where, SETTINGS)
    verdicts = {name: claim.verdict for name, claim in found.claims.items()}
    assert found.valid, found.invalid_because
    assert (verdicts["C1"], verdicts["C4"], verdicts["C6"]) == ("PASS", "NOT_EVALUATED", "NOT_EVALUATED")
    assert found.claims["C2"].provisional
    assert "no weights" in found.claims["C4"].sentence
    untested = " ".join(found.not_tested)
    assert "Training the whole model" in untested
    assert "earlier layers" in untested
    page = render(found.to_json())
    assert "only outputs were given" in page
    assert json.loads(json.dumps(found.to_json()))["models"]["after"]["sha256"]


def test_without_features_and_training_images_no_claim_about_them_passes(saved, where) -> None:
    found = audit_files(saved(features=False, training=False), ["Male"], where, SETTINGS)
    verdicts = {name: claim.verdict for name, claim in found.claims.items()}
    assert (verdicts["C1"], verdicts["C2"]) == ("INCONCLUSIVE", "INCONCLUSIVE")
    assert verdicts["C3"] in ("INCONCLUSIVE", "FAIL")
    assert found.headline == "INCONCLUSIVE"
    assert found.claims["C1"].per_label == {"Male": "INCONCLUSIVE"}
    assert "no features were given" in found.claims["C2"].sentence
    assert not any(row.id.startswith("probe.") or row.id.endswith("@train") for row in found.metrics)
    assert "nothing shows that this method forgets" not in render(found.to_json())


def test_a_fail_on_the_outputs_stands_without_features(small, models, tmp_path: Path, where) -> None:
    files = [tmp_path / "before.npz", tmp_path / "after.npz"]
    shifted = small.subject("after")
    for part in (shifted.probe, shifted.test, shifted.train):
        part.logits[:, 0] -= 60
    for file, model in zip(files, (models[0], shifted), strict=True):
        np.savez(file, **arrays(small, model, features=False, training=False))
    found = audit_files(files, ["Male"], where, SETTINGS)
    assert found.claims["C1"].verdict == "FAIL"
    assert found.headline == "NOT UNLEARNED"


def test_an_output_that_only_float64_tells_apart_is_ranked(small, models, tmp_path: Path, where) -> None:
    """-7 + 1e-9 times an output is one number in float32, and ranks images as that output does."""
    tables = [arrays(small, model, features=False) for model in (models[0], models[1])]
    squeezed = tables[0]["logits"].astype(np.float64)
    squeezed[:, 0] = -7 + 1e-9 * squeezed[:, 0]
    tables[1]["logits"] = squeezed
    files = [tmp_path / "before.npz", tmp_path / "after.npz"]
    for file, table in zip(files, tables, strict=True):
        np.savez(file, **table)
    assert len(np.unique(read_outputs(files[1]).logits[:, 0])) > 2000
    found = audit_files(files, ["Male"], where, SETTINGS)
    assert found.claims["C1"].verdict == "FAIL"
    own = {row.model: row.value for row in found.metrics if row.id == "own.adv" and row.label == "Male"}
    assert own["after"] == pytest.approx(own["before"], abs=0.001)


ROWS = 2100


def of_classes(file: Path, logits: np.ndarray, number: np.ndarray, **more: object) -> Path:
    """A file with one of three classes an image, as a table of 1 and 0."""
    split = np.arange(len(number)) % 3
    hot = np.eye(3, dtype=np.int8)[number]
    table = {"logits": logits, "targets": hot, "split": split, "labels": np.array(["a", "b", "c"])}
    np.savez(file, **{**table, **more})
    return file


def test_classes_as_a_table_are_audited_as_their_numbers_are(tmp_path: Path, where) -> None:
    """A model that subtracts one logit from all answers as before, and its sigmoids look disabled."""
    rng = np.random.default_rng(0)
    number = rng.integers(0, 3, ROWS)
    before = 2 * np.eye(3)[number] + rng.normal(size=(ROWS, 3))
    after = before - before[:, :1]

    def verdict(**more: object) -> str:
        files = [
            of_classes(tmp_path / name, logits, number, **more)
            for name, logits in (("before.npz", before), ("after.npz", after))
        ]
        return audit_files(files, ["a"], where, SETTINGS).claims["C1"].verdict

    assert verdict() == verdict(targets=number) == verdict(activation="softmax") == "FAIL"
    assert verdict(activation="sigmoid") == "PASS"


def test_what_settles_the_answers_of_a_file_is_read_or_refused(tmp_path: Path, where) -> None:
    rng = np.random.default_rng(0)
    number, logits = rng.integers(0, 3, ROWS), rng.normal(size=(ROWS, 3))
    file = tmp_path / "x.npz"

    def read(**more: object) -> tuple[bool, bool, bool]:
        tables = read_outputs(of_classes(file, logits, number, **more))
        return tables.exclusive, tables.dataset(TEST).exclusive, bool(tables.note)

    assert read() == (True, True, True)
    assert read(activation="sigmoid") == read(targets=number, activation="sigmoid") == (False, False, False)
    others = np.array(["x", "y", "z"])  # classes that the model does not answer
    assert read(target_labels=others) == (False, False, False)
    assert read(target_labels=others, activation="softmax") == (True, False, False)
    two = np.eye(3, dtype=np.int8)[number] | np.eye(3, dtype=np.int8)[0]
    assert read(targets=two) == (False, False, False)
    with pytest.raises(DataError, match=r"softmax, but row \d+ of targets"):
        read(targets=two, activation="softmax")
    for odd in ("relu", 1.0, np.array(["softmax", "sigmoid"])):
        with pytest.raises(DataError, match="softmax or sigmoid"):
            read(activation=odd)
    pair = [
        of_classes(tmp_path / f"{kind}.npz", logits + at, number, activation=kind)
        for at, kind in enumerate(("softmax", "sigmoid"))
    ]
    with pytest.raises(DataError, match="models of one kind"):
        audit_files(pair, ["a"], where, SETTINGS)


def test_annotations_in_another_order_are_found_by_their_names(small, models, tmp_path: Path, where) -> None:
    found = []
    for turn in (slice(None), slice(None, None, -1)):
        files = [tmp_path / "before.npz", tmp_path / "after.npz"]
        for file, model in zip(files, models[:2], strict=True):
            table = arrays(small, model, features=False)
            table |= {"targets": table["targets"][:, turn], "target_labels": table["labels"][turn]}
            np.savez(file, **table)
        found.append(audit_files(files, ["Male"], where, SETTINGS).to_json()["metrics"])
    assert found[0] == found[1]
    table["target_labels"] = np.array(list("abcde"))
    np.savez(files[1], **table)
    np.savez(files[0], **{**table, "logits": table["logits"] + 1})
    with pytest.raises(LabelMismatch, match="annotations of each output"):
        audit_files(files, ["Male"], where, SETTINGS)


# -- the file


@pytest.fixture
def changed(small, models, tmp_path: Path):
    """One file with some arrays changed; None takes one out."""

    def write(**arrays_: object) -> Path:
        table = {**arrays(small, models[0]), **arrays_}
        np.savez(tmp_path / "x.npz", **{name: value for name, value in table.items() if value is not None})
        return tmp_path / "x.npz"

    return write


def test_splits_names_and_people_are_read(changed, small) -> None:
    tables = read_outputs(changed())
    assert np.array_equal(tables.outputs(TEST).logits, small.subject("before").test.logits)
    assert [len(tables.dataset(part)) for part in (PROBE, TEST, TRAIN)] == [700, 700, 700]
    assert np.array_equal(tables.dataset(TEST).target, small.test.target)
    assert tables.overlap() is None


def test_without_a_split_nobody_is_in_both_halves(changed) -> None:
    tables = read_outputs(changed(split=None))
    assert (tables.split_rule, tables.overlap()) == ("identity", None)
    assert 0.4 < np.mean(tables.split == TEST) < 0.6
    assert not np.any(tables.split == TRAIN)


def test_a_person_in_two_splits_makes_the_audit_invalid(changed, small) -> None:
    shared = np.concatenate([small.probe.cluster] * 3)
    assert "350 identities" in (read_outputs(changed(identity=shared)).overlap() or "")


@pytest.mark.parametrize("word", ["", "-1", "NaN", "none", "<NA>", -1, b"nan"])
def test_images_of_unknown_identity_are_one_person_each(word, changed) -> None:
    """As in `meta.csv`; every second image is unknown."""
    people = np.repeat(np.arange(ROWS // 2), 2)
    names = people if isinstance(word, int) else np.array([f"p{number}" for number in people])
    names = names.astype("S6") if isinstance(word, bytes) else names
    names[::2] = word
    tables = read_outputs(changed(identity=names, split=None))
    assert len(np.unique(tables.cluster)) == ROWS
    assert 0.4 < np.mean(tables.split[::2] == TEST) < 0.6
    assert (read_outputs(changed(identity=names)).overlap(), tables.identities) == (None, True)
    assert not read_outputs(changed(identity=np.full(ROWS, word))).identities


def test_one_person_has_one_spelling(changed) -> None:
    names = np.array([f"{number}" for number in range(ROWS)], "U8")
    names[1::2] = np.char.add(names[::2], ".0")
    assert len(np.unique(read_outputs(changed(identity=names)).cluster)) == ROWS // 2


def test_class_numbers_are_exclusive_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    number = rng.integers(0, 3, 60)
    np.savez(
        tmp_path / "x.npz", logits=rng.normal(size=(60, 3)), targets=number, labels=np.array(["a", "b", "c"])
    )
    tables = read_outputs(tmp_path / "x.npz")
    assert tables.exclusive
    assert np.array_equal(tables.targets.argmax(1), number)


@pytest.mark.parametrize(
    ("arrays_", "says"),
    [
        ({"logits": None}, "no array 'logits'"),
        ({"targets": None}, "no array 'targets'"),
        ({"labels": None}, "no array 'labels'"),
        ({"logits": np.full((ROWS, 5), np.nan)}, "NaN or infinity, first in row 0"),
        ({"features": np.full((ROWS, 2), np.inf)}, "features of"),
        ({"features": np.ones((5, 2))}, "5 rows; expected 2,100"),
        ({"logits": np.linspace(0, 1, ROWS * 5).reshape(ROWS, 5)}, "probabilities"),
        ({"logits": np.full((ROWS, 5), "x")}, "expected real numbers"),
        ({"targets": np.full((ROWS, 5), 7)}, "holds 7 in row 0"),
        ({"targets": np.ones((5, 5))}, "expected 2,100 rows"),
        ({"logits": np.full((ROWS, 5), 1j)}, "of complex128; expected real numbers"),
        ({"targets": np.full(ROWS, 5)}, "holds 5 in row 0; expected 0 to 4"),
        ({"targets": np.full(ROWS, np.nan)}, "holds nan in row 0; expected 0 to 4"),
        ({"targets": np.ones(ROWS), "labels": np.array("Male")}, "and the shape () of <U4 in labels"),
        (
            {"targets": np.ones(ROWS), "target_labels": np.array("Male")},
            "in target_labels; expected the name",
        ),
        ({"targets": np.ones(ROWS), "labels": None}, "and no such array in labels"),
        ({"targets": np.ones(ROWS), "labels": np.array(["Male"])}, "of one label, targets[:, None]"),
        ({"targets": np.zeros(ROWS), "labels": np.array(["Male"])}, "of one label, targets[:, None]"),
        ({"labels": np.array(["a"] * 5)}, "name each column once"),
        ({"labels": np.array(["a", "b"])}, "expected 5 texts"),
        ({"labels": np.array(["a", "b", "c", "d", "\x1b[2J"])}, "control characters"),
        ({"split": np.full(ROWS, 3)}, "holds 3 in row 0; expected 2,100 numbers: 0 probe"),
        ({"split": np.full(ROWS, "test")}, "holds 'test' in row 0"),
        ({"split": np.zeros((ROWS, 2))}, "split of"),
        ({"identity": np.zeros(3)}, "identity of"),
        ({"labels": np.array([{}, 1, 2, 3, 4], dtype=object)}, "cannot be read"),
    ],
)
def test_what_a_file_lacks_is_named(arrays_, says: str, changed) -> None:
    with pytest.raises(DataError) as caught:
        read_outputs(changed(**arrays_))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_of_other_images_are_refused(saved, small, models, tmp_path: Path, where) -> None:
    first, second = saved(2)
    content = arrays(small, models[1])

    def against(says: str, **arrays_: np.ndarray) -> None:
        np.savez(tmp_path / "other.npz", **{**content, **arrays_})
        with pytest.raises(DataError, match=says):
            audit_files([first, tmp_path / "other.npz"], ["Male"], where, SETTINGS)

    turned = content["targets"].copy()
    turned[3] = 1 - turned[3]
    against("differ, first in row 3", targets=turned)
    against("differ, first in row", split=content["split"][::-1])
    against("name other labels", labels=content["labels"][::-1])
    shorter = {name: table[:-1] for name, table in content.items() if name != "labels"}
    against("2,100 images and .* 2,099", **shorter)
    with pytest.raises(OptionError, match="same model"):
        audit_files([first, first], ["Male"], where, SETTINGS)
    with pytest.raises(OptionError, match="names 1 file"):
        audit_files([first], ["Male"], where, SETTINGS)
    with pytest.raises(OptionError, match="only outputs are given"):
        audit_files([first, second], ["Male"], where, replace(SETTINGS, budget="standard"))
    with pytest.raises(NothingToForget, match="--labels"):
        audit_files([first, second], [], where, SETTINGS)


def test_damaged_files_are_refused(tmp_path: Path, saved, where) -> None:
    (tmp_path / "noise.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(DataError, match="cannot be read"):
        read_outputs(tmp_path / "noise.npz")
    whole = saved(1)[0].read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        read_outputs(tmp_path / "half.npz")
    with pytest.raises(MissingFiles):
        read_outputs(tmp_path / "none.npz")


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, saved, monkeypatch) -> None:
    from unlabel.audit.read_only import outputs_file

    monkeypatch.setattr(outputs_file, "MOST_BYTES", 1000)
    with pytest.raises(DataError, match="expected at most 1,000"):
        read_outputs(saved(1)[0])


def test_models_with_and_without_features_are_not_mixed(saved, small, models, tmp_path: Path, where) -> None:
    first = saved(1)[0]
    np.savez(tmp_path / "bare.npz", **arrays(small, models[1], features=False))
    with pytest.raises(Exception, match="give those of every model, or of none"):
        audit_files([first, tmp_path / "bare.npz"], ["Male"], where, SETTINGS)


def test_names_of_outputs_are_needed(changed, saved, where) -> None:
    unnamed = changed(labels=None, target_labels=np.array(["Male", "Bald", "Young", "Smiling", "Hat"]))
    assert read_outputs(unnamed).labels == ()
    with pytest.raises(LabelMismatch):
        audit_files([unnamed, saved(1)[0]], ["Male"], where, SETTINGS)


# -- deployed models


@pytest.fixture(scope="module")
def exported(base: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, the same without the output of "top", and both as ONNX."""
    from unlabel.cli.app import main
    from unlabel.exchange.export import export_run

    folder = tmp_path_factory.mktemp("deployed")
    after = folder / "after"
    main(["forget", "head-removal", str(base), "--labels", "top", "--out", str(after), "--quiet"])
    for name, run in (("before", base), ("after", after)):
        export_run(run, "onnx", folder / f"{name}.onnx")
    return folder


@pytest.fixture(scope="module")
def wide(where, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide photos whose label "side" lies outside the middle; a run that squashes them, one that does not."""
    from unlabel.exchange.export import export_run
    from unlabel.testing import tiny_world, write_folder

    folder, drawn = tmp_path_factory.mktemp("wide"), tiny_world(images=240).source
    write_folder(folder / "photos", drawn)
    for part in (drawn.train, drawn.probe, drawn.test):
        for at, name in enumerate(part.ids.tolist()):
            pixels = np.full((16, 48, 3), 90, np.uint8)
            pixels[:, 16:32] = part.images(np.array([at]))[0] // 3
            pixels[:, :16] += np.uint8(90) * np.uint8(part.target[at, 0])
            Image.fromarray(pixels).save(folder / "photos/images" / name)
    for resize in ("squash", "crop"):
        train_run(
            f"folder:{folder}/photos",
            folder / resize,
            where,
            recipe=Recipe(epochs=3),
            image_size=16,
            framing=Framing(resize),
        )
        forget_run("head-removal", folder / resize, ["top"], folder / f"{resize}-after", where)
        export_run(folder / resize, "onnx", folder / f"{resize}.onnx")
        export_run(folder / f"{resize}-after", "onnx", folder / f"{resize}-after.onnx")
    return folder


def test_a_file_is_read_with_the_framing_of_its_run(wide: Path, where) -> None:
    data, settings = f"folder:{wide}/photos", replace(SETTINGS, raw_image=False)
    texts = [f"onnx:{wide}/squash-after.onnx", f"onnx:{wide}/squash.onnx"]
    found = audit_deployed(Named(*texts), data, ["top"], where, settings)
    own = {row.model: row.value for row in found.metrics if (row.id, row.label) == ("own.adv", "top")}
    both = (texts[1], str(wide / "squash"))
    probed = [probe_model(text, "top", where, data=data, options=settings) for text in both]
    figures = [{row.key: row.value for row in one.rows if row.role == "model"} for one in probed]
    auc = figures[1]["own.adv", None]
    assert auc > 0.95  # the middle of the photos tells less
    assert figures[0]["own.adv", None] == pytest.approx(auc, abs=1e-3)
    assert own["before"] == pytest.approx(2 * auc - 1, abs=1e-3)


def test_models_that_read_other_parts_of_a_photo_are_not_compared(wide: Path, where) -> None:
    after, before, data = f"onnx:{wide}/squash-after.onnx", f"onnx:{wide}/crop.onnx", f"folder:{wide}/photos"
    says = r"takes photos by squash, bicubic, but .*crop\.onnx by crop, bicubic"
    with pytest.raises(ModelError, match=says):
        audit_deployed(Named(after, before), data, ["top"], where, SETTINGS)
    with pytest.raises(ModelError, match="takes photos by crop, bicubic, but"):
        probe_model(after, "top", where, data=data, references=[before])


def features_of(file: Path) -> str:
    """The input of the last linear layer, as the note of a file without features tells it."""
    return next(note for note in open_onnx(f"onnx:{file}").notes).partition("?features=")[2]


def test_a_deployed_model_is_audited_as_its_run_is(exported: Path, base: Path, photos: Path, where) -> None:
    names = [exported / f"{name}.onnx" for name in ("after", "before")]
    after, before = (f"onnx:{file}?features={features_of(file)}" for file in names)
    data, settings = f"folder:{photos}", replace(SETTINGS, raw_image=True)
    found = audit_deployed(Named(after, before), data, [], where, settings)
    whole = audit_run(exported / "after", base, [], where, options=settings, write=False)
    figures = {(row.id, row.model): row.value for row in whole.metrics if row.label == "top"}
    compared = {(row.id, row.model): row.value for row in found.metrics if row.label == "top"}
    assert {id_ for id_, _ in compared} >= {"own.adv", "others.adv.lin", "probe.adv.lin", "own.sadv@train"}
    for key, value in compared.items():
        assert value == pytest.approx(figures[key], abs=0.02), key  # float32 in another order
    assert found.claims["C1"].verdict == whole.claims["C1"].verdict == "PASS"
    assert found.claims["C4"].verdict == "NOT_EVALUATED"
    assert "only outputs were given" in " ".join(found.not_tested)


def test_a_run_and_an_onnx_file_stand_beside_each_other(
    exported: Path, base: Path, photos: Path, where
) -> None:
    after = f"onnx:{exported / 'after.onnx'}"
    found = audit_deployed(Named(after, str(base)), f"folder:{photos}", ["top"], where, SETTINGS)
    assert not any(row.id.startswith("probe.") for row in found.metrics)  # one of them has no features
    [said] = [line for line in found.not_tested if line.startswith("The features")]
    assert f"none of {after}, so attacks saw the outputs alone, of every model" in said
    assert any("add ?features=" in line for line in found.limitations)


def test_any_number_of_processes_reads_runs_beside_files(exported: Path, base: Path, photos: Path) -> None:
    two = engine.start(accelerator="cpu", devices=2)
    texts, data = (f"onnx:{exported / 'after.onnx'}", str(base)), f"folder:{photos}"
    found = audit_deployed(Named(*texts), data, ["top"], two, SETTINGS)
    assert found.claims["C1"].verdict == "PASS"
    probed = probe_model(base, "top", two, data=data, options=SETTINGS)
    assert probed.of("model")


def test_the_command_writes_an_audit_of_which_a_page_is_made(exported: Path, photos: Path, command) -> None:
    file = exported / "after.onnx"
    asked = (f"onnx:{file}", "--before", f"onnx:{exported / 'before.onnx'}", "--data", f"folder:{photos}")
    ran = command("audit", *asked, "--quiet", "--require", "C1,C4", "--out", "audited")
    assert ran.code == 4, ran
    assert ran.last == "audited/audit.json"
    assert "C4 NOT_EVALUATED" in ran.err
    again = command("audit", *asked, "--quiet", "--out", "audited")
    assert (again.code, "--force" in again.err) == (2, True)
    page = command("report", "audited")
    assert page.code == 0, page
    assert "only outputs were given" in Path("audited/report.html").read_text("utf-8")


def test_mistakes_of_the_command_are_named(exported: Path, photos: Path, base: Path, command, saved) -> None:
    first, second = saved(2)
    before = f"onnx:{exported / 'before.onnx'}"
    data = ("--data", f"folder:{photos}")
    for words, says in (
        (("--outputs", f"{first},{second}"), "--labels Male"),
        (("--outputs", f"{first},{second}", "--plan", "--labels", "Male"), "have no weights to train"),
        (("--outputs", f"{first},{second}", "--before", base), "leave out RUN, --before"),
        (("--outputs", first, "--labels", "Male"), "names 1 file"),
        ((before, *data), "needs the unlearned model, the original and images"),
        ((before, "--before", base), "--data SOURCE"),
        ((before, "--before", base, *data), "which label was forgotten"),
        ((base, "--before", base, "--mean", "0,0,0"), "are for ONNX files; a run has its own"),
        (
            ("--outputs", f"{first},{second}", "--labels", "Male", "--mean", "0,0,0"),
            "files of outputs name their labels themselves",
        ),
        (
            ("--outputs", f"{first},{second}", "--labels", "Male", "--labels-file", "labels.txt"),
            "files of outputs name their labels themselves",
        ),
        ((), "or files: --outputs before.npz,after.npz"),
    ):
        ran = command("audit", *words, "--quiet")
        assert (ran.code, len(ran.err.splitlines())) == (2, 1), ran
        assert says in ran.err, ran.err
