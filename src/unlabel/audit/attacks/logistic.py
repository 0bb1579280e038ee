"""Standardising, ranks, penalised logistic regression and Platt scaling, shared by every linear attack."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float64]

FLOAT32_RESOLUTION = 1e-7  # relative spread below which a float32 column holds rounding noise only
WIDEST = 10.0  # standard deviations: a unit that is almost always 0 would otherwise dominate every fit
NARROW = 256  # columns
GRADIENT = 1e-8  # of the mean log loss, at the optimum
STEPS = 50
TOLERANCE = 1e-8  # fall of the log loss that the next Newton step promises


@dataclass(frozen=True)
class Standard:
    """Centre and scale of the columns that vary, learnt on the probe split."""

    keep: NDArray[np.intp]
    centre: Floats
    scale: Floats

    @classmethod
    def of(cls, table: NDArray[np.floating]) -> "Standard":
        """Learns from (image, column); columns without spread above float32 rounding are dropped."""
        exact = np.asarray(table, np.float64)
        centre, scale = exact.mean(0), exact.std(0)
        keep = np.flatnonzero(scale > FLOAT32_RESOLUTION * np.abs(centre))
        return cls(keep, centre[keep], scale[keep])

    def __call__(self, table: NDArray[np.floating]) -> Floats:
        """The kept columns in standard deviations, cut at +-10; one column of zeros where none is kept."""
        if not len(self.keep):
            return np.zeros((len(table), 1))
        exact = (np.asarray(table, np.float64)[:, self.keep] - self.centre) / self.scale
        return np.clip(exact, -WIDEST, WIDEST)


def ranks(fitted: NDArray[np.floating], table: NDArray[np.floating]) -> Floats:
    """Share of the fitted numbers below each number of its column, equal ones counted half: 0 to 1.

    Args:
        fitted: (image, feature) that the ranks are among.
        table: (other image, feature) to rank.

    >>> ranks(np.array([[1.0], [2.0], [2.0], [9.0]]), np.array([[0.0], [2.0], [9.0]])).ravel().tolist()
    [0.0, 0.5, 0.875]
    """
    ordered = np.sort(fitted, axis=0).T
    below, at_most = (
        [np.searchsorted(known, column, side) for known, column in zip(ordered, table.T, strict=True)]
        for side in ("left", "right")
    )
    return (np.array(below) + np.array(at_most)).T / (2.0 * len(fitted))


def fit_logistic(x: Floats, y: NDArray[np.bool_], c: float = 1.0) -> LogisticRegression:
    """L2-penalised logistic regression at its optimum; `c` as in scikit-learn.

    By Newton steps: four to seven reach the optimum to 1e-5 of a score, where L-BFGS takes up to hundreds
    and stops .05 away. Past `NARROW` columns, whose square each Newton step solves, by L-BFGS. So does
    scikit-learn itself where rounding hides what a Newton step gains, and its warning of that is not shown.

    Args:
        x: (image, column), standardised.
        y: (image,).
        c: Inverse of the penalty.
    """
    if x.shape[1] <= NARROW:
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            return LogisticRegression(C=c, solver="newton-cholesky", tol=GRADIENT).fit(x, y)
    return LogisticRegression(C=c, solver="lbfgs", max_iter=2000).fit(x, y)


def platt(score: Floats, y: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset that turn scores into log-odds, with Platt's smoothed targets.

    The targets ``(m + 1) / (m + 2)`` and ``1 / (n + 2)`` keep the slope finite on separable scores. A
    slope below 0 is kept: a probe that is wrong on held-out images is turned round.

    References:
        Platt, Probabilistic Outputs for Support Vector Machines, 1999.
    """
    m, n = float(y.sum()), float((~y).sum())
    goal = np.where(y, (m + 1) / (m + 2), 1 / (n + 2))
    spread = float(score.std())
    spread = spread if spread > 0 else 1.0
    design = np.column_stack([(score - score.mean()) / spread, np.ones(len(score))])
    weights = np.array([0.0, np.log((m + 1) / (n + 1))])

    def loss(candidate: Floats) -> float:
        z = design @ candidate
        return float(-(goal * log_expit(z) + (1 - goal) * log_expit(-z)).sum())

    now = loss(weights)
    for _ in range(STEPS):
        prob = expit(design @ weights)
        gradient = design.T @ (prob - goal)
        hessian = design.T @ (design * (prob * (1 - prob))[:, None]) + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        if float(gradient @ step) < TOLERANCE:
            break
        length = 1.0
        while (then := loss(weights - length * step)) > now and length > 1e-6:
            length /= 2
        weights, now = weights - length * step, then
    return float(weights[0] / spread), float(weights[1] - weights[0] * score.mean() / spread)
