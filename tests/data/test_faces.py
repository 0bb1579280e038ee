"""Claims about the drawn faces: keyed by number, statistics of CelebA, every label visible, cache sound."""

import json
from pathlib import Path

import numpy as np
import pytest

from unlabel.core.errors import LabelMismatch, OptionError
from unlabel.data.drawn.drawing import draw
from unlabel.data.drawn.faces import FacesConfig, load_faces, phi_error
from unlabel.data.drawn.joint import LABELS, celeba, fitted, moments, sample
from unlabel.data.options import ReadOptions

SMALL = "faces:train=40,probe=20,test=20,size=32"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_ten_labels_match_celeba_exactly() -> None:
    facts, exact = celeba(LABELS[:10]), moments(fitted(10))
    # The embedded weights are rounded to four digits.
    np.testing.assert_allclose(exact.prevalence, facts.prevalence, atol=1e-4)
    np.testing.assert_allclose(exact.phi, facts.phi, atol=2e-3)


def test_all_drawable_labels_match_celeba() -> None:
    target = sample(7, np.arange(60_000), len(LABELS))
    # Four standard errors of 60,000 draws: .008 of a prevalence, .016 of a phi (more for rare labels).
    np.testing.assert_allclose(target.mean(0), celeba(LABELS).prevalence, atol=0.01)
    assert phi_error(target, LABELS) < 0.03


def test_asking_for_more_labels_keeps_the_earlier_ones() -> None:
    index = np.arange(500)
    np.testing.assert_array_equal(sample(1, index, 20)[:, :10], sample(1, index, 10))


def test_an_image_is_the_same_in_any_company() -> None:
    index = np.arange(37)
    target = sample(0, index, 10)
    whole = draw(0, index, target, 32)
    np.testing.assert_array_equal(draw(0, index[5:6], target[5:6], 32)[0], whole[5])
    np.testing.assert_array_equal(draw(0, index[::-1], target[::-1], 32), whole[::-1])


def test_every_pixel_of_a_larger_picture_is_painted() -> None:
    picture = draw(0, np.arange(2), np.zeros((2, 10), np.int8), 97)  # odd: no multiple of a vector's length
    assert picture.shape == (2, 97, 97, 3)
    assert picture.std() > 10


def test_another_seed_draws_other_faces() -> None:
    index = np.arange(4)
    target = sample(0, index, 10)
    assert (draw(0, index, target, 32) != draw(1, index, target, 32)).mean() > 0.5


@pytest.mark.parametrize("column", range(len(LABELS)), ids=LABELS)
def test_every_label_changes_the_picture(column: int) -> None:
    index = np.arange(16)
    off = np.zeros((16, len(LABELS)), np.int8)
    on = off.copy()
    on[:, column] = 1
    changed = np.abs(draw(0, index, off, 48).astype(int) - draw(0, index, on, 48)).max(axis=-1)
    # The noise is the same in both, so any difference is the label's. Small things cover few pixels.
    assert ((changed > 4).sum(axis=(1, 2)) >= 10).mean() > 0.7


def test_splits_are_disjoint_and_do_not_depend_on_each_others_size() -> None:
    first, second = load_faces(SMALL), load_faces(SMALL.replace("train=40", "train=60"))
    ids = np.concatenate([first.train.ids, first.probe.ids, first.test.ids])
    clusters = np.concatenate([first.train.cluster, first.probe.cluster, first.test.cluster])
    assert len(set(ids)) == len(set(clusters)) == 80
    for split in ("probe", "test"):
        np.testing.assert_array_equal(getattr(first, split).pixels, getattr(second, split).pixels)
    np.testing.assert_array_equal(first.train.images(slice(None)), second.train.images(slice(0, 40)))


def test_two_processes_draw_what_one_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = "faces:train=1100,probe=1,test=1,size=16"
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    alone = load_faces(spec, ReadOptions(workers=1))
    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path / "other"))
    together = load_faces(spec, ReadOptions(workers=2))
    np.testing.assert_array_equal(alone.train.pixels, together.train.pixels)
    assert alone.facts == together.facts


def test_the_cache_is_read_again(cache: Path) -> None:
    first = load_faces(SMALL)
    times = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert load_faces(SMALL).facts == first.facts
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == times


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no record", "not json"])
def test_a_damaged_cache_file_is_drawn_again(cache: Path, damage: str) -> None:
    before = load_faces(SMALL)
    digest = before.facts["digest"]
    del before  # the files are mapped
    for path in cache.glob("faces-*.npy"):
        content = path.read_bytes()
        if damage == "truncated":
            path.write_bytes(content[:-100])
        elif damage == "flipped":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        elif damage == "no record":
            path.with_suffix(".json").unlink()
        else:
            path.with_suffix(".json").write_text("{")
    assert load_faces(SMALL).facts["digest"] == digest
    assert not list(cache.glob(".new-*"))


def test_the_name_reads_as_the_same_source() -> None:
    source = load_faces(SMALL, ReadOptions(image_size=16))
    assert source.name == "faces:train=40,probe=20,test=20,size=16"
    assert load_faces(source.name).facts == source.facts
    assert load_faces(source.name.removeprefix("faces:")).name == source.name
    assert FacesConfig.parse("faces").name == "faces"


def test_columns_are_picked_by_name() -> None:
    source = load_faces(SMALL, ReadOptions(labels=["Young", "Male"]))
    assert source.labels == ("Young", "Male")
    np.testing.assert_array_equal(source.test.target, load_faces(SMALL).test.target[:, [9, 5]])
    five = load_faces(SMALL + ",labels=5")
    assert five.labels == LABELS[:5]
    np.testing.assert_array_equal(five.train.pixels, load_faces(SMALL).train.pixels)
    with pytest.raises(LabelMismatch, match="labels=11 to have it drawn"):
        load_faces(SMALL, ReadOptions(labels=["Smiling"]))
    with pytest.raises(LabelMismatch, match="Close: Male"):
        load_faces(SMALL, ReadOptions(labels=["Mael"]))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("faces:trian=4", "Close: train"),
        ("faces:train", "whole number"),
        ("faces:train=4.5", "whole number"),
        ("faces:train=-4", "whole number"),
        ("faces:train=0", "expected 1 to 1,000,000"),
        ("faces:labels=40", "30 labels can be drawn"),
        ("faces:size=8", "expected 16 to 512"),
        ("faces:seed=1,seed=2", "given twice"),
        ("faces:,", "no option ''"),
    ],
)
def test_a_wrong_option_is_named(spec: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        load_faces(spec)


def test_facts_are_plain() -> None:
    facts = load_faces(SMALL).facts
    assert json.loads(json.dumps(facts)) == facts
    assert facts["counts"] == {"train": 40, "probe": 20, "test": 20}
    assert facts["identities"] is False
