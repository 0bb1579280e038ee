import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.errors import MethodError
from unlabel.core.recipe import History
from unlabel.core.request import Request
from unlabel.forget.pipeline import Bands, Pipeline, apply_edits, everything, keep, uniform
from unlabel.forget.repair import brief
from unlabel.testing import differing, tiny_network, tiny_world
from unlabel.training.fit import LabelLoss


@pytest.fixture
def run() -> Run:
    return engine.start(accelerator="cpu")


def zero(weight: Tensor, score: Tensor, rng: torch.Generator) -> Tensor:
    return torch.zeros_like(weight)


def noise(weight: Tensor, score: Tensor, rng: torch.Generator) -> Tensor:
    return torch.randn(weight.shape, generator=rng)


def by_sign(model, scores) -> Bands:
    """Band 1 where a weight is negative, band 2 where it is above 0.1, else untouched."""
    return {
        name: ((value < 0).to(torch.int8) + 2 * (value > 0.1).to(torch.int8))
        for name, value in model.named_parameters()
    }


def test_each_band_is_edited_by_its_rule_and_band_0_keeps_its_bits() -> None:
    model = tiny_network(3)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    bands = by_sign(model, None)
    apply_edits(
        model, {name: value.abs() for name, value in before.items()}, bands, (zero, lambda w, s, r: w + s), 0
    )
    for name, value in model.named_parameters():
        old = before[name]
        assert torch.equal(value, torch.where(old < 0, 0.0, torch.where(old > 0.1, old + old.abs(), old)))
        assert {0, 1}.issubset(bands[name].unique().tolist())


def test_a_band_without_a_rule_is_untouched() -> None:
    model = tiny_network(3)
    apply_edits(
        model, uniform(model, None, None, None), {"0.weight": torch.full((8, 3, 4, 4), 2)}, (zero,), 0
    )
    assert differing(model, tiny_network(3)) == []


def test_keep_changes_no_bit() -> None:
    model = tiny_network(3)
    scores = uniform(model, None, None, None)
    apply_edits(model, scores, everything(model, scores), (keep,), 0)
    assert differing(model, tiny_network(3)) == []


def test_random_edits_are_keyed_by_seed_and_parameter_name() -> None:
    def edited(seed: int):
        model = tiny_network(3)
        scores = uniform(model, None, None, None)
        apply_edits(model, scores, everything(model, scores), (noise,), seed)
        return model

    assert differing(edited(5), edited(5)) == []
    assert len(differing(edited(5), edited(6))) == 6
    biases = edited(5).state_dict()["0.bias"], edited(5).state_dict()["3.bias"][:8]
    assert not torch.equal(*biases)


def test_edits_do_not_depend_on_the_callers_random_state() -> None:
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = tiny_network(3)
        apply_edits(
            model,
            uniform(model, None, None, None),
            everything(model, uniform(model, None, None, None)),
            (noise,),
            0,
        )
        found.append(model)
    assert differing(*found) == []


def test_the_stages_run_in_order_on_the_right_models(run: Run) -> None:
    """Score and select see the original, repair sees the edited model and the original."""
    world, seen = tiny_world(), []
    original = copy.deepcopy(world.model)

    def score(model, request, data, run):
        seen.append(("score", model is world.model, data is world.data))
        return uniform(model, request, data, run)

    def select(model, scores) -> Bands:
        seen.append(("select", model is world.model, all((value == 1).all() for value in scores.values())))
        return everything(model, scores)

    def repair(model, first, request, data, bands, run) -> History:
        seen.append(("repair", first is world.model, not any(value.any() for value in model.parameters())))
        return History(images_processed=7)

    pipeline = Pipeline(score=score, select=select, edit=(zero,), repair=repair, passes=3)
    request = Request.make(["top"], world.labels)
    work = pipeline(world.model, request, world.data, run)
    assert seen == [("score", True, True), ("select", True, True), ("repair", True, True)]
    assert work.images_scored == 3 * len(world.data)
    assert work.history.images_processed == 7
    assert differing(world.model, original) == []


def test_a_pipeline_of_nothing_changes_nothing(run: Run) -> None:
    world = tiny_world()
    work = Pipeline()(world.model, Request.make(["top"], world.labels), world.data, run)
    assert work.model is not world.model
    assert differing(work.model, world.model) == []
    assert (work.images_scored, work.history.steps) == (0, 0)


def test_a_training_that_would_pass_few_images_too_often_is_refused_with_what_to_change() -> None:
    world = tiny_world()
    run = engine.start(accelerator="cpu", batch_size=512)
    with pytest.raises(MethodError, match=r"pass 19,200 times over 16 images; expected fewer than 10,000"):
        brief(world.model, LabelLoss((0, 1, 2)), world.data.take(np.arange(16)), run, steps=600, lr=0.1)
