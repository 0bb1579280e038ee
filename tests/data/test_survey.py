"""What `unlabel data` finds in a source, against figures that are counted the slow way."""

import io
import json
import xml.etree.ElementTree as ET
from contextlib import nullcontext
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unlabel.audit.inputs.question import ask
from unlabel.core.errors import DataError
from unlabel.data import load
from unlabel.data.dataset import Dataset, Source
from unlabel.data.survey import MOST_LABELS, phi, survey
from unlabel.data.survey.duplicates import near_pairs, perceptual_hashes, shared_pictures
from unlabel.data.survey.picture import correlations
from unlabel.data.survey.text import lines


def pictures(count: int, side: int = 32, seed: int = 0) -> np.ndarray:
    """Smooth pictures of nothing, uint8 (count, side, side, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), np.uint8)
    return np.stack([np.array(Image.fromarray(one).resize((side, side))) for one in coarse])


def source(
    train: np.ndarray, probe: np.ndarray, test: np.ndarray, target: np.ndarray | None = None
) -> Source:
    """A source of these images."""
    sizes = [len(train), len(probe), len(test)]
    every = np.concatenate([train, probe, test])
    if target is None:
        target = np.random.default_rng(1).integers(0, 2, (len(every), 2)).astype(np.int8)
    ids = np.array([f"{n:03}.png" for n in range(len(every))])
    rows = np.arange(len(every))
    labels = tuple(f"label{n}" for n in range(target.shape[1]))
    whole = Dataset(every, rows, target, rows, ids, labels)
    ends = np.cumsum([0, *sizes])
    parts = [whole.take(np.arange(ends[at], ends[at + 1])) for at in range(3)]
    return Source("arrays", *parts)


def test_phi_is_the_correlation_of_what_is_known() -> None:
    target = np.random.default_rng(0).integers(-1, 2, (200, 4)).astype(np.int8)
    target[:, 3] = 1
    found = phi(target)
    for one, two in combinations(range(3), 2):
        known = (target[:, one] >= 0) & (target[:, two] >= 0)
        expected = np.corrcoef(target[known, one].astype(float), target[known, two].astype(float))[0, 1]
        assert found[one, two] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(found[3]).all()


def test_counts_are_those_of_the_annotations() -> None:
    images = pictures(30)
    target = np.random.default_rng(2).integers(-1, 2, (30, 3)).astype(np.int8)
    found = survey(source(images[:15], images[15:22], images[22:], target))
    assert found["splits"] == {"train": 15, "probe": 7, "test": 8}
    for column, label in enumerate(found["labels"]):
        for name, rows in (("train", slice(0, 15)), ("probe", slice(15, 22)), ("test", slice(22, 30))):
            part = target[rows, column].tolist()
            assert found["prevalence"][label][name] == {
                "present": part.count(1),
                "absent": part.count(0),
                "unknown": part.count(-1),
            }
    assert json.loads(json.dumps(found)) == found


def test_equal_pictures_are_counted_within_and_across_splits() -> None:
    images = pictures(30)
    train, probe, test = images[:15].copy(), images[15:22].copy(), images[22:].copy()
    train[4] = train[2]
    test[0] = test[1] = train[3]
    probe[5] = train[3]
    data = source(train, probe, test)
    exact = survey(data)["duplicates"]["exact"]
    assert exact["within"] == {"train": 1, "probe": 0, "test": 1}
    assert exact["across"] == {"train/probe": 1, "train/test": 2, "probe/test": 2}
    assert exact["examples"][0] == {
        "first": {"split": "train", "image": "003.png"},
        "second": {"split": "probe", "image": "020.png"},
    }
    told = shared_pictures(data)
    assert told is not None
    assert (
        "2 images of the test split are in the training split too (such as '022.png', which is '003.png')"
        in told
    )
    assert shared_pictures(source(images[:15], images[15:22], images[22:])) is None


def test_a_picture_that_is_there_hundreds_of_times_is_counted_exactly() -> None:
    images, one = pictures(90), pictures(1, seed=1)
    parts = [np.concatenate([images[at * 30 : at * 30 + 30], one.repeat(250, 0)]) for at in range(3)]
    exact = survey(source(*parts))["duplicates"]["exact"]
    assert exact["within"] == {"train": 249, "probe": 249, "test": 249}
    assert exact["across"] == {"train/probe": 250, "train/test": 250, "probe/test": 250}


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def repainted(image: np.ndarray) -> np.ndarray:
    """The same grey values, with more red and less green."""
    shift = np.array([58.7, -29.9, 0.0])  # 0.299 of the one and 0.587 of the other cancel
    return (image * 0.5 + 64 + shift).astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "near"),
    [
        (lambda image: jpeg(image, 60), True),
        (lambda image: np.array(Image.fromarray(image).resize((24, 24)).resize((32, 32))), True),
        (lambda image: (image * 0.8 + 30).astype(np.uint8), True),
        (lambda image: image[:, ::-1], False),
        (repainted, False),
    ],
    ids=["compressed", "scaled", "brighter", "mirrored", "repainted"],
)
def test_nearly_equal_pictures_are_found(change, near: bool) -> None:
    images = pictures(60)
    test = np.stack([change(image) for image in images[:10]])
    found = survey(source(images[:40], images[40:], test))["duplicates"]
    assert found["exact"]["across"]["train/test"] == 0
    assert found["near"]["across"]["train/test"] == (10 if near else 0)
    assert found["near"]["across"]["train/probe"] == 0


def test_pictures_without_shapes_have_no_hash() -> None:
    flat = np.tile(np.arange(0, 250, 10, dtype=np.uint8)[:, None, None, None], (1, 16, 16, 3))
    found = survey(source(flat[:10], flat[10:18], flat[18:]))["duplicates"]
    assert found["flat"] == 25
    assert sum(found["near"]["across"].values()) == 0


def test_pairs_are_those_of_the_slow_search() -> None:
    chance = np.random.default_rng(3)
    hashes = chance.integers(0, 2**63, 150).astype(np.uint64)
    for at in range(0, 100, 2):  # twins that differ in up to 7 bits
        for bit in chance.choice(64, at % 8, replace=False):
            hashes[at + 1] = hashes[at] ^ np.uint64(1 << int(bit)) if bit % 2 else hashes[at]
    usable = np.arange(150) % 7 != 0
    expected = [
        [one, two]
        for one, two in combinations(range(150), 2)
        if usable[one] and usable[two] and (int(hashes[one]) ^ int(hashes[two])).bit_count() <= 4
    ]
    assert near_pairs(hashes, usable)[0].tolist() == expected
    assert len(expected) > 10


def test_a_search_that_was_cut_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unlabel.data.survey.duplicates.MOST_PAIRS", 10)
    found = survey(source(*[np.repeat(pictures(1), 20, axis=0)] * 3))
    assert found["duplicates"]["complete"] is False
    assert "more pairs are nearly equal than are counted here" in "\n".join(lines(found))


def test_the_hash_is_that_of_the_cosine_transform() -> None:
    """Against scipy's, in float64, of pictures of 32 pixels, which are not averaged."""
    from scipy.fft import dctn

    images = pictures(5)
    grey = images.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    for image, made in zip(grey, perceptual_hashes(images)[0], strict=True):
        low = dctn(image)[:8, :8]
        low = low.ravel()[1:]
        bits = low > np.median(low)
        assert int(made) == sum(1 << at for at, bit in enumerate(bits.tolist()) if bit)


