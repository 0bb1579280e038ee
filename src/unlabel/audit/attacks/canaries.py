"""The claim C6: single training annotations of the forgotten label are not remembered.

Planted annotations were drawn by a coin, so any guess of them that does not come from memory is right half of
the time, exactly, whatever is in the picture. Three scores try to do better: the label's own output, the
original's output row on the model's features, and a linear probe fitted to honest training annotations. Where
the model's own output is one constant, the original's row stands for it.
Each is cut at a threshold that half of the canaries choose. If there are retrained models, which never saw
the coins, each is also *calibrated*: what they score on a picture is taken from it, and the rest is cut at
its mean. No coin chooses anything then, so all canaries are counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.attacks.lira import standardised
from unlabel.audit.attacks.logistic import Standard, fit_logistic
from unlabel.audit.attacks.outputs import best_cut
from unlabel.audit.document.results import Metric
from unlabel.audit.figures import (
    CANARY_OWN,
    CANARY_OWN_CALIBRATED,
    CANARY_OWN_CALIBRATED_PRIVACY,
    CANARY_OWN_PRIVACY,
    CANARY_PROBE,
    CANARY_PROBE_CALIBRATED,
    CANARY_PROBE_CALIBRATED_PRIVACY,
    CANARY_PROBE_PRIVACY,
    CANARY_RESTORED,
    CANARY_RESTORED_CALIBRATED,
    CANARY_RESTORED_CALIBRATED_PRIVACY,
    CANARY_RESTORED_PRIVACY,
    Figure,
)
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.question import Question
from unlabel.audit.inputs.subject import Canaries, Subject
from unlabel.core.errors import ModelError
from unlabel.core.randomness import uniform
from unlabel.models.outputs import PENULTIMATE
from unlabel.statistics.estimate import Floats, clopper_pearson

ATTACKS: Mapping[str, tuple[Figure, Figure]] = {  # attack -> share told right, label privacy lost
    "own": (CANARY_OWN, CANARY_OWN_PRIVACY),
    "probe": (CANARY_PROBE, CANARY_PROBE_PRIVACY),
    "restored": (CANARY_RESTORED, CANARY_RESTORED_PRIVACY),
    "own@calibrated": (CANARY_OWN_CALIBRATED, CANARY_OWN_CALIBRATED_PRIVACY),
    "probe@calibrated": (CANARY_PROBE_CALIBRATED, CANARY_PROBE_CALIBRATED_PRIVACY),
    "restored@calibrated": (CANARY_RESTORED_CALIBRATED, CANARY_RESTORED_CALIBRATED_PRIVACY),
}

ADVISED = 2000


@dataclass(frozen=True)
class Guesses:
    """How many canaries an attack told right, of those that no choice of its own was made by."""

    label: str
    attack: str
    subject: Subject
    hits: int
    n: int

    @property
    def accuracy(self) -> float:
        """Share told right; one half where nothing is remembered."""
        return self.hits / self.n

    def bounds(self, level: float) -> tuple[float, float]:
        """Exact one-sided bounds of it."""
        return clopper_pearson(self.hits, self.n, level)


def kept_for_test(planted: NDArray[np.int8], label: int, seed: int) -> NDArray[np.bool_]:
    """Half of the canaries, drawn by a key; thresholds are chosen on the other half."""
    rank = uniform(seed, "audit/canary", label, np.arange(len(planted)))
    return rank.argsort(kind="stable").argsort(kind="stable") % 2 == 1


def told_right(
    score: Floats, planted: NDArray[np.int8], visible: NDArray[np.int8], test: NDArray[np.bool_]
) -> int:
    """Canaries of the test half whose planted annotation a threshold on the score tells.

    Threshold and direction are chosen on the other half, apart for each visible class, since what is in the
    picture moves the score more than what was memorised. The coins of the test half play no part in it, so
    the number is binomial with one half where the score knows nothing of them.
    """
    return int(which_told_right(score, planted, visible, test).sum())


def which_told_right(
    score: Floats, planted: NDArray[np.int8], visible: NDArray[np.int8], test: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which of the canaries those are, see `told_right`; bool (canary,), False outside the test half."""
    right = np.zeros(len(planted), np.bool_)
    for kind in np.unique(visible):
        learn, judge = ~test & (visible == kind), test & (visible == kind)
        learnt = planted[learn] == 1
        if learnt.any() and not learnt.all():
            cut, above = best_cut(score[learn], learnt)
        else:  # too few to choose by: all are guessed to be what was learnt
            cut, above = -np.inf, bool(learnt.any())
        right[judge] = ((score[judge] > cut) == above) == (planted[judge] == 1)
    return right


def calibrated(score: Floats, retrained: Sequence[Floats]) -> Floats:
    """A score less what retrained models score on the same images, by least squares.

    With z the standardised scores and p the mean of the retrained models' z: ``z - p (z . p) / (p . p)``.

    Args:
        score: float64 (canary,) of the model under attack.
        retrained: The same of models that never saw the coins, at least one.

    Returns:
        float64 (canary,).

    References:
        Watson et al., On the Importance of Difficulty Calibration in Membership Inference Attacks, ICLR 2022
        (arXiv 2111.08440), which subtracts the mean itself; here its slope is fitted.
    """
    z, plain = standardised(np.asarray([score]))[0], standardised(np.asarray(retrained)).mean(0)
    return z - plain * (z @ plain) / max(plain @ plain, np.finfo(float).tiny)


