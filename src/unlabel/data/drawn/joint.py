"""Labels that go together as they do in CelebA, one logistic regression after another.

The chance of label k given the labels before it is ``sigmoid(bias_k + weights_k . y_<k)``. Its weights
solve the moment equations: the prevalence of k and its joint frequency with each earlier label are
CelebA's. That is a convex problem for each label, exact whatever the correlations (a Gaussian copula is
not: fitted pair by pair its latent matrix has an eigenvalue of -0.19 for the ten default labels, and the
nearest valid one misses phi by up to 0.028). Asking for more labels leaves the earlier ones as they were.

The weights are embedded. To fit them again::

    python -m unlabel.data.drawn.joint
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unlabel.core.randomness import uniform

FACTS = Path(__file__).with_name("celeba_statistics.json")
WEIGHTS = Path(__file__).with_name("faces_joint.json")

# The paper's ten, then those that the drawing can show, most telling first.
LABELS: tuple[str, ...] = (
    *("Arched_Eyebrows", "Bald", "Big_Lips", "Brown_Hair", "Double_Chin"),
    *("Male", "No_Beard", "Oval_Face", "Pointy_Nose", "Young"),
    *("Smiling", "Eyeglasses", "Bangs", "Wearing_Hat", "Wearing_Lipstick"),
    *("Black_Hair", "Blond_Hair", "Gray_Hair", "Mustache", "Mouth_Slightly_Open"),
    *("Heavy_Makeup", "Rosy_Cheeks", "Pale_Skin", "Bushy_Eyebrows", "Bags_Under_Eyes"),
    *("Big_Nose", "Narrow_Eyes", "Wearing_Earrings", "Wearing_Necklace", "Wearing_Necktie"),
)


class Facts(NamedTuple):
    """Aggregate facts about some of CelebA's 40 labels: share of images, and phi of each pair."""

    prevalence: NDArray[np.float64]
    phi: NDArray[np.float64]


class Model(NamedTuple):
    """Bias (label,) and strictly lower triangular weights (label, label) of the chain."""

    bias: NDArray[np.float64]
    weights: NDArray[np.float64]


@cache
def _read(path: Path) -> dict:
    return json.loads(path.read_text())


def celeba(labels: Sequence[str]) -> Facts:
    """CelebA's prevalences and phi coefficients of these labels, over all 202,599 images.

    Example:
        >>> celeba(["Male", "No_Beard"]).phi.round(2).tolist()
        [[1.0, -0.52], [-0.52, 1.0]]
    """
    facts = _read(FACTS)
    columns = [facts["attributes"].index(name) for name in labels]
    return Facts(
        np.array([facts["prevalence"][name] for name in labels]),
        np.array(facts["phi"])[np.ix_(columns, columns)],
    )


@cache
def fitted(count: int) -> Model:
    """The embedded chain for the first ``count`` of `LABELS`."""
    stored = _read(WEIGHTS)
    assert tuple(stored["labels"]) == LABELS, "run: python -m unlabel.data.drawn.joint"
    weights = np.zeros((count, count))
    for k in range(count):
        weights[k, :k] = stored["weights"][k]
    return Model(np.array(stored["bias"][:count]), weights)


