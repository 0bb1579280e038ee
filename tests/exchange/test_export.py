"""A run's model leaves the tool under the user's own names, and plain code reads it."""

import json
import shutil
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from unlabel.core.install import install_command
from unlabel.exchange import export
from unlabel.models import custom
from unlabel.models.build import build
from unlabel.runs.folder import load_run
from unlabel.testing import tiny_world, write_folder

NAMES = ("top", "middle", "bottom")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(autouse=True)
def settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration folder of the test's own."""
    monkeypatch.setenv("UNLABEL_CONFIG", str(tmp_path_factory.mktemp("settings")))
    monkeypatch.setattr(custom, "_granted", {})
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", list(sys.path))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def refused(command, tmp_path: Path):
    """Exports with a mistake: one line, and nothing written."""

    def call(*arguments: object, says: tuple[str, ...]) -> None:
        before = tree(tmp_path)
        ran = command("export", *arguments)
        assert (ran.code, ran.out) == (2, ""), ran
        assert len(ran.err.splitlines()) == 1, ran.err
        for part in says:
            assert part in ran.err, ran.err
        assert tree(tmp_path) == before

    return call


@pytest.fixture
def run(base: Path, tmp_path: Path) -> Path:
    """A run that a test may write into."""
    return Path(shutil.copytree(base, tmp_path / "base"))


def scaled(images: torch.Tensor) -> torch.Tensor:
    """Bytes (image, height, width, 3) as ImageNet's networks want them."""
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in IMAGENET)
    return (images.permute(0, 3, 1, 2) / 255 - mean) / std


# -- the whole way


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, labels.txt, and a ResNet-18 that plain torch code has trained on them: 3 s."""
    from torchvision.models import resnet18

    folder = tmp_path_factory.mktemp("resnet")
    world = tiny_world(images=256)
    write_folder(folder / "photos", world.source)
    (folder / "labels.txt").write_text("\n".join(NAMES))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = resnet18(num_classes=3)
    images = scaled(torch.from_numpy(world.data.images(slice(None)).copy()))
    target = torch.from_numpy(world.data.target).float()
    optimiser = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for _ in range(3):
        for rows in torch.arange(len(images)).split(32):
            loss = bce(model(images[rows]), target[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    torch.save(model.state_dict(), folder / "weights.pt")
    return folder


@pytest.mark.slow
def test_a_model_from_elsewhere_forgets_is_audited_and_goes_back(command, resnet: Path, tmp_path) -> None:
    """The scripted walk, with torchvision's ResNet-18 at 16 pixels: 10 s."""
    from torchvision.models import resnet18

    files = ["--weights", resnet / "weights.pt", "--labels", resnet / "labels.txt", "--image-size", 16]
    ran = command("adopt", "resnet18", *files, "--data", f"folder:{resnet}/photos", "--out", "own", "--quiet")
    assert (ran.code, ran.err, ran.last) == (0, "", "own")
    record = json.loads((tmp_path / "own" / "unlabel.json").read_text())
    assert record["auc"]["macro"]["value"] > 0.9
    assert record["fidelity"]["largest_difference"] == 0
    own = torch.load(resnet / "weights.pt", weights_only=True)
    kept = load_file(tmp_path / "own" / "model.safetensors")
    assert list(kept) != []
    assert all(torch.equal(kept[name], value) for name, value in own.items())

    forget = ["forget", "confusion", "own", "--labels", "top", "--out", "less", "--steps", 3, "--quiet"]
    assert command(*forget).code == 0
    ran = command("audit", "less", "--before", "own", "--quiet")
    # whether three steps harm the retained labels too much differs between processors
    assert (ran.code, ran.out.split()[0], "NO REFERENCE" in ran.out) == (0, "DISABLED,", True), ran
    assert command("report", "less").code == 0
    assert json.loads(command("predict", "less", resnet / "photos/images/00000.png", "--json").out)

    shutil.rmtree(tmp_path / "own")
    ran = command("export", "less", "--to", "state-dict")
    assert (ran.code, ran.last) == (0, "less/export.pt")
    assert "torch.load('less/export.pt', weights_only=True)" in ran.out
    state = torch.load(tmp_path / ran.last, weights_only=True)
    assert list(state) == list(own)
    plain = resnet18(num_classes=3)
    plain.load_state_dict(state)
    images = scaled(torch.from_numpy(tiny_world().source.test.images(slice(0, 40)).copy())).contiguous()
    with torch.no_grad():
        outside, inside = plain.eval()(images), load_run("less").model(images)
    assert torch.equal(outside, inside)
    assert outside.std(0).gt(0).tolist() == [False, True, True]


# -- state dicts


