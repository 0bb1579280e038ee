"""``unlabel.toml`` may come with somebody else's files: it says how to compute, and nothing else."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unlabel.cli.app import build_app
from unlabel.cli.settings import ALLOWED, MOST_BYTES, read_settings
from unlabel.core.errors import OptionError
from unlabel.forget.methods import METHODS

NEVER = (
    "key", "force", "out", "data", "source", "run", "before", "reference", "make_references", "labels",
    "reference_budget",
    "without", "canary_labels",
    "fail_on", "require", "plan", "rows", "keep_row", "skip_bad", "weights", "mean", "std",
    "signer", "license", "to", "with_images", "keep_models", "cache", "json", "methods", "max_loss",
)  # fmt: skip


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], Path]:
    """Writes the file into the folder in which commands run."""

    def write(text: str) -> Path:
        (tmp_path / "unlabel.toml").write_text(text)
        return tmp_path / "unlabel.toml"

    return write


@pytest.fixture
def patience() -> Iterator[None]:
    """A hang fails."""

    def late(*_: object) -> None:
        raise TimeoutError("a file that is no file was read for 20 s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def signed(command, base: Path, tmp_path: Path) -> Path:
    """A run that an attacker has signed, with their key beside it."""
    pytest.importorskip("cryptography")
    run = Path(shutil.copytree(base, tmp_path / "run"))
    command("keygen", "--out", "attacker")
    assert command("sign", run, "--key", "attacker").code == 0
    return run


def test_a_shipped_file_names_no_key_to_trust(command, signed: Path, toml) -> None:
    toml('[verify]\nkey = "attacker.pub"\n')
    ran = command("verify", signed)
    assert (ran.code, ran.out) == (2, "")
    assert "'key' in [verify]" in ran.err
    assert "Type it on the command line: --key" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_the_environment_names_no_key_to_trust(command, signed: Path, monkeypatch) -> None:
    monkeypatch.setenv("UNLABEL_VERIFY_KEY", "attacker.pub")
    ran = command("verify", signed)
    assert ran.code == 0
    assert "signer not checked" in ran.out


def test_a_file_of_a_parent_folder_is_not_read(command, signed: Path, toml, tmp_path, monkeypatch) -> None:
    toml('[verify]\nkey = "attacker.pub"\n')
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    ran = command("verify", signed)
    assert ran.code == 0
    assert "signer not checked" in ran.out
    assert ran.err == ""


def test_a_file_replaces_nothing(command, base: Path, toml, tmp_path: Path) -> None:
    run = Path(shutil.copytree(base, tmp_path / "run"))
    (tmp_path / "mine.pt").write_text("mine")
    toml('[export]\nout = "mine.pt"\nforce = true\n')
    assert command("export", run, "--to", "state-dict").code == 2
    assert (tmp_path / "mine.pt").read_text() == "mine"


@pytest.mark.parametrize(
    "table", [*(name for name in ALLOWED if not name.startswith("forget.")), "forget.auto"]
)
@pytest.mark.parametrize("key", NEVER)
def test_what_is_trusted_read_written_and_passed_is_typed(table: str, key: str, toml) -> None:
    for written in (key, key.replace("_", "-")):
        file = toml(f"[{table}]\n{written} = 1\n")
        with pytest.raises(OptionError, match=rf"sets '{key}' in \[{table}\], which such a file may not set"):
            read_settings(file)


def test_every_option_is_either_listed_or_never_read() -> None:
    """A new option of a command is decided here: a file cannot set it unless it is listed."""
    for table, allowed in ALLOWED.items():
        if table.startswith("forget."):
            continue
        known = {
            name.removeprefix("--").replace("-", "_")
            for argument in build_app()[table].assemble_argument_collection()
            for name in argument.names
        }
        assert {*allowed} <= known, table


def test_a_methods_own_options_are_numbers_switches_and_choices(toml) -> None:
    file = toml("[forget.ssd]\nalpha = 2.0\nnormalise = false\nreference = 'full'\n")
    assert read_settings(file) == {"forget.ssd": {"alpha": 2.0, "normalise": False, "reference": "full"}}
    with pytest.raises(OptionError, match="'blueprint'"):
        read_settings(toml("[forget.retrain]\nblueprint = 'x'\n"))


def test_a_plug_ins_text_option_is_typed(toml, monkeypatch) -> None:
    import inspect

    def plug(*, place: str = "", size: int = 1, kind: Path | None = None) -> None: ...

    own = dict(inspect.signature(plug).parameters)
    monkeypatch.setattr(type(METHODS["ssd"]), "options", lambda self: own)
    assert read_settings(toml("[forget.ssd]\nsize = 2\n")) == {"forget.ssd": {"size": 2}}
    for key in ("place", "kind"):
        with pytest.raises(OptionError, match=f"'{key}'"):
            read_settings(toml(f"[forget.ssd]\n{key} = 'x'\n"))


def test_a_command_says_what_it_read_and_from_where(command, photos, toml, tmp_path: Path) -> None:
    file = toml(
        "[train]\nepochs = 1\nbatch-size = 32\nquiet = true\nimage_size = 16\n[audit]\nbudget = 'full'\n"
    )
    ran = command("train", f"folder:{photos}", "--out", "run", "--batch-size", 48)
    assert ran.code == 0
    assert ran.err == f"unlabel: options read from {file}: epochs = 1, image-size = 16, quiet = true\n"
    from unlabel.runs.files import read_record

    record = read_record(tmp_path / "run")
    assert record.blueprint.batch_size == 48
    assert record.blueprint.recipe.epochs == 1
    assert command("methods").err == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[trian]\nepochs = 1\n", ("[trian]", "Close: train")),
        ("[show]\njson = true\n", ("[show]", "It may have train")),
        ("[forget.atuo]\nsteps = 1\n", ("[forget.atuo]", "Close: forget.auto")),
        ("[forget]\nimages = 99\n", ("'images' in [forget]", "[forget.auto]")),
        ("[audit]\nbudgte = 'full'\n", ("'budgte'", "Close: budget")),
        ("[forget.confusion]\nstrenght = 2\n", ("'strenght'", "Close: strength")),
        ("epochs = 1\n", ("'epochs' outside a table", "[train]")),
        ("[train]\nepochs = [1, 2]\n", ("epochs", "no single value")),
        ("[train]\nbatch_size = 2\nbatch-size = 3\n", ("batch_size", "twice")),
        ("[train]\nseed = 9999999999999999999999\n", ("--seed", "at most")),
        (f"[train]\nseed = {'9' * 5000}\n", ("cannot be read",)),
        ("x = " + "[" * 5000 + "]" * 5000, ("cannot be read",)),
        ("\x1b]0;owned\x07 = 1", ("cannot be read",)),
        ('"\\u001b[31m" = 1', ("outside a table",)),
        ("#" * (MOST_BYTES + 1), ("more than 16,000 bytes",)),
    ],
)
def test_a_mistake_is_one_line(
    text: str, says: tuple[str, ...], command, photos, toml, tmp_path: Path
) -> None:
    toml(text)
    ran = command("train", f"folder:{photos}", "--out", "run", "--image-size", 16, "--quiet")
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1, ran.err
    assert ran.err.startswith("unlabel: ")
    assert "\x1b" not in ran.err
    for part in says:
        assert part in ran.err
    assert not (tmp_path / "run").exists()


def test_a_value_out_of_range_is_refused_after_saying_where_it_came_from(command, photos, toml) -> None:
    toml("[train]\nepochs = 9999999999999999999999\n")
    first, second = command("train", f"folder:{photos}", "--out", "run", "--quiet").err.splitlines()
    assert "unlabel.toml: epochs = 9999999999999999999999" in first
    assert second.startswith("unlabel: --epochs is 1e+22; expected")


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


def _circle(path: Path) -> None:
    path.symlink_to(path.name)


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 8 * 10**9)


def _no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe" * 100)


@pytest.mark.parametrize("make", [_folder, _pipe, _device, _nowhere, _circle, _huge, _no_text])
def test_a_file_that_is_none_is_one_line(make, command, tmp_path: Path, patience) -> None:
    make(tmp_path / "unlabel.toml")
    ran = command("methods")
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert "unlabel.toml in the current folder cannot be read" in ran.err


@pytest.mark.parametrize("make", [_device, _huge])
def test_a_file_without_end_takes_no_memory(make, tmp_path: Path) -> None:
    """In a process of its own, which may not have more than 2 GB."""
    make(tmp_path / "unlabel.toml")
    ran = subprocess.run(
        [sys.executable, "-m", "unlabel.cli.app", "methods"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9, 2 * 10**9)),
    )
    assert ran.returncode == 2
    assert "cannot be read" in ran.stderr


def test_a_link_to_a_file_is_read(command, photos, toml, tmp_path: Path) -> None:
    toml("[train]\nquiet = true\nepochs = 1\nimage-size = 16\n").rename(tmp_path / "mine.toml")
    (tmp_path / "unlabel.toml").symlink_to("mine.toml")
    ran = command("train", f"folder:{photos}", "--out", "run")
    assert ran.code == 0
    assert "quiet = true" in ran.err
