"""What a handful of annotated images tells, against slow and obvious computations."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from unlabel.audit.attacks.prototypes import IMAGES, RIDGE, began_at, by_prototypes, learner, nearer
from unlabel.audit.figures import CLUSTERS, NEAREST_MEAN
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.models.outputs import PENULTIMATE, Outputs

OPTIONS = AuditOptions(budget="standard", attackers=("prototypes",), draws=20)
DRAW = np.random.default_rng(0)


def asked(probe: np.ndarray, test: np.ndarray) -> Question:
    """A question whose images are all of different people."""
    nobody = np.zeros(0, np.int8)
    ids = [np.arange(len(part)) for part in (probe, test, nobody)]
    return Question("top", 0, probe, test, nobody, *ids)


def features(present: np.ndarray, shift: float) -> Outputs:
    """Twelve features of which one tells the label by a shift, and another is loud and tells nothing."""
    table = DRAW.normal(size=(len(present), 12)).astype(np.float32)
    table[:, 3] += shift * (present == 1)
    table[:, 7] *= 50
    return Outputs(np.zeros((len(present), 2), np.float32), {PENULTIMATE: table})


def told(shift: float, *, unknown: int = 0) -> dict[tuple[str, int], float]:
    """AUC of both attacks where a feature has that shift."""
    probe, test = np.repeat([1, 0], [200, 400]).astype(np.int8), np.repeat([0, 1], [300, 300]).astype(np.int8)
    probe[:unknown] = -1
    found = by_prototypes(features(probe, shift), features(test, shift), asked(probe, test), OPTIONS)
    return {place: item.mean.value for place, item in found.items()}


def test_distances_to_the_means_are_those_of_a_plain_loop():
    x, shown = DRAW.normal(size=(30, 5)), DRAW.normal(size=(8, 5))
    present = np.array([True, False] * 4)
    means = [shown[present == kind].mean(0) for kind in (False, True)]
    expected = [sum((row - means[0]) ** 2) - sum((row - means[1]) ** 2) for row in x]
    np.testing.assert_allclose(nearer(x, shown, present), expected, atol=1e-12)


def test_least_squares_on_pseudo_labels_is_ridge_regression():
    x = DRAW.normal(size=(200, 6))
    x -= x.mean(0)
    pseudo = DRAW.random(200) < 0.3
    expected = Ridge(alpha=RIDGE * len(x)).fit(x, pseudo.astype(float)).coef_
    np.testing.assert_allclose(learner(x)(pseudo), expected, atol=1e-10)


def test_a_cluster_keeps_the_image_it_began_at_even_if_it_moves_or_is_empty():
    x = np.array([[0.0], [0.2], [9.0], [9.1], [9.2], [10.0]])
    assert began_at(x, x[[5, 0]]).tolist() == [1, 1, 0, 0, 0, 0]
    assert began_at(x, np.array([[0.1], [9.2], [500.0]])).tolist() == [0, 0, 1, 1, 1, 1]
    late = np.array([[0.0], [1.0], [2.0], [3.0], [10.0]])  # images leave the second cluster as it moves away
    assert began_at(late, late[:2]).tolist() == [0, 0, 0, 0, 1]
    assert began_at(x, np.array([[5.0], [9.0]])).tolist() == [0, 0, 1, 1, 1, 1]  # the first moves to .1


def test_what_is_plain_is_found_from_a_handful_and_noise_is_not():
    plain, noise = told(8.0), told(0.0)
    assert set(plain) == {(figure.id, n) for figure in (NEAREST_MEAN, CLUSTERS) for n in IMAGES}
    for figure in (NEAREST_MEAN.id, CLUSTERS.id):
        assert plain[figure, 2] < plain[figure, 20]
        assert plain[figure, 20] > 0.95
        assert noise[figure, 20] == pytest.approx(0.5, abs=0.03)


def test_clusters_of_images_that_nobody_annotated_add_to_the_means():
    """Two groups that hardly overlap: k-means finds them, where the means of twenty images are rough."""
    found = told(5.0)
    assert found[CLUSTERS.id, 20] > found[NEAREST_MEAN.id, 20] + 0.005


def test_unknown_annotations_are_no_annotated_images_and_few_of_a_kind_leave_a_size_out():
    assert {n for _, n in told(3.0, unknown=193)} == {2, 10}
    assert {n for _, n in told(3.0, unknown=200)} == set()


def test_same_seed_same_bits():
    global DRAW
    both = []
    for _ in range(2):
        DRAW = np.random.default_rng(1)
        both.append(told(2.0))
    assert both[0] == both[1]