def test_a_trained_run_is_written_as_safetensors_by_default(command, run, tmp_path) -> None:
    ran = command("export", run, "--to", "state-dict")
    assert (ran.code, ran.err, ran.last) == (0, "", str(run / "export.safetensors"))
    assert "safetensors.torch.load_file(" in ran.out
    assert "model is small, with 3 outputs" in ran.out
    model = build("small", 3, seed=9)
    model.load_state_dict(load_file(ran.last))
    expected = load_run(run).model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    load_run(run)  # it is still a run


@pytest.mark.parametrize("ending", [".pt", ".pth", ".safetensors"])
def test_the_ending_chooses_the_container(ending: str, command, run, tmp_path) -> None:
    ran = command("export", run, "--to", "state-dict", "--out", f"weights{ending}")
    file = tmp_path / ran.last
    state = load_file(file) if ending == ".safetensors" else torch.load(file, weights_only=True)
    assert type(state) is dict
    expected = load_run(run).model.state_dict()
    assert {name: value.tolist() for name, value in state.items()} == {
        name: value.tolist() for name, value in expected.items()
    }


@pytest.mark.parametrize("container", ["safetensors", "torch"])
def test_the_users_names_come_back_from_a_child_whose_parent_is_gone(
    container: str, command, base: Path, photos: Path, tmp_path: Path
) -> None:
    """A prefix that was taken off is put back; BatchNorm counters that were filled in are left out."""
    state = {
        f"module.{name}": value
        for name, value in load_run(base).model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    write = save_file if container == "safetensors" else torch.save
    write(state, tmp_path / "given")
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    adopt = ["adopt", "small", "--weights", "given", "--labels", "labels.txt", "--data", f"folder:{photos}"]
    ran = command(*adopt, "--image-size", 16, "--mean", 0.5, "--std", 0.25, "--out", "own", "--quiet")
    assert (ran.code, "set 6 BatchNorm counters to 0" in ran.out) == (0, True), ran
    command("forget", "head-removal", "own", "--labels", "top", "--out", "one", "--quiet")
    command("forget", "head-removal", "one", "--labels", "bottom", "--out", "two", "--quiet")
    shutil.rmtree(tmp_path / "own")
    shutil.rmtree(tmp_path / "one")
    ran = command("export", "two", "--to", "state-dict")
    assert ran.last == ("two/export.safetensors" if container == "safetensors" else "two/export.pt")
    assert "whose names begin with 'module.'" in ran.out
    assert "constant, because forgotten: top, bottom" in ran.out
    read = load_file if container == "safetensors" else torch.load
    found = read(tmp_path / ran.last)
    assert set(found) == set(state)
    changed = [name for name, value in found.items() if not torch.equal(value, state[name])]
    assert set(changed) == {"module.8.weight", "module.8.bias"}


# -- mistakes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["base", "--to", "torch"], ("torch", "state-dict", "onnx")),
        (["base"], ("--to",)),
        (["nowhere", "--to", "state-dict"], ("no run folder nowhere",)),
        (["base", "--to", "state-dict", "--out", "weights.bin"], ("the ending '.bin'", ".pt or .pth")),
        (["base", "--to", "onnx", "--out", "weights.pt"], ("the ending '.pt'", "expected .onnx")),
        (["base", "--to", "state-dict", "--out", "base/config.json"], ("the ending '.json'",)),
    ],
)
def test_exports_that_are_refused(arguments, says, refused, run) -> None:
    refused(*arguments, says=says)


def test_a_file_is_only_replaced_by_force(command, refused, run, tmp_path) -> None:
    mine = tmp_path / "mine.pt"
    mine.write_text("years")
    refused(run, "--to", "state-dict", "--out", "mine.pt", says=("mine.pt exists", "--force"))
    assert command("export", run, "--to", "state-dict", "--out", "mine.pt", "--force").code == 0
    assert len(torch.load(mine, weights_only=True)) == len(load_run(run).model.state_dict())
    (tmp_path / "folder.pt").mkdir()
    flags = ["--to", "state-dict", "--out", "folder.pt", "--force"]
    refused(run, *flags, says=("folder.pt exists", "a folder is never replaced"))


