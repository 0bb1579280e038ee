from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import MethodError, OptionError
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.forget.adversary import Adversary
from unlabel.forget.bill import Budget
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods import deep_probes as room
from unlabel.forget.methods.deep_probes import (
    AgainstProbes,
    DeepProbes,
    bank_of,
    deep_probes,
    floors_of,
    passes,
)
from unlabel.forget.methods.deep_probes import bill as bill_of
from unlabel.forget.repair import brief, held_rows
from unlabel.forget.residual import Residuals, centred, retained_logits
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.models.outputs import PENULTIMATE
from unlabel.models.sites import find_sites
from unlabel.testing import differing, tiny_world
from unlabel.testing.worlds import World
from unlabel.training.fit import LabelLoss

REQUEST = Request.make(["top"], ("top", "middle", "bottom"))


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def parts(world: World, run: Run, request: Request = REQUEST) -> tuple[list, Residuals]:
    sites = find_sites(world.model, 3, batch_of(world.data, range(2), run.device).image)
    logits = retained_logits(world.model, request, world.data, run)
    return sites, Residuals.of(logits, request, world.data, run, 0.5)


def told_by_features(world: World, model: torch.nn.Module, run: Run) -> float:
    """The share of the label's variance that least squares on the features explains in new images."""
    fitted, read = (
        outputs(model, part, run).features[PENULTIMATE] for part in (world.data, world.source.test)
    )
    design = np.c_[fitted, np.ones(len(fitted))]
    ridge = design.T @ design + 0.1 * np.eye(design.shape[1])
    said = np.c_[read, np.ones(len(read))] @ np.linalg.solve(ridge, design.T @ world.data.target[:, 0])
    target = world.source.test.target[:, 0]
    return 1 - float(np.mean((target - said) ** 2) / target.var())


def right(world: World, model: torch.nn.Module, column: int, run: Run) -> float:
    said = outputs(model, world.source.test, run).logits[:, column]
    return float(np.mean((said > 0) == (world.source.test.target[:, column] == 1)))


