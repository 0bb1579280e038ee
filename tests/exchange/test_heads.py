"""Heads of every layout come in, forget, and go back into the user's own class."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlabel.models import custom
from unlabel.runs.folder import load_run
from unlabel.testing import tiny_world, write_folder

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
