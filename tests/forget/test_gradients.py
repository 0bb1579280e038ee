"""Moments, curvature and influence of images against the slow, obvious way in float64."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.loss import class_loss, label_loss, log_odds
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset
from unlabel.forget.gradients import Moment, curvature_product, directional, moments
from unlabel.forget.influence import influences, solve, strongest
from unlabel.forget.tasks import Task
from unlabel.testing import tiny_network, tiny_world

TASKS = {
    "labels": Task((0, 2)),
    "one label": Task((1,)),
    "classes": Task((0, 1, 2), exclusive=True),
    "some classes": Task((0, 2), exclusive=True),
    "a class alone": Task((1,), exclusive=True, alone=True),
}


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def images(kind: str = "unknown", n: int = 40) -> Dataset:
    return tiny_world(kind).data.take(np.arange(n))  # type: ignore[arg-type]


def classes(n: int = 40) -> Dataset:
    """The pictures of a world with one-hot targets."""
    from dataclasses import replace

    data = images("independent", n)
    return replace(data, target=np.eye(3, dtype=np.int8)[np.arange(n) % 3], exclusive=True)


def data_of(task: Task) -> Dataset:
    return classes() if task.exclusive else images()


def network(batchnorm: bool = False) -> nn.Module:
    """Wide outputs, so that no probability is near 0 or 1 by chance alone."""
    return tiny_network(3, batchnorm, seed=3).eval()


class Oracle:
    """Every quantity from per-sample Jacobians in float64, one sample after another."""

    def __init__(self, model: nn.Module, data: Dataset, run: Run) -> None:
        self.batch = batch_of(data, np.arange(len(data)), run.device)
        self.model = model.double()
        self.weights = {name: value.detach().double() for name, value in model.named_parameters()}

    def logits(self, weights: dict[str, Tensor], at: int) -> Tensor:
        return functional_call(self.model, weights, (self.batch.image[at : at + 1].double(),))

    def gradients(self, quantity) -> list[dict[str, Tensor]]:
        """Of each sample: name -> (column, *shape)."""
        found = []
        for at in range(len(self.batch.rows)):
            target = self.batch.target[at : at + 1]
            found.append(
                jacrev(lambda w, at=at, target=target: quantity(self.logits(w, at), target).reshape(-1))(
                    self.weights
                )
            )
        return found


def loss_in_float64(task: Task):
    """The task's loss from its definition, without the float32 casts of the package."""

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        chosen = list(task.columns)
        if task.exclusive and not task.alone:
            own = target[:, chosen] == 1
            return -torch.where(own, logits[:, chosen].log_softmax(1), 0.0).sum(1)
        scores = (log_odds(logits) if task.alone else logits)[:, chosen]
        known = target[:, chosen] >= 0
        each = nn.functional.softplus(scores) - target[:, chosen].clamp(min=0) * scores
        return torch.where(known, each, 0.0).sum(1) / known.sum(1).clamp(min=1)

    return loss


def flat(named: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.double().reshape(-1) for value in named.values()])


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Float32 gradients of sums of 32: 1e-4 of the largest number is a hundred roundings."""
    one, two = flat(found), flat(expected)
    assert two.abs().max() > 0
    assert (one - two).abs().max() < 1e-4 * two.abs().max()


@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize("name", TASKS)
def test_the_mean_gradient_and_the_exact_squares_are_the_sums_over_samples(
    name: str, batchnorm: bool, run: Run
) -> None:
    task = TASKS[name]
    data = data_of(task)
    mean, square = moments(
        network(batchnorm), data, run, [Moment(task.loss), Moment(task.loss, square=True)], exact=True
    )
    each = Oracle(network(batchnorm), data, run).gradients(loss_in_float64(task))
    assert_close(mean, {key: sum(one[key][0] for one in each) / len(each) for key in mean})
    assert_close(square, {key: sum(one[key][0] ** 2 for one in each) / len(each) for key in mean})


@pytest.mark.parametrize("name", TASKS)
def test_the_curvature_is_the_gauss_newton_matrix_of_the_loss(name: str, run: Run) -> None:
    """J^T H J with J the Jacobian of what the loss reads and H the loss's own Hessian, by autograd."""
    task = TASKS[name]
    data = data_of(task)
    (found,) = moments(network(), data, run, [Moment(task.curvature, square=True)], exact=True)
    oracle = Oracle(network(), data, run)
    read = log_odds if task.alone else (lambda logits: logits)
    plain = Task(task.columns, task.exclusive and not task.alone)
    jacobians = oracle.gradients(lambda logits, target: read(logits))
    total = torch.zeros_like(flat(found))
    for at, jacobian in enumerate(jacobians):
        scores = read(oracle.logits(oracle.weights, at))
        target = oracle.batch.target[at : at + 1]
        bend = hessian(lambda z, target=target: loss_in_float64(plain)(z, target).sum())(scores)[0, :, 0, :]
        wide = torch.cat([jacobian[key].reshape(3, -1) for key in found], dim=1)
        total += (wide * (bend @ wide)).sum(0) / len(jacobians)
    assert (flat(found) - total).abs().max() < 1e-4 * total.abs().max()


