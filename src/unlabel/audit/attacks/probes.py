"""Attacks on the features: can a small probe read the forgotten label before the head?

A probe is fitted on the probe split and scored on the test split, linear and with one hidden layer, each
calibrated on the probe split by 5-fold Platt scaling, so that both its ranking (advantage) and its
probabilities (bits) count. Splits and seeds depend on the data alone, never on the model: every model meets
the same probes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, logsumexp

from unlabel.audit.attacks.logistic import Floats, Standard, fit_logistic, platt
from unlabel.audit.attacks.mlp import fit_mlps
from unlabel.audit.figures import LINEAR_BITS, LINEAR_PROBE, MLP_BITS, MLP_PROBE
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.core.randomness import uniform
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.statistics.estimate import Estimate, advantage, bits, mean

PENALTIES = (0.01, 0.1, 1.0, 10.0)
CHOOSING_FOLDS = 3
INNER = 10  # one identity in ten is watched for early stopping


def folds(
    y: NDArray[np.bool_], cluster: NDArray[np.int64], count: int, seed: int, stream: str
) -> NDArray[np.int64]:
    """A fold number for each image; images of one identity share it, and kinds are dealt evenly.

    Identities are sorted by how many present images they have, ties by a keyed random number, and dealt round
    like cards. If so all images of a kind come to one fold, ties go by how many absent images they have.
    """
    names, code = np.unique(cluster, return_inverse=True)
    random, present = uniform(seed, f"audit/{stream}", np.arange(len(names))), np.bincount(code, y)

    def dealt(*ties: NDArray[np.number]) -> NDArray[np.int64]:
        fold = np.empty(len(names), np.int64)
        fold[np.lexsort((*ties, present))] = np.arange(len(names)) % count
        return fold[code]

    found = dealt(random)
    alone = any(len(np.unique(found[y == kind])) == 1 for kind in (True, False))
    return dealt(random, np.bincount(code, ~y)) if alone else found


@dataclass(frozen=True)
class Readings:
    """What calibrated probes say of the test split: log-probabilities, one column a probe seed."""

    log_present: Floats
    log_absent: Floats

    def estimates(self, question: Question) -> tuple[Estimate, Estimate]:
        """Advantage and bits, each averaged over the seeds with its influences."""
        target, cluster = question.test, question.test_cluster
        pairs = list(zip(self.log_present.T, self.log_absent.T, strict=True))
        return (
            mean([advantage(yes - no, target, cluster) for yes, no in pairs]),
            mean([bits(yes, no, target, cluster) for yes, no in pairs]).at_least(0.0),
        )


def _pool(scores: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Logarithms of the mean over folds of the calibrated probabilities, of present and of absent.

    The mean is taken in logarithms: a probability that rounds to 1 would tie images that differ.
    """
    table = np.stack(scores)
    size = np.log(len(scores))
    return logsumexp(log_expit(table), axis=0) - size, logsumexp(log_expit(-table), axis=0) - size


def _calibrated(
    on_probe: Floats, on_test: Floats, y: NDArray[np.bool_], place: NDArray[np.int64], count: int
) -> tuple[Floats, Floats]:
    """Pools the fold members of one seed; member k is calibrated on fold k, which it has not seen."""
    scores: list[Floats] = []
    for fold in range(count):
        held = place == fold
        slope, offset = platt(on_probe[held, fold], y[held])
        scores.append(slope * on_test[:, fold] + offset)
    return _pool(scores)


def choose_penalty(x: Floats, y: NDArray[np.bool_], cluster: NDArray[np.int64], seed: int) -> float:
    """The grid's C with the lowest held-out log loss over three folds of identities."""
    fold_of = folds(y, cluster, CHOOSING_FOLDS, seed, "choose")
    losses = np.zeros(len(PENALTIES))
    for fold in range(CHOOSING_FOLDS):
        held = fold_of == fold
        for index, c in enumerate(PENALTIES):
            score = fit_logistic(x[~held], y[~held], c).decision_function(x[held])
            losses[index] -= log_expit(np.where(y[held], score, -score)).sum()
    return PENALTIES[int(np.argmin(losses))]


