"""What an audit reads is kept under all that it depends on, and is not used where its shape is wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unlabel.audit.attacks.transforms import BY_LABELS, TRANSFORMS
from unlabel.audit.inputs.sets import Sets
from unlabel.audit.probe import one_model
from unlabel.audit.read_only.deployed import of_run
from unlabel.audit.reading.outputs import after_transform, random_init
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.layout import FinalLayer, Layout
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.models.build import build
from unlabel.models.cached_outputs import cached_outputs
from unlabel.models.features import outputs
from unlabel.models.outputs import PENULTIMATE
from unlabel.runs.config import Config
from unlabel.runs.folder import Loaded
from unlabel.runs.origin import Record
from unlabel.testing import tiny_world


@pytest.fixture
def where() -> Run:
    return engine.start(accelerator="cpu")


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path))


def data_of(labels: tuple[str, ...]) -> Dataset:
    return tiny_world().data.with_labels(labels).take(np.arange(20))


def original(labels: tuple[str, ...], head: Layout | None = None) -> tuple[Loaded, Sets]:
    """A run folder of the network `small`, and its images."""
    data = data_of(labels)
    thresholds = (0.5,) * len(labels)
    config = Config("small", "imagenet", labels, (), 16, data.mean, data.std, thresholds, head=head)
    model = build("small", len(labels), head=head).eval()
    return Loaded(Path("base"), model, config, Record(), "sha256"), Sets(data, data, data, "digest", 0)


def reading(labels: int, stage: str) -> Layout:
    """The head of `small` for so many labels, which reads a stage of 96 features as well."""
    head = FinalLayer("8", labels, 128, 0, True)
    return Layout((head,), tuple((row,) for row in range(labels)), stage, 96, False)


THREE, TWO = ("top", "middle", "bottom"), ("top", "middle")


@pytest.mark.parametrize(
    ("one", "two"),
    [((THREE, None), (TWO, None)), ((TWO, None), (TWO, "3")), ((TWO, "3"), (TWO, "4"))],
    ids=["another number of labels", "another head", "another head of the same width"],
)
def test_an_untrained_network_is_kept_for_networks_of_its_own_form_alone(
    where: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: tuple, two: tuple
) -> None:
    heads = [None if stage is None else reading(len(labels), stage) for labels, stage in (one, two)]
    first, second = original(one[0], heads[0]), original(two[0], heads[1])
    expected = random_init(*second, where)
    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path / "another"))
    random_init(*first, where)
    kept = {path for path in (tmp_path / "another").rglob("*") if path.is_file()}
    found = random_init(*second, where)
    assert kept < {
        path for path in (tmp_path / "another").rglob("*") if path.is_file()
    }  # beside, not over it
    assert found is not None
    assert expected is not None
    for made, made_alone in zip(found, expected, strict=True):
        assert np.array_equal(made.logits, made_alone.logits)
        assert np.array_equal(made.features[PENULTIMATE], made_alone.features[PENULTIMATE])


@pytest.mark.parametrize(("labels", "head"), [(TWO, None), (THREE, reading(3, "3"))])
def test_kept_outputs_of_another_shape_are_made_again(
    where: Run, labels: tuple[str, ...], head: Layout | None
) -> None:
    """Such as those that an earlier version kept under one key for two networks."""
    other, model = build("small", len(labels), head=head).eval(), build("small", 3).eval()
    cached_outputs(other, data_of(labels), where, "key", "base")
    found = cached_outputs(model, data_of(THREE), where, "key", "base")
    expected = outputs(model, data_of(THREE), where)
    assert np.array_equal(found.logits, expected.logits)
    assert np.array_equal(found.features[PENULTIMATE], expected.features[PENULTIMATE])


def test_a_probe_is_set_against_an_untrained_network_with_the_same_features(
    where: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the network has a part that cannot draw new weights, so that it is built anew."""
    monkeypatch.setattr(one_model, "untrained", lambda model, seed: None)
    item, sets = original(TWO, reading(2, "3"))
    fresh = one_model._untrained(of_run(item), 0)
    assert fresh is not None
    features = [each.read(sets.test, "digest", where).features[PENULTIMATE] for each in (of_run(item), fresh)]
    assert features[0].shape == features[1].shape == (20, 224)
    assert not np.array_equal(*features)


def test_a_transform_that_trains_is_kept_by_what_was_asked_to_be_forgotten(
    where: Run, tmp_path: Path
) -> None:
    item, sets = original(THREE)

    def read(name: str, labels: list[str], read_from: Loaded = item) -> np.ndarray:
        pair = after_transform(read_from, name, sets.probe, sets, Request.make(labels, THREE), where)
        assert pair is not None
        return pair[1].logits

    for name in TRANSFORMS:
        one = read(name, ["top"])
        kept = len(list((tmp_path / "outputs").iterdir()))
        two = read(name, ["top", "middle"])
        assert np.array_equal(two, read(name, ["top", "middle"], replace(item, in_memory=True)))
        assert np.array_equal(one, two) == (name not in BY_LABELS)
        assert (len(list((tmp_path / "outputs").iterdir())) == kept) == (name not in BY_LABELS)
