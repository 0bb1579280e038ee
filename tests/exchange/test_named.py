"""Models of transformers, timm and torchvision come in by name, forget, and go back to their libraries."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from unlabel.core.errors import ModelError
from unlabel.core.framing import Framing
from unlabel.exchange.export_hf import processor
from unlabel.forget import retained
from unlabel.models.build import build
from unlabel.models.eraser import Erase, fold_eraser, insert_eraser
from unlabel.models.head import find_head
from unlabel.models.named import preprocessing_of
from unlabel.runs.config import Config
from unlabel.runs.files import read_config
from unlabel.runs.folder import load_run
from unlabel.testing import tiny_world

timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

NAMES = ("top", "middle", "bottom")
TIMM = "timm:test_vit,img_size=16,patch_size=4,embed_dim=16,depth=1"
VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 16,
    "patch_size": 4,
}
RESNET = {"depths": [1, 1], "hidden_sizes": [8, 16], "embedding_size": 8, "layer_type": "basic"}


@pytest.fixture(autouse=True)
def none_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retained, "HELD_BACK", 0)


def pixels() -> torch.Tensor:
    images = torch.from_numpy(tiny_world(images=96).data.images(slice(None)).copy())
    return (images.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25


def logits_of(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    found = model(images)
    return getattr(found, "logits", found)


def taught(model: nn.Module) -> nn.Module:
    """A model that plain torch code has trained on the photos."""
    images, target = pixels(), torch.from_numpy(tiny_world(images=96).data.target).float()
    optimiser = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(25):
        for rows in torch.arange(len(images)).split(32):
            loss = bce(logits_of(model.train(), images[rows]), target[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``vit`` and ``resnet``: what save_pretrained leaves of a model trained with transformers alone."""
    out = tmp_path_factory.mktemp("hf")
    for kind, options in (("vit", VIT), ("resnet", RESNET)):
        config = transformers.AutoConfig.for_model(
            kind,
            **options,
            id2label=dict(enumerate(NAMES)),
            label2id={name: number for number, name in enumerate(NAMES)},
            problem_type="multi_label_classification",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = taught(transformers.AutoModelForImageClassification.from_config(config))
        model.save_pretrained(out / kind)
        made = {"size": {"height": 16, "width": 16}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
        processor = transformers.ViTImageProcessor(**made)
        processor.save_pretrained(out / kind)
    return out


@pytest.fixture
def adopted(command, folders: Path, photos: Path):
    """Adopts a folder as the run ``own``; returns what was printed."""

    def call(kind: str, *flags: object, out: str = "own", code: int = 0):
        data = ["--data", f"folder:{photos}", "--out", out, "--quiet"]
        ran = command("adopt", f"hf:{folders / kind}", *data, *flags)
        assert ran.code == code, ran
        return ran

    return call


def from_folder(folder: Path) -> nn.Module:
    return transformers.AutoModelForImageClassification.from_pretrained(folder, local_files_only=True).eval()


def same(one: torch.Tensor, other: torch.Tensor) -> None:
    """Equal to the rounding of float32, of outputs up to about 10: attention is computed in two ways."""
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


# -- transformers, there and back


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_folder_needs_nothing_else_and_gives_the_outputs_of_transformers(
    kind: str, adopted, folders: Path, tmp_path: Path
) -> None:
    ran = adopted(kind)
    assert (
        f"read from {folders / kind}/preprocessor_config.json: size; mean and std; resize squash, crop 1, bi"
        in ran.out
    )
    record = json.loads((tmp_path / "own" / "unlabel.json").read_text())
    assert record["fidelity"]["largest_difference"] == 0
    assert record["adopted"]["sha256"]
    assert record["versions"]["transformers"] == transformers.__version__
    loaded = load_run("own")
    assert loaded.config.labels == NAMES
    assert (loaded.config.image_size, loaded.config.mean, loaded.config.std) == (16, (0.5,) * 3, (0.25,) * 3)
    assert str(folders) not in (tmp_path / "own" / "config.json").read_text()
    same(loaded.model(pixels()), from_folder(folders / kind)(pixels()).logits)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_an_exported_folder_gives_the_runs_outputs_in_transformers(
    kind: str, adopted, command, tmp_path: Path
) -> None:
    adopted(kind)
    assert command("forget", "head-removal", "own", "--labels", "top", "--out", "less", "--quiet").code == 0
    shutil.rmtree(tmp_path / "own")
    ran = command("export", "less", "--to", "hf")
    assert (ran.code, ran.err, ran.last) == (0, "", "less/export"), ran
    model = from_folder(tmp_path / "less/export")
    same(model(pixels()).logits, load_run("less").model(pixels()))
    assert model.config.id2label == dict(enumerate(NAMES))
    assert model.config.problem_type == "multi_label_classification"
    load_run("less")  # it is still a run


def test_a_dropped_output_is_in_no_part_of_the_folder_and_the_pipeline_agrees(
    adopted, command, tmp_path: Path
) -> None:
    adopted("vit")
    command("forget", "head-removal", "own", "--labels", "middle", "--out", "less", "--quiet")
    ran = command("export", "less", "--to", "hf", "--drop-output", "--out", "back")
    assert (ran.code, ran.last) == (0, "back"), ran
    assert "left out, because forgotten: middle; 2 outputs are left" in ran.out
    assert "middle" not in (tmp_path / "back/config.json").read_text()
    config = json.loads((tmp_path / "back/config.json").read_text())
    assert config["id2label"] == {"0": "top", "1": "bottom"}
    assert config["label2id"] == {"top": 0, "bottom": 1}
    run = load_run("less").model
    same(from_folder(tmp_path / "back")(pixels()).logits, run(pixels())[:, [0, 2]])

    photo = tiny_world(images=96).data.images(slice(0, 1))[0]
    answer = transformers.pipeline("image-classification", model=str(tmp_path / "back"))(
        Image.fromarray(photo)
    )
    expected = run(pixels()[:1])[0, [0, 2]].sigmoid().detach()
    found = {entry["label"]: entry["score"] for entry in answer}
    # the processor of transformers scales by 0.00392156862745098 in float32
    assert found == pytest.approx({"top": float(expected[0]), "bottom": float(expected[1])}, abs=1e-5)


def test_a_folder_that_went_out_comes_in_again(adopted, command, photos: Path, tmp_path: Path) -> None:
    adopted("vit")
    command("export", "own", "--to", "hf", "--out", "back")
    ran = command("adopt", "hf:back", "--data", f"folder:{photos}", "--out", "again", "--quiet")
    assert ran.code == 0, ran
    first, second = load_run("own"), load_run("again")
    assert first.config == second.config
    assert torch.equal(first.model(pixels()), second.model(pixels()))


@pytest.mark.parametrize(("number", "digits"), [("float16", 1e-2), ("bfloat16", 1e-1)])
def test_half_precision_halves_the_file_and_nearly_keeps_the_outputs(
    number: str, digits: float, adopted, command, tmp_path: Path
) -> None:
    adopted("vit")
    command("export", "own", "--to", "hf", "--dtype", number, "--out", "half")
    command("export", "own", "--to", "state-dict", "--dtype", number, "--out", "half.safetensors")
    state = load_file(tmp_path / "half.safetensors")
    kinds = {value.dtype for value in load_file(tmp_path / "half/model.safetensors").values()}
    assert kinds == {value.dtype for value in state.values()} == {getattr(torch, number)}
    model = from_folder(tmp_path / "half").float()
    expected = load_run("own").model(pixels())
    assert (model(pixels()).logits - expected).abs().max() < digits * expected.abs().max()


def test_weights_that_half_precision_cannot_hold_are_refused(command, base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "run")
    state = load_file(tmp_path / "run/model.safetensors")
    state["8.weight"][0, 0] = 1e5
    save_file(state, tmp_path / "run/model.safetensors")
    ran = command("export", "run", "--to", "state-dict", "--dtype", "float16")
    assert (ran.code, ran.out) == (2, "")
    assert "'8.weight' holds numbers beyond float16; export with --dtype bfloat16" in ran.err
    assert command("export", "run", "--to", "state-dict", "--dtype", "bfloat16").code == 0


# -- the erasing layer


def test_an_erasing_layer_goes_out_only_when_it_is_asked_to_be_folded(
    adopted, command, tmp_path: Path
) -> None:
    adopted("vit")
    command("forget", "leace-layer", "own", "--labels", "top", "--out", "less", "--quiet")
    ran = command("export", "less", "--to", "hf")
    assert (ran.code, ran.out) == (2, "")
    assert "which no class of transformers has" in ran.err
    assert not (tmp_path / "less/export").exists()
    ran = command("export", "less", "--to", "hf", "--fold-eraser")
    assert ran.code == 0, ran
    assert ran.out.startswith("WARNING: the erasing layer is computed in the head")
    assert "hold top again" in ran.out
    model, run = from_folder(tmp_path / "less/export"), load_run("less").model
    same(model(pixels()).logits, run(pixels()))


def test_folding_is_exact_in_float64() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3)).double()
        images = torch.randn(5, 3, 2, 2).double()
        erase = Erase(torch.randn(6, 2), torch.randn(2, 6), torch.randn(2), ("a",))
    before = model(images)
    insert_eraser(model, 3, erase)
    erased = model(images)
    assert not torch.allclose(before, erased)
    fold_eraser(model, 3)
    torch.testing.assert_close(model(images), erased, atol=1e-12, rtol=0)
    assert [type(module).__name__ for module in model.modules() if isinstance(module, Erase)] == []
    assert find_head(model, 3)[1]._forward_pre_hooks == {}


