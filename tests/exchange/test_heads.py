"""Heads of every layout come in, forget, and go back into the user's own class."""

import importlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlabel.forget.methods import METHODS as CATALOGUE
from unlabel.models import custom
from unlabel.models.final_layers import find_layout
from unlabel.models.normal_form import normal_form
from unlabel.runs.folder import load_run
from unlabel.testing import check_unlearner, tiny_world, write_folder

NAMES = ("top", "middle", "bottom")
MODULE = "heads_networks"
HERE = Path(__file__).parent
LAYOUTS = {
    "OneLinear": (),
    "List": (),
    "ListReturned": (),
    "DictReturned": (),
    "Mlps": (),
    "Mlp": (),
    "Mlp with its trunk": ("--features", "hidden"),
    "Pairs": (),
    "PairsOfClasses": (),
    "PairsInSoftmax": (),
    "PairHeads": (),
    "DictWithFeatures": (),
    "TupleWithFeatures": (),
    "Sigmoid": (),
    "NoBias": (),
    "ConvolutionAfterPooling": (),
    "ConvolutionBeforePooling": (),
    "TwoCandidates": ("--logits", "new"),
    "unscaled": (),
}
METHODS = {
    "erasure": ("--rounds", 1),
    "weight-filtering": ("--steps", 1),
    "deep-probes": ("--steps", 2),
}
EXACT = {"atol": 2e-5, "rtol": 1e-5}  # float32 sums in another order, of logits up to about 10


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "photos", tiny_world(images=128).source)


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The module of networks, as a user has it in the current folder."""
    monkeypatch.setenv("UNLABEL_CONFIG", str(tmp_path / "settings"))
    monkeypatch.setattr(custom, "_granted", {})
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)
    shutil.copy(HERE / f"{MODULE}.py", tmp_path)
    sys.modules.pop(MODULE, None)
    yield importlib.import_module(MODULE)
    sys.modules.pop(MODULE, None)


def made(networks, name: str) -> nn.Module:
    """A network with the rows of the tiny world's trained one."""
    torch.manual_seed(1)
    network = getattr(networks, name.split()[0])(3)
    plain = tiny_world().model
    with torch.no_grad():
        network.fill_trunk(plain[0], plain[3])
        network.fill(plain[5].weight / 4, plain[5].bias / 4)  # a sigmoid's 1 - 1e-8 cannot be undone
    return network.eval()


@pytest.fixture
def adopt(command, networks, photos: Path, tmp_path: Path):
    """Runs ``unlabel adopt`` on a network of the module."""

    def call(name: str, *flags: object):
        network = made(networks, name)
        torch.save(network.state_dict(), tmp_path / "weights.pt")
        (tmp_path / "labels.txt").write_text("\n".join(NAMES))
        line = ["adopt", f"{MODULE}:{name.split()[0]}", "--weights", "weights.pt", "--labels", "labels.txt"]
        line += ["--data", f"folder:{photos}", "--image-size", 16, "--mean", 0.5, "--std", 0.25]
        return network, command(*line, "--out", "own", "--quiet", *flags)

    return call


def pictures() -> Tensor:
    shown = tiny_world(images=128).source.test.images(slice(0, 16))
    return ((torch.from_numpy(np.array(shown)).permute(0, 3, 1, 2) / 255.0) - 0.5) / 0.25


@torch.no_grad()
def by_hand(network: nn.Module) -> Tensor:
    """A network's logits, as its class reads them from what it returns."""
    return network.logits(network(pictures()))


@torch.no_grad()
def of_run(run: str) -> Tensor:
    return load_run(run).model(pictures())


# -- every layout


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_comes_in_forgets_and_goes_back(name: str, adopt, command, networks, photos) -> None:
    network, ran = adopt(name, *LAYOUTS[name])
    assert (ran.code, ran.last) == (0, "own"), ran
    torch.testing.assert_close(of_run("own"), by_hand(network), **EXACT)
    for method, flags in METHODS.items():
        ran = command(
            "forget", method, "own", "--labels", "top", "--out", method, "--force", "--quiet", *flags
        )
        assert ran.code == 0, ran
        ran = command("export", method, "--to", "state-dict")
        assert ran.code == 0, ran
        again = getattr(networks, name.split()[0])(3).eval()
        again.load_state_dict(torch.load(ran.last, weights_only=True))  # strictly
        inside, outside = of_run(method), by_hand(again)
        assert inside.std(0).gt(1e-3).tolist() == [False, True, True]
        if name == "NoBias":  # a constant that no bias holds
            assert "no bias, so a removed output is 0" in ran.out
            inside[:, 0] = 0.0
        torch.testing.assert_close(outside, inside, **EXACT)
        assert not torch.allclose(inside[:, 1:], of_run("own")[:, 1:], atol=1e-3), (
            "nothing but the head moved"
        )
    image = photos / "images" / "00000.png"
    said = json.loads(command("predict", method, image, "--json").out)[0]["labels"]
    assert said["top"] is None
    assert 0 < said["middle"] < 1


