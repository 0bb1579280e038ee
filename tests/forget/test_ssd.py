"""Selective synaptic dampening against per-sample gradients in float64, and its invariants."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import EmptySelection, OptionError
from unlabel.core.loss import log_odds
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset
from unlabel.forget.driver import forget_labels
from unlabel.forget.methods.ssd import Importance, quotient, ssd
from unlabel.forget.pipeline import Pipeline
from unlabel.models.features import outputs
from unlabel.testing import differing, tiny_network, tiny_world


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def fisher(model: nn.Module, data: Dataset, run: Run, loss) -> dict[str, Tensor]:
    """Mean of squared per-sample gradients in float64, one image after another."""
    model = copy.deepcopy(model).double()
    weights = {name: value.detach() for name, value in model.named_parameters()}
    batch = batch_of(data, np.arange(len(data)), run.device)
    total = {name: torch.zeros_like(value) for name, value in weights.items()}
    for at in range(len(data)):

        def value(weights: dict[str, Tensor], at: int = at) -> Tensor:
            logits = functional_call(model, weights, (batch.image[at : at + 1].double(),))
            return loss(logits[0], batch.target[at])

        for name, gradient in jacrev(value)(weights).items():
            total[name] += gradient**2
    return {name: value / len(data) for name, value in total.items()}


def mean_bce(columns: tuple[int, ...]):
    """Mean binary cross-entropy over the known ones of some columns, spelt out."""

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        known = [column for column in columns if target[column] >= 0]
        terms = [torch.log1p(torch.exp(-(2 * target[column] - 1) * logits[column])) for column in known]
        return sum(terms, logits.sum() * 0) / max(1, len(known))

    return loss


def by_hand(
    model: nn.Module, own: dict[str, Tensor], against: dict[str, Tensor], options: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """New weights in float64, and where rounding could not have decided the selection."""
    if options.get("normalise", True):
        numbers = sum(value.numel() for value in own.values())
        own, against = (
            {
                name: value / (sum(float(v.sum()) for v in each.values()) / numbers)
                for name, value in each.items()
            }
            for each in (own, against)
        )
    alpha, lam = options["alpha"], options["lam"]
    new, clear = {}, {}
    for name, weight in model.named_parameters():
        chosen = own[name] > alpha * against[name]
        factor = (lam * against[name] / own[name]).clamp(max=1.0)
        new[name] = torch.where(chosen, weight.detach().double() * factor, weight.detach().double())
        clear[name] = (own[name] / (alpha * against[name]) - 1).abs() > 1e-3
        clear[name] |= (own[name] == 0) | (against[name] == 0)
    return new, clear


OPTIONS = [
    {"alpha": 3.0, "lam": 1.0},
    {"alpha": 1.5, "lam": 0.5, "normalise": False},
    {"alpha": 1.5, "lam": 2.0, "reference": "full"},
    {"alpha": 1.1, "lam": 1.0, "reference": "full", "normalise": False},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("labels", [("top",), ("bottom", "top")])
def test_the_new_weights_are_the_formula_in_float64(labels, options: dict[str, Any], run: Run) -> None:
    data = tiny_world("unknown").data.take(np.arange(40))
    model = tiny_network(3, batchnorm=True, seed=3).eval()
    request = Request.make(labels, data.labels)
    columns = request.retained_columns if options.get("reference", "retain") == "retain" else (0, 1, 2)
    own, against = (fisher(model, data, run, mean_bce(part)) for part in (request.columns, columns))
    expected, clear = by_hand(model, own, against, options)
    after = ssd(**options, exact=True)(model, request, data, run).model
    changed = left_out = 0
    for name, weight in after.named_parameters():
        sure = clear[name]
        # importances of float32 gradients: a relative 1e-5 or so, of weights below 1
        assert torch.allclose(weight.detach().double()[sure], expected[name][sure], atol=1e-5), name
        changed += int((weight != model.get_parameter(name)).sum())
        left_out += int((~sure).sum())
    assert 20 < changed < 2000
    assert left_out < 20


def test_a_class_is_read_by_its_log_odds(run: Run) -> None:
    from dataclasses import replace

    data = tiny_world().data.take(np.arange(30))
    data = replace(data, target=np.eye(3, dtype=np.int8)[np.arange(30) % 3], exclusive=True)
    model = tiny_network(3, seed=3).eval()
    request = Request.make(["middle"], data.labels)
    own = fisher(model, data, run, lambda z, y: mean_bce((1,))(log_odds(z[None])[0], y))
    kept = data.take(data.target[:, 1] == 0)
    against = fisher(model, kept, run, lambda z, y: -z[[0, 2]].log_softmax(0)[int(y[2] == 1)])
    found = Importance("retain", False, True)(model, request, data, run)
    for name, value in found.items():
        alive = own[name] > 1e-12
        assert torch.allclose(value[alive], (against[name] / own[name])[alive], rtol=1e-3, atol=1e-6)


def test_the_forgotten_row_becomes_zero_and_the_other_rows_keep_their_bits(run: Run) -> None:
    world = tiny_world(batchnorm=True)
    after = forget_labels(world.model, ["middle"], world.data, method="ssd", keep_row=True, run=run).model
    old, new = world.model.get_parameter("6.weight"), after.get_parameter("6.weight")
    alive = old[1] != 0
    assert alive.any()
    used = new[1] != old[1]
    assert not new[1][used].any()
    assert after.get_parameter("6.bias")[1].item() == 0.0
    for column in (0, 2):
        assert torch.equal(new[column], old[column])
    assert not {"1.running_mean", "1.running_var"} & {*differing(world.model, after)}


def test_a_weight_is_selected_or_keeps_its_bits(run: Run) -> None:
    world = tiny_world()
    unlearner = ssd(alpha=5.0)
    assert isinstance(unlearner, Pipeline)
    request = Request.make(["top"], world.labels)
    bands = unlearner.select(world.model, unlearner.score(world.model, request, world.data, run))
    after = unlearner(world.model, request, world.data, run).model
    for name, band in bands.items():
        old, new = world.model.get_parameter(name), after.get_parameter(name)
        assert old[band == 0].detach().numpy().tobytes() == new[band == 0].detach().numpy().tobytes()
        assert bool((new.abs() <= old.abs()).all())
    assert 0 < sum(int(band.sum()) for band in bands.values()) < 1500


def test_a_unit_that_alone_carries_the_label_is_silenced_and_no_other(run: Run) -> None:
    world = tiny_world("one-unit")
    after = forget_labels(world.model, ["top"], world.data, method="ssd", keep_row=True, run=run).model
    before, now = (outputs(model, world.source.test, run).logits for model in (world.model, after))
    assert np.ptp(before[:, 0]) > 1
    assert np.ptp(now[:, 0]) < 1e-3
    assert np.array_equal(before[:, 1:], now[:, 1:])


def test_dead_weights_are_neither_selected_nor_a_division_by_zero() -> None:
    found = quotient(
        torch.tensor([0.0, 3.0, 1e300, 0.0]).double(), torch.tensor([0.0, 0.0, 1e-300, 2.0]).double()
    )
    most = torch.finfo(torch.float64).max
    assert found.tolist() == [most, most, most, 0.0]


def test_a_larger_alpha_touches_fewer_weights_and_a_smaller_lam_shrinks_more(run: Run) -> None:
    world = tiny_world()
    changed = [
        forget_labels(
            world.model, ["top"], world.data, method="ssd", keep_row=True, run=run, alpha=alpha
        ).changed
        for alpha in (1.5, 10.0, 1e9)
    ]
    assert changed[0] > changed[1] > changed[2] > 0
    norms = []
    for lam in (0.1, 1.0):
        model = forget_labels(
            world.model, ["top"], world.data, method="ssd", alpha=1.5, lam=lam, run=run
        ).model
        norms.append(float(model.get_parameter("3.weight").detach().norm()))
    assert norms[0] < norms[1]


def test_importances_that_are_not_finite_are_refused(run: Run) -> None:
    world = tiny_world()
    with torch.no_grad():
        world.model.get_parameter("3.weight")[0, 0] = float("nan")
    with pytest.raises(EmptySelection, match="importances to the forgotten labels sum to nan"):
        ssd()(world.model, Request.make(["top"], world.data.labels), world.data, run)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"alpha": 0.0}, "--alpha is 0; expected more than 0"),
        ({"alpha": float("inf")}, "--alpha is inf"),
        ({"lam": -1.0}, "--lam is -1; expected more than 0"),
    ],
)
def test_values_out_of_range_are_refused_by_name(options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        ssd(**options)
