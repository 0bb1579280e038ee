"""Random damage to whatever a command reads: it is used, or refused in one line; no traceback, no hang.

Every file is damaged by a keyed generator in several ways: bits, cuts, doubled or foreign parts, and for JSON
a value of another kind at a random place. In this process, in as many rounds as take about twenty seconds.
"""

import json
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.run.folders import audit_run
from unlabel.audit.setup import check_manifest
from unlabel.compare.cells import read_finished, write
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import UnlabelError
from unlabel.core.files import RECORD
from unlabel.core.progress import SILENT
from unlabel.core.reading import sealed, unsealed
from unlabel.core.recipe import Recipe
from unlabel.data.options import ReadOptions
from unlabel.data.readers.folder import load_folder
from unlabel.data.readers.meaning import meaning_of
from unlabel.data.readers.meta import read_meta
from unlabel.data.readers.sheet import Images, Part, read_sheet
from unlabel.data.readers.tables import read_ids
from unlabel.data.texts import Names
from unlabel.exchange.predict import predict_files
from unlabel.forget.run import forget_run
from unlabel.report.card import write_card
from unlabel.report.page import write_report
from unlabel.runs.description import chain, chain_table, describe, table
from unlabel.runs.files import CONFIG, MODEL
from unlabel.statement import sign_run, verify_run
from unlabel.statement.contents import STATEMENT
from unlabel.statement.keys import read_private, read_public, write_keys
from unlabel.testing import differing, tiny_network
from unlabel.training.checkpoints import Checkpoint, open_checkpoint
from unlabel.training.fit import _sgd