OTHERS = ("auto", "retrain", "scrub", "unsir", *METHODS)
"""Methods that take long, or are above."""


@pytest.mark.parametrize("method", [name for name in CATALOGUE if name not in OTHERS])
def test_every_method_keeps_its_promises_on_a_normal_form(method: str, networks) -> None:
    network = made(networks, "Mlps")
    for head in network.heads:
        head[2] = nn.Identity()  # a dropout draws its own random numbers
    joined = normal_form(network, find_layout(network, NAMES, pictures()).layout).eval()
    options = {"steps": 2} if "steps" in CATALOGUE[method].options() else {}
    check_unlearner(method, world=replace(tiny_world(), model=joined), random=False, **options)


@pytest.mark.parametrize("name", ["Mlp with its trunk", "ConvolutionBeforePooling"])
def test_a_normal_form_is_written_as_onnx(name: str, adopt, command, tmp_path) -> None:
    pytest.importorskip("onnxscript")
    adopt(name, *LAYOUTS[name])
    ran = command("export", "own", "--to", "onnx")
    assert (ran.code, ran.last) == (0, "own/export.onnx"), ran
    reference = importlib.import_module("onnx.reference").ReferenceEvaluator(str(tmp_path / ran.last))
    found = reference.run(None, {"image": pictures().numpy()})[0]
    np.testing.assert_allclose(found, of_run("own"), atol=1e-4)


def test_two_requests_one_after_another_and_a_reference_trained_anew(adopt, command, networks) -> None:
    adopt("Mlps")
    command("forget", "head-removal", "own", "--labels", "top", "--out", "one", "--quiet")
    ran = command("forget", "neg-grad", "one", "--labels", "middle", "--out", "two", "--steps", 2, "--quiet")
    assert ran.code == 0, ran
    assert of_run("two").std(0).gt(0).tolist() == [False, False, True]
    again = networks.Mlps(3).eval()
    again.load_state_dict(torch.load(command("export", "two", "--to", "state-dict").last, weights_only=True))
    torch.testing.assert_close(by_hand(again), of_run("two"), **EXACT)


@pytest.mark.parametrize(
    ("name", "method", "says"),
    [
        ("Mlps", "leace-head", "features that its own layer does not read"),
        ("Mlps", "leace-layer", "takes directions out of the features"),
        ("List", "leace-layer", "takes directions out of the features"),
    ],
)
def test_an_edit_without_a_way_back_is_not_written_as_a_state_dict(
    name: str, method: str, says: str, adopt, command, tmp_path
) -> None:
    adopt(name)
    assert command("forget", method, "own", "--labels", "top", "--out", "less", "--quiet").code == 0
    ran = command("export", "less", "--to", "state-dict")
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert "--to onnx" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not (tmp_path / "less" / "export.pt").exists()


def test_a_state_dict_that_gives_other_outputs_in_a_new_network_is_not_written(
    adopt, command, networks, tmp_path, monkeypatch
) -> None:
    """As of a class that ties its final layer to another one: whichever name is loaded last counts."""
    adopt("TwoCandidates", "--logits", "new")
    assert command("forget", "head-removal", "own", "--labels", "top", "--out", "less", "--quiet").code == 0
    build = networks.TwoCandidates.build

    def tied(self, labels):
        build(self, labels)
        self.other.weight = self.fc.weight

    monkeypatch.setattr(networks.TwoCandidates, "build", tied)
    ran = command("export", "less", "--to", "state-dict")
    assert (ran.code, ran.out) == (2, ""), ran
    assert "a new network with the weights to write gives outputs up to" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not (tmp_path / "less" / "export.pt").exists()


def test_features_that_are_named_are_not_hidden_by_a_layer_before_the_head(adopt, command) -> None:
    adopt("Mlp", "--features", "hidden")
    ran = command("forget", "leace-layer", "own", "--labels", "top", "--out", "less", "--quiet")
    assert (ran.code, "leaves 'hidden'" in ran.err) == (2, True), ran


def test_a_probe_of_named_features_finds_what_the_head_does_not_read(adopt) -> None:
    """The features of a run are the head's input and what the named module makes, in that order."""
    network, _ = adopt("Mlp", "--features", "hidden")
    model = load_run("own").model
    with torch.no_grad():
        hidden = network.hidden(network.conv(pictures()).relu().flatten(1))
        read = model.read(pictures())
    torch.testing.assert_close(read[:, 16:], hidden, **EXACT)
    assert not model.head.weight[:, 16:].any()


