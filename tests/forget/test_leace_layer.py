"""LEACE as a layer: the guarantee on the features, the bill, and that it stays through all that follows."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import CheckpointMismatch, ModelError
from unlabel.core.files import write_json
from unlabel.core.progress import Silent
from unlabel.core.reading import read_json
from unlabel.core.recipe import Recipe
from unlabel.exchange.adopt import ForeignModel, adopt_run
from unlabel.exchange.export import export_run
from unlabel.forget.driver import calibration, forget_labels
from unlabel.forget.eraser_layer import layer_of
from unlabel.forget.leace import Eraser
from unlabel.forget.ranking import auc
from unlabel.forget.run import forget_run
from unlabel.models.build import build
from unlabel.models.eraser import Erase, eraser_of, erasing, insert_eraser, rank_of
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.runs.files import CONFIG
from unlabel.runs.folder import load_run
from unlabel.testing import World, check_unlearner, differing, tiny_world, write_folder
from unlabel.training.run import train_run


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def covariance(values: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Of each column with a label, over the images in which it is known, for columns of unit variance."""
    known = target >= 0
    values = values[known].astype(np.float64)
    centred = (values - values.mean(0)) / np.maximum(values.std(0), 1e-6)
    return np.abs(centred.T @ ((target[known] == 1) - np.mean(target[known] == 1))) / known.sum()


def seen_by(model: nn.Module, world: World, run: Run) -> tuple[Outputs, np.ndarray]:
    data = calibration(world.data, 2048, run.seed)
    return outputs(model, data, run), data.target


@pytest.mark.parametrize("kind", ["independent", "correlated", "unknown", "duplicate"])
def test_no_feature_and_no_output_has_a_covariance_with_the_label(kind, run: Run) -> None:
    world = tiny_world(kind)
    outcome = forget_labels(world.model, ["top"], world.data, method="leace-layer", keep_row=True, run=run)
    before, target = seen_by(world.model, world, run)
    after, _ = seen_by(outcome.model, world, run)
    for whole, erased in ((before.features[PENULTIMATE], after.features[PENULTIMATE]),):
        assert covariance(whole, target[:, 0]).max() > 0.3
        assert covariance(erased, target[:, 0]).max() < 1e-5  # features in float32
    assert covariance(before.logits, target[:, 0]).max() > 0.4
    retained = [column for column in (1, 2) if np.std(after.logits[:, column]) > 1e-3]
    assert covariance(after.logits[:, retained], target[:, 0]).max(initial=0) < 1e-4
    assert differing(world.model, outcome.model) == sorted(erasing(outcome.model))


def test_a_linear_probe_is_at_chance_and_one_that_is_not_linear_finds_the_label(run: Run) -> None:
    """What it does, and what it does not do, by its own words."""
    world = tiny_world(images=1024)
    model = forget_labels(world.model, ["top"], world.data, method="leace-layer", run=run).model
    probe, test = world.source.probe, world.source.test
    x, y = (outputs(model, part, run).features[PENULTIMATE] for part in (probe, test))
    linear = LogisticRegression(max_iter=2000).fit(x, probe.target[:, 0])
    # 256 test images: an AUC has a standard error of .036
    assert abs(auc(linear.decision_function(y), test.target[:, 0]) - 0.5) < 0.15
    near = np.argsort(((y[:, None] - x[None]) ** 2).sum(2), axis=1)[:, :5]
    assert auc(probe.target[near, 0].mean(1), test.target[:, 0]) > 0.9
    below = copy.deepcopy(model)
    below.get_submodule("5")._forward_pre_hooks.clear()
    x, y = (outputs(below, part, run).features[PENULTIMATE] for part in (probe, test))
    earlier = LogisticRegression(max_iter=2000).fit(x, probe.target[:, 0])
    assert auc(earlier.decision_function(y), test.target[:, 0]) > 0.95


