"""Methods on exclusive classes, on a model with an earlier request, and on one that is partly frozen."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from unlabel import engine
from unlabel.engine import Run
from unlabel.forget.driver import forget_labels
from unlabel.models.head import find_head
from unlabel.testing import World, check_unlearner, differing, tiny_world

METHODS: dict[str, dict[str, Any]] = {
    "l1-sparse": {"steps": 3},
    "neg-grad": {"steps": 3},
    "neg-grad-plus": {"steps": 3},
    "random-label": {"steps": 3},
    "salun": {"steps": 3},
    "ssd": {},
}


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def classes() -> World:
    """A network with four outputs, and pictures that have one of four classes each."""
    world = tiny_world("never-learnt", batchnorm=True)
    train = replace(
        world.data, target=np.eye(4, dtype=np.int8)[np.arange(len(world.data)) % 4], exclusive=True
    )
    return replace(world, source=replace(world.source, train=train))


@pytest.mark.parametrize(
    ("labels", "forgotten"), [(("top",), ()), (("bottom", "top"), ()), (("bottom",), ("top",))]
)
@pytest.mark.parametrize("method", METHODS)
def test_the_contract_holds_for_classes(method: str, labels, forgotten) -> None:
    world = classes()
    if forgotten:
        hidden = forget_labels(world.model, forgotten, world.data, method="head-removal").model
        world = replace(world, model=hidden)
    check_unlearner(method, world=world, labels=labels, forgotten=forgotten, **METHODS[method])


@pytest.mark.parametrize("method", METHODS)
def test_the_row_of_an_earlier_label_keeps_its_bits_when_rows_are_kept(method: str, run: Run) -> None:
    """The driver then removes nothing, so that the method itself must leave the earlier output alone."""
    world = tiny_world()
    model = forget_labels(world.model, ["top"], world.data, method="head-removal", run=run).model
    options = {"forgotten": ["top"], "keep_row": True, "run": run, **METHODS[method]}
    after = forget_labels(model, ["bottom"], world.data, method=method, **options).model
    before, now = find_head(model, 3)[1], find_head(after, 3)[1]
    assert torch.equal(now.weight[0], before.weight[0])
    assert torch.equal(now.bias[0], before.bias[0])
    assert differing(model, after) != []


@pytest.mark.parametrize("method", METHODS)
def test_frozen_weights_keep_their_bits(method: str, run: Run) -> None:
    world = tiny_world()
    frozen = ["0.weight", "3.bias"]
    for name in frozen:
        world.model.get_parameter(name).requires_grad_(False)
    after = forget_labels(world.model, ["top"], world.data, method=method, run=run, **METHODS[method]).model
    assert not {*frozen} & {*differing(world.model, after)}
    assert not any(after.get_parameter(name).requires_grad for name in frozen)
    assert differing(world.model, after) != []
