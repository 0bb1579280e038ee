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

from unlabel.core.errors import DataError, LabelMismatch, MissingFiles, OptionError, UnlabelError
from unlabel.core.progress import Silent
from unlabel.data import load
from unlabel.data.dataset import Source
from unlabel.data.readers.location import read_location
from unlabel.data.readers.meaning import meaning_of
from unlabel.data.readers.sheet import Images, Part, read_sheet


class Saying(Silent):
    """Remembers the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


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
    (root / "lists").mkdir()
    (root / "lists" / "labels.csv").write_text(
        csv("path,Male,Hat", ids=[str(root / "disk" / name) for name in IDS])
    )


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
        "table:PATH/labels.csv?absent=-1",
        beside(MIXED, file="labels.csv"),
        FLAG,
        refused=r"column 'Hat' has -1 and column 'Male' has 0.*\?absent=-1 .*\?absent=0",
    ),
    Shape("yes and no", "folder:PATH", beside(csv(marks=("no", "Yes")))),
    Shape("true and false", "folder:PATH", beside(csv(marks=("False", "TRUE")))),
    Shape(
        "a column of names separated by `|`",
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
        "table:PATH/lists/labels.csv?root=PATH/disk",
        absolute,
        FLAG,
        refused=r"path '/.*' is not a plain path inside .*/lists; .*\?root=FOLDER",
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


# -- what is refused


def text(root: Path, content: str, file: str = "labels.csv") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(content, "utf-8")
    return root / file


def meaning(root: Path, content: str, labels: Sequence[str] | None = None, absent: str | None = None) -> Any:
    file = text(root, content)
    return meaning_of(read_sheet([Part(file)], Images(root, "images/")), labels, absent)


@pytest.mark.parametrize(
    ("rows", "absent", "expected"),
    [
        (("-1,-1", "1,1"), None, [[0, 0], [1, 1]]),
        (("-1,-1", "1,-1"), None, [[0, 0], [1, 0]]),
        (("-1,", "1,1"), None, [[0, -1], [1, 1]]),
        (("-1,0", "0,1", "1,1"), None, [[-1, 0], [0, 1], [1, 1]]),
        (("-1,0", "-1,1"), None, [[-1, 0], [-1, 1]]),
        (("-1,0", "1,1"), "-1", [[0, 0], [1, 1]]),
        (("-1,0", "1,1"), "0", [[-1, 0], [1, 1]]),
        (("-1,0", "0,1", "1,1"), "-1", [[0, -1], [-1, 1], [1, 1]]),
        (('"1,0","0,0"', '"-1,0","1,0"'), "0", [[1, 0], [-1, 1]]),
        (("YES, true", "no,FALSE", ",true"), None, [[1, 1], [0, 0], [-1, 1]]),
    ],
)
def test_minus_one_is_absent_or_unknown_as_the_table_says(
    rows: Sequence[str], absent: str | None, expected: list[list[int]], tmp_path: Path
) -> None:
    table = "image_id,Male,Hat\n" + "".join(f"{n}.png,{row}\n" for n, row in enumerate(rows))
    assert meaning(tmp_path, table, absent=absent).target.tolist() == expected


@pytest.mark.parametrize("rows", [("-1,0", "0,1"), ("-1,1", "1,0"), ("0,-1", "-1,0")])
def test_marks_that_can_be_read_in_two_ways_are_refused(rows: Sequence[str], tmp_path: Path) -> None:
    table = "image_id,Male,Hat\n" + "".join(f"{n}.png,{row}\n" for n, row in enumerate(rows))
    with pytest.raises(DataError, match=r"-1 may mean absent or unknown; add \?absent=-1"):
        meaning(tmp_path, table)


@pytest.mark.parametrize("words", [("yes", "no"), ("True", "False")])
def test_words_say_absent_as_a_0_does(words: tuple[str, str], tmp_path: Path, cache: Path) -> None:
    """So -1 in another column is unknown in attributes.csv, and refused in other tables."""
    photos(tmp_path / "images", IDS)
    rows = [[name, (1, -1)[n % 2], words[n % 3 % 2]] for n, name in enumerate(IDS)]
    table = lines(["image_id", "Male", "Hat"], rows)
    text(tmp_path, table, "attributes.csv")
    source = load(f"folder:{tmp_path}", image_size=16)
    male = np.concatenate([part.target[:, 0] for part in (source.train, source.probe, source.test)])
    assert set(male.tolist()) == {-1, 1}
    with pytest.raises(DataError, match=r"'Male' has -1 and column 'Hat' has no or false.*\?absent=-1"):
        load(f"table:{text(tmp_path, table)}", image_size=16)


@pytest.mark.parametrize(("option", "told"), [("", True), ("?absent=-1", False)])
@pytest.mark.parametrize("kind", ["folder", "table"])
def test_that_minus_one_is_read_as_absent_is_told(
    kind: str, option: str, told: bool, tmp_path: Path, cache: Path
) -> None:
    photos(tmp_path / "images", IDS)
    rows = [[name, (1, -1)[n % 2], (1, -1)[n % 3 % 2]] for n, name in enumerate(IDS)]
    file = text(tmp_path, lines(["image_id", "Male", "Hat"], rows), "attributes.csv")
    log = Saying()
    source = load(f"{kind}:{tmp_path if kind == 'folder' else file}{option}", image_size=16, log=log)
    assert source.facts["table"]["absent"] == "-1"
    said = "no column of attributes.csv has a 0, so -1 is read as absent, as in CelebA; if it means unknown,"
    assert (f"warning: {said} add ?absent=0 to the source" in log.lines) == told


def test_in_attributes_csv_minus_one_is_unknown_beside_a_0(tmp_path: Path) -> None:
    beside(MIXED)(tmp_path)
    source = load(f"folder:{tmp_path}", image_size=16)
    hat = np.concatenate([part.target[:, 1] for part in (source.train, source.probe, source.test)])
    assert set(hat.tolist()) == {-1, 1}
    assert source.facts["table"]["absent"] == "0"


def test_a_column_that_is_not_read_cannot_settle_the_others(tmp_path: Path) -> None:
    table = "image_id,Male,mood\n1.png,-1,0\n2.png,1,-1\n3.png,1,1\n"
    with pytest.raises(DataError, match="column 'Male' has -1 and column 'mood' has 0"):
        meaning(tmp_path, table, ["Male"])
    assert meaning(tmp_path, table, ["Male"], "-1").target.tolist() == [[0], [1], [1]]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("image_id,Male\n1.png,maybe\n", "line 2, column 'Male': found 'maybe'; expected 1 (present)"),
        ("image_id,Male\n1.png,yes\n2.png,1\n", "line 3, column 'Male': found '1'"),
        ("image_id,Male\n1.png,true\n2.png,no\n", "line 3, column 'Male': found 'no'"),
        ("file_name,path,Male\n1.png,1.png,1\n", "2 columns that may hold file names: 'file_name', 'path'"),
        ("image_id,tags\n1.png,A;B\n2.png,B;A\n3.png,A\n", "line 2, column 'tags': found 'A;B'; part the"),
        ("image_id,A,tags\n1.png,1,A|B\n2.png,0,B\n", "the label 'A' as a column and as a name"),
        (
            "image_id,Male,split\n1.png,1,0\n2.png,0,1\n",
            "found '0'; expected train, val or test, or nothing in",
        ),
        ("image_id,Male,split\n1.png,1,train\n2.png,0,later\n", "column 'split': found 'later'"),
        ("image_id,Male,split\n1.png,1,train\n2.png,0,\n", "1 of 2 images have no split in"),
        ('{"file_name": "1.png", "Male": 1}\n{"file_name": "2.png", "Hat": 1}\n', "the key 'Hat'"),
        ('{"file_name": "1.png", "Male": NaN}\n', "line 1: a number is NaN; expected one JSON object"),
        ('{"file_name": "1.png", "tags": [1, 2]}\n', "line 1: a list holds '1'; expected names of"),
        ("[1]\n", "line 1 is no JSON object"),
        ("", "is empty"),
    ],
)
def test_a_table_that_cannot_be_understood_is_named(table: str, said: str, tmp_path: Path) -> None:
    file = text(tmp_path, table, "labels.jsonl" if table.startswith(("{", "[")) else "labels.csv")
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        meaning_of(read_sheet([Part(file)], Images(tmp_path, "")))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "without a path"),
        ("/x?absent=2", "expected absent=0"),
        ("/x?rot=/", "no option 'rot'. Close: root"),
        ("/x?absent=0,absent=0", "given twice"),
        ("/x?names=", "names of table has no value"),
        ("/x?root=/nowhere/at/all", "is no folder"),
    ],
)
def test_options_of_a_source_that_are_wrong(spec: str, said: str) -> None:
    with pytest.raises(OptionError, match=re.escape(said)):
        read_location("table", spec)


def test_a_path_with_a_question_mark_is_taken_whole(tmp_path: Path) -> None:
    (tmp_path / "what?absent=0").mkdir()
    assert read_location("folder", f"{tmp_path}/what?absent=0").absent is None
    where = read_location("table", f"{tmp_path}/a?b.csv?root={tmp_path},names=the, photo")
    assert (where.path.name, where.root, where.names) == ("a?b.csv", tmp_path, "the, photo")


@pytest.mark.parametrize(
    "name", ["../secret.png", "DISK/../secret.png", "/etc/passwd", "a\\..\\..\\secret.png"]
)
def test_a_file_outside_the_root_is_never_read(name: str, tmp_path: Path, cache: Path) -> None:
    photos(tmp_path / "disk", IDS)
    picture(0).save(tmp_path / "secret.png")
    ids = [name.replace("DISK", str(tmp_path / "disk")), *IDS[1:]]
    file = text(tmp_path, csv("path,Male,Hat", ids=ids))
    with pytest.raises(DataError, match=r"not a plain path inside|has no file in"):
        load(f"table:{file}?root={tmp_path}/disk", image_size=16)


def test_a_link_out_of_the_root_is_refused(tmp_path: Path, cache: Path) -> None:
    photos(tmp_path / "disk", IDS)
    photos(tmp_path / "private", ["a.png"])
    (tmp_path / "disk" / "out").symlink_to(tmp_path / "private")
    (tmp_path / "disk" / "b.png").symlink_to(tmp_path / "private" / "a.png")
    for name in ("out/a.png", "b.png"):
        file = text(tmp_path, csv("path,Male,Hat", ids=[name, *IDS[1:]]))
        with pytest.raises(DataError, match=r"lead(s)? out of"):
            load(f"table:{file}?root={tmp_path}/disk", image_size=16)


def test_two_rows_of_one_file_are_refused(tmp_path: Path, cache: Path) -> None:
    photos(tmp_path, IDS)
    file = text(tmp_path, csv(ids=["01", *IDS[1:]]))
    with pytest.raises(DataError, match=r"two rows of labels.csv mean the file '01.png': '01' and '01.png'"):
        load(f"table:{file}", image_size=16)


def test_windows_paths_are_read(tmp_path: Path, cache: Path) -> None:
    photos(tmp_path, DEEP)
    file = text(tmp_path, csv(ids=[name.replace("/", "\\") for name in DEEP]))
    source = load(f"table:{file}", image_size=16)
    assert sorted(name for part in (source.train, source.probe, source.test) for name in part.ids) == sorted(
        DEEP
    )


def test_a_split_in_both_tables_is_refused(tmp_path: Path, cache: Path) -> None:
    one_table(tmp_path)
    text(tmp_path, lines(["image_id", "split"], zip(IDS, SPLITS, strict=True)), "meta.csv")
    with pytest.raises(DataError, match="both have a column 'split'; keep one of them"):
        load(f"folder:{tmp_path}", image_size=16)


def test_a_column_called_split_is_a_label_only_if_it_is_named(tmp_path: Path) -> None:
    table = "image_id,Male,split\n1.png,1,0\n2.png,0,1\n"
    assert meaning(tmp_path, table, ["split", "Male"]).target.tolist() == [[0, 1], [1, 0]]
    empty = meaning(tmp_path, "image_id,Male,split\n1.png,1,\n2.png,0,\n")
    assert empty.labels == ("Male",)
    assert not np.any(empty.split.known())


@pytest.mark.parametrize("names", [["cat", "dog"], ["0", "1"]])
def test_an_unknown_class_of_hugging_face_is_unknown_for_each_class(
    tmp_path: Path, cache: Path, names: list[str]
) -> None:
    feature = {"label": {"names": names, "_type": "ClassLabel"}, "Hat": {"dtype": "int8", "_type": "Value"}}
    given = [n % 3 - 1 for n in range(N)]
    parquet(tmp_path / "pets.parquet", {"image": inside(range(N)), "label": given, "Hat": HAT}, feature)
    source = read("parquet:PATH/pets.parquet", tmp_path)
    assert not source.facts["exclusive"]
    there = [name for name in source.labels if name != "Hat"]
    for part in (source.train, source.probe, source.test):
        for image_id, row in zip(part.ids, part.target, strict=True):
            kind = given[number := int(Path(image_id).name)]
            truth = [-1] * len(there) if kind < 0 else [int(name == names[kind]) for name in there]
            if there == ["label"]:  # classes called 0 and 1 are the marks of one label
                truth = [kind]
            assert row[[source.labels.index(name) for name in there]].tolist() == truth
            assert row[source.labels.index("Hat")] == HAT[number]


def test_labels_of_both_kinds_may_be_chosen(tmp_path: Path) -> None:
    table = "image,Male,tags,age\n1.png,1,A|B,7\n2.png,0,B,8\n3.png,0,,9\n"
    assert meaning(tmp_path, table, ["B", "Male"]).target.tolist() == [[1, 1], [1, 0], [0, 0]]
    with pytest.raises(LabelMismatch, match="no label column 'C' among its 4"):
        meaning(tmp_path, table, ["C"])


def test_the_facts_say_how_a_table_is_spelt(tmp_path: Path, cache: Path) -> None:
    beside(csv("Filename,Male,Hat", ("-1", "1"), separator=";"))(tmp_path)
    assert load(f"folder:{tmp_path}", image_size=16).facts["table"] == {
        "file": "attributes.csv",
        "separator": ";",
        "names": "Filename",
        "absent": "-1",
        "columns_of_names": [],
        "ignored_columns": [],
    }


def test_a_table_in_place_of_a_source_is_pointed_to_its_reader(tmp_path: Path) -> None:
    file = text(tmp_path, csv())
    with pytest.raises(OptionError, match=re.escape(f"write table:{file}")):
        load(str(file))
    with pytest.raises(MissingFiles, match=re.escape(f"write table:{file}")):
        load(f"folder:{tmp_path}")
    with pytest.raises(MissingFiles, match=re.escape(f"is a table; write table:{file}")):
        load(f"folder:{file}")


# -- parquet


def test_a_bad_image_in_a_parquet_file_is_named_and_left_out(tmp_path: Path, cache: Path) -> None:
    images = inside(range(N))
    images[3], images[20] = {"bytes": b"hello", "path": None}, {"bytes": None, "path": "x"}
    parquet(tmp_path / "a.parquet", {"image": images, "Male": MALE})
    source = f"parquet:{tmp_path}/a.parquet"
    said = r"2 of 36 images cannot be read \('a/00000003': not an image, 'a/00000020': empty file\)"
    with pytest.raises(DataError, match=said):
        load(source, image_size=16)
    assert load(source, image_size=16, skip_bad=True).facts["images"] == 34


def test_damaged_parquet_files_are_refused_in_a_line(tmp_path: Path, cache: Path) -> None:
    one_file(tmp_path)
    whole = (tmp_path / "faces.parquet").read_bytes()
    chance = np.random.default_rng(0)
    faults = []
    for at in chance.integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(chance.integers(8))
        (tmp_path / "faces.parquet").write_bytes(damaged)
        try:
            load(f"parquet:{tmp_path}/faces.parquet", image_size=16)
        except UnlabelError as error:
            faults.append(str(error))
    assert len(faults) > 5
    assert [fault for fault in faults if "\n" in fault] == []
    for content in (b"", b"PAR1", whole[: len(whole) // 2]):
        (tmp_path / "faces.parquet").write_bytes(content)
        with pytest.raises(DataError, match="damaged or no parquet file"):
            load(f"parquet:{tmp_path}/faces.parquet", image_size=16)


def test_more_rows_than_can_be_are_refused(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_file(tmp_path)
    monkeypatch.setattr("unlabel.data.readers.parquet.MOST_ROWS", 35)
    with pytest.raises(DataError, match="says that it has 36 rows; expected at most 35"):
        load(f"parquet:{tmp_path}/faces.parquet")
    monkeypatch.setattr("unlabel.data.readers.parquet.MOST_ROWS", 36)
    monkeypatch.setattr("unlabel.data.readers.parquet.MOST_GROUP_BYTES", 100)
    with pytest.raises(DataError, match="the images of a row group have"):
        load(f"parquet:{tmp_path}/faces.parquet", image_size=16)


def test_without_pyarrow_the_install_command_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_file(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(OptionError, match=r"pyarrow, which is not installed: pip install .*\[parquet\]'"):
        load(f"parquet:{tmp_path}/faces.parquet")


def test_class_numbers_without_names_are_refused(tmp_path: Path, cache: Path) -> None:
    parquet(tmp_path / "a.parquet", {"image": inside(range(N)), "labels": [[n % 3] for n in range(N)]})
    with pytest.raises(DataError, match="holds class numbers, but the file's metadata names no classes"):
        load(f"parquet:{tmp_path}/a.parquet")


def test_shards_of_which_some_have_no_split_are_refused(tmp_path: Path) -> None:
    for name in ("train-0.parquet", "more.parquet"):
        parquet(tmp_path / name, {"image": inside(range(2)), "Male": [0, 1]})
    with pytest.raises(DataError, match=r"1 of 2 files in .* have no split in their names \(more.parquet\)"):
        load(f"parquet:{tmp_path}")


def test_odd_parquet_columns_are_named(tmp_path: Path, cache: Path) -> None:
    file, images = tmp_path / "a.parquet", inside(range(4))
    marks = pa.array([0, 1, 0, 1])
    pq.write_table(pa.Table.from_arrays([pa.array(images), marks, marks], ["image", "A", "A"]), file)
    with pytest.raises(DataError, match="has 2 columns 'A'; name each column once"):
        load(f"parquet:{file}")
    wrong = pa.Array.from_buffers(pa.string(), 4, pa.array([b"\xff"] * 4).buffers())
    for name, column, said in (
        ("tags", wrong, "damaged or no parquet file"),
        ("tags", ["a" * 1_000_001] * 4, "a text of more than 1,000,000 characters"),
        ("age", [21.5, None, 3.0, 4.0], "column 'age': found '21.5'"),
    ):
        parquet(file, {"image": images, name: column})
        with pytest.raises(DataError, match=said):
            load(f"parquet:{file}")
