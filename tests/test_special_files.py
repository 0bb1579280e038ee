"""What is no file where one belongs, or is far too large: one line and exit code 2, at once and unread."""

import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from unlabel.core.errors import CheckpointMismatch, DataError, ModelError, ReadError
from unlabel.core.files import RECORD
from unlabel.core.progress import Silent
from unlabel.core.reading import MOST_VALUES, open_plain, parse_json, read_plain
from unlabel.models.weights import read_weights
from unlabel.runs.files import CONFIG, MODEL, read_config
from unlabel.runs.folder import load_run
from unlabel.statement.contents import contents
from unlabel.statement.keys import write_keys

ROOM = 1_500_000_000  # bytes of address space that a command may take beyond what this process has
TRAIN = ["--epochs", 0.1, "--batch-size", 8, "--image-size", 16, "--quiet"]


@pytest.fixture(autouse=True)
def bounds() -> Iterator[None]:
    """A command that waits for a pipe is ended after a minute; one that reads 8 GB runs out of memory."""

    def late(*_: object) -> None:
        raise AssertionError("the command waits")

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits, before = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, limits[1]))
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    resource.setrlimit(resource.RLIMIT_AS, limits)


def sparse(file: Path) -> None:
    file.touch()
    os.truncate(file, 8 * 2**30)


THINGS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a dangling link": lambda file: file.symlink_to("nowhere"),
    "an endless device": lambda file: file.symlink_to("/dev/zero"),
    "8 GB": sparse,
}


@contextmanager
def replaced(file: Path, thing: str) -> Iterator[None]:
    kept = file.with_name("kept-" + file.name) if file.exists() else None
    if kept:
        file.rename(kept)
    THINGS[thing](file)
    yield
    shutil.rmtree(file) if file.is_dir() else file.unlink()
    if kept:
        kept.rename(file)


@pytest.fixture
def place(base: Path, photos: Path, tmp_path: Path) -> Path:
    """A run, its photos, weights to adopt, and keys, in the current folder; a test may change them."""
    shutil.copytree(base, tmp_path / "run")
    shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(base / MODEL, tmp_path / "weights.safetensors")
    (tmp_path / "labels.txt").write_text("top\nmiddle\nbottom\n")
    (tmp_path / "rows.csv").write_text("image_id\n00000.png\n")
    (tmp_path / "run" / "statement.dsse.json").write_text("{}")
    write_keys(tmp_path / "key")
    return tmp_path


ADOPT = ["adopt", "small", "--weights", "weights.safetensors", "--labels", "labels.txt", "--quiet"]
ADOPT += ["--data", "folder:photos", "--image-size", 16, "--out", "new"]
FORGET = ["forget", "head-removal", "run", "--labels", "top", "--out", "new", "--quiet"]
USES: dict[str, tuple[str, list[Any]]] = {
    "attributes.csv": ("photos/attributes.csv", ["train", "folder:photos", "--out", "new", *TRAIN]),
    "meta.csv": ("photos/meta.csv", ["train", "folder:photos", "--out", "new", *TRAIN]),
    "an image of a folder": ("photos/images/00003.png", ["train", "folder:photos", "--out", "new", *TRAIN]),
    "an image": ("image.png", ["predict", "run", "image.png"]),
    "a run's record": (f"run/{RECORD}", ["show", "run"]),
    "a run's config": (f"run/{CONFIG}", ["show", "run"]),
    "a run's weights": (f"run/{MODEL}", ["predict", "run", "photos/images/00000.png"]),
    "weights to adopt": ("weights.safetensors", ADOPT),
    "names of labels": ("labels.txt", ADOPT),
    "a table of rows": ("rows.csv", [*FORGET, "--rows", "rows.csv"]),
    "an audit": ("run/audit.json", ["report", "run"]),
    "a private key": ("key", ["sign", "run", "--key", "key", "--force"]),
    "a public key": ("key.pub", ["verify", "run", "--key", "key.pub"]),
}


@pytest.mark.parametrize("what", USES)
@pytest.mark.parametrize("thing", THINGS)
def test_what_is_no_file_is_one_line(what: str, thing: str, place: Path, command) -> None:
    name, arguments = USES[what]
    if (what, thing) == ("a table of rows", "8 GB"):
        arguments = [argument if argument != "head-removal" else "retrain" for argument in arguments]
    with replaced(place / name, thing):
        ran = command(*arguments)
    assert (ran.code, ran.out) == (2, ""), ran.err
    lines = [line for line in ran.err.splitlines() if line.startswith("unlabel: ")]
    assert len(lines) == 1, ran.err
    assert Path(name).name in lines[0]
    assert not (place / "new").exists()


@pytest.mark.parametrize("thing", THINGS)
def test_a_statement_that_is_no_file_is_not_as_stated(thing: str, place: Path, command) -> None:
    with replaced(place / "run" / "statement.dsse.json", thing):
        ran = command("verify", "run")
    assert ran.code == 3
    assert "cannot be used" in ran.out


def test_a_comparison_that_is_no_file_is_one_line(place: Path, command) -> None:
    (place / "compared").mkdir()
    for thing in THINGS:
        with replaced(place / "compared" / "compare.json", thing):
            ran = command("report", "compared")
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), thing


# -- long names


@pytest.mark.parametrize("length", [501, 131_000])
def test_a_long_identity_is_refused_before_numpy_gives_every_image_its_room(
    length: int, place: Path, command
) -> None:
    rows = (place / "photos" / "attributes.csv").read_text().splitlines()[1:]
    names = [row.partition(",")[0] for row in rows]
    text = "".join(f"{name},{'a' * length if at == 5 else at}\n" for at, name in enumerate(names))
    (place / "photos" / "meta.csv").write_text("image_id,identity\n" + text)
    ran = command("train", "folder:photos", "--out", "new", *TRAIN)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert f"line 7, column 'identity': found {length:,} characters; expected at most 500" in ran.err