def test_sizes_and_unreadable_files_of_a_folder(make_folder) -> None:
    root = make_folder()
    Image.new("RGB", (50, 20), (9, 200, 9)).save(root / "images" / "05.png")
    Image.new("RGB", (10, 12), (200, 9, 9)).save(root / "images" / "06.png")
    (root / "images" / "03.png").write_bytes(b"hello")
    found = survey(load(f"folder:{root}", image_size=16, workers=0, skip_bad=True))
    assert found["sizes"] == {
        "images": 39,
        "smallest": [10, 12],
        "median": [20, 20],
        "largest": [50, 20],
        "not_square": 2,
        "not_measured": 0,
    }
    assert found["unreadable"] == {"count": 1, "files": [{"image": "03.png", "reason": "not an image"}]}
    text = "\n".join(lines(found))
    assert "10 x 12 to 50 x 20 (width x height), median 20 x 20; 2 of 39 not square" in text
    assert "03.png: not an image" in text
    assert "warning: 1 image cannot be read" in text


def test_an_identity_in_two_splits_is_a_warning(make_folder) -> None:
    ids = [f"{n:02}.png" for n in range(40)]
    meta = [["image_id", "split", "identity"]]
    meta += [[name, ("train", "val", "test")[n % 3], f"p{n}"] for n, name in enumerate(ids)]
    meta[1][2] = meta[3][2] = "both"
    found = survey(load(f"folder:{make_folder(meta=meta)}", image_size=16, workers=0))
    assert found["identities"]["across"] == {"train/probe": 0, "train/test": 1, "probe/test": 0}
    assert "1 identity is in both the train and the test split." in found["warnings"]


