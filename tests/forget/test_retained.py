"""What the retained labels lost: measured on images held back, reported, and refused past a bound."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.core import engine
from unlabel.core.errors import MethodError
from unlabel.core.recipe import History
from unlabel.core.request import Request
from unlabel.forget.driver import calibration, forget_labels, shown
from unlabel.forget.methods import METHODS, Method
from unlabel.forget.pipeline import Work
from unlabel.forget.retained import Retained, compare, sentence_of, warning
from unlabel.models.head import find_head
from unlabel.statistics.estimate import Estimate, auc, mean
from unlabel.testing import tiny_network, tiny_world


def rows(
    images: int, count: int = 10_000, listed: tuple[int, ...] = ()
) -> tuple[set[int], set[int], set[int]]:
    """Calibration images as they would be, those the method sees, and those held back."""
    data = tiny_world().data.take(np.arange(count) % 256)
    data = replace(data, rows=np.arange(count))
    seen, held = shown(METHODS["erasure"], data, images, 3, listed=listed)
    before = calibration(data, images, 3, listed=listed)
    return set(before.rows.tolist()), set(seen.rows.tolist()), set(held.rows.tolist())


def test_the_method_sees_what_it_saw_and_512_others_are_held_back() -> None:
    before, seen, held = rows(2048)
    assert seen == before
    assert len(held) == 512
    assert not held & seen
    assert held != rows(2048, 9_000)[2]


@pytest.mark.parametrize(
    ("images", "count", "fewer"), [(2048, 2100, 210 - 52), (2048, 500, 50), (100, 500, 0)]
)
def test_of_a_small_training_set_a_tenth_is_held_back(images: int, count: int, fewer: int) -> None:
    before, seen, held = rows(images, count)
    assert len(held) == count // 10
    assert not held & seen
    assert seen < before or not fewer
    assert len(before) - len(seen) == fewer


def test_listed_images_are_never_held_back() -> None:
    listed = tuple(range(190))
    _, seen, held = rows(2048, 200, listed)
    assert set(listed) <= seen
    assert len(held) == 10
    assert not held & seen


def test_so_few_images_are_not_measured_and_none_is_kept_from_the_method() -> None:
    before, seen, held = rows(2048, 99)
    assert seen == before
    assert not held
    world = tiny_world(images=96)
    found = forget_labels(world.model, ["top"], world.data, method="head-removal").retained.to_json()
    assert found["before"] is found["after"] is found["loss"] is None
    assert sentence_of(found).startswith("retained labels: not measured, none has 5 images of both kinds")
    assert warning(found) is None


def spoiled(model: nn.Module, request: Request, data: Any, run: Any) -> Work:
    """A method after which every output is the same number for every image."""
    new = copy.deepcopy(model)
    with torch.no_grad():
        find_head(new, 3)[1].weight.zero_()
    return Work(new, History())


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Gives every method's name to one that spoils the retained rows."""

    def give() -> None:
        monkeypatch.setattr(Method, "load", lambda self: lambda: spoiled)

    return give


def test_a_harmless_method_loses_nothing_and_a_harmful_one_is_measured(spoil: Any) -> None:
    world = tiny_world()
    found = forget_labels(world.model, ["top"], world.data, method="head-removal").retained
    assert found.labels == ("middle", "bottom")
    assert found.images == 25
    assert found.loss is not None
    assert found.loss.value == 0
    assert found.before is not None
    assert found.before.value > 0.9
    spoil()
    worse = forget_labels(world.model, ["top"], world.data, method="head-removal").retained
    assert worse.loss is not None
    assert worse.loss.value > 0.4
    assert worse.past(0.1)
    assert "more than 0.02" in str(warning(worse.to_json()))


def test_a_fall_that_may_be_chance_is_not_past_the_bound() -> None:
    """Two outputs that are noise, and different noise: whatever one is above the other is chance."""
    world, run = tiny_world(), engine.start(accelerator="cpu")
    held = world.data.take(np.arange(40))
    found = [
        compare(tiny_network(3, seed=seed).eval(), tiny_network(3, seed=seed + 50).eval(), held,
                Request.make(["top"], world.labels), run)
        for seed in range(20)
    ]  # fmt: skip
    unsure = [each for each in found if each.loss and each.loss.value > 0.02 and each.loss.lower() <= 0]
    assert unsure
    assert not any(each.past(0.02) for each in unsure)
    assert any(warning(each.to_json()) for each in unsure)  # reported all the same, with its interval


def test_exclusive_classes_are_ranked_among_the_retained_ones() -> None:
    """Images of the forgotten class have no right answer left: they count neither before nor after."""
    run = engine.start(accelerator="cpu")
    world = tiny_world("never-learnt", batchnorm=True)
    own = np.eye(4, dtype=np.int8)[np.arange(len(world.data)) % 4]
    data = replace(world.data, target=own, exclusive=True)
    outcome = forget_labels(world.model, ["top"], data, method="head-removal")
    assert outcome.retained.loss is not None
    assert outcome.retained.loss.value == 0
    assert outcome.retained.before is not None
    held = shown(METHODS["head-removal"], data, 2048, 0)[1]
    assert outcome.retained.before.n == int((held.target[:, 0] == 0).sum())
    with torch.no_grad():
        find_head(world.model, 4)[1].bias[0] = float("nan")
    assert compare(world.model, world.model, held, outcome.request, run).loss is not None


