"""Networks of timm, torchvision and transformers by name: what is built, what a hostile name cannot do."""

import importlib
import json
import socket
from pathlib import Path

import pytest
import torch
from torch import nn

from unlabel.core.errors import CheckpointMismatch, MissingFiles, ModelError, OptionError
from unlabel.core.framing import Framing
from unlabel.models import named_options, named_size
from unlabel.models.build import build
from unlabel.models.custom import is_custom
from unlabel.models.head import find_head
from unlabel.models.named import check_input, preprocessing_of, resolve
from unlabel.models.named_folder import load_folder, read_folder
from unlabel.models.named_options import packages_of, parse_named
from unlabel.models.source import code_of
from unlabel.testing import differing

timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

VIT = "timm:test_vit,img_size=16,patch_size=4,embed_dim=16,depth=1"
HF_VIT = (
    "hf:vit,hidden_size=16,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32,image_size=16,"
    "patch_size=4"
)


def images(count: int = 2, side: int = 16) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(3))


# -- what is built


@pytest.mark.parametrize(
    ("name", "head"),
    [
        (VIT, "head"),
        ("timm:test_efficientnet", "classifier"),
        ("torchvision:resnet18", "fc"),
        (HF_VIT, "classifier"),
        ("hf:resnet,depths=[1],hidden_sizes=[8],embedding_size=8,layer_type=basic", "classifier.1"),
    ],
)
def test_a_network_by_name_gives_one_logit_a_label(name: str, head: str) -> None:
    model = build(name, 5).eval()
    assert model(images()).shape == (2, 5)
    assert find_head(model, 5)[0] == head


def test_a_network_by_name_is_the_librarys_own() -> None:
    own = timm.create_model("test_vit", num_classes=3, img_size=16, patch_size=4, embed_dim=16, depth=1)
    model = build(VIT, 3)
    assert list(own.state_dict()) == list(model.state_dict())
    own.load_state_dict(model.state_dict())
    assert torch.equal(own.eval()(images()), model.eval()(images()))


@pytest.mark.parametrize("name", [VIT, HF_VIT])
def test_the_seed_decides_the_weights_and_the_callers_state_stays(name: str) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert differing(build(name, 3, seed=1), build(name, 3, seed=1)) == []
    assert differing(build(name, 3, seed=1), build(name, 3, seed=2)) != []
    assert torch.equal(torch.get_rng_state(), before)


def test_the_networks_of_torchvision_with_more_outputs_in_training_have_one() -> None:
    assert isinstance(build("torchvision:googlenet", 2).train()(images(2, 64)), torch.Tensor)


# -- names


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("timm:a", {}),
        ("timm:a,x=1,y=-2.5", {"x": 1, "y": -2.5}),
        ("timm:a.b_in1k,x=gelu,y='gelu_tanh'", {"x": "gelu", "y": "gelu_tanh"}),
        ("timm:a,x=true,y=False,z=none", {"x": True, "y": False, "z": None}),
        ("timm:a,x=(1, 2),y=[[1],[2]]", {"x": (1, 2), "y": [[1], [2]]}),
        ("hf:a-b,x={'y': 1}", {"x": {"y": 1}}),
    ],
)
def test_options_are_read_and_written_back(text: str, options: dict[str, object]) -> None:
    named = parse_named(text)
    assert named.options == options
    assert parse_named(str(named)) == named


