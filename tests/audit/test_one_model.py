"""What one model tells of a label: planted ones are found, coins are not, a gender network is found out."""

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.probe import one_model
from unlabel.audit.probe.findings import Probed, gate, lines
from unlabel.audit.probe.one_model import probe_model
from unlabel.core import engine
from unlabel.core.errors import LabelMismatch, OptionError
from unlabel.core.recipe import Recipe
from unlabel.data import load
from unlabel.data.dataset import Dataset
from unlabel.exchange.onnx_file import OnnxSettings
from unlabel.statistics.estimate import auc
from unlabel.testing import tiny_world, write_folder
from unlabel.training.fit import LabelLoss, fit
from unlabel.training.run import train_run

OPTIONS = AuditOptions(probe_seeds=1, folds=2, epochs=10, trees=15, permutations=10, resamples=30, rare=0)
HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def where():
    return engine.start(accelerator="cpu")


@pytest.fixture
def small_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's probes with fewer seeds, folds, epochs and trees."""
    monkeypatch.setattr(one_model, "AuditOptions", partial(replace, OPTIONS))


def values(probed: Probed, role: str = "model") -> dict[tuple[str, str | None], float]:
    return {row.key: row.value for row in probed.rows if row.role == role}


# -- files of outputs: the answer is known exactly


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., str]:
    """A model of three outputs: the first is the label's own, the features carry it to a degree."""

    def write(name: str = "x.npz", know: float = 2.0, *, seed: int = 0, **more: object) -> str:
        rng = np.random.default_rng(0)
        target = (rng.random((800, 3)) < 0.5).astype(np.int8)
        noise = np.random.default_rng(seed + 1)
        features = noise.normal(size=(800, 6))
        features[:, :3] += (2.0 * target - 1) * np.array([know, 2.0, 2.0])
        table = {
            "logits": features[:, :3],
            "features": features,
            "targets": target,
            "labels": np.array(["Male", "Young", "Hat"]),
            "split": np.arange(800) % 2,
            **more,
        }
        np.savez(tmp_path / name, **{key: value for key, value in table.items() if value is not None})
        return str(tmp_path / name)

    return write


def test_a_planted_label_is_found_where_it_is(saved, where) -> None:
    text = saved()
    found = probe_model(text, "Male", where, options=OPTIONS)
    told = values(found)
    own = np.load(text)
    judged = own["split"] == 1
    exact = auc(own["logits"][judged, 0], own["targets"][judged, 0], np.flatnonzero(judged)).value
    assert told["own.adv", None] == pytest.approx(exact, abs=1e-9)
    assert told["probe.adv.lin", "penultimate"] > 0.97
    assert told["probe.bits.lin", "penultimate"] > 0.6
    assert abs(told["others.adv.lin", None] - 0.5) < 0.09  # three standard errors at 400 images
    assert found.valid
    assert found.counts["test"] == 400
    assert "tells Male with AUC" in found.sentences()[0] or "tell Male with AUC" in found.sentences()[0]


def test_a_coin_is_not_found(saved, where) -> None:
    coin = (np.random.default_rng(9).random((800, 1)) < 0.5).astype(np.int8)
    text = saved(targets=coin, target_labels=np.array(["Coin"]))
    found = probe_model(text, "Coin", where, options=OPTIONS)
    assert not found.has_output
    assert all(row.ci[0] <= 0.5 for row in found.of("model"))
    assert found.controls["control.planted"]["value"] > 0.95
    assert gate(found, 0.65)[0] == 0
    assert "no output that is named Coin" in " ".join(found.sentences())


def test_an_inverted_output_tells_as_much(saved, where) -> None:
    plain_, turned = saved(), saved("turned.npz", features=None)
    content = dict(np.load(turned))
    content["logits"][:, 0] *= -1
    np.savez(turned, **content)
    one, two = (probe_model(text, "Male", where, options=OPTIONS) for text in (plain_, turned))
    assert values(two)["own.adv", None] == pytest.approx(values(one)["own.adv", None])
    assert ("probe.adv.lin", "penultimate") not in values(two)


def test_references_stand_beside_the_model(saved, where) -> None:
    texts = saved(), saved("r.npz", 0.0, seed=4)
    found = probe_model(texts[0], "Male", where, references=texts[1:], options=OPTIONS)
    reference = values(found, "reference")
    assert abs(reference["probe.adv.lin", "penultimate"] - 0.5) < 0.09
    assert any(text.startswith(f"The same attack on {texts[1]}") for text in found.sentences())
    table = "\n".join(lines(found))
    assert "..." not in table.splitlines()[2]
    assert "perceived" in table or "annotators saw" in table


