"""Weight filtering and weight pruning: what they select, as printed and corrected, and single annotations."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import EmptySelection, LabelMismatch, OptionError
from unlabel.core.request import Request
from unlabel.forget.driver import calibration, forget_labels
from unlabel.forget.methods.weights import weight_filtering, weight_pruning
from unlabel.forget.pipeline import Repeated
from unlabel.forget.repair import Train, retained_loss
from unlabel.forget.score import FilteringScore, PruningScore, contrast, product, rankable, weighted
from unlabel.models.features import outputs
from unlabel.testing import check_unlearner, differing, tiny_world

METHODS = {"weight-filtering": weight_filtering, "weight-pruning": weight_pruning}


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def scores_of(method: str, run: Run, world=None, labels=("top",), **options: Any):
    world = world or tiny_world("one-unit")
    unlearner = METHODS[method](**options)
    assert isinstance(unlearner, Repeated)
    request = Request.make(labels, world.labels)
    return world.model, unlearner.once.score(world.model, request, world.data, run)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("label", ["top", "middle", "bottom"])
def test_the_unit_that_alone_carries_the_label_scores_highest(method: str, label: str, run: Run) -> None:
    """In this world, unit j of the hidden layer is label j and nothing else is."""
    world = tiny_world("one-unit")
    unit = world.labels.index(label)
    _, scores = scores_of(method, run, labels=(label,))
    hidden = scores["3.weight"]
    by_unit = hidden.sum(1)
    assert int(by_unit.argmax()) == unit
    assert float(by_unit[unit] / by_unit.sum()) > 0.99


@pytest.mark.parametrize("method", METHODS)
def test_removing_the_top_weights_silences_the_label_and_no_other(method: str, run: Run) -> None:
    """Sixteen weights lead from the one filter to the unit, 0.8 % of the layer's 2,048."""
    world = tiny_world("one-unit")
    bands = {"tau": 100.0, "lower": 0.8, "upper": 0.8, "lam": 0.0}
    share = {"tau": 0.8} if method == "weight-filtering" else bands
    options = {"steps": 0, "layers": 1, "keep_row": True, "run": run, **share}
    outcome = forget_labels(world.model, ["top"], world.data, method=method, **options)
    after = outputs(outcome.model, world.source.test, run).logits
    before = outputs(world.model, world.source.test, run).logits
    assert np.ptp(before[:, 0]) > 1
    assert np.ptp(after[:, 0]) < 0.05 * np.ptp(before[:, 0])
    assert np.array_equal(after[:, 1:], before[:, 1:])


@pytest.mark.parametrize("method", METHODS)
def test_as_printed_is_to_the_letter_and_explicit_options_win(method: str) -> None:
    world = tiny_world()
    printed = forget_labels(world.model, ["top"], world.data, method=method, as_printed=True, steps=1)
    found = {name: printed.options[name] for name in ("direction", "contrast", "gradient", "unit")}
    assert found == {"direction": "low", "contrast": False, "gradient": "mean", "unit": "absolute"}
    mixed = forget_labels(
        world.model, ["top"], world.data, method=method, as_printed=True, direction="high", steps=1
    )
    assert (mixed.options["direction"], mixed.options["contrast"]) == ("high", False)
    ours = forget_labels(world.model, ["top"], world.data, method=method, steps=1)
    assert (ours.options["direction"], ours.options["contrast"]) == ("high", True)
    assert differing(printed.model, ours.model) != []


