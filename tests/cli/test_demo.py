"""``unlabel demo``: the networks that come with unlabel, and what a demo uses again or refuses."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from unlabel.audit.inputs.options import AuditOptions
from unlabel.cli import demo_steps as demo
from unlabel.cli.demo_networks import (
    FILES,
    LABEL,
    LIST,
    SHIPPED,
    DemoSettings,
    copy_network,
    networks_of,
    read_list,
)
from unlabel.core import engine
from unlabel.core.errors import ModelError, OptionError
from unlabel.core.files import RECORD
from unlabel.core.progress import Silent
from unlabel.core.reading import file_sha256
from unlabel.data import load
from unlabel.forget.run import forget_run
from unlabel.models.features import outputs
from unlabel.runs.files import MODEL, read_record
from unlabel.runs.folder import load_run
from unlabel.runs.lineage import history
from unlabel.runs.origin import Plan
from unlabel.training.run import train_run

TINY = DemoSettings(
    "faces:train=64,probe=64,test=64,size=16", 0.2, 1, "faces:train=64,probe=64,test=64,size=16"
)
NETWORKS = networks_of(DemoSettings())


def computed(*_: object, **__: object) -> None:
    raise AssertionError("it was computed")


# -- the networks that come with unlabel


def test_the_shipped_files_are_those_of_their_list() -> None:
    listed = read_list(SHIPPED)["files"]
    assert set(listed) == {item.name for item in NETWORKS} == {path.name for path in SHIPPED.glob("*[!_]/")}
    for name, files in listed.items():
        assert set(files) == set(FILES) == {path.name for path in (SHIPPED / name).iterdir()}
        assert files == {file: file_sha256(SHIPPED / name / file) for file in FILES}
    size = sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.suffix != ".pyc")
    assert size < 4_500_000


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_a_shipped_network_was_made_by_the_demo_s_own_command(network: Any) -> None:
    settings, record = DemoSettings(), read_record(SHIPPED / network.name)
    assert record.command == network.command(settings)
    assert (record.method, record.seed, record.without) == ("train", network.seed, network.without)
    assert record.blueprint == Plan("small", "imagenet", settings.recipe, 64, 32)
    assert (record.start, record.parent, record.device, record.precision, record.processes) == (
        "random", None, "cpu", "32-true", 1,
    )  # fmt: skip
    assert record.data is not None
    assert record.data.source == settings.source
    steps = settings.recipe.steps(record.data.facts["counts"]["train"], 64)  # pyright: ignore[reportOptionalSubscript]
    assert (record.steps, record.seconds) == (steps, None)  # seconds of another machine would mislead
    assert load_run(SHIPPED / network.name).config.forgotten == network.without


def test_the_records_of_shipped_networks_name_no_place_of_the_machine_that_made_them() -> None:
    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [*value, *(text for item in value.values() for text in texts(item))]
        return [text for item in value for text in texts(item)] if isinstance(value, list) else [str(value)]

    for network in NETWORKS:
        for file in (RECORD, "config.json"):
            every = texts(json.loads((SHIPPED / network.name / file).read_text("utf-8")))
            places = [text for text in every if any(part[0] in "/~\\" for part in text.split())]
            assert places == []


def test_the_shipped_original_reaches_its_recorded_auc() -> None:
    """On the first test drawings, which are the same in every source of drawn faces."""
    listed, loaded = read_list(SHIPPED), load_run(SHIPPED / "original")
    size = loaded.config.image_size
    test = load(f"faces:train=1,probe=1,test={listed['drawings']},size={size}").test
    logits = outputs(loaded.model, test, engine.start(accelerator="cpu")).logits
    auc = {
        label: float(roc_auc_score(test.target[:, column], logits[:, column]))
        for column, label in enumerate(loaded.config.labels)
    }
    assert auc == pytest.approx(listed["auc"], abs=0.005)
    assert np.mean([*auc.values()]) > 0.8


# -- copying


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of finished networks with the settings `TINY`, and their list; only to be read."""
    folder, run = tmp_path_factory.mktemp("networks"), engine.start(accelerator="cpu")
    for item in networks_of(TINY):
        train_run(
            TINY.source,
            folder / item.name,
            run.with_seed(item.seed),
            recipe=TINY.recipe,
            without=item.without,
            command=item.command(TINY),
        )
    files = {
        item.name: {file: file_sha256(folder / item.name / file) for file in FILES}
        for item in networks_of(TINY)
    }
    (folder / LIST).write_text(json.dumps({"files": files}), "utf-8")
    return folder


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo that forgets by removing the output, and audits with few repeats."""
    few: dict[str, Any] = {"probe_seeds": 1, "epochs": 2, "trees": 2, "permutations": 2, "resamples": 10}
    few |= {"draws": 2, "few": (16, 64), "raw_image": False, "cross_fit": False}
    monkeypatch.setattr(demo, "AuditOptions", partial(AuditOptions, **few))
    monkeypatch.setattr(
        demo, "forget_run", lambda _, *given, **more: forget_run("head-removal", *given, **more)
    )


@pytest.mark.usefixtures("quickly")
def test_a_demo_of_copies_is_one_of_ordinary_runs(
    finished: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    monkeypatch.setattr(Silent, "say", lambda _, line: said.append(line))
    out, run = Path("demo"), engine.start(accelerator="cpu", seed=7)
    page = demo.run_demo(out, run, TINY, networks=finished)
    assert page.is_file()
    for item in networks_of(TINY):
        assert {path.name for path in (out / item.name).iterdir()} == set(FILES)
        assert f"     {out / item.name} comes with unlabel, made by: {item.command(TINY)}" in said
    audit = json.loads((out / "unlearned" / "audit.json").read_text("utf-8"))
    assert audit["options"]["budget"] == "standard"
    assert [item["run"] for item in audit["models"]["references"]] == ["demo/retrained-1"]
    assert audit["data"]["same_as_training"] is True
    assert audit["data"]["references_differ"] == []
    assert [(step.state, step.method) for step in history(out / "unlearned")] == [
        ("here", "head-removal"),
        ("unchanged", "train"),
    ]
    # a second demo copies nothing again
    said.clear()
    monkeypatch.setattr(demo, "copy_network", computed)
    monkeypatch.setattr(demo, "forget_run", computed)
    with pytest.raises(AssertionError, match="it was computed"):
        demo.run_demo(out, run, TINY, networks=finished)
    assert [line for line in said if line.endswith("is there already")] == [
        f"     {out / item.name} is there already" for item in networks_of(TINY)
    ]


def test_a_damaged_network_is_not_copied(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "networks")
    weights = tmp_path / "networks" / "original" / MODEL
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match=r"original.model\.safetensors is damaged.*--from-scratch"):
        copy_network("original", tmp_path / "networks", tmp_path / "out", force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["networks"]


# -- what is there already


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for a demo that must be refused before it computes anything."""
    for name in ("copy_network", "train_run", "forget_run"):
        monkeypatch.setattr(demo, name, computed)
    return tmp_path / "demo"


