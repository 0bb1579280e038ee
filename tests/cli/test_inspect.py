import json
import sys
from pathlib import Path

import pytest

from unlabel.cli.app import main
from unlabel.models import custom


def inspected(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    main(["inspect", *words])
    return capsys.readouterr().out


def test_the_sites_of_a_run_are_shown_with_the_protections_that_read_them(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = json.loads(inspected(capsys, str(base), "--json"))
    assert facts["head"]["labels"] == ["top", "middle", "bottom"]
    by_site = {row["site"]: row for row in facts["sites"]}
    assert by_site["features"]["against"] == ["features", "weights"]
    assert by_site["outputs"]["against"] == ["outputs", "features", "weights"]
    assert by_site["stage1"]["against"] == ["weights"]
    assert by_site["features"]["features"] == facts["head"]["features"]
    text = inspected(capsys, str(base))
    assert all(name in text for name in by_site)
    assert text.splitlines()[-1] == str(base)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["inspect", str(tmp_path)])
    assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, labels):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, stride=4)
        self.heads = nn.ModuleList(nn.Linear(8, 2) for _ in range(labels))

    def forward(self, images):
        shared = self.conv(images).relu().mean((2, 3))
        return torch.stack([head(shared) for head in self.heads], 1)

class Flat(nn.Module):
    def __init__(self, labels):
        super().__init__()
        pool = nn.AdaptiveAvgPool2d(1)
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), pool, nn.Flatten())
        self.last = nn.Linear(8, 2 * labels)

    def forward(self, images):
        return self.last(self.trunk(images))
"""


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes modules into the current folder; gives the flags that name the labels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(custom, "_granted", {})
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("inspected_net", "inspected_own"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "inspected_net.py").write_text(NET)
    (tmp_path / "labels.txt").write_text("top\nmiddle\nbottom\n")
    yield ["--labels", "labels.txt", "--image-size", "32"]
    for name in ("inspected_net", "inspected_own"):
        sys.modules.pop(name, None)


def test_a_model_that_is_no_run_yet_is_drawn(network: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(inspected(capsys, "inspected_net:Net", *network, "--json"))
    assert (facts["problem"], facts["returns"]) == (None, ["a tensor of shape (2, 3, 2)"])
    layers = facts["head"]["layers"]
    assert [(row["module"], row["labels"], row["input"]) for row in layers] == [
        ("heads.0", ["top"], 0),
        ("heads.1", ["middle"], 0),
        ("heads.2", ["bottom"], 0),
    ]
    assert facts["head"]["two_logits"]
    assert [row["site"] for row in facts["sites"]][-2:] == ["features", "outputs"]
    assert "conv" in [row["module"] for row in facts["sites"]], (
        "the user's own names, without ours around them"
    )
    assert [row["module"] for row in facts["candidates"]] == ["heads.0", "heads.1", "heads.2"]
    text = inspected(capsys, "inspected_net:Net", *network)
    assert "heads.1                                  2  two logits each of middle" in text
    assert text.splitlines()[-1] == "inspected_net:Net"


def test_what_is_ambiguous_is_said_with_a_wrapper_that_can_be_adopted_as_it_is(
    network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = json.loads(inspected(capsys, "inspected_net:Flat", *network, "--json"))
    assert "the two logits of a label may lie side by side" in facts["problem"]
    assert [row["module"] for row in facts["candidates"] if row["final"]] == ["last"]
    text = inspected(capsys, "inspected_net:Flat", *network)
    assert facts["problem"] in text
    assert all(line in text for line in facts["write"])
    (tmp_path / "inspected_own.py").write_text("\n".join(facts["write"]))
    again = json.loads(inspected(capsys, "inspected_own:logits", *network, "--json"))
    assert (again["problem"], again["returns"]) == (None, ["a tensor of shape (2, 3, 2)"])
    assert again["head"]["layers"][0]["module"] == "last"


def test_a_networks_builder_and_weights_are_read_as_adopt_reads_them(
    network: list[str], base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = str(base / "model.safetensors")
    facts = json.loads(inspected(capsys, "small", *network, "--weights", weights, "--json"))
    assert facts["head"] == {"module": "8", "features": 128, "labels": ["top", "middle", "bottom"]}
    facts = json.loads(inspected(capsys, "resnet18", *network, "--weights", weights, "--json"))
    assert "does not fit the network" in facts["problem"]
    assert facts["write"] == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["inspected_net:Net"], "needs --labels"),
        (["somewhere", "--image-size", "32"], "needs --labels"),
        (["inspected_net:Net", "--labels", "labels.txt", "--image-size", "5000"], "choose 16 to 512"),
        (["inspected_net:Other", "--labels", "labels.txt"], "'Other' is not there"),
        (["inspected_net:Net", "--labels", "none.txt"], "no file none.txt"),
    ],
)
def test_a_model_that_cannot_be_read_is_refused(
    words: list[str], says: str, network: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["inspect", *words])
    said = capsys.readouterr().err
    assert (stop.value.code, says in said, "Traceback" in said) == (2, True, False), said


def test_a_data_source_is_told_from_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["inspect", "folder:photos"])
    assert ended.value.code == 2
    assert "folder:photos is a data source" in (said := capsys.readouterr().err)
    assert said.rstrip().endswith("unlabel data folder:photos")