def test_the_result_is_plain_json_and_the_same_again(saved, where) -> None:
    text = saved()
    first, second = (probe_model(text, "Male", where, options=OPTIONS).to_json() for _ in range(2))
    assert first == second
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert first["schema"] == "unlabel.probe/1"
    assert {row["unit"] for row in first["rows"]} == {"auc", "bits"}


def test_the_gate_reads_the_intervals(saved, where) -> None:
    found = probe_model(saved(know=0.6), "Male", where, options=OPTIONS)
    rows = found.of("model")
    low, high = max(row.ci[0] for row in rows), max(row.ci[1] for row in rows)
    assert 0.5 < low < high < 1
    assert [gate(found, limit)[0] for limit in (low - 0.01, (low + high) / 2, high + 0.01)] == [3, 4, 0]
    assert gate(replace(found, valid=False), 1.0)[0] == 3
    with pytest.raises(OptionError, match=r"0\.5, a coin, to 1"):
        gate(found, 0.3)


def test_features_that_nobody_attacked_are_named(saved, where) -> None:
    """The outputs are a coin, whatever the features tell."""
    rng = np.random.default_rng(1)
    coins = rng.normal(size=(800, 3))
    probed = [
        probe_model(saved(name, logits=coins, **more), "Male", where, options=OPTIONS)
        for name, more in (("with.npz", {}), ("without.npz", {"features": None}))
    ]
    (there, of_there), (missing, of_missing) = [(one, gate(one, 0.7)) for one in probed]
    assert (there.not_tested, of_there[0]) == ((), 3)
    assert missing.to_json()["not_tested"] == ["The features were not attacked: none were given."]
    assert missing.not_tested[0] in lines(missing)
    assert of_missing[0] == 0
    assert of_missing[1].endswith(
        "no attack reaches above 0.7. The features were not attacked: none were given"
    )


def test_a_model_that_says_nothing_makes_the_figures_invalid(saved, where) -> None:
    text = saved(logits=np.zeros((800, 3)), features=None)
    found = probe_model(text, "Male", where, options=OPTIONS)
    assert not found.valid
    assert "planted label" in found.invalid_because[0]


# -- runs


def test_a_run_is_set_against_an_untrained_network_and_the_pixels(base: Path, where) -> None:
    found = probe_model(str(base), "top", where, options=OPTIONS)
    assert {row.role for row in found.rows} == {"model", "untrained", "pixels", "truth"}
    assert any(layer and layer.startswith("stage") for _, layer in values(found))
    assert values(found, "untrained").keys() == values(found).keys() - {("own.adv", None)}
    assert found.has_output
    assert "An untrained network" in " ".join(found.sentences())


def test_a_label_that_the_run_never_had_is_read_from_the_data(base: Path, tmp_path: Path, where) -> None:
    source = tiny_world().source

    def planted(part: Dataset) -> Dataset:
        extra = 1 - part.target[:, [part.labels.index("top")]]
        return replace(part, target=np.hstack([part.target, extra]), labels=(*part.labels, "dark"))

    made = replace(
        source, train=planted(source.train), probe=planted(source.probe), test=planted(source.test)
    )
    folder = write_folder(tmp_path / "photos", made)
    found = probe_model(str(base), "dark", where, data=f"folder:{folder}", options=OPTIONS)
    assert not found.has_output
    assert ("own.adv", None) not in values(found)
    assert values(found, "truth")["floor.adv", None] == 1.0  # it is the opposite of "top"


@pytest.mark.usefixtures("small_probes")
def test_other_columns_and_bad_photos_of_the_data_do_not_matter(
    photos: Path, tmp_path: Path, command, where
) -> None:
    """A run that was trained on named labels, beside a column of dates and, later, a photo cut short."""
    folder, run = tmp_path / "photos", tmp_path / "run"
    shutil.copytree(photos, folder)
    head, *rows = (folder / "attributes.csv").read_text("utf-8").splitlines()
    dated = [f"{head},taken", *(f"{row},2020-01-{at % 28 + 1}" for at, row in enumerate(rows))]
    (folder / "attributes.csv").write_text("\n".join(dated) + "\n", "utf-8")
    train_run(
        f"folder:{folder}", run, where, recipe=Recipe(epochs=1), image_size=16, labels=("top", "middle")
    )
    found = probe_model(str(run), "top", where, options=OPTIONS)
    assert {row.role for row in found.rows} == {"model", "untrained", "pixels", "truth"}
    assert not any("true other labels" in note for note in found.notes)
    assert not probe_model(str(run), "bottom", where, options=OPTIONS).has_output
    with pytest.raises(LabelMismatch, match="tap"):
        probe_model(str(run), "tap", where, options=OPTIONS)

    (folder / "images" / rows[0].partition(",")[0]).write_bytes(b"no photo")
    refused = command("probe", run, "--label", "top", "--quiet")
    assert (refused.code, "--skip-bad" in refused.err) == (2, True), refused
    ran = command("probe", run, "--label", "top", "--skip-bad", "--quiet", "--json")
    assert ran.code == 0, ran
    assert sum(json.loads(ran.out)["counts"][part] for part in ("probe", "test")) > 0


