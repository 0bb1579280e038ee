"""Temporary names cannot be guessed or followed, the cache is private, and workers end with their parent."""

import os
import select
import signal
import stat
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from unlabel.core import parallel
from unlabel.core.errors import DataError, WriteError
from unlabel.core.files import write_bytes
from unlabel.core.leftovers import beside, is_leftover, machine, sweep
from unlabel.core.places import held, staged
from unlabel.data.drawn import source as drawn
from unlabel.data.images.cache_folder import cache_folder
from unlabel.data.options import ReadOptions

NOBODY = 65534
TOKEN = f"{machine()}89abcdef"
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
FEW = ["--epochs", "0.1", "--batch-size", "8", "--image-size", "16", "--quiet"]


def child(job: Callable[[], object]) -> int:
    """Runs a job in a forked process; its exit code."""
    number = os.fork()
    if number == 0:
        code = 1
        try:
            job()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def ended() -> int:
    """The number of a process that has ended."""
    number = os.fork()
    if number == 0:
        os._exit(0)
    os.waitpid(number, 0)
    return number


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def shared(tmp_path: Path, open_up: Callable[[Path], None]) -> Path:
    """A folder like /tmp: everybody may write there, and remove only what is theirs."""
    open_up(tmp_path)
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


# -- names


def test_a_link_at_the_very_name_is_not_followed(tmp_path: Path) -> None:
    """The attacker of the worst case: one who knows each name just before it is opened."""
    secret = tmp_path / "secret"
    secret.write_text("mine alone")
    (tmp_path / "out").mkdir()

    def attacked() -> None:
        def plant(event: str, arguments: tuple) -> None:
            if event == "open" and str(arguments[0]).startswith(str(tmp_path / "out")):
                os.symlink(secret, arguments[0])

        sys.addaudithook(plant)
        with pytest.raises(WriteError, match="File exists"):
            write_bytes(tmp_path / "out" / "page.html", b"a page")

    assert child(attacked) == 0
    assert secret.read_text() == "mine alone"


def test_no_two_names_are_alike_and_all_are_known_again(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        with beside(tmp_path / "a.json", "tmp") as name:
            names.add(name.name)
    assert len(names) == 3
    assert all(map(is_leftover, names))
    assert not is_leftover(f".a.json.{os.getpid()}.tmp")
    assert not is_leftover(f"a.json.12.{TOKEN}.tmp")


@root
def test_an_unprivileged_user_in_a_shared_folder_overwrites_nothing(shared: Path, tmp_path: Path) -> None:
    """Links at every name of the old pattern that this process or its next children could use."""
    secret = tmp_path / "secret"
    secret.write_text("mine alone")
    first = os.getpid()

    def attack() -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        for process in range(first, first + 50):
            os.symlink(secret, shared / f".page.html.{process}.tmp")
            os.symlink(secret, shared / f".page.html.{process}.{TOKEN}.tmp")
            os.symlink(tmp_path, shared / f".run.{process}.new")

    assert child(attack) == 0
    planted = sorted(path.name for path in shared.iterdir())

    def write() -> None:
        write_bytes(shared / "page.html", b"a page")
        with staged(shared / "run", force=True) as folder:
            (folder / "unlabel.json").write_text("{}")

    for _ in range(8):
        assert child(write) == 0
    assert secret.read_text() == "mine alone"
    assert (shared / "page.html").read_bytes() == b"a page"
    assert sorted(path.name for path in shared.iterdir()) == sorted([*planted, "page.html", "run"])


# -- what others may read


def test_a_file_is_private_until_it_is_whole_then_as_the_umask_says(tmp_path: Path, monkeypatch) -> None:
    seen, fchmod = [], os.fchmod

    def spy(handle: int, wanted: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(handle).st_mode))
        fchmod(handle, wanted)

    monkeypatch.setattr(os, "fchmod", spy)
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "new", b"1")
        (tmp_path / "private").touch(0o600)
        write_bytes(tmp_path / "private", b"1")
    finally:
        os.umask(before)
    assert seen == [0o600, 0o600]
    assert mode(tmp_path / "new") == 0o640
    assert mode(tmp_path / "private") == 0o600


