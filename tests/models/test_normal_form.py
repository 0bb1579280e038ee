"""The normal form is a network like any other: copied, differentiated, trained, stored."""

import copy
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from unlabel.core.errors import ModelError, NoLinearHead, OptionError
from unlabel.core.layout import FinalLayer, Layout
from unlabel.core.reading import typed
from unlabel.models.final_layers import check_final, find_layout
from unlabel.models.head import find_head, tap
from unlabel.models.normal_form import NormalForm, normal_form, own_state
from unlabel.runs.config import Config

LABELS = ("a", "b", "c")


class Branches(nn.Module):
    """One small network a label on a shared trunk; what follows the heads may do anything."""

    def __init__(self, bias: bool = True, after: str = "cat") -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1, bias=bias)) for _ in LABELS
        )
        self.after = after

    def forward(self, images: Tensor):
        shared = self.trunk(images)
        logits = torch.cat([head(shared) for head in self.heads], 1)
        if self.after == "moved":
            return logits + shared[:, :3]
        if self.after == "twice":
            return logits + self.heads[0](shared * 2)
        return logits.detach() if self.after == "detached" else logits


def built(**options) -> tuple[nn.Module, NormalForm]:
    """A network, and the normal form of a copy."""
    torch.manual_seed(0)
    network = Branches(**options).eval()
    joined = normal_form(copy.deepcopy(network), find_layout(network, LABELS, images()).layout)
    assert isinstance(joined, NormalForm)
    return network, joined


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def test_a_final_layers_weights_are_in_the_joined_layer_alone() -> None:
    network, joined = built()
    assert [name for name in joined.state_dict() if name.startswith("network.heads.0")] == [
        "network.heads.0.0.weight",
        "network.heads.0.0.bias",
    ]
    assert find_head(joined, 3) == ("head", joined.head)
    torch.testing.assert_close(joined(images()), network(images()))
    assert torch.equal(joined.head.weight[1, 5:10], network.heads[1][2].weight[0])
    assert int((joined.head.weight != 0).sum()) == 15
    state, notes = own_state(joined)
    assert notes == []
    assert {name: value.tolist() for name, value in state.items()} == {
        name: value.tolist() for name, value in network.state_dict().items()
    }


def test_a_copy_is_a_network_of_its_own() -> None:
    _, joined = built()
    other = copy.deepcopy(joined)
    before = joined(images())
    with torch.no_grad():
        other.head.weight.zero_()
        other.network.heads[0][0].weight.zero_()
    assert torch.equal(joined(images()), before)
    assert not other(images()).std(0).any()
    with tap(other.head) as seen:
        other(images())
    assert not torch.equal(seen[0], joined.read(images()))


def test_derivatives_are_those_of_the_users_network() -> None:
    """Per-sample gradients by vmap and a forward-mode product, against the network itself."""
    network, joined = built()
    theirs, ours = dict(network.named_parameters()), dict(joined.named_parameters())
    name = "heads.1.0.weight"

    def loss(model, parameters, image):
        return functional_call(model, parameters, (image[None],))[0, 1]

    one = vmap(grad(lambda p, x: loss(network, p, x)), (None, 0))(theirs, images())
    two = vmap(grad(lambda p, x: loss(joined, p, x)), (None, 0))(ours, images())
    torch.testing.assert_close(two[f"network.{name}"], one[name])
    torch.testing.assert_close(two["head.weight"][:, 1, 5:10], one["heads.1.2.weight"][:, 0])
    assert not two["head.weight"][:, ~joined.head.own].any()
    along = {key: torch.ones_like(value) for key, value in theirs.items()}
    _, slope = jvp(lambda p: functional_call(network, p, (images(),)), (theirs,), (along,))
    ones = {key: torch.ones_like(value) for key, value in ours.items()}
    _, same = jvp(lambda p: functional_call(joined, p, (images(),)), (ours,), (ones,))
    torch.testing.assert_close(same, slope)


