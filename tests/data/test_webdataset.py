"""Tar shards that the test writes, read as a folder of the same photos is read."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.test_tables import HAT, MALE, SPLITS, N, colour, encoded

from unlabel.core.errors import DataError, MissingFiles, UnlabelError
from unlabel.data import load
from unlabel.data.dataset import Source
from unlabel.data.readers import index_file, tar_shards, webdataset


@pytest.fixture(autouse=True)
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards count as old enough to be indexed."""
    monkeypatch.setattr(index_file, "SETTLED_SECONDS", -1.0)


def shard(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def told(n: int) -> Any:
    return {"Male": MALE[n], "Hat": bool(HAT[n])}


def sample(n: int, ending: str = "json", value: Any = None) -> list[tuple[str, bytes]]:
    text = value if ending == "cls" else json.dumps(told(n) if value is None else value)
    return [(f"{n:02}.png", encoded(n)), (f"{n:02}.{ending}", str(text).encode())]


def split_shards(root: Path, make: Any = sample) -> None:
    """Two shards for each split, named as WebDataset names them."""
    for split in ("train", "val", "test"):
        mine = [n for n in range(N) if SPLITS[n] == split]
        for number, part in enumerate((mine[:5], mine[5:])):
            shard(root / f"{split}-{number:06}.tar", [member for n in part for member in make(n)])


def read(source: str, **options: Any) -> Source:
    return load(source, image_size=16, workers=0, **options)


def by_image(source: Source) -> Mapping[int, tuple[str, list[int]]]:
    parts = {"train": source.train, "val": source.probe, "test": source.test}
    return {
        int(Path(name).stem): (split, part.target[at].tolist())
        for split, part in parts.items()
        for at, name in enumerate(part.ids.tolist())
    }


EXPECTED = {n: (SPLITS[n], [MALE[n], HAT[n]]) for n in range(N)}


@pytest.mark.parametrize("spec", ["{}", "{}/*.tar", "{}?absent=0"])
def test_labels_splits_and_pixels_come_from_the_shards(tmp_path: Path, spec: str) -> None:
    split_shards(tmp_path)
    source = read("webdataset:" + spec.format(tmp_path), labels=["Male", "Hat"])
    assert by_image(source) == EXPECTED
    assert source.facts["split_rule"] == "the shards' names or split column: test is E, val is P"
    for part in (source.train, source.probe, source.test):
        for at, name in enumerate(part.ids.tolist()):
            assert part.images(np.array([at]))[0, 0, 0].tolist() == colour(int(Path(name).stem))


def test_lists_of_names_are_labels(tmp_path: Path) -> None:
    names = lambda n: ["Hat"] * HAT[n] + ["Male"] * MALE[n]  # noqa: E731
    split_shards(tmp_path, lambda n: sample(n, "json", names(n)))
    assert by_image(read(f"webdataset:{tmp_path}", labels=["Male", "Hat"])) == EXPECTED


def test_classes_are_exclusive_labels(tmp_path: Path) -> None:
    split_shards(tmp_path, lambda n: sample(n, "cls", n // 3 % 3))
    source = read(f"webdataset:{tmp_path}")
    assert source.labels == ("class_0", "class_1", "class_2")
    assert source.train.exclusive


def test_class_minus_one_is_unknown_for_each_class(tmp_path: Path) -> None:
    split_shards(tmp_path, lambda n: sample(n, "cls", n // 3 % 4 - 1))
    source = read(f"webdataset:{tmp_path}")
    assert source.labels == ("class_0", "class_1", "class_2")
    assert not source.train.exclusive
    for n, (_, row) in by_image(source).items():
        kind = n // 3 % 4 - 1
        assert row == ([-1] * 3 if kind < 0 else [int(k == kind) for k in range(3)])


def test_a_table_labels_images_by_key(tmp_path: Path) -> None:
    split_shards(tmp_path, lambda n: sample(n)[:1])
    rows = [f"{n:02},{MALE[n]},{HAT[n]}" for n in reversed(range(N))]
    (tmp_path / "attributes.csv").write_text("\n".join(["image_id,Male,Hat", *rows]) + "\n")
    assert by_image(read(f"webdataset:{tmp_path}")) == EXPECTED


def test_splits_and_identities_may_stand_beside_the_images(tmp_path: Path) -> None:
    value = lambda n: {**told(n), "split": SPLITS[n], "identity": f"p{n // 6}"}  # noqa: E731
    shard(tmp_path / "a.tar", [member for n in range(N) for member in sample(n, "json", value(n))])
    source = read(f"webdataset:{tmp_path}/a.tar", labels=["Male", "Hat"])
    assert by_image(source) == EXPECTED
    assert source.facts["clusters"] == N // 6


def test_without_splits_they_are_drawn_by_name(tmp_path: Path) -> None:
    members = [
        member
        for n in range(400)
        for member in [(f"{n}.png", encoded(n % N)), (f"{n}.json", json.dumps({"A": n % 2}).encode())]
    ]
    shard(tmp_path / "a.tar", members)
    source = read(f"webdataset:{tmp_path}")
    assert source.facts["split_rule"].startswith("no split column: 65 % train")
    assert min(len(source.train), len(source.probe), len(source.test)) > 20


def test_the_shards_are_read_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split_shards(tmp_path)
    first = read(f"webdataset:{tmp_path}")
    monkeypatch.setattr(webdataset, "Index", None)  # which alone reads a shard through
    again = read(f"webdataset:{tmp_path}")
    assert again.facts == first.facts
    assert again.train.ids.tolist() == first.train.ids.tolist()


def test_a_changed_shard_is_read_again(tmp_path: Path) -> None:
    split_shards(tmp_path)
    read(f"webdataset:{tmp_path}")
    split_shards(tmp_path, lambda n: sample(n, "json", {"Male": 1 - MALE[n], "Hat": HAT[n]}))
    found = by_image(read(f"webdataset:{tmp_path}", labels=["Male", "Hat"]))
    assert found == {n: (SPLITS[n], [1 - MALE[n], HAT[n]]) for n in range(N)}


def test_a_range_names_its_shards(tmp_path: Path) -> None:
    for number in range(3):
        mine = range(12 * number, 12 * number + 12)
        value = lambda n: {**told(n), "split": SPLITS[n]}  # noqa: E731
        shard(tmp_path / f"s-{number:03}.tar", [m for n in mine for m in sample(n, "json", value(n))])
    source = read(f"webdataset:{tmp_path}/s-{{000..001}}.tar", labels=["Male", "Hat"])
    assert sorted(by_image(source)) == list(range(24))
    with pytest.raises(MissingFiles, match="1 of the 4 files"):
        read(f"webdataset:{tmp_path}/s-{{000..003}}.tar")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("1.png", b""), ("1.json", b"[1, 2]")], "expected names of labels"),
        ([("1.png", b""), ("1.json", b"7")], "holds no labels by name and no list"),
        ([("1.png", b""), ("1.json", b"{")], "1.json"),
        ([("1.png", b""), ("1.jpg", b""), ("1.json", b"{}")], "'1' has 2 images"),
        ([("1.png", b"")], "images without labels"),
        ([("1.json", b"{}")], "holds no image"),
        ([("../1.png", b""), ("../1.json", b'{"A": 1}')], "not a plain path"),
        ([*sample(1), *sample(1)], "is there already"),
        ([("1.png", b""), ("1.png", b"")], "is there already"),
        ([*sample(1), ("2.png", b""), ("2.json", b'{"New": 1}')], "has the key 'New'"),
        ([*sample(1), *sample(2), *sample(1)], "is there already"),
    ],
)
def test_what_is_wrong_in_a_shard_is_named(
    tmp_path: Path, members: Sequence[tuple[str, bytes]], message: str
) -> None:
    shard(tmp_path / "a.tar", members)
    with pytest.raises(DataError, match=message):
        read(f"webdataset:{tmp_path}")


def test_a_damaged_or_missing_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFiles, match="found no tar file"):
        read(f"webdataset:{tmp_path}")
    (tmp_path / "a.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(DataError, match="damaged or no plain tar file"):
        read(f"webdataset:{tmp_path}")
    split_shards(tmp_path)
    data = (tmp_path / "test-000000.tar").read_bytes()
    (tmp_path / "test-000000.tar").write_bytes(data[: len(data) // 3])
    (tmp_path / "a.tar").unlink()
    with pytest.raises(UnlabelError, match=r"test-000000\.tar"):
        read(f"webdataset:{tmp_path}")


def test_a_bad_image_is_named_with_its_shard(tmp_path: Path) -> None:
    split_shards(tmp_path, lambda n: [(f"{n:02}.png", b"broken"), *sample(n)[1:]] if n == 4 else sample(n))
    with pytest.raises(DataError, match=r"'val-000000/04\.png': not an image"):
        read(f"webdataset:{tmp_path}")
    source = read(f"webdataset:{tmp_path}", skip_bad=True)
    assert source.facts["skipped_bad"] == ["val-000000/04.png"]


def test_a_row_without_an_image_is_named(tmp_path: Path) -> None:
    split_shards(tmp_path, lambda n: sample(n)[:1])
    (tmp_path / "attributes.csv").write_text("image_id,A\n00,1\n99,0\n")
    with pytest.raises(MissingFiles, match=r"1 of 2 rows of .* have no image in the shards: '99'"):
        read(f"webdataset:{tmp_path}")


def test_reading_a_shard_holds_no_list_of_its_members(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    shard(path, [(f"{n}.png", b"") for n in range(50)])
    with tarfile.open(path) as tar:
        for _ in tar_shards.samples(tar):
            assert len(tar.members) <= 1


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_any_cache_gives_the_same_pixels_and_digest(tmp_path: Path, cache: Any) -> None:
    split_shards(tmp_path, lambda n: [(f"{n:02}.png", b"broken"), *sample(n)[1:]] if n == 4 else sample(n))
    disk = read(f"webdataset:{tmp_path}", skip_bad=True)
    other = read(f"webdataset:{tmp_path}", skip_bad=True, cache=cache)
    assert other.facts == disk.facts
    for one, two in ((disk.train, other.train), (disk.probe, other.probe), (disk.test, other.test)):
        order = np.random.default_rng(0).permutation(len(one))
        assert np.array_equal(one.images(order), two.images(order))
