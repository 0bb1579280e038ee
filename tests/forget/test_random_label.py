"""Random labels: the replacements, the loss against them, and what a training on them does."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import OptionError
from unlabel.core.recipe import Recipe
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods.random_label import random_label, relabelling
from unlabel.forget.targets import Replacement, class_targets, label_targets
from unlabel.models.features import outputs
from unlabel.testing import tiny_network, tiny_world
from unlabel.training.fit import LabelLoss, fit

KINDS = [kind for kind in get_args(Replacement) if kind != "nearest"]  # which is for classes
SAMPLED = ["bernoulli_half", "bernoulli_prior", "permute"]


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def many(share: float = 0.1, n: int = 20_000) -> Dataset:
    """Annotations alone, a fifth of the first column unknown."""
    rng = np.random.default_rng(0)
    target = (rng.random((n, 2)) < share).astype(np.int8)
    target[rng.random(n) < 0.2, 0] = -1
    rows = np.arange(n)
    return Dataset(np.zeros((1, 2, 2, 3), np.uint8), rows, target, rows, rows.astype(str), ("a", "b"))


def classes(n: int = 120) -> Dataset:
    """Pictures with one of four classes each, the later ones rarer."""
    data = tiny_world("never-learnt").data.take(np.arange(n))
    own = np.searchsorted([0.4, 0.7, 0.9], (np.arange(n) * 0.6180339887) % 1)
    return replace(data, target=np.eye(4, dtype=np.int8)[own], exclusive=True)


def test_soft_targets_are_a_half_and_the_base_rate() -> None:
    data = many()
    known = data.target[:, 0] >= 0
    half, prior = (label_targets(data, (1, 0), kind, 0) for kind in ("half", "prior"))
    assert set(half[:, 0]) == {0.5}
    assert set(prior[:, 0]) == {data.prior(1)}
    assert set(prior[known, 1]) == {data.prior(0)}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_never_annotated_is_in_no_loss(kind: Replacement) -> None:
    data = many()
    found = label_targets(data, (0,), kind, 0)[:, 0]
    assert ((found == -1) == (data.target[:, 0] == -1)).all()
    assert found.max() <= 1


@pytest.mark.parametrize("kind", SAMPLED)
def test_drawn_targets_have_their_rate_and_tell_nothing_of_the_annotation(kind: Replacement) -> None:
    data = many()
    found = label_targets(data, (1,), kind, 0)[:, 0]
    rate = 0.5 if kind == "bernoulli_half" else 0.1
    # 20,000 draws: a standard error of .0021 and, of a correlation, .007
    assert found.mean() == pytest.approx(rate, abs=0.012)
    assert abs(np.corrcoef(found, data.target[:, 1])[0, 1]) < 0.035
    assert (found != label_targets(data, (1,), kind, 1)[:, 0]).any()
    if kind == "permute":
        assert found.sum() == (data.target[:, 1] == 1).sum()


@pytest.mark.parametrize("kind", ["bernoulli_half", "bernoulli_prior"])
def test_a_draw_belongs_to_its_image_and_column(kind: Replacement) -> None:
    data = many(0.5)
    data = replace(data, target=np.concatenate([data.target[:, 1:]] * 2, 1))
    whole = label_targets(data, (0, 1), kind, 3)
    assert (label_targets(data, (1, 0), kind, 3) == whole[:, ::-1]).all()
    order = np.random.default_rng(1).permutation(len(data))
    assert (label_targets(data.take(order), (0, 1), kind, 3) == whole[order]).all()
    assert (whole[:, 0] != whole[:, 1]).any()


def test_flipped_targets_are_the_opposite() -> None:
    data = many()
    assert (label_targets(data, (1,), "flip", 0)[:, 0] == 1 - data.target[:, 1]).all()


@pytest.mark.parametrize("kind", ["half", "prior", "bernoulli_half", "bernoulli_prior"])
def test_an_image_of_a_forgotten_class_gets_retained_classes_and_no_other_image_any(kind) -> None:
    data = classes(240)
    request = Request.make(["top"], data.labels, forgotten=["middle"])
    found = class_targets(data, request, kind, 0)
    own = data.target[:, 0] == 1
    assert found[own].sum(1) == pytest.approx(1.0)
    assert not found[~own].any()
    assert not found[:, :2].any()
    share = np.array([data.prior(2), data.prior(3)])
    share = share / share.sum() if kind.endswith("prior") else np.array([0.5, 0.5])
    if kind.startswith("bernoulli"):
        assert set(found[own].ravel()) == {0.0, 1.0}
        # 96 images: a standard error of .05
        assert found[own].mean(0)[2:] == pytest.approx(share, abs=0.17)
    else:
        assert found[own][:, 2:] == pytest.approx(np.tile(share, (own.sum(), 1)))


@pytest.mark.parametrize(
    ("labels", "forgotten", "expected"),
    [
        (["age_3"], [], {3: [2, 4]}),
        (["age_0"], [], {0: [1]}),
        (["age_5"], [], {5: [4]}),
        (["age_3"], ["age_2"], {3: [4]}),  # not the one that was forgotten before
        (["age_2", "age_3"], [], {2: [1], 3: [4]}),
        (["age_4", "age_5"], [], {4: [3], 5: [3]}),
    ],
)
def test_an_age_group_becomes_the_nearest_one_that_is_retained(labels, forgotten, expected) -> None:
    rows = np.arange(60)
    ages = tuple(f"age_{number}" for number in range(6))
    target = np.eye(6, dtype=np.int8)[rows % 6]
    data = Dataset(np.zeros((1, 2, 2, 3), np.uint8), rows, target, rows, rows.astype(str), ages)
    found = class_targets(data, Request.make(labels, ages, forgotten=forgotten), "nearest", 0)
    for age in range(6):
        row = np.zeros(6)
        row[expected.get(age, [])] = 1 / len(expected.get(age, [1]))
        assert (found[rows % 6 == age] == row).all()


def test_nearest_is_refused_for_labels_which_have_no_order(run: Run) -> None:
    world = tiny_world()
    for method in ("random-label", "salun"):
        with pytest.raises(OptionError, match="--target is nearest, which needs exclusive classes"):
            forget_labels(world.model, ["top"], world.data, method=method, target="nearest", steps=1, run=run)


@pytest.mark.parametrize("method", ["random-label", "salun"])
def test_ordered_classes_are_reassigned_by_training(method: str, run: Run) -> None:
    """Brightness in four steps: the images of the second come to be answered by its neighbours only."""
    data, model = ages(), tiny_network(4, batchnorm=True, seed=1)
    fit(model, LabelLoss((0, 1, 2, 3), exclusive=True), data, Recipe(epochs=20, lr=0.03), run)
    before = outputs(model.eval(), data, run).logits.argmax(1)
    options = {"method": method, "target": "nearest", "steps": 100, "lr": 0.05, "run": run}
    after = outputs(forget_labels(model, ["second"], data, **options).model, data, run).logits.argmax(1)
    own = data.target[:, 1] == 1
    assert np.mean(before[own] == 1) > 0.9
    assert set(after[own]) <= {0, 2}
    assert np.mean(after[~own] == data.target[~own].argmax(1)) > 0.9


def ages() -> Dataset:
    """Pictures of four lightnesses."""
    rng = np.random.default_rng(0)
    own = np.arange(256) % 4
    pixels = np.clip(20 + 70 * own[:, None, None, None] + 5 * rng.normal(size=(256, 16, 16, 3)), 0, 255)
    rows = np.arange(256)
    target = np.eye(4, dtype=np.int8)[own]
    labels = ("first", "second", "third", "fourth")
    return Dataset(pixels.astype(np.uint8), rows, target, rows, rows.astype(str), labels, exclusive=True)


@pytest.mark.parametrize("kind", ["permute", "flip"])
def test_classes_refuse_targets_that_they_do_not_have(kind: Replacement) -> None:
    data = classes()
    world = tiny_world("never-learnt")
    with pytest.raises(OptionError, match=f"--target is {kind}, which exclusive classes do not have"):
        forget_labels(world.model, ["top"], data, method="random-label", target=kind, steps=1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_objective_is_the_formula_in_float64(kind: Replacement, run: Run) -> None:
    """label_loss(retained) + weight * mean BCE against the replacements, one image after another."""
    data = tiny_world("unknown").data.take(np.arange(40))
    model = tiny_network(3, seed=3)
    request = Request.make(["bottom", "top"], data.labels)
    aim = relabelling(kind, 0.3, model, request, data, run)
    picked = np.array([7, 3, 31, 0, 12, 39])
    batch = batch_of(data, picked, run.device)
    goal = label_targets(data, request.columns, kind, run.seed)[picked]
    logits = model(batch.image).detach().double().numpy()
    loss = lambda z, t: np.logaddexp(0, z) - t * z  # noqa: E731
    found = aim.objective(model, batch).detach().numpy()
    assert aim.data is data
    for at, position in enumerate(picked):
        own = data.target[position, 1]
        exact = 0.0 if own == -1 else loss(logits[at, 1], own)
        known = [(z, t) for z, t in zip(logits[at, [2, 0]], goal[at], strict=True) if t >= 0]
        exact += 0.3 * sum(loss(z, t) for z, t in known) / max(1, len(known))
        assert float(found[at]) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("kind", ["prior", "bernoulli_half"])
def test_for_classes_the_objective_is_the_softmax_over_what_is_left(kind: Replacement, run: Run) -> None:
    data = classes()
    model = tiny_network(4, seed=3)
    request = Request.make(["top"], data.labels, forgotten=["bottom"])
    aim = relabelling(kind, 0.5, model, request, data, run)
    assert not (aim.data.target[:, 2] == 1).any()
    goal = class_targets(aim.data, request, kind, run.seed)
    batch = batch_of(aim.data, np.arange(30), run.device)
    logits = model(batch.image).detach().double()
    kept, live = logits[:, [1, 3]].log_softmax(1), logits[:, [0, 1, 3]].log_softmax(1)
    found = aim.objective(model, batch).detach()
    for at in range(30):
        own = int(aim.data.target[at].argmax())
        if own == 0:
            exact = -0.5 * float(live[at] @ torch.from_numpy(goal[at, [0, 1, 3]]))
        else:
            exact = -float(kept[at, [1, 3].index(own)])
        assert float(found[at]) == pytest.approx(exact, abs=1e-6)


class Shifted(nn.Module):
    """A network with a constant added to every logit."""

    def __init__(self, model: nn.Module, by: float) -> None:
        super().__init__()
        self.model, self.by = model, by

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.model(image) + self.by


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_added_to_every_logit_changes_the_loss(kind: Replacement, run: Run) -> None:
    data = tiny_world().data.take(np.arange(40))
    model = tiny_network(3)
    aim = relabelling(kind, 1.0, model, Request.make(["top"], data.labels), data, run)
    batch = batch_of(data, np.arange(40), run.device)
    plain, shifted = (aim.objective(network, batch) for network in (model, Shifted(model, 1.0)))
    assert float((plain - shifted).abs().min().detach()) > 1e-3


def test_one_forward_pass_serves_both_losses(run: Run) -> None:
    world = tiny_world()
    seen = []
    aim = relabelling("prior", 1.0, world.model, Request.make(["top"], world.labels), world.data, run)
    world.model.register_forward_hook(lambda *_: seen.append(1))
    aim.objective(world.model, batch_of(world.data, np.arange(8), run.device))
    assert seen == [1]


def auc(score: np.ndarray, target: np.ndarray) -> float:
    pairs = score[target == 1][:, None] - score[target == 0][None]
    return float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


@pytest.mark.parametrize(("target", "low", "high"), [("flip", 0.0, 0.1), ("half", 0.1, 0.95)])
def test_flipping_inverts_the_output_and_other_targets_unlearn_it(target, low, high, run: Run) -> None:
    world = tiny_world()
    test = world.source.test
    options = {"keep_row": True, "run": run, "target": target, "lr": 0.05}
    after = outputs(
        forget_labels(world.model, ["top"], world.data, method="random-label", **options).model, test, run
    ).logits
    before = outputs(world.model, test, run).logits
    assert auc(before[:, 0], test.target[:, 0]) > 0.99
    assert low <= auc(after[:, 0], test.target[:, 0]) < high
    if target == "half":
        assert np.std(after[:, 0]) < 0.2 * np.std(before[:, 0])
    for column in (1, 2):
        assert auc(after[:, column], test.target[:, column]) > 0.95


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"weight": 0.0}, "--weight is 0; expected more than 0"),
        ({"steps": 0}, "--steps is 0; expected 1 or more"),
        ({"lr": 11.0}, "--lr is 11; expected more than 0, 10 at most"),
    ],
)
def test_values_out_of_range_are_refused_by_name(options, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        random_label(**options)
