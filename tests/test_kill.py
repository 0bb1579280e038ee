"""Whenever a command is killed, the old run or the new one is there, whole, and the next command works.

The commands run in forked children. A child kills itself at its n-th change of the file system: the first
of each kind, the last, and a fixed part of the others, or every one under `make test-all`. Other children are
killed after a delay drawn at random. No verdict depends on a clock.
"""

import gc
import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from unlabel.audit.document.results import plain
from unlabel.audit.run import folders as auditing
from unlabel.cli import app
from unlabel.cli import demo_steps as demo
from unlabel.cli.demo_networks import DemoSettings
from unlabel.core import engine, files, places
from unlabel.core.errors import MissingFiles, UnlabelError
from unlabel.core.files import RECORD
from unlabel.core.leftovers import machine
from unlabel.core.reading import file_sha256
from unlabel.core.recipe import Recipe
from unlabel.forget.run import forget_run
from unlabel.runs.files import MODEL, STEPS
from unlabel.runs.folder import load_run
from unlabel.statement import sign_run
from unlabel.statement.contents import STATEMENT
from unlabel.statement.keys import write_keys
from unlabel.training import fit as training
from unlabel.training.run import train_run

TOKEN = f"{machine()}89abcdef"
CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "test.half-written")
FEW = ["--epochs", "0.1", "--batch-size", "8", "--image-size", "16", "--quiet"]

Command = Callable[[], object]


def cli(*arguments: object) -> Command:
    """A command; where the fixture `world` keeps the parsers, its children find theirs built."""
    words = [str(argument) for argument in arguments]
    app.build_app(app.asked_methods(words))
    return lambda: app.main(words)


def forked(
    job: Command,
    folder: Path,
    *,
    kill_at: int | None = None,
    kill_after: float | None = None,
    told: Path | None = None,
) -> int | None:
    """Runs a job in a child process with this working folder; its exit code, or None where it was killed.

    Args:
        job: The command.
        folder: Where it runs.
        kill_at: The number of the change at which it kills itself.
        kill_after: The seconds after which it is killed.
        told: A file elsewhere that gets the kinds of its changes, in order, and the modules it imported.
    """
    child = os.fork()
    if child == 0:
        code, changes = 1, list[str]()
        gc.disable()  # a collection would copy all that the parent holds
        try:
            os.chdir(folder)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in (1, 2):
                os.dup2(nowhere, stream)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            if (folder / "cache").is_dir():
                os.environ["UNLABEL_CACHE"] = str(folder / "cache")
            os.environ["UNLABEL_CONFIG"] = str(folder / "config")
            os.fsync = lambda _: None  # what a killed process wrote is in the kernel's hands
            if kill_at is not None or told is not None:
                changes = kill_self_at(kill_at or 0, folder)
            job()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        finally:
            if told is not None:
                told.write_text(json.dumps([changes, [*sys.modules]]))
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return None if code == -signal.SIGKILL else code


