"""What `unlabel train` says of the network on the val split; the training itself stays as it was."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unlabel.core import engine
from unlabel.core.recipe import Recipe
from unlabel.data.dataset import Dataset
from unlabel.exchange import quality
from unlabel.exchange.quality import sentence_of, val_quality
from unlabel.models.head import find_head
from unlabel.runs.folder import load_run
from unlabel.statistics.estimate import auc, mean
from unlabel.testing import World, tiny_network, tiny_world, write_folder
from unlabel.training.run import train_run


@pytest.fixture
def run() -> engine.Run:
    return engine.start(accelerator="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three splits, the val split of which has 64 photos."""
    return write_folder(tmp_path_factory.mktemp("quality") / "photos", tiny_world(images=256).source)


def val(world: World) -> Dataset:
    return world.source.probe


def test_every_label_is_measured_on_the_images_that_know_it(run: engine.Run) -> None:
    from unlabel.models.features import outputs

    world = tiny_world("unknown")
    found = val_quality(world.model, val(world), run)
    assert found is not None
    scores = outputs(world.model, val(world), run).logits
    expected = [auc(scores[:, k], val(world).target[:, k], val(world).cluster) for k in range(3)]
    assert found["macro"]["value"] == pytest.approx(mean(expected).value)
    assert [row["value"] for row in found["labels"].values()] == [item.value for item in expected]
    assert found["labels"]["top"]["n"] == int((val(world).target[:, 0] >= 0).sum())
    assert found["near_chance"] == []
    assert (found["n"], found["of"]) == (128, 128)


def test_labels_near_chance_are_named_and_those_never_shown_are_left_out(run: engine.Run) -> None:
    world = tiny_world("never-learnt", images=2048)
    found = val_quality(world.model, val(world), run, ("top",))
    assert found is not None
    assert found["near_chance"] == ["coin"]
    assert list(found["labels"]) == ["middle", "bottom", "coin"]
    assert sentence_of(found).endswith("; near chance: coin; more epochs may help (--epochs)")


def test_classes_are_ranked_by_their_log_odds(run: engine.Run) -> None:
    world = tiny_world()
    own = np.eye(3, dtype=np.int8)[np.arange(len(val(world))) % 3]
    found = val_quality(world.model, replace(val(world), target=own, exclusive=True), run)
    plain = val_quality(world.model, replace(val(world), target=own), run)
    assert found is not None
    assert plain is not None
    assert list(found["labels"]) == list(world.labels)
    assert found["macro"] != plain["macro"]


def test_a_label_of_one_kind_is_left_out_and_without_any_nothing_is_said(run: engine.Run) -> None:
    world = tiny_world()
    target = val(world).target.copy()
    target[:, 1] = 0
    found = val_quality(world.model, replace(val(world), target=target), run)
    assert found is not None
    assert list(found["labels"]) == ["top", "bottom"]
    assert found["left_out"] == ["middle"]
    assert "over 2 of 3 labels: too few images of a kind show middle" in sentence_of(found)
    assert val_quality(world.model, replace(val(world), target=np.zeros_like(target)), run) is None
    assert val_quality(world.model, val(world).take(np.arange(0)), run) is None
    broken = tiny_network(3).eval()
    with torch.no_grad():
        find_head(broken, 3)[1].bias[1] = float("nan")
    assert val_quality(broken, val(world), run) is None


def test_one_image_of_a_kind_or_one_identity_does_not_say_what_a_network_knows(run: engine.Run) -> None:
    world = tiny_world("never-learnt", images=2048)
    target = val(world).target.copy()
    target[:, 0] = 0
    target[:3, 0] = 1
    few = val_quality(world.model, replace(val(world), target=target), run)
    assert few is not None
    assert "top" not in few["labels"]
    one = replace(val(world), cluster=np.zeros(len(val(world)), np.int64))
    found = val_quality(world.model, one, run)
    assert found is not None
    assert found["near_chance"] == []


def test_of_a_large_split_a_part_is_read_that_the_seed_chooses(
    run: engine.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "MOST", 40)
    world, new = tiny_world(), tiny_network(3).eval()
    found, again, other = (val_quality(new, val(world), place) for place in (run, run, run.with_seed(1)))
    assert found is not None
    assert found == again
    assert found != other
    assert sentence_of(found).startswith("probe split, 40 of 128 images: mean AUC ")


def record_in(out: Path) -> dict[str, Any]:
    return json.loads((out / "unlabel.json").read_text("utf-8"))


@pytest.mark.parametrize("devices", [1, 2])
def test_the_command_prints_and_records_it_and_the_weights_are_the_same_bits(
    devices: int, command: Any, folder: Path, tmp_path: Path
) -> None:
    arguments = ("train", f"folder:{folder}", "--epochs", "4", "--image-size", "16", "--quiet")
    ran = command(*arguments, "--devices", devices, "--out", tmp_path / "run")
    assert ran.code == 0, ran.err
    found = record_in(tmp_path / "run")["val"]
    assert ran.out.splitlines()[-2:] == [sentence_of(found), str(tmp_path / "run")]
    assert found["n"] == 64
    plain = engine.start(accelerator="cpu", devices=devices)
    train_run(f"folder:{folder}", tmp_path / "plain", plain, recipe=Recipe(epochs=4), image_size=16)
    assert "val" not in record_in(tmp_path / "plain")
    for name in ("model.safetensors", "log.jsonl"):
        files = [tmp_path / which / name for which in ("run", "plain")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_split_that_tells_nothing_prints_nothing(
    command: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "MOST", 0)
    arguments = ("train", f"folder:{folder}", "--epochs", "1", "--image-size", "16", "--quiet")
    ran = command(*arguments, "--out", tmp_path / "run")
    assert ran.code == 0
    assert "val split" not in ran.out
    assert "val" not in record_in(tmp_path / "run")


def test_a_training_that_goes_on_after_a_kill_is_measured_at_its_end(folder: Path, tmp_path: Path) -> None:
    def killed(*_: object) -> dict[str, Any]:
        raise KeyboardInterrupt

    def go(judge: Any) -> None:
        place = engine.start(accelerator="cpu")
        recipe = Recipe(epochs=4)
        train_run(f"folder:{folder}", tmp_path / "run", place, recipe=recipe, image_size=16, judge=judge)

    with pytest.raises(KeyboardInterrupt):
        go(killed)
    assert not (tmp_path / "run").exists()
    go(val_quality)
    found = record_in(tmp_path / "run")["val"]
    model = load_run(tmp_path / "run").model
    assert found["macro"]["value"] > 0.5
    assert not model.training
