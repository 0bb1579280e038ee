"""What is printed cannot steer a terminal, and a stream that is closed or broken ends no command badly."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlabel.cli import progress as display
from unlabel.cli.output import Plain, escaped
from unlabel.core.files import UNSEEN

STEERING = "\x1b[31m\x07\r\x08\x9b2J\x85\u061c\u200e\u200f\u2028\u202e\u2066\x7f"
LETTERS = set(STEERING) - set("[31m2J")


def steers(text: str) -> bool:
    return any(found in text for found in LETTERS)


@pytest.fixture
def odd(base: Path, tmp_path: Path) -> Path:
    """A run whose folder's name steers terminals."""
    return Path(shutil.copytree(base, tmp_path / f"run{STEERING}"))


# -- what is printed


def test_a_runs_name_does_not_steer(command, odd: Path) -> None:
    for more in ([], ["--history"]):
        ran = command("show", odd, *more)
        assert ran.code == 0
        assert not steers(ran.out + ran.err)
        assert "\\x1b[31m" in ran.out
        assert "\\u202e" in ran.out
    ran = command("show", odd / "none")
    assert ran.code == 2
    assert not steers(ran.err)


def test_an_images_name_and_out_do_not_steer(command, base, photos, tmp_path: Path) -> None:
    image = Path(shutil.copy(photos / "images" / "00001.png", tmp_path / f"image{STEERING}.png"))
    ran = command("predict", base, image)
    assert ran.code == 0
    assert not steers(ran.out)
    out = tmp_path / f"out{STEERING}"
    ran = command("forget", "head-removal", base, "--labels", "top", "--out", out)
    assert (ran.code, out.is_dir()) == (0, True)
    assert not steers(ran.out + ran.err)
    ran = command("export", base, "--to", "state-dict", "--out", tmp_path / f"file{STEERING}.pt")
    assert ran.code == 0
    assert not steers(ran.out)


def test_json_keeps_its_value(command, base, photos, odd: Path, tmp_path: Path) -> None:
    shown = command("show", odd, "--json")
    assert not steers(shown.out)
    assert json.loads(shown.out)["run"] == str(odd)
    image = Path(shutil.copy(photos / "images" / "00001.png", tmp_path / f"image{STEERING}.png"))
    ran = command("predict", base, image, "--json")
    assert not steers(ran.out)
    assert json.loads(ran.out)[0]["image"] == str(image)


@given(st.text(st.characters(codec="utf-8") | st.sampled_from(sorted(LETTERS))))
def test_any_text_is_escaped_and_any_json_the_same(text: str) -> None:
    assert not UNSEEN.search(escaped(text).replace("\n", "").replace("\t", ""))
    written = json.dumps([text], ensure_ascii=False)
    assert json.loads(escaped(written)) == [text]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_json_is_json_whatever_the_terminal_speaks(encoding: str, photos, base, tmp_path: Path) -> None:
    image = Path(shutil.copy(photos / "images" / "00001.png", tmp_path / "é\u20ac\U0001f600.png"))
    ran = unlabel("predict", base, image, "--json", env={"PYTHONIOENCODING": encoding})
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.decode(encoding))[0]["image"] == str(image)


def test_progress_does_not_steer(monkeypatch, capsys) -> None:
    display.Lines().say(f"reading {STEERING}")
    assert not steers(capsys.readouterr().err)


def test_bars_do_not_steer_and_take_names_as_they_are(monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "stderr", Plain(screen, needed=False))
    bars = display.terminal_log()
    assert isinstance(bars, display.Bars)
    with bars.track(f"read {STEERING}[/red]", 3) as advance:
        advance(3, f"{STEERING}[/bold]")
    bars.say(f"note {STEERING}")
    shown = screen.getvalue()
    assert "[/red]" in shown
    assert "[/bold]" in shown
    assert "\x1b[" in shown, "bars move the cursor"
    assert "\x1b[31m\x07" not in shown
    assert not any(letter in shown for letter in "\x07\x08\x9b\u202e\u2066\u200e\u200f\u061c")