@pytest.mark.parametrize(
    "text",
    [
        *("timm:", "timm:,x=1", "timm:a b", "timm:/etc/passwd", "timm:hf-hub:some/model", "hf:../x"),
        *("timm:a,", "timm:a,x", "timm:a,1", "timm:a,*x", "timm:a,**x", "timm:a,x=1,x=2"),
        *("timm:a,x=1),g(y=2", "timm:a,x=1)(y=2", "timm:a,x=1).g(y=2", "timm:a,x=f()", "timm:a,x=y.z"),
        *(
            "timm:a,x=lambda: 1",
            "timm:a,x='../weights.pt'",
            "timm:a,x='a b'",
            "timm:a,x=b'1'",
            "timm:a,x={1}",
        ),
        *("timm:a,x=1000000", "timm:a,x=1e400", "timm:a,x=2**99", "timm:a,x={1: 2}", "timm:a,x=[f]"),
        "timm:a,x=" + "[" * 50 + "]" * 50,
        "timm:a,x=" + "-" * 3000 + "1",
        "timm:a,x='" + "y" * 5000 + "'",
    ],
)
def test_what_is_no_plain_option_is_refused(text: str) -> None:
    with pytest.raises(OptionError):
        parse_named(text)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("timm:test_vti", "no network 'test_vti'.*Close: test_vit"),
        ("timm:test_vit,checkpoint_path=x", "'checkpoint_path', which names a file"),
        (
            "timm:test_vit,pretrained_cfg_overlay={'file': 'x'}",
            "'pretrained_cfg_overlay', which names a file",
        ),
        ("timm:test_vit,pretrained=true", "'pretrained', which names a file"),
        ("timm:test_vit,num_classes=3", "the labels give the number of outputs"),
        ("torchvision:resnet8", "no classification network 'resnet8'.*Close"),
        ("torchvision:fcn_resnet50", "no classification network"),
        ("torchvision:resnet18,weights=DEFAULT", "'weights', which names weights"),
        ("hf:vitt", "no image classifier of the type 'vitt'.*Close: vit"),
        ("hf:timm_wrapper,architecture=test_vit", "no image classifier of the type 'timm_wrapper'"),
        ("hf:vit,hiden_size=8", "'hiden_size', which says nothing.*Close: hidden_size"),
        ("hf:vit,auto_map=x", "'auto_map', which says nothing"),
        ("hf:vit,attn_implementation=x", "'attn_implementation', which says nothing"),
        ("hf:vit,_attn_implementation=x", "'_attn_implementation', which says nothing"),
        ("hf:vit,num_labels=9", "'num_labels', which says nothing"),
        ("hf:siglip,vision_config={'auto_map': x}", "no plain value"),
        ("hf:siglip,vision_config={'auto_map': 'x'}", "'auto_map', which says nothing"),
    ],
)
def test_a_name_that_the_library_does_not_know_or_must_not_get_is_refused(name: str, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        build(name, 3)


def test_an_option_that_the_library_refuses_is_named() -> None:
    with pytest.raises(ModelError, match=r"timm cannot build .*TypeError.*'foo'.*check its options"):
        build("timm:test_vit,foo=1", 3)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hf:vit,hidden_size=99999,intermediate_size=99999,num_attention_heads=1", "too many weights"),
        ("timm:swin_tiny_patch4_window7_224,window_size=2000,img_size=4000", "too many weights"),
        ("hf:vit,hidden_size=2,num_attention_heads=1,intermediate_size=1,num_hidden_layers=99999", "modules"),
    ],
)
def test_a_network_that_would_fill_the_memory_is_refused_before_it_does(
    name: str, says: str, monkeypatch
) -> None:
    monkeypatch.setattr(named_size, "MOST_MODULES", 2000)
    with pytest.raises(ModelError, match=says):
        build(name, 3)