def relative_error(task: Task, quantity, batches: int, run: Run, seeds: int = 6) -> float:
    """Root mean square of the random-sign estimate's relative error, over the weights and seeds."""
    data = images("independent", 256).take(np.arange(32 * batches) % 256)
    data = data.take(np.arange(len(data)))
    object.__setattr__(data, "rows", np.arange(len(data)) % 256)
    model = network()
    (true,) = moments(model, data, run, [Moment(quantity, square=True)], exact=True)
    truth = flat(true)
    used = truth > 1e-3 * truth.max()
    errors = []
    for seed in range(seeds):
        (guess,) = moments(model, data, run.with_seed(seed), [Moment(quantity, square=True)])
        errors.append(((flat(guess) - truth)[used] / truth[used]).square().mean())
    return float(torch.stack(errors).mean().sqrt())


@pytest.mark.parametrize("what", ["loss", "curvature"])
def test_the_error_of_random_signs_falls_as_the_root_of_two_over_the_batches(what: str, run: Run) -> None:
    """sqrt(2 / M) is an upper bound, reached when many samples share a weight; half of it is too good."""
    task = Task((0, 1, 2))
    for batches in (1, 4, 8):
        bound = (2 / batches) ** 0.5
        error = relative_error(task, getattr(task, what), batches, run)
        assert 0.4 * bound < error < 1.15 * bound, (batches, error)


def test_one_sign_for_all_columns_of_a_sample_is_wrong(run: Run) -> None:
    """The positive control: shared signs add the columns up before squaring."""
    task, data, model = Task((0, 1, 2)), images("independent", 256), network()
    with torch.no_grad():  # three outputs that are one: the columns' gradients agree
        model.get_parameter("5.weight").copy_(model.get_parameter("5.weight")[:1].expand(3, -1))
    (true,) = moments(model, data, run, [Moment(task.curvature, square=True)], exact=True)
    (good,) = moments(model, data, run, [Moment(task.curvature, square=True)])
    (bad,) = moments(model, data, run, [Moment(lambda z, t: task.curvature(z, t).sum(1), square=True)])
    assert flat(good).sum() == pytest.approx(float(flat(true).sum()), rel=0.3)
    assert float(flat(bad).sum() / flat(true).sum()) > 2


def test_a_frozen_parameter_is_not_scored_and_nothing_of_the_model_changes(run: Run) -> None:
    model = network()
    model.get_parameter("3.weight").requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    (found,) = moments(model, images(), run, [Moment(Task((0,)).loss)])
    assert "3.weight" not in found
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(value.grad is None for value in model.parameters())


def test_towards_the_prior_is_the_difference_of_two_gradients(run: Run) -> None:
    task, data, prior = Task((0, 2)), images("independent"), torch.tensor([0.3, 0.8])
    (found,) = moments(network(), data, run, [Moment(partial(task.towards, prior=prior))])
    oracle = Oracle(network(), data, run)

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        scores = logits[:, [0, 2]]
        return (nn.functional.softplus(scores) - target * scores).mean(1)

    true = oracle.gradients(lambda z, t: loss(z, t[:, [0, 2]].double()))
    perturbed = oracle.gradients(lambda z, t: loss(z, prior.double()[None]))
    assert_close(
        found,
        {
            key: sum(p[key][0] - t[key][0] for p, t in zip(perturbed, true, strict=True)) / len(true)
            for key in found
        },
    )