def test_two_logits_in_the_other_order_are_named(adopt, networks, monkeypatch) -> None:
    def turned(self, weight, bias):
        self.fc.weight[0::2], self.fc.weight[1::2] = weight, -weight
        self.fc.bias[0::2], self.fc.bias[1::2] = bias, -bias

    monkeypatch.setattr(networks.Pairs, "fill", turned)
    _, ran = adopt("Pairs")
    assert (ran.code, "the first of a label's two logits may be 'present'" in ran.err) == (2, True), ran


# -- what the page says


PAGE = HERE.parents[1] / "docs" / "heads.md"
REFUSED = {
    "FlatPairs": "may lie side by side or one after another",
    "Scaled": "not those of its last linear layer 'fc'",
    "LargestPosition": "not those of its final layers 'fc'",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_layout_that_is_not_found_is_refused_by_what_was_found(name: str, adopt, tmp_path) -> None:
    _, ran = adopt(name)
    assert (ran.code, ran.out) == (2, "")
    assert REFUSED[name] in ran.err
    assert "`unlabel inspect` prints" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not (tmp_path / "own").exists()


def test_classes_in_a_softmax_are_adopted_with_data_of_one_class_an_image(
    command, networks, tmp_path: Path
) -> None:
    source = tiny_world().source
    parts = ("train", "probe", "test")
    one = {part: getattr(source, part).take(getattr(source, part).target.sum(1) == 1) for part in parts}
    write_folder(tmp_path / "photos", replace(source, **one))
    network = made(networks, "Softmax")
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    line = [
        "--weights",
        "weights.pt",
        "--labels",
        "labels.txt",
        "--data",
        "folder:photos",
        "--image-size",
        16,
    ]
    ran = command(
        "adopt", f"{MODULE}:Softmax", *line, "--mean", 0.5, "--std", 0.25, "--out", "own", "--quiet"
    )
    assert (ran.code, load_run("own").config.activation) == (0, "softmax"), ran
    torch.testing.assert_close(of_run("own").log_softmax(1), by_hand(network), **EXACT)


def test_the_page_names_every_layout_and_what_to_do() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    said = {row[3].strip().strip("`"): row[2].strip().strip("`") for row in rows if "`" in row[3]}
    done = {name: " ".join(flags) or "works" for name, flags in LAYOUTS.items() if name != "unscaled"}
    done |= {"Softmax": "works", "FlatPairs": "write a wrapper", "Scaled": "write a wrapper"}
    assert said == {**done, "LargestPosition": "train another head"}


def test_the_wrapper_of_the_page_gives_the_logits(networks, tmp_path: Path) -> None:
    """It stands for `unscaled`, which is adopted above."""
    text = PAGE.read_text("utf-8").split("```python\n")[1].split("```")[0]
    space: dict = {}
    exec(text.replace("from nets import make", f"from {MODULE} import Scaled as make"), space)
    network = made(networks, "Scaled")
    wrapped = space["logits"](3).eval()
    wrapped.load_state_dict(network.state_dict())
    torch.testing.assert_close(wrapped(pictures()) * 4, network(pictures()))


HOSTILE = {
    "no object": 7,
    "another module": {
        "layers": [{"module": "conv", "outputs": 3, "features": 16, "reads": 0, "bias": True}]
    },
    "code": {"layers": [{"module": "__init__()", "outputs": 3, "features": 16, "reads": 0, "bias": True}]},
    "a dunder": {"layers": [{"module": "__class__", "outputs": 3, "features": 16, "reads": 0, "bias": True}]},
    "too large": {"layers": [{"module": "fc", "outputs": 3, "features": 10**12, "reads": 0, "bias": True}]},
    "rows twice": {"rows": [[0], [0], [1]]},
    "features of nobody": {"features": "nobody", "width": 16},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_config_with_another_head_is_refused_in_one_line(kind: str, adopt, command, tmp_path) -> None:
    adopt("DictWithFeatures")
    file = tmp_path / "own" / "config.json"
    config = json.loads(file.read_text("utf-8"))
    changed = HOSTILE[kind]
    head = {**config["head"], **changed} if isinstance(changed, dict) else changed
    file.write_text(json.dumps({**config, "head": head}))
    ran = command("inspect", "own")
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran
    assert "Traceback" not in ran.err


def test_a_run_from_before_heads_were_recorded_is_read(adopt, tmp_path) -> None:
    adopt("OneLinear")
    file = tmp_path / "own" / "config.json"
    config = json.loads(file.read_text("utf-8"))
    assert config.pop("head") is None
    expected = of_run("own")
    file.write_text(json.dumps(config))
    assert torch.equal(of_run("own"), expected)
