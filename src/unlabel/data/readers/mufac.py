"""MUFAC, Korean family photos with eight classes of age, as its authors lay it out.

::

    PATH/train_images/F0001_AGE_D_18_a1.jpg ...     also val_images/ and test_images/
    PATH/custom_train_dataset.csv                   image_path, age_class (a to h), family_id, person_id
    PATH/custom_val_dataset.csv                     its images become P
    PATH/custom_test_dataset.csv                    its images become E

Members of a family look alike, so the family is the identity: what clusters, and what no two splits share.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unlabel.core.errors import DataError
from unlabel.core.wording import listing
from unlabel.data.dataset import Source
from unlabel.data.images.photos import decoded
from unlabel.data.options import DEFAULTS, ReadOptions
from unlabel.data.readers.assemble import Annotations, Wording, match_files, named_folder, source_of_images
from unlabel.data.readers.origins import MUFAC
from unlabel.data.readers.tables import check_id, chosen_labels, table_rows
from unlabel.data.splits import GIVEN_NAMES

LABELS = (
    "age_0_6",
    "age_7_12",
    "age_13_19",
    "age_20_30",
    "age_31_45",
    "age_46_55",
    "age_56_66",
    "age_67_80",
)
"""Years of the classes a to h, as the authors give them."""

_LETTERS = "abcdefgh"
_NAMES = ("", "custom_korean_family_dataset_resolution_128", "custom_korean_family_dataset_resolution_256")
_WORDING = Wording(
    "the folders of images",
    "custom_train_dataset.csv, custom_val_dataset.csv and custom_test_dataset.csv",
    splits="its own tables",
    remedy="use the whole data set",
)


def load_mufac(path: str, options: ReadOptions = DEFAULTS) -> Source:
    """Reads MUFAC with its own splits, and with its families as clusters.

    Args:
        path: The folder of its tables, or the one above.
        options: See `ReadOptions`; its labels are classes of `LABELS`.

    Raises:
        OptionError: No folder is named.
        MissingFiles: The folder, a table or a photo is missing.
        LabelMismatch: A wanted class does not exist.
        DataError: A table is malformed, a photo cannot be read, or a split is too small.
    """
    root = named_folder("mufac", path)
    MUFAC.check_folder(root)
    names = chosen_labels(LABELS, options.labels, MUFAC.title)
    base = MUFAC.find(root, _NAMES, ["custom_train_dataset.csv"]).parent
    rows: dict[str, tuple[str, str, str, int]] = {}
    inside: list[str] = []
    for split in GIVEN_NAMES:
        table = MUFAC.find(base, ("",), [f"custom_{split}_dataset.csv"])
        folders = _folders(base, split)
        read = _read_table(table)
        twice = sorted(read.keys() & rows.keys())
        if twice:
            raise DataError(
                f"{len(twice):,} images of {table} are in another table too"
                f" ({listing([repr(name) for name in twice], 3)}); keep each image in one split"
            )
        for name, (age, family) in read.items():
            rows[name] = _place(base, folders, name), split, family, age
        inside += folders
    ids = sorted(rows)
    places = [rows[name][0] for name in ids]
    ignored = match_files(base, places, "custom_*_dataset.csv", inside)
    columns = np.array([LABELS.index(name) for name in names])
    target = (np.array([rows[name][3] for name in ids])[:, None] == columns).astype(np.int8)
    annotations = Annotations(
        names, ids, target, [rows[name][1] for name in ids], [rows[name][2] for name in ids]
    )
    annotations.splits(_WORDING)  # refused before the long decoding, not after it
    frame = options.frame()
    images = decoded(base, places, frame, cache=options.cache, workers=options.workers, log=options.log)
    facts = {"ignored_files": ignored, "identities_are": "families", **MUFAC.facts}
    return source_of_images(
        f"mufac:{root}", annotations, images, _WORDING, facts, skip_bad=options.skip_bad, log=options.log
    )


def _folders(base: Path, split: str) -> list[str]:
    """Where the images of a split lie, with a ``/`` at the end; one copy of the data parts them in two."""
    names = [f"{folder.name}/" for folder in sorted(base.glob(f"{split}_images*")) if folder.is_dir()]
    names = [name for name in names if re.fullmatch(rf"{split}_images(_part\d+)?/", name)]
    if not names:
        raise MUFAC.missing(f"no folder {split}_images in {base}")
    return names


def _place(base: Path, folders: Sequence[str], name: str) -> str:
    """The image's path below the base: in the first folder that has it."""
    if len(folders) == 1:
        return folders[0] + name
    return next((folder for folder in folders if (base / folder / name).is_file()), folders[0]) + name


def _read_table(path: Path) -> dict[str, tuple[int, str]]:
    """Number of the age class and family of each image."""
    ages: dict[str, tuple[int, str]] = {}
    line_of: dict[str, int] = {}
    with table_rows(path, "image_path", numbered=True) as (header, rows):
        if "age_class" not in header:
            raise DataError(f"{path} has no column 'age_class'; expected image_path, age_class and family_id")
        image, age = header.index("image_path"), header.index("age_class")
        family = header.index("family_id") if "family_id" in header else None
        for line, row in rows:
            name, letter = row[image].strip(), row[age].strip()
            check_id(path, line, name, line_of, "its folder of images")
            if len(letter) != 1 or letter not in _LETTERS:
                raise DataError(f"{path}, line {line}, column 'age_class': found {letter!r}; expected a to h")
            who = row[family].strip() if family is not None else _family(name)
            ages[name] = _LETTERS.index(letter), who
    if not ages:
        raise DataError(f"{path} has a header and no rows; expected one row an image")
    return ages


def _family(name: str) -> str:
    """The family that a file's name begins with; empty where it does not.

    >>> _family("F0001_AGE_D_18_a1.jpg"), _family("photo.jpg")
    ('F0001', '')
    """
    match = re.match(r"F\d+(?=_)", name.rpartition("/")[2])
    return match[0] if match else ""