def test_the_label_leaves_the_features_and_the_others_stay(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without floors: any network tells which third of these pictures is bright."""
    monkeypatch.setattr(room, "floors_of", lambda *_: {})
    world = tiny_world(images=1024)
    tuned = forget_labels(world.model, ["top"], world.data, method="fine-tune", steps=50, lr=0.2).model
    assert told_by_features(world, tuned, run) > 0.9
    options = {"method": "deep-probes", "run": run.with_seed(1), "steps": 200}
    model = forget_labels(world.model, ["top"], world.data, **options).model
    assert told_by_features(world, model, run) < 0.5
    assert min(right(world, model, column, run) for column in (1, 2)) > 0.9


def test_a_label_that_cannot_go_does_not_take_the_others_along(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here nothing moves the label: the weights of its probes stop rising before the others pay.

    As a rule: a third of all seeds harms them, and some end the network.
    """
    monkeypatch.setattr(room, "floors_of", lambda *_: {})
    world = tiny_world(batchnorm=True, images=2048)
    model = forget_labels(world.model, ["top"], world.data, method="deep-probes", run=run.with_seed(1)).model
    assert min(right(world, model, column, run) for column in (1, 2)) > 0.9


def test_without_weights_it_is_ordinary_fine_tuning_bit_for_bit(run: Run) -> None:
    world = tiny_world(batchnorm=True)
    sites, told = parts(world, run)
    method = DeepProbes(strength=0.0, pressure=0.03, steps=7, lr=0.1)
    adversary, _ = method.adversary(world.model, sites, told, world.data, run)
    against = method_trained(world, method, adversary, told, run)
    plain = tiny_world(batchnorm=True).model
    held = [held_rows(plain, REQUEST)]
    brief(plain, LabelLoss((1, 2)), world.data, run, steps=7, lr=0.1, after=held, clip=5.0)
    assert adversary.fits == 2
    assert differing(against, plain) == []


def method_trained(
    world: World, method: DeepProbes, adversary: Adversary, told: Residuals, run: Run
) -> torch.nn.Module:
    model = tiny_world(batchnorm=True).model
    method.train(model, adversary, told, REQUEST, world.data, run)
    return model


@pytest.mark.parametrize("unknown", [0, 1, 14])
def test_the_objective_is_the_formula_in_float64(run: Run, unknown: int) -> None:
    """Retained loss + sum of weight * Cov(p, r) / Var(r), its parts summing up to the covariance.

    Where the label is not annotated in some of 15 images, the others count for them.
    """
    world = tiny_world("unknown", batchnorm=True)
    world.data.target[:, 0] = np.maximum(world.data.target[:, 0], 0)
    world.data.target[np.arange(len(world.data)) % 15 < unknown, 0] = -1
    sites, told = parts(world, run)
    method = DeepProbes(0.15, 0.03, 1, 0.1)
    adversary, _ = method.adversary(world.model, sites, told, world.data, run)
    objective = AgainstProbes(adversary, told, False, run)
    batch = batch_of(world.data, range(32), run.device)
    model = world.model.eval()
    plain = objective(model, batch).detach()
    objective.weights = {site.name: torch.tensor([0.1 * at]) for at, site in enumerate(sites)}
    extra = float((objective(model, batch).detach() - plain).double().sum())
    residual, known = (item.double().numpy()[:, 0] for item in told.at(batch))
    centred_r = 32 / 31 * (residual - residual.mean())
    r = residual / (world.data.target[:, 0] >= 0).mean() if unknown else centred_r
    exact = 0.0
    for at, site in enumerate(sites):
        said = adversary.probes[site.name](objective.met[0].rows[site.name]).double().numpy()[:, 0]
        exact += 0.1 * at * float(said @ r) / float(told.variance[0])
    assert extra == pytest.approx(exact, rel=1e-3, abs=1e-4)
    assert np.count_nonzero(r) == np.sum(known > 0)


@pytest.mark.parametrize("share_known", [1.0, 0.5])
@pytest.mark.parametrize("images", [1, 2, 3, 32])
def test_the_pull_is_the_share_on_average_however_small_a_micro_batch_is(
    images: int, share_known: float
) -> None:
    """Also where a micro-batch happens to hold annotated images alone."""
    rng = torch.Generator().manual_seed(0)
    r, noise = torch.randn(2, 3072, 1, generator=rng, dtype=torch.float64)
    known = torch.rand(r.shape, generator=rng) < share_known
    residual, said = centred(r, known), 0.5 * r + noise
    told = Residuals(residual, known, torch.arange(len(r)), (1,))
    share = float((said * residual).sum() / residual.square().sum())
    order = torch.cat([torch.randperm(len(r), generator=rng) for _ in range(20)]).view(-1, images).T
    residuals, annotated, answers = (item[order, 0] for item in (residual, known, said))  # a column a batch
    met = (answers * told.pull(residuals, annotated)).mean(0)
    assert float(met.mean()) == pytest.approx(share, abs=0.02)


def test_passes_change_neither_weights_nor_statistics_and_see_every_image(run: Run) -> None:
    world = tiny_world(batchnorm=True)
    kept = {name: value.clone() for name, value in world.model.state_dict().items()}
    sites, told = parts(world, run)
    seen = passes(world.model, sites, told, world.data, run, len(world.data))
    assert all(torch.equal(value, kept[name]) for name, value in world.model.state_dict().items())
    assert not world.model.training
    assert torch.equal(seen.residual.sort(0).values, told.values.sort(0).values)


def test_the_floor_of_a_label_that_is_plain_to_any_network_is_high(run: Run) -> None:
    """An untrained network tells which third is bright; it does not tell a coin."""
    world = tiny_world("never-learnt", images=2048)
    request = Request.make(["top", "coin"], world.labels)
    sites = find_sites(world.model, 4, batch_of(world.data, range(2), run.device).image)
    logits = retained_logits(world.model, request, world.data, run)
    told = Residuals.of(logits, request, world.data, run, 0.5)
    floors = floors_of(world.model, sites, told, world.data, run, bank_of(len(world.data)))
    assert float(floors["grid1"][0]) > 0.5
    assert float(floors["grid1"][1]) < 0.1


def test_labels_forgotten_earlier_are_probed_too(run: Run) -> None:
    world = tiny_world()
    request = Request.make(["bottom"], world.labels, forgotten=["top"])
    _, told = parts(world, run, request)
    assert told.values.shape[1] == 2
    assert told.retain == (1,)


def test_same_seed_same_bits_and_another_seed_others(run: Run) -> None:
    world = tiny_world()
    one, two = (
        forget_labels(world.model, ["top"], world.data, method="deep-probes", steps=6).model for _ in range(2)
    )
    assert differing(one, two) == []
    other = forget_labels(
        world.model, ["top"], world.data, method="deep-probes", steps=6, run=run.with_seed(1)
    ).model
    assert "0.weight" in differing(one, other)


def test_the_bill_is_what_it_takes(run: Run) -> None:
    world = tiny_world()
    outcome = forget_labels(world.model, ["top"], world.data, method="deep-probes", steps=4)
    options = {"steps": 4}
    found = bill_of(deep_probes(steps=4), options, Budget(4, run.batch_size, len(world.data)))
    assert found == (outcome.history.steps, outcome.images_processed)


def test_a_gradient_of_any_length_is_shortened(run: Run) -> None:
    world = tiny_world()
    _, head = find_head(world.model, 3)

    def steep(model: torch.nn.Module, batch: object) -> torch.Tensor:
        return 1e6 * LabelLoss((1, 2))(model, batch)  # type: ignore[arg-type]

    before = head.weight.detach().clone()
    brief(world.model, steep, world.data, run, steps=1, lr=0.1, clip=5.0)
    # a first step of Nesterov's momentum is 1.9 gradients long, and weight decay adds to it
    assert float((head.weight - before).detach().norm()) < 0.1 * 1.9 * 5.1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strength": 0.0}, "--strength is 0"),
        ({"pressure": -1.0}, "--pressure is -1"),
        ({"steps": 0}, "--steps is 0"),
        ({"lr": 11.0}, "--lr is 11"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        deep_probes(**options)


def test_unknown_annotations_of_every_kind_are_survived(run: Run) -> None:
    world = tiny_world("unknown")
    data = replace(world.data, target=world.data.target.copy())
    data.target[::2] = -1
    outcome = forget_labels(world.model, ["top", "bottom"], data, method="deep-probes", steps=6)
    assert all(torch.isfinite(value).all() for value in outcome.model.state_dict().values())


class Checkpointed(nn.Module):
    """A network whose first layers are computed a second time for the gradient.

    Args:
        switch: Whether that can be switched off by the name that timm gives it.
    """

    def __init__(self, layers: nn.Sequential, *, switch: bool) -> None:
        super().__init__()
        self.first, self.last = layers[:-1], layers[-1]
        self.grad_checkpointing, self.switch = True, switch

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        again = self.grad_checkpointing or not self.switch
        found = checkpoint(self.first, images, use_reentrant=False) if again else self.first(images)
        return self.last(found)


def test_gradient_checkpointing_is_off_while_sites_are_read() -> None:
    world = tiny_world()
    made = []
    for on in (False, True):
        network = Checkpointed(tiny_world().model, switch=True)
        network.grad_checkpointing = on
        made.append(forget_labels(network, ["top"], world.data, method="deep-probes", steps=2).model)
        assert made[-1].grad_checkpointing == on
    assert not differing(*made)
    network = Checkpointed(tiny_world().model, switch=False)
    with pytest.raises(MethodError, match=r"uses torch\.utils\.checkpoint.*switch checkpointing off"):
        forget_labels(network, ["top"], world.data, method="deep-probes", steps=2)


def test_a_compiled_network_is_read_as_the_network_inside() -> None:
    world = tiny_world()
    compiled = torch.compile(tiny_world().model, backend="eager")
    compiled(torch.zeros(2, 3, 16, 16))  # from now on it calls no hook that comes later
    made = forget_labels(compiled, ["top"], world.data, method="deep-probes", steps=2).model
    plain = forget_labels(world.model, ["top"], world.data, method="deep-probes", steps=2).model
    assert type(made) is type(plain)
    assert all(torch.equal(made.state_dict()[name], value) for name, value in plain.state_dict().items())
