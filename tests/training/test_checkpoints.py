"""What is kept between two commands: with a flipped bit or foreign content, refused or made again."""

import importlib
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.audit.inputs.memory import Memory
from unlabel.compare.cells import read_finished, write
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import CheckpointMismatch, OptionError
from unlabel.core.progress import Advance, Silent
from unlabel.core.reading import file_sha256, sealed, unsealed
from unlabel.core.recipe import Recipe
from unlabel.models import source as sources
from unlabel.models.cached_outputs import cached_outputs
from unlabel.models.outputs import PENULTIMATE
from unlabel.runs.record import place_record
from unlabel.statistics.contrast import Contrast
from unlabel.statistics.estimate import Estimate
from unlabel.testing import differing, tiny_network, tiny_world
from unlabel.training import fit as training
from unlabel.training import run as runs
from unlabel.training.checkpoints import Checkpoint, open_checkpoint
from unlabel.training.fit import LabelLoss, fit
from unlabel.training.run import train_run

ALL = LabelLoss((0, 1, 2))
SHORT = Recipe(epochs=1, lr=0.05)  # four steps
JOB, OTHER = "a" * 64, "b" * 64


class Notes(Silent):
    """Keeps the lines that a person would read."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu", log=Notes())


class Killed(KeyboardInterrupt):
    pass


@pytest.fixture
def begun(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """A training that was killed after two of its steps were saved."""
    found = Checkpoint(tmp_path / ".run.training" / "checkpoint.pt", JOB)
    found.file.parent.mkdir()

    def die(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        if len(optimiser.state) and found.file.exists() and len(stored(found)["rows"]) == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
        with pytest.raises(Killed):
            fit(tiny_network(3, True), ALL, tiny_world().data, SHORT, run, after_step=die, checkpoint=found)
    return found


def stored(checkpoint: Checkpoint) -> dict[str, Any]:
    content = unsealed(checkpoint.file.read_bytes())
    assert content is not None
    return torch.load(BytesIO(content), weights_only=True)


def finished(run: Run, checkpoint: Checkpoint) -> nn.Module:
    model = tiny_network(3, True, seed=9)
    fit(model, ALL, tiny_world().data, SHORT, run, checkpoint=checkpoint)
    return model


def flipped(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) * 8)
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


# -- what is told after a resume


class Stages(Notes):
    """Keeps how much of each stage was done: at its beginning, and then."""

    def __init__(self) -> None:
        super().__init__()
        self.amounts: list[int] = []

    @contextmanager
    def track(self, stage: str, total: int, unit: str = "", done: int = 0) -> Iterator[Advance]:
        self.amounts.append(done)
        yield lambda amount=1, note="": self.amounts.append(amount)


class WithoutDone(Stages):
    """A caller's own log, of before stages had a part that was done earlier."""

    @contextmanager
    def track(self, stage: str, total: int, unit: str = "") -> Iterator[Advance]:
        yield lambda amount=1, note="": self.amounts.append(amount)


@pytest.mark.parametrize("log", [Stages(), WithoutDone()])
def test_steps_before_a_resume_are_told_as_done_earlier(run: Run, begun: Checkpoint, log: Stages) -> None:
    finished(replace(run, log=log), begun)
    assert log.amounts == [128, 64, 64]


def test_the_seconds_of_all_parts_are_in_the_total(
    photos: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoint, "resume", lambda *_: ([], 1000.0))
    record = train_run(f"folder:{photos}", tmp_path / "run", run, recipe=SHORT, image_size=16)
    assert record["seconds"]["total"] > record["seconds"]["train"] > 1000.0


# -- one bit


def test_a_flipped_bit_in_a_checkpoint_is_refused_or_changes_nothing(run: Run, begun: Checkpoint) -> None:
    whole, content, chance = finished(run, begun), begun.file.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(60):
        begun.file.write_bytes(flipped(content, chance))
        try:
            model = finished(run, begun)
        except CheckpointMismatch as error:
            refused += 1
            check_line(str(error), begun)
        else:
            assert differing(whole, model) == []
    assert refused > 0


def test_a_flipped_bit_in_kept_outputs_is_told_and_they_are_made_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path))
    model, data = tiny_network(3).eval(), tiny_world().data
    first = cached_outputs(model, data, run, "key", "base")
    (file,) = (tmp_path / "outputs").iterdir()
    content, chance = file.read_bytes(), random.Random(1)
    for number in range(40):
        file.write_bytes(flipped(content, chance))
        again = cached_outputs(model, data, run, "key", "base")
        assert np.array_equal(first.logits, again.logits)
        assert np.array_equal(first.features[PENULTIMATE], again.features[PENULTIMATE])
        assert file.read_bytes() == content
        assert isinstance(run.log, Notes)
        assert run.log.lines == [f"{file} is damaged; its content is computed again"] * (number + 1)