ODD: list[Any] = [
    None, True, -1, 0, 10**30, 1e308, -1e308, 0.5, "", "x", "\x1b[2J", "\u202e", "a" * 10_000, [], {}, [[]],
    [1], {"a": 1}, [None] * 3, {"run": 1}, ["top", "top"], "../..", "\ud800", [[[[[[]]]]]],
]  # fmt: skip
SMALL = AuditOptions(probe_seeds=1, epochs=2, trees=2, permutations=2, resamples=20, rare=20)


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """No test reads a clock; a hang must not hold up the whole suite."""

    def late(*_: object) -> None:
        raise AssertionError("a reader hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(item, dict | list):
            yield from places(item)


def damaged_json(content: bytes, chance: random.Random) -> bytes:
    value = json.loads(content)
    for _ in range(chance.choice((1, 1, 1, 3))):
        found = list(places(value))
        if not found:
            break
        holder, key = chance.choice(found)
        if chance.random() < 0.3:
            del holder[key]
        elif chance.random() < 0.2:
            holder[key] = holder[
                chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
            ]
        else:
            holder[key] = chance.choice(ODD)
    return json.dumps(value).encode()


def damaged_bytes(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    at = chance.randrange(len(changed) + 1)
    match chance.randrange(6):
        case 0:
            for _ in range(chance.choice((1, 3, 30))):
                place = chance.randrange(len(changed))
                changed[place] ^= 1 << chance.randrange(8)
        case 1:
            del changed[at:]
        case 2:
            del changed[at : at + chance.randrange(1, 200)]
        case 3:
            changed[at:at] = chance.randbytes(chance.randrange(1, 50))
        case 4:
            changed[at:at] = chance.choice(
                (b"[" * 50_000, b"9" * 6_000, b"\0" * 99, b'"', b",", b"\xff\xfe", b"\n\r")
            )
        case _:
            changed[at:at] = changed[: chance.randrange(1, 2_000)]
    return bytes(changed)


def hunt(file: Path, use: Callable[[], object], rounds: int, *, seed: int, plain: bool = True) -> None:
    """Damages a file again and again; whatever uses it ends, or raises an `UnlabelError` of one line."""
    use()
    content, chance, said = file.read_bytes(), random.Random(seed), []
    try:
        for _ in range(rounds):
            structured = not plain and chance.random() < 0.7
            file.write_bytes((damaged_json if structured else damaged_bytes)(content, chance))
            said += refusal(use)
    finally:
        file.write_bytes(content)
    assert said
    assert [line for line in said if "\n" in line or len(line) > 2_000] == []


def refusal(use: Callable[[], object]) -> list[str]:
    """What an `UnlabelError` says, if there is one; anything else is a bug and fails the test."""
    try:
        use()
    except UnlabelError as error:
        return [str(error)]
    return []


@pytest.fixture(scope="module")
def run() -> Run:
    return engine.start(accelerator="cpu", batch_size=32)


@pytest.fixture(scope="module")
def made(base: Path, photos: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that forgot, audited and signed, beside its original."""
    folder = tmp_path_factory.mktemp("fuzz")
    shutil.copytree(base, folder / "base")
    forget_run("head-removal", folder / "base", ["top"], folder / "less", run)
    audit_run(folder / "less", folder / "base", [], run, options=SMALL)
    write_keys(folder / "key")
    sign_run(folder / "less", folder / "key", issued_at="2026-11-24T18:00:00Z")
    return folder


def test_a_runs_record_and_config(made: Path, photos: Path) -> None:
    less, image = made / "less", [photos / "images" / "00000.png"]

    def use() -> None:
        table(describe(less))
        chain_table(chain(less))
        json.dumps(predict_files(less, image), allow_nan=False)

    hunt(less / RECORD, use, 80, seed=0, plain=False)
    hunt(less / CONFIG, use, 80, seed=1, plain=False)


def test_a_runs_weights(made: Path, photos: Path) -> None:
    image = [photos / "images" / "00000.png"]
    hunt(
        made / "base" / MODEL,
        lambda: json.dumps(predict_files(made / "base", image), allow_nan=False),
        60,
        seed=2,
    )


def test_an_audit(made: Path, tmp_path: Path) -> None:
    less = Path(shutil.copytree(made / "less", tmp_path / "less"))
    (less / STATEMENT).unlink()

    def use() -> None:
        write_report(less, tmp_path / "page.html").unlink()

    hunt(less / "audit.json", use, 60, seed=3, plain=False)
    hunt(less / "audit.json", lambda: write_card(less), 60, seed=4, plain=False)
    key = made / "key"
    (less / "README.md").unlink()  # of a damaged audit by now
    hunt(less / "audit.json", lambda: sign_run(less, key, force=True), 40, seed=5, plain=False)


def test_a_statement_and_what_it_is_about(made: Path) -> None:
    less, public = made / "less", made / "key.pub"

    def use() -> None:
        if not verify_run(less, public).ok:
            raise UnlabelError("not as stated")

    content = (less / STATEMENT).read_bytes()
    for name in (STATEMENT, RECORD, "audit.json", CONFIG):
        file, kept_content, chance = less / name, (less / name).read_bytes(), random.Random(6)
        for _ in range(40):
            change = damaged_json if chance.random() < 0.5 else damaged_bytes
            file.write_bytes(change(kept_content, chance))
            if file.read_bytes() != kept_content:
                with pytest.raises(UnlabelError):
                    use()
        file.write_bytes(kept_content)
    assert (less / STATEMENT).read_bytes() == content
    use()


def test_keys(made: Path) -> None:
    for name, read in (("key", read_private), ("key.pub", read_public)):
        content, chance, file = (made / name).read_bytes(), random.Random(7), made / name
        for _ in range(60):
            file.write_bytes(damaged_bytes(content, chance))
            assert not any("\n" in line for line in refusal(partial(read, file)))
        file.write_bytes(content)


def test_an_unfinished_training(run: Run, tmp_path: Path) -> None:
    recipe, job = Recipe(epochs=1, lr=0.05), "a" * 64
    rates = [recipe.rate(step, 4) for step in range(4)]
    folder = tmp_path / ".run.training"
    checkpoint = open_checkpoint(folder, job, run, force=False)
    model = tiny_network(3)
    optimiser = _sgd(model, recipe, run)
    model(torch.zeros(2, 3, 16, 16)).sum().backward()
    optimiser.step()
    checkpoint.save(model, optimiser, [{"step": 1, "lr": rates[0], "loss": 0.7}], 1.5)
    optimiser.param_groups[0]["lr"] = rates[0]

    def resume() -> None:
        other = tiny_network(3, seed=1)
        rows, _ = checkpoint.resume(other, _sgd(other, recipe, run), rates)
        assert len(rows) == 1
        assert differing(model, other) == []

    hunt(
        folder / "job.json", lambda: open_checkpoint(folder, job, run, force=False), 150, seed=8, plain=False
    )
    resume()
    content, chance = checkpoint.file.read_bytes(), random.Random(9)
    for _ in range(60):
        checkpoint.file.write_bytes(damaged_bytes(content, chance))
        if checkpoint.file.read_bytes() != content:
            with pytest.raises(UnlabelError, match=r"delete .* to start again"):
                resume()
    inside = unsealed(content)
    assert inside is not None
    for _ in range(60):  # with a checksum that fits
        checkpoint.file.write_bytes(sealed(damaged_bytes(inside, chance)))
        foreign(checkpoint, model, optimiser, rates)
    for _ in range(150):  # and with a well-formed archive
        state = torch.load(BytesIO(inside), weights_only=True)
        damage_state(state, chance)
        torch.save(state, buffer := BytesIO())
        checkpoint.file.write_bytes(sealed(buffer.getvalue()))
        foreign(checkpoint, model, optimiser, rates)


def foreign(checkpoint: Checkpoint, model: Any, optimiser: Any, rates: list[float]) -> None:
    """Whatever is in it: weights are loaded and finite, or it is refused."""
    said = refusal(lambda: checkpoint.resume(model, optimiser, rates))
    assert all(line.endswith(f"delete {checkpoint.file.parent} to start again") for line in said)
    assert all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())


def damage_state(state: dict[str, Any], chance: random.Random) -> None:
    holder, key = chance.choice(list(places(state)))
    odd = [
        *ODD,
        torch.zeros(3),
        torch.tensor(float("nan")),
        torch.zeros(2, device="meta"),
        float("nan"),
        (1, 2),
    ]
    if chance.random() < 0.3:
        del holder[key]
    else:
        holder[key] = chance.choice(odd)


def test_a_cell_and_a_list_of_canaries(made: Path, tmp_path: Path) -> None:
    cell = {"schema": "s", "figures": [{"id": "own.adv", "value": 0.125, "n": 400}] * 3}
    write(tmp_path / "cell.json", cell)

    def use() -> None:
        if read_finished(tmp_path / "cell.json", "s", SILENT) != cell:
            raise UnlabelError("not used")

    hunt(tmp_path / "cell.json", use, 150, seed=10, plain=False)
    (tmp_path / "canaries.json").write_text(json.dumps({"schema": "s", "labels": {"top": {"ids": ["a"]}}}))
    source: Any = SimpleNamespace(facts={"canaries": {"sha256": "none"}})
    for seed in range(60):
        content = (tmp_path / "canaries.json").read_bytes()
        (tmp_path / "canaries.json").write_bytes(damaged_bytes(content, random.Random(seed)))
        with pytest.raises(UnlabelError):
            check_manifest(tmp_path, source)
        (tmp_path / "canaries.json").write_bytes(content)


def test_tables_beside_photos(photos: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(photos, tmp_path / "photos"))
    ids = read_ids(root / "attributes.csv")

    def read_labels() -> None:
        meaning_of(read_sheet([Part(root / "attributes.csv")], Images(root / "images", "images/")))

    meta = "".join(f"{name},{('train', 'val', 'test')[at % 3]},p{at // 2}\n" for at, name in enumerate(ids))
    (root / "meta.csv").write_text("image_id,split,identity\n" + meta)
    hunt(
        root / "meta.csv",
        lambda: read_meta(root / "meta.csv", Names.of(ids), Images(root, "images/")),
        200,
        seed=11,
    )
    options = ReadOptions(image_size=16, workers=0)
    hunt(root / "attributes.csv", read_labels, 200, seed=12)
    options = ReadOptions(image_size=16, workers=0)
    hunt(root / "attributes.csv", lambda: read_ids(root / "attributes.csv"), 100, seed=13)
    options = ReadOptions(image_size=16, workers=0)
    hunt(root / "attributes.csv", lambda: load_folder(str(root), options), 30, seed=14)
    hunt(root / "meta.csv", lambda: load_folder(str(root), options), 30, seed=15)
