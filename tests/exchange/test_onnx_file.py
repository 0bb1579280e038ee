"""A deployed model in ONNX: its outputs and an inner tensor, read as they are, or refused."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from unlabel.core.errors import LabelMismatch, MissingFiles, ModelError, OptionError, UnlabelError
from unlabel.core.framing import CENTRE, Framing
from unlabel.data.batches import normalise
from unlabel.data.dataset import Dataset
from unlabel.exchange.onnx_file import OnnxSettings, colours, open_onnx
from unlabel.models.outputs import PENULTIMATE
from unlabel.testing import tiny_world

FACTS = {"labels": ["top", "middle", "bottom"], "mean": [0.5] * 3, "std": [0.25] * 3}
SHAPE = ["batch", 3, 16, 16]


@pytest.fixture(scope="module")
def world():
    return tiny_world(images=64)


def graph(
    *,
    shape=SHAPE,
    last: str | None = None,
    facts=FACTS,
    nodes=(),
    layout: str = "first",
    outputs: int = 3,
) -> onnx.ModelProto:
    """Mean over positions, then one linear layer of fixed weights."""
    weight = np.linspace(-1, 1, outputs * 3, dtype=np.float32).reshape(outputs, 3)
    axes = [2, 3] if layout == "first" else [1, 2]
    made = [
        helper.make_node("ReduceMean", ["image", "axes"], ["pooled"], keepdims=0),
        helper.make_node("Gemm", ["pooled", "weight"], ["score"], transB=1),
        *([helper.make_node(last, ["score"], ["answer"])] if last else []),
        *nodes,
    ]
    body = helper.make_graph(
        made,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("answer" if last else "score", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.array(axes), "axes")],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {key: json.dumps(value) for key, value in facts.items()})
    return model


@pytest.fixture
def saved(tmp_path: Path):
    """Writes a graph; gives the text that names it."""

    def write(model: onnx.ModelProto, query: str = "") -> str:
        (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        return f"onnx:{tmp_path / 'model.onnx'}{query}"

    return write


def expected(data: Dataset, outputs: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Features and logits of `graph` in float64."""
    image = normalise(data.images(slice(None)), (0.5,) * 3, (0.25,) * 3, torch.device("cpu")).double()
    pooled = image.mean((2, 3)).numpy()
    weight = np.linspace(-1, 1, outputs * 3, dtype=np.float32).astype(np.float64).reshape(outputs, 3)
    return pooled, pooled @ weight.T


@pytest.mark.parametrize(
    "kind",
    [
        "dynamic",
        "batch of one",
        "batch of seven",
        "channels last",
        "sigmoid at the end",
        "softmax at the end",
    ],
)
def test_outputs_and_features_are_those_of_the_graph(kind: str, saved, world) -> None:
    made = {
        "dynamic": {},
        "batch of one": {"shape": [1, 3, 16, 16]},
        "batch of seven": {"shape": [7, 3, 16, 16]},
        "channels last": {"shape": ["batch", 16, 16, 3], "layout": "last"},
        "sigmoid at the end": {"last": "Sigmoid"},
        "softmax at the end": {"last": "Softmax"},
    }[kind]
    model = open_onnx(saved(graph(**made), "?features=pooled"))
    found = model.read(world.source.test)
    features, logits = expected(world.source.test)
    assert np.abs(found.features[PENULTIMATE] - features).max() < 1e-5  # float32 means of 256 numbers
    assert np.abs(found.logits - logits).max() < 1e-5
    assert (model.labels, model.image_size, model.mean[0]) == (("top", "middle", "bottom"), 16, 0.5)
    assert model.activation == ("softmax" if kind.startswith("softmax") else "sigmoid")
    assert any("its input 'score' is read" in note for note in model.notes) == kind.endswith("end")


