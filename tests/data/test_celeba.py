import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unlabel.core.errors import DataError, LabelMismatch, MissingFiles, OptionError
from unlabel.core.progress import Silent
from unlabel.data import load
from unlabel.data.dataset import Source
from unlabel.data.options import ReadOptions
from unlabel.data.readers.celeba import load_celeba

NAMES = [f"{number:06d}.jpg" for number in range(1, 41)]
LABELS = ("5_o_Clock_Shadow", "Male", "Young")
MakeCelebA = Callable[..., Path]


class Saying(Silent):
    """Remembers the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def colour(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, 3, np.uint8)


def value(number: int, column: int) -> int:
    return 1 if number >> column & 1 else -1


def part(number: int) -> int:
    """20 train, 10 val, 10 test, as the official lists run in order."""
    return 0 if number <= 20 else 1 if number <= 30 else 2


def person(number: int) -> int:
    return 2880 + (number - 1) // 2


def attribute_list(names: Sequence[str] = NAMES, labels: Sequence[str] = LABELS) -> str:
    """As the authors write it: two lines of heading, values in columns of two or three characters."""
    rows = [
        name + " " + " ".join(f"{value(number, column):2d}" for column in range(len(labels)))
        for number, name in enumerate(names, 1)
    ]
    return f"{len(names)}\n{' '.join(labels)} \n" + "\n".join(rows) + "\n"


def pairs(what: Callable[[int], int]) -> str:
    return "".join(f"{name} {what(number)}\n" for number, name in enumerate(NAMES, 1))


def csv_lists() -> dict[str, str]:
    rows = [
        ",".join([name, *(str(value(number, column)) for column in range(3))])
        for number, name in enumerate(NAMES, 1)
    ]
    partition = [f"{name},{part(number)}" for number, name in enumerate(NAMES, 1)]
    return {
        "list_attr_celeba.csv": "\n".join([",".join(["image_id", *LABELS]), *rows]) + "\n",
        "list_eval_partition.csv": "\n".join(["image_id,partition", *partition]) + "\n",
    }


@pytest.fixture
def make(tmp_path: Path, cache: Path) -> MakeCelebA:
    """Writes 40 photos of 20 people in the official layout, unless other lists or places are given."""

    def write(
        name: str = "celeba",
        lists: Mapping[str, str] | None = None,
        photos: str = "img_align_celeba",
    ) -> Path:
        root = tmp_path / name
        (root / photos).mkdir(parents=True)
        for number, photo in enumerate(NAMES, 1):
            pixels = np.tile(colour(number), (218, 178, 1))
            Image.fromarray(pixels).save(root / photos / photo, quality=98, subsampling=0)
        official = {
            "list_attr_celeba.txt": attribute_list(),
            "list_eval_partition.txt": pairs(part),
            "identity_CelebA.txt": pairs(person),
        }
        for path, text in (official if lists is None else lists).items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        return root

    return write


def read(root: Path, **options) -> Source:
    return load_celeba(str(root), ReadOptions(image_size=16, workers=0, **options))


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


# -- what is read


def test_labels_splits_and_people_follow_the_official_lists(make: MakeCelebA) -> None:
    source = read(make())
    assert source.labels == LABELS
    for code, split in enumerate((source.train, source.probe, source.test)):
        numbers = [int(name[:6]) for name in split.ids]
        assert numbers == [number for number in range(1, 41) if part(number) == code]
        assert split.target.tolist() == [[int(value(n, k) == 1) for k in range(3)] for n in numbers]
        assert split.target.dtype == np.int8
        same = split.cluster[:, None] == split.cluster
        assert (same == [[person(one) == person(two) for two in numbers] for one in numbers]).all()


def test_pixels_belong_to_their_photos(make: MakeCelebA) -> None:
    source = read(make())
    for split in (source.train, source.probe, source.test):
        for at, name in enumerate(split.ids):
            found = split.images(np.array([at]))[0].astype(int)
            assert np.abs(found - colour(int(name[:6]))).max() <= 4  # JPEG rounds


def test_facts_have_a_folders_keys_and_say_where_the_data_come_from(make: MakeCelebA, make_folder) -> None:
    facts = read(make()).facts
    assert json.loads(json.dumps(facts)) == facts
    assert set(load(f"folder:{make_folder()}", image_size=16).facts) - {"table"} <= set(facts)
    assert facts["counts"] == {"train": 20, "probe": 10, "test": 10}
    assert facts["split_rule"] == "its own partition: test is E, val is P"
    assert (facts["identities"], facts["clusters"], facts["identity_overlap"]) == (True, 20, 0)
    assert facts["exclusive"] is False
    assert "mmlab.ie.cuhk.edu.hk" in facts["origin"]
    assert "non-commercial research only" in facts["terms"]
    assert "perceived" in facts["terms"]


@pytest.mark.parametrize("below", ["celeba/", "CelebA/", ""])
def test_the_folder_above_and_the_authors_sub_folders_are_found(make: MakeCelebA, below: str) -> None:
    expected = read(make("one")).facts["digest"]
    lists = {
        f"{below}Anno/list_attr_celeba.txt": attribute_list(),
        f"{below}Eval/list_eval_partition.txt": pairs(part),
        f"{below}Anno/identity_CelebA.txt": pairs(person),
    }
    facts = read(make("two", lists, f"{below}Img/img_align_celeba")).facts
    assert facts["digest"] == expected
    assert facts["identities"] is True


@pytest.mark.parametrize("photos", ["img_align_celeba", "img_align_celeba/img_align_celeba"])
def test_kaggles_tables_are_read_alike_without_identities(make: MakeCelebA, photos: str) -> None:
    expected = read(make("one"))
    source = read(make("two", csv_lists(), photos))
    assert source.facts["digest"] == expected.facts["digest"]
    assert source.facts["identities"] is False
    assert source.facts["clusters"] == 40
    assert (source.test.target == expected.test.target).all()


def test_the_order_of_rows_changes_nothing(make: MakeCelebA) -> None:
    first = read(make("one"))
    root = make("two")
    for name, heading in (("list_attr_celeba.txt", 2), ("list_eval_partition.txt", 0)):
        lines = (root / name).read_text().splitlines()
        (root / name).write_text("\n".join([*lines[:heading], *lines[heading:][::-1]]) + "\n")
    assert read(root).facts == first.facts


def test_only_the_wanted_labels_are_read(make: MakeCelebA) -> None:
    root = make()
    source = read(root, labels=["Young", "Male"])
    assert source.labels == ("Young", "Male")
    assert (source.test.target == read(root).test.target[:, [2, 1]]).all()
    with pytest.raises(LabelMismatch, match=r"no label column 'male' among its 3\. Close: Male\."):
        read(root, labels=["male"])


def test_one_label_in_every_photo_does_not_make_them_classes(make: MakeCelebA) -> None:
    rows = [f"{name} " + ("1 -1 -1", "-1 1 -1", "-1 -1 1")[n % 3] for n, name in enumerate(NAMES)]
    root = make()
    (root / "list_attr_celeba.txt").write_text("\n".join(["40", " ".join(LABELS), *rows]))
    assert read(root).train.exclusive is False


def test_the_name_loads_the_same_data_from_anywhere(
    make: MakeCelebA, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make()
    monkeypatch.chdir(root.parent)
    source = load("celeba:celeba", image_size=16)
    assert source.name == f"celeba:{root}"
    monkeypatch.chdir("/")
    assert load(source.name, image_size=16).facts == source.facts
    assert load(source.name).train.image_size == 64


def test_what_is_ignored_is_counted_and_told(make: MakeCelebA) -> None:
    root, log = make(), Saying()
    (root / "img_align_celeba" / "Thumbs.db").write_bytes(b"x")
    with (root / "list_eval_partition.txt").open("a") as file:
        file.write("000041.jpg 2\n")
    facts = read(root, log=log).facts
    assert (facts["ignored_files"], facts["ignored_meta_rows"]) == (1, 1)
    assert log.lines == [
        "warning: 1 file in img_align_celeba/ has no row in list_attr_celeba.txt: ignored",
        "warning: 1 row of list_eval_partition.txt and identity_CelebA.txt names no image of"
        " list_attr_celeba.txt: ignored",
    ]


def test_a_photo_that_cannot_be_read_is_refused_or_skipped(make: MakeCelebA) -> None:
    root = make()
    (root / "img_align_celeba" / NAMES[2]).write_bytes(b"hello")
    with pytest.raises(DataError, match=r"1 of 40 images cannot be read \('000003\.jpg': not an image\)"):
        read(root)
    source = read(root, skip_bad=True)
    assert source.facts["skipped_bad"] == ["000003.jpg"]
    assert len(source.train) == 19


# -- what is missing


def test_nothing_after_the_colon_is_refused() -> None:
    with pytest.raises(OptionError, match="found 'celeba:' without a folder; write celeba:PATH"):
        load("celeba:")


def test_a_missing_path_says_what_was_looked_for_and_where_it_comes_from(tmp_path: Path) -> None:
    with pytest.raises(MissingFiles) as caught:
        read(tmp_path / "nowhere")
    message = str(caught.value)
    for expected in (
        f"{tmp_path / 'nowhere'} does not exist",
        "list_attr_celeba",
        "mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        "non-commercial research only",
    ):
        assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.txt"])
def test_a_missing_list_is_named_with_its_other_form(make: MakeCelebA, name: str) -> None:
    root = make()
    (root / name).unlink()
    said = f"no {name} or {name[:-4]}.csv in {root}"
    with pytest.raises(MissingFiles, match=re.escape(said)):
        read(root)


def test_missing_photos_are_named(make: MakeCelebA) -> None:
    root = make()
    (root / "img_align_celeba" / NAMES[7]).unlink()
    with pytest.raises(MissingFiles, match=r"1 of 40 rows of list_attr_celeba\.txt .*'000008\.jpg'"):
        read(root)


def test_packed_photos_are_to_be_unpacked(make: MakeCelebA) -> None:
    root = make()
    shutil.rmtree(root / "img_align_celeba")
    (root / "img_align_celeba.zip").write_bytes(b"PK")
    with pytest.raises(MissingFiles, match=r"no folder img_align_celeba .*img_align_celeba\.zip: unpack it"):
        read(root)


# -- lists that are wrong


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("list_attr_celeba.txt", "40\n", "41\n", "has 40 rows; expected 41, as its first line says"),
        ("list_attr_celeba.txt", "40\n", "", "does not begin as CelebA's list"),
        ("list_attr_celeba.txt", "Young", "Male", "does not begin as CelebA's list"),
        ("list_attr_celeba.txt", " 1 -1 -1\n", " 1 -1\n", "line 3: found 3 values, expected 4"),
        (
            "list_attr_celeba.txt",
            " 1 -1 -1\n",
            " 1  0 -1\n",
            "line 3, label 'Male': found '0'; expected 1 (present) or -1",
        ),
        (
            "list_attr_celeba.txt",
            "000002.jpg",
            "000001.jpg",
            "line 4: image_id '000001.jpg' is there already",
        ),
        ("list_attr_celeba.txt", "000001.jpg", "../1.jpg", "'../1.jpg' is not a plain path inside img_align"),
        ("list_eval_partition.txt", "000001.jpg 0\n", "", "1 of 40 images are not in"),
        ("list_eval_partition.txt", "000001.jpg 0", "000001.jpg 3", "found partition '3' of '000001.jpg'"),
        ("list_eval_partition.txt", "000001.jpg 0", "000001.jpg", "line 1: found 1 values, expected 2"),
        ("list_eval_partition.txt", "000002.jpg", "000001.jpg", "line 2: image_id '000001.jpg' is there"),
        ("identity_CelebA.txt", "000001.jpg 2880", "000001.jpg a b", "line 1: found 3 values, expected 2"),
    ],
)
def test_a_malformed_list_is_named(make: MakeCelebA, name: str, old: str, new: str, said: str) -> None:
    root = make()
    change(root / name, old, new)
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        read(root)
    assert str(root / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"40\n", b"\xff\xfe\x00", b"0\nMale\n"])
def test_an_empty_or_binary_list_is_named(make: MakeCelebA, content: bytes) -> None:
    root = make()
    (root / "list_attr_celeba.txt").write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(root / "list_attr_celeba.txt"))):
        read(root)


def test_a_malformed_table_of_kaggles_is_named(make: MakeCelebA) -> None:
    root = make(lists=csv_lists())
    change(root / "list_attr_celeba.csv", "000001.jpg,1,-1,-1", "000001.jpg,1,0,-1")
    with pytest.raises(DataError, match=r"list_attr_celeba\.csv, line 2, label 'Male': found '0'"):
        read(root)


def test_a_photo_without_identity_counts_by_itself(make: MakeCelebA) -> None:
    root = make()
    change(root / "identity_CelebA.txt", "000001.jpg 2880\n", "")
    facts = read(root).facts
    assert facts["clusters"] == 21
    assert facts["identity_note"] == "1 images have no identity: each counts as one of its own."


def test_photos_of_identity_minus_one_are_no_person(make: MakeCelebA) -> None:
    root = make()
    who = (root / "identity_CelebA.txt").read_text()
    (root / "identity_CelebA.txt").write_text(re.sub(r" \d+\n", " -1\n", who, count=3))
    facts = read(root).facts
    assert facts["identity_note"] == "3 images have no identity: each counts as one of its own."


def test_too_small_a_part_is_refused_before_decoding(make: MakeCelebA, cache: Path) -> None:
    root = make()
    (root / "list_eval_partition.txt").write_text(pairs(lambda number: 0 if number > 1 else 2))
    with pytest.raises(DataError, match=r"E \(test\) split has 1 of 40 .*use the whole data set"):
        read(root)
    assert not cache.exists() or not list(cache.glob("images-*"))
