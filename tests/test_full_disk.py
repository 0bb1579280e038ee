"""A full disk is one line that names the place and says what to do; the old run stays, nothing half-written.

Twice: every change of the file system fails once, in its turn, as the system would report it; and the system
itself refuses every file above a limit, whoever writes it.
"""

import errno
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from unlabel.audit.run import folders as auditing
from unlabel.cli.app import main
from unlabel.core import engine, files
from unlabel.core.errors import DataError, UnlabelError, WriteError
from unlabel.core.files import RECORD, write_bytes, write_json
from unlabel.core.reading import file_sha256
from unlabel.forget.run import forget_run
from unlabel.report.marks import written
from unlabel.runs.files import MODEL
from unlabel.runs.folder import load_run
from unlabel.training import fit as training

CHANGES = ("open", "os.rename", "os.mkdir", "test.half-written")
FEW = ["--epochs", "0.1", "--batch-size", "8", "--image-size", "16", "--quiet"]
Prepare = Callable[[], None]


def forked(folder: Path, arguments: list[object], prepare: Prepare) -> tuple[int, str]:
    """Runs a command in a child process; its exit code and what it said on stderr."""
    said, say = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(folder)
            os.dup2(say, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", errors="backslashreplace")
            os.environ["UNLABEL_CACHE"] = str(folder / "cache")
            os.environ["UNLABEL_CONFIG"] = str(folder / "config")
            prepare()
            main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
            if code == 0 and isinstance(prepare, Full) and prepare.left <= 0:
                print("a failure went unnoticed", file=sys.stderr)
        except BaseException as error:
            print(f"Traceback: {type(error).__name__}: {error}", file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(say)
    with os.fdopen(said) as told:
        text = told.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


class Full:
    """Lets the n-th change under a folder fail; a write of bytes may fail in its middle."""

    def __init__(self, number: int, folder: Path) -> None:
        self.left, self.folder = number, str(folder)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGES or not isinstance(arguments[0], str | os.PathLike) or self.left <= 0:
            return
        path = Path(arguments[0]).absolute()
        writes = event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and str(path).startswith(self.folder) and not (event == "os.mkdir" and path.exists()):
            self.left -= 1
            if self.left == 0:
                named = () if event == "test.half-written" else (str(arguments[0]),)
                raise OSError(errno.ENOSPC, "No space left on device", *named)

    def __call__(self) -> None:
        """Begins, in the child."""

        def write_bytes(path: Path, data: bytes) -> int:
            with path.open("wb", buffering=0) as file:
                file.write(data[: len(data) // 2])
                sys.audit("test.half-written", path)
                file.write(data[len(data) // 2 :])
            return len(data)

        def create(file: Path, content: bytes, mode: int) -> None:
            """As `core.leftovers.create`, with a moment in which half is written."""
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            try:
                os.write(handle, content[: len(content) // 2])
                sys.audit("test.half-written", file)
                os.write(handle, content[len(content) // 2 :])
            except OSError:
                file.unlink()
                raise
            finally:
                os.close(handle)

        Path.write_bytes = write_bytes  # pyright: ignore[reportAttributeAccessIssue]
        files.create = create  # pyright: ignore[reportAttributeAccessIssue]
        sys.addaudithook(self.hook)


def limited_to(size: int) -> Prepare:
    """Lets the system refuse to write any file beyond a number of bytes."""

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return prepare


@pytest.fixture
def fresh(base: Path) -> Iterator[Callable[[], Path]]:
    """Makes a folder with the runs ``base`` and ``out`` and an empty cache, in memory where there is some."""
    memory, made = Path("/dev/shm"), 0
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:

        def make() -> Path:
            nonlocal made
            shutil.rmtree(Path(folder) / str(made), ignore_errors=True)
            made += 1
            here = Path(folder) / str(made)
            for name in ("base", "out"):
                shutil.copytree(base, here / name)
            (here / "cache").mkdir()
            return here

        yield make


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below, the cache and the folder of an unfinished training excepted."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.relative_to(folder).parts[0] not in ("cache", ".out.training")
    }


def check_refusal(here: Path, code: int, said: str, before: dict[str, bytes | None]) -> None:
    """One line with the place and the advice, the same files as before, no temporary ones."""
    assert code == 2, said
    assert said.count("\n") == 1, said
    assert said.startswith("unlabel: ")
    for name in ("No space left on device", "File too large"):
        if name in said:
            break
    else:
        raise AssertionError(said)
    assert "free some space there" in said or "make room there" in said
    assert any(place in said for place in ("out", "less", "cache", "model.safetensors")), said
    assert tree(here) == before, f"changed after: {said}"
    assert not [path for path in here.rglob(".*") if path.name != ".out.training"], said


TRAIN = ["train", "folder:{photos}", "--out", "out", "--seed", 5, "--force", *FEW]
FORGET = ["forget", "head-removal", "base", "--labels", "top", "--out", "out", "--force", "--quiet"]
EXPORT = ["export", "base", "--to", "state-dict", "--out", "model.safetensors"]


@pytest.mark.parametrize("arguments", [TRAIN, FORGET, EXPORT], ids=lambda arguments: arguments[0])
def test_every_write_that_fails_is_one_line_and_loses_nothing(
    arguments, fresh, photos, monkeypatch, every
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    arguments = [str(part).format(photos=photos) for part in arguments]
    step = every(3) if arguments[0] == "train" else 1  # a training writes some thirty times
    for number in range(1, 1000, step):
        here = fresh()
        before = tree(here)
        code, said = forked(here, arguments, Full(number, here))
        if code == 0:
            assert said == ""
            assert number > (20 if arguments[0] == "train" else 3)
            return
        check_refusal(here, code, said, before)
        assert load_run(here / "out").sha256 == file_sha256(here / "base" / MODEL)
        again = forked(here, arguments, lambda: None)
        assert again[0] == 0, again
    raise AssertionError("the command never completes")


@pytest.mark.parametrize("size", [0, 100, 3_000, 40_000, 900_000])
@pytest.mark.parametrize("arguments", [TRAIN, FORGET, EXPORT], ids=lambda arguments: arguments[0])
def test_a_real_limit_on_files_is_one_line_and_loses_nothing(arguments, size, fresh, photos) -> None:
    """Of the images' 200 kB, of a run's 1 MB."""
    here = fresh()
    before = tree(here)
    code, said = forked(here, [str(part).format(photos=photos) for part in arguments], limited_to(size))
    check_refusal(here, code, said, before)


def test_a_checkpoint_that_cannot_be_written_ends_the_training_in_one_line(
    fresh, photos, monkeypatch
) -> None:
    """torch.save would report a bug in its own code."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    here = fresh()
    before = tree(here)
    arguments = [str(part).format(photos=photos) for part in TRAIN]
    code, said = forked(here, arguments, limited_to(500_000))
    check_refusal(here, code, said, before)
    assert "checkpoint.pt" in said


@pytest.fixture(scope="module")
def audited(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A run that forgot, and its audit."""
    less, run = tmp_path_factory.mktemp("audited") / "less", engine.start(accelerator="cpu")
    forget_run("head-removal", base, ["top"], less, run)
    return less, auditing.audit_run(less, base, [], run)


@pytest.mark.parametrize("verb", ["audit", "report"])
def test_a_full_disk_while_auditing_and_reporting(verb: str, audited, fresh, monkeypatch) -> None:
    """Every fifth write of an audit, which keeps eight models' outputs first; every one of a report."""
    monkeypatch.setattr(auditing, "audit_outputs", lambda *_, **__: audited[1])
    arguments = ["audit", "less", "--before", "base", "--quiet"] if verb == "audit" else ["report", "less"]
    for number in range(1, 1000, 5 if verb == "audit" else 1):
        here = fresh()
        shutil.copytree(audited[0], here / "less")
        before = tree(here)
        code, said = forked(here, arguments, Full(number, here))
        if code == 0:
            assert said == ""
            assert number > (20 if verb == "audit" else 3)
            return
        card = here / "less" / "README.md"
        if verb == "report" and card.exists():  # written before the page, and whole
            assert written(card)[0] == "card"
            card.unlink()
        check_refusal(here, code, said, before)


def test_a_real_limit_on_the_cache_of_outputs(audited, fresh, monkeypatch) -> None:
    """safetensors would report an error of its own, which is none of the file system's."""
    monkeypatch.setattr(auditing, "audit_outputs", lambda *_, **__: audited[1])
    here = fresh()
    shutil.copytree(audited[0], here / "less")
    assert forked(here, ["show", "less"], lambda: None)[0] == 0
    before = tree(here)
    for size in (3_000, 45_000):
        code, said = forked(here, ["audit", "less", "--before", "base", "--quiet"], limited_to(size))
        check_refusal(here, code, said, before)
        assert "UNLABEL_CACHE" in said


def test_what_is_printed_may_not_fit_either(fresh) -> None:
    """Not found out when Python ends, where it would be a traceback and exit code 120."""
    if not Path("/dev/full").exists():
        pytest.skip("the device /dev/full is Linux's")

    def into_full() -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)

    code, said = forked(fresh(), ["show", "base", "--json"], into_full)
    assert (code, said) == (
        2,
        "unlabel: the output: No space left on device; free some space there, or name another place\n",
    )


# -- the errors


def test_the_error_names_the_file_that_the_user_knows(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.json").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        WriteError, match=r"cannot write .*/a.json: No space .*free some space there"
    ) as found:
        write_bytes(tmp_path / "a.json", b"new")
    assert isinstance(found.value, UnlabelError)
    assert isinstance(found.value, OSError)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_folder_that_may_not_be_written_is_said_so(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(WriteError, match="Read-only file system; allow access to it"):
        write_bytes(tmp_path / "a.json", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_not_utf8_is_written_and_read_back(tmp_path: Path) -> None:
    """A folder's name may hold any bytes, and stands in the command line that a run remembers."""
    import json

    write_json(tmp_path / RECORD, {"command": "caf\udce9", "label": "é"})
    assert json.loads((tmp_path / RECORD).read_bytes()) == {"command": "caf\udce9", "label": "é"}


def test_a_full_cache_leaves_no_temporary_file(photos: Path, tmp_path: Path, monkeypatch) -> None:
    """Closing a file writes what is still buffered, and fails a second time."""
    from unlabel.data import load

    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(DataError, match="File too large; make room there"):
            load(f"folder:{photos}", image_size=16)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []


def test_drawn_faces_are_given_their_room_before_they_are_mapped(tmp_path: Path, monkeypatch) -> None:
    """Seen on a tmpfs of 2 MB: the process ends by SIGBUS, without a word."""
    from unlabel.data import load

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match="No space left on device; make room there"):
        load("faces:train=64,probe=64,test=64,size=16")
    assert list(tmp_path.iterdir()) == []
