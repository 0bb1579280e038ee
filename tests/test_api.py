"""The public API: the ten lines, every form of data and of models, every mistake in one line."""

import ast
import copy
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

import unlabel
from unlabel.audit.document.results import Audit, Claim
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.run.folders import NO_UNTRAINED, audit_run
from unlabel.core import engine
from unlabel.core.recipe import Recipe
from unlabel.data.images.cache_folder import cache_folder
from unlabel.forget.methods import auto
from unlabel.forget.run import forget_run
from unlabel.models.head import find_head
from unlabel.testing import World, tiny_network, tiny_world, write_folder
from unlabel.training.run import train_run

ROOT = Path(__file__).parents[1]
TINY: dict[str, Any] = {
    "probe_seeds": 1, "folds": 2, "epochs": 3, "trees": 3, "permutations": 2, "resamples": 10, "rare": 5,
    "raw_image": False, "few": (16,), "few_judged": 16, "draws": 2, "tune": (8,), "tune_draws": 2,
    "tune_steps": 10, "d_fair": 1.0,
}  # fmt: skip
"""Small and quick; references that hardly learnt anything count as fair."""


def nameless(claims: Mapping[str, Claim]) -> dict[str, Claim]:
    """Claims without the one note that names the references."""
    named = "references_against_original"
    return {
        name: replace(claim, notes={key: value for key, value in claim.notes.items() if key != named})
        for name, claim in claims.items()
    }


@pytest.fixture(scope="module")
def world() -> World:
    """Images whose labels are top, middle and bottom, and a network that knows them."""
    return tiny_world(images=256)


@pytest.fixture(scope="module")
def retrained() -> nn.Module:
    """A network that was trained on nothing."""
    return tiny_network(3, seed=5).eval()


@pytest.fixture(scope="module")
def audit(world: World, retrained: nn.Module) -> Audit:
    """An audit of networks, without any run folder."""
    after = unlabel.forget_labels(world.model, "top", world.data, "head-removal").model
    return unlabel.audit_model(world.model, after, [retrained], world.source, "top", **TINY)


