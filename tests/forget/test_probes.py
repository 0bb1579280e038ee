"""Probes: what the original's row says, what a fitted one says, and that blinding is their cross-entropy."""

import numpy as np
import pytest
import torch

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.forget.probes import Probes, confused_target, fitted, original_rows
from unlabel.models.features import outputs
from unlabel.testing import tiny_world


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def test_the_originals_rows_read_its_own_logits(run: Run) -> None:
    world = tiny_world()
    found = outputs(world.model, world.data, run)
    probes = original_rows(world.model, world.data, (2, 0), run)
    features = torch.from_numpy(found.features["penultimate"])
    expected = probes.loss(torch.from_numpy(found.logits[:, [2, 0]]))
    # float32 sums of 16 products below 20
    assert torch.allclose(probes.blind(features), expected, atol=1e-4)
    assert probes.target.tolist() == [confused_target(world.data.prior(column)) for column in (2, 0)]


def test_a_fitted_reader_finds_the_label_in_raw_features(run: Run) -> None:
    """Features that are shifted and of very different scales are read as well as standard ones."""
    world = tiny_world()
    probes = fitted(world.model, world.data, (0,), run)
    assert probes is not None
    features = outputs(world.model, world.source.test, run).features["penultimate"]
    score = features @ probes.weight[0].numpy() + float(probes.bias[0])
    target = world.source.test.target[:, 0]
    assert np.mean((score > 0) == (target == 1)) > 0.9


def test_a_label_without_enough_images_of_a_kind_gets_no_reader(run: Run) -> None:
    world = tiny_world()
    few = world.data.take(np.flatnonzero(world.data.target[:, 0] == 1)[:60])
    assert fitted(world.model, few, (0,), run) is None
    both = fitted(world.model, few, (0, 1), run)
    assert both is not None
    assert len(both.bias) == 1


def test_blinding_is_lowest_at_the_target_and_has_no_gradient_there() -> None:
    probes = Probes(torch.tensor([[1.0, 0.0]]), torch.tensor([0.0]), torch.tensor([0.5]))
    features = torch.tensor([[0.0, 5.0], [2.0, 5.0]], requires_grad=True)
    loss = probes.blind(features)
    loss.sum().backward()
    assert loss[0, 0] < loss[1, 0]
    assert features.grad is not None
    assert features.grad[0].abs().max() == 0
    assert features.grad[1, 0] > 0