def test_logits_of_a_graph_in_float64_stay_as_they_are(saved, world) -> None:
    """-7 + 1e-9 times an output is one number in float32."""
    tables = {"less": np.array(1e-9), "minus": np.array(-7.0)}
    nodes = [
        *(helper.make_node("Constant", [], [n], value=numpy_helper.from_array(t)) for n, t in tables.items()),
        helper.make_node("Cast", ["score"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["wide", "less"], ["squeezed"]),
        helper.make_node("Add", ["squeezed", "minus"], ["answer64"]),
    ]
    made = graph(nodes=nodes)
    made.graph.output.append(helper.make_tensor_value_info("answer64", TensorProto.DOUBLE, None))
    found = open_onnx(saved(made, "?output=answer64&features=pooled")).read(world.source.test)
    assert found.features[PENULTIMATE].dtype == np.float32
    assert np.abs((found.logits + 7) * 1e9 - expected(world.source.test)[1]).max() < 1e-4


def test_without_features_the_tensor_to_name_is_told(saved, world) -> None:
    model = open_onnx(saved(graph(last="Sigmoid")))
    assert any("add ?features=pooled" in note for note in model.notes)
    assert model.read(world.source.test).features == {}


def test_a_feature_map_is_averaged_over_positions(saved, world) -> None:
    nodes = [helper.make_node("Relu", ["image"], ["map"])]
    model = open_onnx(saved(graph(nodes=nodes), "?features=map"))
    image = normalise(world.source.test.images(slice(None)), (0.5,) * 3, (0.25,) * 3, torch.device("cpu"))
    wanted = image.double().relu().mean((2, 3)).numpy()
    assert np.abs(model.read(world.source.test).features[PENULTIMATE] - wanted).max() < 1e-5


def test_flags_say_what_the_metadata_lack(saved, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    settings = OnnxSettings(tmp_path / "labels.txt", (0.5,) * 3, (0.25,) * 3)
    model = open_onnx(saved(graph(facts={}, shape=["n", 3, "h", "w"]), "?image_size=32"), settings)
    assert (model.labels, model.image_size, model.std) == (("a", "b", "c"), 32, (0.25,) * 3)
    assert colours("--mean", "0.1,0.2,0.3") == (0.1, 0.2, 0.3)


def test_the_framing_is_that_of_the_metadata(saved) -> None:
    told = {"resize": "crop", "crop_pct": 0.875, "interpolation": "bilinear"}
    assert open_onnx(saved(graph(facts={**FACTS, "framing": told}))).framing == Framing(**told)
    assert open_onnx(saved(graph())).framing == CENTRE


@pytest.mark.parametrize(
    ("made", "query", "says"),
    [
        ({}, "?features=puled", "no inner tensor 'puled'. Close: pooled."),
        ({}, "?feature=pooled", "expected onnx:FILE?features=TENSOR"),
        ({}, "?output=nothing", "no output 'nothing'"),
        ({}, "?image_size=32", "expected a square"),
        ({"facts": {}}, "", "--mean R,G,B --std R,G,B"),
        ({"facts": {**FACTS, "std": [0, 1, 1]}}, "", "do not tell its std"),
        ({"facts": {**FACTS, "labels": ["a", "a", "b"]}}, "", "a label twice"),
        ({"facts": {**FACTS, "labels": 3}}, "", "JSON list of texts"),
        ({"facts": {**FACTS, "framing": {"resize": "melt"}}}, "", "invalid enum value 'melt'"),
        ({"facts": {**FACTS, "framing": "squash"}}, "", "a framing that is none"),
        ({"shape": ["n", 1, 16, 16]}, "", "of another form"),
        ({"shape": ["n", 3, "h", "w"]}, "", "not told"),
        (
            {"nodes": [helper.make_node("Steal", ["score"], ["x"], domain="evil")]},
            "",
            "custom operators (Steal)",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(made, query: str, says: str, saved) -> None:
    with pytest.raises(UnlabelError) as caught:
        open_onnx(saved(graph(**made), query))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_models_are_refused(tmp_path: Path, saved) -> None:
    with pytest.raises(MissingFiles):
        open_onnx(f"onnx:{tmp_path / 'none.onnx'}")
    (tmp_path / "noise.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match="no ONNX"):
        open_onnx(f"onnx:{tmp_path / 'noise.onnx'}")
    with pytest.raises(OptionError):
        open_onnx("onnx:")
    with pytest.raises(OptionError, match="three numbers"):
        colours("--std", "1,2")


def test_a_missing_package_is_named_with_the_command_that_installs_it(saved, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(OptionError, match=r"needs the package 'onnxruntime'.*pip install"):
        open_onnx(saved(graph()))


def test_weights_in_another_file_are_not_opened(saved, tmp_path: Path) -> None:
    model = graph()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(ModelError, match="in other files"):
        open_onnx(saved(model))


def test_numbers_that_are_not_finite_are_refused(saved, world) -> None:
    model = open_onnx(saved(graph(nodes=[helper.make_node("Log", ["score"], ["log"])]), "?features=log"))
    with pytest.raises(ModelError, match="NaN or infinity"):
        model.read(world.source.test)


def test_each_output_has_one_name(saved, world) -> None:
    model = open_onnx(saved(graph(outputs=2)))
    with pytest.raises(LabelMismatch, match="2 outputs, but 3 names"):
        model.read(world.source.test)


def test_a_graph_that_does_not_fit_together_is_a_user_error(saved) -> None:
    broken = graph(nodes=[helper.make_node("MatMul", ["score", "nothing"], ["x"])])
    with pytest.raises(ModelError, match="onnxruntime cannot load"):
        open_onnx(saved(broken, "?features=x"))