def test_a_flipped_bit_in_a_kept_attack_is_told_and_it_is_not_used(tmp_path: Path) -> None:
    log, chance = Notes(), random.Random(2)
    rows = np.arange(8)
    found = {"own": Contrast(0.1, 0.2, 9.0), "probe": Estimate(0.3, rows / 9, rows, rows > 0)}
    Memory(tmp_path).keep("a", found)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    for number in range(60):
        file.write_bytes(flipped(content, chance))
        assert Memory(tmp_path, log).recall("a") is None
        assert log.lines == [f"{file} is damaged: the attack is made again"] * (number + 1)
    file.write_bytes(content)
    assert Memory(tmp_path, log).recall("a") is not None


def test_a_flipped_bit_in_a_cell_is_told_and_it_is_not_used(tmp_path: Path) -> None:
    log, chance, file = Notes(), random.Random(3), tmp_path / "cells" / "a.json"
    cell = {"schema": "s", "figures": [{"id": "own.adv", "value": 0.123456789, "ci": None, "n": 400}]}
    write(file, cell)
    assert read_finished(file, "s", log) == cell
    content, unused = file.read_bytes(), 0
    for _ in range(300):
        file.write_bytes(flipped(content, chance))
        found = read_finished(file, "s", log)
        assert found in (None, cell)  # a changed space changes nothing
        unused += found is None
    assert unused > 200
    assert log.lines == [f"{file} is damaged; its content is computed again"] * unused
    file.write_bytes(content)
    assert read_finished(file, "s", log) == cell
    assert read_finished(file, "another version", log) is None
    assert read_finished(tmp_path / "none.json", "s", log) is None
    assert len(log.lines) == unused


# -- a well-formed checkpoint with wrong content


def weights(change: Callable[[torch.Tensor], object]) -> Callable[[dict[str, Any]], None]:
    def touch(state: dict[str, Any]) -> None:
        state["model"]["0.weight"] = change(state["model"]["0.weight"])

    return touch


def momentum(change: Callable[[torch.Tensor], object]) -> Callable[[dict[str, Any]], None]:
    def touch(state: dict[str, Any]) -> None:
        held = state["optimiser"]["state"][0]
        held["momentum_buffer"] = change(held["momentum_buffer"])

    return touch


def groups(**change: Any) -> Callable[[dict[str, Any]], None]:
    return lambda state: state["optimiser"]["param_groups"][0].update(change)


def row(**change: Any) -> Callable[[dict[str, Any]], None]:
    return lambda state: state["rows"][1].update(change)


NAN = float("nan")
CONTENTS: dict[str, Any] = {
    "of another job": lambda state: state.update(job=OTHER),
    "without a job": lambda state: state.pop("job"),
    "a job that is a number": lambda state: state.update(job=7),
    "without weights": lambda state: state.pop("model"),
    "without an optimiser": lambda state: state.pop("optimiser"),
    "without rows": lambda state: state.pop("rows"),
    "without seconds": lambda state: state.pop("seconds"),
    "with more": lambda state: state.update(more=1),
    "weights that are text": lambda state: state.update(model="weights"),
    "weights that are a list": lambda state: state.update(model=[1, 2]),
    "a weight missing": lambda state: state["model"].pop("0.weight"),
    "a weight more": lambda state: state["model"].update(more=torch.zeros(2)),
    "a weight of another shape": weights(lambda value: value[:1]),
    "a weight of another format": weights(lambda value: value.double()),
    "a weight that is a number": weights(lambda value: 1.0),
    "a weight of NaN": weights(lambda value: value * NAN),
    "an infinite weight": weights(lambda value: value / 0),
    "a weight without numbers": weights(lambda value: value.to("meta")),
    "a sparse weight": weights(lambda value: value.reshape(len(value), -1).to_sparse()),
    "an optimiser that is a list": lambda state: state.update(optimiser=[]),
    "an optimiser without groups": lambda state: state["optimiser"].pop("param_groups"),
    "groups of text": lambda state: state["optimiser"].update(param_groups="groups"),
    "one group": lambda state: state["optimiser"]["param_groups"].pop(),
    "another momentum": groups(momentum=0.5),
    "another decay": groups(weight_decay=0.3),
    "other weights in a group": groups(params=[7]),
    "another optimiser's groups": groups(betas=(0.9, 0.999)),
    "a rate of text": groups(lr="high"),
    "no momentum": lambda state: state["optimiser"].update(state={}),
    "momentum of one weight missing": lambda state: state["optimiser"]["state"].pop(0),
    "momentum of another shape": momentum(lambda value: value[:1]),
    "momentum of NaN": momentum(lambda value: value * NAN),
    "momentum that is none": momentum(lambda value: None),
    "momentum that is text": lambda state: state["optimiser"]["state"].update({0: "fast"}),
    "rows of text": lambda state: state.update(rows="rows"),
    "rows of numbers": lambda state: state.update(rows=[1, 2]),
    "rows that are a dict": lambda state: state.update(rows={}),
    "too many rows": lambda state: state.update(rows=state["rows"] * 9),
    "a row missing": lambda state: state["rows"].pop(0),
    "a row without a loss": lambda state: state["rows"][1].pop("loss"),
    "a loss of NaN": row(loss=NAN),
    "a loss of text": row(loss="low"),
    "a loss that is a list": row(loss=[0.1]),
    "another rate in a row": row(lr=0.4),
    "another step in a row": row(step=9),
    "a step of text": row(step="2"),
    "negative seconds": lambda state: state.update(seconds=-1.0),
    "huge seconds": lambda state: state.update(seconds=1e300),
    "seconds of NaN": lambda state: state.update(seconds=NAN),
    "seconds of text": lambda state: state.update(seconds="long"),
    "seconds that are true": lambda state: state.update(seconds=True),
    "seconds of 400 digits": lambda state: state.update(seconds=10**400),
}


