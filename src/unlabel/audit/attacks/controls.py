"""What the audit does to audit itself: attacks that must succeed, attacks that must fail, decoys.

A tool that cannot find the label in the original, finds it where labels are random, or passes a model
that merely shifted its output says nothing. The verdict on the whole audit hangs on these.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from unlabel.audit.attacks.logistic import Floats, Standard, fit_logistic
from unlabel.audit.attacks.outputs import OwnOutput, guess_linear
from unlabel.audit.attacks.probes import linear
from unlabel.audit.figures import OWN, unit_of
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.audit.inputs.subject import Subject, has_features
from unlabel.core.randomness import permutation
from unlabel.data.dataset import Dataset
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.statistics.contrast import Contrast, seeded
from unlabel.statistics.estimate import Estimate, advantage, mean

SIDE = 32
COMPONENTS = 128
SHIFTS = (-60.0, -130.0)


def permuted(
    subject: Subject, hidden: tuple[int, ...], question: Question, options: AuditOptions
) -> dict[str, Contrast]:
    """Linear attacks fitted on permuted labels, scored on the true ones: they must not succeed.

    One permutation fits one random direction, which may well agree with the label by luck (in few or
    correlated columns the advantage has a spread of 0.1 to 0.3). So the mean over permutations is
    tested, and their spread is part of its error.

    Returns:
        ``others.lin`` and, of a model with features, ``probe.lin``: mean advantage over permutations.
    """
    annotated = question.known
    y = question.probe[annotated] == 1
    shown = [column for column in range(subject.test.logits.shape[1]) if column not in hidden]
    tables = {"others.lin": (subject.probe.logits[:, shown], subject.test.logits[:, shown])}
    if has_features(subject):
        tables["probe.lin"] = subject.probe.features[PENULTIMATE], subject.test.features[PENULTIMATE]
    orders = [permutation(options.seed, "audit/permuted", len(y), k) for k in range(options.permutations)]
    contrasts: dict[str, Contrast] = {}
    for name, (x, x_test) in tables.items():
        standard = Standard.of(x[annotated])
        rows, test = standard(x[annotated]), standard(x_test)
        scores = [fit_logistic(rows, y[order], 0.01).decision_function(test) for order in orders]
        each = [advantage(score, question.test, question.test_cluster) for score in scores]
        contrasts[name] = seeded(mean(each), [item.value for item in each])
    return contrasts


def decoys(own: OwnOutput) -> dict[str, OwnOutput]:
    """The original's output, hidden in ways that fool a threshold: each must fail C1."""
    shifted = {f"bias_shift_{-int(offset)}": own.shifted(offset) for offset in SHIFTS}
    return {**shifted, "inverted": own.inverted()}


def head_zero(before: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """Readings of the original with the label's row removed: only its own output changes.

    The other attacks never see that column, so nothing is fitted anew.
    """
    return {**before, OWN.id: before[OWN.id].affine(0.0, 0.0)}


def small_images(data: Dataset) -> Floats:
    """Pixels averaged down to 32 x 32, (image, value) in 0-1, in float32 to save memory."""
    batches = []
    for start in range(0, len(data), 512):
        pixels = torch.from_numpy(np.array(data.images(slice(start, start + 512)))).permute(0, 3, 1, 2)
        small = torch.nn.functional.adaptive_avg_pool2d(pixels.float() / 255, SIDE)
        batches.append(small.flatten(1).numpy())
    return np.concatenate(batches)


def raw_images(probe: Dataset, test: Dataset, seed: int) -> tuple[Floats, Floats]:
    """Leading 128 principal components of the small probe images, and the test images likewise."""
    x, x_test = small_images(probe), small_images(test)
    if not np.ptp(x, axis=0).any():
        return np.zeros((len(x), 1)), np.zeros((len(x_test), 1))
    size = min(COMPONENTS, *x.shape)
    fitted = PCA(size, svd_solver="randomized", random_state=seed).fit(x)
    return fitted.transform(x), fitted.transform(x_test)


def read_raw(images: tuple[NDArray[np.floating], NDArray[np.floating]], question: Question) -> Estimate:
    """What anyone with the picture can do without the model: a logistic regression on its pixels."""
    annotated = question.known
    score = guess_linear(images[0][annotated], question.probe[annotated] == 1, images[1])
    return advantage(score, question.test, question.test_cluster)


def read_random_init(outputs: tuple[Outputs, Outputs], question: Question, options: AuditOptions) -> Estimate:
    """Linear probe on the same network before any training."""
    return linear(*outputs, question, options).estimates(question)[0]


def best_attack(readings: Mapping[str, Estimate], level: float) -> tuple[str, float]:
    """The attack in advantage with the highest lower bound on a model, and that bound."""
    bounds = {name: item.lower(level) for name, item in readings.items() if unit_of(name) == "adv"}
    name = max(bounds, key=lambda key: bounds[key])
    return name, bounds[name]


def context(estimate: Estimate) -> dict[str, object]:
    """A control's figure as the report holds it."""
    low, high = estimate.interval(0.95, -1.0, 1.0)
    return {"value": estimate.value, "ci": [low, high], "n": estimate.n, "unit": "adv"}


def spread(contrast: Contrast, n: int) -> dict[str, object]:
    """A control averaged over permutations, as the report holds it."""
    return {
        "value": contrast.value,
        "ci": [contrast.lower(0.975), contrast.upper(0.975)],
        "n": n,
        "unit": "adv",
    }
