"""The source of a user's network is part of what its kept outputs depend on."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unlabel.audit.inputs.sets import Sets
from unlabel.audit.reading.outputs import read_run as read
from unlabel.core import engine
from unlabel.core.files import write_json
from unlabel.core.recipe import History
from unlabel.models import custom, source
from unlabel.models.build import build
from unlabel.models.source import code_of
from unlabel.runs.config import Config
from unlabel.runs.folder import load_run, write_run
from unlabel.testing import tiny_world

NET = """
from torch import nn
import helper
from parts.middle import Middle

class Net(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.fc = nn.Linear(3 * 16 * 16, outputs)

    def forward(self, x):
        from later import scale
        return self.fc(scale(x.flatten(1)))
"""
FILES = {
    "net.py": NET,
    "helper.py": "import numpy\n",
    "later.py": "def scale(x):\n    return 2 * x\n",
    "parts/__init__.py": "",
    "parts/middle.py": "from . import deep\nfrom .deep import ONE\nclass Middle: ...\n",
    "parts/deep.py": "ONE = 1\n",
    "unrelated.py": "ONE = 1\n",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(custom, "_granted", {})
    monkeypatch.setattr(source, "_digests", {})
    custom.grant("net:Net")
    yield tmp_path
    forget()


def forget() -> None:
    """As in a new process."""
    for name in ("net", "helper", "later", "parts", "parts.middle", "parts.deep"):
        sys.modules.pop(name, None)
    source._digests.clear()


def digest() -> str:
    forget()
    build("net:Net", 3)
    return code_of("net:Net")


def test_whatever_is_imported_from_its_folder_counts_and_nothing_else(project: Path) -> None:
    first = digest()
    assert digest() == first
    for name in FILES:
        text = (project / name).read_text()
        (project / name).write_text(text + "# changed\n")
        assert (digest() != first) == (name != "unrelated.py"), name
        (project / name).write_text(text)
    assert digest() == first
    assert code_of("small") == code_of("resnet18") == ""


def test_what_was_imported_counts_and_not_what_was_written_since(project: Path) -> None:
    first = digest()
    (project / "net.py").write_text(NET.replace("self.fc(", "-self.fc("))
    build("net:Net", 3)  # of the module that Python holds
    assert code_of("net:Net") == first
    assert digest() != first


def test_outputs_are_not_those_of_the_network_before_an_edit(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNLABEL_CACHE", str(project / "cache"))
    where, world = engine.start(accelerator="cpu"), tiny_world().source
    config = Config(
        network="net:Net",
        stem="imagenet",
        labels=world.train.labels,
        forgotten=(),
        image_size=16,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        thresholds=(0.5,) * 3,
    )
    folder = project / "run"
    folder.mkdir()
    write_run(folder, build("net:Net", 3), config, {"method": "adopt"}, History())
    write_json(folder / "unlabel.json", {"method": "adopt"})
    sets = Sets(world.probe, world.test, world.train, "digest", 0)
    before = read(load_run(folder), "before", sets, where).test.logits
    assert np.array_equal(read(load_run(folder), "before", sets, where).test.logits, before)
    for name, old, new in (("net.py", "self.fc(", "-self.fc("), ("later.py", "2 * x", "3 * x")):
        (project / name).write_text(FILES[name].replace(old, new))
        forget()
        after = read(load_run(folder), "before", sets, where).test.logits
        assert not np.array_equal(after, before)
        honest = read(load_run(folder), "before", sets, replace(where), cached=False).test.logits
        assert np.array_equal(after, honest)
        before = after