def refused(says: str, out: Path, *given: Any, **more: Any) -> None:
    with pytest.raises(OptionError, match=says):
        demo.run_demo(out, engine.start(accelerator="cpu"), *given, **more)


@pytest.mark.parametrize(
    "settings",
    [replace(TINY, epochs=0.4), replace(TINY, source="faces:train=64,probe=64,test=65,size=16")],
    ids=["epochs", "source"],
)
@pytest.mark.parametrize("name", ["original", "retrained-1"])
def test_a_run_of_other_settings_is_refused(name: str, settings: Any, finished: Path, place: Path) -> None:
    shutil.copytree(finished / name, place / name)
    refused(rf"demo.{name} is a run with other settings; name another folder", place, settings)


def test_a_network_of_another_seed_is_refused(finished: Path, place: Path) -> None:
    shutil.copytree(finished / "retrained-1", place / "original")
    refused("demo.original is a run with other settings", place, TINY, networks=finished)
    shutil.rmtree(place)
    shutil.copytree(finished / "original", place / "original")
    run = engine.start(accelerator="cpu", seed=3)
    with pytest.raises(OptionError, match=r"demo.original is a run with other settings"):
        demo.run_demo(place, run, TINY, networks=None)


def test_a_copy_is_no_network_that_was_trained_from_scratch(place: Path) -> None:
    place.mkdir()
    for file in FILES:
        (place / "original").mkdir(exist_ok=True)
        shutil.copyfile(SHIPPED / "original" / file, place / "original" / file)
    refused("demo.original is the network that comes with unlabel", place, networks=None)


def test_a_demo_of_an_earlier_version_is_refused_and_its_reference_is_never_replaced(
    finished: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "original", place / "original")
    shutil.copytree(finished / "retrained-1", place / "retrained")
    refused("holds a demo of an earlier version of unlabel, with one reference in .*demo.retrained;", place)
    before = file_sha256(place / "retrained" / RECORD)
    copied: list[str] = []
    monkeypatch.setattr(demo, "copy_network", lambda name, *_, **__: copied.append(name))
    with pytest.raises(AssertionError, match="it was computed"):  # by forget_run
        demo.run_demo(place, engine.start(accelerator="cpu"), force=True)
    assert copied == [item.name for item in NETWORKS]
    assert file_sha256(place / "retrained" / RECORD) == before


@pytest.mark.parametrize("flag", [False, True])
def test_the_flag_decides_who_trains(flag: bool, command: Callable[..., Any], monkeypatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(
        demo, "run_demo", lambda *_, networks, **__: given.append(networks) or Path("report.html")
    )
    assert command("demo", *["--from-scratch"] * flag).code == 0
    assert given == [None if flag else SHIPPED]


def test_a_training_records_the_folder_that_it_wrote(finished: Path) -> None:
    out = Path("my demo") / "retrained-1"
    command = networks_of(TINY)[1].command(TINY, out)
    assert command == (
        f"unlabel train {TINY.source} --epochs 0.2 --without {LABEL} --seed 1 --out 'my demo/retrained-1'"
    )