@pytest.mark.parametrize("method", ["leace-head", "leace-layer"])
def test_the_bill_is_the_squared_correlation_with_the_discriminant_score(method: str, run: Run) -> None:
    world = tiny_world("correlated")
    options = {"rare": 0.0} if method == "leace-layer" else {}
    outcome = forget_labels(world.model, ["top"], world.data, method=method, run=run, **options)
    seen, target = seen_by(world.model, world, run)
    x = seen.features[PENULTIMATE].astype(np.float64)
    x = x - x.mean(0)
    score = x @ np.linalg.pinv(x.T @ x / len(x), rcond=1e-9) @ (x.T @ target[:, 0] / len(x))
    for column, name in ((1, "middle"), (2, "bottom")):
        exact = np.corrcoef(seen.logits[:, column], score)[0, 1] ** 2
        assert outcome.options["removed_variance"][name] == pytest.approx(exact, abs=1e-5)
    assert outcome.options["removed_variance"]["bottom"] > 0.3
    assert "affine" in outcome.options["scope"]


def test_the_bill_of_two_labels_is_what_their_scores_explain_together(run: Run) -> None:
    world = tiny_world("correlated")
    options = {"method": "leace-layer", "rare": 0.0, "run": run}
    outcome = forget_labels(world.model, ["top", "middle"], world.data, **options)
    seen, target = seen_by(world.model, world, run)
    x = seen.features[PENULTIMATE].astype(np.float64)
    x = x - x.mean(0)
    scores = x @ np.linalg.pinv(x.T @ x / len(x), rcond=1e-9) @ (x.T @ target[:, :2] / len(x))
    z = seen.logits[:, 2] - seen.logits[:, 2].mean()
    left = z - scores @ np.linalg.lstsq(scores, z, rcond=None)[0]
    exact = 1 - left.var() / z.var()
    assert outcome.options["removed_variance"] == {"bottom": pytest.approx(exact, abs=1e-5)}
    assert rank_of(outcome.model) == 2


def test_the_bill_is_told_before_it_is_paid(run: Run) -> None:
    told = []

    class Heard(Silent):
        def say(self, line: str) -> None:
            told.append((line, rank_of(world.model)))

    world = tiny_world()
    forget_labels(world.model, ["top"], world.data, method="leace-layer", run=replace(run, log=Heard()))
    assert [line.partition(":")[0] for line, _ in told] == ["cost", "cost", "scope"]
    assert {rank for _, rank in told} == {0}


def test_two_layers_are_merged_into_one(run: Run) -> None:
    world = tiny_world("correlated")
    options = {"method": "leace-layer", "rare": 0.0, "run": run}
    first = forget_labels(world.model, ["top"], world.data, **options).model
    second = forget_labels(first, ["middle"], world.data, forgotten=["top"], **options).model
    layer = eraser_of(second)
    assert layer is not None
    assert (layer.rank, layer.labels) == (2, ("top", "middle"))
    seen, target = seen_by(second, world, run)
    for column in (0, 1):
        assert covariance(seen.features[PENULTIMATE], target[:, column]).max() < 1e-5
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(50, 16, generator=rng, dtype=torch.float64)
    one, two = eraser_of(first), Erase(*(torch.randn(s, generator=rng) for s in ((16, 3), (3, 16), (3,))))
    assert one is not None
    assert torch.allclose(one.then(two)(x), two(one(x)), atol=1e-12)


@pytest.mark.parametrize("method", ["fine-tune", "random-label", "scrub", "weight-pruning", "eu-k"])
def test_a_later_request_that_moves_the_features_does_not_bring_the_label_back(method: str, run: Run) -> None:
    world = tiny_world(batchnorm=True)
    first = forget_labels(world.model, ["top"], world.data, method="leace-layer", run=run).model
    options = {"method": method, "forgotten": ["top"], "run": run}
    outcome = forget_labels(first, ["bottom"], world.data, **options)
    seen, target = seen_by(outcome.model, world, run)
    assert "0.weight" in differing(first, outcome.model) or method == "eu-k"
    assert covariance(seen.features[PENULTIMATE], target[:, 0]).max() < 1e-5
    assert "middle" in outcome.options["erased_again"]["removed_variance"]
    stale = copy.deepcopy(outcome.model)
    find_head(stale, 3)[1].add_module("eraser", eraser_of(first))
    seen, _ = seen_by(stale, world, run)
    assert covariance(seen.features[PENULTIMATE], target[:, 0]).max() > 0.02  # without fitting it again