@pytest.mark.parametrize(
    ("flag", "says"),
    [("--drop-output", "has forgotten no output"), ("--fold-eraser", "has no erasing layer")],
)
def test_a_change_that_changes_nothing_is_refused(
    flag: str, says: str, command, base: Path, tmp_path
) -> None:
    ran = command("export", base, "--to", "state-dict", "--out", "x.pt", flag)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert not (tmp_path / "x.pt").exists()


# -- timm and torchvision


def test_timm_there_and_back(command, photos: Path, tmp_path: Path) -> None:
    options = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = taught(timm.create_model("test_vit", num_classes=3, **options))
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    files = ["--weights", "weights.pt", "--labels", "labels.txt", "--data", f"folder:{photos}"]
    ran = command("adopt", TIMM, *files, "--std", 0.25, "--mean", 0.5, "--out", "own", "--quiet")
    assert ran.code == 0, ran
    assert "read from timm's configuration of test_vit: size" in ran.out
    assert torch.equal(load_run("own").model(pixels()), model(pixels()))
    command("forget", "head-removal", "own", "--labels", "top", "--out", "less", "--quiet")

    ran = command("export", "less", "--to", "state-dict", "--drop-output")
    assert "timm.create_model('test_vit', num_classes=2, img_size=16" in ran.out
    plain = timm.create_model("test_vit", num_classes=2, **options)
    plain.load_state_dict(torch.load(tmp_path / ran.last, weights_only=True))
    assert torch.equal(plain.eval()(pixels()), model(pixels())[:, 1:])

    ran = command("export", "less", "--to", "state-dict", "--out", "all.safetensors")
    with safe_open(tmp_path / "all.safetensors", "pt") as file:
        assert json.loads(file.metadata()["labels"]) == list(NAMES)
    ran = command("export", "less", "--to", "hf")
    assert (ran.code, "--to hf writes networks of transformers" in ran.err) == (2, True), ran