@pytest.mark.parametrize(
    ("positives", "left_out"),
    [((60, 60, 7), ("c",)), ((60, 19, 20), ("b",)), ((60, 7, 7), ("b", "c")), ((60, 60, 20), ())],
)
def test_a_label_that_few_images_show_stays_out_of_the_mean_and_is_still_measured(
    positives: tuple[int, ...], left_out: tuple[str, ...]
) -> None:
    world, run = tiny_world(), engine.start(accelerator="cpu")
    target = np.zeros((120, 4), np.int8)
    for column, count in enumerate(positives, 1):
        target[np.random.default_rng(column).permutation(120)[:count], column] = 1
    held = replace(world.data.take(np.arange(120)), target=target, labels=("gone", "a", "b", "c"))
    request = Request.make(["gone"], held.labels)
    found = compare(tiny_network(4).eval(), tiny_network(4, seed=5).eval(), held, request, run)
    assert found.labels == ("a", "b", "c")
    assert found.left_out == left_out
    assert found.loss is not None
    kept = [
        fall.value for fall, label in zip(found.falls, found.labels, strict=True) if label not in left_out
    ]
    assert found.loss.value == pytest.approx(np.mean(kept))
    assert len(found.falls) == 3  # whom it hits most is asked of all three
    said = f"mean of {3 - len(left_out)} of 3 labels: too few images of a kind show {', '.join(left_out)}"
    assert (said in sentence_of(found.to_json())) is bool(left_out)
    older = found.to_json() | {"out_of": 4}  # without the name of the fourth
    assert "of 4 labels: too few images of a kind show the others" in sentence_of(older)


def test_a_label_that_cannot_be_measured_is_named() -> None:
    world, run = tiny_world(), engine.start(accelerator="cpu")
    target = np.zeros((120, 4), np.int8)
    target[::2, 1:3] = 1
    held = replace(world.data.take(np.arange(120)), target=target, labels=("gone", "a", "b", "never"))
    request = Request.make(["gone"], held.labels)
    found = compare(tiny_network(4).eval(), tiny_network(4, seed=5).eval(), held, request, run)
    assert found.unmeasured == ("never",)
    assert "mean of 2 of 3 labels: too few images of a kind show never" in sentence_of(found.to_json())


def test_the_worst_label_is_the_one_that_lost_most_for_certain() -> None:
    """A rare label may seem to lose more by chance alone."""

    def fall(value: float, spread: float) -> Estimate:
        influence = spread * np.tile([1.0, -1.0], 50)
        return Estimate(value, influence, np.arange(100), np.arange(100))

    found = Retained(("rare", "certain"), 100, True, falls=(fall(0.2, 0.02), fall(0.1, 0.001)))
    assert found.worst is not None
    assert (found.worst["label"], found.worst["value"]) == ("certain", 0.1)
    assert found.worst["low"] > 0


def test_where_few_images_show_every_label_all_count() -> None:
    world, run = tiny_world(), engine.start(accelerator="cpu")
    held = world.data.take(np.arange(30))
    request = Request.make(["top"], world.labels)
    found = compare(tiny_network(3).eval(), tiny_network(3, seed=5).eval(), held, request, run)
    assert found.labels == ("middle", "bottom")
    assert found.left_out == ()
    assert found.loss is not None
    assert found.loss.value == pytest.approx(np.mean([fall.value for fall in found.falls]))


def test_a_model_that_gives_nan_is_refused() -> None:
    world, run = tiny_world(), engine.start(accelerator="cpu")
    broken = tiny_network(3).eval()
    with torch.no_grad():
        find_head(broken, 3)[1].bias[1] = float("nan")
    request = Request.make(["top"], world.labels)
    with pytest.raises(MethodError, match="NaN or infinite on training images after forgetting"):
        compare(world.model, broken, world.data, request, run)


def test_retrain_is_measured_on_images_that_it_trains_on_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from unlabel.core.recipe import Blueprint, Recipe
    from unlabel.models import build

    monkeypatch.setitem(build.BUILDERS, "tiny", lambda outputs, stem: tiny_network(outputs))
    world = tiny_world()
    blueprint = Blueprint("tiny", "imagenet", Recipe(epochs=1))
    outcome = forget_labels(world.model, ["top"], world.data, method="retrain", blueprint=blueprint)
    assert outcome.retained.images == 25
    assert not outcome.retained.held_back
    assert sentence_of(outcome.retained.to_json()).endswith("on 25 training images")  # the original's, too
    assert "note" not in outcome.retained.to_json()
    assert outcome.images_used == 256


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ({"value": 0.01, "low": -0.01, "high": 0.03}, "may have lost up to 0.030 of mean AUC: 25 images"),
        ({"value": -0.01, "low": -0.04, "high": 0.025}, "cannot tell that from 0.000"),
        ({"value": 0.03, "low": 0.01, "high": 0.05}, "lost 0.030 of mean AUC (95 % interval 0.010 to 0.050)"),
        ({"value": 0.01, "low": 0.0, "high": 0.02}, "None"),
    ],
)
def test_a_loss_that_few_images_cannot_exclude_is_told(loss: dict[str, float], said: str) -> None:
    assert said in str(warning({"loss": loss, "n": 25}))


