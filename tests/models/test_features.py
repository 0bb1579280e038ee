import numpy as np
import pytest
import torch

from unlabel.core import engine
from unlabel.data.batches import batch_of
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.models.outputs import PENULTIMATE
from unlabel.testing import tiny_world


@pytest.fixture
def run() -> engine.Run:
    return engine.start(accelerator="cpu")


def auc(score: np.ndarray, target: np.ndarray) -> float:
    """Share of (present, absent) pairs in the right order, ties half, one pair after another."""
    pairs = score[target == 1][:, None] - score[target == 0][None]
    return float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize("kind", ["independent", "correlated", "duplicate", "unknown"])
def test_a_tiny_world_knows_its_labels_on_unseen_images(kind: str, batchnorm: bool, run) -> None:
    """The positive control of every test that forgets something in it."""
    world = tiny_world(kind, batchnorm=batchnorm)
    for part in (world.source.probe, world.source.test):
        found = outputs(world.model, part, run).logits
        assert all(auc(found[:, k], part.target[:, k]) > 0.9 for k in range(len(world.labels)))


def test_a_tiny_world_does_not_know_the_label_that_is_in_no_pixel(run) -> None:
    world = tiny_world("never-learnt")
    found = outputs(world.model, world.source.test, run).logits
    # 128 images: four standard errors of the AUC of noise are 4 * sqrt(129 / (12 * 64 * 64)) = .20
    assert abs(auc(found[:, 3], world.source.test.target[:, 3]) - 0.5) < 0.2
    assert auc(found[:, 0], world.source.test.target[:, 0]) > 0.9


def test_in_the_one_unit_world_a_label_is_read_from_its_unit_alone(run) -> None:
    world = tiny_world("one-unit")
    part = world.source.test
    features = outputs(world.model, part, run).features[PENULTIMATE]
    assert not features[:, 3:].any()
    # bound of a correlation of 128 independent pairs: four standard errors, 4 / sqrt(128) = .35
    table = [[abs(auc(features[:, unit], part.target[:, k]) - 0.5) for k in range(3)] for unit in range(3)]
    assert np.all(np.diag(table) > 0.45)
    assert np.all(np.array(table)[~np.eye(3, dtype=bool)] < 0.2)


def test_logits_and_features_are_the_models_own_in_the_datas_order(run) -> None:
    """Against the model called on one image after another."""
    world = tiny_world(images=1200)  # more than one batch of 256
    part = world.source.train
    found = outputs(world.model, part, run)
    assert len(part) > 512
    head = find_head(world.model, 3)[1]
    for at in (0, 255, 256, len(part) - 1):
        with torch.no_grad():
            logits = world.model(batch_of(part, [at], run.device).image)[0].numpy()
        # float32 sums of 128 terms in another order: a few steps of 1e-7 of numbers up to about 20
        np.testing.assert_allclose(found.logits[at], logits, atol=2e-5)
    again = found.features[PENULTIMATE] @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    np.testing.assert_allclose(found.logits, again, atol=2e-5)  # the same


def test_reading_changes_neither_the_model_nor_its_mode(run) -> None:
    world = tiny_world(batchnorm=True)
    world.model.train()
    before = {name: value.clone() for name, value in world.model.state_dict().items()}
    one = outputs(world.model, world.data, run)
    assert world.model.training
    assert all(torch.equal(value, before[name]) for name, value in world.model.state_dict().items())
    assert np.array_equal(one.logits, outputs(world.model.eval(), world.data, run).logits)


def test_no_image_is_no_row(run) -> None:
    world = tiny_world()
    found = outputs(world.model, world.data.take(np.arange(0)), run)
    assert found.logits.shape == (0, 3)
    assert found.features[PENULTIMATE].shape == (0, 16)