def test_a_row_that_the_data_do_not_allow_is_named(base: Path, photos: Path, tmp_path: Path, where) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    file = tmp_path / "photos" / "attributes.csv"
    file.write_text(file.read_text("utf-8").replace("bottom", "floor", 1), "utf-8")
    found = probe_model(str(base), "top", where, data=f"folder:{tmp_path / 'photos'}", options=OPTIONS)
    assert not found.of("truth")
    assert any("true other labels" in note and "no label column 'bottom'" in note for note in found.notes)


def test_mistakes_are_named(base: Path, photos: Path, saved, where, tmp_path: Path) -> None:
    with pytest.raises(LabelMismatch, match=r"no label column 'tap'.*Close: top"):
        probe_model(str(base), "tap", where, options=OPTIONS)
    with pytest.raises(OptionError, match="given twice"):
        probe_model(str(base), "top", where, references=[str(base)], options=OPTIONS)
    with pytest.raises(OptionError, match="unlabel adopt nets:make"):
        probe_model("nets:make", "top", where, options=OPTIONS)
    with pytest.raises(OptionError, match="leave out --data"):
        probe_model(saved(), "Male", where, data=f"folder:{photos}", options=OPTIONS)
    with pytest.raises(OptionError, match="--skip-bad"):
        probe_model(saved(), "Male", where, skip_bad=True, options=OPTIONS)
    with pytest.raises(LabelMismatch, match="Close: Male"):
        probe_model(saved(), "Mall", where, options=OPTIONS)
    shutil.copy(saved(), tmp_path / "copy.npz")
    with pytest.raises(OptionError, match="are the same model"):
        probe_model(saved(), "Male", where, references=[tmp_path / "copy.npz"], options=OPTIONS)


# -- the exam: a gender network in ONNX, whose output nobody named


DRAWINGS = "faces:train=1600,probe=400,test=400,size=32"


@pytest.fixture(scope="module")
def gender(tmp_path_factory: pytest.TempPathFactory, where) -> Path:
    """A network trained to tell Male of drawings, as ONNX without any name."""
    source = load(DRAWINGS, labels=["Male"])
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 1))
        for layer in model:
            getattr(layer, "reset_parameters", lambda: None)()
    fit(model, LabelLoss((0,)), source.train, Recipe(epochs=10, lr=0.1), where)
    file = tmp_path_factory.mktemp("gender") / "gender.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter
        program = torch.onnx.export(
            model.eval(),
            (torch.zeros(2, 3, 32, 32),),
            dynamo=True,
            verbose=False,
            input_names=["picture"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None
    file.write_bytes(program.model_proto.SerializeToString())
    return file


def test_a_gender_network_gives_itself_away_without_a_name(gender: Path, where) -> None:
    import onnx

    graph = onnx.load(gender).graph
    features = graph.node[-1].input[0]
    settings = OnnxSettings(mean=HALF, std=(0.25, 0.25, 0.25))
    text = f"onnx:{gender}?features={features}"
    found = probe_model(text, "Male", where, data=DRAWINGS, onnx=settings, options=OPTIONS)
    assert not found.has_output
    told = values(found)
    assert told["others.adv.lin", None] > 0.7
    assert gate(found, 0.6)[0] == 3
    assert found.of("pixels")[0].value < found.largest.value
    assert found.valid, found.invalid_because


@pytest.mark.usefixtures("small_probes")
def test_the_gate_of_the_command_ends_a_pipeline(gender: Path, command) -> None:
    scale = ("--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "--data", DRAWINGS, "--quiet")
    ran = command("probe", f"onnx:{gender}", "--label", "Male", "--fail-above", 0.6, *scale)
    assert ran.code == 3, ran
    assert "--fail-above 0.6: not met" in ran.err
    assert "add ?features=" in ran.out
    found = command("probe", f"onnx:{gender}", "--label", "Young", "--json", *scale)
    assert found.code == 0, found
    assert json.loads(found.out)["label"] == "Young"
    refused = command("probe", f"onnx:{gender}", "--label", "Male", *scale[:-3])
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert "--data SOURCE" in refused.err
