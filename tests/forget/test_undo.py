"""UNDO: how much noise, whose answers, and what the forgotten label's annotations do: nothing."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.core.loss import loss_of
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.forget.distill import untaught
from unlabel.forget.driver import forget_labels
from unlabel.forget.given import FEW
from unlabel.forget.methods.undo import NoiseAndDistil, mix, undo
from unlabel.forget.ranking import aucs
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.models.outputs import PENULTIMATE
from unlabel.testing import differing, tiny_world
from unlabel.testing.passes import count_passes


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def test_no_noise_leaves_every_bit() -> None:
    world = tiny_world(batchnorm=True)
    model = copy.deepcopy(world.model)
    mix(model, untaught(model, 0).model, 0.0, 1.0)
    assert differing(model, world.model) == []


def test_weights_are_shrunk_and_perturbed_by_the_formula() -> None:
    world = tiny_world(batchnorm=True)
    fresh = untaught(world.model, 3).model
    model = copy.deepcopy(world.model)
    model[0].weight.requires_grad_(False)
    mix(model, fresh, 0.6, 0.1)
    new = dict(fresh.named_parameters())
    for name, weight in model.named_parameters():
        old = world.model.get_parameter(name).detach().double()
        size = 0.1 if weight.ndim > 1 else 1.0
        expected = 0.4 * old + 0.6 * size * new[name].detach().double()
        torch.testing.assert_close(
            weight.detach().double(), old if name == "0.weight" else expected, atol=1e-6, rtol=0
        )


def test_at_alpha_and_beta_1_the_network_is_a_new_one(run: Run) -> None:
    """Taught by annotations alone, nothing of the original's weights is in it but the rows that are held."""
    one, two = tiny_world(batchnorm=True), tiny_world("correlated", batchnorm=True)
    assert "0.weight" in differing(one.model, two.model)
    made = [
        forget_labels(
            model, ["top"], one.data, method="undo", run=run, alpha=1.0, beta=1.0, truth=1.0, steps=4
        ).model
        for model in (one.model, two.model)
    ]
    assert differing(*made) == []


@pytest.mark.parametrize("truth", [0.0, 0.25, 1.0])
def test_the_loss_is_annotations_and_the_original_s_answers(truth: float, run: Run) -> None:
    world = tiny_world("unknown")
    request = Request.make(["top"], world.labels)
    objective, data, read = NoiseAndDistil(0.5, 0.1, truth, 3, 0.1).aim(world.model, request, world.data, run)
    assert read == 0
    batch = batch_of(data, range(24), run.device)
    student = untaught(world.model, 1).model
    with torch.no_grad():
        found = objective(student, batch)
        z, teacher = (model(batch.image).double()[:, 1:] for model in (student, world.model))
    s, q = teacher.sigmoid(), z.sigmoid()
    kl = (s * (s / q).log() + (1 - s) * ((1 - s) / (1 - q)).log()).mean(1)
    true = loss_of(exclusive=False)(torch.cat([z[:, :1], z], 1), batch.target, (1, 2))
    torch.testing.assert_close(found.double(), truth * true + (1 - truth) * kl, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("truth", [0.0, 0.5, 1.0])
def test_no_annotation_of_the_label_is_used(truth: float) -> None:
    world = tiny_world()
    target = world.data.target.copy()
    target[:, 0] = target[::-1, 0]
    assert (target != world.data.target).any()
    options = {"method": "undo", "steps": 3, "truth": truth}
    made = [
        forget_labels(world.model, ["top"], data, **options).model
        for data in (world.data, replace(world.data, target=target))
    ]
    assert differing(*made) == []


def separation(model: nn.Module, world, run: Run) -> float:
    """Distance of the two kinds of images in standard deviations, along the best direction."""
    parts = [
        outputs(model, part, run).features[PENULTIMATE] for part in (world.source.probe, world.source.test)
    ]
    label, other = world.source.probe.target[:, 0], world.source.test.target[:, 0]
    within = np.cov(parts[0][label == 1].T) + np.cov(parts[0][label == 0].T)
    within += np.eye(len(within)) * (0.01 * np.trace(within) / len(within))
    axis = np.linalg.solve(within, parts[0][label == 1].mean(0) - parts[0][label == 0].mean(0))
    z = parts[1] @ axis
    return (z[other == 1].mean() - z[other == 0].mean()) / np.sqrt(z[other == 1].var() + z[other == 0].var())


def test_more_noise_forgets_more_and_the_retained_labels_return(run: Run) -> None:
    world = tiny_world()
    found = []
    for alpha in (0.0, 0.9):
        options = {"method": "undo", "alpha": alpha, "truth": 1.0}
        outcome = forget_labels(world.model, ["top"], world.data, **options)
        found.append(separation(outcome.model, world, run))
        logits = outputs(outcome.model, world.source.test, run).logits
        assert min(aucs(logits, world.source.test, (1, 2))) > 0.95
    assert found[1] < 0.7 * found[0]


def test_rows_of_forgotten_labels_keep_their_bits() -> None:
    world = tiny_world()
    first = forget_labels(world.model, ["top"], world.data, method="head-removal").model
    later = forget_labels(
        first, ["bottom"], world.data, method="undo", forgotten=["top"], keep_row=True, steps=3
    ).model
    before, after = find_head(first, 3)[1], find_head(later, 3)[1]
    assert (before.weight != after.weight).any(1).tolist() == [False, True, False]
    assert (before.bias != after.bias).tolist() == [False, True, False]


@pytest.mark.parametrize(("truth", "times"), [(0.5, 2), (1.0, 1)])
def test_the_teacher_is_on_the_bill(truth: float, times: int) -> None:
    world = tiny_world()
    with count_passes(3) as seen:
        outcome = forget_labels(world.model, ["top"], world.data, method="undo", steps=2, truth=truth)
    assert outcome.images_processed == seen.forward - 2 * FEW == times * 2 * 64


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"alpha": 1.1}, "--alpha is 1.1"),
        ({"alpha": float("nan")}, "--alpha is nan"),
        ({"beta": -1.0}, "--beta is -1"),
        ({"beta": 11.0}, "--beta is 11"),
        ({"truth": 2.0}, "--truth is 2"),
        ({"steps": 0}, "--steps is 0"),
        ({"lr": 0.0}, "--lr is 0"),
    ],
)
def test_an_option_out_of_range_is_refused(options, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        undo(**options)