def test_the_normalisation_of_timm_is_taken_and_said(command, photos: Path, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = taught(build(TIMM, 3))
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    files = ["--weights", "w.safetensors", "--labels", "labels.txt", "--data", f"folder:{photos}"]
    ran = command("adopt", TIMM, *files, "--out", "own", "--quiet")
    assert ran.code == 0, ran
    assert (
        "read from timm's configuration of test_vit: size; mean and std; resize crop, crop 0.95, bicubic"
        in ran.out
    )
    assert "lowest loss" not in ran.out
    config = read_config(Path("own"))
    assert (config.image_size, config.mean, config.std) == (16, (0.5,) * 3, (0.5,) * 3)


def test_onnx_of_a_network_by_name_without_the_forgotten_output(command, adopted, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    adopted("vit")
    command("forget", "head-removal", "own", "--labels", "top", "--out", "less", "--quiet")
    ran = command("export", "less", "--to", "onnx", "--drop-output", "--dtype", "float16")
    assert ran.code == 0, ran
    session = runtime.InferenceSession(str(tmp_path / ran.last), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["labels"]) == ["middle", "bottom"]
    expected = load_run("less").model(pixels())[:, 1:].detach().numpy()
    found = session.run(None, {"image": pixels().numpy()})[0]
    # float16 has 11 bits, outputs are up to about 10, and a few layers add up
    np.testing.assert_allclose(found, expected, atol=0.1)
    ran = command("export", "less", "--to", "onnx", "--dtype", "bfloat16", "--force")
    assert (ran.code, "is not written as ONNX" in ran.err) == (2, True)


# -- training


@pytest.mark.parametrize("name", [TIMM, "hf"])
def test_a_network_by_name_is_trained_from_random_weights(
    name: str, command, folders: Path, photos: Path, tmp_path: Path
) -> None:
    name = f"hf:{folders / 'vit'}" if name == "hf" else name
    data = [f"folder:{photos}", "--image-size", 16, "--epochs", 0.5, "--quiet"]
    ran = command("train", *data, "--model", name, "--out", "run")
    assert ran.code == 0, ran
    loaded = load_run("run")
    assert str(folders) not in loaded.config.network
    assert loaded.record.start == "random"
    assert loaded.record.blueprint is not None
    assert loaded.record.blueprint.network == loaded.config.network
    ran = command("forget", "retrain", "run", "--labels", "top", "--out", "again", "--quiet")
    assert ran.code == 0, ran


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("smal", "--model is 'smal'; expected small.*Close: small"),
        ("nets:make", "a model of your own is trained by your code"),
        ("timm:test_vti", "timm .* has no network 'test_vti'"),
        ("hf:vit", "on images of 16 x 16 pixels"),
        ("hf:no/where", "no folder no/where"),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused_before_it_is(
    name: str, says: str, command, photos: Path, tmp_path: Path
) -> None:
    ran = command("train", f"folder:{photos}", "--image-size", 16, "--model", name, "--out", "run")
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran
    import re

    assert re.search(says, ran.err), ran.err
    assert [*tmp_path.iterdir()] == []


# -- mistakes, and runs from anywhere


def test_what_a_folder_does_not_say_is_asked_for(
    command, folders: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(folders / "vit", tmp_path / "vit")
    config = json.loads((tmp_path / "vit/config.json").read_text())
    config["id2label"] = {str(number): f"LABEL_{number}" for number in range(3)}
    (tmp_path / "vit/config.json").write_text(
        json.dumps(config | {"problem_type": "single_label_classification"})
    )
    data = ["--data", f"folder:{photos}", "--out", "own", "--quiet"]
    ran = command("adopt", "hf:vit", *data)
    assert (ran.code, "has no names for them; name them in order" in ran.err) == (2, True), ran
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    ran = command("adopt", "hf:vit", *data, "--labels", "labels.txt")
    assert ran.code == 0, ran
    assert "config.json says single_label_classification, but the data says multi_label" in ran.out
    assert load_run("own").config.activation == "sigmoid"
    for missing, says in (("--labels", "are not known; give their file with --weights"), ("", "--labels")):
        flags = [missing, "labels.txt"] if missing else []
        ran = command("adopt", TIMM, *flags, "--data", f"folder:{photos}", "--out", "other", "--quiet")
        assert (ran.code, says in ran.err) == (2, True), ran


@pytest.mark.parametrize(
    "network",
    [
        "timm:test_vit,checkpoint_path='weights.pt'",
        "timm:hf-hub:someone/model",
        "hf:/tmp/model",
        "hf:vit,auto_map='evil.Model'",
        "hf:vit,x=__import__('os').system('true')",
        "torchvision:resnet18,weights='DEFAULT'",
    ],
)
def test_a_hostile_run_gets_no_code_and_no_file_read(
    network: str, command, base: Path, tmp_path: Path
) -> None:
    shutil.copytree(base, tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    (tmp_path / "run/config.json").write_text(json.dumps(config | {"network": network}))
    ran = command("export", "run", "--to", "state-dict")
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran


def test_a_network_by_name_is_a_network_of_a_config_and_a_path_is_none(base: Path) -> None:
    config = read_config(base)
    fields = {name: getattr(config, name) for name in config.__dataclass_fields__}
    assert Config(**{**fields, "network": TIMM}).network == TIMM
    with pytest.raises(ModelError, match="expected a name"):
        Config(**{**fields, "network": "hf:/tmp/model"})


@pytest.mark.parametrize(
    "framing", [Framing(), Framing("crop", 0.5, "bilinear"), Framing("squash", 1.0, "lanczos")]
)
def test_what_is_written_about_images_is_read_back(framing: Framing, base: Path, tmp_path: Path) -> None:
    config = replace(read_config(base), **asdict(framing))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor(config)))
    found = preprocessing_of(f"hf:{tmp_path}")
    assert (found.size, found.framing) == ((16, 16), framing)
    assert found.mean == pytest.approx(config.mean)
    assert found.std == pytest.approx(config.std)


def test_a_cut_that_transformers_cannot_make_is_refused_and_a_rounded_one_is_told(
    adopted, command, tmp_path: Path
) -> None:
    """For a cut of 16 x 24 pixels, a processor would scale to 16 and add black."""
    adopted("resnet")
    config = json.loads((tmp_path / "own/config.json").read_text())
    told = {"resize": "crop", "crop_pct": 1.0}
    for size, more, code, says in (
        ([16, 24], told, 2, "cuts pictures to 16 x 24 pixels (height x width), and transformers'"),
        ([16, 24], {"resize": "squash", "crop_pct": 1.0}, 0, "load it with"),
        (16, told | {"crop_pct": 0.9}, 0, "here 18: they cut out 0.8889 of a side, and the run 0.9;"),
        (16, told | {"crop_pct": 0.5}, 0, "load it with"),
    ):
        (tmp_path / "own/config.json").write_text(json.dumps(config | {"image_size": size} | more))
        ran = command(
            "export", "own", "--to", "hf", "--out", f"out-{size}-{more['resize'], more['crop_pct']}"
        )
        assert (ran.code, says in ran.out + ran.err) == (code, True), ran
        assert ("whole pixels" in ran.out) == (more["crop_pct"] == 0.9)


def test_a_folder_is_never_replaced(adopted, command, tmp_path: Path) -> None:
    adopted("vit")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/years.txt").write_text("of work")
    ran = command("export", "own", "--to", "hf", "--out", "mine", "--force")
    assert (ran.code, "a folder is never replaced" in ran.err) == (2, True), ran
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["years.txt"]
