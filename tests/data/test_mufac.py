import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unlabel.core.errors import DataError, LabelMismatch, MissingFiles
from unlabel.data import load
from unlabel.data.dataset import Source
from unlabel.data.options import ReadOptions
from unlabel.data.readers.mufac import LABELS, load_mufac

SPLITS = {"train": (1, 12), "val": (801, 804), "test": (851, 854)}
"""First family of each split and one past the last; each has 16 photos, two of every age class."""

MakeMufac = Callable[..., Path]


def colour(name: str) -> np.ndarray:
    return np.random.default_rng(list(name.encode())).integers(0, 256, 3, np.uint8)


def photos(split: str) -> list[tuple[str, str, str, str]]:
    """Family, person, age class and file name of every photo of a split, as the authors name them."""
    return [
        (f"F{family:04d}", person, age, f"F{family:04d}_AGE_{person}_30_{age}{number}.jpg")
        for family in range(*SPLITS[split])
        for age in "abcdefgh"
        for number, person in ((1, "D"), (2, "GM"))
    ]


@pytest.fixture
def make(tmp_path: Path, cache: Path) -> MakeMufac:
    """Writes tables with pandas's row numbers and photos of one colour."""

    def write(
        name: str = "mufac", *, numbered: bool = True, family: bool = True, parted: bool = False
    ) -> Path:
        root = tmp_path / name
        for split in SPLITS:
            columns = ["family_id", "person_id", "age_class", "image_path"]
            lines = [",".join([*([""] if numbered else []), *(columns if family else columns[1:])])]
            for row, photo in enumerate(photos(split)):
                folder = root / f"{split}_images"
                if parted and split == "train":
                    folder = root / f"train_images_part{1 if row < 100 else 2}"
                folder.mkdir(parents=True, exist_ok=True)
                pixels = np.tile(colour(photo[3]), (32, 32, 1))
                Image.fromarray(pixels).save(folder / photo[3], quality=98, subsampling=0)
                lines.append(",".join([*([str(row)] if numbered else []), *(photo if family else photo[1:])]))
            (root / f"custom_{split}_dataset.csv").write_text("\n".join(lines) + "\n")
        return root

    return write


def read(root: Path, **options) -> Source:
    return load_mufac(str(root), ReadOptions(image_size=16, workers=0, **options))


def test_ages_splits_and_families_follow_the_tables(make: MakeMufac) -> None:
    source = read(make())
    assert source.labels == LABELS
    assert source.train.exclusive
    for split, part in zip(SPLITS, (source.train, source.probe, source.test), strict=True):
        rows = {name: (family, age) for family, _, age, name in photos(split)}
        assert part.ids.tolist() == sorted(rows)
        assert ["abcdefgh"[column] for column in part.target.argmax(1)] == [
            rows[name][1] for name in part.ids
        ]
        assert (part.target.sum(1) == 1).all()
        family = np.array([rows[name][0] for name in part.ids])
        assert ((part.cluster[:, None] == part.cluster) == (family[:, None] == family)).all()


def test_pixels_belong_to_their_photos(make: MakeMufac) -> None:
    test = read(make()).test
    for at, name in enumerate(test.ids):
        assert np.abs(test.images(np.array([at]))[0].astype(int) - colour(name)).max() <= 4  # JPEG rounds


def test_facts_tell_of_families_and_of_the_source(make: MakeMufac) -> None:
    facts = read(make()).facts
    assert facts["counts"] == {"train": 176, "probe": 48, "test": 48}
    assert facts["split_rule"] == "its own tables: test is E, val is P"
    assert (facts["exclusive"], facts["clusters"], facts["identity_overlap"]) == (True, 17, 0)
    assert facts["identities_are"] == "families"
    assert "github.com/ndb796/MachineUnlearning" in facts["origin"]
    assert "AI Hub" in facts["terms"]


def test_families_are_read_from_the_names_where_no_column_has_them(make: MakeMufac) -> None:
    assert read(make("a")).facts == read(make("b", numbered=False, family=False)).facts