def kill_self_at(number: int, folder: Path) -> list[str]:
    """Kills this process before its n-th change under a folder; a write of bytes counts in its middle too.

    Returns the kinds of the changes, which grow as they happen: what is done in which folder.
    """
    left, kinds = number, list[str]()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in CHANGES or not isinstance(arguments[0], str | os.PathLike):
            return
        changes = event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if changes and str(Path(arguments[0]).absolute()).startswith(str(folder)):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            parent, hidden = Path(arguments[0]).parent, re.compile(r"\d+\.[0-9a-f]{16}")
            # in the working folder runs change places: there no moment is like another
            own = len(kinds) if parent == Path() else ""
            kinds.append(f"{event} {hidden.sub('*', str(parent))} {own}")

    def write_bytes(self: Path, data: bytes) -> int:
        with self.open("wb", buffering=0) as file:
            file.write(data[: len(data) // 2])
            sys.audit("test.half-written", self)
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
    sys.addaudithook(hook)
    return kinds


def moments(job: Command, folder: Path, step: int) -> list[int]:
    """The changes at which a job is to be killed, until it completes; it runs once unharmed.

    Of each kind the first, of all every ``step``-th, and from the last on all.
    """
    told = folder.parent / "told"
    assert forked(job, folder, told=told) == 0
    kinds, modules = json.loads(told.read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in set(modules) - {*sys.modules}:  # or each child would import them anew
            with suppress(ImportError):
                importlib.import_module(name)
    last = len(kinds)
    return sorted({*(kinds.index(kind) + 1 for kind in kinds), *range(1, last, step), *range(last, 1000)})


def runs_under(folder: Path) -> Iterator[Path]:
    """Every folder that loads as a run, hidden ones too."""
    for record in folder.rglob(RECORD):
        try:
            load_run(record.parent)
        except UnlabelError:
            continue
        yield record.parent


def weights(out: Path) -> str | None:
    """The hash of a run that loads; None where nothing is there. Anything else fails the test."""
    with suppress(MissingFiles):
        return load_run(out).sha256
    assert not out.exists(), f"{out} is there but is no run"
    return None


def litter(folder: Path) -> list[str]:
    """Hidden leftovers, those in the cache excepted: they are kept for a day."""
    return [str(path) for path in folder.rglob(".*") if "cache" not in path.relative_to(folder).parts]


def state(folder: Path) -> str:
    """Every name and size below; two kills that left the same need one repetition."""
    found = {
        re.sub(r"\.\d+\.[0-9a-f]{16}\.", ".PID.", str(path)): path.stat().st_size
        for path in folder.rglob("*")
    }
    return repr(sorted((name.removeprefix(str(folder)), size) for name, size in found.items()))


class World:
    """A folder with an old run, made anew for every kill."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder, self.base, self.made = folder, base, 0

    def fresh(self, *, old: bool = False, cache: bool = False) -> Path:
        """A folder with the run ``base``, the same run as ``out`` if wanted, and an empty cache if wanted."""
        shutil.rmtree(self.folder / str(self.made), ignore_errors=True)
        self.made += 1
        here = self.folder / str(self.made)
        shutil.copytree(self.base, here / "base")
        if old:
            shutil.copytree(self.base, here / "out")
        if cache:
            (here / "cache").mkdir()
        return here


@pytest.fixture
def world(base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """In memory where Linux offers it: most of the time would be the disk's. A parser is built once."""
    memory, build, built = Path("/dev/shm"), app.build_app, dict[tuple[str, ...], Any]()

    def build_once(asked: Collection[str] = (), settings: object = None) -> Any:
        if tuple(asked) not in built:
            built[tuple(asked)] = build(asked)
        return built[tuple(asked)]

    monkeypatch.setattr(app, "build_app", build_once)
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield World(Path(folder), base)


def check_every_kill(
    world: World,
    job: Command,
    *,
    old: bool = False,
    cache: bool = False,
    replacing: Command | None = None,
    always: bool = False,
    step: int,
) -> int:
    """Kills a job that writes the run ``out`` at every change it makes; returns how many those were.

    Args:
        world: Makes the folders.
        job: The command.
        old: Whether a run stands at ``out`` before.
        cache: Whether the cache is empty before.
        replacing: The command to repeat where the killed one had finished the run; the same by default.
        always: Whether a run is at its place before anything puts one back.
        step: 2 for every other change, where their kind has been.
    """
    whole = world.fresh(old=old, cache=cache)
    numbers = moments(job, whole, step)
    expected = weights(whole / "out")
    before = file_sha256(world.base / MODEL) if old else None
    assert expected not in (None, before)
    seen: set[str] = set()
    for number in numbers:
        here = world.fresh(old=old, cache=cache)
        code = forked(job, here, kill_at=number)
        if always:
            assert {path.name for path in (here / "out").iterdir()} >= {RECORD, MODEL}
        if (left := state(here)) in seen and code is None:
            continue
        seen.add(left)
        now = weights(here / "out")
        assert now in (before, expected), f"neither the old run nor the new one after change {number}"
        for run in runs_under(here):
            assert (run / STEPS).is_file(), f"{run} loads but is not whole after change {number}"
        again = (replacing or job) if now == expected else job
        assert forked(again, here) == 0, f"the next command fails after change {number}"
        assert weights(here / "out") == expected, f"other bits after change {number}"
        assert litter(here) == [], f"leftovers after change {number}"
        if code is not None:
            assert code == 0
            return number - 1
    raise AssertionError("the command never completes")


def test_training_killed_at_every_change(world: World, photos: Path, every, monkeypatch) -> None:
    """Images in the cache, checkpoints after every step, the run."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    train = ["train", f"folder:{photos}", "--out", "out", "--seed", 5, *FEW]
    replacing = cli(*train, "--force")
    assert check_every_kill(world, cli(*train), cache=True, replacing=replacing, step=every(16)) > 30


FORGET = ["forget", "head-removal", "base", "--labels", "top", "--out", "out", "--quiet"]


def test_replacing_by_training_killed_at_every_change(world: World, photos: Path, every) -> None:
    train = ["train", f"folder:{photos}", "--out", "out", "--seed", 5, "--force", *FEW]
    assert check_every_kill(world, cli(*train), old=True, step=every(16)) > 20


def test_forgetting_killed_at_every_change(world: World, every) -> None:
    replacing = cli(*FORGET, "--force")
    assert check_every_kill(world, cli(*FORGET), replacing=replacing, step=every(16)) > 12


@pytest.mark.skipif(sys.platform != "linux", reason="two folders can be swapped on Linux only")
def test_a_swap_leaves_no_moment_without_a_run(world: World, every) -> None:
    """Also for a reader that knows nothing of this, and puts no old run back first."""
    assert check_every_kill(world, cli(*FORGET, "--force"), old=True, always=True, step=every(16)) > 15


def test_replacing_without_a_swap_killed_at_every_change(world: World, every, monkeypatch) -> None:
    """Two renames, as on a file system that cannot swap: the old run is put back by whoever reads it."""
    monkeypatch.setattr(places, "_swap", lambda one, other: False)
    assert check_every_kill(world, cli(*FORGET, "--force"), old=True, step=every(16)) > 15


def test_adopting_killed_at_every_change(world: World, photos: Path, every, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from unlabel.testing import tiny_world
    from unlabel.testing.worlds import SIZE

    known = tmp_path / "known"
    state = training_state(photos, tmp_path)
    known.mkdir()
    save_file(state, known / "weights.safetensors")
    (known / "labels.txt").write_text("top\nmiddle\nbottom\n")
    assert (SIZE, tiny_world().labels) == (16, ("top", "middle", "bottom"))
    adopt = ["adopt", "small", "--weights", known / "weights.safetensors", "--labels", known / "labels.txt"]
    adopt += ["--data", f"folder:{photos}", "--image-size", 16, "--mean", 0.5, "--std", 0.25]
    adopt += ["--out", "out", "--quiet"]
    assert check_every_kill(world, cli(*adopt, "--force"), old=True, step=every(16)) > 15


def training_state(photos: Path, folder: Path) -> dict[str, torch.Tensor]:
    """Weights that know the labels."""
    run = engine.start(accelerator="cpu")
    train_run(f"folder:{photos}", folder / "knows", run, recipe=Recipe(epochs=12, lr=0.05), image_size=16)
    return load_run(folder / "knows").model.state_dict()


def check_every_kill_of_a_file(
    world: World, job: Command, file: str, prepare: Callable[[Path], None], *, step: int
) -> int:
    """Kills a job that writes a file beside the run ``base``: the old file or the new one is there, whole."""
    whole = world.fresh(cache=True)
    prepare(whole)
    (whole / file).write_bytes(b"old")
    numbers = moments(job, whole, step)
    new, seen = (whole / file).read_bytes(), set()
    for number in numbers:
        here = world.fresh(cache=True)
        prepare(here)
        (here / file).write_bytes(b"old")
        code = forked(job, here, kill_at=number)
        if (left := state(here)) in seen and code is None:
            continue
        seen.add(left)
        assert (here / file).read_bytes() in (b"old", new), f"half a file after change {number}"
        assert weights(here / "base") == file_sha256(world.base / MODEL)
        assert forked(job, here) == 0
        assert (here / file).read_bytes() == new
        assert litter(here) == []
        if code is not None:
            return number - 1
    raise AssertionError("the command never completes")


@pytest.fixture(scope="session")
def audited(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A run that forgot, and its audit."""
    folder = tmp_path_factory.mktemp("audited")
    run = engine.start(accelerator="cpu")
    forget_run("head-removal", base, ["top"], folder / "less", run)
    return folder / "less", auditing.audit_run(folder / "less", base, [], run)


def test_an_audit_killed_at_every_change(world: World, audited, every, monkeypatch) -> None:
    """Eight models' outputs are kept in the same four changes. The attacks write nothing."""
    less, found = audited
    monkeypatch.setattr(auditing, "audit_outputs", lambda *_, **__: found)
    # one process, so that the changes are made in it
    job = cli("audit", "less", "--before", "base", "--quiet", "--force", "--devices", "1")

    def prepare(here: Path) -> None:
        shutil.copytree(less, here / "less")

    assert check_every_kill_of_a_file(world, job, "less/audit.json", prepare, step=every(80)) > 60


def test_a_report_killed_at_every_change(world: World, audited, every) -> None:
    def prepare(here: Path) -> None:
        shutil.copytree(audited[0], here / "less")

    job = cli("report", "less", "--force")
    assert check_every_kill_of_a_file(world, job, "less/report.html", prepare, step=every(16)) >= 3


def test_a_signing_killed_at_every_change(world: World, audited, tmp_path: Path) -> None:
    key, _ = write_keys(tmp_path / "key")

    def prepare(here: Path) -> None:
        shutil.copytree(audited[0], here / "less")

    def job() -> object:
        return sign_run(Path("less"), key, force=True, issued_at="2026-11-24T18:00:00Z")

    assert check_every_kill_of_a_file(world, job, f"less/{STATEMENT}", prepare, step=1) >= 3


def test_an_export_killed_at_every_change(world: World) -> None:
    job = cli("export", "base", "--to", "state-dict", "--out", "model.safetensors", "--force")
    assert check_every_kill_of_a_file(world, job, "model.safetensors", lambda here: None, step=1) >= 3


def test_a_demo_goes_on_after_every_kill(world: World, audited, every, monkeypatch) -> None:
    """The same folder is killed again and again, each time a little later, until the demo is done."""
    done = audited[1]
    monkeypatch.setattr(
        auditing, "audit_outputs", lambda inputs, *_, **__: replace(done, models=plain(inputs.models))
    )
    monkeypatch.setattr(
        demo, "forget_run", lambda _, *given, **more: forget_run("head-removal", *given, **more)
    )
    run = replace(engine.start(accelerator="cpu"), batch_size=8)
    source = "faces:train=64,probe=64,test=64,size=16"
    settings = DemoSettings(source, 0.2, 1, source)

    def job() -> None:
        demo.run_demo(Path("demo"), run, settings, networks=None)

    whole = world.fresh(cache=True)
    moments(job, whole, 1)
    names = ("original", "retrained-1", "unlearned")
    expected = {name: file_sha256(whole / "demo" / name / MODEL) for name in names}
    here, number, code = world.fresh(cache=True), 1, None
    while code is None:
        code = forked(job, here, kill_at=number)
        for name in names:
            assert weights(here / "demo" / name) in (None, expected[name])
        number += 4 * every(3)
        assert number < 1000
    assert code == 0
    assert (here / "demo" / "report.html").is_file()
    assert {name: file_sha256(here / "demo" / name / MODEL) for name in names} == expected
    # a kill after the run took its place and before its checkpoint was removed: one folder a run, no more
    assert {Path(path).name for path in litter(here)} <= {".original.training", ".retrained-1.training"}


def test_kills_at_random_moments_leave_a_run_and_no_litter(world: World, photos: Path) -> None:
    """One folder, killed twelve times anywhere between nothing and the whole of a command."""
    job = cli("train", f"folder:{photos}", "--out", "out", "--seed", 5, "--force", *FEW)
    here = world.fresh(old=True)
    old = weights(here / "out")
    started = time.perf_counter()
    assert forked(job, here) == 0
    seconds = time.perf_counter() - started
    new, chance = weights(here / "out"), random.Random(0)
    here = world.fresh(old=True)
    for _ in range(12):
        forked(job, here, kill_after=seconds * chance.random() * 1.1)
        assert weights(here / "out") in (old, new)
        assert len(litter(here)) <= 6  # of one killed command
    assert forked(job, here) == 0
    assert weights(here / "out") == new
    assert litter(here) == []


def test_the_program_itself_killed_at_random_moments(world: World, photos: Path, every) -> None:
    """A new interpreter, killed soon after it began to write, leaves the old run or the new one."""
    arguments = ["train", f"folder:{photos}", "--out", "out", "--seed", "5", "--force", *FEW]
    whole, here = World(world.folder / "other", world.base).fresh(old=True), world.fresh(old=True)
    old = weights(here / "out")
    assert forked(cli(*arguments), whole) == 0
    new, chance = weights(whole / "out"), random.Random(1)
    for _ in range(3)[:: every(3)]:
        line = [sys.executable, "-m", "unlabel.cli.app", *arguments]
        child = subprocess.Popen(line, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not litter(here) and child.poll() is None:  # it imports
            time.sleep(0.002)
        time.sleep(0.3 * chance.random())
        child.kill()
        assert child.wait() in (0, -signal.SIGKILL)
        assert weights(here / "out") in (old, new)
    assert forked(cli(*arguments), here) == 0
    assert weights(here / "out") == new
    assert litter(here) == []


# -- what a killed command leaves


def test_a_run_moved_away_by_a_killed_command_is_put_back_by_whoever_reads_it(world: World) -> None:
    here = world.fresh(old=True)
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    (here / "out").rename(here / f".out.{dead}.{TOKEN}.old")
    assert weights(here / "out") == file_sha256(world.base / MODEL)
    assert litter(here) == []


def test_a_run_that_a_living_command_is_replacing_is_left_to_it(world: World) -> None:
    here = world.fresh(old=True)
    kept = here / f".out.{os.getppid()}.{TOKEN}.old"
    (here / "out").rename(kept)
    assert weights(here / "out") is None
    assert forked(cli(*FORGET), here) == 0
    assert kept.is_dir()


def test_what_is_left_of_a_deleted_run_is_not_put_back(world: World) -> None:
    """A kill while the replaced run is deleted: its record goes first."""
    here = world.fresh(old=True)
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    (here / "out").rename(here / f".out.{dead}.{TOKEN}.old")
    (here / f".out.{dead}.{TOKEN}.old" / RECORD).unlink()
    assert weights(here / "out") is None
    assert forked(cli(*FORGET, "--force"), here) == 0


def test_a_checkpoint_of_an_unknown_job_is_not_gone_on_with(world: World, photos: Path, monkeypatch) -> None:
    """A kill while an unfinished training is discarded may leave its checkpoint alone."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    train = ["train", f"folder:{photos}", "--out", "out", *FEW]
    whole, here = World(world.folder / "other", world.base).fresh(), world.fresh()
    assert forked(cli(*train, "--seed", 5), whole) == 0
    unfinished = here / ".out.training"
    for number in range(1, 1000):
        if forked(cli(*train, "--seed", 6), here, kill_at=number) == 0:
            raise AssertionError("no kill left a checkpoint")
        if (unfinished / "checkpoint.pt").is_file():
            break
        shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "job.json").unlink()
    assert forked(cli(*train, "--seed", 5), here) == 0
    assert weights(here / "out") == weights(whole / "out")
    assert json.loads((here / "out" / RECORD).read_text())["seed"] == 5
