import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from unlabel.core.errors import OptionError
from unlabel.data import Dataset, constant_labels, load
from unlabel.data.options import ReadOptions
from unlabel.data.readers.folder import load_folder
from unlabel.testing import tiny_world

KNOWN = (
    "faces, folder:PATH, table:PATH, parquet:PATH, datasets:PATH, webdataset:PATH, celeba:PATH, cifar10:PATH,"
    " mnist:PATH, svhn:PATH, mufac:PATH, shapes, ages, digits"
)


def test_importing_the_room_loads_no_heavy_library() -> None:
    code = "import sys, unlabel.data; print({'torch', 'PIL', 'scipy', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_folder_is_read_by_its_prefix(make_folder) -> None:
    root = make_folder()
    source = load(f"folder:{root}")
    assert source.train.image_size == 64
    assert source.facts == load_folder(str(root)).facts


def test_the_name_loads_the_same_data_from_anywhere(make_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    root: Path = make_folder()
    monkeypatch.chdir(root.parent)
    source = load(f"folder:{root.name}", image_size=16)
    assert source.name == f"folder:{root}"
    monkeypatch.chdir("/")
    assert load(source.name, image_size=16).facts["digest"] == source.facts["digest"]


def test_a_folder_name_may_hold_a_colon(make_folder) -> None:
    root = make_folder(name="photos: 2024 <ü>")
    assert load(f"folder:{root}", image_size=16).name == f"folder:{root}"


def test_faces_get_what_stands_after_the_colon(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ReadOptions]] = []
    faces = ModuleType("unlabel.data.drawn.faces")
    faces.load_faces = lambda *given: calls.append(given)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "unlabel.data.drawn.faces", faces)
    load("faces")
    load("faces:train=10,size=96", image_size=32, labels=["Male"], workers=0)
    assert calls == [
        ("", ReadOptions()),
        ("train=10,size=96", ReadOptions(image_size=32, labels=("Male",), workers=0)),
    ]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("face", f"no data source 'face'. Close: faces, mufac. Use one of: {KNOWN}"),
        ("Folder:/data", "no data source 'Folder'. Close: folder."),
        ("CelebA:/data", "no data source 'CelebA'. Close: celeba."),
        ("imagenet", f"no data source 'imagenet'. Use one of: {KNOWN}"),
        ("", f"no data source ''. Use one of: {KNOWN}"),
        ("celeba", "found 'celeba:' without a folder; write celeba:PATH"),
        ("folder", "found 'folder:' without a folder; write folder:PATH"),
        ("folder:", "found 'folder:' without a folder; write folder:PATH"),
    ],
)
def test_an_unknown_source_is_refused_with_the_known_ones(source: str, said: str) -> None:
    with pytest.raises(OptionError, match=re.escape(said)):
        load(source)


def test_a_bare_path_is_refused_with_what_to_write(make_folder) -> None:
    root = make_folder()
    with pytest.raises(OptionError, match=re.escape(f"write folder:{root}")):
        load(str(root))


@pytest.mark.parametrize("size", [15, 513, 0, -64])
def test_an_image_size_out_of_range_is_refused(make_folder, size: int) -> None:
    with pytest.raises(OptionError, match=f"image size {size} is out of range; choose 16 to 512 pixels"):
        load(f"folder:{make_folder()}", image_size=size)


def test_other_options_out_of_range_are_refused() -> None:
    with pytest.raises(OptionError, match="found -1 workers; choose 0 or more"):
        load("faces", workers=-1)
    with pytest.raises(OptionError, match="no label is named"):
        load("faces", labels=[])
    with pytest.raises(OptionError, match="label 'Male' is named more than once"):
        load("faces", labels=["Male", "Young", "Male"])


def test_constant_labels_are_those_with_one_known_value() -> None:
    target = np.array([[1, 0, -1, 1], [1, 1, -1, -1], [-1, 0, -1, 0]], np.int8)
    rows = np.arange(3)
    pixels = np.zeros((3, 8, 8, 3), np.uint8)
    data = Dataset(pixels, rows, target, rows, np.array(["a", "b", "c"]), ("Face", "Male", "Old", "Young"))
    assert constant_labels(data) == ("Face", "Old")


def test_a_source_and_its_parts_are_short_in_a_notebook() -> None:
    source = tiny_world().source
    assert repr(source) == f"Source({source.name!r}, 256/128/128 images, 3 labels)"
    assert repr(source.train) == "Dataset(256 images of 16 x 16 pixels, 3 labels)"
