"""A plain CSV file read as arrays gives the same sheet as Python's csv gives, cell by cell."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unlabel.core.errors import DataError
from unlabel.data.readers import plain_csv, sheet
from unlabel.data.readers.sheet import Column, Images, Part, Sheet, read_sheet

CELLS = st.one_of(
    st.sampled_from(
        ["1", "0", "-1", "", " 1", "yes", "true", "1.0", "a|b", "b", "n000012", "Zoë", "a longer text"]
    ),
    st.text("ab1;|é ", max_size=9),
)
ENDS = st.sampled_from(["\n", "\r\n"])


def read(path: Path) -> Sheet | str:
    try:
        return read_sheet([Part(path)], Images(path.parent, "images/"))
    except DataError as error:
        return str(error)


def plainly(value: Sheet | str) -> object:
    if isinstance(value, str):
        return value
    columns = {
        name: (
            tuple(column.texts),
            column.first.tolist(),
            column.codes.tolist(),
            vars(column).get("counts") is None,
        )
        for name, column in value.columns.items()
    }
    return value.names.tolist(), value.lines.tolist(), value.separator, columns


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), max_size=40), ENDS, st.booleans(), st.integers(20, 400)
)
def test_both_ways_read_the_same(
    tmp_path: Path, rows: list[tuple[str, ...]], end: str, closed: bool, size: int
) -> None:
    path = tmp_path / "t.csv"
    lines = ["image_id,A,identity,tags,split"]
    lines += [",".join([f"{' ' * (n % 2)}{n}.jpg", *row]) for n, row in enumerate(rows)]
    path.write_bytes((end.join(lines) + (end if closed else "")).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_csv, "_BYTES", size)  # blocks of a few rows
        fast = plainly(read(path))
        patch.setattr(sheet, "plain_blocks", lambda *_: iter(()))
        assert fast == plainly(read(path))


@pytest.mark.parametrize(
    "odd",
    [
        '7.jpg,"1"',
        "7.jpg,1,1",
        "7.jpg",
        "",
        "7.jpg,1\r8.jpg,0",
        "7.jpg,\x00",
        '7.jpg,"a\nb"',
        "../7.jpg,1",
        "3.jpg,1",
    ],
)
def test_a_line_that_is_not_plain_is_read_or_refused_as_csv_does(tmp_path: Path, odd: str) -> None:
    path = tmp_path / "t.csv"
    rows = [f"{n}.jpg,{n % 2}" for n in range(300)]
    path.write_text("image_id,A\n" + "\n".join([*rows[:7], odd, *rows[8:]]) + "\n", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_csv, "_BYTES", 64)
        mixed = plainly(read(path))
        patch.setattr(sheet, "plain_blocks", lambda *_: iter(()))
        assert mixed == plainly(read(path))


def test_a_plain_file_is_read_as_arrays_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("image_id,A\n" + "".join(f"{n}.jpg,{n % 2}\n" for n in range(5000)))
    blocks = list(plain_csv.plain_blocks(path, ",", 2))
    assert sum(map(len, blocks)) == 5000
    assert blocks[-1].last


def test_a_column_of_many_texts_keeps_a_few(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("image_id,A,price\n" + "".join(f"{n}.jpg,{n % 2},{n}\n" for n in range(1000)))
    price = read_sheet([Part(path)], Images(tmp_path, "")).columns["price"]
    assert isinstance(price, Column)
    assert len(price.texts) == 64
    assert np.sum(price.codes == sheet.MANY) == 1000 - 64