def check_line(said: str, checkpoint: Checkpoint) -> None:
    assert "\n" not in said
    assert said.startswith(f"{checkpoint.file} of an unfinished training is damaged")
    assert said.endswith(f"; delete {checkpoint.file.parent} to start again")


def check_refusal(run: Run, checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointMismatch) as found:
        finished(run, checkpoint)
    check_line(str(found.value), checkpoint)


@pytest.mark.parametrize("what", CONTENTS)
def test_a_checkpoint_of_wrong_content_is_refused(what: str, run: Run, begun: Checkpoint) -> None:
    state = stored(begun)
    CONTENTS[what](state)
    torch.save(state, buffer := BytesIO())
    begun.file.write_bytes(sealed(buffer.getvalue()))
    check_refusal(run, begun)


class Code:
    def __reduce__(self) -> Any:
        return os.mkdir, ("owned",)


@pytest.mark.parametrize(
    "value", [None, [], "text", {"job": JOB}, torch.zeros(3), Code()], ids=lambda value: type(value).__name__
)
def test_a_checkpoint_that_is_something_else_is_refused(
    value: Any, run: Run, begun: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(value, buffer := BytesIO())
    begun.file.write_bytes(sealed(buffer.getvalue()))
    check_refusal(run, begun)
    begun.file.write_bytes(buffer.getvalue())  # nor one without a checksum
    check_refusal(run, begun)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"\0" * 100, sealed(b""), sealed(b"PK\x03\x04 text")],
    ids=["nothing", "text", "zeros", "sealed nothing", "sealed text"],
)
def test_a_checkpoint_that_is_no_archive_is_refused(content: bytes, run: Run, begun: Checkpoint) -> None:
    begun.file.write_bytes(content)
    check_refusal(run, begun)


PLACES: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a dangling link": lambda file: file.symlink_to("nowhere"),
    "a device": lambda file: file.symlink_to("/dev/zero"),
    "8 GB of nothing": lambda file: file.touch() or os.truncate(file, 8 * 2**30),
}


@pytest.mark.parametrize("what", PLACES)
def test_a_checkpoint_that_is_no_file_is_refused_without_waiting(
    what: str, run: Run, begun: Checkpoint
) -> None:
    begun.file.unlink()
    PLACES[what](begun.file)
    check_refusal(run, begun)


def test_what_was_saved_is_gone_on_with_and_nothing_of_another_length(run: Run, begun: Checkpoint) -> None:
    """The positive control, and the training that the same file does not belong to."""
    longer = Recipe(epochs=2, lr=0.05)
    with pytest.raises(CheckpointMismatch, match="step 1 is not one of this training"):
        fit(tiny_network(3, True), ALL, tiny_world().data, longer, run, checkpoint=begun)
    whole = tiny_network(3, True)
    fit(whole, ALL, tiny_world().data, SHORT, run)
    assert differing(whole, finished(run, begun)) == []


# -- the note beside it


