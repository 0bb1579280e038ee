"""Requests that follow one another: what was forgotten first does not come back."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from unlabel.core import engine
from unlabel.core.request import Request
from unlabel.forget import repair
from unlabel.forget.driver import forget_labels
from unlabel.forget.probes import fitted
from unlabel.forget.repair import Guarded, Train, retained_loss
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.testing import World, differing, tiny_world


def advantage(score: np.ndarray, target: np.ndarray) -> float:
    """0 is a coin, 1 a perfect attack, also of an inverted score."""
    pairs = score[target == 1][:, None] - score[target == 0][None]
    return abs(2 * float(np.mean((pairs > 0) + 0.5 * (pairs == 0))) - 1)


def attacks(model, world: World) -> dict[str, float]:
    """Advantage on E of a probe on the features, fitted on P, and of the original's own row put back."""
    run = engine.start(accelerator="cpu")
    probe, test = (
        outputs(model, part, run).features["penultimate"] for part in (world.source.probe, world.source.test)
    )
    fitted = LogisticRegression(max_iter=1000).fit(probe, world.source.probe.target[:, 0])
    row = find_head(world.model, 3)[1].weight[0].detach().numpy()
    target = world.source.test.target[:, 0]
    return {"probe": advantage(fitted.decision_function(test), target), "row": advantage(test @ row, target)}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("confusion", {"steps": 60}),
        ("weight-filtering", {"tau": 20.0, "steps": 60}),
        ("weight-pruning", {"steps": 60}),
    ],
)
def test_a_second_request_does_not_bring_the_first_label_back(method: str, options) -> None:
    world = tiny_world(batchnorm=True)
    before = attacks(world.model, world)
    first = forget_labels(world.model, ["top"], world.data, method=method, **options)
    second = forget_labels(first.model, ["bottom"], world.data, method=method, forgotten=["top"], **options)
    after_one, after_two = attacks(first.model, world), attacks(second.model, world)
    assert min(before.values()) > 0.9
    # 128 test images: an advantage of .5 has a standard error of about .08, paired about half of that
    for name, value in after_two.items():
        assert value < after_one[name] + 0.08, (name, before, after_one, after_two)
    constants = outputs(second.model, world.source.test, engine.start(accelerator="cpu")).logits
    assert np.ptp(constants[:, 0]) == np.ptp(constants[:, 2]) == 0
    assert np.ptp(constants[:, 1]) > 1


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("bad-teacher", {"steps": 60}),
        ("scrub", {"rounds": 2}),
        ("scrub", {"min_steps": 0, "max_steps": 20}),  # the max pass by itself
        ("unsir", {}),
        ("random-label", {"steps": 60}),
        ("cf-k", {"steps": 60}),
    ],
)
def test_every_repair_keeps_the_reader_of_an_earlier_label_blind(
    method: str, options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier label is all in the features here: what blinds its reader is the guard and nothing else."""
    world = tiny_world()
    run = engine.start(accelerator="cpu")
    first = forget_labels(world.model, ["top"], world.data, method="head-removal", run=run).model
    probes = fitted(first, world.data, (0,), run)
    assert probes is not None
    found = []
    for guard in (fitted, lambda *_: None):
        monkeypatch.setattr(repair, "fitted", guard)
        settings = {"method": method, "forgotten": ["top"], "run": run, **options}
        second = forget_labels(first, ["bottom"], world.data, **settings).model
        features = outputs(second, world.data, run).features["penultimate"]
        found.append(float(probes.blind(torch.from_numpy(features)).mean()))
    assert found[0] < 0.72 < found[1]  # blind is log 2 = .693; before the request it is 1.79


def test_the_guard_of_an_earlier_label_sees_no_deleted_annotation() -> None:
    """A later request for single annotations: turning them round changes no bit of the repair."""
    world = tiny_world()
    run = engine.start(accelerator="cpu")
    listed = tuple(world.data.rows[:5].tolist())
    request = Request.make(["bottom"], world.labels, forgotten=["top"], rows=listed)
    flipped = world.data.target.copy()
    flipped[:5, 2] = 1 - flipped[:5, 2]
    models = []
    for data in (world.data, replace(world.data, target=flipped)):
        model = tiny_world().model
        aim = retained_loss(world.model, request, data, run)
        assert isinstance(aim.objective, Guarded)
        Train(retained_loss, 4, 0.05)(model, world.model, request, data, {}, run)
        models.append(model)
    assert differing(*models) == []
    assert differing(models[0], world.model) != []
