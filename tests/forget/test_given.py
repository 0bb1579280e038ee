"""What `forget_labels` refuses before any method runs: what it would answer wrongly."""

import copy
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from unlabel.core import engine
from unlabel.core.errors import (
    LabelMismatch,
    MethodError,
    ModelError,
    NoLinearHead,
    OptionError,
    UnknownLabel,
)
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.driver import forget_labels
from unlabel.forget.given import check_constant
from unlabel.forget.pipeline import Work
from unlabel.models.final_layers import find_layout
from unlabel.models.head import find_head
from unlabel.testing import tiny_network, tiny_world


@pytest.fixture(scope="module")
def world():
    return tiny_world()


class Wrapped(nn.Module):
    """The world's network, with something done to what it returns."""

    def __init__(self, model: nn.Module, then) -> None:
        super().__init__()
        self.model, self.then = copy.deepcopy(model), then

    def forward(self, x: Tensor) -> object:
        return self.then(self.model(x))


class Gated(nn.Module):
    """A gate of as many outputs as labels is registered after the layer that makes the outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.gate = copy.deepcopy(model), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.model(x)
        return scores * self.gate(torch.ones_like(scores)).sigmoid()


@pytest.mark.parametrize(
    ("network", "kind", "said"),
    [
        (lambda model: Wrapped(model, lambda y: y[:, [2, 1, 0]]), NoLinearHead, "are not those of its last"),
        (lambda model: Wrapped(model, torch.sigmoid), NoLinearHead, "but probabilities made from them"),
        (lambda model: Wrapped(model, lambda y: {"logits": y}), ModelError, "returned dict for 2 images"),
        (lambda model: Wrapped(model, lambda y: y[:, :2]), ModelError, "tensor of shape (2, 2)"),
        (Gated, NoLinearHead, "are not those of its last linear layer 'gate'"),
        (lambda model: copy.deepcopy(model).half(), ModelError, "weights are torch.float16, but images are"),
        (lambda model: "runs/original", ModelError, "model is a str; expected a torch.nn.Module"),
    ],
)
@pytest.mark.parametrize("method", ["head-removal", "auto"])
def test_a_network_whose_outputs_are_made_otherwise_is_refused(world, network, kind, said, method) -> None:
    with pytest.raises(kind, match=re.escape(said)) as caught:
        forget_labels(network(world.model), "top", world.data, method)
    assert "\n" not in str(caught.value)


def test_a_last_layer_of_computed_weights_is_refused(world) -> None:
    model = copy.deepcopy(world.model)
    name, head = find_head(model, 3)
    weight_norm(head)
    with pytest.raises(NoLinearHead, match=f"layer '{name}' are computed .*remove_parametrizations"):
        forget_labels(model, "top", world.data, "head-removal")


class Tied(nn.Module):
    """The rows of its head are embeddings of the labels, which it adds to the features."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.ReLU())
        self.label = nn.Linear(8, 3, bias=False)
        self.head = nn.Linear(8, 3)
        self.head.weight = self.label.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return self.head(h + self.label(h).sigmoid() @ self.label.weight)


@pytest.mark.parametrize("method", ["head-removal", "deep-probes"])
def test_a_last_layer_whose_weights_serve_another_layer_is_refused(world, method: str) -> None:
    with pytest.raises(NoLinearHead, match=r"'head' shares its weights with 'label.weight'.*give .* a copy"):
        forget_labels(Tied(), "top", world.data, method)
    with pytest.raises(NoLinearHead, match=r"'head' shares 'head.weight' with 'label.weight'"):
        find_layout(Tied().eval(), world.labels, torch.zeros(2, 3, 16, 16))


def test_a_second_name_of_the_last_layer_is_no_other_layer(world) -> None:
    model = Tied()
    model.head = nn.Linear(8, 3)
    model.classifier = model.head
    assert forget_labels(model, "top", world.data, "head-removal").changed == 9