def test_a_disk_that_is_full_leaves_the_old_file(command, run, tmp_path, monkeypatch) -> None:
    import os

    (tmp_path / "mine.pt").write_text("years")
    before = tree(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    ran = command("export", run, "--to", "state-dict", "--out", "mine.pt", "--force")
    assert (ran.code, "No space left" in ran.err) == (2, True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_a_missing_package_is_named_with_how_to_install_it(missing: str, refused, run, monkeypatch) -> None:
    def without(name: str):
        if name == missing:
            raise ImportError(name)
        return object()

    monkeypatch.setattr(export, "import_module", without)
    says = (f"needs the package '{missing}'", install_command("onnx"))
    refused(run, "--to", "onnx", says=says)


# -- ONNX


@pytest.fixture
def onnx():
    pytest.importorskip("onnxscript")
    return pytest.importorskip("onnx")


def evaluate(file: Path, images: torch.Tensor) -> np.ndarray:
    return (
        import_module("onnx.reference").ReferenceEvaluator(str(file)).run(None, {"image": images.numpy()})[0]
    )


def test_an_onnx_file_gives_the_runs_outputs_and_says_what_they_are(onnx, command, run, tmp_path) -> None:
    command("forget", "head-removal", run, "--labels", "middle", "--out", "less", "--quiet")
    ran = command("export", "less", "--to", "onnx")
    assert (ran.code, ran.err, ran.last) == (0, "", "less/export.onnx")
    assert "checked by " in ran.out
    loaded = load_run("less")
    for batch in (1, 4):
        images = torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            expected = loaded.model(images).numpy()
        # float32 sums in another order, of outputs up to about 1
        np.testing.assert_allclose(evaluate(tmp_path / ran.last, images), expected, atol=1e-4)
    facts = {entry.key: entry.value for entry in onnx.load(tmp_path / ran.last).metadata_props}
    assert json.loads(facts["labels"]) == list(NAMES)
    assert json.loads(facts["forgotten"]) == ["middle"]
    assert (json.loads(facts["mean"]), json.loads(facts["std"])) == ([0.5] * 3, [0.25] * 3)
    assert (facts["image_size"], facts["activation"], facts["run_sha256"]) == ("16", "sigmoid", loaded.sha256)


def test_without_a_runtime_the_file_is_checked_by_onnx_itself(onnx, command, run, monkeypatch) -> None:
    def without(name: str):
        if name == "onnxruntime":
            raise ImportError(name)
        return import_module(name)

    monkeypatch.setattr(export, "import_module", without)
    assert "checked by onnx's reference" in command("export", run, "--to", "onnx").out


def test_an_onnx_file_that_answers_otherwise_is_not_written(onnx, refused, run, monkeypatch) -> None:
    wrong = ("a runtime", lambda images: np.full((len(images), 3), 9.0))
    monkeypatch.setattr(export, "_evaluator", lambda content: wrong)
    refused(run, "--to", "onnx", says=("from the run's, so it was not written", "--to state-dict"))


def test_the_constant_of_a_removed_class_allows_the_others_no_more(onnx, refused, run, monkeypatch) -> None:
    """A thousandth of -10,000 would be 10 logits."""
    weights = load_file(run / "model.safetensors")
    for value in weights.values():
        if value.shape[:1] == (3,):  # the head
            value[0] = 0.0 if value.ndim == 2 else -1e4
    save_file(weights, run / "model.safetensors")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "forgotten": ["top"], "activation": "softmax"}))
    honest = export._evaluator

    def off(content: bytes):
        name, evaluate = honest(content)
        return name, lambda images: evaluate(images) + np.array([0.0, 5.0, -5.0])

    monkeypatch.setattr(export, "_evaluator", off)
    refused(run, "--to", "onnx", says=("outputs up to 5 from the run's, so it was not written",))


CUSTOM = """
from torch import nn

class make(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, stride=4)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.conv(x).relu()
        BRANCH
        return self.fc(x.view(x.size(0), -1))
"""


@pytest.mark.parametrize("branch", ["pass", "x = x if x.sum().item() > 0 else -x"])
def test_a_users_own_network_is_written_or_refused(
    branch: str, onnx, command, refused, run, tmp_path
) -> None:
    name = f"own_{'pass' if branch == 'pass' else 'branch'}"
    (tmp_path / f"{name}.py").write_text(CUSTOM.replace("BRANCH", branch))
    custom.grant(f"{name}:make")
    model: nn.Module = build(f"{name}:make", 3)
    save_file(model.state_dict(), run / "model.safetensors")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "network": f"{name}:make"}))
    if branch == "pass":
        ran = command("export", run, "--to", "onnx")
        assert ran.code == 0, ran
        images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        # float32 sums in another order
        np.testing.assert_allclose(evaluate(Path(ran.last), images), model.eval()(images).detach(), atol=1e-5)
        content = Path(ran.last).read_bytes()
        assert b"stack_trace" not in content  # paths, and lines of the user's source
        assert b".py" not in content
        assert {item.key for item in onnx.load(ran.last).metadata_props} >= {"labels", "mean", "run_sha256"}
        assert f"model is make of {name}" in command("export", run, "--to", "state-dict").out
    else:
        refused(run, "--to", "onnx", says=("cannot be written as ONNX", "--to state-dict"))
