"""SCRUB: the divergences in float64, a max pass that stops at chance, and the choice of a round."""

import copy
from contextlib import suppress
from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import Diverged, OptionError
from unlabel.core.loss import class_loss, label_loss
from unlabel.core.request import Request
from unlabel.data.batches import Batch, batch_of
from unlabel.forget.distill import Network, base_rates, bernoulli_kl, class_kl, divergence
from unlabel.forget.driver import calibration, forget_labels
from unlabel.forget.halves import retain_part
from unlabel.forget.methods.scrub import TILT, Away, Near, from_chance, scrub
from unlabel.forget.phases import joined, phase
from unlabel.forget.ranking import auc, aucs
from unlabel.forget.repair import brief
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.testing import check_unlearner, differing, tiny_world
from unlabel.training.fit import Objective

NO_IMAGE = Batch(torch.zeros(0), torch.zeros(0), torch.zeros(0))


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def shifted(model: nn.Module, number: float) -> nn.Module:
    """The same network with a number added to all logits of every image."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        find_head(model, 3)[1].bias += number
    return model


def logits(rows: int = 200, columns: int = 4, scale: float = 5.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return scale * rng.normal(size=(rows, columns)), scale * rng.normal(size=(rows, columns))


# -- divergences


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_bernoulli_divergence_is_its_definition_in_float64(temperature: float) -> None:
    student, teacher = logits()
    s, q = (1 / (1 + np.exp(-z / temperature)) for z in (teacher, student))
    exact = temperature**2 * (s * np.log(s / q) + (1 - s) * np.log((1 - s) / (1 - q)))
    found = bernoulli_kl(torch.tensor(student), torch.tensor(teacher), temperature)
    # float32 logits up to about 15 have steps of 1e-6, times T^2
    np.testing.assert_allclose(found.numpy(), exact, atol=3e-6 * temperature**2)
    assert np.min(exact) < 0.01 * np.max(exact)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_class_divergence_is_its_definition_in_float64(temperature: float) -> None:
    student, teacher = logits()
    s, q = (np.exp(z / temperature) for z in (teacher, student))
    s, q = s / s.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    exact = temperature**2 * (s * np.log(s / q)).sum(1)
    found = class_kl(torch.tensor(student), torch.tensor(teacher), temperature)
    np.testing.assert_allclose(found.numpy(), exact, atol=1e-5 * temperature**2)


def test_equal_answers_have_no_divergence_and_saturated_ones_a_finite_one() -> None:
    teacher = torch.tensor([[0.0, 3.0, -90.0, 500.0]])
    assert bernoulli_kl(teacher, teacher).tolist() == [[0.0] * 4]
    far = bernoulli_kl(-teacher, teacher)
    assert far[0, 2:].tolist() == [90.0, 500.0]


def test_a_number_added_to_all_logits_changes_every_divergence_of_labels() -> None:
    """Not so that of classes, whose softmax does not see it: the control that the test can tell."""
    student, teacher = (torch.tensor(each) for each in logits())
    for exclusive in (False, True):
        before, after = (
            divergence(student + number, teacher, (0, 2, 3), 2.0, exclusive=exclusive)
            for number in (0.0, 1.0)
        )
        assert bool(torch.allclose(before, after, atol=1e-4)) == exclusive


def test_the_temperature_leaves_the_size_of_the_gradient() -> None:
    """For small differences, T^2 KL(s || q) is (z_s - z_q)^2 / 8 for every T."""
    for temperature in (1.0, 2.0, 4.0):
        found = bernoulli_kl(torch.tensor([[0.3]]), torch.tensor([[0.0]]), temperature)
        assert float(found) == pytest.approx(0.3**2 / 8, rel=0.02)


def test_the_base_rate_of_a_label_is_a_logit_and_of_classes_a_softmax() -> None:
    data = tiny_world("unknown").data
    expected = [data.prior(column) for column in range(3)]
    assert base_rates(data).sigmoid().tolist() == pytest.approx(expected)
    classes = replace(data, target=np.eye(3, dtype=np.int8)[np.arange(len(data)) % 3], exclusive=True)
    assert base_rates(classes).softmax(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.01)


# -- the max pass


def away_loss(student: torch.Tensor, teacher: torch.Tensor, chance: float) -> torch.Tensor:
    objective = Away(lambda batch: teacher[:, None], (0,), torch.tensor([chance]), 2.0, exclusive=False)
    return objective(lambda image: student[:, None], NO_IMAGE)  # type: ignore[arg-type]


@pytest.mark.parametrize("chance", [0.0, -3.0, 1.5])
@pytest.mark.parametrize("teacher", [-9.0, -2.9, -1.0, 0.0, 2.0, 12.0])
def test_the_max_pass_is_lowest_at_chance_and_bounded(teacher: float, chance: float) -> None:
    grid = torch.linspace(-20, 20, 4001)
    loss = away_loss(grid, torch.full_like(grid, teacher), chance)
    assert float(grid[loss.argmin()]) == pytest.approx(chance, abs=0.0051)  # half a step of the grid
    bound = float(bernoulli_kl(torch.tensor([[chance]]), torch.tensor([[teacher]]), 2.0))
    assert float(loss.min()) >= -bound - 1e-4
    # it falls all the way to chance from either side: nowhere does it pay to invert or to be more certain
    below, above = loss[grid < chance], loss[grid > chance]
    assert bool((below.diff() < 1e-6).all())
    assert bool((above.diff() > -1e-6).all())


def test_between_the_teacher_and_chance_the_max_pass_is_the_divergence() -> None:
    teacher = torch.full((50,), 6.0)
    student = torch.linspace(0.5, 6.0, 50)
    found = away_loss(student, teacher, 0.5)
    exact = TILT * (student - 0.5) - bernoulli_kl(student[:, None], teacher[:, None], 2.0)[:, 0]
    assert torch.allclose(found, exact, atol=1e-6)


def test_at_the_start_the_tilt_moves_a_student_that_is_the_teacher() -> None:
    student = torch.tensor([4.0, -4.0], requires_grad=True)
    away_loss(student, student.detach().clone(), 0.0).sum().backward()
    assert student.grad is not None
    assert student.grad.tolist() == pytest.approx([TILT, -TILT])


@pytest.mark.parametrize("batchnorm", [False, True])
def test_a_long_max_pass_ends_at_chance_and_does_not_invert(batchnorm: bool, run: Run) -> None:
    """The control: the divergence without a bound runs away within 20 steps, or the loss is no number."""
    world = tiny_world(batchnorm=batchnorm)
    test, chance = world.source.test, base_rates(world.data)[:1]
    teacher = Network(world.model)

    def unbounded(model: nn.Module, batch: Batch) -> torch.Tensor:
        now, then = model(batch.image)[:, :1], teacher(batch)[:, :1]
        return TILT * (now * then.sign())[:, 0] - bernoulli_kl(now, then, 2.0).mean(1)

    def read(objective: Objective, steps: int) -> np.ndarray:
        student = copy.deepcopy(world.model)
        with suppress(Diverged):
            brief(student, objective, world.data, run, steps=steps, lr=0.02)
        return outputs(student, test, run).logits[:, 0]

    known = outputs(world.model, test, run).logits[:, 0]
    assert auc(known, test.target[:, 0]) > 0.95
    ours = Away(teacher, (0,), chance, 2.0, exclusive=False)
    for steps, most in ((20, 0.2), (150, 0.01)):
        beyond = np.where(test.target[:, 0] == 1, -1.0, 1.0) * (read(ours, steps) - float(chance))
        assert np.percentile(beyond, 95) < most * np.std(known)
    # not finite, or hundreds of times larger
    assert not np.abs(read(unbounded, 20)).max() < 20 * np.abs(known).max()


def test_the_max_pass_gives_the_retained_rows_no_gradient() -> None:
    world = tiny_world("unknown")
    model = copy.deepcopy(world.model)
    objective = Away(Network(shifted(model, 1.0)), (0, 2), torch.zeros(2), 2.0, exclusive=False)
    objective(model, batch_of(world.data, range(32), torch.device("cpu"))).sum().backward()
    gradient = find_head(model, 3)[1].weight.grad
    assert gradient is not None
    assert gradient.any(1).tolist() == [True, False, True]


# -- the min pass


@pytest.mark.parametrize("exclusive", [False, True])
def test_the_min_pass_is_its_formula(exclusive: bool) -> None:
    world = tiny_world("unknown")
    data = world.data
    if exclusive:
        data = replace(data, target=np.eye(3, dtype=np.int8)[np.arange(len(data)) % 3])
    batch = batch_of(data, range(40), torch.device("cpu"))
    teacher = shifted(world.model, 0.7)
    objective = Near(Network(teacher), (0, 2), 0.9, 0.4, 2.0, exclusive)
    found = objective(world.model, batch)
    z, t = world.model(batch.image)[:, [0, 2]], teacher(batch.image)[:, [0, 2]]
    if exclusive:
        exact = 0.9 * class_loss(z, (batch.target[:, [0, 2]]), (0, 1)) + 0.4 * class_kl(z, t, 2.0)
    else:
        exact = 0.9 * label_loss(z, batch.target[:, [0, 2]], (0, 1)) + 0.4 * bernoulli_kl(z, t, 2.0).mean(1)
    assert torch.allclose(found, exact, atol=1e-6)
    assert found.mean().item() > 0


def test_a_number_added_to_all_logits_changes_both_passes() -> None:
    world = tiny_world()
    batch = batch_of(world.data, range(32), torch.device("cpu"))
    teacher = Network(world.model)
    for objective in (
        Near(teacher, (1, 2), 0.0, 1.0, 2.0, exclusive=False),
        Away(teacher, (0,), torch.zeros(1), 2.0, exclusive=False),
    ):
        before, after = (objective(shifted(world.model, number), batch) for number in (0.0, 2.0))
        assert (before - after).abs().min().item() > 1e-4


# -- the method


@pytest.mark.parametrize("labels", [["top"], ["top", "bottom"]])
def test_the_label_loses_its_output_and_the_others_keep_theirs(labels: list[str], run: Run) -> None:
    world = tiny_world()
    test = world.source.test
    outcome = forget_labels(world.model, labels, world.data, method="scrub", keep_row=True)
    before, after = (outputs(model, test, run).logits for model in (world.model, outcome.model))
    for column in outcome.request.columns:
        assert np.std(after[:, column]) < 0.5 * np.std(before[:, column])
    assert min(aucs(after, test, outcome.request.retained_columns)) > 0.9


def test_rewinding_ends_with_the_round_nearest_to_chance(run: Run) -> None:
    """The rounds so far do not depend on those to come, so shorter runs give the candidates."""
    world = tiny_world(batchnorm=True)
    request = Request.make(["top"], world.labels)
    options = {"max_steps": 8, "min_steps": 2, "ascents": 9}
    candidates = [
        scrub(rounds=number, **options)(world.model, request, world.data, run).model
        for number in (1, 2, 3, 4)
    ]
    found = [from_chance(model.eval(), world.data, (0,), run) for model in candidates]
    work = scrub(rounds=4, rewind=True, **options)(world.model, request, world.data, run)
    best = int(np.argmin(found))
    assert work.settings["chosen_round"] == best + 1
    assert differing(work.model, candidates[best]) == []
    assert len({round(value, 6) for value in found}) > 1
    assert work.images_scored == 4 * len(world.data)


def test_the_bill_counts_the_teacher_and_the_steps_are_numbered_through() -> None:
    world = tiny_world()
    options = {"rounds": 3, "ascents": 2, "max_steps": 2, "min_steps": 3}
    outcome = forget_labels(world.model, ["top"], world.data, method="scrub", **options)
    assert [row["step"] for row in outcome.history.rows] == list(range(1, 14))
    assert outcome.images_processed == 2 * 13 * 64
    assert outcome.options["chosen_round"] == 3
    alone = forget_labels(world.model, ["top"], world.data, method="scrub", alpha=0.0, **options)
    assert alone.images_processed == 13 * 64 + 4 * 64


def test_every_phase_sees_its_own_images(run: Run) -> None:
    seeds = {phase(run, name).seed for name in ("a", "b")} | {phase(run.with_seed(1), "a").seed}
    assert len(seeds) == 3
    assert joined([]).steps == 0


def test_the_row_of_an_earlier_label_stays_as_it_was() -> None:
    world = tiny_world()
    first = forget_labels(world.model, ["top"], world.data, method="head-removal").model
    small = {"rounds": 1, "max_steps": 2, "min_steps": 2}
    later = forget_labels(
        first, ["bottom"], world.data, method="scrub", forgotten=["top"], keep_row=True, **small
    ).model
    before, after = find_head(first, 3)[1], find_head(later, 3)[1]
    assert (before.weight != after.weight).any(1).tolist() == [False, True, True]
    assert torch.equal(before.bias[0], after.bias[0])


def test_of_exclusive_classes_the_class_fades_and_the_others_stay(run: Run) -> None:
    world = tiny_world()
    target = np.eye(3, dtype=np.int8)[np.arange(len(world.data)) % 3]
    classes = replace(world.data, target=target, exclusive=True)
    world = replace(world, source=replace(world.source, train=classes))
    check_unlearner("scrub", world=world, rounds=1, max_steps=2, min_steps=1)
    request = Request.make(["top"], world.labels)
    own = classes.take(target[:, 0] == 1)
    assert len(retain_part(classes, request).data) == len(classes) - len(own)
    chance = log(classes.prior(0) / (1 - classes.prior(0)))
    objective = Away(Network(world.model), (0,), torch.tensor([chance]), 2.0, exclusive=True)
    model = copy.deepcopy(world.model)
    loss = [row["loss"] for row in brief(model, objective, own, run, steps=30, lr=0.02).rows]
    assert loss[-1] < loss[0] - 0.3
    assert calibration(classes, 64, 0).exclusive


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rounds": 0}, "--rounds is 0"),
        ({"ascents": -1}, "--ascents is -1"),
        ({"max_steps": 0}, "--max-steps is 0"),
        ({"min_steps": -1}, "--min-steps is -1"),
        ({"gamma": -0.1}, "--gamma is -0.1"),
        ({"alpha": float("nan")}, "--alpha is nan"),
        ({"temperature": 0.0}, "--temperature is 0"),
        ({"lr": 11.0}, "--lr is 11"),
    ],
)
def test_an_option_out_of_range_is_refused(options, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        scrub(**options)