@pytest.fixture(scope="module")
def runs(photos: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: original, less and retrained."""
    folder = tmp_path_factory.mktemp("api")
    where = engine.start(accelerator="cpu")
    shutil.copytree(base, folder / "original")
    forget_run("head-removal", folder / "original", ["top"], folder / "less", where, images=48)
    train_run(
        f"folder:{photos}", folder / "retrained", where.with_seed(1), recipe=Recipe(epochs=1), image_size=16,
        without=["top"],
    )  # fmt: skip
    return folder


def arrays(world: World) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The splits of a world as arrays."""
    source = world.source
    parts = {"train": source.train, "probe": source.probe, "test": source.test}
    return {name: (part.images(slice(None)), part.target) for name, part in parts.items()}


def rows(audit: Audit) -> list[tuple[Any, ...]]:
    """The figures of an audit, without the names of the models."""
    return [(m.id, m.label, m.model, m.value, m.ci, m.n, m.unit, m.layer, m.transform) for m in audit.metrics]


# -- the documentation


@pytest.mark.slow
def test_the_documentation_runs_as_it_stands(tmp_path: Path, monkeypatch, capsys) -> None:
    """Every example of docs/python.md, in one namespace; the first is README's. `auto` trains briefly."""
    monkeypatch.setattr(auto, "PASSES", 0.5)
    monkeypatch.setattr(auto, "SHARE", 0.0)
    found = tiny_world(images=96).source.with_labels(["top", "middle", "bottom"])
    named = [
        replace(part, labels=("Male", "Young", "Smiling")) for part in (found.train, found.probe, found.test)
    ]
    write_folder(tmp_path / "photos", replace(found, train=named[0], probe=named[1], test=named[2]))
    where = engine.start(accelerator="cpu")
    for name, without in (("original", ()), ("retrained", ("Male",))):
        train_run(
            f"folder:{tmp_path / 'photos'}", tmp_path / "runs" / name, where.with_seed(len(without)),
            recipe=Recipe(epochs=1), image_size=16, without=without,
        )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    first, *others = examples()
    readme = (ROOT / "README.md").read_text("utf-8")
    assert first == re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[0]
    exec(first, names)
    audit = names["audit"]
    assert capsys.readouterr().out.split()[-2:] == [str(audit.valid), audit.claims["C2"].verdict]
    assert (list(audit.request["labels"]), audit.valid, audit.options["budget"]) == (["Male"], True, "quick")
    assert "</html>" in (tmp_path / "page.html").read_text("utf-8")
    for code in others:
        exec(code, names)
    assert names["again"].headline == names["audit"].headline
    assert names["firm"].options["permutations"] == 20
    assert not names["firm"].claims["C2"].notes.get("start")
    assert names["arrays"].facts["counts"] == {"train": 64, "probe": 32, "test": 32}
    assert names["datasets"].train.mean == (0.485, 0.456, 0.406)


def examples() -> list[str]:
    """The Python blocks of docs/python.md, in order."""
    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
def test_a_type_checker_finds_no_fault_in_the_examples_and_finds_a_wrong_one(tmp_path: Path) -> None:
    """About 15 seconds: basedpyright on the examples of the documentation."""
    wrong = (
        'unlabel.audit_model(original, outcome.model, [retrained], source, 5)\naudit.claims["C2"].verdit\n'
    )
    for name, more in (("right.py", ""), ("wrong.py", wrong)):
        (tmp_path / name).write_text("\n".join(examples()) + more)
    settings = {"typeCheckingMode": "standard", "extraPaths": [str(ROOT / "src")]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    checker = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--outputjson"]
    ran = subprocess.run(checker, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    found = json.loads(ran.stdout)["generalDiagnostics"]
    assert [(Path(item["file"]).name, item["rule"]) for item in found] == [
        ("wrong.py", "reportArgumentType"),
        ("wrong.py", "reportAttributeAccessIssue"),
    ]


# -- the command and Python measure alike


@pytest.mark.slow
def test_the_command_and_python_give_the_same_figures(command, runs: Path, photos: Path) -> None:
    """About 7 seconds: an audit with the usual sizes, twice."""
    original, less, again = (runs / name for name in ("original", "less", "retrained"))
    ran = command("audit", less, "--before", original, "--reference", again, "--seed", 3, "--quiet", "--json")
    source = unlabel.load(f"folder:{photos}", image_size=16)
    found = unlabel.audit_model(str(original), less, [unlabel.open_run(again)], source, "top", seed=3)
    expected, content = json.loads(ran.out), found.to_json()
    assert len(content["metrics"]) > 60
    for name in (
        "headline",
        "claims",
        "metrics",
        "comparisons",
        "controls",
        "limitations",
        "options",
        "data",
    ):
        assert content[name] == expected[name], name


def test_a_network_without_references_differs_from_its_run_in_what_untrained_networks_tell_alone(
    runs: Path, photos: Path
) -> None:
    """As docs/python.md says: a network in memory cannot be built anew by name."""
    where, paths = engine.start(accelerator="cpu"), (runs / "original", runs / "less")
    source = unlabel.load(f"folder:{photos}", image_size=16)
    command = audit_run(paths[1], paths[0], [], where, options=AuditOptions(**TINY), write=False)
    by_path = unlabel.audit_model(*paths, [], source, "top", run=where, **TINY)
    networks = (unlabel.open_run(path).model for path in paths)
    memory = unlabel.audit_model(*networks, [], source, "top", start="random", run=where, **TINY)
    assert rows(command) == rows(by_path) == rows(memory)
    assert command.controls == by_path.controls
    assert command.claims == by_path.claims

    def without(found: Audit) -> tuple[Any, ...]:
        controls = {name: item for name, item in found.controls.items() if name != "random_init"}
        claims = nameless(found.claims)
        notes = {name: item for name, item in claims["C2"].notes.items() if name != "bound"}
        return controls, claims | {"C2": replace(claims["C2"], notes=notes)}

    assert without(command) == without(memory)
    bounds = [found.claims["C2"].notes["bound"] for found in (command, memory)]
    assert bounds[0] != bounds[1]


@pytest.mark.exhaustive
def test_run_folders_and_networks_are_audited_alike_by_the_full_budget(
    runs: Path, photos: Path, monkeypatch
) -> None:
    """About 15 seconds: two audits of the full budget."""
    for name in ("annotated", "lessons"):
        monkeypatch.setattr(f"unlabel.audit.attacks.{name}.LEAST", 2)
    where = engine.start(accelerator="cpu")
    paths = [runs / name for name in ("original", "less", "retrained")]
    options = AuditOptions(budget="full", **TINY)
    expected = audit_run(paths[1], paths[0], [paths[2]], where, options=options, write=False)
    before, after, again = (unlabel.open_run(path).model for path in paths)
    source = unlabel.load(f"folder:{photos}", image_size=16)
    found = unlabel.audit_model(
        before, after, [again], source, "top", "full", start="random", run=where, **TINY
    )
    assert {"tune.auc@8", "recover.probe.adv.lin", "few.auc@16"} <= {row.id for row in found.metrics}
    assert rows(found) == rows(expected)
    assert (nameless(found.claims), found.comparisons) == (nameless(expected.claims), expected.comparisons)


def test_a_network_is_read_anew_though_a_run_has_the_same_weights(runs: Path, photos: Path) -> None:
    """A hook is no weight: what was kept of the run says nothing of the network."""
    source = unlabel.load(f"folder:{photos}", image_size=16)
    kept = {path.name for path in (cache_folder() / "outputs").glob("*")}
    original, noisy = runs / "original", unlabel.open_run(runs / "less").model
    _, head = find_head(noisy, 3)
    head.register_forward_pre_hook(lambda _module, inputs: (torch.zeros_like(inputs[0]),))
    plain = unlabel.audit_model(original, runs / "less", [], source, "top", **TINY)
    kept = {path.name for path in (cache_folder() / "outputs").glob("*")}
    hooked = unlabel.audit_model(original, noisy, [], source, "top", **TINY)
    assert kept == {path.name for path in (cache_folder() / "outputs").glob("*")}
    auc = {
        name: next(m.value for m in found.metrics if m.id == "util.auc.macro" and m.model == "after")
        for name, found in (("plain", plain), ("hooked", hooked))
    }
    assert auc["hooked"] == 0.5 != auc["plain"]


# -- audits


def test_an_audit_of_networks_leaves_them_as_they_were(
    world: World, retrained: nn.Module, audit: Audit
) -> None:
    networks = [copy.deepcopy(world.model).train(), tiny_network(3, seed=8)]
    states = [copy.deepcopy(network.state_dict()) for network in networks]
    unlabel.audit_model(networks[0], networks[1], [], world.source, "top", **TINY)
    assert networks[0].training
    for network, state in zip(networks, states, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert audit.valid
    assert audit.claims["C1"].verdict == "PASS"
    assert audit.claims["C2"].verdict == "FAIL"
    assert audit.claims["C2"].provisional
    assert "untrained" not in " ".join(audit.limitations)
    assert audit.controls["random_init"]
    assert audit.data["references_differ"] == [
        "how before was trained is not recorded; reference 1 may differ"
    ]
    assert [audit.models["after"][key] for key in ("run", "network", "total")] == [
        "after",
        "Sequential",
        2507,
    ]


class Scaled(nn.Module):
    """A network with a weight of its own, which nothing can draw anew."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.scale, self.inner = nn.Parameter(torch.ones(3, 1, 1)), inner

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.inner(image * self.scale)


def test_the_untrained_control_is_left_out_and_said_so(world: World, audit: Audit) -> None:
    after = unlabel.forget_labels(Scaled(world.model), ["top"], world.data, method="head-removal").model
    found = unlabel.audit_model(Scaled(world.model), after, [], world.source, ["top"], **TINY)
    assert NO_UNTRAINED in found.limitations
    assert not found.controls["random_init"]
    assert audit.controls["random_init"]


def test_classes_are_audited_by_a_softmax() -> None:
    picture = np.random.default_rng(0).integers(0, 90, (240, 16, 16, 3), np.uint8)
    kind = np.arange(240) % 3
    picture[np.arange(240), 5 * kind + 2] += 120
    parts = {
        name: TensorDataset(torch.from_numpy(picture[rows]).permute(0, 3, 1, 2), torch.from_numpy(kind[rows]))
        for name, rows in (("train", slice(0, 80)), ("probe", slice(80, 160)), ("test", slice(160, 240)))
    }
    source = unlabel.load(**parts, labels=["top", "middle", "bottom"])
    assert source.train.exclusive
    assert source.test.target[:3].sum(1).tolist() == [1, 1, 1]
    before = tiny_network(3)
    after = unlabel.forget_labels(before, "top", source.train, method="head-removal", images=80).model
    found = unlabel.audit_model(before, after, [], source, "top", **TINY)
    assert found.data["exclusive"]
    assert any("classes that exclude each other" in line for line in found.limitations)


def test_unknown_annotations_are_left_out() -> None:
    unknown = tiny_world("unknown", images=256)
    source = unlabel.load(**arrays(unknown), labels=unknown.labels)
    assert np.array_equal(source.train.target, unknown.data.target)
    after = unlabel.forget_labels(unknown.model, "top", source.train, method="head-removal").model
    found = unlabel.audit_model(unknown.model, after, [], source, "top", **TINY)
    known = int(np.sum(unknown.source.test.target[:, 0] >= 0))
    assert {m.n for m in found.metrics if m.id == "own.sadv"} == {known}
    assert known < len(unknown.source.test)


def test_pictures_that_two_splits_share_make_an_audit_invalid(world: World, retrained: nn.Module) -> None:
    given = arrays(world)
    source = unlabel.load(**{**given, "test": given["train"]}, labels=world.labels)
    found = unlabel.audit_model(world.model, retrained, [], source, "top", **TINY)
    assert not found.valid
    assert "pixel for pixel" in " ".join(found.invalid_because)


# -- what an audit shows


def test_an_audit_prints_in_a_few_lines(audit: Audit) -> None:
    lines = repr(audit).splitlines()
    assert lines[0] == f"Audit of top: {audit.headline}"
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 120
    own = {m.model: m.value for m in audit.metrics if m.id == "own.sadv"}
    values = f"original {own['before']:.3f}, unlearned {own['after']:.3f}, retrained {own['reference']:.3f}"
    assert f"  C1 PASS  own.sadv: {values}" in lines
    assert lines[-1] == "  not tested: C4, C6"
    worst = replace(
        audit,
        invalid_because=("a",) * 9,
        claims={f"C{number}": Claim("FAIL", "") for number in range(1, 6)} | {"C6": audit.claims["C6"]},
    )
    assert len(repr(worst).splitlines()) <= 12
    assert "and 7 more" in repr(worst)


def test_an_audit_in_a_notebook_is_escaped(audit: Audit) -> None:
    text = replace(audit, request={"labels": ["<script>x"]}, invalid_because=("a < b",))._repr_html_()
    assert text.count("<tr>") == 1 + sum(claim.verdict != "NOT_EVALUATED" for claim in audit.claims.values())
    assert "<script" not in text
    assert "&lt;script&gt;x" in text
    assert "a &lt; b" in text
    assert len(text) < 5000


def test_a_frame_has_one_row_a_figure(audit: Audit, monkeypatch) -> None:
    monkeypatch.setattr("unlabel.audit.document.results.find_spec", lambda name: None)
    table = audit.to_frame()
    assert len(table) == len(audit.metrics)
    first, metric = table[0], audit.metrics[0]
    assert list(first) == [
        "id",
        "label",
        "model",
        "run",
        "value",
        "n",
        "unit",
        "layer",
        "transform",
        "low",
        "high",
    ]
    assert (first["low"], first["high"]) == metric.ci
    pandas = ModuleType("pandas")
    pandas.DataFrame = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    monkeypatch.setattr("unlabel.audit.document.results.find_spec", lambda name: pandas)
    pandas.DataFrame = lambda found: ("frame", found)  # type: ignore[attr-defined]
    assert audit.to_frame() == ("frame", table)


def test_an_audit_becomes_json_and_comes_back(audit: Audit) -> None:
    content = json.loads(json.dumps(audit.to_json()))
    again = Audit.from_json(content)
    assert again.to_json() == content
    assert isinstance(again.metrics[0], type(audit.metrics[0]))
    for name, value in (("schema", "unlabel.audit/9"), ("claims", []), ("metrics", [{}]), ("more", 1)):
        with pytest.raises(unlabel.errors.ModelError, match="no audit of this version"):
            Audit.from_json({**content, name: value})


def test_a_report_is_one_page_and_replaces_nothing_unasked(audit: Audit, tmp_path: Path) -> None:
    page = audit.report(tmp_path / "new" / "page.html")
    text = page.read_text("utf-8")
    assert text.startswith("<!doctype html>")
    assert "how before was trained is not recorded" in text or "reference 1" in text
    with pytest.raises(unlabel.errors.OptionError, match=r"there already; .* force=True"):
        audit.report(page)
    page.write_text("old")
    assert audit.report(str(page), force=True).read_text("utf-8") == text
    with pytest.raises(unlabel.errors.OptionError, match="is a folder"):
        audit.report(tmp_path)


# -- data in memory


class Pictures:
    """A Dataset of (PIL image, list), as torch takes it: a length and indices."""

    def __init__(self, images: np.ndarray, target: np.ndarray, mode: str = "RGB") -> None:
        self.images, self.target, self.mode = images, target, mode

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, list[int]]:
        return Image.fromarray(self.images[index]).convert(self.mode), self.target[index].tolist()


FORMS: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
    "uint8": lambda images, target: (images, target),
    "channels first": lambda images, target: (images.transpose(0, 3, 1, 2), target.astype(np.int64)),
    "floating": lambda images, target: (images.astype(np.float64) / 255, target.astype(np.float32)),
    "tensors": lambda images, target: (
        torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255,
        torch.from_numpy(target),
    ),
    "TensorDataset": lambda images, target: TensorDataset(torch.from_numpy(images), torch.from_numpy(target)),
    "pairs": lambda images, target: list(zip(images, target, strict=True)),
    "PIL": Pictures,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_gives_the_same_source(world: World, form: str) -> None:
    given = arrays(world)
    plain = unlabel.load(**given, labels=world.labels)
    source = unlabel.load(
        **{name: FORMS[form](*part) for name, part in given.items()}, labels=list(world.labels)
    )
    assert source.facts == plain.facts
    for name, (images, target) in given.items():
        part = getattr(source, name)
        assert np.array_equal(part.images(slice(None)), images)
        assert np.array_equal(part.target, target)
        assert part.labels == world.labels
        assert len(np.unique(part.cluster)) == len(part)
    assert not {*source.train.ids} & {*source.test.ids}
    assert source.facts["counts"] == {"train": 128, "probe": 64, "test": 64}
    assert source.train.mean == (0.5, 0.5, 0.5)


def test_identities_and_normalisation_are_kept(world: World) -> None:
    given = arrays(world)
    whose = {"train": [f"p{row // 2}" for row in range(128)], "test": [None, 7, *["x"] * 62]}
    source = unlabel.load(
        **given, labels=world.labels, identities=whose, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 2.0)
    )
    assert len(np.unique(source.train.cluster)) == 64
    assert len(np.unique(source.probe.cluster)) == 64
    assert len(np.unique(source.test.cluster)) == 3
    assert source.facts["identity_overlap"] == 0
    assert (source.test.mean, source.test.std) == ((0.1, 0.2, 0.3), (1.0, 1.0, 2.0))
    shared = unlabel.load(**given, labels=world.labels, identities={**whose, "probe": ["p3", *[None] * 63]})
    assert shared.facts["identity_overlap"] == 1


def test_a_named_source_takes_a_normalisation(photos: Path) -> None:
    source = unlabel.load(f"folder:{photos}", image_size=16, mean=(0.1, 0.2, 0.3))
    assert (source.probe.mean, source.probe.std) == ((0.1, 0.2, 0.3), (0.25, 0.25, 0.25))


def broken(**changes: Any) -> Callable[[World], dict[str, Any]]:
    """What `load` is given, with a fault."""

    def make(world: World) -> dict[str, Any]:
        given = {**arrays(world), "labels": world.labels}
        return given | {name: value(given) if callable(value) else value for name, value in changes.items()}

    return make


IMAGES, TARGETS = np.zeros((4, 16, 16, 3), np.uint8), np.zeros((4, 3), np.int8)
FAULTS: dict[str, tuple[Callable[[World], dict[str, Any]], str]] = {
    "nothing": (lambda world: {}, "found neither a named source and images"),
    "both": (broken(source="faces"), "found both a named source and images"),
    "a path": (lambda world: {"source": Path("photos")}, "is a PosixPath; expected text"),
    "one split": (broken(probe=None), "found no probe; an audit needs all three"),
    "no labels": (broken(labels=None), "no label names"),
    "a bare label": (broken(labels="top"), r"targets of shape \(3,\) for 1 labels"),
    "a label twice": (broken(labels=["a", "a", "b"]), "named more than once"),
    "a number as label": (broken(labels=["a", "b", 3]), "3 stands where the name of a label was"),
    "image_size": (broken(image_size=32), "are for named sources"),
    "few labels": (broken(labels=["a", "b"]), r"targets of shape \(3,\) for 2 labels"),
    "not square": (broken(train=(IMAGES[:, :, :15].repeat(2, 1), TARGETS)), "32 x 15 pixels; expected"),
    "tiny": (broken(train=(IMAGES[:, :8, :8], TARGETS)), "8 x 8 pixels; expected sides of 16 to 512"),
    "two sizes": (broken(test=(IMAGES.repeat(2, 1).repeat(2, 2), TARGETS)), "32 x 32 pixels beside"),
    "two channels": (broken(train=(IMAGES[..., :2], TARGETS)), "expected three channels or one"),
    "no images": (broken(train=(IMAGES[0], TARGETS)), r"images of shape \(16, 16, 3\)"),
    "fewer targets": (broken(train=(IMAGES, TARGETS[:3])), r"targets of shape \(3, 3\)"),
    "integers": (broken(train=(IMAGES.astype(int), TARGETS)), "type int64; expected uint8"),
    "normalised": (broken(train=(IMAGES - 1.5, TARGETS)), "from -1.5 to -1.5; expected 0 to 1"),
    "not a number": (broken(train=(IMAGES + np.nan, TARGETS)), "from nan to nan; expected 0 to 1"),
    "a target 2": (broken(train=(IMAGES, TARGETS + 2)), r"the target 2; expected 1 \(present\)"),
    "a target NaN": (broken(train=(IMAGES, TARGETS + np.nan)), "the target nan; expected 1"),
    "a class 3": (broken(train=(IMAGES, np.arange(4))), "class number from 0 to 2"),
    "words": (broken(train=(IMAGES, np.array([["a"] * 3] * 4))), "targets of type <U1"),
    "three arrays": (broken(train=(IMAGES, TARGETS, TARGETS)), "a tuple of 3; expected two arrays"),
    "no pairs": (broken(train=list(IMAGES)), "image 0 of train is a ndarray; expected a pair"),
    "a mapping": (broken(train={"images": IMAGES}), "train is a dict; expected"),
    "a stream": (broken(train=iter(IMAGES)), "expected"),
    "no length": (broken(train=SimpleNamespace()), "train is a SimpleNamespace; expected"),
    "16 bits": (broken(train=lambda given: Pictures(*given["train"], mode="I")), "the mode I: whole numbers"),
    "empty": (broken(train=(IMAGES[:0], TARGETS[:0])), "each split needs at least 2"),
    "identities": (broken(identities={"train": ["a"]}), "has 1 values for 128 images of train"),
    "another split": (broken(identities={"val": ["a"]}), "names the split 'val'"),
    "mean": (broken(mean=(0.5, 0.5)), "expected three numbers each"),
    "std": (broken(std=(0.5, 0.5, 0.0)), "std above 0"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_data_that_does_not_fit_is_refused_in_one_line(world: World, fault: str) -> None:
    given, expected = FAULTS[fault]
    with pytest.raises(unlabel.errors.UnlabelError, match=expected) as caught:
        unlabel.load(**given(world))
    assert "\n" not in str(caught.value)


def test_images_in_memory_are_bounded(world: World, monkeypatch) -> None:
    monkeypatch.setattr("unlabel.data.readers.in_memory.MOST_BYTES", 256 * 16 * 16 * 3 - 1)
    with pytest.raises(unlabel.errors.DataError, match=r"256 images of 16 x 16 pixels .* 'folder:PATH'"):
        unlabel.load(**arrays(world), labels=world.labels)


# -- mistakes


def test_a_split_is_wanted_where_one_forgets(world: World) -> None:
    source: Any = world.source
    with pytest.raises(unlabel.errors.OptionError, match=r"data is a Source; .* source\.train"):
        unlabel.forget_labels(world.model, "top", source)


def other(**changes: Any) -> dict[str, Any]:
    """Changed arguments of `audit_model`."""
    return changes


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no source": (other(source="folder:photos"), "source is a str; expected what unlabel.load returns"),
    "no references": (other(references=3), "references is a int; expected a list"),
    "no model": (other(after={"weights": 1}), "after is a dict; expected a torch.nn.Module"),
    "no run": (other(after="nowhere"), "no run folder nowhere"),
    "a label": (other(labels="tpo"), "no label 'tpo' among .* See them all in source.test.labels"),
    "all labels": (other(labels=["top", "middle", "bottom"]), "at least one must be retained"),
    "an option": (other(d_referenc=0.1), "an audit has no option 'd_referenc'. Close: d_reference"),
    "a margin": (other(d_reference=-1.0), "d_reference is -1, but a margin must be above 0"),
    "a budget": (other(budget="quik"), "no budget 'quik'; expected one of quick, standard, full"),
    "a seed": (other(seed=-1), "seed is -1"),
    "outputs": (other(after=tiny_network(4)), "after: the last linear layer '5' has 4 outputs"),
    "probabilities": (
        other(after=nn.Sequential(tiny_network(3, seed=3), nn.Sigmoid())),
        "after: the model's outputs are not those of its last linear layer .* probabilities",
    ),
    "the input": (
        other(after=nn.Sequential(nn.Flatten(), nn.Linear(99, 3))),
        "after: the model raised RuntimeError",
    ),
    "a reference twice": (
        other(references=[tiny_network(3, seed=6), tiny_network(3, seed=6)]),
        "reference 2 has the same weights as reference 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_audit_that_cannot_be_is_refused_in_one_line(
    world: World, retrained: nn.Module, mistake: str
) -> None:
    changes, expected = MISTAKES[mistake]
    arguments: dict[str, Any] = {
        "before": world.model, "after": retrained, "references": [], "source": world.source, "labels": "top",
    }  # fmt: skip
    with pytest.raises(unlabel.errors.UnlabelError, match=expected) as caught:
        unlabel.audit_model(**arguments | changes)
    assert "\n" not in str(caught.value)


def test_runs_that_do_not_fit_the_data_are_refused(runs: Path, photos: Path) -> None:
    source = unlabel.load(f"folder:{photos}", image_size=16)
    arguments: tuple[Any, ...] = (runs / "original", runs / "less", [])
    with pytest.raises(unlabel.errors.ModelError, match="takes images of 16 pixels, but the source has 32"):
        unlabel.audit_model(*arguments, unlabel.load(f"folder:{photos}", image_size=32), "top")
    with pytest.raises(unlabel.errors.LabelMismatch, match="no label column 'top'"):
        unlabel.audit_model(*arguments, source.with_labels(["middle", "bottom"]), "top")
    with pytest.raises(unlabel.errors.ModelError, match="has forgotten top too"):
        unlabel.audit_model(*arguments, source, "middle")
    with pytest.raises(unlabel.errors.OptionError, match="leave out forgotten= and start="):
        unlabel.audit_model(*arguments, source, "top", start="random")
    with pytest.raises(unlabel.errors.OptionError, match=r"two models are called .*original"):
        unlabel.audit_model(runs / "original", runs / "original", [], source, "top")
    changed = unlabel.open_run(runs / "less")
    next(changed.model.parameters()).data[0] += 1
    with pytest.raises(unlabel.errors.ModelError, match=r"was changed after it was read; .*run\.model"):
        unlabel.audit_model(runs / "original", changed, [], source, "top")
    with pytest.raises(unlabel.errors.ModelError, match="trained without"):
        unlabel.audit_model(runs / "original", runs / "less", [runs / "retrained"], source, ["top", "middle"])


def test_a_name_or_a_model_may_stand_for_a_list_of_one(world: World, retrained: nn.Module) -> None:
    """Wherever Python takes a list of labels or of models."""
    source, gone = world.source, unlabel.forget_labels(world.model, "top", world.data, "head-removal").model
    assert source.with_labels("top").labels == source.train.with_labels("top").labels == ("top",)
    assert unlabel.Request.make("top", world.labels, forgotten="middle").masked == ("top", "middle")
    again = unlabel.forget_labels(gone, "middle", world.data, "head-removal", forgotten="top")
    assert again.request.masked == ("top", "middle")
    _, history = unlabel.train(world.data, Recipe(epochs=0.5), engine.start(), without="top")
    assert history.steps
    one = {"references": retrained, "labels": "middle", "forgotten": "top"}
    audit = unlabel.audit_model(gone, again.model, source=source, **one, **TINY)
    assert audit.to_json()["request"]["forgotten_earlier"] == ["top"]
    assert len(audit.to_json()["models"]["references"]) == 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"precision": "16"}, "--precision is '16'; expected 32, bf16"),
        ({"accelerator": "tpu"}, "--accelerator is 'tpu'; expected auto, cpu, cuda"),
        ({"seed": "a"}, "--seed is 'a'; expected a whole number from 0"),
        ({"seed": 1.5}, "--seed is 1.5; expected a whole number"),
        ({"batch_size": 64.0}, "--batch-size is 64.0; expected a whole number from 2"),
        ({"devices": True}, "--devices is True; expected a whole number from 1 to 64"),
        ({"workers": "two"}, "--workers is 'two'; expected a whole number from 0"),
    ],
)
def test_a_place_that_cannot_be_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(unlabel.errors.OptionError, match=says):
        unlabel.start(**wrong)


def test_other_mistakes_of_a_python_caller_are_one_line_too(world: World) -> None:
    wrong = unlabel.errors.OptionError
    with pytest.raises(wrong, match="--epochs is '3'; expected a number above 0"):
        Recipe(epochs="3")  # type: ignore[arg-type]
    with pytest.raises(wrong, match="--images is '100'; expected a whole number from 16"):
        unlabel.forget_labels(world.model, "top", world.data, images="100")  # type: ignore[arg-type]
    with pytest.raises(wrong, match=r"trains anew by the recipe of a run, .* unlabel\.train"):
        unlabel.forget_labels(world.model, "top", world.data, "retrain")
    two = unlabel.start(devices=2, accelerator="cpu")
    with pytest.raises(wrong, match="the run has 2 processes, and this function works in one"):
        unlabel.forget_labels(world.model, "top", world.data, run=two)
    with pytest.raises(wrong, match=r"use unlabel\.start\(devices=1\)"):
        unlabel.train(world.data, Recipe(epochs=0.5), two)


def test_an_audit_takes_the_seed_of_its_run(world: World, retrained: nn.Module) -> None:
    gone = unlabel.forget_labels(world.model, "top", world.data, "head-removal").model
    models = (world.model, gone, retrained, world.source, "top")
    where = unlabel.start(seed=7)
    assert unlabel.audit_model(*models, run=where, **TINY).options["seed"] == 7
    assert unlabel.audit_model(*models, seed=2, run=where, **TINY).options["seed"] == 2


# -- the package


def test_the_package_shows_its_api_and_nothing_else() -> None:
    assert dir(unlabel) == sorted(unlabel.__all__)
    assert {*unlabel._HOME} | {"__version__", "errors"} == {*unlabel.__all__}
    tree = ast.parse(Path(unlabel.__file__).read_text("utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        (alias.asname or alias.name): f"{node.module}:{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {**unlabel._HOME, "errors": "unlabel.core:errors"}
    for name in unlabel.__all__:
        assert getattr(unlabel, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = unlabel.nothing  # type: ignore[attr-defined]


def test_importing_the_package_imports_no_library_and_it_runs_as_a_module() -> None:
    code = "import sys, unlabel; print(unlabel.__version__, sorted({'torch', 'numpy'} & {*sys.modules}))"
    run = {"capture_output": True, "text": True, "check": True, "timeout": 100}
    assert subprocess.run([sys.executable, "-c", code], **run).stdout == f"{unlabel.__version__} []\n"
    shown = subprocess.run([sys.executable, "-m", "unlabel", "methods", "--json"], **run).stdout
    assert [row["name"] for row in json.loads(shown)] == [*unlabel.METHODS]
    assert [*unlabel.methods()][: len(unlabel.METHODS)] == [*unlabel.METHODS]


def test_same_weights_have_the_digest_of_their_run(runs: Path) -> None:
    from unlabel.runs.folder import packed

    run = unlabel.open_run(runs / "less")
    assert hashlib.sha256(packed(run.model)).hexdigest() == run.sha256
    assert (run.path, run.config.forgotten, run.record.method) == (runs / "less", ("top",), "head-removal")
