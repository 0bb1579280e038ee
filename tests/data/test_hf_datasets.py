"""Folders that Hugging Face's datasets wrote are read as parquet files of the same rows are."""

import builtins
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.test_tables import HAT, MALE, SPLITS, N, colour, encoded
from tests.data.test_webdataset import EXPECTED, by_image, read

from unlabel.core.errors import DataError, MissingFiles, OptionError
from unlabel.data.readers import hf_datasets

datasets = pytest.importorskip("datasets")

CODES = {"train": "train", "val": "validation", "test": "test"}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    datasets.disable_progress_bars()
    yield
    hf_datasets._images.cache_clear()


def made(of: list[int]) -> Any:
    columns = {
        "image": [{"bytes": encoded(n), "path": None} for n in of],
        "image_id": [f"{n:02}.png" for n in of],
        "Male": [bool(MALE[n]) for n in of],
        "Hat": [HAT[n] for n in of],
    }
    kinds = {
        "image": datasets.Image(),
        "image_id": datasets.Value("string"),
        "Male": datasets.Value("bool"),
        "Hat": datasets.Value("int64"),
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


def by_split() -> dict[str, Any]:
    return {CODES[split]: made([n for n in range(N) if SPLITS[n] == split]) for split in CODES}


def test_splits_labels_and_pixels_are_those_that_were_saved(tmp_path: Path) -> None:
    datasets.DatasetDict(by_split()).save_to_disk(str(tmp_path / "d"))
    source = read(f"datasets:{tmp_path / 'd'}", labels=["Male", "Hat"])
    assert by_image(source) == EXPECTED
    for part in (source.train, source.probe, source.test):
        for at, name in enumerate(part.ids.tolist()):
            assert part.images(np.array([at]))[0, 0, 0].tolist() == colour(int(Path(name).stem))


def test_a_selection_is_read_in_its_order(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(N).tolist()
    made(list(range(N))).select(order).save_to_disk(str(tmp_path / "d"), num_shards=3)
    source = read(f"datasets:{tmp_path / 'd'}")
    for part in (source.train, source.probe, source.test):
        for at, name in enumerate(part.ids.tolist()):
            assert part.images(np.array([at]))[0, 0, 0].tolist() == colour(int(Path(name).stem))


def test_arrow_files_alone_are_read(tmp_path: Path) -> None:
    for name, data in by_split().items():
        data.save_to_disk(str(tmp_path / "saved" / name))
        file = next((tmp_path / "saved" / name).glob("*.arrow"))
        (tmp_path / "arrow").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "arrow" / f"{name}-00000.arrow")
    assert by_image(read(f"datasets:{tmp_path / 'arrow'}", labels=["Male", "Hat"])) == EXPECTED


def test_classes_have_the_names_of_the_features(tmp_path: Path) -> None:
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "cow", "dog"])}
    columns = {
        "image": [{"bytes": encoded(n), "path": None} for n in range(N)],
        "label": [n % 3 for n in range(N)],
    }
    data = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
    data.save_to_disk(str(tmp_path / "d"))
    source = read(f"datasets:{tmp_path / 'd'}")
    assert source.labels == ("cat", "cow", "dog")
    assert source.train.exclusive


def test_images_come_in_any_order_and_repeated(tmp_path: Path) -> None:
    made(list(range(N))).save_to_disk(str(tmp_path / "d"), num_shards=2)
    place = hf_datasets.Place(tmp_path / "d", "", "")
    names = hf_datasets.Names.of([f"{n}" for n in range(N)])
    rows = hf_datasets.ArrowRows([place], "image", "", names, np.zeros(N, np.int32), np.arange(N))
    wanted = [7, 3, 3, 35, 0, *range(N)]
    assert list(rows.contents(wanted)) == [encoded(n) for n in wanted]
    assert list(rows.take(np.array([5, 2])).contents([0, 1])) == [encoded(5), encoded(2)]


def test_without_the_library_the_command_to_install_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(list(range(N))).save_to_disk(str(tmp_path / "d"))
    real = builtins.__import__

    def missing(name: str, *rest: Any, **named: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(OptionError, match=r"pip install .*\[datasets\]"):
        read(f"datasets:{tmp_path / 'd'}")


def test_another_folder_is_told_its_source(tmp_path: Path) -> None:
    with pytest.raises(MissingFiles, match="found no arrow file"):
        read(f"datasets:{tmp_path}")
    (tmp_path / "train-0.parquet").write_bytes(b"")
    with pytest.raises(MissingFiles, match="write parquet:"):
        read(f"datasets:{tmp_path}")


def test_a_damaged_folder_is_named(tmp_path: Path) -> None:
    made(list(range(N))).save_to_disk(str(tmp_path / "d"))
    file = next((tmp_path / "d").glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="damaged"):
        read(f"datasets:{tmp_path / 'd'}")
    (tmp_path / "d" / "state.json").write_text("{}")
    with pytest.raises(DataError, match="damaged"):
        read(f"datasets:{tmp_path / 'd'}")


def test_an_unusual_split_is_refused_with_what_to_write(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": made([0, 1]), "extra": made([2])}).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(DataError, match="'extra'"):
        read(f"datasets:{tmp_path / 'd'}")
