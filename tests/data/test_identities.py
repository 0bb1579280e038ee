"""One person has one spelling, and nobody is no person, whichever reader found them."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from unlabel.core.progress import Silent
from unlabel.data import load
from unlabel.data.dataset import Source
from unlabel.data.readers.identities import person

PARTS = ("train", "validation", "test")
SPLITS = ("train", "probe", "test")
NOBODY = ["-1", "-1.0", "nan", "None", "NULL", "NA", "<NA>", "n/a", "NaT", "Unknown", "?", " "]


class Saying(Silent):
    """Remembers the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def read(root: Path, **options: Any) -> Source:
    return load(f"folder:{root}", image_size=16, workers=0, **options)


def encoded(n: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(n).integers(0, 256, (16, 16, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def in_memory(whose: dict[str, Any]) -> Source:
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (20, 16, 16, 3), np.uint8) for name in SPLITS}
    targets = rng.integers(0, 2, (20, 2))
    parts = {name: (images[name], targets) for name in SPLITS}
    return load(**parts, labels=["Male", "Hat"], identities=whose)


def imagefolder(root: Path, whose: dict[str, list[Any]]) -> str:
    for at, part in enumerate(PARTS):
        (root / part).mkdir()
        lines = ["file_name,Male,identity"]
        for n, who in enumerate(whose[part]):
            (root / part / f"{n}.png").write_bytes(encoded(20 * at + n))
            lines.append(f"{n}.png,{n % 2},{'' if who is None else who}")
        (root / part / "metadata.csv").write_text("\n".join(lines) + "\n")
    return f"folder:{root}"


def parquet(root: Path, whose: dict[str, list[Any]]) -> str:
    for at, part in enumerate(PARTS):
        columns = {
            "image": [encoded(20 * at + n) for n in range(20)],
            "Male": [n % 2 for n in range(20)],
            "identity": whose[part],
        }
        pq.write_table(pa.table(columns), root / f"{part}-0.parquet")
    return f"parquet:{root}"


def shards(root: Path, whose: dict[str, list[Any]]) -> str:
    for at, part in enumerate(PARTS):
        with tarfile.open(root / f"{part}-0.tar", "w") as tar:
            for n, who in enumerate(whose[part]):
                told = json.dumps({"Male": n % 2, "identity": who}).encode()
                for ending, data in (("png", encoded(20 * at + n)), ("json", told)):
                    member = tarfile.TarInfo(f"{n:04}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return f"webdataset:{root}"


@pytest.mark.parametrize("write", [imagefolder, parquet, shards])
def test_a_number_with_and_without_a_fraction_of_zero_is_one_person(write, tmp_path, cache) -> None:
    """Pandas writes a column of whole numbers as floating ones where a value is missing."""
    train, rest = [1, 2] * 10, [n + 10 for n in range(20)]
    whose = {"train": train, "validation": rest, "test": [1.0, None] * 10}
    facts = load(write(tmp_path, whose), image_size=16, workers=0).facts
    assert (facts["identity_overlap"], facts["clusters"]) == (1, 2 + 20 + 10)


def test_images_in_memory_follow_the_same_rule() -> None:
    whole, rest = np.array([1, 2] * 10), [f"p{n}" for n in range(20)]
    facts = in_memory({"train": whole, "probe": rest, "test": np.array([1.0, np.nan] * 10)}).facts
    assert (facts["identity_overlap"], facts["clusters"]) == (1, 2 + 20 + 10)


@pytest.mark.parametrize("nobody", [*NOBODY, -1, float("nan"), np.float32("nan"), None])
def test_in_memory_nobody_is_no_person(nobody: Any) -> None:
    facts = in_memory({name: [nobody] * 20 for name in SPLITS}).facts
    assert (facts["identities"], facts["clusters"], facts["identity_overlap"]) == (False, 60, 0)


def test_outer_spaces_and_forms_of_unicode_make_no_second_person() -> None:
    facts = in_memory(
        {"train": [" ann"] * 20, "probe": ["Jos\u00e9"] * 20, "test": ["ann", "Jose\u0301"] * 10}
    )
    assert (facts.facts["clusters"], facts.facts["identity_overlap"]) == (2, 2)


@pytest.mark.parametrize("nobody", NOBODY)
def test_in_a_table_nobody_is_no_person(nobody: str, make_folder) -> None:
    ids = [f"{n:02}.png" for n in range(40)]
    meta = [["image_id", "identity"], *([name, nobody if n % 2 else "ann"] for n, name in enumerate(ids))]
    facts = read(make_folder(meta=meta)).facts
    assert facts["clusters"] == 1 + 20
    assert facts["identity_note"] == "20 images have no identity: each counts as one of its own."


def test_other_words_stay_people() -> None:
    for text in ("0", "nana", "1.5", "v1.0", "unknown soldier", "-12"):
        assert person(text) == text


@pytest.mark.parametrize(("held", "warned"), [(0.2, False), (0.25, True)])
def test_an_identity_that_holds_a_fifth_of_the_images_is_named(
    held: float, warned: bool, make_folder
) -> None:
    ids = [f"{n:03}.png" for n in range(60)]
    attributes = [["image_id", "Male", "identity"]]
    attributes += [[name, str(n % 2), "0" if n < 60 * held else f"p{n}"] for n, name in enumerate(ids)]
    log = Saying()
    read(make_folder(ids=ids, attributes=attributes), log=log)
    said = [line for line in log.lines if "identity '0' holds 15 of 60 images" in line]
    assert len(said) == warned


def test_of_a_few_images_one_person_may_hold_many(make_folder) -> None:
    ids = [f"{n:02}.png" for n in range(40)]
    meta = [["image_id", "identity"], *([name, "ann" if n < 20 else f"p{n}"] for n, name in enumerate(ids))]
    log = Saying()
    read(make_folder(meta=meta), log=log)
    assert not any("ann" in line for line in log.lines)
