"""A model that was trained elsewhere comes in, and nothing that it brings is run unasked."""

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from unlabel.audit.run.folders import random_init
from unlabel.cli.adopt import lines
from unlabel.core import engine
from unlabel.core.errors import ModelError, OptionError
from unlabel.core.reading import file_sha256
from unlabel.data import load
from unlabel.exchange.check import measure, refuse_chance, swap_advice
from unlabel.models import custom
from unlabel.models.build import build
from unlabel.models.features import outputs
from unlabel.runs.folder import load_run
from unlabel.statistics.estimate import auc
from unlabel.testing import tiny_network, tiny_world, write_folder

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, stride=4)
        self.hidden = nn.Linear(128, 16)
        self.fc = nn.Linear(16, classes)

    def forward(self, x):
        x = self.conv(x).relu()
        x = x.view(x.size(0), -1)  # only works in PyTorch's default memory layout
        return self.fc(self.hidden(x).relu())

def make(labels):
    return Net(labels)
"""
KEYS = {"0": "conv", "3": "hidden", "5": "fc"}
BACK = {own: theirs for theirs, own in KEYS.items()}
NAMES = ("top", "middle", "bottom")
number = count()


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture(autouse=True)
def settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder of the test's own, and a process that has trusted nothing yet."""
    folder = tmp_path_factory.mktemp("settings") / "unlabel"
    monkeypatch.setenv("UNLABEL_CONFIG", str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    another_process(monkeypatch)
    return folder


def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a new process had started: no module of a user's is imported, and nothing is trusted."""
    monkeypatch.setattr(custom, "_granted", {})
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "pytest-of" not in entry])
    for name in [name for name in sys.modules if name.startswith("net_")]:
        del sys.modules[name]


@pytest.fixture
def module(tmp_path: Path) -> Callable[..., str]:
    """Writes a Python module into the current folder; returns its name."""

    def write(text: str = NET, folder: Path = tmp_path) -> str:
        name = f"net_{next(number)}"
        (folder / f"{name}.py").write_text(text)
        return name

    return write


@pytest.fixture(scope="module")
def world_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "world", tiny_world().source)


def own_state() -> dict[str, torch.Tensor]:
    """Trained weights under the names of `NET`."""
    state = tiny_world().model.state_dict()
    return {f"{KEYS[name.split('.')[0]]}.{name.split('.')[1]}": value for name, value in state.items()}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """weights.pt and labels.txt in the current folder."""
    torch.save(own_state(), tmp_path / "weights.pt")
    (tmp_path / "labels.txt").write_text("\n".join(NAMES) + "\n")
    return tmp_path


@pytest.fixture
def adopt(command, files: Path, world_folder: Path):
    """Runs ``unlabel adopt`` on the files; options given replace its own."""

    def call(network: str, *flags: object, **changed: object):
        options = {"weights": "weights.pt", "labels": "labels.txt", "data": f"folder:{world_folder}"}
        options |= {"image_size": 16, "out": "run", "mean": "0.5", "std": "0.25", **changed}
        given = {f"--{name.replace('_', '-')}": value for name, value in options.items() if value is not None}
        named = [part for pair in given.items() for part in pair]
        return command("adopt", network, *named, "--quiet", *flags)

    return call


@pytest.fixture
def refused(adopt, tmp_path: Path, settings: Path):
    """Runs an adoption that must be refused in one line, with nothing written and nothing trusted."""

    def call(network: str, *flags: object, says: tuple[str, ...], **changed: object) -> str:
        before = tree(tmp_path)
        ran = adopt(network, *flags, **changed)
        assert (ran.code, ran.out) == (2, ""), ran
        assert len(ran.err.splitlines()) == 1, ran.err
        assert "Traceback" not in ran.err
        for part in says:
            assert part in ran.err, ran.err
        assert tree(tmp_path) == before, "something was written or lost"
        assert not settings.exists()
        return ran.err

    return call


def record_of(run: Path) -> dict:
    return json.loads((run / "unlabel.json").read_text("utf-8"))


# -- what comes in


def test_an_adopted_model_is_a_run_like_any_other(adopt, module, command, world_folder, files) -> None:
    name = f"{module()}:make"
    ran = adopt(name)
    assert (ran.code, ran.err, ran.last) == (0, "", "run")
    assert "the same bits on 128 images" in ran.out
    record, config = record_of(files / "run"), load_run("run").config
    assert (config.network, config.labels, config.forgotten) == (name, NAMES, ())
    assert (config.mean, config.std, config.activation) == ((0.5,) * 3, (0.25,) * 3, "sigmoid")
    assert (record["method"], record["blueprint"], record["start"]) == ("adopt", None, "unknown")
    assert (record["changed"], record["total"], record["steps"]) == (0, 2507, 0)
    assert record["adopted"]["weights"] == "weights.pt"
    assert record["adopted"]["sha256"] == file_sha256(files / "weights.pt")
    assert record["fidelity"] == {"largest_difference": 0.0, "n": 128}
    assert record["data"]["source"] == f"folder:{world_folder}"

    assert "adopted from" in command("show", "run").out
    image = world_folder / "images" / "00000.png"
    assert 0 < json.loads(command("predict", "run", image, "--json").out)[0]["labels"]["top"] < 1
    ran = command("forget", "confusion", "run", "--labels", "top", "--out", "less", "--steps", 2, "--quiet")
    assert ran.code == 0
    assert record_of(files / "less")["adopted"] == record["adopted"]
    ran = command("forget", "retrain", "run", "--labels", "top", "--out", "again", "--quiet")
    assert (ran.code, "no recorded recipe" in ran.err) == (2, True)


