"""Shapes of tables that people have: each is written, read, and compared with what it was made from."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from unlabel.core.errors import UnlabelError
from unlabel.data import load
from unlabel.data.dataset import Source

DOCS = Path(__file__).parents[2] / "docs" / "tables.md"
N = 36
MALE = [n % 2 for n in range(N)]
HAT = [n // 2 % 2 for n in range(N)]
SPLITS = [("train", "val", "test")[n % 3] for n in range(N)]
WORKS, FLAG = "works", "works with flag"


def colour(n: int) -> list[int]:
    return np.random.default_rng(n).integers(0, 256, 3, np.uint8).tolist()


def picture(n: int) -> Image.Image:
    return Image.fromarray(np.tile(np.array(colour(n), np.uint8), (16, 16, 1)))


def encoded(n: int) -> bytes:
    file = BytesIO()
    picture(n).save(file, "PNG")
    return file.getvalue()


def photos(folder: Path, names: Sequence[str]) -> None:
    for n, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(n).save(folder / name)


def lines(header: Sequence[str], rows: Sequence[Sequence[Any]], separator: str = ",") -> str:
    return "".join(separator.join(map(str, row)) + "\n" for row in [header, *rows])


IDS = [f"{n:02}.png" for n in range(N)]


def csv(
    header: str = "image_id,Male,Hat",
    marks: Sequence[str] = ("0", "1"),
    ids: Sequence[str] = IDS,
    separator: str = ",",
) -> str:
    rows = [[name, marks[MALE[n]], marks[HAT[n]]] for n, name in enumerate(ids)]
    return lines(header.split(","), rows, separator)


def beside(text: str, ids: Sequence[str] = IDS, file: str = "attributes.csv") -> Callable[[Path], None]:
    """Writes a table beside images/."""

    def write(root: Path) -> None:
        photos(root / "images", ids)
        (root / file).write_text(text, "utf-8")

    return write


@dataclass(frozen=True)
class Shape:
    """One row of the table in docs/tables.md, and what writes such data."""

    title: str
    source: str
    write: Callable[[Path], None]
    state: str = WORKS
    labels: tuple[str, ...] | None = None
    split: bool = False
    target: Callable[[int], list[int]] = lambda n: [MALE[n], HAT[n]]
    columns: tuple[str, ...] = ("Male", "Hat")
    refused: str = ""


def three(n: int) -> list[int]:
    return [MALE[n] if n % 5 else -1, HAT[n]]


def names_of(n: int) -> list[str]:
    return ["Hat"] * HAT[n] + ["Male"] * MALE[n]


def absolute(root: Path) -> None:
    photos(root / "disk", IDS)
    (root / "labels.csv").write_text(csv("path,Male,Hat", ids=[str(root / "disk" / name) for name in IDS]))


def one_table(root: Path) -> None:
    photos(root / "images", IDS)
    rows = [[name, MALE[n], HAT[n], SPLITS[n], f"p{n}"] for n, name in enumerate(IDS)]
    (root / "attributes.csv").write_text(lines(["image_id", "Male", "Hat", "split", "identity"], rows))


def imagefolder(root: Path) -> None:
    for split, folder in (("train", "train"), ("val", "validation"), ("test", "test")):
        mine = [n for n in range(N) if SPLITS[n] == split]
        for n in mine:
            (root / folder).mkdir(parents=True, exist_ok=True)
            picture(n).save(root / folder / IDS[n])
        rows = [[IDS[n], MALE[n], HAT[n]] for n in mine]
        (root / folder / "metadata.csv").write_text(lines(["file_name", "Male", "Hat"], rows))


def json_lines(root: Path) -> None:
    names = [f"{SPLITS[n]}/{n:02}.png" for n in range(N)]
    photos(root, names)
    rows = [{"file_name": name, "Male": bool(MALE[n]), "Hat": bool(HAT[n])} for n, name in enumerate(names)]
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def parquet(path: Path, columns: Mapping[str, Any], features: Mapping[str, Any] | None = None) -> None:
    table = pa.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=7)


def inside(of: Sequence[int]) -> list[dict[str, Any]]:
    return [{"bytes": encoded(n), "path": f"{n}.png"} for n in of]


def one_file(root: Path) -> None:
    parquet(root / "faces.parquet", {"image": inside(range(N)), "Male": MALE, "Hat": [bool(h) for h in HAT]})


def shards(root: Path) -> None:
    feature = {"labels": {"feature": {"names": ["Hat", "Male"], "_type": "ClassLabel"}, "_type": "Sequence"}}
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        mine = [n for n in range(N) if SPLITS[n] == split]
        ids = [[["Hat", "Male"].index(label) for label in names_of(n)] for n in mine]
        columns = {"image": inside(mine), "number": [f"{n:02}" for n in mine], "labels": ids}
        parquet(root / "data" / f"{name}-00000-of-00001.parquet", columns, feature)


def of_paths(root: Path) -> None:
    photos(root / "photos", IDS)
    columns = {"path": IDS, "Male": pa.array(MALE, pa.int8()), "Hat": pa.array(HAT, pa.float32())}
    parquet(root / "labels.parquet", columns)


def classes(root: Path) -> None:
    feature = {"label": {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}}
    columns = {"image": inside(range(N)), "label": [n % 3 for n in range(N)]}
    parquet(root / "pets.parquet", columns, feature)


TAGS = lines(["filename", "tags"], [[name, "|".join(names_of(n))] for n, name in enumerate(IDS)])
AGES = lines(
    ["image_id", "Male", "Hat", "age", "city"],
    [[name, MALE[n], HAT[n], 20 + n, f"city {n}"] for n, name in enumerate(IDS)],
)
KIND = lines(["file_name", "label"], [[name, ("cat", "dog", "owl")[n % 3]] for n, name in enumerate(IDS)])
DEEP = [f"{'ab'[n % 2]}/{n:02}.jpg" for n in range(N)]
MIXED = lines(["image_id", "Male", "Hat"], [[name, MALE[n], 2 * HAT[n] - 1] for n, name in enumerate(IDS)])
UNKNOWN = lines(
    ["image_id", "Male", "Hat"],
    [[name, MALE[n] if n % 5 else -1, HAT[n]] for n, name in enumerate(IDS)],
)
EMPTY = UNKNOWN.replace(",-1,", ",,")

SHAPES = (
    Shape("commas, 0 and 1", "folder:PATH", beside(csv())),
    Shape("semicolons", "folder:PATH", beside(csv(separator=";"))),
    Shape("tabs", "table:PATH/labels.tsv", beside(csv(separator="\t"), file="labels.tsv")),
    Shape("0.0 and 1.0", "folder:PATH", beside(csv(marks=("0.0", "1.0")))),
    Shape("-1 and 1", "folder:PATH", beside(csv(marks=("-1", "1")))),
    Shape("-1, 0 and 1", "folder:PATH", beside(UNKNOWN), target=three),
    Shape("0, 1 and empty", "folder:PATH", beside(EMPTY), target=three),
    Shape(
        "-1 in one column, 0 in another",
        "folder:PATH?absent=-1",
        beside(MIXED),
        FLAG,
        refused=r"column 'Hat' has -1 and column 'Male' has 0.*\?absent=-1 .*\?absent=0",
    ),
    Shape("yes and no", "folder:PATH", beside(csv(marks=("no", "Yes")))),
    Shape("true and false", "folder:PATH", beside(csv(marks=("False", "TRUE")))),
    Shape(
        "a column of names parted by `|`",
        "table:PATH/tags.csv",
        beside(TAGS, file="tags.csv"),
        columns=("Hat", "Male"),
        target=lambda n: [HAT[n], MALE[n]],
    ),
    Shape(
        "a column `label` with one name",
        "table:PATH/kind.csv",
        beside(KIND, file="kind.csv"),
        columns=("cat", "dog", "owl"),
        target=lambda n: [int(n % 3 == k) for k in range(3)],
    ),
    Shape("files in subfolders", "folder:PATH", beside(csv("file_name,Male,Hat", ids=DEEP), DEEP)),
    Shape(
        "files without their ending",
        "folder:PATH",
        beside(csv("Filename,Male,Hat", ids=[name[:2] for name in IDS])),
    ),
    Shape(
        "absolute paths",
        "table:PATH/labels.csv?root=PATH/disk",
        absolute,
        FLAG,
        refused=r"path '/.*' is not a plain path inside|MIXED",
    ),
    Shape(
        "another name for the column of files",
        "folder:PATH?names=photo",
        beside(csv("photo,Male,Hat")),
        FLAG,
        refused=r"no column 'image_id', found 'photo', 'Male', 'Hat'; .*\?names=COLUMN",
    ),
    Shape("`split` and `identity` in the same table", "folder:PATH", one_table, split=True),
    Shape(
        "columns of text and numbers",
        "folder:PATH",
        beside(AGES),
        FLAG,
        labels=("Male", "Hat"),
        refused=r"'age': found '20'.*2 columns hold no label \('age', 'city'\).*--labels Male,Hat",
    ),
    Shape(
        "a row number without a name, as pandas writes it",
        "folder:PATH",
        beside("".join(f"{'' if n == 0 else n - 1},{line}\n" for n, line in enumerate(csv().splitlines()))),
    ),
    Shape("Hugging Face imagefolder, `metadata.csv` a split", "folder:PATH", imagefolder, split=True),
    Shape("Hugging Face imagefolder, one `metadata.jsonl`", "folder:PATH", json_lines, split=True),
    Shape("parquet with images", "parquet:PATH/faces.parquet", one_file),
    Shape(
        "parquet shards with lists of class numbers",
        "parquet:PATH",
        shards,
        FLAG,
        labels=("Hat", "Male"),
        split=True,
        columns=("Hat", "Male"),
        target=lambda n: [HAT[n], MALE[n]],
        refused=r"column 'number': found '..'",
    ),
    Shape(
        "parquet with class numbers",
        "parquet:PATH/pets.parquet",
        classes,
        columns=("cat", "dog", "owl"),
        target=lambda n: [int(n % 3 == k) for k in range(3)],
    ),
    Shape(
        "parquet with paths",
        "parquet:PATH/labels.parquet?root=PATH/photos",
        of_paths,
        FLAG,
        refused="36 of 36 rows of labels.parquet have no file",
    ),
)


def number_of(pixels: np.ndarray) -> int:
    """Which image this is, by its colour."""
    colours = np.array([colour(n) for n in range(N)])
    return int(np.abs(colours - pixels[8, 8].astype(int)).sum(1).argmin())


def read(source: str, root: Path, labels: Sequence[str] | None = None) -> Source:
    return load(source.replace("PATH", str(root)), labels=labels, image_size=16, workers=0)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.title)
def test_a_shape_is_read_as_it_was_meant(shape: Shape, tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    shape.write(root)
    source = read(shape.source, root, shape.labels)
    assert source.labels == shape.columns
    seen = []
    for split, part in (("train", source.train), ("val", source.probe), ("test", source.test)):
        for at in range(len(part)):
            n = number_of(part.images(np.array([at]))[0])
            seen.append(n)
            assert part.target[at].tolist() == shape.target(n), (part.ids[at], n)
            assert not shape.split or SPLITS[n] == split
    assert sorted(seen) == list(range(N))
    assert json.loads(json.dumps(source.facts)) == source.facts
    again = load(source.name, labels=shape.labels, image_size=16, workers=0)
    assert again.facts["digest"] == source.facts["digest"]


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.state == FLAG], ids=lambda s: s.title)
def test_a_shape_that_needs_a_flag_is_refused_without_it_and_told(
    shape: Shape, tmp_path: Path, cache: Path
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    shape.write(root)
    with pytest.raises(UnlabelError, match=shape.refused):
        read(shape.source.partition("?")[0], root)


def test_the_manual_lists_these_shapes_and_no_other() -> None:
    rows = re.findall(r"^\| (.+?) \| `(.+?)`.* \| (works.*?) \|$", DOCS.read_text("utf-8"), re.M)
    flags = {shape: f", `--labels {','.join(shape.labels)}`" for shape in SHAPES if shape.labels}
    expected = [(shape.title, shape.source, shape.state) for shape in SHAPES]
    assert rows == expected
    for shape, flag in flags.items():
        assert f"| `{shape.source}`{flag} |" in DOCS.read_text("utf-8")
    assert len(SHAPES) >= 15
