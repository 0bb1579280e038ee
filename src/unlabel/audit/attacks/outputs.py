"""Attacks on the answers: the forgotten label's own output, and what the other outputs give away.

The own output is ranked as it is, in float64: shifting it by -60 hides it from a threshold and from a
sigmoid, but not from a ranking. The other outputs are shown to a linear model and to boosted trees, with
the columns of every forgotten label hidden for every model alike.

A class of a softmax is read as its log-odds against all other classes, whose sigmoid is its probability:
its logit alone has no zero. The attack on the *other* outputs gets their logits, which hold more.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.ensemble import HistGradientBoostingClassifier

from unlabel.audit.attacks.cross_fit import pooled
from unlabel.audit.attacks.logistic import Floats, Standard, fit_logistic
from unlabel.audit.figures import OTHERS_LINEAR, OTHERS_TREES
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.audit.inputs.subject import Subject
from unlabel.core.randomness import uniform
from unlabel.models.outputs import PENULTIMATE
from unlabel.statistics.estimate import Estimate, advantage, average

NEVER = -104.0  # log-odds below which a softmax in float32 says exactly 0


def log_odds(logits: NDArray[np.floating], column: int) -> Floats:
    """Log-odds of one class against all others, in float64: (image, class) logits to (image,).

    A removed class, whose logit is -1e4, adds exactly nothing to the others.
    """
    exact = np.asarray(logits, np.float64)
    return exact[:, column] - logsumexp(np.delete(exact, column, axis=1), axis=1)


@dataclass(frozen=True)
class OwnOutput:
    """One label's own logits (or log-odds of a class) on the three sets of images.

    ``absent``: they are one constant on each set; it is measured, never believed.
    """

    probe: Floats
    test: Floats
    train: Floats

    @classmethod
    def of(cls, subject: Subject, question: Question, *, exclusive: bool = False) -> "OwnOutput":
        """The label's column of a model's logits; of exclusive classes, their log-odds.

        A removed class keeps its constant logit: its log-odds vary with the other classes, but it is never
        the answer. One that is constant and still has a probability answers, by the others' doubt, and is
        read like any other.
        """
        tables = (subject.probe.logits, subject.test.logits, subject.train.logits)
        raw = cls(*(table[:, question.column].astype(np.float64) for table in tables))
        if not exclusive:
            return raw
        odds = [log_odds(table, question.column) for table in tables]
        never = max(float(part.max()) for part in odds if len(part)) < NEVER
        return raw if raw.absent and never else cls(*odds)

    @property
    def absent(self) -> bool:
        """Whether the output is the same number for every image."""
        return float(np.ptp(np.concatenate([self.probe, self.test, self.train]))) == 0.0

    def shifted(self, offset: float) -> "OwnOutput":
        """A decoy: the same output, moved, in the precision a model computes in."""
        move = np.float32(offset)
        return OwnOutput(
            *(
                (table.astype(np.float32) + move).astype(np.float64)
                for table in (self.probe, self.test, self.train)
            )
        )

    def inverted(self) -> "OwnOutput":
        """A decoy: present said for absent."""
        return OwnOutput(-self.probe, -self.test, -self.train)

    def signed(self, question: Question) -> Estimate:
        """Signed advantage on the test split; on the probe and test splits where the question is crossed."""
        on_test = advantage(self.test, question.test, question.test_cluster)
        if not question.crossed:
            return on_test
        return pooled(on_test, advantage(self.probe, question.probe, question.probe_cluster), question)

    def signed_on_train(self, question: Question) -> Estimate | None:
        """Signed advantage on training images, against the annotations trained on; None without images."""
        if not len(self.train):
            return None
        return advantage(self.train, question.train, question.train_cluster)

    def positive_rate(self, question: Question) -> Estimate:
        """Share of images called present. Descriptive: a shift of the output moves it at will."""
        annotated = question.test >= 0
        return average((self.test > 0).astype(float), annotated, question.test_cluster)


def restored(
    subject: Subject, before: Subject, question: Question, *, exclusive: bool = False
) -> Estimate | None:
    """Signed advantage of the original's output row put back on this model's features.

    Of exclusive classes, the original's whole head is put back and the class read as log-odds. Removing a
    row cannot hide from it. None where a model has no linear head or the sizes differ.
    """
    if before.head is None or question.label in before.absent:
        return None
    weights, bias = before.head
    features = subject.test.features[PENULTIMATE]
    if weights.shape[1] != features.shape[1]:
        return None
    if exclusive:
        logits = features.astype(np.float64) @ np.asarray(weights, np.float64).T + bias
        return advantage(log_odds(logits, question.column), question.test, question.test_cluster)
    score = features.astype(np.float64) @ np.asarray(weights[question.column], np.float64)
    return advantage(score + float(bias[question.column]), question.test, question.test_cluster)


def best_cut(score: Floats, y: NDArray[np.bool_]) -> tuple[float, bool]:
    """Threshold and polarity with the highest balanced accuracy on the probe split.

    Returns:
        The threshold, and whether a score above it means present.
    """
    order = np.argsort(score, kind="stable")
    ordered, present = score[order], y[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(score) - 1)
    gain = (np.cumsum(~present) / (~y).sum() - np.cumsum(present) / y.sum())[last]
    best = int(np.argmax(np.abs(gain)))
    after = ordered[min(last[best] + 1, len(score) - 1)]
    return float((ordered[last[best]] + after) / 2), bool(gain[best] >= 0)


def mutual_bits(cells: Floats) -> Floats:
    """Mutual information in bits of 2 x 2 tables (..., 4), Miller-Madow corrected, not below 0."""
    table = cells.reshape(*cells.shape[:-1], 2, 2)
    total = table.sum((-1, -2))
    share = table / total[..., None, None]
    chance = share.sum(-1, keepdims=True) * share.sum(-2, keepdims=True)
    ratio = np.where(share > 0, share / np.where(chance > 0, chance, 1.0), 1.0)
    raw = (share * np.log2(ratio)).sum((-1, -2))
    return np.maximum(raw - 1 / (2 * total * np.log(2)), 0.0)


def decision_bits(
    own: OwnOutput, question: Question, options: AuditOptions
) -> tuple[float, tuple[float, float]]:
    """Bits that the own output's decisions reveal, threshold and sign from the probe split.

    The 95 % interval is a percentile bootstrap over identities (Poisson weights, the same for every model).
    Of few identities some resamples hold none, and are left out. Of one, the interval is the whole range.
    """
    annotated = question.known
    if own.absent:
        return 0.0, (0.0, 0.0)
    cut, above = best_cut(own.probe[annotated], question.probe[annotated] == 1)
    used = question.test >= 0
    guesses = (own.test[used] > cut) == above
    cell = 2 * guesses.astype(int) + (question.test[used] == 1)
    names, code = np.unique(question.test_cluster[used], return_inverse=True)
    counts = np.stack([np.bincount(code, cell == kind, len(names)) for kind in range(4)], axis=1)
    value = float(mutual_bits(counts.sum(0)))
    resampled = poisson_weights(options.seed, options.resamples, len(names)) @ counts
    resampled = resampled[resampled.any(1)]
    if len(names) < 2 or not len(resampled):
        return value, (0.0, 1.0)
    low, high = np.quantile(mutual_bits(resampled), [0.025, 0.975])
    return value, (min(float(low), value), max(float(high), value))


def poisson_weights(seed: int, resamples: int, groups: int) -> Floats:
    """Poisson(1) bootstrap weights, (resample, identity), keyed by both."""
    draw = uniform(seed, "audit/bootstrap", np.arange(resamples)[:, None], np.arange(groups))
    steps = np.cumsum(np.exp(-1.0) / np.cumprod(np.concatenate([[1.0], np.arange(1, 9)])))
    return np.searchsorted(steps, draw).astype(np.float64)


def guess_linear(
    x: NDArray[np.floating], y: NDArray[np.bool_], x_test: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Scores on the test split of a standardised logistic regression fitted on the probe split."""
    standard = Standard.of(x)
    return fit_logistic(standard(x), y).decision_function(standard(x_test))