def test_the_command_prints_records_warns_and_refuses(
    command: Any, trained: Path, tmp_path: Path, spoil: Any
) -> None:
    arguments = ("forget", "head-removal", trained, "--labels", "top", "--quiet")
    ran = command(*arguments, "--out", tmp_path / "good")
    assert ran.code == 0
    assert ran.err == ""
    line = next(line for line in ran.out.splitlines() if line.startswith("retained labels"))
    found = json.loads((tmp_path / "good" / "unlabel.json").read_text("utf-8"))["retained"]
    assert found["held_back"] is True
    assert found["n"] == 12
    assert found["before"] == found["after"]
    assert line == sentence_of(found)
    assert line.endswith(
        "; the original was trained on these images, so the loss on new images should be no larger"
    )

    spoil()
    ran = command(*arguments, "--out", tmp_path / "bad")
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
    assert "more than --max-loss 0.1, so nothing was written" in ran.err
    assert not (tmp_path / "bad").exists()
    for more in (("--max-loss", "0.9"), ("--force",)):
        ran = command(*arguments, "--out", tmp_path / "bad", *more)
        assert ran.code == 0
        assert ran.err.startswith("warning: the retained labels lost 0.")
    for value in ("-1", "1.5", "nan"):
        ran = command(*arguments, "--out", tmp_path / "bad", "--max-loss", value)
        assert ran.code == 2
        assert "--max-loss is" in ran.err


def test_where_retraining_passes_no_more_images_the_command_for_it_is_named(
    command: Any, trained: Path, tmp_path: Path
) -> None:
    """The original was trained on 8 x 128 images."""

    def lines(*arguments: object, out: str) -> list[str]:
        ran = command("forget", *arguments, "--labels", "top", "--out", tmp_path / out, "--quiet", "--force")
        assert ran.code == 0, ran.err
        return [line for line in ran.out.splitlines() if line.startswith("retraining by")]

    assert lines("fine-tune", trained, "--steps", "40", out="a long way") == [
        "retraining by the recorded recipe passes no more images: 1,024, and this method passed 2,560; to"
        f" retrain: unlabel forget retrain {trained} --labels top --out '{tmp_path / 'a long way'}-retrained'"
    ]
    record = json.loads((tmp_path / "a long way" / "unlabel.json").read_text("utf-8"))
    assert record["retraining"] == {"images": 1024}
    assert lines("fine-tune", trained, "--steps", "2", out="short") == []
    assert lines("head-removal", trained, out="removed") == []
    assert lines("retrain", trained, out="again") == []
    record = json.loads((tmp_path / "again" / "unlabel.json").read_text("utf-8"))
    assert record["images_processed"] == 1024
    assert "retraining" not in record


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows its labels, of 128 training images."""
    from unlabel.core.recipe import Recipe
    from unlabel.testing import write_folder
    from unlabel.training.run import train_run

    folder = write_folder(tmp_path_factory.mktemp("retained") / "photos", tiny_world(images=256).source)
    out = folder.with_name("run")
    run = engine.start(accelerator="cpu")
    train_run(f"folder:{folder}", out, run, recipe=Recipe(epochs=8), image_size=16)
    return out


def test_a_label_that_pays_alone_is_named_though_the_mean_hides_it() -> None:
    """Of 30 labels one becomes noise: the mean falls by about .015."""
    rng = np.random.default_rng(0)
    cluster, target = np.arange(500), rng.integers(0, 2, (500, 30)).astype(np.int8)
    scores = target + 0.3 * rng.normal(size=target.shape)
    spoilt = scores.copy()
    spoilt[:, 7] = rng.normal(size=500)
    before, after = (
        [auc(table[:, k], target[:, k], cluster) for k in range(30)] for table in (scores, spoilt)
    )
    labels = tuple(f"label{k}" for k in range(30))
    falls = tuple(one - other for one, other in zip(before, after, strict=True))
    record = Retained(labels, 500, True, mean(before), mean(after), falls).to_json()
    assert record["loss"]["value"] < 0.02
    assert "retained label label7 lost 0." in str(warning(record))
    clean = Retained(
        labels, 500, True, mean(before), mean(before), tuple(one - one for one in before)
    ).to_json()
    assert warning(clean) is None
    assert "0.500) on images that the original was trained on, more than" in str(
        warning({**record, "loss": {"value": 0.3, "low": 0.1, "high": 0.5}})
    )