def test_the_figures_are_those_of_the_users_module_on_the_test_images(adopt, module, files, world_folder):
    """Against the world's own network and the audit's AUC, label by label."""
    shown = adopt(f"{module()}:make", "--json", std="0.25,0.25,0.25").out
    record = json.loads(shown)
    source = load(f"folder:{world_folder}", image_size=16)
    found = outputs(tiny_world().model, source.test, engine.start(accelerator="cpu")).logits
    for column, name in enumerate(NAMES):
        area = auc(found[:, column], source.test.target[:, column], source.test.cluster)
        row = record["auc"]["labels"][name]
        # float32 sums in another memory order may swap two images of nearly equal outputs
        assert row["value"] == pytest.approx(area.value, abs=1e-3)
        assert (row["low"], row["high"]) == pytest.approx(area.interval(low=0, high=1), abs=1e-2)
        assert row["n"] == 128
    macro = np.mean([row["value"] for row in record["auc"]["labels"].values()])
    assert record["auc"]["macro"]["value"] == pytest.approx(macro)
    assert record["normalisation"] == {}
    assert record == record_of(files / "run")


def test_the_normalisation_with_the_lowest_loss_is_chosen_and_told(command, module, files, world_folder):
    """The world's network, rewritten to want its pixels from 0 to 1."""
    state = own_state()
    state["conv.bias"] -= 2 * state["conv.weight"].sum((1, 2, 3))
    state["conv.weight"] *= 4
    torch.save(state, files / "weights.pt")
    flags = ["--weights", "weights.pt", "--labels", "labels.txt", "--out", "run", "--image-size", 16]
    ran = command("adopt", f"{module()}:make", *flags, "--data", f"folder:{world_folder}")
    assert "--mean 0,0,0 --std 1,1,1 (chosen" in ran.out
    assert (load_run("run").config.mean, load_run("run").config.std) == ((0.0,) * 3, (1.0,) * 3)
    losses = record_of(files / "run")["normalisation"]
    assert min(losses, key=losses.__getitem__) == "mean 0, std 1"
    assert len(losses) == 4
    assert "--mean and --std are not given" in ran.err
    assert all(f"{loss:.4f} with {own}" in ran.err for own, loss in losses.items())


def test_a_given_normalisation_is_used_and_doubted_where_another_fits_much_better(adopt, module) -> None:
    name = f"{module()}:make"
    ran = adopt(name, mean="0", std="1")
    assert "warning: the loss on 128 images is" in ran.out, ran
    assert "with the given --mean and --std, but " in ran.out
    assert ": check them, or adopt it again with --mean 0." in ran.out
    assert load_run("run").config.mean == (0.0,) * 3
    assert "warning" not in adopt(name, out="right").out


def test_a_given_size_is_used_and_doubted_where_the_photos_own_fits_much_better(adopt, module) -> None:
    name = f"{module(CORNER)}:make"
    ran = adopt(name, image_size=32)
    told = ran.out + ran.err
    assert "photos are read at 32 x 32 pixels, as --image-size says: the loss is" in told, ran
    assert "at 16 x 16 pixels; check it, or adopt it again with --image-size 16" in told
    assert "as --image-size says" not in adopt(name, image_size=16, out="right").out


