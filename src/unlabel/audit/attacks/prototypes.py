"""What a handful of annotated images tells, without training a network: nearest means, and seeded clusters.

The attacker also has the probe split, without its annotations. Two attacks on the last features, on 1, 5 and
10 images of each kind, the same ones for every model:

* *prototypes*: an image is scored by how much nearer it is to the mean of the images with the label than to
  the mean of those without (Snell et al., 2017)::

      s(x) = |x - m0|^2 - |x - m1|^2

* *clusters*: k-means on all of the probe split begins at the annotated images, one cluster each. Every image
  takes the annotation of the image that its cluster began at (Basu et al., 2002), and least squares learns
  these pseudo-labels y::

      s(x) = x . w,   w = (X'X + RIDGE n I)^-1 X'(y - mean y)

Features are standardised by the probe split. Both attacks only describe: `few_shot` and `fine_tuning` judge.

References:
    Snell, Swersky and Zemel, Prototypical Networks for Few-shot Learning, 2017.
    Basu, Banerjee and Mooney, Semi-supervised Clustering by Seeding, 2002.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import vq
from scipy.linalg import cho_factor, cho_solve

from unlabel.audit.attacks.few_shot import Relearnt, samples
from unlabel.audit.attacks.logistic import Standard
from unlabel.audit.figures import CLUSTERS, NEAREST_MEAN
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.statistics.estimate import Floats, auc, mean

IMAGES = (2, 10, 20)  # annotated, half of them of each kind
ROUNDS = 10  # of k-means
RIDGE = 0.01  # of a feature's variance

Handful = dict[tuple[str, int], Relearnt]  # by figure and number of annotated images


def by_prototypes(probe: Outputs, test: Outputs, question: Question, options: AuditOptions) -> Handful:
    """Both attacks on one model and label, at each number of images that the probe split has enough for.

    Args:
        probe: Outputs on the probe split.
        test: Outputs on the test split.
        question: The label.
        options: Draws and seed.
    """
    standard = Standard.of(probe.features[PENULTIMATE])
    x, x_test = standard(probe.features[PENULTIMATE]), standard(test.features[PENULTIMATE])
    step = learner(x)
    found: Handful = {}
    for n in IMAGES:
        scores: dict[str, list[Floats]] = {NEAREST_MEAN.id: [], CLUSTERS.id: []}
        for rows in samples(question, n, options):
            present = question.probe[rows] == 1
            scores[NEAREST_MEAN.id].append(nearer(x_test, x[rows], present))
            scores[CLUSTERS.id].append(x_test @ step(present[began_at(x, x[rows])]))
        for figure, drawn in scores.items():
            areas = [auc(score, question.test, question.test_cluster) for score in drawn]
            if areas:
                found[figure, n] = Relearnt(mean(areas), tuple(area.value for area in areas))
    return found


def nearer(x: Floats, shown: Floats, present: NDArray[np.bool_]) -> Floats:
    """How much nearer images are to the mean of those with the label, in squared distance.

    Args:
        x: float64 (image, feature).
        shown: float64 (annotated image, feature).
        present: bool (annotated image,), of both kinds.

    >>> nearer(np.array([[0.0], [3.0]]), np.array([[0.0], [2.0]]), np.array([False, True])).tolist()
    [-4.0, 8.0]
    """
    absent_mean, present_mean = shown[~present].mean(0), shown[present].mean(0)
    return 2 * x @ (present_mean - absent_mean) + absent_mean @ absent_mean - present_mean @ present_mean


def began_at(x: Floats, centres: Floats) -> NDArray[np.int64]:
    """The centre at which the cluster of each image began, after k-means; an empty cluster stays there.

    >>> began_at(np.array([[0.0], [1.0], [5.0], [6.0]]), np.array([[1.0], [5.0]])).tolist()
    [0, 0, 1, 1]
    """
    centres, nearest = centres.copy(), vq(x, centres)[0]
    for _ in range(ROUNDS):
        members = np.zeros((len(centres), len(x)))
        members[nearest, np.arange(len(x))] = 1.0
        sizes = members.sum(1)
        centres[sizes > 0] = (members @ x)[sizes > 0] / sizes[sizes > 0, None]
        last, nearest = nearest, vq(x, centres)[0]
        if np.array_equal(last, nearest):
            break
    return nearest.astype(np.int64)


def learner(x: Floats) -> Callable[[NDArray[np.bool_]], Floats]:
    """Least squares on standardised features; the matrix is factorised once for all pseudo-labels."""
    factor = cho_factor(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]))

    def weights(pseudo: NDArray[np.bool_]) -> Floats:
        return cho_solve(factor, x.T @ (pseudo - pseudo.mean()))

    return weights
