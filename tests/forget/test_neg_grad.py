"""NegGrad and NegGrad+: the bounded loss by hand, and where its gradient ends."""

from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
from torch import Tensor

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import Diverged, OptionError
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods.neg_grad import Ceiling, Difference, difference, neg_grad, neg_grad_plus
from unlabel.models.features import outputs
from unlabel.testing import tiny_network, tiny_world


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def forgotten_loss(data: Dataset, request: Request, run: Run, bounded=True, chance="uniform") -> Ceiling:
    objective = difference(0.5, bounded, chance, tiny_network(3), request, data, run).objective
    assert isinstance(objective, Difference)
    return objective.forgotten


def classes(n: int = 60) -> Dataset:
    """Pictures with one of four classes each: half of the first, the others alike."""
    data = tiny_world("never-learnt").data.take(np.arange(n))
    own = np.array([0, 1, 0, 2, 0, 3])[np.arange(n) % 6]
    return replace(data, target=np.eye(4, dtype=np.int8)[own], exclusive=True)


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("chance", ["prior", "uniform"])
def test_the_objective_is_the_formula_in_float64(bounded: bool, chance, run: Run) -> None:
    """alpha * label_loss(retained) - (1 - alpha) * mean_j min(l_j, c), one image after another."""
    data = tiny_world("unknown").data.take(np.arange(40))
    model = tiny_network(3, seed=3)
    request = Request.make(["bottom", "top"], data.labels)
    objective = difference(0.8, bounded, chance, model, request, data, run).objective
    batch = batch_of(data, np.arange(40), run.device)
    logits = model(batch.image).detach().double().numpy()
    found = objective(model, batch).detach().numpy()
    stopped = 0
    for at in range(40):
        target = data.target[at]
        exact = 0.0 if target[1] == -1 else 0.8 * np.logaddexp(0, -(2.0 * target[1] - 1) * logits[at, 1])
        terms = []
        for column in (2, 0):
            if target[column] == -1:
                continue
            loss = np.logaddexp(0, -(2.0 * target[column] - 1) * logits[at, column])
            rate = data.prior(column) if target[column] == 1 else 1 - data.prior(column)
            most = -log(rate) if chance == "prior" else log(2)
            stopped += bounded and loss > most
            terms.append(min(loss, most) if bounded else loss)
        exact -= 0.2 * sum(terms) / max(1, len(terms))
        assert float(found[at]) == pytest.approx(exact, abs=1e-6)
    assert not bounded or 10 < stopped < 70


def test_the_gradient_is_exactly_zero_at_and_beyond_chance(run: Run) -> None:
    """A present label's loss is ln 2 at logit 0 and larger below; an absent one's at 0 and above."""
    request = Request.make(["top"], ("top", "middle", "bottom"))
    loss = forgotten_loss(tiny_world().data, request, run)
    target = torch.tensor([1, 1, 1, 0, 0, 0])[:, None].repeat(1, 3)
    first = torch.tensor([2.0, 0.0, -3.0, -2.0, 0.0, 3.0])
    logits = first[:, None].repeat(1, 3).requires_grad_()
    found = loss(logits, target)
    assert found.tolist() == pytest.approx([0.126928, log(2), log(2), 0.126928, log(2), log(2)], abs=1e-6)
    (slope,) = torch.autograd.grad(found.sum(), logits)
    assert slope[:, 0].tolist()[1:3] == slope[:, 0].tolist()[4:] == [0.0, 0.0]
    assert slope[[0, 3], 0].tolist() == pytest.approx([-0.119203, 0.119203], abs=1e-6)
    assert not slope[:, 1:].any()


def test_at_the_base_rate_every_annotation_is_at_chance(run: Run) -> None:
    """A rare label: raised to chance, all images get the base rate, and the mean loss is its entropy."""
    data = tiny_world().data
    target = data.target.copy()
    target[:, 0] = np.arange(len(data)) % 10 == 0
    data = replace(data, target=target)
    loss = forgotten_loss(data, Request.make(["top"], data.labels), run, chance="prior")
    p = data.prior(0)
    logit = log(p / (1 - p))
    annotations = torch.tensor([[1, 0, 0], [0, 0, 0]])
    at_chance = loss(torch.full((2, 3), logit), annotations)
    assert at_chance.tolist() == pytest.approx([-log(p), -log(1 - p)], rel=1e-5)
    better = torch.tensor([[logit + 0.1] * 3, [logit - 0.1] * 3], requires_grad=True)
    worse = torch.tensor([[logit - 0.1] * 3, [logit + 0.1] * 3], requires_grad=True)
    slopes = [torch.autograd.grad(loss(z, annotations).sum(), z)[0][:, 0] for z in (better, worse)]
    assert slopes[0].all()
    assert not slopes[1].any()