def test_photos_of_an_unknown_family_are_no_family(make: MakeMufac) -> None:
    root = make()
    table = root / "custom_train_dataset.csv"
    header, first, *rest = table.read_text().splitlines()
    family = photos("train")[0][0]
    table.write_text("\n".join([header, first.replace(f",{family},", ",NA,", 1), *rest]) + "\n")
    assert read(root).facts["identity_note"] == "1 images have no identity: each counts as one of its own."


def test_a_training_folder_in_parts_is_the_same_data(make: MakeMufac) -> None:
    assert read(make("a")).facts["digest"] == read(make("b", parted=True)).facts["digest"]


def test_the_archives_folder_is_found_below_the_path(make: MakeMufac, tmp_path: Path) -> None:
    digest = read(make("custom_korean_family_dataset_resolution_128")).facts["digest"]
    source = read(tmp_path)
    assert source.facts["digest"] == digest
    assert source.name == f"mufac:{tmp_path}"
    assert load(source.name, image_size=16).facts == source.facts


def test_chosen_ages_are_labels_and_no_longer_classes(make: MakeMufac) -> None:
    root = make()
    source = read(root, labels=["age_67_80", "age_0_6", "age_7_12"])
    assert source.labels == ("age_67_80", "age_0_6", "age_7_12")
    assert (source.test.target == read(root).test.target[:, [7, 0, 1]]).all()
    assert not source.test.exclusive
    with pytest.raises(LabelMismatch, match=r"no label column 'age_0_7' among its 8\. Close: age_0_6"):
        read(root, labels=["age_0_7"])


def test_spare_files_are_counted_and_other_folders_left_alone(make: MakeMufac) -> None:
    root = make()
    (root / "test_images" / "F0900_AGE_M_57_f1.jpg").write_bytes(b"x")
    (root / "fixed_val_dataset").mkdir()
    (root / "fixed_val_dataset" / "a.jpg").write_bytes(b"x")
    assert read(root).facts["ignored_files"] == 1


def test_a_bad_photo_is_refused_or_skipped(make: MakeMufac) -> None:
    root = make()
    name = photos("val")[0][3]
    (root / "val_images" / name).write_bytes(b"")
    with pytest.raises(DataError, match=f"1 of 272 images cannot be read \\('{name}': empty file\\)"):
        read(root)
    assert read(root, skip_bad=True).facts["skipped_bad"] == [name]


def test_what_is_missing_is_named_with_where_it_comes_from(make: MakeMufac, tmp_path: Path) -> None:
    with pytest.raises(MissingFiles, match=r"nowhere does not exist; expected MUFAC .*github\.com/ndb796"):
        read(tmp_path / "nowhere")
    root = make()
    (root / "custom_val_dataset.csv").rename(root / "val.csv")
    with pytest.raises(MissingFiles, match=r"no custom_val_dataset\.csv in .*mufac"):
        read(root)
    (root / "val.csv").rename(root / "custom_val_dataset.csv")
    (root / "val_images" / photos("val")[0][3]).unlink()
    with pytest.raises(MissingFiles, match=r"1 of 272 rows of custom_\*_dataset\.csv has no file .*F0801"):
        read(root)
    (root / "val_images").rename(root / "photos")
    with pytest.raises(MissingFiles, match="no folder val_images in"):
        read(root)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",a,F0801", ",i,F0801", "line 2, column 'age_class': found 'i'; expected a to h"),
        (",a,F0801", ",ab,F0801", "found 'ab'; expected a to h"),
        ("age_class", "age", "has no column 'age_class'"),
        ("image_path", "path", "has no column 'image_path'"),
        ("F0801_AGE_D_30_a1.jpg", "../a.jpg", "'../a.jpg' is not a plain path inside its folder of images"),
        (
            "F0801_AGE_D_30_a1.jpg",
            "F0801_AGE_GM_30_a2.jpg",
            "line 3: image_id 'F0801_AGE_GM_30_a2.jpg' is there",
        ),
        ("F0801_AGE_D_30_a1.jpg", "F0001_AGE_D_30_a1.jpg", "1 images of"),
        ("0,F0801,D", "0,D", "line 2: found 4 values, expected 5"),
    ],
)
def test_a_malformed_table_is_named(make: MakeMufac, old: str, new: str, said: str) -> None:
    root = make()
    path = root / "custom_val_dataset.csv"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        read(root)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