CONTAINERS = {
    "safetensors": (lambda state, file: save_file(state, file), "", None, "safetensors"),
    "a safetensors file called .pt": (lambda state, file: save_file(state, file), "", None, "safetensors"),
    "data parallel": (
        lambda state, file: torch.save({f"module.{k}": v for k, v in state.items()}, file),
        "module.",
        None,
        "torch",
    ),
    "a checkpoint": (
        lambda state, file: torch.save({"epoch": 3, "state_dict": state, "optimizer": {"state": {}}}, file),
        "",
        "state_dict",
        "torch",
    ),
    "a checkpoint of a wrapped model": (
        lambda state, file: torch.save(
            {
                "model": {f"module.model.{k}": v for k, v in state.items()},
                "scaler": {"scale": torch.tensor(1.0)},
            },
            file,
        ),
        "module.model.",
        "model",
        "torch",
    ),
    "an old pickle": (
        lambda state, file: torch.save(state, file, _use_new_zipfile_serialization=False),
        "",
        None,
        "torch",
    ),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_weights_are_read_from_what_people_save(kind: str, adopt, module, files) -> None:
    write, prefix, entered, container = CONTAINERS[kind]
    write(own_state(), files / "weights.pt")
    assert adopt(f"{module()}:make").code == 0
    adopted = record_of(files / "run")["adopted"]
    assert (adopted["prefix"], adopted["entered"], adopted["container"]) == (prefix, entered, container)
    assert len(adopted["notes"]) == bool(prefix) + (entered is not None)
    state = load_run("run").model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in own_state().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_number_formats_become_float32_and_the_loss_is_told(dtype, adopt, module, files) -> None:
    given = {name: value.double() + 1e-9 for name, value in own_state().items()}
    torch.save({name: value.to(dtype) for name, value in given.items()}, files / "weights.pt")
    ran = adopt(f"{module()}:make")
    assert ran.code == 0
    exact = dtype is not torch.float64
    assert f"from {str(dtype)[6:]} to float32: {'no digit is lost' if exact else 'digits beyond'}" in ran.out
    fidelity = record_of(files / "run")["fidelity"]["largest_difference"]
    assert fidelity == 0 if exact else 0 < fidelity < 1e-4
    state = load_run("run").model.state_dict()
    assert all(torch.equal(value.to(dtype).float(), state[name]) for name, value in given.items())


def test_labels_may_be_a_json_list_with_blank_lines_ignored_in_text(adopt, module, files) -> None:
    name = f"{module()}:make"
    (files / "labels.txt").write_text(json.dumps(NAMES))
    assert adopt(name).code == 0
    (files / "labels.txt").write_bytes(b"\xef\xbb\xbf\r\ntop \r\n\r\nmiddle\r\nbottom")
    assert adopt(name, "--force").code == 0
    assert load_run("run").config.labels == NAMES


def test_exclusive_classes_are_answered_by_a_softmax(adopt, module, files, tmp_path) -> None:
    source = tiny_world().source
    one = {
        part: getattr(source, part).take(getattr(source, part).target.sum(1) == 1)
        for part in ("train", "probe", "test")
    }
    folder = write_folder(tmp_path / "classes", replace(source, **one))
    assert adopt(f"{module()}:make", data=f"folder:{folder}").code == 0
    assert load_run("run").config.activation == "softmax"
    assert record_of(files / "run")["auc"]["macro"]["value"] > 0.9


def test_a_reference_that_never_saw_a_label_is_adopted_as_one(adopt, module, files) -> None:
    ran = adopt(f"{module()}:make", without="middle")
    assert (ran.code, "middle: withheld" in ran.out) == (0, True)
    record, loaded = record_of(files / "run"), load_run("run")
    assert (loaded.config.forgotten, record["without"], record["changed"]) == (("middle",), ["middle"], 17)
    assert record["auc"]["labels"]["middle"] is None
    assert record["fidelity"]["largest_difference"] == 0
    logits = loaded.model(torch.randn(9, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert logits.std(0).gt(0).tolist() == [True, False, True]


ANY_SIZE = NET.replace("self.conv(x).relu()", "nn.functional.adaptive_avg_pool2d(self.conv(x).relu(), 4)")
CORNER = NET.replace("self.conv(x).relu()", "self.conv(x).relu()[..., :4, :4].contiguous()")


def test_the_size_that_nobody_gave_is_told_with_the_photos_own(adopt, module, files) -> None:
    name = f"{module(ANY_SIZE)}:make"
    ran = adopt(name, image_size=None)
    told = ran.out + ran.err
    assert "--image-size is not given, so photos are read at 64 x 64" in told, ran
    assert "photos have 16 x 16 pixels: the loss is" in told
    ran = adopt(f"{module(CORNER)}:make", image_size=None, out="corner")
    assert "that is clearly better, so adopt it again with --image-size 16" in ran.out + ran.err
    ran = adopt(name, image_size=16, out="again")
    assert (ran.code, "is not given" in ran.out) == (0, False)
    fixed = ANY_SIZE.replace("x = x.view", "assert x.shape[0] and size == 64\n        x = x.view").replace(
        "def forward(self, x):", "def forward(self, x):\n        size = x.shape[-1]"
    )
    ran = adopt(f"{module(fixed)}:make", image_size=None, out="fixed")
    assert "photos have 16 x 16 pixels, which the network does not take" in ran.out + ran.err


def test_the_start_of_the_training_is_recorded_if_the_user_knows_it(adopt, module, refused) -> None:
    name = f"{module()}:make"
    refused(name, start=" ", says=("--start has 1 characters", "such as random"))
    adopt(name, out="one", start="random")
    adopt(name, out="two")
    assert [load_run(run).record.start for run in ("one", "two")] == ["random", "unknown"]


def test_a_label_that_was_removed_before_the_model_came_stays_forgotten(adopt, module, command, files):
    name, state = f"{module()}:make", own_state()
    state["fc.weight"][0] = 0.0
    torch.save(state, files / "weights.pt")
    ran = adopt(name)
    assert (ran.code, "top: the output is a constant, as of a label that was removed" in ran.out) == (0, True)
    assert "not measured" not in ran.out
    record, loaded = record_of(files / "run"), load_run("run")
    assert (loaded.config.forgotten, record["without"], record["changed"]) == (("top",), [], 0)
    assert record["adopted"]["constant"] == ["top"]
    assert record["auc"]["labels"]["top"] is None
    assert record["fidelity"]["largest_difference"] == 0
    forget = ("forget", "confusion", "run", "--labels", "middle", "--steps", 2, "--out", "less", "--quiet")
    assert command(*forget).code == 0
    loaded = load_run("less")
    assert loaded.config.forgotten == ("top", "middle")
    logits = loaded.model(torch.randn(9, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert logits.std(0).gt(0).tolist() == [False, False, True]


def test_labels_that_were_removed_do_not_count_as_chance_or_as_a_reference(adopt, module, command, files):
    name, state = f"{module()}:make", own_state()
    adopt(name, out="own")
    state["fc.weight"][:2] = 0.0
    torch.save(state, files / "weights.pt")
    assert adopt(name, out="both", without="middle").code == 0  # half of the labels would be at chance
    assert load_run("both").config.forgotten == ("top", "middle")
    assert record_of(files / "both")["adopted"]["constant"] == ["top"]
    command("forget", "head-removal", "own", "--labels", "top,middle", "--out", "less", "--quiet")
    audit = ("audit", "less", "--before", "own", "--quiet", "--reference")
    ran = command(*audit, "both")
    assert (ran.code, "both came with constant outputs (top)" in ran.err) == (2, True), ran
    assert "--without top,middle" in ran.err


def without_row(files: Path, row: int) -> None:
    """weights.pt of a network that has no output in this place."""
    state = own_state()
    kept = [at for at in range(len(NAMES)) if at != row]
    torch.save(
        {**state, **{name: state[name][kept] for name in ("fc.weight", "fc.bias")}}, files / "weights.pt"
    )


def test_a_reference_without_an_output_for_the_label_gets_a_constant(adopt, module, command, files) -> None:
    name = f"{module()}:make"
    adopt(name, out="own")
    without_row(files, 1)
    ran = adopt(name, out="reference", without="middle")
    assert (ran.code, "no output for middle, so a constant was put in" in ran.out) == (0, True), ran
    record, loaded = record_of(files / "reference"), load_run("reference")
    assert (loaded.config.labels, loaded.config.forgotten) == (NAMES, ("middle",))
    assert (record["adopted"]["inserted"], record["fidelity"]["largest_difference"]) == (["middle"], 0)
    images = torch.randn(9, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    logits, original = loaded.model(images), load_run("own").model(images)
    assert torch.equal(logits[:, [0, 2]], original[:, [0, 2]]), "the outputs are all labels but the named one"
    assert logits[:, 1].std() == 0
    command("forget", "head-removal", "own", "--labels", "middle", "--out", "less", "--quiet")
    ran = command("audit", "less", "--before", "own", "--reference", "reference", "--quiet")
    assert (ran.code, "C2" in ran.out) == (0, True), ran


@pytest.mark.parametrize(
    ("labels", "without", "says"),
    [
        (NAMES, None, ("2 outputs", "name these in --without")),
        (NAMES, "top,middle", ("2 outputs", "outputs for top and middle can be put in only where")),
        (("top", "bottom"), "middle", ("--without names middle", "all labels of the original, in its order")),
        (NAMES, "midle", ("no label 'midle'", "Close: middle")),
    ],
)
def test_a_reference_without_an_output_says_what_it_lacks(labels, without, says, module, refused, files):
    without_row(files, 1)
    (files / "labels.txt").write_text("\n".join(labels))
    refused(f"{module()}:make", without=without, says=says)


def test_a_head_that_takes_no_row_says_how_to_train_a_reference(module, refused, files) -> None:
    two = NET.replace("nn.Linear(16, classes)", "nn.Linear(16, 2 * classes)")
    two = two.replace(
        "self.fc(self.hidden(x).relu())", "self.fc(self.hidden(x).relu()).reshape(len(x), -1, 2)"
    )
    state = own_state()
    pairs = {name: torch.cat([state[name][:2]] * 2) for name in ("fc.weight", "fc.bias")}
    torch.save({**state, **pairs}, files / "weights.pt")
    refused(f"{module(two)}:make", without="middle", says=("leave middle out of its loss",))


def test_an_adopted_model_of_fewer_labels_is_told_how_it_becomes_a_reference(adopt, module, command, files):
    name = f"{module()}:make"
    adopt(name, out="own")
    without_row(files, 1)
    (files / "labels.txt").write_text("top\nbottom\n")
    assert adopt(name, out="fewer").code == 0
    command("forget", "head-removal", "own", "--labels", "middle", "--out", "less", "--quiet")
    ran = command("audit", "less", "--before", "own", "--reference", "fewer", "--quiet")
    assert (ran.code, "no output for middle; adopt it again" in ran.err) == (2, True), ran


# -- the user's function


CALLS = {
    "num_classes": "def make(depth=3, *, num_classes): return build(num_classes)",
    "outputs": "def make(outputs=7): return build(outputs)",
    "num_outputs": "def make(num_outputs): return build(num_outputs)",
    "n_classes": "def make(n_classes): return build(n_classes)",
    "num_labels": "def make(x=0, num_labels=2): return build(num_labels)",
    "one parameter": "def make(k): return build(k)",
    "one parameter and more": "def make(k, *more, **any): return build(k)",
    "any keyword": "def make(**any): return build(any['num_classes'])",
    "none": "def make(): return build(3)",
    "a class": "class make(nn.Sequential):\n    def __init__(self, k): super().__init__(*build(k))",
    "the same object twice": "same = build(3)\ndef make(): return same",
    "other numbers": "def make(k): return build(k).half()",
}
BUILD = """
from torch import nn
def build(k):
    return nn.Sequential(nn.Flatten(), nn.Linear(768, k))
"""


@pytest.mark.parametrize("kind", CALLS)
def test_a_function_is_told_the_number_of_labels(kind: str, module, files, monkeypatch) -> None:
    monkeypatch.chdir(files)
    name = f"{module(BUILD + CALLS[kind])}:make"
    custom.grant(name)
    model = build(name, 3)
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 3)
    assert model is not build(name, 3)
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_a_users_network_is_seeded_and_the_callers_random_state_left_alone(module, files, monkeypatch):
    monkeypatch.chdir(files)
    name = f"{module()}:make"
    custom.grant(name)
    before = torch.get_rng_state()
    one, two, three = (build(name, 3, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one["fc.weight"], two["fc.weight"])
    assert not torch.equal(one["fc.weight"], three["fc.weight"])


FUNCTIONS = {
    "no module": (None, ("no Python module 'net_none'", "in the folder that holds it")),
    "an import that raises": ("import nothing_of_that_name", ("importing", "ModuleNotFoundError")),
    "a syntax error": ("def make(:", ("importing", "SyntaxError")),
    "an import that ends Python": ("import sys; sys.exit(3)", ("importing", "SystemExit: 3")),
    "another name": ("def maker(): pass", ("'make' is not there", "Close: maker")),
    "no function": ("make = 3", ("'make' is no function",)),
    "a function that raises": ("def make(k): raise KeyError('a\\nb')", ("raised KeyError", "3 outputs")),
    "a function that ends Python": ("def make(k): raise SystemExit('bye')", ("raised SystemExit: bye",)),
    "no module returned": ("def make(k): return [k]", ("returned list", "torch.nn.Module")),
    "two things to say": ("def make(a, b): pass", ("needs a, b", "def make(num_classes)")),
    "wrong outputs": (BUILD + "def make(): return build(5)", ("'1' has 5 outputs", "there are 3")),
    "no linear layer": ("from torch import nn\ndef make(k): return nn.Conv2d(3, k, 1)", ("no linear layer",)),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_function_that_makes_no_network(kind: str, module, refused) -> None:
    text, says = FUNCTIONS[kind]
    name = "net_none" if text is None else module(text)
    refused(f"{name}:make", says=says)


FORWARDS = {
    "raises": ("raise ValueError('size\\n16')", ("raised ValueError: size 16", "16 x 16", "--image-size")),
    "a dict without logits": ("return {'kind': 'photo'}", ("returned dict", "one tensor of shape (2, 3)")),
    "a dict of two": ("return {'a': y, 'b': y + 0}", ("'a', a tensor of shape (2, 3); 'b'", "--logits a")),
    "a set": ("return {1, 2}", ("returned set",)),
    "another shape": ("return y[:, :2]", ("shape (2, 2)", "(2, 3)")),
    "classes": ("return y.softmax(1)", ("returns a softmax", "several labels or none")),
    "more than the head": ("return y * 2", ("not those of its last linear layer '1'",)),
    "one row a pixel": (
        "return self[1](x.flatten(1)[:, None]).amax(1)",
        ("used 2 times",),
    ),
    "NaN": ("return y / 0 * 0", ("NaN or infinite",)),
    "twice": ("return self[1](x.flatten(1))", ("used 2 times",)),
}


@pytest.mark.parametrize("kind", FORWARDS)
def test_a_forward_pass_that_is_not_the_heads(kind: str, module, refused, files) -> None:
    body, says = FORWARDS[kind]
    text = f"""{BUILD}
class make(nn.Sequential):
    def __init__(self, k):
        super().__init__(*build(k))

    def forward(self, x):
        y = super().forward(x)
        {body}
"""
    generator = torch.Generator().manual_seed(0)
    state = {"1.weight": torch.randn(3, 768, generator=generator), "1.bias": torch.zeros(3)}
    torch.save(state, files / "weights.pt")
    refused(f"{module(text)}:make", says=says)


def test_a_network_with_random_parts_outside_its_weights(module, refused, files, tmp_path) -> None:
    text = NET.replace(
        "        self.fc =", "        self.noise = __import__('torch').randn(16)\n        self.fc ="
    )
    text = text.replace("self.hidden(x).relu()", "self.hidden(x).relu() + 0.1 * self.noise")
    says = ("apart when the network is built again", "state dict")
    refused(f"{module(text)}:make", says=says)
    state = own_state()
    state["fc.weight"][0], state["fc.bias"][0] = 0.0, -1e4  # the constant of a class that was removed
    torch.save(state, tmp_path / "weights.pt")
    refused(f"{module(text)}:make", says=says)


def test_a_file_in_place_of_a_module_is_told_the_name_to_write(module, refused) -> None:
    name = module()
    refused(
        f"{name}.py:make", says=(f"'{name}.py' is a file, but a module has no ending; write {name}:make",)
    )


def test_another_name_of_a_network(refused) -> None:
    for name in ("resnet19", "nets", "a:b:c", "a/b.py:make"):
        refused(name, says=(f"no network '{name}'", "resnet18", "package.module:function"))


# -- who may be imported


def test_a_config_that_names_code_does_not_run_it(adopt, module, command, files, monkeypatch) -> None:
    """A run folder from elsewhere: a function of Python's own, and a module that lies in the folder."""
    assert adopt(f"{module()}:make").code == 0
    marker = files / "imported"
    evil = module(f"open({str(marker)!r}, 'w')\ndef make(k): open({str(marker)!r}, 'w')")
    image = next((files.parent).rglob("*.png"), files / "none.png")
    for name in ("os:system", "builtins:exec", f"{evil}:make"):
        config = json.loads((files / "run" / "config.json").read_text())
        (files / "run" / "config.json").write_text(json.dumps({**config, "network": name}))
        before = tree(files)
        for line in (
            ["predict", "run", image],
            ["forget", "head-removal", "run", "--labels", "top", "--out", "less", "--quiet"],
            ["export", "run", "--to", "state-dict"],
            ["audit", "run", "--before", "run"],
        ):
            ran = command(*line)
            assert (ran.code, ran.out) == (2, ""), ran
            assert len(ran.err.splitlines()) == 1
            assert f"would import the Python module '{name.split(':')[0]}'" in ran.err
            assert f"UNLABEL_TRUST={name}" in ran.err
        assert tree(files) == before
    assert not marker.exists()
    assert evil not in sys.modules


def test_a_trusted_network_is_found_from_any_folder(
    adopt, module, files, settings, tmp_path_factory, monkeypatch
) -> None:
    name = f"{module()}:make"
    assert adopt(name).code == 0
    assert json.loads((settings / "trusted-networks").read_text()) == {"network": name, "folder": str(files)}
    another_process(monkeypatch)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    load_run(files / "run")
    assert sys.path[0] != str(files)

    another_process(monkeypatch)
    shutil.move(files / f"{name[:-5]}.py", files / "moved.py")
    with pytest.raises(ModelError, match="no longer has its module"):
        load_run(files / "run")


def test_a_network_may_be_trusted_by_the_environment(adopt, module, files, settings, monkeypatch) -> None:
    name = f"{module()}:make"
    assert adopt(name).code == 0
    shutil.rmtree(settings)
    another_process(monkeypatch)
    with pytest.raises(ModelError, match="nobody has allowed on this machine"):
        load_run("run")
    monkeypatch.setenv("UNLABEL_TRUST", f"other:make, {name}")
    load_run("run")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"network": 3}', "\xff", '{"network": "os:sys"}'])
def test_a_damaged_file_of_trusted_networks_trusts_nothing(text: str, settings: Path) -> None:
    settings.mkdir()
    (settings / "trusted-networks").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match="nobody has allowed"):
        build("os:system", 3)


def test_trusted_networks_are_added_and_replaced(module, settings, files, monkeypatch) -> None:
    monkeypatch.chdir(files)
    one, two = f"{module()}:make", f"{module()}:make"
    for name in (one, two, one):
        custom.grant(name)
        assert custom.remember(name) is None
    rows = [json.loads(line) for line in (settings / "trusted-networks").read_text().splitlines()]
    assert [row["network"] for row in rows] == [two, one]
    assert [path.name for path in settings.iterdir()] == ["trusted-networks"]


def test_a_settings_folder_that_cannot_be_written_is_told(
    adopt, module, files, monkeypatch, settings
) -> None:
    settings.write_text("a file is in the way")
    name = f"{module()}:make"
    ran = adopt(name)
    assert ran.code == 0
    assert "trusted-networks cannot be written (" in ran.out
    assert f"UNLABEL_TRUST={name}" in ran.out


def test_the_settings_folder_follows_the_environment(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert custom.config_folder() == Path(os.environ["UNLABEL_CONFIG"])
    monkeypatch.delenv("UNLABEL_CONFIG")
    assert custom.config_folder() == tmp_path / "unlabel"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert custom.config_folder() == Path.home() / ".config" / "unlabel"


def test_what_is_no_name_of_a_network_is_not_granted() -> None:
    with pytest.raises(OptionError, match=r"expected package\.module:function"):
        custom.grant("resnet18")


# -- weights that cannot be used


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_pickle_is_not_run(protocol: int, module, refused, files, tmp_path_factory) -> None:
    marker = tmp_path_factory.mktemp("marker") / "ran"
    says = ("not only tensors", "would run code", "torch.save(model.state_dict(), 'weights.pt')")
    torch.save({**own_state(), "extra": Evil(marker)}, files / "weights.pt")
    refused(f"{module()}:make", says=(*says, "system"))
    (files / "weights.pt").write_bytes(pickle.dumps(Evil(marker), protocol=protocol))
    refused(f"{module()}:make", says=says)
    assert not marker.exists()


def script(file: Path) -> None:
    with pytest.warns(DeprecationWarning, match="is deprecated"):
        torch.jit.script(nn.Linear(2, 2)).save(file)


def cut(write: Callable[[dict, Path], object]) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        write(own_state(), file)
        file.write_bytes(file.read_bytes()[:-700])

    return damage


def changed(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        state = own_state()
        change(state)
        torch.save(state, file)

    return damage


def averaged(file: Path) -> None:
    """As timm saves it."""
    state = own_state()
    average = {f"module.{name}": value for name, value in state.items()}
    torch.save({"state_dict": state, "state_dict_ema": average}, file)


def counted_average(file: Path) -> None:
    """As torchvision saves it."""
    average = {"n_averaged": torch.tensor(3), **own_state()}
    torch.save({"model": own_state(), "model_ema": average}, file)


WEIGHTS = {
    "no file": (lambda file: file.unlink(), ("no file weights.pt", "safetensors")),
    "a whole model": (lambda file: torch.save(tiny_network(3), file), ("Sequential", "would run code")),
    "a program": (script, ("TorchScript", "state_dict()")),
    "a table": (lambda file: file.write_text("image_id,top\n1.png,1\n"), ("is no file of weights",)),
    "a picture": (
        lambda file: Image.new("RGB", (8, 8)).save(file, "PNG"),
        ("is no file of weights", "neither safetensors nor a file of torch.save"),
    ),
    "text": (lambda file: file.write_text("hello"), ("cannot be read as weights", "copy it again")),
    "nothing": (lambda file: file.write_bytes(b""), ("cannot be read as weights",)),
    "half": (cut(torch.save), ("cannot be read as weights", "damaged")),
    "half safetensors": (cut(save_file), ("cannot be read as safetensors", "damaged")),
    "a list": (lambda file: torch.save([torch.ones(2)], file), ("holds a list",)),
    "an empty dict": (lambda file: torch.save({}, file), ("holds nothing",)),
    "two sets": (
        lambda file: torch.save({"a": own_state(), "b": own_state()}, file),
        ("2 sets of tensors: a, b",),
    ),
    "weights beside their average": (
        averaged,
        ("2 sets of weights of the same shapes, state_dict, state_dict_ema", "checkpoint['state_dict_ema']"),
    ),
    "weights beside an average that counts": (
        counted_average,
        ("2 sets of weights of the same shapes, model, model_ema",),
    ),
    "numbers": (changed(lambda state: state.update(epoch=3)), ("'epoch' (int)", "tensors only")),
    "a sparse tensor": (
        changed(lambda state: state.update({"fc.bias": torch.ones(3).to_sparse()})),
        ("'fc.bias' (Tensor)",),
    ),
    "a key too many": (
        changed(lambda state: state.update({"loss.weight": torch.ones(3)})),
        ("1 too many: loss.weight", "nothing added"),
    ),
    "a key too few": (changed(lambda state: state.pop("hidden.bias")), ("1 missing: hidden.bias",)),
    "another network": (
        lambda file: torch.save(tiny_network(3).state_dict(), file),
        ("6 missing: conv.weight", "6 too many: 0.weight"),
    ),
    "another size": (
        changed(lambda state: state.update({"hidden.weight": torch.ones(16, 99)})),
        ("'hidden.weight' has shape (16, 99)", "(16, 128) in the network"),
    ),
    "another head": (
        changed(lambda state: state.update({"fc.weight": torch.ones(40, 16), "fc.bias": torch.ones(40)})),
        ("has 40 outputs (rows of 'fc.weight')", "3 labels", "--labels"),
    ),
    "NaN": (
        changed(lambda state: state["fc.weight"].__setitem__((0, 0), float("nan"))),
        ("'fc.weight'", "NaN"),
    ),
    "too large for float32": (
        changed(lambda state: state.update({"fc.bias": torch.full((3,), 1e300, dtype=torch.float64)})),
        ("'fc.bias'", "beyond float32"),
    ),
    "whole numbers": (
        changed(lambda state: state.update({"fc.bias": torch.ones(3, dtype=torch.int8)})),
        ("'fc.bias' holds int8", "not quantised"),
    ),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_cannot_be_used(kind: str, module, refused, files) -> None:
    damage, says = WEIGHTS[kind]
    damage(files / "weights.pt")
    refused(f"{module()}:make", says=says)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", ("names no label",)),
        (b"top\ntop\nbottom\n", ("names top more than once",)),
        (b"top\nmiddle\n", ("has 3 outputs", "but there are 2 labels")),
        (b"top\nmiddle\nBottom\n", ("no label column 'Bottom'", "Close: bottom")),
        (b"[1, 2, 3]", ("items that are no names",)),
        (b"[", ("cannot be read",)),
        (b"\xff\xfe", ("cannot be read", "UTF-8")),
        (None, ("no file labels.txt",)),
    ],
)
def test_labels_that_cannot_be_used(content, says, module, refused, files) -> None:
    (files / "labels.txt").unlink()
    if content is not None:
        (files / "labels.txt").write_bytes(content)
    refused(f"{module()}:make", says=says)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"std": None}, ("only one of --mean and --std", "give both")),
        ({"mean": None}, ("only one of --mean and --std",)),
        ({"mean": "0.5,0.5", "std": "1"}, ("--mean is '0.5,0.5'", "three numbers")),
        ({"mean": "grey", "std": "1"}, ("--mean is 'grey'",)),
        ({"mean": "123.675,116.28,103.53", "std": "1"}, ("--mean holds 123.675", "divide by 255: 0.485")),
        ({"mean": "0.5", "std": "0"}, ("--std holds 0", "more than 0")),
        ({"mean": "0.5", "std": "-1"}, ("--std holds -1",)),
        ({"mean": "nan", "std": "1"}, ("--mean holds nan",)),
        ({"image_size": 4}, ("image size 4", "16 to 512")),
        ({"image_size": 32}, ("raised RuntimeError", "32 x 32 pixels", "--image-size")),
        ({"devices": 2}, ("--devices is 2", "leave --devices out")),
        ({"without": "tpo"}, ("no label 'tpo'", "Close: top", "See them all in the file of --labels")),
        ({"without": "top,middle,bottom"}, ("all 3 labels",)),
        ({"data": "folder:nowhere"}, ("nowhere does not exist",)),
        ({"out": "labels.txt"}, ("--out labels.txt exists",)),
    ],
)
def test_options_that_cannot_be_used(options, says, module, refused) -> None:
    refused(f"{module()}:make", says=says, **options)


# -- a model that does not know its labels


def test_a_model_at_chance_is_refused(module, refused, files) -> None:
    state = own_state()
    torch.save({**state, "fc.weight": torch.zeros(3, 16)}, files / "weights.pt")
    says = (
        "near chance: mean AUC 0.500",
        "--mean, --std, --image-size, the order of the labels, and the data",
    )
    refused(f"{module()}:make", says=says)


def test_one_label_that_is_told_by_luck_does_not_let_a_model_in() -> None:
    """As random weights may do: means above chance, half of the labels not."""
    data = tiny_world().source.test
    scores = np.random.default_rng(0).normal(size=data.target.shape).astype(np.float32)
    scores[:, 0] += 9 * data.target[:, 0]
    measured = measure(scores, data)
    assert measured["macro"]["low"] > 0.55
    assert measured["at_chance"] == ["middle", "bottom"]
    with pytest.raises(ModelError, match="near chance"):
        refuse_chance(measured)
    scores[:, 1] += 9 * data.target[:, 1]
    refuse_chance(measure(scores, data))


def test_a_normalisation_that_blinds_the_model_is_refused(module, refused, adopt) -> None:
    """The network sees what is lighter than the mean: with a mean of 1 that is nothing."""
    name = f"{module(NET.replace('self.conv(x)', 'self.conv(x.clamp(min=0) - 2)'))}:make"
    refused(name, says=("near chance: mean AUC 0.500", "--mean"), mean="1")
    assert adopt(name, mean="0").code == 0


def test_labels_in_the_wrong_order_are_refused_or_named(module, refused, adopt, files) -> None:
    name = f"{module()}:make"
    state = own_state()
    torch.save({**state, "fc.weight": -state["fc.weight"]}, files / "weights.pt")
    refused(name, says=("top, middle, bottom: an AUC below 0.4", "order of the labels is probably wrong"))
    torch.save(state, files / "weights.pt")
    (files / "labels.txt").write_text("middle\nbottom\ntop\n")
    refused(name, says=("near chance",))
    state["fc.weight"][1] *= -1
    torch.save(state, files / "weights.pt")
    (files / "labels.txt").write_text("\n".join(NAMES))
    ran = adopt(name)
    assert (ran.code, "middle: inverted" in ran.out) == (0, True)
    assert record_of(files / "run")["auc"]["inverted"] == ["middle"]


def test_two_swapped_labels_are_named() -> None:
    data = tiny_world().source.test
    noise = np.random.default_rng(0).normal(size=data.target.shape)
    scores = noise + 9 * data.target
    assert measure(scores, data)["swapped"] == []
    assert measure(noise, data)["swapped"] == []
    crossed = measure(scores[:, [2, 1, 0]], data)
    assert crossed["swapped"] == [["top", "bottom"]]
    scores = noise.copy()
    scores[:, 1] += 9 * data.target[:, 2]  # of one direction alone
    assert measure(scores, data)["swapped"] == []


def test_swapped_lines_of_the_labels_are_named_at_adoption(module, refused, adopt, files) -> None:
    name = f"{module()}:make"
    (files / "labels.txt").write_text("middle\ntop\nbottom\n")
    says = "'middle' and 'top': probably swapped, as each output predicts the other's column better"
    refused(name, says=("near chance", says, "swap the two lines in the file of --labels"))
    (files / "labels.txt").write_text("\n".join(NAMES))
    assert adopt(name).code == 0
    record = record_of(files / "run")
    assert record["auc"]["swapped"] == []
    assert not any("swapped" in line for line in lines(record))
    record["auc"]["swapped"] = [["middle", "top"]]  # of two among many labels, a warning
    assert any(line.startswith(f"warning: {says}") for line in lines(record))


@pytest.mark.parametrize(
    ("pairs", "whole"),
    [
        ([("a", "b")], False),
        ([("a", "b"), ("c", "d")], False),
        ([("a", "b"), ("b", "c")], True),
        ([("a", "b"), ("c", "d"), ("e", "f")], True),
    ],
)
def test_many_swapped_labels_mean_that_the_whole_order_is_wrong(pairs, whole) -> None:
    assert ("the order of the whole file of --labels is probably wrong" in swap_advice(pairs)) is whole
    assert ("swap the two lines" in swap_advice(pairs)) is not whole


def test_a_refusal_leaves_a_run_that_was_to_be_replaced(module, adopt, files) -> None:
    name = f"{module()}:make"
    assert adopt(name).code == 0
    before = tree(files / "run")
    assert adopt(name).code == 2
    torch.save({**own_state(), "fc.weight": torch.zeros(3, 16)}, files / "weights.pt")
    assert adopt(name, "--force").code == 2
    assert tree(files / "run") == before


# -- the audit


def test_the_audits_untrained_network_is_the_users_own(adopt, module, world_folder, monkeypatch) -> None:
    from unlabel.audit.inputs.sets import sets_of

    assert adopt(f"{module()}:make").code == 0
    run = engine.start(accelerator="cpu")
    sets = sets_of(load(f"folder:{world_folder}", image_size=16), 0)
    another_process(monkeypatch)
    probe, test = random_init(load_run("run"), sets, run)
    assert probe.features["penultimate"].shape == (128, 16)
    trained = outputs(load_run("run").model, sets.test, run)
    assert np.isfinite(test.logits).all()
    assert not np.allclose(test.logits, trained.logits)


@pytest.mark.parametrize(
    ("most", "said"), [(2, "  and 1 label with a higher AUC"), (1, "  and 2 labels with")]
)
def test_labels_that_are_not_printed_are_counted(most: int, said: str) -> None:
    row = {"low": 0.6, "high": 0.9, "n": 64}
    record = {
        "options": {"network": "small", "mean": [0.5], "std": [0.5]},
        "adopted": {"weights": "w.pt", "notes": []},
        "total": 10,
        "normalisation": {},
        "without": [],
        "fidelity": {"largest_difference": 0.0, "n": 64},
        "auc": {
            "macro": {**row, "value": 0.8},
            "labels": {name: {**row, "value": value} for name, value in (("a", 0.7), ("b", 0.8), ("c", 0.9))},
            "at_chance": [],
            "inverted": [],
        },
    }
    assert any(line.startswith(said) for line in lines(record, most))