@pytest.mark.parametrize(("units", "said"), [(16, "3.2 s each"), (1012, "20/s"), (51, "1/s")])
def test_steps_that_take_long_show_their_seconds(
    units: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter((0.0, 1.0, 50.6))
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=lambda: next(looks)))
    with display.Lines().track("audit", units, "attacks") as advance:
        advance(units)
    assert capsys.readouterr().err == f"audit     {units:,} attacks in 50.6 s ({said})\n"


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EMFILE, "; allow more open files (ulimit -n), or name fewer --devices"),
        (errno.ENOMEM, "; free some memory, or name fewer --devices"),
        (errno.EAGAIN, "; free some memory, or name fewer --devices"),
        (errno.ENOSPC, "; free some space there, or name another place"),
    ],
)
def test_a_limit_of_the_machine_is_no_fault_of_the_output(
    number: int, says: str, command, monkeypatch
) -> None:
    def limited(rounds: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("unlabel.bench.command.start_lines", limited)
    ran = command("bench", "--parts", "start", "--quiet")
    assert (ran.code, ran.out, ran.err) == (2, "", f"unlabel: {os.strerror(number)}{says}\n")


def test_an_error_of_the_system_that_names_no_place_is_a_fault_of_the_program(command, monkeypatch) -> None:
    def unknown(rounds: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("unlabel.bench.command.start_lines", unknown)
    with pytest.raises(OSError, match="Invalid argument"):
        command("bench", "--parts", "start", "--quiet")


# -- what is written


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (("predict", "base", "photos/00000.png", "--csv", "new/deep/p.csv"), "new/deep/p.csv"),
        (("export", "base", "--to", "state-dict", "--out", "new/w.safetensors"), "new/w.safetensors"),
        (("report", "less", "--out", "new/page.html"), "new/page.html"),
        (("keygen", "--out", "new/ada"), "new/ada"),
        (("bench", "--parts", "start", "--out", "new/b.json"), "new/b.json"),
        (("data", "faces:train=8,probe=8,test=8,size=16", "--out", "new/facts"), "new/facts/data.json"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_missing_folder_is_made_and_nothing_is_printed_before_the_file_is_there(
    words: tuple, made: str, command, base: Path, photos: Path, tmp_path: Path, monkeypatch
) -> None:
    golden = Path(__file__).parents[1] / "golden" / "runs" / "less"
    for name, source in (("base", base), ("photos", photos / "images"), ("less", golden)):
        (tmp_path / name).symlink_to(source)
    monkeypatch.setattr("unlabel.bench.command.start_lines", lambda rounds: iter(()))
    (tmp_path / "new").write_text("a file where the folder should be")
    with monkeypatch.context() as patch:  # as if it had come there while the command worked
        patch.setattr("unlabel.core.places._check_parent", lambda out: None)
        ran = command(*words)
    assert (ran.code, ran.out) == (2, ""), ran
    assert "new" in ran.err
    (tmp_path / "new").unlink()
    ran = command(*words)
    assert ran.code == 0, ran.err
    assert (tmp_path / made).is_file()


# -- streams that are closed or broken


def unlabel(*arguments: object, env: dict[str, str] | None = None, **more) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "unlabel.cli.app", *map(str, arguments)],
        env={**os.environ, **(env or {})},
        timeout=120,
        check=False,
        **({"capture_output": True} | more),
    )


def closing(*numbers: int):
    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["methods"], ["nonsense"]])
def test_a_closed_stdout_is_one_line(arguments: list[str]) -> None:
    ran = unlabel(
        *arguments, stdout=None, stderr=subprocess.PIPE, capture_output=False, preexec_fn=closing(1)
    )
    assert ran.returncode == 2
    assert ran.stderr.decode().splitlines() == [
        "unlabel: stdout is closed, so nothing can be printed; open it, or send it to a file"
    ]


def test_a_closed_stderr_or_stdin_changes_nothing(tmp_path: Path) -> None:
    key = tmp_path / "key"
    for arguments, numbers, code, last in (
        (["keygen", "--out", key], (0, 2), 0, [f"{key}.pub"]),
        (["nonsense"], (0, 2), 2, []),
        (["nonsense"], (2,), 2, []),
    ):
        ran = unlabel(
            *arguments, stdout=subprocess.PIPE, stderr=None, stdin=None, capture_output=False,
            preexec_fn=closing(*numbers),
        )  # fmt: skip
        assert (ran.returncode, ran.stdout.decode().splitlines()[-1:]) == (code, last)


def test_everything_closed_ends_without_a_word() -> None:
    ran = unlabel("methods", stdout=None, stderr=None, capture_output=False, preexec_fn=closing(0, 1, 2))
    assert ran.returncode == 2


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["keygen", "--out", "key"], []])
def test_a_reader_that_has_gone_ends_the_command_quietly(arguments: list[str], tmp_path: Path) -> None:
    """Never 0: a script that reads a verdict must not take silence for a PASS."""
    reader, writer = os.pipe()
    os.close(reader)
    ran = unlabel(*arguments, stdout=writer, stderr=subprocess.PIPE, capture_output=False, cwd=tmp_path)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (141, b"")


def test_a_lost_stderr_stops_no_training(photos, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    (tmp_path / "unlabel.toml").write_text("[train]\nimage-size = 16\n")  # which is said on stderr
    ran = unlabel(
        "train", f"folder:{photos}", "--out", "run", "--epochs", 1, stdout=subprocess.PIPE, stderr=writer,
        capture_output=False, cwd=tmp_path,
    )  # fmt: skip
    os.close(writer)
    assert ran.returncode == 0
    assert ran.stdout.decode().splitlines()[-1] == "run"
    assert (tmp_path / "run" / "unlabel.json").is_file()


def test_a_full_disk_is_one_line_also_for_help(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("the device /dev/full is Linux's")
    with open("/dev/full", "w") as full:
        for arguments in (["--help"], ["keygen", "--out", tmp_path / "key"]):
            ran = unlabel(*arguments, stdout=full, stderr=subprocess.PIPE, capture_output=False)
            assert ran.returncode == 2
            assert len(ran.stderr.splitlines()) == 1
            assert b"No space left" in ran.stderr