def linear_model() -> nn.Module:
    """Linear in its weights, so that the Gauss-Newton matrix is the exact Hessian."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(12, 3)).eval()


@pytest.mark.parametrize("solver", ["cg", "diagonal"])
def test_influence_is_that_of_the_exact_hessian_on_a_model_linear_in_its_weights(
    solver: str, run: Run
) -> None:
    """Koh and Liang's formula with the dense Hessian in float64, and by its diagonal."""
    data, model, damping = images("independent"), linear_model(), 0.05
    everything, label = Task((0, 1, 2)), Task((1,))
    prior = torch.tensor([0.4])
    towards, diagonal = moments(
        model,
        data,
        run,
        [Moment(partial(label.towards, prior=prior)), Moment(everything.curvature, square=True)],
        exact=True,
    )
    v = solve(model, data, run, everything.curvature, diagonal, towards, damping, solver)  # type: ignore[arg-type]
    found = influences(model, data, run, label, v)

    oracle = Oracle(linear_model(), data, run)
    names = list(oracle.weights)
    shapes = [oracle.weights[name].shape for name in names]

    def mean_loss(vector: Tensor) -> Tensor:
        parts = vector.split([shape.numel() for shape in shapes])
        weights = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        logits = functional_call(oracle.model, weights, (oracle.batch.image.double(),))
        return loss_in_float64(everything)(logits, oracle.batch.target).mean()

    dense = hessian(mean_loss)(flat(oracle.weights))
    delta = damping * dense.diagonal().mean()
    matrix = dense if solver == "cg" else torch.diag(dense.diagonal())
    gradient = oracle.gradients(loss_in_float64(label))
    rows = torch.stack([flat({name: one[name][0] for name in names}) for one in gradient])
    perturbed = oracle.gradients(lambda z, t: nn.functional.softplus(z[:, 1]) - prior.double() * z[:, 1])
    moved = torch.stack([flat({name: one[name][0] for name in names}) for one in perturbed])
    direction = torch.linalg.solve(matrix + delta * torch.eye(len(dense)), (moved - rows).mean(0))
    expected = -(rows @ direction).numpy()
    assert np.abs(expected).max() > 0
    # conjugate gradients stop at a residual of 1e-3
    assert np.abs(found - expected).max() < 5e-3 * np.abs(expected).max()


def test_the_product_with_the_matrix_is_that_of_the_dense_one(run: Run) -> None:
    task, data = Task((0, 1, 2)), images()
    rng = torch.Generator().manual_seed(1)
    v = {name: torch.randn(value.shape, generator=rng) for name, value in network().named_parameters()}
    found = curvature_product(network(), data, run, task.curvature, v)
    oracle = Oracle(network(), data, run)
    total = torch.zeros_like(flat(found))
    for jacobian in oracle.gradients(lambda z, t: task_curvature_in_float64(task, z, t)):
        wide = torch.cat([jacobian[key].reshape(3, -1) for key in found], dim=1)
        total += wide.T @ (wide @ flat(v)) / len(data)
    assert (flat(found) - total).abs().max() < 1e-4 * total.abs().max()


def task_curvature_in_float64(task: Task, logits: Tensor, target: Tensor) -> Tensor:
    prob = logits.detach().sigmoid()[:, list(task.columns)]
    known = (target[:, list(task.columns)] >= 0).double()
    return (prob * (1 - prob) * known / known.sum(1, keepdim=True).clamp(min=1)).sqrt() * logits


def test_a_directional_derivative_is_a_small_step(run: Run) -> None:
    task, data, model = Task((1,)), images("independent", 8), network()
    batch = batch_of(data, np.arange(8), run.device)
    rng = torch.Generator().manual_seed(2)
    along = {name: torch.randn(value.shape, generator=rng) for name, value in model.named_parameters()}
    found = directional(model, batch, task.loss, along)
    double = network().double()
    losses = []
    for step in (1e-6, -1e-6):
        moved = {n: v.detach().double() + step * along[n].double() for n, v in model.named_parameters()}
        logits = functional_call(double, moved, (batch.image.double(),))
        losses.append(loss_in_float64(task)(logits, batch.target))
    assert torch.allclose(found.double(), (losses[0] - losses[1]) / 2e-6, rtol=1e-3, atol=1e-4)


def test_the_strongest_images_are_an_exact_share_and_at_least_one() -> None:
    influence = np.array([0.0, 2.0, -2.0, 1.0, 0.0])
    assert strongest(influence, 40).tolist() == [1, 2]
    assert strongest(influence, 1).tolist() == [1]
    assert strongest(influence, 100).tolist() == [0, 1, 2, 3, 4]


def test_losses_of_tasks_are_the_packages_own() -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    target = torch.eye(3, dtype=torch.long)[torch.arange(6) % 3]
    assert torch.equal(Task((0, 2)).loss(logits, target), label_loss(logits, target, (0, 2)))
    assert torch.equal(Task((0, 2), True).loss(logits, target), class_loss(logits, target, (0, 2)))
    alone = Task((1,), True, True).loss(logits, target)
    assert torch.equal(alone, label_loss(log_odds(logits), target, (1,)))