def test_a_label_that_an_audit_would_refuse_is_a_warning() -> None:
    """As many as `audit.inputs.ask` asks for, in each split; one that is never there has its own warning."""
    target = np.zeros((90, 4), np.int8)
    target[:, :3] = np.arange(90)[:, None] % 2
    target[60:, 1] = np.arange(30) < 9  # of the test split: present in 9, absent in 21
    data = source(*np.split(pictures(90), 3), target)
    few = replace(data.probe, cluster=data.probe.cluster // 12)  # its 30 images are of 3 people
    sentence = (
        "1 label has too few images for an audit or a probe. These need 10 images of 4 identities with the"
        " label, and as many without it, in each split: label1 (present in 9 images of test)."
    )
    found = survey(data)["warnings"]
    assert found[-1] == sentence
    assert found[-2].startswith("label3 is not both present and absent in")
    assert (
        "label0 (present in 15 images of 3 identities of probe"
        in survey(replace(data, probe=few))["warnings"][-1]
    )
    for column, label in enumerate(data.labels):
        with pytest.raises(DataError) if column in (1, 3) else nullcontext():
            ask(label, data.probe, data.test, data.train)


def test_a_picture_of_correlations_escapes_names_and_is_whole() -> None:
    images = pictures(30)
    data = source(images[:15], images[15:22], images[22:])
    part = {
        name: Dataset(**{**vars(getattr(data, name)), "labels": ("<script>&", "Größe")})
        for name in ("train", "probe", "test")
    }
    found = survey(Source("arrays", part["train"], part["probe"], part["test"]))
    root = ET.fromstring(correlations(found))
    names = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert names.count("<script>&") == names.count("Größe") == 2
    value = found["correlations"]["phi"][0][1]
    assert names.count(f"{value:.2f}".replace("0.", ".").replace("-", "−")) == 2
    assert correlations(found) == correlations(found)


def test_of_many_labels_the_balanced_ones_are_compared() -> None:
    images = pictures(60, side=16)
    target = np.zeros((60, MOST_LABELS + 5), np.int8)
    target[: len(target) // 2, 5:] = 1
    found = survey(source(images[:30], images[30:45], images[45:], target))
    assert found["correlations"]["labels"] == [f"label{n}" for n in range(5, MOST_LABELS + 5)]
    text = "\n".join(lines(found))
    assert "and 65 more labels" in text
    assert f"correlations   {MOST_LABELS} labels are too many for a table here; --json has one" in text


def test_the_command_prints_and_writes(command, make_folder, tmp_path: Path) -> None:
    root = make_folder()
    ran = command("data", f"folder:{root}", "--image-size", "16", "--out", tmp_path / "out", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[-1] == str(tmp_path / "out" / "correlations.svg")
    written = json.loads((tmp_path / "out" / "data.json").read_text("utf-8"))
    again = command("data", f"folder:{root}", "--image-size", "16", "--json", "--quiet")
    assert json.loads(again.out) == written
    ran = command("data", f"folder:{root}", "--out", tmp_path / "out", "--quiet")
    assert (ran.code, ran.out) == (2, "")
    assert "replace it with --force" in ran.err
    assert command("data", f"folder:{root}", "--out", tmp_path / "out", "--quiet", "--force").code == 0


def test_the_command_compares_images_of_any_shape(command, make_folder) -> None:
    ran = command("data", f"folder:{make_folder()}", "--image-size", "32,16", "--json", "--quiet")
    assert (ran.code, json.loads(ran.out)["image_size"]) == (0, [32, 16])
    wrong = command("data", "faces", "--image-size", "big")
    assert (wrong.code, "--image-size is 'big'; expected a whole number of pixels" in wrong.err) == (2, True)


def test_training_on_images_of_the_test_split_warns(command, make_folder, tmp_path: Path) -> None:
    ids = [f"{n:02}.png" for n in range(40)]
    meta = [["image_id", "split"], *([name, ("train", "val", "test")[n % 3]] for n, name in enumerate(ids))]
    root = make_folder(meta=meta)
    run = ("--image-size", "16", "--epochs", "0.1", "--batch-size", "8")
    ran = command("train", f"folder:{root}", *run, "--out", tmp_path / "a")
    assert (ran.code, "warning" in ran.err) == (0, False)
    (root / "images" / "02.png").write_bytes((root / "images" / "00.png").read_bytes())
    ran = command("train", f"folder:{root}", *run, "--out", tmp_path / "b")
    assert ran.code == 0
    told = "1 images of the test split are in the training split too (such as '02.png', which is '00.png')"
    assert told in ran.err
    record = json.loads((tmp_path / "b" / "unlabel.json").read_text("utf-8"))
    assert told in record["data"]["facts"]["shared_pictures"]
