"""RepSelect for columns: the gradient, the collapse by its formula, the length and the way of the step."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import EmptySelection, OptionError
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods.repselect import RepSelect, collapsed, movable, repselect
from unlabel.forget.ranking import aucs
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.testing import differing, tiny_world


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def test_its_own_strong_components_shrink_on_both_sides() -> None:
    """s_i -> s_i (s_k / s_i)^2 for i < k; the weaker ones and all directions stay."""
    g = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 9)))
    left, size, right = torch.linalg.svd(g, full_matrices=False)
    new = torch.where(torch.arange(6) < 3, size[2] ** 2 / size, size)
    torch.testing.assert_close(
        collapsed(g, g, 0.5, "both"), left @ torch.diag(new) @ right, atol=1e-9, rtol=0
    )
    once = torch.where(torch.arange(6) < 3, size[2], size)
    for side in ("inputs", "outputs"):
        torch.testing.assert_close(
            collapsed(g, g, 0.5, side), left @ torch.diag(once) @ right, atol=1e-9, rtol=0
        )


def test_components_of_another_gradient_are_damped_on_each_side() -> None:
    rng = np.random.default_rng(1)
    g, other = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    left, size, right = np.linalg.svd(other, full_matrices=False)
    factor = np.diag(1 - size[1] / size[:2])
    inputs = np.eye(4) - right[:2].T @ factor @ right[:2]
    outs = np.eye(5) - left[:, :2] @ factor @ left[:, :2].T
    found = collapsed(torch.from_numpy(g), torch.from_numpy(other), 0.5, "both")
    np.testing.assert_allclose(found.numpy(), outs @ g @ inputs, atol=1e-9)


def test_no_collapse_and_a_zero_gradient_leave_every_bit() -> None:
    g = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 4)))
    assert torch.equal(collapsed(g, g, 0.0, "both"), g)
    assert torch.equal(collapsed(g, g, 0.5, "none"), g)
    assert torch.equal(collapsed(g, torch.zeros_like(g), 0.5, "both"), g)
    assert torch.equal(collapsed(torch.zeros_like(g), torch.zeros_like(g), 0.5, "both"), torch.zeros_like(g))


@pytest.mark.parametrize("kind", ["independent", "unknown"])
def test_the_step_is_that_of_autograd(kind, run: Run) -> None:
    """Without a collapse: against the gradient of mean (y - p) z over known annotations."""
    world = tiny_world(kind)
    request = Request.make(["top"], world.labels)
    made = RepSelect(0.2, 0.0, "forget", "both")(world.model, request, world.data, run).model
    model, batch = world.model, batch_of(world.data, range(len(world.data)), run.device)
    y, known = batch.target[:, 0].double(), batch.target[:, 0] >= 0
    share = y[known].mean()
    z = model(batch.image)[:, 0].double()
    weights = movable(model, find_head(model, 3)[1])
    gradients = torch.autograd.grad((z[known] * (y[known] - share)).sum() / len(y), list(weights.values()))
    length = torch.sqrt(sum(g.double().square().sum() for g in gradients))
    whole = torch.sqrt(sum(w.detach().double().square().sum() for w in weights.values()))
    for (name, weight), g in zip(weights.items(), gradients, strict=True):
        expected = weight.detach().double() - 0.2 * whole * g.double() / length
        torch.testing.assert_close(made.get_parameter(name).double(), expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("distribution", ["forget", "retain"])
@pytest.mark.parametrize("labels", [["top"], ["bottom", "top"]])
def test_the_step_has_its_length_and_the_rows_stay(labels, distribution, run: Run) -> None:
    world = tiny_world(batchnorm=True)
    request = Request.make(labels, world.labels)
    made = RepSelect(0.3, 0.25, distribution, "both")(world.model, request, world.data, run).model
    name, head = find_head(world.model, 3)
    moved = movable(world.model, head)
    assert list(moved) == ["0.weight", "4.weight"]
    change = [(made.get_parameter(each) - value).detach().double() for each, value in moved.items()]
    length, whole = (
        torch.sqrt(sum(v.square().sum() for v in values))
        for values in (change, map(torch.Tensor.detach, moved.values()))
    )
    assert float(length / whole) == pytest.approx(0.3, rel=1e-4)
    others = {"1.running_mean", "1.running_var", f"{name}.bias", *moved}
    assert set(differing(world.model, made)) == others
    kept = [
        column
        for column in request.columns
        if made.get_parameter(f"{name}.bias")[column] == head.bias[column]
    ]
    assert kept == list(request.columns)


def test_the_label_s_own_output_weakens_and_the_others_stay(run: Run) -> None:
    world = tiny_world(batchnorm=True)
    test = world.source.test
    apart = []
    for step in (1e-6, 0.1, 0.3):
        outcome = forget_labels(
            world.model, ["top"], world.data, method="repselect", step=step, keep_row=True
        )
        logits = outputs(outcome.model, test, run).logits
        kinds = [logits[test.target[:, 0] == kind, 0] for kind in (1, 0)]
        apart.append((kinds[0].mean() - kinds[1].mean()) / np.sqrt(kinds[0].var() + kinds[1].var()))
        assert min(aucs(logits, test, (1, 2))) > 0.95
    assert apart[2] < 0.7 * apart[0]
    assert apart[2] < apart[1] < apart[0]


def test_unknown_annotations_count_nothing(run: Run) -> None:
    """Other pictures in their place change no weight but the biases that hold the outputs' means."""
    world = tiny_world("unknown")
    pixels = world.data.pixels.copy()
    unknown = world.data.rows[world.data.target[:, 0] < 0]
    pixels[unknown] = 255 - pixels[unknown]
    request = Request.make(["top"], world.labels)
    made = [
        RepSelect(0.1, 0.25, "forget", "both")(world.model, request, data, run).model
        for data in (world.data, replace(world.data, pixels=pixels))
    ]
    head = find_head(world.model, 3)[0]
    for name, value in made[0].named_parameters():
        if name != f"{head}.bias":
            torch.testing.assert_close(made[1].get_parameter(name), value, atol=1e-6, rtol=0)
    assert f"{head}.bias" in differing(*made)


