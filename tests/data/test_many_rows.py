"""A table of many rows opens in bounded memory; no clock is read."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from tests.data.test_tables import encoded, parquet
from tests.data.test_webdataset import read

from unlabel.bench.index import LABELS, index_bytes, source_of, write_table
from unlabel.core import parallel
from unlabel.data.readers.files import find_files
from unlabel.data.readers.parquet import RowGroups
from unlabel.data.readers.sheet import Images, Part, read_sheet
from unlabel.data.texts import Coded, Names

ROWS = 300_000
MOST_HELD = 1e9 / 3.3e6
"""Bytes a row that an index may hold: 1 GB at 3.3 million rows."""

MOST_USED = 1.7e9 / 3.3e6
"""Bytes a row at the most while it opens: 2 GB at 3.3 million rows, less what importing torch takes."""


@pytest.mark.slow  # 20 s
def test_labels_and_index_of_many_rows_take_little_memory(tmp_path: Path) -> None:
    table = tmp_path / "attributes.csv"
    write_table(table, ROWS)
    tracemalloc.start()
    try:
        source = source_of(read_sheet([Part(table)], Images(tmp_path, "images/")))
        held, used = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(source.train) + len(source.probe) + len(source.test) == ROWS
    assert source.train.target.shape[1] == LABELS
    assert LABELS < index_bytes(source) / ROWS < MOST_HELD
    assert held / ROWS < MOST_HELD
    assert used / ROWS < MOST_USED


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    table = tmp_path / "attributes.csv"
    write_table(table, 500)
    source = source_of(read_sheet([Part(table)], Images(tmp_path, "images/")))
    lines = [line.split(",") for line in table.read_text().splitlines()[1:]]
    marks = {name: [int(mark) for mark in rest] for name, _, *rest in lines}
    people = {name: who for name, who, *_ in lines}
    for part in (source.train, source.probe, source.test):
        names = part.ids.tolist()
        assert part.target.tolist() == [marks[name] for name in names]
        codes = dict(zip((people[name] for name in names), part.cluster.tolist(), strict=True))
        assert [codes[people[name]] for name in names] == part.cluster.tolist()


def test_names_come_back_in_any_order_and_after_pickling() -> None:
    import pickle

    texts = ["b", "", "ä/é.jpg", "\udcff", "a" * 300, "b2"]
    names = Names.of(texts)
    assert names.tolist() == texts
    assert names[::-1].tolist() == texts[::-1]
    assert pickle.loads(pickle.dumps(names[np.array([2, 0])])).tolist() == ["ä/é.jpg", "b"]
    assert Names.joined([names, names[:2]]).tolist() == [*texts, *texts[:2]]
    assert names[names.order()].tolist() == sorted(texts)
    assert names.repeated() is None
    assert Names.of([*texts, "b2", "b"]).repeated() == (6, 5)
    assert names.rows_of(Names.of(["b2", "no", "b"])).tolist() == [5, -1, 0]


def test_coded_texts_come_back() -> None:
    texts = ["b", "", "b", "a"]
    coded = Coded.of(texts)
    assert list(coded) == texts
    assert coded[np.array([3, 1])].tolist() == ["a", ""]
    assert coded[:1].used() == {"b"}


def test_files_are_found_without_asking_for_the_size_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{n:03}.jpg" for n in range(50)]
    for name in names:
        (tmp_path / name).touch()
    asked: list[object] = []
    real = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **rest: asked.append(self) or real(self, **rest))
    assert find_files(tmp_path, Names.of(names), "t.csv", whole=True).names.tolist() == names
    assert not [path for path in asked if str(path).endswith(".jpg")]


def test_a_pool_takes_few_items_ahead() -> None:
    taken: list[int] = []

    def items():
        for item in range(200):
            taken.append(item)
            yield item

    with parallel.side_by_side(10_000, workers=2) as each:
        results = iter(each(abs, items()))
        assert next(results) == 0
        assert len(taken) <= 2 * parallel._AHEAD + 1
        assert list(results) == list(range(1, 200))


def test_parquet_images_come_in_any_order_and_repeated(tmp_path: Path) -> None:
    for number in range(2):
        images = [{"bytes": encoded(n), "path": None} for n in range(20 * number, 20 * number + 20)]
        parquet(tmp_path / f"{number}.parquet", {"image": images})
    names = Names.of([str(n) for n in range(40)])
    rows = RowGroups.of([tmp_path / "0.parquet", tmp_path / "1.parquet"], "image", names)
    wanted = [39, 3, 3, 20, 19, *range(40)]
    assert list(rows.contents(wanted)) == [encoded(n) for n in wanted]
    assert list(rows.contents(range(40))) == [encoded(n) for n in range(40)]
    assert list(rows.take(np.array([25, 6])).contents([1, 0])) == [encoded(6), encoded(25)]


def test_parquet_can_be_decoded_when_it_is_used(tmp_path: Path) -> None:
    images = [{"bytes": encoded(n % 36), "path": None} for n in range(60)]
    parquet(tmp_path / "a.parquet", {"image": images, "A": [n % 2 for n in range(60)]})
    disk, none = (read(f"parquet:{tmp_path}", cache=cache) for cache in ("disk", "none"))
    assert none.facts == disk.facts
    order = np.arange(len(disk.train))[::-1]
    assert np.array_equal(disk.train.images(order), none.train.images(order))
