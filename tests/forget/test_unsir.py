"""UNSIR: the noise and what it maximises, the impair loss, and what BatchNorm may see of it."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.core.loss import label_loss
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods.unsir import Banks, Impair, Unsir, shown_range, unsir
from unlabel.forget.ranking import aucs
from unlabel.forget.tasks import Task
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.testing import check_unlearner, differing, tiny_world


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def test_there_are_two_banks_a_label_keyed_by_label_side_and_seed(run: Run) -> None:
    world = tiny_world()
    request = Request.make(["bottom", "top"], world.labels)
    banks = Banks(5, 0, 0.1, 0.1)
    images, target = banks.learn(world.model, request, world.data, run)
    assert images.shape == (20, 3, 16, 16)
    expected = [[-1, -1, 1]] * 5 + [[-1, -1, 0]] * 5 + [[1, -1, -1]] * 5 + [[0, -1, -1]] * 5
    assert target.tolist() == expected
    assert len({image.numpy().tobytes() for image in images}) == 20
    alone, _ = banks.learn(world.model, Request.make(["top"], world.labels), world.data, run)
    assert torch.equal(alone, images[10:])
    other, _ = banks.learn(world.model, request, world.data, run.with_seed(1))
    assert not torch.equal(other, images)
    more, _ = Banks(7, 0, 0.1, 0.1).learn(world.model, request, world.data, run)
    assert torch.equal(more[:5], images[:5])


def test_the_noise_stays_within_what_an_image_can_be(run: Run) -> None:
    world = tiny_world()
    data = replace(world.data, mean=(0.2, 0.5, 0.9), std=(0.25, 0.5, 0.3))
    low, high = shown_range(data)
    assert low[:, 0, 0].tolist() == pytest.approx([-0.8, -1.0, -3.0])
    assert high[:, 0, 0].tolist() == pytest.approx([3.2, 1.0, 1 / 3])
    request = Request.make(["top"], world.labels)
    for steps in (0, 20):
        images, _ = Banks(4, steps, 0.5, 0.0).learn(world.model, request, data, run)
        assert bool(((images >= low) & (images <= high)).all())
        assert bool((images == low).any())
        assert bool((images == high).any())


def test_a_step_of_noise_climbs_the_loss_minus_the_penalty(run: Run) -> None:
    """The first step of Adam is the learning rate times the sign of the gradient."""
    world = tiny_world()
    request = Request.make(["top"], world.labels)
    start, target = Banks(3, 0, 0.01, 0.3).learn(world.model, request, world.data, run)
    one, _ = Banks(3, 1, 0.01, 0.3).learn(world.model, request, world.data, run)
    images = start.clone().requires_grad_()
    wrong = bce(world.model(images)[:, 0], target[:, 0].float(), reduction="none")
    (0.3 * images.square().sum((1, 2, 3)) - wrong).sum().backward()
    assert images.grad is not None
    low, high = shown_range(world.data)
    steep = images.grad.abs() > 1e-4  # Adam's epsilon is 1e-8
    exact = (start - 0.01 * images.grad.sign()).clamp(low, high)
    assert float(steep.float().mean()) > 0.99
    assert torch.allclose(one[steep], exact[steep], atol=1e-5)


@pytest.mark.parametrize("labels", [["top"], ["top", "middle"]])
def test_the_noise_is_wrong_about_its_label_and_the_original_stays(labels: list[str], run: Run) -> None:
    world = tiny_world(batchnorm=True)
    before = copy.deepcopy(world.model)
    request = Request.make(labels, world.labels)
    task = Task(request.columns, alone=True)
    loss = []
    for steps in (0, 40):
        images, target = Banks(8, steps, 0.1, 0.1).learn(world.model, request, world.data, run)
        with torch.no_grad():
            loss.append(task.loss(world.model(images), target))
    assert bool((loss[1] > loss[0].mean()).all())
    assert float(loss[1].mean()) > 3.0
    assert differing(before, world.model) == []
    assert all(weight.grad is None for weight in world.model.parameters())


def test_the_impair_loss_is_its_formula(run: Run) -> None:
    world = tiny_world("unknown")
    request = Request.make(["top", "bottom"], world.labels)
    images, target = Banks(3, 2, 0.1, 0.1).learn(world.model, request, world.data, run)
    objective = Impair(images, target, (0, 2), (1,), 0.7, exclusive=False, seed=4)
    batch = batch_of(world.data, range(32), run.device)
    found = objective(world.model, batch).detach()
    with torch.no_grad():
        real = label_loss(world.model(batch.image), batch.target, (1,))
        score = world.model(images)
    wrong = torch.tensor(
        [
            float(bce(row[column], target[at, column].float()))
            for at, row in enumerate(score)
            for column in (0, 2)
            if target[at, column] >= 0
        ]
    )
    # which noise image comes with a real one is not for the formula to say: one of them does
    gap = (found - real)[:, None] - 0.7 * wrong[None]
    assert float(gap.abs().min(1).values.max()) < 1e-4
    assert len(set(gap.abs().argmin(1).tolist())) > 6
    # the pairs are keyed by image: a batch in another order has the same losses
    turned = objective(world.model, batch_of(world.data, range(31, -1, -1), run.device)).detach()
    assert torch.allclose(turned.flip(0), found, atol=1e-5)


def test_noise_says_nothing_of_the_retained_labels(run: Run) -> None:
    """All targets unknown, so that the noise alone counts: the retained rows get no gradient."""
    world = tiny_world()
    request = Request.make(["top"], world.labels)
    images, target = Banks(3, 0, 0.1, 0.1).learn(world.model, request, world.data, run)
    batch = batch_of(world.data, range(16), run.device)
    batch = batch._replace(target=torch.full_like(batch.target, -1))
    model = copy.deepcopy(world.model)
    Impair(images, target, (0,), (1, 2), 1.0, exclusive=False, seed=0)(model, batch).sum().backward()
    gradient = find_head(model, 3)[1].weight.grad
    assert gradient is not None
    assert gradient.any(1).tolist() == [True, False, False]


@pytest.mark.parametrize(("repair_steps", "moves"), [(0, False), (2, True)])
def test_running_statistics_never_see_the_noise(repair_steps: int, moves: bool, run: Run) -> None:
    world = tiny_world(batchnorm=True)
    model = copy.deepcopy(world.model)
    request = Request.make(["top"], world.labels)
    repair = Unsir(Banks(4, 2, 0.1, 0.1), 1.0, 3, repair_steps, 0.02)
    repair(model, world.model, request, world.data, {}, replace(run, micro_batch=9))
    moved = differing(world.model, model)
    for buffer in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert (buffer in moved) == moves
    assert {"0.weight", "1.weight", "6.weight"} <= set(moved)
    assert not any(module.training for module in model.modules())


def test_the_label_loses_its_output_and_the_others_keep_theirs(run: Run) -> None:
    world = tiny_world()
    test = world.source.test
    outcome = forget_labels(world.model, ["top"], world.data, method="unsir", keep_row=True)
    before, after = (
        aucs(outputs(m, test, run).logits, test, (0, 1, 2)) for m in (world.model, outcome.model)
    )
    assert before[0] > 0.95
    assert after[0] < 0.75
    assert min(after[1:]) > 0.9
    # 2 banks of 16 for 40 steps, 32 steps of pairs, 64 of images
    assert outcome.images_processed == 32 * 40 + 32 * 128 + 64 * 64
    assert outcome.history.steps == 96


def test_the_row_of_an_earlier_label_stays_as_it_was() -> None:
    world = tiny_world()
    first = forget_labels(world.model, ["top"], world.data, method="head-removal").model
    small = {"noise": 2, "noise_steps": 1, "impair_steps": 2, "repair_steps": 2}
    later = forget_labels(
        first, ["bottom"], world.data, method="unsir", forgotten=["top"], keep_row=True, **small
    ).model
    before, after = find_head(first, 3)[1], find_head(later, 3)[1]
    assert (before.weight != after.weight).any(1).tolist() == [False, True, True]
    assert torch.equal(before.bias[0], after.bias[0])


def test_exclusive_classes_are_read_by_their_log_odds(run: Run) -> None:
    world = tiny_world()
    target = np.eye(3, dtype=np.int8)[np.arange(len(world.data)) % 3]
    classes = replace(world.data, target=target, exclusive=True)
    world = replace(world, source=replace(world.source, train=classes))
    small = {"noise": 2, "noise_steps": 2, "impair_steps": 1, "repair_steps": 1}
    check_unlearner("unsir", world=world, **small)
    request = Request.make(["top"], world.labels)
    images, said = Banks(4, 30, 0.1, 0.1).learn(world.model, request, classes, run)
    with torch.no_grad():
        share = world.model(images).softmax(1)[:, 0]
    # said to be of the class: the softmax says it is not, and the other way round
    assert float(share[said[:, 0] == 1].max()) < 0.5 < float(share[said[:, 0] == 0].max())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"noise": 0}, "--noise is 0"),
        ({"noise_steps": -1}, "--noise-steps is -1"),
        ({"noise_lr": 0.0}, "--noise-lr is 0"),
        ({"penalty": -1.0}, "--penalty is -1"),
        ({"strength": 0.0}, "--strength is 0"),
        ({"impair_steps": 0}, "--impair-steps is 0"),
        ({"repair_steps": -1}, "--repair-steps is -1"),
        ({"lr": float("inf")}, "--lr is inf"),
    ],
)
def test_an_option_out_of_range_is_refused(options, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        unsir(**options)