def told_at_mean(score: Floats, planted: NDArray[np.int8], visible: NDArray[np.int8]) -> int:
    """Canaries whose planted annotation the score tells, if it is cut at its mean in each visible class.

    No coin plays a part in the cut, so the number is binomial with one half, of all canaries, where the score
    knows nothing of the coins.
    """
    guess = np.zeros(len(planted), np.bool_)
    for kind in np.unique(visible):
        of_kind = visible == kind
        guess[of_kind] = score[of_kind] > score[of_kind].mean()
    return int((guess == (planted == 1)).sum())


def attack_canaries(
    canaries: Canaries,
    subjects: Sequence[Subject],
    question: Question,
    options: AuditOptions,
) -> list[Guesses]:
    """Every attack on the original and the unlearned model; the probe alone on retrained ones.

    The original's row is put back on the unlearned model alone, if it fits its features.

    Args:
        canaries: The planted annotations and every model's outputs on their images.
        subjects: The models, the original first.
        question: The label, with the honest annotations of the training images.
        options: Seed.

    Raises:
        ModelError: Outputs that do not fit the canaries or are not finite.
    """
    test = kept_for_test(canaries.planted, question.column, options.seed)
    read = [subject for subject in subjects if subject.run in canaries.outputs]
    scores = {subject.run: _scores(canaries, subject, question, subjects[0]) for subject in read}
    guesses: list[Guesses] = []
    for subject in read:
        others = [
            scores[each.run]["probe"] for each in read if each.role == "reference" and each.run != subject.run
        ]
        for attack, score in scores[subject.run].items():
            hits = told_right(score, canaries.planted, canaries.true, test)
            guesses.append(Guesses(canaries.label, attack, subject, hits, int(test.sum())))
            if others:
                hits = told_at_mean(calibrated(score, others), canaries.planted, canaries.true)
                name = f"{attack}@calibrated"
                guesses.append(Guesses(canaries.label, name, subject, hits, len(canaries.planted)))
    return guesses


def _scores(canaries: Canaries, subject: Subject, question: Question, before: Subject) -> dict[str, Floats]:
    """What a model says of the canaries' images, by attack."""
    outputs = canaries.outputs[subject.run]
    table, logits = outputs.features[PENULTIMATE], outputs.logits
    for values in (table, logits):
        if len(values) != len(canaries.planted) or not np.isfinite(values).all():
            raise ModelError(
                f"the outputs of {subject.run} on the canaries of {canaries.label} are not finite"
                " numbers, one row an image; compute them again on these images"
            )
    scores = {"probe": _probe(subject, table, question)}
    if subject.role == "reference":
        return scores
    score = np.asarray(logits[:, question.column], np.float64)
    row = _restored(table, question, before) if subject.role == "after" else None
    if row is None:
        return scores | {"own": score}
    return scores | ({"own": score, "restored": row} if np.ptp(score) > 0 else {"own": row})


def _restored(features: NDArray[np.floating], question: Question, before: Subject) -> Floats | None:
    """What the original's row makes of a model's features; None where it does not fit them."""
    if before.head is None or before.head[0].shape[1] != features.shape[1]:
        return None
    weights, bias = (np.asarray(part, np.float64)[question.column] for part in before.head)
    return features.astype(np.float64) @ weights + bias


def _probe(subject: Subject, features: NDArray[np.floating], question: Question) -> Floats:
    """A linear probe fitted to the training images and their annotations, read on the canaries' images."""
    annotated = question.train >= 0
    standard = Standard.of(subject.train.features[PENULTIMATE][annotated])
    x = standard(subject.train.features[PENULTIMATE][annotated])
    return fit_logistic(x, question.train[annotated] == 1).decision_function(standard(features))


def epsilon(guesses: Guesses, level: float) -> float:
    """Lower bound of the label privacy that training and forgetting together can have had, in nats.

    ``log(p / (1 - p))`` of the exact lower bound of the accuracy, 0 where that is below one half. Empirical:
    it holds for independent coins and says what these attacks showed, not what is guaranteed.

    References:
        Steinke et al., Privacy Auditing with One (1) Training Run, NeurIPS 2023.
    """
    return privacy_lost(guesses.bounds(level)[0])


def privacy_lost(share: float) -> float:
    """Nats of label privacy that a share told right proves lost; 0 for one half or less, and for 1."""
    return log(share / (1 - share)) if 0.5 < share < 1 else 0.0


def canary_rows(found: Sequence[Guesses], options: AuditOptions) -> list[Metric]:
    """Accuracy of every attack on every model with its exact interval, and the bound on label privacy."""
    rows: list[Metric] = []
    for item in found:
        low, high = clopper_pearson(item.hits, item.n, 0.975)
        share, privacy = ATTACKS[item.attack]
        where = (item.label, item.subject.role, item.subject.run)
        bound = epsilon(item, options.level)
        rows += [
            Metric(share.id, *where, item.accuracy, (low, high), item.n, share.unit, share.layer),
            Metric(privacy.id, *where, bound, None, item.n, privacy.unit, privacy.layer),
        ]
    return rows