def test_nothing_is_looked_up_on_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("it opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    for name in (VIT, "timm:test_vit.r160_in1k", HF_VIT, "torchvision:resnet18"):
        build(name, 3)
        preprocessing_of(name)


def test_a_name_is_never_imported_as_a_module_of_the_users(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "hf.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.chdir(tmp_path)
    assert not is_custom("hf:make")
    with pytest.raises(OptionError, match="no image classifier of the type 'make'"):
        build("hf:make", 3)


@pytest.mark.parametrize(("kind", "package"), [("timm", "timm"), ("hf", "transformers")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(kind, package, monkeypatch) -> None:
    def without(name: str):
        if name == package:
            raise ImportError(name)
        return importlib.import_module(name)

    monkeypatch.setattr(named_options, "import_module", without)
    with pytest.raises(OptionError, match=rf"need the package '{package}'.*pip install .*\[{kind}\]"):
        build(f"{kind}:vit", 3)


def test_kept_outputs_depend_on_the_name_where_the_weights_do_not_tell_it() -> None:
    """Two numbers of attention heads have weights of the same shapes, and other outputs."""
    two, one = HF_VIT, HF_VIT.replace("num_attention_heads=2", "num_attention_heads=1")
    assert code_of(two) != code_of(one)
    assert code_of("small") == ""
    assert packages_of(two) == {"transformers": transformers.__version__}


def test_images_of_another_size_are_refused_with_what_to_do() -> None:
    check_input(HF_VIT, 3, (16, 16))
    check_input("small", 3, (16, 16))
    with pytest.raises(OptionError, match=r"on images of 32 x 32 pixels.*: add ,image_size=32 to its name"):
        check_input(HF_VIT, 3, (32, 32))


# -- preprocessing


def test_timm_says_how_its_images_are_made_ready() -> None:
    found = preprocessing_of("timm:test_vit")
    assert (found.size, found.mean, found.std) == ((160, 160), (0.5,) * 3, (0.5,) * 3)
    assert found.framing == Framing("crop", 0.95, "bicubic")
    assert preprocessing_of("timm:test_vit,img_size=64").size == (64, 64)
    assert preprocessing_of("timm:test_vit,img_size=(64, 32)").size == (64, 32)


def test_torchvision_says_how_its_images_are_made_ready() -> None:
    found = preprocessing_of("torchvision:resnet18")
    assert (found.size, found.framing) == ((224, 224), Framing("crop", 224 / 256, "bilinear"))
    assert found.mean == (0.485, 0.456, 0.406)


PROCESSORS = {
    "both sides": (
        {
            "size": {"height": 32, "width": 16},
            "image_mean": [0.1, 0.2, 0.3],
            "image_std": [0.5],
            "resample": 2,
        },
        ((32, 16), (0.1, 0.2, 0.3), (0.5,) * 3, Framing("squash", 1.0, "bilinear")),
    ),
    "the middle": (
        {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}},
        ((32, 32), (0.0,) * 3, (1.0,) * 3, Framing("crop", 0.8, "bicubic")),
    ),
    "ConvNeXt's": (
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 0.875},
        ((224, 224), (0.0,) * 3, (1.0,) * 3, Framing("crop", 0.875, "bicubic")),
    ),
    "ConvNeXt's large": (
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}, "resample": 3},
        ((384, 384), (0.0,) * 3, (1.0,) * 3, Framing("squash", 1.0, "bicubic")),
    ),
    "one number": (
        {"size": 16, "do_normalize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 0},
        ((16, 16), (0.0,) * 3, (1.0,) * 3, Framing("squash", 1.0, "nearest")),
    ),
    "pixels from -1 to 1": (
        {"size": 16, "rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False},
        ((16, 16), (0.5,) * 3, (0.5,) * 3, Framing("squash", 1.0, "bicubic")),
    ),
    "pixels from 0 to 255": (
        {"size": 16, "do_rescale": False, "image_mean": [127.5] * 3, "image_std": [51.0] * 3},
        ((16, 16), (0.5,) * 3, (0.2,) * 3, Framing("squash", 1.0, "bicubic")),
    ),
}


def folder_with(folder: Path, config: dict[str, object], processor: dict[str, object] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.mark.parametrize("case", PROCESSORS)
def test_a_folder_says_how_its_images_are_made_ready(case: str, tmp_path: Path) -> None:
    processor, (size, mean, std, framing) = PROCESSORS[case]
    found = preprocessing_of(f"hf:{folder_with(tmp_path / 'model', {'model_type': 'vit'}, processor)}")
    assert (found.size, found.framing) == (size, framing)
    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx(std)


def test_a_folder_without_preprocessing_gives_the_size_alone(tmp_path: Path) -> None:
    found = preprocessing_of(f"hf:{folder_with(tmp_path / 'm', {'model_type': 'vit', 'image_size': 32})}")
    assert (found.size, found.mean, found.std) == ((32, 32), None, None)


# -- folders


def test_a_folder_becomes_a_name_that_holds_its_architecture(tmp_path: Path) -> None:
    model = build(HF_VIT, 3)
    assert isinstance(model, nn.Module)
    model.save_pretrained(tmp_path / "model")
    name = resolve(f"hf:{tmp_path / 'model'}")
    assert "/" not in name
    (tmp_path / "model").rename(tmp_path / "gone")
    other = build(name, 3)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(images()), model.eval()(images()))
    loaded = load_folder(read_folder(tmp_path / "gone"))
    assert torch.equal(loaded(images()), model(images()))


def test_the_labels_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = {str(number): f"n{number}" for number in (10, 9, *range(9))}
    found = read_folder(folder_with(tmp_path / "m", {"model_type": "vit", "id2label": names}))
    assert found.labels == tuple(f"n{number}" for number in range(11))
    plain = read_folder(
        folder_with(tmp_path / "p", {"model_type": "vit", "id2label": {"0": "LABEL_0", "1": "LABEL_1"}})
    )
    assert plain.labels == ()


def test_entries_that_no_network_reads_are_told(tmp_path: Path) -> None:
    config = {
        "model_type": "vit",
        "colour": "blue",
        "dtype": "float32",
        "_name_or_path": "/x",
        "use_cache": True,
    }
    found = read_folder(folder_with(tmp_path / "m", config))
    assert found.network == "hf:vit"
    assert found.notes == ("config.json has entries that its network does not read: colour",)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "bert"}, "model_type 'bert'; expected one that has an image classifier"),
        ({"model_type": ["vit"]}, "model_type"),
        ({}, "model_type 'None'"),
        ({"model_type": "vit", "auto_map": {"AutoModel": "evil.Model"}}, "'auto_map': code of its own"),
        ({"model_type": "vit", "quantization_config": {"bits": 4}}, "'quantization_config'"),
        ({"architecture": "test_vit", "pretrained_cfg": {}}, "name it timm:test_vit, with --weights"),
        ({"model_type": "vit", "hidden_act": "../evil.py"}, "'hidden_act' with a value"),
        ({"model_type": "vit", "hidden_size": 10**12}, "'hidden_size' with a value"),
        ({"model_type": "vit", "id2label": {"0": "a", "7": "b"}}, "does not number its names from 0"),
        ({"model_type": "vit", "id2label": {"0": 1}}, "does not number its names from 0"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(config, says: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=says):
        read_folder(folder_with(tmp_path / "m", config))


def test_a_folder_that_is_not_there_or_holds_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFiles, match="no folder"):
        resolve(f"hf:{tmp_path}/nowhere")
    with pytest.raises(MissingFiles, match=r"config\.json"):
        read_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="is not JSON"):
        read_folder(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="no JSON object"):
        read_folder(tmp_path)


def test_weights_that_run_code_or_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = build(HF_VIT, 3)
    assert isinstance(model, nn.Module)
    model.save_pretrained(tmp_path / "m")
    folder = read_folder(tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-8])
    with pytest.raises(CheckpointMismatch, match="transformers cannot read"):
        load_folder(folder)
    file.unlink()
    torch.save(model.state_dict(), tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(MissingFiles, match="expected weights as safetensors"):
        load_folder(folder)
    build(HF_VIT.replace("intermediate_size=32", "intermediate_size=8"), 3).save_pretrained(
        tmp_path / "other"
    )  # type: ignore[operator]
    file.write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointMismatch):
        load_folder(folder)