def test_a_network_that_cannot_be_copied_or_trained_is_refused(world) -> None:
    kept = copy.deepcopy(world.model)
    kept.last = kept[0].weight * 2  # a result, which deepcopy refuses
    with pytest.raises(ModelError, match="model cannot be copied"):
        forget_labels(kept, "top", world.data, "head-removal")
    frozen = copy.deepcopy(world.model).requires_grad_(False)
    with pytest.raises(ModelError, match=r"no weight of the model may be trained, .*requires_grad_\(True\)"):
        forget_labels(frozen, "top", world.data, "fine-tune")
    assert forget_labels(frozen, "top", world.data, "head-removal").changed > 0


class Viewed(nn.Module):
    """Flattens by `view`, which takes PyTorch's own memory layout for granted."""

    def __init__(self) -> None:
        super().__init__()
        inner = tiny_network(3, seed=3)
        self.conv, self.rest = inner[0], nn.Sequential(*list(inner)[3:])

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        return self.rest(x.view(len(x), -1))


@pytest.mark.parametrize("method", ["head-removal", "fine-tune", "auto"])
def test_a_network_that_flattens_by_view_works_and_comes_back_as_it_was(world, method) -> None:
    model = Viewed().eval()
    settings = {"steps": 4} if method == "fine-tune" else {}
    made = forget_labels(model, "top", world.data, method, **settings).model
    images = torch.from_numpy(np.array(world.data.pixels[:4])).permute(0, 3, 1, 2).float().contiguous() / 255
    assert torch.equal(made(images)[:, 0], made(images)[:1, 0].expand(4))
    assert not made._forward_pre_hooks
    assert all(weight.is_contiguous() for weight in made.parameters())
    assert all(weight.is_contiguous() for weight in model.parameters())


def annotated(data: Dataset, name: str, value: int) -> Dataset:
    """The same images, all with one annotation of a label."""
    target = data.target.copy()
    target[:, data.labels.index(name)] = value
    return replace(data, target=target)


@pytest.mark.parametrize("value", [-1, 0])
def test_a_label_forgotten_earlier_must_be_annotated_before_a_training(world, value) -> None:
    first = forget_labels(world.model, "middle", world.data, "leace-layer").model
    silent = annotated(world.data, "middle", value)
    for method in ("fine-tune", "auto", "damp"):
        with pytest.raises(
            LabelMismatch, match=r"middle was forgotten earlier, .*could bring it back unseen"
        ):
            forget_labels(first, "top", silent, method, forgotten="middle")
    for method, given in (("head-removal", {}), ("auto", {"against": "outputs"})):
        assert forget_labels(first, "top", silent, method, forgotten="middle", **given).changed > 0


def test_a_label_that_was_removed_must_be_named_as_forgotten(world) -> None:
    first = forget_labels(world.model, "middle", world.data, "head-removal").model
    with pytest.raises(LabelMismatch, match=r"the output of middle is the same .*forgotten=\['middle'\];"):
        forget_labels(first, "top", world.data, "fine-tune")
    second = forget_labels(first, "top", world.data, "fine-tune", forgotten="middle", steps=4).model
    _, head = find_head(second, 3)
    assert not head.weight[[0, 1]].any()


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"labels": "top", "forgotten": ["MID"]}, UnknownLabel, "no label 'MID' among the model's 3"),
        ({"labels": "tpo"}, UnknownLabel, "Close: top. See them all in source.train.labels"),
        ({"labels": 0}, OptionError, "0 stands where the name of a label was expected"),
        ({"labels": [0, 1]}, OptionError, "0 stands where the name of a label was expected"),
    ],
)
def test_names_that_are_none_are_refused(world, given, kind, said) -> None:
    with pytest.raises(kind, match=re.escape(said)):
        forget_labels(world.model, data=world.data, method="head-removal", **given)


def test_outputs_that_stay_different_are_noticed(world) -> None:
    """What no method of the catalogue does: it would have to put another layer behind the last one."""
    request = Request.make("top", world.data.labels)
    with pytest.raises(MethodError, match="still differ from image to image"):
        check_constant(world.model, request, world.data, engine.start(accelerator="cpu"))


def behind():
    """A method of somebody's own that puts more behind the last layer."""
    return lambda model, request, data, run: Work(Wrapped(model, lambda y: y + y.roll(1, 1)))


def test_a_method_that_adds_something_behind_the_last_layer_is_refused(world) -> None:
    with pytest.raises(MethodError, match="still differ from image to image"):
        forget_labels(world.model, "top", world.data, behind)
