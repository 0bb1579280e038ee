"""Tiny folders with the layout that users have."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeFolder = Callable[..., Path]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder for this test alone."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("UNLABEL_CACHE", str(folder))
    return folder


@pytest.fixture
def make_folder(tmp_path: Path, cache: Path) -> MakeFolder:
    """Writes a data set: images named by `ids`, two labels unless `attributes` says otherwise."""

    def make(
        ids: Sequence[str] = tuple(f"{n:02}.png" for n in range(40)),
        *,
        name: str = "photos",
        attributes: Sequence[Sequence[str]] | None = None,
        meta: Sequence[Sequence[str]] | None = None,
        extra: Mapping[str, bytes] | None = None,
    ) -> Path:
        root = tmp_path / name
        for number, image_id in enumerate(ids):
            write_image(root / "images" / image_id, number)
        (root / "images").mkdir(parents=True, exist_ok=True)
        for image_id, data in (extra or {}).items():
            (root / "images" / image_id).write_bytes(data)
        if attributes is None:
            attributes = [["image_id", "Smiling", "Male"]]
            attributes += [[image_id, str(n % 2), str(n // 2 % 2)] for n, image_id in enumerate(ids)]
        write_table(root / "attributes.csv", attributes)
        if meta is not None:
            write_table(root / "meta.csv", meta)
        return root

    return make


def write_image(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = np.random.default_rng(number).integers(0, 256, 3, np.uint8)
    Image.fromarray(np.tile(colour, (20, 20, 1))).save(path)


def write_table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