def independent(prevalence: NDArray[np.float64]) -> Model:
    """The chain of labels that know nothing of each other: each is present as often as it is told.

    Example:
        >>> moments(independent(np.array([0.25, 0.5]))).phi.round(6).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    count = len(prevalence)
    return Model(np.log(prevalence) - np.log1p(-prevalence), np.zeros((count, count)))


def sample(seed: int, index: NDArray[np.integer], count: int, model: Model | None = None) -> NDArray[np.int8]:
    """Labels of some images, keyed by (seed, index).

    Args:
        seed: Key of the whole data set, >= 0.
        index: Image numbers >= 0, in any order.
        count: How many of `LABELS`, from 1 to all.
        model: The chain; the embedded one by default.

    Returns:
        int8 (image, count) of 0 and 1.

    Example:
        >>> sample(0, np.array([3, 4]), 6).tolist() == sample(0, np.array([4, 3]), 8)[::-1, :6].tolist()
        True
    """
    model = model or fitted(count)
    label = np.zeros((len(index), count), np.int8)
    for k in range(count):
        # Added one label at a time: a matrix product may round differently in another batch size.
        score = np.full(len(index), model.bias[k])
        for j in range(k):
            score += model.weights[k, j] * label[:, j]
        label[:, k] = uniform(seed, "faces/label", index, k) < 1.0 / (1.0 + np.exp(-score))
    return label


def moments(model: Model) -> Facts:
    """Exact prevalences and phi of a chain by going through all ``2**label`` states; 16 labels at most."""
    count = len(model.bias)
    state, share = _enumerate(model, count)
    prevalence = share @ state
    covariance = (state * share[:, None]).T @ state - np.outer(prevalence, prevalence)
    deviation = np.sqrt(prevalence * (1.0 - prevalence))
    return Facts(prevalence, covariance / np.outer(deviation, deviation))


def _enumerate(model: Model, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    assert count <= 16, "2**label states would not fit in memory"
    state = (np.arange(2**count)[:, None] >> np.arange(count) & 1).astype(np.float64)
    share = np.ones(len(state))
    for k in range(count):
        present = 1.0 / (1.0 + np.exp(-(model.bias[k] + state @ model.weights[k, :count])))
        share *= np.where(state[:, k] == 1, present, 1.0 - present)
    return state, share


def fit(facts: Facts, *, ridge: float = 1e-5, draws: int = 300_000, exact: int = 14) -> Model:
    """Solves the moment equations, label after label, by Newton's method.

    Args:
        facts: What to match.
        ridge: Penalty on the squared weights, > 0. It keeps them finite where CelebA's pairs are at the
            limit of what two margins allow (a label never seen with another) and is why the match is not
            exact there.
        draws: Sampled states that stand for the earlier labels once there are more than ``exact``.
        exact: Up to this many earlier labels all states are enumerated.
    """
    count = len(facts.prevalence)
    deviation = np.sqrt(facts.prevalence * (1.0 - facts.prevalence))
    together = facts.phi * np.outer(deviation, deviation) + np.outer(facts.prevalence, facts.prevalence)
    model = Model(np.zeros(count), np.zeros((count, count)))
    index = np.arange(draws)
    for k in range(count):
        if k <= exact:
            state, share = _enumerate(model, k)
        else:
            state = sample(2**31, index, k, Model(model.bias[:k], model.weights[:k, :k])).astype(np.float64)
            share = np.full(draws, 1.0 / draws)
        design = np.hstack([np.ones((len(state), 1)), state])
        goal = np.concatenate([[facts.prevalence[k]], together[k, :k]])
        solution = _match(design, share, goal, ridge)
        model.bias[k] = solution[0]
        model.weights[k, :k] = solution[1:]
    return model


def _match(
    design: NDArray[np.float64], share: NDArray[np.float64], goal: NDArray[np.float64], ridge: float
) -> NDArray[np.float64]:
    """Weights w with ``E[design * sigmoid(design . w)] = goal``, up to the ridge."""
    penalty = np.full(design.shape[1], ridge)
    penalty[0] = 1e-9
    weight = np.zeros(design.shape[1])

    def objective(weight: NDArray[np.float64]) -> float:
        return float(share @ np.logaddexp(0, design @ weight) - goal @ weight + penalty @ weight**2 / 2)

    for _ in range(60):
        present = 1.0 / (1.0 + np.exp(-(design @ weight)))
        gradient = design.T @ (share * present) - goal + penalty * weight
        if np.abs(gradient).max() < 1e-9:
            break
        curvature = (design * (share * present * (1.0 - present))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        size, now = 1.0, objective(weight)
        while objective(weight - size * step) > now and size > 1e-6:
            size /= 2
        weight = weight - size * step
    return weight


if __name__ == "__main__":
    chain = fit(celeba(LABELS))
    rows = [[round(float(w), 4) for w in chain.weights[k, :k]] for k in range(len(LABELS))]
    text = {"labels": LABELS, "bias": [round(float(b), 4) for b in chain.bias], "weights": rows}
    WEIGHTS.write_text(json.dumps(text).replace("], [", "],\n [") + "\n")
    print(WEIGHTS)