def test_pruning_as_printed_is_algorithm_2_by_hand(run: Run) -> None:
    """The least important quarter is 0, the middle half shrunk by its importance, the top kept."""
    world = tiny_world()
    options = {"as_printed": True, "steps": 0, "lam": 0.3, "exact": True}
    outcome = forget_labels(
        world.model, ["top"], world.data, method="weight-pruning", keep_row=True, run=run, **options
    )
    _, scores = scores_of("weight-pruning", run, world, **options)
    names = rankable(world.model, 3)
    assert names == ["0.weight", "3.weight"]
    old = torch.cat([world.model.get_parameter(name).detach().reshape(-1) for name in names])
    new = torch.cat([outcome.model.get_parameter(name).detach().reshape(-1) for name in names])
    rank = torch.cat([scores[name].reshape(-1) for name in names])
    order = torch.argsort(rank, stable=True)
    quarter = round(len(order) / 4)
    assert not new[order[:quarter]].any()
    middle = order[quarter : round(len(order) * 0.75)]
    assert torch.allclose(new[middle], old[middle] * torch.exp(-0.3 * rank[middle]), atol=1e-7)
    top = order[round(len(order) * 0.75) :]
    assert torch.equal(new[top], old[top])


def test_the_pruning_score_is_its_formula(run: Run) -> None:
    """alpha |g| + beta/2 H w^2 of the forgotten label, up to the common factor that makes the mean 1."""
    world = tiny_world()
    request = Request.make(["top"], world.labels)
    plain = {"gradient": "rms", "contrast": False, "layers": None, "exact": True}
    parts = [
        PruningScore(alpha, beta, **plain)(world.model, request, world.data, run)  # type: ignore[arg-type]
        for alpha, beta in ((1.0, 0.0), (0.0, 1.0), (2.0, 3.0))
    ]
    steep, bent, both = (torch.cat([part[name].reshape(-1) for name in part]) for part in parts)
    design = torch.stack([steep, bent], 1).double()
    fitted = torch.linalg.lstsq(design, both.double()[:, None]).solution
    assert float(fitted.min()) > 0
    assert torch.allclose((design @ fitted)[:, 0], both.double(), rtol=1e-4, atol=1e-5)
    assert float(both.mean()) == pytest.approx(1.0, rel=1e-5)


def test_scores_combine_as_their_names_say() -> None:
    one, two = {"w": torch.tensor([1.0, 3.0])}, {"w": torch.tensor([2.0, 0.0])}
    assert product(one, two)["w"].tolist() == [2.0, 0.0]
    assert weighted((2.0, one), (0.5, two))["w"].tolist() == [3.0, 6.0]
    assert contrast(one, two)["w"].tolist() == pytest.approx([0.5 / 2.1, 1.5 / 0.1])
    assert contrast({"w": torch.zeros(2)}, {"w": torch.zeros(2)})["w"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("solver", ["diagonal", "cg"])
def test_images_that_drive_the_label_are_those_with_wrong_or_unsure_answers(solver, run: Run) -> None:
    """Half of the images weigh in; with all of them, the score is another one."""
    world = tiny_world()
    options = {"gradient": "rms", "contrast": False, "damping": 1e-3, "layers": None, "exact": False}
    request = Request.make(["top"], world.labels)
    half = FilteringScore(points=50.0, solver=solver, **options)(world.model, request, world.data, run)
    full = FilteringScore(points=100.0, solver=solver, **options)(world.model, request, world.data, run)
    assert all(torch.isfinite(value).all() and (value >= 0).all() for value in half.values())
    assert not torch.equal(half["3.weight"], full["3.weight"])


@pytest.mark.parametrize("method", METHODS)
def test_iterations_repeat_the_whole_and_the_bill_adds_up(method: str) -> None:
    world = tiny_world()
    once, twice = (
        forget_labels(world.model, ["top"], world.data, method=method, steps=2, iterations=times)
        for times in (1, 2)
    )
    assert [row["step"] for row in twice.history.rows] == [1, 2, 3, 4]
    assert twice.images_processed == 2 * once.images_processed
    assert twice.history.rows[:2] == once.history.rows
    assert differing(once.model, twice.model) != []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "options",
    [
        {"replace": "noise"},
        {"layers": 1},
        pytest.param({"exact": True}, marks=pytest.mark.exhaustive),
        {"iterations": 2},
    ],
)
def test_the_contract_holds_with_every_option(method: str, options: dict[str, Any]) -> None:
    check_unlearner(method, world=tiny_world(batchnorm=True), steps=2, **options)


