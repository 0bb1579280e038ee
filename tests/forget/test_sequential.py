"""Requests that follow one another: what was forgotten first does not come back."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from unlabel import engine
from unlabel.forget.driver import forget_labels
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.testing import World, tiny_world


def auc(score: np.ndarray, target: np.ndarray) -> float:
    pairs = score[target == 1][:, None] - score[target == 0][None]
    return float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def attacks(model, world: World) -> dict[str, float]:
    """AUC on E of a probe on the features, fitted on P, and of the original's own row put back."""
    run = engine.start(accelerator="cpu")
    probe, test = (
        outputs(model, part, run).features["penultimate"] for part in (world.source.probe, world.source.test)
    )
    fitted = LogisticRegression(max_iter=1000).fit(probe, world.source.probe.target[:, 0])
    row = find_head(world.model, 3)[1].weight[0].detach().numpy()
    target = world.source.test.target[:, 0]
    return {"probe": auc(fitted.decision_function(test), target), "row": auc(test @ row, target)}


@pytest.mark.parametrize(
    ("method", "options"),
    [("confusion", {"steps": 60}), ("weight-filtering", {"tau": 20.0}), ("weight-pruning", {})],
)
def test_a_second_request_does_not_bring_the_first_label_back(method: str, options) -> None:
    world = tiny_world(batchnorm=True)
    before = attacks(world.model, world)
    first = forget_labels(world.model, ["top"], world.data, method=method, **options)
    second = forget_labels(first.model, ["bottom"], world.data, method=method, forgotten=["top"], **options)
    after_one, after_two = attacks(first.model, world), attacks(second.model, world)
    assert min(before.values()) > 0.95
    # 128 test images: an AUC of .9 has a standard error of about .03
    for name, value in after_two.items():
        assert value < after_one[name] + 0.06, (name, before, after_one, after_two)
    constants = outputs(second.model, world.source.test, engine.start(accelerator="cpu")).logits
    assert np.ptp(constants[:, 0]) == np.ptp(constants[:, 2]) == 0
    assert np.ptp(constants[:, 1]) > 1