def linear(outputs: Outputs, on_test: Outputs, question: Question, options: AuditOptions) -> Readings:
    """Standardised L2 logistic probes on the penultimate features, one a seed.

    C is chosen once a model, by cross-validation on the probe split; the seeds deal the calibration folds.
    """
    annotated = question.known
    y, cluster = question.probe[annotated] == 1, question.probe_cluster[annotated]
    standard = Standard.of(outputs.features[PENULTIMATE][annotated])
    x, x_test = standard(outputs.features[PENULTIMATE][annotated]), standard(on_test.features[PENULTIMATE])
    c = choose_penalty(x, y, cluster, options.seed)
    pooled = []
    for seed in range(options.probe_seeds):
        fold_of = folds(y, cluster, options.folds, options.seed, f"fold/{seed}")
        members = [fit_logistic(x[fold_of != k], y[fold_of != k], c) for k in range(options.folds)]
        on_probe = np.stack([member.decision_function(x) for member in members], axis=1)
        scores = np.stack([member.decision_function(x_test) for member in members], axis=1)
        pooled.append(_calibrated(on_probe, scores, y, fold_of, options.folds))
    return Readings(*(np.stack(column, axis=1) for column in zip(*pooled, strict=True)))


def watched(
    y: NDArray[np.bool_],
    cluster: NDArray[np.int64],
    rest: NDArray[np.bool_],
    usual: NDArray[np.bool_],
    seed: int,
    stream: str,
) -> NDArray[np.bool_]:
    """Images that stop one member of a probe early: each kind is among them, and among those it learns from.

    Of a set without a kind, one answer for all would seem best. If the usual set lacks one, as of a label
    that few people have, the images are dealt anew.

    Args:
        y: (image,) truth.
        cluster: (image,) identity.
        rest: (image,) all but the member's calibration fold.
        usual: (image,) one identity in `INNER`.
        seed, stream: Key the deal.

    Returns:
        (image,), part of `rest`; empty if no deal serves, and the member is trained to the end.
    """

    def serves(watch: NDArray[np.bool_]) -> bool:
        return all(len(np.unique(y[part])) == 2 for part in (watch, rest & ~watch))

    if serves(rest & usual):
        return rest & usual
    fold_of = np.full(len(y), -1)
    fold_of[rest] = folds(y[rest], cluster[rest], INNER, seed, stream)
    return next((fold_of == k for k in range(INNER) if serves(fold_of == k)), np.zeros(len(y), bool))


def multilayer(outputs: Outputs, on_test: Outputs, question: Question, options: AuditOptions) -> Readings:
    """Probes with one hidden layer on the penultimate features, all seeds and folds trained as one."""
    annotated = question.known
    y, cluster = question.probe[annotated] == 1, question.probe_cluster[annotated]
    standard = Standard.of(outputs.features[PENULTIMATE][annotated])
    x, x_test = standard(outputs.features[PENULTIMATE][annotated]), standard(on_test.features[PENULTIMATE])
    learn, watch, places = [], [], []
    for seed in range(options.probe_seeds):
        fold_of = folds(y, cluster, options.folds, options.seed, f"fold/{seed}")
        inner = folds(y, cluster, INNER, options.seed, f"inner/{seed}") == 0
        places.append(fold_of)
        for k in range(options.folds):
            watch.append(watched(y, cluster, fold_of != k, inner, options.seed, f"inner/{seed}/{k}"))
            learn.append((fold_of != k) & ~watch[-1])
    on_probe, scores = fit_mlps(
        x,
        y,
        np.stack(learn, axis=1),
        np.stack(watch, axis=1),
        x_test,
        hidden=options.hidden,
        epochs=options.epochs,
        seed=options.seed,
    )
    pooled = []
    for seed, fold_of in enumerate(places):
        members = slice(seed * options.folds, (seed + 1) * options.folds)
        pooled.append(_calibrated(on_probe[:, members], scores[:, members], y, fold_of, options.folds))
    return Readings(*(np.stack(column, axis=1) for column in zip(*pooled, strict=True)))


def read_features(
    probe: Outputs, test: Outputs, question: Question, options: AuditOptions
) -> dict[str, Estimate]:
    """The four probe figures of one model and label."""
    adv_lin, bits_lin = linear(probe, test, question, options).estimates(question)
    adv_mlp, bits_mlp = multilayer(probe, test, question, options).estimates(question)
    return {
        LINEAR_PROBE.id: adv_lin,
        MLP_PROBE.id: adv_mlp,
        LINEAR_BITS.id: bits_lin,
        MLP_BITS.id: bits_mlp,
    }