@pytest.mark.parametrize("kind", ["tied", "parametrised"])
def test_a_weight_without_a_gradient_of_its_own_is_left_out(kind: str, run: Run) -> None:
    """A second name of a weight, and a weight that is computed from others."""
    world = tiny_world(batchnorm=True)
    if kind == "parametrised":
        nn.utils.parametrizations.weight_norm(world.model[0])
    else:
        world.model.insert(5, nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16)))
        world.model[5][1].weight = world.model[5][0].weight
    made = forget_labels(world.model, ["top"], world.data, method="repselect").model
    names = {"tied": {"0.weight", "4.weight", "5.0.weight", "5.1.weight"}, "parametrised": {"4.weight"}}
    head = find_head(made, 3)[0]
    changed = {name for name in differing(world.model, made) if "weight" in name}
    assert changed - {f"{head}.weight"} == names[kind]
    if kind == "tied":
        assert made[5][1].weight is made[5][0].weight


def test_a_gradient_of_nothing_is_refused(run: Run) -> None:
    world = tiny_world()
    for weight in movable(world.model, find_head(world.model, 3)[1]).values():
        weight.requires_grad_(False)
    with pytest.raises(EmptySelection, match="in 0 layers of length 0"):
        forget_labels(world.model, ["top"], world.data, method="repselect")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"step": 0.0}, "--step is 0"),
        ({"step": 11.0}, "--step is 11"),
        ({"components": 1.5}, "--components is 1.5"),
        ({"components": float("nan")}, "--components is nan"),
    ],
)
def test_an_option_out_of_range_is_refused(options, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        repselect(**options)