def test_a_long_name_of_an_image_is_refused(place: Path, command) -> None:
    (place / "rows.csv").write_text(f"image_id\n{'a' * 100_000}\n")
    ran = command(*FORGET, "--rows", "rows.csv")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "line 2: image_id has 100,000 characters; expected at most 500" in ran.err


def test_a_table_without_line_breaks_is_not_read_to_its_end(place: Path, command) -> None:
    with (place / "photos" / "meta.csv").open("ab") as file:
        os.truncate(file.fileno(), 900_000_000)
    ran = command("train", "folder:photos", "--out", "new", *TRAIN)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "more than 30,000,000 characters" in ran.err


# -- weights


@pytest.mark.parametrize("how", ["tensors", "packed"])
def test_weights_without_numbers_or_packed_ones_are_refused(how: str, place: Path, command) -> None:
    file, state = place / "weights.pt", load_file(place / "weights.safetensors")
    torch.save({name: value.to("meta") if how == "tensors" else value for name, value in state.items()}, file)
    if how == "packed":
        repacked(file)
    ran = command(*(file if argument == "weights.safetensors" else argument for argument in ADOPT))
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert ("no plain tensor" if how == "tensors" else "its content is packed") in ran.err


def repacked(file: Path) -> None:
    """The same archive, compressed, as torch never writes it: a small file may unpack to fill the memory."""
    from zipfile import ZIP_DEFLATED, ZipFile

    with ZipFile(file) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    parts["archive/nothing"] = bytes(10_000_000)
    with ZipFile(file, "w", ZIP_DEFLATED) as new:
        for name, content in parts.items():
            new.writestr(name, content)


def test_a_weight_file_far_larger_than_its_network_is_refused(place: Path) -> None:
    save_file({"more": torch.zeros(10_000_000)}, place / "run" / MODEL)
    with pytest.raises(CheckpointMismatch, match=r"more than 2[67],\d{3},\d{3} bytes"):
        load_run(place / "run")


def test_a_weight_file_of_honest_size_is_read(place: Path) -> None:
    assert read_weights(place / "weights.safetensors").tensors


@pytest.mark.parametrize("factor", [1e20, 1e38])
def test_weights_whose_answers_are_no_numbers_are_refused(factor: float, place: Path, command) -> None:
    state = load_file(place / "run" / MODEL)
    save_file({name: value * factor if value.ndim > 1 else value for name, value in state.items()},
              place / "run" / MODEL)  # fmt: skip
    for more in ([], ["--json"]):
        ran = command("predict", "run", "photos/images/00000.png", *more)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
        assert "with NaN or infinity" in ran.err


@pytest.mark.parametrize(
    "change", [{"mean": [1e308, 0, 0]}, {"mean": [0, -1001, 0]}, {"std": [1, 1, 1e-7]}, {"std": [1e7, 1, 1]}]
)
def test_a_normalisation_beyond_any_use_is_refused(change: dict[str, Any], place: Path) -> None:
    file = place / "run" / CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(
        ModelError, match=r"a mean or std that is no usable number; expected a mean of -1,000"
    ):
        read_config(place / "run")


# -- the two functions


def test_json_of_too_many_values_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(ValueError, match="more than 1,000,000 values"):
        parse_json(b"[" + b"{}," * MOST_VALUES + b"{}]")
    assert len(parse_json(b"[" + b"1," * (MOST_VALUES - 2) + b"1]")) == MOST_VALUES - 1


def test_json_that_says_a_thing_twice_is_refused() -> None:
    assert parse_json(b'{"a": 1, "b": {"a": 2}}') == {"a": 1, "b": {"a": 2}}
    with pytest.raises(ValueError, match="'a' is there twice"):
        parse_json(b'[{"a": 1, "b": {"a": 2}, "a": 3}]')


def test_a_plain_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"12345")
    link.symlink_to(file)
    assert read_plain(file, 5) == read_plain(link, 5) == b"12345"
    with pytest.raises(ReadError, match=r"file: it has more than 4 bytes"):
        read_plain(file, 4)
    with pytest.raises(ReadError, match="link"):
        open_plain(link, follow=False)
    with pytest.raises(DataError, match="no usable name"):
        open_plain(Path("a\0b"))
    assert read_plain(Path("/proc/self/status"), 10**6).startswith(b"Name:")  # of an untold size


# -- a long hash


class Seen(Silent):
    def __init__(self) -> None:
        self.stages: dict[str, list[int]] = {}

    @contextmanager
    def track(self, stage: str, total: int, unit: str = "") -> Iterator[Any]:
        self.stages[f"{stage} {total} {unit}"] = done = []
        yield lambda amount=1, note="": done.append(amount)


def test_hashing_a_large_file_says_how_far_it_is(place: Path, command, monkeypatch) -> None:
    with (place / "run" / "large").open("wb") as file:
        os.truncate(file.fileno(), 40 * 2**20)
    seen = Seen()
    contents(place / "run", seen)
    ((stage, done),) = seen.stages.items()
    total = int(stage.split()[1])
    assert stage == f"hash {total} MiB"
    assert total >= 40
    assert sum(done) == total
    monkeypatch.setattr("unlabel.cli.progress.terminal_log", lambda *, quiet: Silent() if quiet else again)
    again = Seen()
    (place / "run" / "statement.dsse.json").unlink()
    assert command("sign", "run", "--key", "key").code == 0
    assert command("verify", "run", "--key", "key.pub").code == 0
    assert list(again.stages) == [stage]
