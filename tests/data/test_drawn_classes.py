"""Claims about the stand-ins: balanced, keyed by number, told apart, bad input refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from unlabel.core.errors import LabelMismatch, OptionError
from unlabel.data import load
from unlabel.data.drawn.ages import GROUPS, draw_ages
from unlabel.data.drawn.joint import LABELS, celeba, independent, moments
from unlabel.data.drawn.shapes import SETS, draw_shapes

SOURCES = (
    "shapes:train=40,probe=20,test=20",
    "shapes:set=digits,train=40,probe=20,test=20",
    "ages:train=40,probe=20,test=20,size=32",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("name", SOURCES)
def test_every_class_is_in_each_split_equally_often(name: str) -> None:
    source = load(name)
    for part in (source.train, source.probe, source.test):
        assert part.exclusive
        assert set(part.target.sum(0)) == {len(part) // len(part.labels)}
        assert set(part.target.sum(1)) == {1}
    assert source.facts["counts"] == {"train": 40, "probe": 20, "test": 20}
    assert json.loads(json.dumps(source.facts)) == source.facts


@pytest.mark.parametrize("name", SOURCES)
def test_the_name_reads_as_the_same_source_and_a_larger_split_keeps_the_images(name: str) -> None:
    first, again, larger = load(name), load(load(name).name), load(name.replace("train=40", "train=60"))
    assert again.facts == first.facts
    np.testing.assert_array_equal(larger.train.images(slice(0, 40)), first.train.images(slice(None)))
    np.testing.assert_array_equal(larger.test.images(slice(None)), first.test.images(slice(None)))
    assert load(name, image_size=24).train.image_size == 24


def test_an_image_is_the_same_in_any_company() -> None:
    index, number = np.arange(21), np.arange(21) % 5
    for which in SETS:
        whole = draw_shapes(which, 0, index, number, 32)
        np.testing.assert_array_equal(draw_shapes(which, 0, index[17:18], number[17:18], 32)[0], whole[17])
        assert (whole != draw_shapes(which, 1, index, number, 32)).mean() > 0.5
    faces = draw_ages(0, index, number, 32)
    np.testing.assert_array_equal(draw_ages(0, index[17:18], number[17:18], 32)[0], faces[17])


@pytest.mark.parametrize("which", sorted(SETS))
def test_each_class_looks_other_than_each_other(which: str) -> None:
    index = np.full(10, 7)  # one and the same place, size and colour
    drawn = draw_shapes(which, 0, index, np.arange(10), 48).astype(int)
    apart = np.abs(drawn[:, None] - drawn[None]).max(-1) > 30
    pairs = apart.sum((2, 3))[~np.eye(10, dtype=bool)]
    assert pairs.min() >= 10


def test_an_older_face_is_greyer_and_more_wrinkled_by_even_steps() -> None:
    index = np.full(64, 3) + np.arange(64)
    drawn = [draw_ages(0, index, np.full(64, group), 48).astype(int) for group in range(5)]
    # only what the age moves differs, and one group more moves it further
    far = [np.abs(picture - drawn[0]).mean() for picture in drawn]
    assert far == sorted(far)
    assert far[1] > 0.5


def test_the_digits_are_all_there_and_split_by_hash() -> None:
    source = load("digits")
    counts = [len(part) for part in (source.train, source.probe, source.test)]
    assert sum(counts) == 1797
    assert source.train.image_size == 32
    assert source.train.exclusive
    # an audit needs ten of a kind on each side
    assert min(part.target.sum(0).min() for part in (source.probe, source.test)) >= 10
    assert source.facts["terms"] == "CC BY 4.0"


def test_some_classes_alone_are_labels() -> None:
    for name, names in ((SOURCES[0], ["star", "disc"]), ("digits", ["digit_3"]), (SOURCES[2], [GROUPS[4]])):
        source = load(name, labels=names)
        assert source.labels == tuple(names)
        assert not source.train.exclusive
    with pytest.raises(LabelMismatch, match="Close: star"):
        load(SOURCES[0], labels=["sta"])


def test_independent_faces_keep_each_labels_share_and_lose_every_correlation() -> None:
    labels = LABELS[:10]
    exact = moments(independent(celeba(labels).prevalence))
    np.testing.assert_allclose(exact.prevalence, celeba(labels).prevalence, atol=1e-12)
    np.testing.assert_allclose(exact.phi, np.eye(10), atol=1e-12)
    apart = load("faces:train=3000,probe=1,test=1,size=16,independent=1")
    together = load("faces:train=3000,probe=1,test=1,size=16")
    phi = np.corrcoef(apart.train.target.T)
    # four standard errors of 3,000 draws
    assert np.abs(phi - np.eye(10)).max() < 4 / np.sqrt(3000)
    np.testing.assert_allclose(apart.train.target.mean(0), celeba(labels).prevalence, atol=0.037)
    assert np.abs(np.corrcoef(together.train.target.T) - np.eye(10)).max() > 0.3
    assert apart.name == "faces:train=3000,probe=1,test=1,size=16,independent=1"
    assert apart.facts["digest"] != together.facts["digest"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shapes:set=solid", "Close: solids"),
        ("shapes:sett=digits", "Close: set"),
        ("shapes:size=8", "expected 16 to 512"),
        ("shapes:train=many", "whole number"),
        ("ages:train=0", "expected 1 to 1,000,000"),
        ("ages:size=32,size=48", "given twice"),
        ("digits:size=32", "digits has no options"),
        ("faces:independent=2", "expected 0 to 1"),
    ],
)
def test_a_wrong_option_is_named(name: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        load(name)