def test_of_classes_only_images_of_a_forgotten_one_count_up_to_the_base_rate(run: Run) -> None:
    data = classes()
    request = Request.make(["top", "middle"], data.labels, forgotten=["bottom"])
    aim = difference(0.0, True, "prior", tiny_network(4), request, data, run)
    own = aim.data.target
    assert not own[:, 2:].any()
    assert own.sum() == 40
    objective = aim.objective
    assert isinstance(objective, Difference)
    live = data.take(data.target[:, 2] == 0)
    logits = 3 * torch.randn(8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.eye(4, dtype=torch.long)[torch.arange(8) % 4]
    found = objective.forgotten(logits, target)
    for at in range(8):
        column = at % 4
        exact = 0.0
        if column < 2:
            exact = float(torch.logsumexp(logits[at, [0, 1, 3]], 0) - logits[at, column])
            exact = min(exact, -log(live.prior(column)))
        assert float(found[at]) == pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize("bounded", [True, False])
def test_a_constant_added_to_every_logit_changes_the_loss(bounded: bool, run: Run) -> None:
    world = tiny_world()
    loss = forgotten_loss(world.data, Request.make(["top"], world.labels), run, bounded)
    target = torch.randint(0, 2, (20, 3), generator=torch.Generator().manual_seed(0))
    logits = (2 * target - 1) * 3.0  # better than chance, so that the bound plays no part
    assert float((loss(logits, target) - loss(logits + 1.0, target)).abs().min()) > 1e-3


def test_one_forward_pass_serves_both_losses(run: Run) -> None:
    world = tiny_world()
    seen = []
    aim = difference(0.5, True, "prior", world.model, Request.make(["top"], world.labels), world.data, run)
    world.model.register_forward_hook(lambda *_: seen.append(1))
    aim.objective(world.model, batch_of(world.data, np.arange(8), run.device))
    assert seen == [1]
    assert aim.data is world.data


def auc(score: np.ndarray, target: np.ndarray) -> float:
    pairs = score[target == 1][:, None] - score[target == 0][None]
    return float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def losses(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, -(2.0 * target - 1) * logits)


def test_the_bound_ends_the_ascent_and_without_it_the_label_is_inverted(run: Run) -> None:
    """On the training images: a mean loss of ln 2 is chance, and 20 is certain of the contrary."""
    world = tiny_world(batchnorm=True)
    own = world.data.target[:, 0]
    found = {}
    for bounded in (True, False):
        options = {"bounded": bounded, "keep_row": True, "run": run}
        model = forget_labels(world.model, ["top"], world.data, method="neg-grad", **options).model
        found[bounded] = outputs(model, world.data, run).logits[:, 0]
    before = losses(outputs(world.model, world.data, run).logits[:, 0], own).mean()
    assert 5 * before < losses(found[True], own).mean() < 2
    assert losses(found[False], own).mean() > 20
    assert auc(found[False], own) < 0.6


def test_the_retained_labels_survive_beside_the_ascent(run: Run) -> None:
    world = tiny_world()
    test = world.source.test
    options = {"alpha": 0.5, "lr": 0.1, "keep_row": True, "run": run}
    model = forget_labels(world.model, ["top"], world.data, method="neg-grad-plus", **options).model
    before, after = (outputs(each, test, run).logits for each in (world.model, model))
    own = test.target[:, 0]
    assert losses(after[:, 0], own).mean() > 5 * losses(before[:, 0], own).mean()
    for column in (1, 2):
        assert auc(after[:, column], test.target[:, column]) > 0.95


def test_an_unbounded_ascent_that_overflows_is_an_error(run: Run) -> None:
    world = tiny_world()
    with pytest.raises(Diverged, match="lower --lr"):
        forget_labels(world.model, ["top"], world.data, method="neg-grad", bounded=False, lr=5.0, run=run)


def test_a_loss_that_is_not_a_number_is_not_hidden_by_the_bound(run: Run) -> None:
    world = tiny_world()
    with torch.no_grad():
        world.model.get_parameter("0.bias")[0] = float("nan")
    request = Request.make(["top"], world.data.labels)
    for method in (neg_grad, neg_grad_plus):
        with pytest.raises(Diverged, match="lower --lr"):
            method(steps=2)(world.model, request, world.data, run)


def test_images_without_a_known_annotation_count_for_nothing(run: Run) -> None:
    data = tiny_world("unknown").data
    loss = forgotten_loss(data, Request.make(["top"], data.labels), run)
    found: Tensor = loss(torch.zeros(2, 3), torch.tensor([[-1, 1, 1], [1, 1, 1]]))
    assert found.tolist() == pytest.approx([0.0, log(2)])


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        (neg_grad, {"steps": 0}, "--steps is 0; expected 1 or more"),
        (neg_grad, {"lr": 0.0}, "--lr is 0; expected more than 0, 10 at most"),
        (neg_grad_plus, {"alpha": 1.5}, "--alpha is 1.5; expected 0 or more, 1 at most"),
        (neg_grad_plus, {"alpha": float("nan")}, "--alpha is nan"),
    ],
)
def test_values_out_of_range_are_refused_by_name(make, options, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        make(**options)
