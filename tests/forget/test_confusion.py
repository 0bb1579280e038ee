from dataclasses import replace

import numpy as np
import pytest
import torch

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.data.batches import batch_of
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods.confusion import Confusion
from unlabel.forget.probes import Probes, confused_target
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.models.outputs import PENULTIMATE
from unlabel.testing import differing, tiny_world


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def auc(score: np.ndarray, target: np.ndarray) -> float:
    pairs = score[target == 1][:, None] - score[target == 0][None]
    return float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def test_the_objective_is_the_formula_in_float64(run: Run) -> None:
    """label_loss(retained) + strength * mean_j BCE(w_j h + b_j, t_j), one image after another."""
    world = tiny_world("unknown")
    _, head = find_head(world.model, 3)
    weight, bias = head.weight.detach().clone() * 0.7, head.bias.detach() + 0.2
    objective = Confusion(
        Probes(weight[[2, 0]], bias[[2, 0]], torch.tensor([0.5, 0.1])), 0.3, (2, 0), (1,), exclusive=False
    )
    batch = batch_of(world.data, range(32), run.device)
    found = objective(world.model, batch).detach().double()
    with torch.no_grad():
        hidden = world.model[:-1](batch.image).double()
        logit = world.model(batch.image).double()[:, 1]
    for at in range(32):
        sign = 1.0 if batch.target[at, 1] == 1 else -1.0
        exact = 0.0 if batch.target[at, 1] == -1 else torch.log1p(torch.exp(-sign * logit[at]))
        for row, goal in ((2, 0.5), (0, 0.1)):
            score = weight[row].double() @ hidden[at] + bias[row].double()
            loss = goal * torch.log1p(torch.exp(-score)) + (1 - goal) * torch.log1p(torch.exp(score))
            exact = exact + 0.3 * loss / 2
        # float32 logits up to about 20 have steps of 2e-6
        assert float(found[at]) == pytest.approx(float(exact), abs=1e-5)


@pytest.mark.parametrize(
    ("prior", "target"), [(0.5, 0.5), (0.2, 0.5), (0.8, 0.5), (0.19, 0.19), (0.9, 0.9), (0.01, 0.01)]
)
def test_the_target_is_a_half_unless_the_label_is_rare_or_nearly_everywhere(prior, target) -> None:
    assert confused_target(prior) == target


@pytest.mark.parametrize("batchnorm", [False, True])
def test_the_originals_reader_sees_less_of_the_label_and_the_others_keep_working(
    run: Run, batchnorm: bool
) -> None:
    world = tiny_world(batchnorm=batchnorm)
    test, column = world.source.test, 0
    head = find_head(world.model, 3)[1]
    reader = head.weight[column].detach().numpy()
    outcome = forget_labels(world.model, ["top"], world.data, method="confusion")
    before, after = (outputs(model, test, run) for model in (world.model, outcome.model))
    spread = [float(np.std(found.features[PENULTIMATE] @ reader)) for found in (before, after)]
    assert auc(before.features[PENULTIMATE] @ reader, test.target[:, column]) > 0.9
    assert spread[1] < 0.25 * spread[0]
    for retained in (1, 2):
        assert auc(after.logits[:, retained], test.target[:, retained]) > 0.9


def test_a_stronger_confusion_forgets_more(run: Run) -> None:
    world = tiny_world()
    reader = find_head(world.model, 3)[1].weight[0].detach().numpy()
    spread = []
    for strength in (1e-4, 0.3):
        options = {"method": "confusion", "strength": strength, "steps": 60}
        model = forget_labels(world.model, ["top"], world.data, **options).model
        spread.append(float(np.std(outputs(model, world.source.test, run).features[PENULTIMATE] @ reader)))
    assert spread[1] < 0.5 * spread[0]


def test_which_images_have_the_label_is_not_used(run: Run) -> None:
    """Shuffling the forgotten column keeps its base rate and changes no bit; a retained one changes many."""
    world, model = tiny_world(), tiny_world().model
    order = np.random.default_rng(0).permutation(len(world.data))
    found = {}
    for column in (0, 1):
        data = replace(world.data, target=world.data.target.copy())
        data.target[:, column] = data.target[order, column]
        assert (data.target != world.data.target).any()
        found[column] = forget_labels(model, ["top"], data, method="confusion", steps=3).model
    expected = forget_labels(model, ["top"], world.data, method="confusion", steps=3).model
    assert differing(found[0], expected) == []
    assert "0.weight" in differing(found[1], expected)