def test_a_later_request_that_leaves_the_features_alone_leaves_the_layer_alone(run: Run) -> None:
    world = tiny_world()
    first = forget_labels(world.model, ["top"], world.data, method="leace-layer", run=run).model
    options = {"method": "head-removal", "forgotten": ["top"], "run": run.with_seed(1), "images": 100}
    outcome = forget_labels(first, ["bottom"], world.data, **options)
    assert differing(first, outcome.model) == ["5.bias", "5.weight"]
    assert "erased_again" not in outcome.options
    assert outcome.images_processed == 0


@pytest.mark.parametrize("method", ["confusion", "leace-layer", "leace-head", "bad-teacher", "ssd"])
def test_methods_keep_the_contract_on_a_model_that_has_the_layer(method: str) -> None:
    world = tiny_world()
    model = forget_labels(world.model, ["top"], world.data, method="leace-layer").model
    random = method in ("confusion", "bad-teacher")
    options = {"steps": 2} if random else {}
    check_unlearner(
        method,
        world=replace(world, model=model),
        labels=["bottom"],
        forgotten=["top"],
        random=random,
        **options,
    )


def test_a_unit_that_few_images_show_is_silenced_and_can_be_kept() -> None:
    """A unit that is not 0 only where the label is: no covariance to speak of, and a sure sign of it."""
    rng = np.random.default_rng(0)
    target = (rng.uniform(size=2000) < 0.3).astype(np.int8)
    features = np.maximum(rng.normal(size=(2000, 8)), 0.0)
    rare = np.flatnonzero(target == 1)[:9]
    features[:, 5] = 0.0
    features[rare, 5] = 4.0
    kept = Eraser.fit(features, target[:, None])
    quiet = features.copy()
    quiet[:, 5] = 0.0
    layer = layer_of(Eraser.fit(quiet, target[:, None]), np.array([5]), ["top"])
    erased = layer(torch.from_numpy(features)).numpy()
    assert np.ptp(erased[:, 5]) < 1e-12
    assert np.ptp(kept(features)[rare, 5]) < 0.5 < np.ptp(kept(features)[:, 5])
    assert covariance(erased, target).max() < 1e-9


def test_where_there_is_nothing_to_take_out_no_layer_is_added(run: Run) -> None:
    world = tiny_world("one-unit")
    with torch.no_grad():
        for parameter in world.model.parameters():
            parameter.zero_()
    options = {"method": "leace-layer", "rare": 0.0, "run": run}
    model = forget_labels(world.model, ["top"], world.data, **options).model
    assert rank_of(model) == 0
    assert erasing(model) == {}


def test_half_precision_and_copies_keep_the_layer() -> None:
    world = tiny_world()
    model = forget_labels(world.model, ["top"], world.data, method="leace-layer").model
    images = torch.randn(4, 3, 16, 16)
    expected = model(images)
    assert torch.equal(copy.deepcopy(model)(images), expected)
    assert torch.allclose(
        copy.deepcopy(model).to(torch.bfloat16)(images.bfloat16()).float(), expected, atol=0.2
    )
    assert not torch.allclose(world.model(images)[:, 1:], expected[:, 1:], atol=1e-3)


# -- run folders, export and adopt