def test_the_last_layers_alone_are_edited() -> None:
    world = tiny_world()
    outcome = forget_labels(
        world.model, ["top"], world.data, method="weight-filtering", layers=1, steps=0, keep_row=True
    )
    assert differing(world.model, outcome.model) == ["3.weight"]


BAD = [
    ("weight-filtering", {"tau": 101.0}, "--tau is 101; expected 0 or more, 100 at most"),
    ("weight-filtering", {"points": 0.0}, "--points is 0; expected more than 0, 100 at most"),
    ("weight-filtering", {"threshold": -1.0}, "--threshold is -1; expected more than 0"),
    ("weight-filtering", {"epsilon": float("nan")}, "--epsilon is nan; expected 0 or more"),
    ("weight-filtering", {"layers": 0}, "--layers is 0; expected 1 or more"),
    ("weight-pruning", {"lower": 80.0}, "--upper is 75; expected 80 or more, 100 at most"),
    ("weight-pruning", {"alpha": 0.0, "beta": 0.0}, "--alpha and --beta are both 0"),
    ("weight-pruning", {"alpha_r": 2.0}, "--alpha-r is 2; expected 0 or more, 1 at most"),
    ("weight-pruning", {"iterations": 0}, "--iterations is 0; expected 1 or more"),
    ("weight-pruning", {"lr": float("inf")}, "--lr is inf"),
]


@pytest.mark.parametrize(("method", "options", "says"), BAD)
def test_values_out_of_range_are_refused_by_name(method: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        METHODS[method](**options)


def test_a_selection_of_nothing_is_refused() -> None:
    world = tiny_world()
    with pytest.raises(EmptySelection, match="changed none"):
        forget_labels(
            world.model, ["top"], world.data, method="weight-filtering", tau=0.0, steps=0, keep_row=True
        )


# -- single annotations


def test_single_annotations_are_forgotten_and_the_label_is_kept(run: Run) -> None:
    world = tiny_world()
    names = world.data.ids[[3, 50, 200]].tolist()
    outcome = forget_labels(
        world.model, ["top"], world.data, method="weight-pruning", rows=names, images=64, run=run, steps=4
    )
    assert outcome.request.masked == ()
    assert outcome.request.rows == tuple(world.data.rows[[3, 50, 200]].tolist())
    logits = outputs(outcome.model, world.source.test, run).logits[:, 0]
    target = world.source.test.target[:, 0]
    assert np.mean(logits[target == 1][:, None] > logits[target == 0]) > 0.9


def test_deleted_annotations_are_seen_by_no_loss_and_their_images_always_by_the_score(run: Run) -> None:
    """Turning the deleted annotations round changes the score, and nothing in a repair on what is kept."""
    world = tiny_world()
    listed = world.data.rows[:5]
    assert set(listed) <= set(calibration(world.data, 16, 0, listed=tuple(listed)).rows)
    flipped = world.data.target.copy()
    flipped[:5, 0] = 1 - flipped[:5, 0]
    other = replace(world.data, target=flipped)
    request = Request.make(["top"], world.labels, rows=tuple(listed.tolist()))
    models = []
    for data in (world.data, other):
        model = tiny_world().model
        Train(retained_loss, 4, 0.05)(model, world.model, request, data, {}, run)
        models.append(model)
    assert differing(*models) == []
    found = [
        PruningScore(1.0, 1.0, "rms", False, None, True)(world.model, request, data, run)
        for data in (world.data, other)
    ]
    assert not torch.equal(found[0]["3.weight"], found[1]["3.weight"])


def test_rows_are_refused_by_methods_that_forget_whole_labels_and_by_unknown_names() -> None:
    world = tiny_world()
    name = str(world.data.ids[0])
    with pytest.raises(OptionError, match="'confusion' forgets whole labels only; with --rows, use one of"):
        forget_labels(world.model, ["top"], world.data, method="confusion", rows=[name])
    with pytest.raises(LabelMismatch, match="1 of 2 names in --rows are not among the 256 training images"):
        forget_labels(world.model, ["top"], world.data, method="fine-tune", rows=[name, "nobody.jpg"])