def test_training_does_not_fill_what_no_final_layer_has() -> None:
    _, joined = built(bias=False)
    assert not joined.head.bias.requires_grad
    free = [weight for weight in joined.parameters() if weight.requires_grad]
    optimiser = torch.optim.SGD(free, lr=0.5, momentum=0.9, weight_decay=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        (joined(images()) ** 2).sum().backward()
        optimiser.step()
    assert not joined.head.weight[~joined.head.own].any()
    assert not joined.head.bias.any()
    again = Branches(bias=False).eval()
    again.load_state_dict(own_state(joined)[0])
    torch.testing.assert_close(again(images()), joined(images()))
    joined.head.reset_parameters()
    assert not joined.head.weight[~joined.head.own].any()
    assert not joined.head.bias.any()


def test_numbers_that_the_users_layers_cannot_hold_are_refused() -> None:
    _, joined = built()
    with torch.no_grad():
        joined.head.weight[0, 7] = 1.0
    with pytest.raises(ModelError, match="features that its own layer does not read"):
        own_state(joined)
    _, joined = built(bias=False)
    with torch.no_grad():
        joined.head.bias[1] = 0.5
    with pytest.raises(ModelError, match=r"has no bias to hold it.*bias=True"):
        own_state(joined)
    with torch.no_grad():
        joined.head.weight[1] = 0.0
    assert "a probability of 0.5" in own_state(joined)[1][0]
    with torch.no_grad():
        joined.head.bias[1] = -1e4  # a removed class, which must never be the answer
    with pytest.raises(ModelError, match="has no bias"):
        own_state(joined)


def test_what_a_head_reads_is_kept_from_work_in_place() -> None:
    """The second head changes the shared features after the first one has read them."""
    network = Branches().eval()
    network.heads[0] = nn.Linear(4, 1)
    network.heads[1] = nn.Sequential(nn.Hardshrink(), nn.Linear(4, 1))
    network.heads[2] = nn.Sequential(nn.Threshold(0.4, -1.0, inplace=True), nn.Linear(4, 1))
    layout = find_layout(network, LABELS, images()).layout
    joined = normal_form(copy.deepcopy(network), layout)
    torch.testing.assert_close(joined(images()), network(images()))


@pytest.mark.parametrize(
    ("after", "says"),
    [
        ("moved", r"come from the Conv2d 'trunk.0' with no linear layer after it"),
        ("twice", r"'heads.0.2' is used 2 times"),
        ("detached", r"come from no linear layer.*detach"),
    ],
)
def test_outputs_that_are_not_the_final_layers_are_refused(after: str, says: str) -> None:
    with pytest.raises(NoLinearHead, match=says):
        find_layout(Branches(after=after).eval(), LABELS, images())


@pytest.mark.parametrize("kind", ["weight", "bias", "module"])
def test_a_final_layer_whose_weights_have_a_second_name_is_refused(kind: str) -> None:
    """By that name a removed output would come back when the user's own class loads an export."""
    network = Branches().eval()
    other = network.heads[1][2]
    if kind == "module":
        network.main = other
    else:
        network.other = nn.Linear(5, 1)
        setattr(network.other, kind, getattr(other, kind))
    second = f"main\\.{'weight'}" if kind == "module" else f"other\\.{kind}"
    with pytest.raises(NoLinearHead, match=rf"'heads\.1\.2' shares 'heads\.1\.2\.\w+' with '{second}'.*copy"):
        find_layout(network, LABELS, images())


def test_parts_and_modules_that_are_not_there_are_refused() -> None:
    network = Branches().eval()
    with pytest.raises(OptionError, match=r"'trunc', which is no module.*trunk, heads\. Close: trunk"):
        find_layout(network, LABELS, images(), features="trunc")
    with pytest.raises(OptionError, match="--logits is 'scores'"):
        find_layout(network, LABELS, images(), logits="scores")
    with pytest.raises(NoLinearHead, match="'1' has 5 outputs, but there are 3"):
        check_final(nn.Sequential(nn.Flatten(), nn.Linear(4, 5)), 3)


@pytest.mark.parametrize("size", [(96, 96), (96, 72)])
def test_named_features_with_channels_last_are_read_over_their_sides(size: tuple[int, int]) -> None:
    """24 channels: as many as rows, or fewer columns than rows; a rule for squares is wrong on both."""
    from torchvision.models import swin_transformer

    network = swin_transformer.SwinTransformer(
        [4, 4], 24, [1, 1, 1], [1, 2, 4], [3, 3], num_classes=3, stochastic_depth_prob=0.0
    ).eval()
    shown, kept = torch.randn(2, 3, *size), []
    layout = find_layout(network, LABELS, shown, features="features.1").layout
    assert layout.width == 24
    assert typed(asdict(layout), Layout) == layout
    network.features[1].register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    with torch.no_grad():
        inputs = normal_form(network, layout).inputs(shown)
    torch.testing.assert_close(inputs[-1], kept[-1].mean((1, 2)))


def test_equal_numbers_of_different_layers_are_different_inputs() -> None:
    """Branches that begin with the same weights grow apart; a dropout of each one's own does not matter."""
    network = Branches().eval()
    for head in network.heads[1:]:
        head.load_state_dict(network.heads[0].state_dict())
    assert [layer.reads for layer in find_layout(network, LABELS, images()).layout.layers] == [0, 1, 2]
    network.heads = nn.ModuleList(nn.Sequential(nn.Dropout(), nn.Linear(4, 1)) for _ in LABELS)
    layout = find_layout(network.eval(), LABELS, images()).layout
    assert [layer.reads for layer in layout.layers] == [0, 0, 0]
    for weight in network.parameters():
        weight.requires_grad_(False)
    assert find_layout(network, LABELS, images()).layout == layout
    assert not any(weight.requires_grad for weight in network.parameters())


GOOD = Layout(
    (FinalLayer("heads.0", 2, 4, 0, True), FinalLayer("heads.1", 1, 4, 0, True)), ((0,), (2,), (1,))
)


def test_a_description_is_stored_and_read_again() -> None:
    assert typed(asdict(GOOD) | {"layers": [asdict(layer) for layer in GOOD.layers]}, Layout) == GOOD
    assert GOOD.owner(2) == (GOOD.layers[1], 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": ()},
        {"rows": ((0,), (1,), (1,))},
        {"rows": ((0,), (1,), (3,))},
        {"rows": ((0,), (1, 2))},
        {"rows": ()},
        {"rows": ((-1,), (0,), (1,))},
        {"features": "a/../b", "width": 3},
        {"features": "a", "width": 0},
        {"width": 3},
        {"features": "a", "width": 10**9},
        {"layers": (FinalLayer("heads.0", 3, 10**7, 0, True),)},
        {"layers": (FinalLayer("heads.0", 3, 4, 1, True),)},
        {"layers": (FinalLayer("__import__('os')", 3, 4, 0, True),)},
        {"layers": (FinalLayer("x" * 301, 3, 4, 0, True),)},
        {"layers": (FinalLayer("a", 2, 4, 0, True), FinalLayer("a", 1, 4, 0, True))},
        {"layers": (FinalLayer("a", 2, 4, 0, True), FinalLayer("b", 1, 5, 0, True))},
    ],
)
def test_a_description_that_no_network_has_is_refused(changes) -> None:
    with pytest.raises(ModelError, match="head: "):
        replace(GOOD, **changes)


@pytest.mark.parametrize(
    "layer",
    [
        FinalLayer("nothing", 3, 4, 0, True),
        FinalLayer("trunk", 3, 4, 0, True),
        FinalLayer("heads.0.0", 3, 4, 0, True),
        FinalLayer("heads.0.0", 5, 4, 0, False),
    ],
)
def test_a_description_of_another_network_is_refused(layer: FinalLayer) -> None:
    layout = Layout((layer,), tuple((row,) for row in range(layer.outputs)))
    with pytest.raises(ModelError, match="is the network's code still the code"):
        normal_form(Branches(), layout)


def test_a_head_of_other_labels_is_refused() -> None:
    whole = {"image_size": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3, "thresholds": (0.5,) * 2}
    with pytest.raises(ModelError, match="a head of 3 labels; expected 2"):
        Config("small", "imagenet", ("a", "b"), (), **whole, head=GOOD)