@pytest.fixture(scope="module")
def erased(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose training knew three labels, and one made from it by leace-layer; only to be read."""
    base = tmp_path_factory.mktemp("erased")
    source = f"folder:{write_folder(base / 'photos', tiny_world(images=128).source)}"
    where = engine.start(accelerator="cpu")
    train_run(source, base / "original", where, recipe=Recipe(epochs=6), image_size=16)
    forget_run("leace-layer", base / "original", ["top"], base / "less", where)
    return base


def test_a_run_keeps_the_layer_and_later_commands_build_on_it(erased: Path, run: Run) -> None:
    loaded = load_run(erased / "less")
    assert (loaded.config.eraser, loaded.config.erased) == (rank_of(loaded.model), ("top",))
    assert loaded.record.options["removed_variance"].keys() == {"middle", "bottom"}
    assert loaded.record.options["silenced_units"] + 1 == loaded.config.eraser
    record = forget_run("fine-tune", erased / "less", ["bottom"], erased / "later", run, steps=2)
    later = load_run(erased / "later")
    assert later.config.eraser == loaded.config.eraser + 1
    assert later.config.erased == ("top",)
    assert "middle" in record["options"]["erased_again"]["removed_variance"]
    forget_run("retrain", erased / "less", ["bottom"], erased / "again", run)
    assert load_run(erased / "again").config.eraser == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"eraser": 0, "erased": []}, "tensors differ, such as '8.eraser.into'"),
        ({"eraser": 2000}, "tensors differ, such as '8.eraser"),
        ({"eraser": -1}, "eraser -1; expected 0 to 4,096"),
        ({"eraser": 10**9}, "expected 0 to 4,096"),
        ({"eraser": 1.5}, "eraser: expected a whole number"),
        ({"erased": ["nose"]}, "erased labels that are not among its labels"),
        ({"erased": "top"}, "erased: expected a list, got text"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(erased: Path, change, says: str, tmp_path: Path) -> None:
    for file in (erased / "less").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = read_json(tmp_path / CONFIG)
    write_json(tmp_path / CONFIG, {**config, **change})
    with pytest.raises((CheckpointMismatch, ModelError), match=says):
        load_run(tmp_path)


def test_an_exported_state_dict_holds_the_layer_and_is_adopted_with_it(erased: Path, run: Run) -> None:
    file = erased / "less.safetensors"
    exported = export_run(erased / "less", "state-dict", file)
    assert "without it the label is in the features" in exported.notes[0]
    tensors = load_file(file)
    with pytest.raises(RuntimeError, match="eraser"):
        build("small", 3).load_state_dict(tensors)
    model = load_run(erased / "less").model
    # by plain torch: the layer before the last linear one, as the note says
    plain = build("small", 3).eval()
    plain.load_state_dict({key: value for key, value in tensors.items() if "eraser" not in key})
    into, out, level = (tensors[f"8.eraser.{name}"].float() for name in ("into", "out", "level"))
    images = torch.randn(4, 3, 16, 16)
    x = plain[:-1](images)
    expected = model(images)
    assert torch.allclose(plain[-1](x - (x @ into.T - level) @ out.T), expected, atol=1e-4)
    assert not torch.allclose(plain(images), expected, atol=1e-3)
    (erased / "labels.txt").write_text("top\nmiddle\nbottom\n")
    source = f"folder:{erased / 'photos'}"
    foreign = ForeignModel("small", file, erased / "labels.txt", "0.5", "0.25", ["top"])
    adopt_run(foreign, source, erased / "adopted", run, image_size=16)
    adopted = load_run(erased / "adopted")
    assert adopted.config.eraser == rank_of(model)
    assert torch.equal(adopted.model(images)[:, 1:], expected[:, 1:])


@pytest.mark.slow
def test_an_onnx_file_holds_the_layer(erased: Path) -> None:
    """6 s: the exporter traces the network."""
    pytest.importorskip("onnxscript")
    exported = export_run(erased / "less", "onnx", erased / "less.onnx")
    assert any("at most" in note for note in exported.notes)


def test_a_head_that_gets_a_layer_twice_has_one_hook() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    one = Erase(torch.eye(4)[:, :1], torch.eye(4)[:1], torch.zeros(1), ["a"])
    insert_eraser(model, 3, one)
    insert_eraser(model, 3, Erase(torch.eye(4)[:, 1:2], torch.eye(4)[1:2], torch.zeros(1), ["b"]))
    x = torch.ones(1, 4)
    assert torch.allclose(model(x), torch.tensor([[0.0, 0.0, 1.0, 1.0]]) @ model[0].weight.T + model[0].bias)
    assert len(model[0]._forward_pre_hooks) == 1