def guess_trees(
    x: NDArray[np.floating], y: NDArray[np.bool_], x_test: NDArray[np.floating], options: AuditOptions
) -> NDArray[np.float64]:
    """Test scores of boosted trees fitted on the probe split; NaN is a value, constant columns go."""
    spread = np.array([len(np.unique(column[~np.isnan(column)])) > 1 for column in x.T], bool)
    if not spread.any():
        return np.zeros(len(x_test))
    trees = HistGradientBoostingClassifier(
        max_iter=options.trees,
        early_stopping=False,  # pyright: ignore[reportArgumentType]  (taken for a str by its default)
        random_state=options.seed,
    )
    return trees.fit(x[:, spread], y).decision_function(x_test[:, spread])


def read_others_linear(subject: Subject, hidden: tuple[int, ...], question: Question) -> Estimate:
    """What a linear attack reads from the columns outside `hidden`: its advantage on the test split."""
    shown = [column for column in range(subject.test.logits.shape[1]) if column not in hidden]
    annotated = question.known
    x, y = subject.probe.logits[annotated][:, shown], question.probe[annotated] == 1
    score = guess_linear(x, y, subject.test.logits[:, shown])
    return advantage(score, question.test, question.test_cluster)


def read_others(
    subject: Subject, hidden: tuple[int, ...], question: Question, options: AuditOptions
) -> dict[str, Estimate]:
    """What the columns outside `hidden` tell of the label: advantage of both attacks on the test split."""
    shown = [column for column in range(subject.test.logits.shape[1]) if column not in hidden]
    annotated = question.known
    x, y = subject.probe.logits[annotated][:, shown], question.probe[annotated] == 1
    x_test = subject.test.logits[:, shown]
    trees = guess_trees(x, y, x_test, options)
    return {
        OTHERS_LINEAR.id: read_others_linear(subject, hidden, question),
        OTHERS_TREES.id: advantage(trees, question.test, question.test_cluster),
    }


def floor(
    probe: NDArray[np.int8], test: NDArray[np.int8], question: Question, options: AuditOptions
) -> Estimate:
    """What the *true* retained labels tell of the forgotten one: no correct model can leak less there.

    Not for exclusive classes: where no other class is true, the forgotten one is, whatever a model says.

    Args:
        probe: (image, retained label) truth on the probe split, -1 unknown.
        test: The same on the test split.
        question: The forgotten label.
        options: Sizes and seed.
    """
    annotated = question.known
    x = np.where(probe >= 0, probe, np.nan)[annotated]
    x_test = np.where(test >= 0, test, np.nan)
    score = guess_trees(x, question.probe[annotated] == 1, x_test, options)
    return advantage(score, question.test, question.test_cluster)
