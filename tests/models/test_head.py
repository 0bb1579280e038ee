from math import log

import pytest
import torch
from torch import nn

from unlabel.core.errors import NoLinearHead
from unlabel.models.build import build
from unlabel.models.head import find_head, remove_rows, tap
from unlabel.testing import differing, tiny_network


@pytest.mark.parametrize(("network", "name"), [("small", "8"), ("resnet18", "fc")])
def test_the_head_is_the_layer_that_makes_the_logits(network: str, name: str) -> None:
    model = build(network, 5).eval()
    found, head = find_head(model, 5)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with tap(head) as seen:
        logits = model(images)
    assert found == name
    assert torch.equal(head(seen[0]), logits)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (nn.Sequential(nn.Conv2d(3, 3, 1)), "no linear layer"),
        (nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 4)), "'1' has 4 outputs, but there are 3"),
        (nn.Sequential(nn.Linear(4, 3, bias=False)), "has no bias"),
    ],
)
def test_a_model_without_a_usable_head_is_refused(model: nn.Module, says: str) -> None:
    with pytest.raises(NoLinearHead, match=says):
        find_head(model, 3)


def test_a_removed_output_is_its_base_rate_and_the_others_keep_their_bits() -> None:
    model = tiny_network(4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    logits = model(images)
    assert logits[:, 1].std() > 0
    remove_rows(find_head(model, 4)[1], [1, 3], [0.0, log(0.02 / 0.98)])
    after = model(images)
    assert torch.equal(after[:, [0, 2]], logits[:, [0, 2]])
    assert torch.equal(after[:, [1, 3]], torch.tensor([0.0, log(0.02 / 0.98)]).expand(8, 2))
    assert differing(before, model) == ["5.bias", "5.weight"]


def test_the_count_of_changed_numbers_is_right_and_nothing_changes_twice() -> None:
    head = find_head(tiny_network(4), 4)[1]
    with torch.no_grad():
        head.weight[1, 0] = 0.0
    before = head.weight.clone(), head.bias.clone()
    changed = remove_rows(head, [1], [0.25])
    assert changed == int((before[0] != head.weight).sum() + (before[1] != head.bias).sum()) == 16
    assert remove_rows(head, [1], [0.25]) == 0


def test_a_tap_is_closed_even_by_an_error() -> None:
    model = tiny_network(2)
    head = find_head(model, 2)[1]
    with pytest.raises(ZeroDivisionError), tap(head) as seen:
        1 / 0  # noqa: B018
    model(torch.zeros(1, 3, 16, 16))
    assert seen == []