NOTES: dict[str, bytes] = {
    "a list": b"[]",
    "null": b"null",
    "text": b'"job"',
    "no job": b"{}",
    "a number": b'{"job": 5}',
    "an object": b'{"job": {"job": 1}}',
    "another text": b'{"job": "train"}',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "no JSON": b"job",
    "empty": b"",
    "not UTF-8": b'{"job": "\xff"}',
    "NaN": b'{"job": NaN}',
    "10,000 digits": b'{"job": ' + b"9" * 10_000 + b"}",
}


def unfinished(folder: Path, note: bytes) -> Path:
    folder.mkdir()
    (folder / "job.json").write_bytes(note)
    (folder / "checkpoint.pt").write_bytes(b"weights")
    return folder


@pytest.mark.parametrize("what", NOTES)
def test_a_damaged_note_is_refused_and_discarded_by_force(what: str, run: Run, tmp_path: Path) -> None:
    folder = unfinished(tmp_path / ".run.training", NOTES[what])
    with pytest.raises(CheckpointMismatch) as found:
        open_checkpoint(folder, JOB, run, force=False)
    check_line(str(found.value), Checkpoint(folder / "job.json"))
    assert not open_checkpoint(folder, JOB, run, force=True).file.exists()
    assert json.loads((folder / "job.json").read_text()) == {"job": JOB}


@pytest.mark.parametrize("what", [what for what in PLACES if what != "a dangling link"])
def test_a_note_that_is_no_file_is_refused_without_waiting(what: str, run: Run, tmp_path: Path) -> None:
    folder = unfinished(tmp_path / ".run.training", b"")
    (folder / "job.json").unlink()
    PLACES[what](folder / "job.json")
    with pytest.raises(CheckpointMismatch) as found:
        open_checkpoint(folder, JOB, run, force=False)
    check_line(str(found.value), Checkpoint(folder / "job.json"))


def test_another_job_is_refused_by_name(run: Run, tmp_path: Path) -> None:
    folder = unfinished(tmp_path / ".run.training", json.dumps({"job": OTHER}).encode())
    with pytest.raises(OptionError, match="with other options"):
        open_checkpoint(folder, JOB, run, force=False)
    assert open_checkpoint(folder, OTHER, run, force=False).file.read_bytes() == b"weights"


# -- what must be equal for a training to go on

NETWORK = """
from torch import nn

def make(outputs):
    pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.{0}(), *pooled, nn.Linear(4, outputs))
"""


@pytest.fixture
def train_own(
    photos: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """Trains a network of the user's own as a new process would; returns the hash of the weights."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("UNLABEL_TRUST", "ownnet:make")

    def train_it(name: str, layer: str = "ReLU", **place: Any) -> str:
        (tmp_path / "ownnet.py").write_text(NETWORK.format(layer))
        sys.modules.pop("ownnet", None)
        importlib.invalidate_caches()
        monkeypatch.setattr(sources, "_digests", {})
        now = {**place_record(run, ""), **place}
        monkeypatch.setattr(runs, "place_record", lambda *_: now | {"versions": dict(now["versions"])})
        out = tmp_path / name
        train_run(f"folder:{photos}", out, run, network="ownnet:make", recipe=SHORT, image_size=16)
        return file_sha256(out / "model.safetensors")

    yield train_it
    sys.modules.pop("ownnet", None)


@pytest.fixture
def killed(train_own: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A training of that network, killed after its first checkpoint, beside ``run``."""
    save = Checkpoint.save

    def save_and_die(*arguments: Any) -> None:
        save(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
        patch.setattr(Checkpoint, "save", save_and_die)
        with pytest.raises(Killed):
            train_own("run")


@pytest.mark.usefixtures("killed")
def test_an_unchanged_training_goes_on_to_the_same_bits(train_own, run: Run) -> None:
    assert train_own("run") == train_own("whole")
    said = [line for line in run.log.lines if "unfinished" in line or "rounded" in line]
    assert len(said) == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"layer": "Tanh"}, r"\(network's source: another\)"),
        ({"device": "cuda"}, r"\(device: it was \"cpu\", and is now \"cuda\"\)"),
        ({"versions": {"torch": "0.1"}}, r"version of torch: it was \".*\", and is now \"0\.1\"\)"),
    ],
)
@pytest.mark.usefixtures("killed")
def test_a_training_that_would_end_in_other_bits_is_refused(train_own, changed, said: str) -> None:
    with pytest.raises(OptionError, match=rf"unfinished training with other options.*{said}.*--force"):
        train_own("run", **changed)


@pytest.mark.usefixtures("killed")
def test_another_number_of_threads_is_told(train_own, run: Run) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        train_own("run")
    finally:
        torch.set_num_threads(threads)
    assert any(f"(threads: it was {threads}, and is now {threads + 1})" in line for line in run.log.lines)
