"""How far a model's answers are from a retrained model's, in units of how far two retrained ones are apart.

Described, not judged: a model may differ from retrained ones in a harmless way, and agree with them in all
that is measured here while it remembers.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from unlabel.audit.attacks.membership import retained_loss
from unlabel.audit.figures import AGREEMENT, DIVERGENCE, DIVERGENCE_RATIO, KOLMOGOROV
from unlabel.audit.inputs import Subject
from unlabel.audit.results import Metric
from unlabel.data.dataset import Dataset
from unlabel.models.features import Outputs
from unlabel.statistics.estimate import Floats, clopper_pearson

GAMMA = 0.05  # probabilities that differ by no more than this agree


def probabilities(outputs: Outputs, columns: tuple[int, ...], *, exclusive: bool) -> Floats:
    """(image, retained label) probabilities; of classes, among the retained ones."""
    logits = outputs.logits[:, list(columns)].astype(np.float64)
    return softmax(logits, axis=1) if exclusive else expit(logits)


def entropy(prob: NDArray[np.floating]) -> Floats:
    """Entropy in bits of yes-or-no answers with these probabilities, exactly 0 at 0 and 1.

    >>> entropy(np.array([0.5, 0.0, 0.11])).round(3).tolist()
    [1.0, 0.0, 0.5]
    """
    halves = [np.where(p > 0, -p * np.log2(np.where(p > 0, p, 1.0)), 0.0) for p in (prob, 1 - prob)]
    return halves[0] + halves[1]


def jensen_shannon(one: Floats, two: Floats) -> float:
    """Jensen-Shannon divergence in bits of yes-or-no answers, mean over images and labels.

    >>> round(jensen_shannon(np.array([[0.0, 0.5]]), np.array([[1.0, 0.5]])), 3)
    0.5
    """
    middle = entropy((one + two) / 2)
    return float(np.mean(middle - (entropy(one) + entropy(two)) / 2))


def agreement(one: Floats, two: Floats) -> int:
    """Images on which no retained label's probabilities differ by more than 0.05."""
    return int(np.sum(np.abs(one - two).max(1) <= GAMMA))


def kolmogorov(one: Floats, two: Floats) -> float:
    """Largest difference of the distribution functions of two samples (Kolmogorov-Smirnov).

    >>> kolmogorov(np.array([1.0, 2.0, 3.0]), np.array([2.5, 3.5, 4.5]))
    0.6666666666666667
    """
    places = np.concatenate([one, two])
    shares = [np.searchsorted(np.sort(part), places, side="right") / len(part) for part in (one, two)]
    return float(np.abs(shares[0] - shares[1]).max())


def distance_rows(
    subjects: Sequence[Subject], test: Dataset, train: Dataset, columns: tuple[int, ...]
) -> list[Metric]:
    """Distances of every model to the retrained ones (of a retrained one, to the others).

    ``dist.js`` in bits and, from two references on, ``dist.js_ratio`` to their mean distance from each other;
    ``dist.agree``, the share of test images that agree with the reference that agrees least, with its exact
    interval; ``dist.ks.*``, the largest difference of the distribution functions of loss and entropy.
    """
    tables = {
        subject.run: probabilities(subject.test, columns, exclusive=test.exclusive) for subject in subjects
    }
    references = [subject for subject in subjects if subject.role == "reference"]
    spreads = _spreads(subjects, test, train, columns)

    def others(subject: Subject) -> list[Subject]:
        return [reference for reference in references if reference.run != subject.run]

    def mean_over(subject: Subject, distance: Callable[[str, str], float]) -> float:
        return float(np.mean([distance(subject.run, other.run) for other in others(subject)]))

    def js(one: str, two: str) -> float:
        return jensen_shannon(tables[one], tables[two])

    noise = float(np.mean([mean_over(item, js) for item in references])) if len(references) > 1 else 0.0
    rows: list[Metric] = []
    for subject in subjects:
        if not others(subject):
            continue
        where = (None, subject.role, subject.run)
        n = len(test)
        apart = mean_over(subject, js)
        least = min(agreement(tables[subject.run], tables[other.run]) for other in others(subject))
        rows += [
            Metric(DIVERGENCE.id, *where, apart, None, n, DIVERGENCE.unit),
            Metric(AGREEMENT.id, *where, least / n, clopper_pearson(least, n, 0.975), n, AGREEMENT.unit),
        ]
        if noise > 0:
            rows.append(Metric(DIVERGENCE_RATIO.id, *where, apart / noise, None, n, DIVERGENCE_RATIO.unit))
        for name, drawn in spreads.items():
            value = mean_over(subject, lambda one, two, d=drawn: kolmogorov(d[one], d[two]))
            many = len(drawn[subject.run])
            rows.append(Metric(KOLMOGOROV.of(name), *where, value, None, many, KOLMOGOROV.unit))
    return rows


def _spreads(
    subjects: Sequence[Subject], test: Dataset, train: Dataset, columns: tuple[int, ...]
) -> dict[str, dict[str, Floats]]:
    """Loss and entropy of each image, by what and where and by run."""
    spreads: dict[str, dict[str, Floats]] = {}
    for subject in subjects:
        for split, outputs, data in (("test", subject.test, test), ("train", subject.train, train)):
            loss = retained_loss(outputs, data, columns)
            prob = probabilities(outputs, columns, exclusive=data.exclusive)
            spreads.setdefault(f"loss@{split}", {})[subject.run] = loss[np.isfinite(loss)]
            spreads.setdefault(f"entropy@{split}", {})[subject.run] = entropy(prob).mean(1)
    return spreads