def test_a_run_is_private_until_it_is_whole(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with staged(tmp_path / "run", force=False) as folder:
            assert mode(folder) == 0o700
            (folder / "a").write_text("1")
    finally:
        os.umask(before)
    assert mode(tmp_path / "run") == 0o755


# -- leftovers


def test_leftovers_of_ended_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    dead = ended()
    gone = [f".a.json.{process}.{TOKEN}.tmp" for process in (dead, os.getpid())]  # its number was used again
    kept = [f".a.json.{os.getppid()}.{TOKEN}.tmp", f".b.json.{dead}.{TOKEN}.tmp", f".a.json.{dead}.tmp"]
    for name in (*gone, *kept):
        (tmp_path / name).write_text("half")
    link = tmp_path / f".a.json.{dead}.{machine()}01234567.tmp"
    link.symlink_to(tmp_path / "elsewhere")
    with beside(tmp_path / "a.json", "tmp") as own:
        own.write_text("half")
        write_bytes(tmp_path / "a.json", b"{}")
        assert own.exists(), "another thread's file was taken for a leftover"
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {"a.json", own.name, *kept, link.name}


def test_what_another_machine_left_in_a_shared_folder_stays_for_a_day(tmp_path: Path) -> None:
    left = tmp_path / f".a.json.{ended()}.{machine()[::-1]}89abcdef.tmp"
    left.write_text("half")
    sweep(tmp_path / "a.json")
    assert left.exists(), "its process may be running there"
    os.utime(left, (time.time() - 90_000,) * 2)
    sweep(tmp_path / "a.json")
    assert not left.exists()


@root
def test_what_another_user_left_is_not_removed(shared: Path) -> None:
    dead = ended()
    file, run = shared / f".a.{dead}.{TOKEN}.tmp", shared / f".a.{dead}.{TOKEN}.new"
    file.write_text("half")
    run.mkdir()
    for path in (file, run):
        os.chown(path, NOBODY, NOBODY)
    sweep(shared / "a")
    with staged(shared / "a", force=False) as folder:
        (folder / "b").write_text("1")
    assert file.exists()
    assert run.exists()


def test_a_very_long_name_can_be_written(tmp_path: Path) -> None:
    write_bytes(tmp_path / ("n" * 250), b"1")
    assert [len(path.name) for path in tmp_path.iterdir()] == [250]


# -- the cache


def test_the_cache_is_made_for_its_user_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path / "cache"))
    before = os.umask(0)
    try:
        assert mode(cache_folder()) == 0o700
    finally:
        os.umask(before)


@pytest.mark.parametrize("bits", [0o770, 0o702])
def test_a_cache_that_others_can_write_to_is_refused(bits: int, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path / "cache"))
    cache_folder().chmod(bits)
    with pytest.raises(DataError, match=r"can be written by other users; .* chmod 700") as found:
        cache_folder()
    assert "\n" not in str(found.value)


@root
@pytest.mark.parametrize("what", ["folder", "link", "link to theirs"])
def test_a_cache_that_another_user_planted_is_refused(what: str, shared: Path, monkeypatch) -> None:
    monkeypatch.setenv("UNLABEL_CACHE", str(shared / "cache"))
    target = shared / "target"
    target.mkdir(0o700)
    if what == "folder":
        target.rename(shared / "cache")
    else:
        (shared / "cache").symlink_to(target)
    os.chown(target if what == "link to theirs" else shared / "cache", NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(DataError, match="belongs to another user; expected a folder that you alone"):
        cache_folder()


def test_a_cache_that_the_user_moved_and_linked_is_used(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "scratch").mkdir(0o700)
    (tmp_path / "cache").symlink_to(tmp_path / "scratch")
    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache"


# -- the folder of an unfinished training


def test_an_unfinished_training_is_not_gone_on_with_through_a_link(command, photos, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "thesis.txt").write_text("years")
    (tmp_path / ".out.training").symlink_to(tmp_path / "elsewhere")
    ran = command("train", f"folder:{photos}", "--out", "out", *FEW, "--force")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert ".out.training is a link; expected a folder of your own" in ran.err
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["thesis.txt"]


@root
def test_an_unfinished_training_of_another_user_is_not_gone_on_with(command, photos, tmp_path: Path) -> None:
    (tmp_path / ".out.training").mkdir(0o755)
    os.chown(tmp_path / ".out.training", NOBODY, NOBODY)
    ran = command("train", f"folder:{photos}", "--out", "out", *FEW)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert ".out.training belongs to another user" in ran.err


def test_two_trainings_into_one_place_do_not_mix(command, photos, tmp_path: Path) -> None:
    (tmp_path / ".out.training").mkdir(0o700)
    train = ["train", f"folder:{photos}", "--out", "out", *FEW]
    with held(tmp_path / ".out.training", alone=True):
        ran = command(*train)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "another command is working in" in ran.err
    assert not (tmp_path / "out").exists()
    assert command(*train).code == 0


# -- processes


def paint(told: int, rows: slice) -> np.ndarray:
    os.write(told, b"x")
    time.sleep(600)
    return np.zeros((rows.stop - rows.start, 4, 4, 3), np.uint8)


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_workers_that_draw_end_with_their_parent(tmp_path: Path, monkeypatch) -> None:
    """The pipe ends when the last process that holds it does; the wait is bounded, and no clock is read."""
    monkeypatch.setattr(parallel, "_FEW", 2)
    listen, tell = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.close(listen)
        shape = (4 * drawn._CHUNK, 4, 4, 3)
        drawn._build(tmp_path / "a.npy", shape, partial(paint, tell), ReadOptions(workers=2))
        os._exit(0)
    os.close(tell)
    try:
        assert select.select([listen], [], [], 60)[0]
        assert os.read(listen, 1) == b"x"
    finally:
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
    while True:
        assert select.select([listen], [], [], 30)[0], "a worker outlives its parent"
        if os.read(listen, 16) == b"":
            break
    os.close(listen)
