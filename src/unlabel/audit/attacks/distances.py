"""How far a model's answers are from a retrained model's, in units of how far two retrained ones are apart.

Other figures say whether answers and features are nearer to those of retrained models, or to the original's.
All are described, not judged: a model may differ from retrained ones in a harmless way, and agree with them
in all that is measured here while it remembers. A model that was trained on from the original resembles it.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from unlabel.audit.attacks.membership import retained_loss
from unlabel.audit.document.results import Metric
from unlabel.audit.figures import (
    AGREEMENT,
    DIVERGENCE,
    DIVERGENCE_RATIO,
    KOLMOGOROV,
    LIKENESS,
    LIKENESS_ORIGINAL,
    NEARER,
)
from unlabel.audit.inputs.subject import Subject
from unlabel.data.dataset import Dataset
from unlabel.models.outputs import PENULTIMATE, Outputs
from unlabel.statistics.estimate import Estimate, Floats, share_bounds

GAMMA = 0.05  # probabilities that differ by no more than this agree
ALIKE = 2048  # images on which features are compared, at most
FEWEST = 4  # images without which the unbiased estimate does not exist


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
    return float(np.mean(_divergences(one, two)))


def _divergences(one: Floats, two: Floats) -> Floats:
    """The same of each image and label."""
    return entropy((one + two) / 2) - (entropy(one) + entropy(two)) / 2


def agreeing(one: Floats, two: Floats) -> NDArray[np.bool_]:
    """Whether on an image no retained label's probabilities differ by more than 0.05."""
    return np.abs(one - two).max(1) <= GAMMA


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
    ``dist.agree``, the share of test images that agree with the reference that agrees least, with the
    interval of `share_bounds`; ``dist.ks.*``, the largest difference of the distribution functions of loss
    and entropy.
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
        least = min(
            (agreeing(tables[subject.run], tables[other.run]) for other in others(subject)), key=np.sum
        )
        bounds = share_bounds(least, test.cluster, 0.975)
        rows += [
            Metric(DIVERGENCE.id, *where, apart, None, n, DIVERGENCE.unit),
            Metric(AGREEMENT.id, *where, float(least.mean()), bounds, n, AGREEMENT.unit),
        ]
        if noise > 0:
            rows.append(Metric(DIVERGENCE_RATIO.id, *where, apart / noise, None, n, DIVERGENCE_RATIO.unit))
        for name, drawn in spreads.items():
            value = mean_over(subject, lambda one, two, d=drawn: kolmogorov(d[one], d[two]))
            many = len(drawn[subject.run])
            rows.append(Metric(KOLMOGOROV.of(name), *where, value, None, many, KOLMOGOROV.unit))
    return rows


def nearer_rows(subjects: Sequence[Subject], test: Dataset, columns: tuple[int, ...]) -> list[Metric]:
    """Whether each model but the original is nearer to the retrained ones than to the original.

    ``dist.nearer``, of the answers, with an interval of the images alone; ``dist.cka`` and
    ``dist.cka_original``, of the last features. The first is a relative test of three samples. A retrained
    model is compared with the others, and the original has no row.

    References:
        Ribero, Schrab and Gretton, Regularized f-Divergence Kernel Tests, AISTATS 2026 (the relative test;
        here with a divergence of answers to the same images). Kornblith et al., Similarity of Neural Network
        Representations Revisited, ICML 2019 (CKA; here with the unbiased estimate of Song et al., JMLR 2012).
    """
    tables = [probabilities(item.test, columns, exclusive=test.exclusive) for item in subjects]
    grams = {at: gram for at, item in enumerate(subjects) if (gram := _gram(item.test)) is not None}
    (original,) = (n for n, each in enumerate(subjects) if each.role == "before")
    rows: list[Metric] = []
    for at, subject in enumerate(subjects):
        others = [n for n, each in enumerate(subjects) if each.role == "reference" and n != at]
        if at == original or not others:
            continue
        apart = [_divergences(tables[at], tables[n]).mean(1) for n in (original, *others)]
        difference = apart[0] - np.mean(apart[1:], axis=0)
        influence = (difference - difference.mean()) / len(difference)
        estimate = Estimate(float(difference.mean()), influence, test.cluster, np.ones(len(test), bool))
        where = (None, subject.role, subject.run)
        rows.append(Metric(NEARER.id, *where, estimate.value, estimate.interval(), len(test), NEARER.unit))
        if len(grams) < len(subjects):
            continue
        for figure, compared in ((LIKENESS, others), (LIKENESS_ORIGINAL, [original])):
            value, n = float(np.mean([alike(grams[at], grams[n]) for n in compared])), len(grams[at])
            rows.append(Metric(figure.id, *where, value, None, n, figure.unit, PENULTIMATE))
    return rows


def _gram(outputs: Outputs) -> Floats | None:
    """Products (image, image) of the last features of evenly spaced images; None without features."""
    if PENULTIMATE not in outputs.features or len(outputs.logits) < FEWEST:
        return None
    features = outputs.features[PENULTIMATE]
    chosen = np.unique(np.linspace(0, len(features) - 1, min(ALIKE, len(features))).round().astype(np.intp))
    x = features[chosen].reshape(len(chosen), -1).astype(np.float64)
    gram = x @ x.T
    np.fill_diagonal(gram, 0.0)
    return gram


def alike(one: Floats, two: Floats) -> float:
    """Linear CKA without its bias, of tables of products with zeros on the diagonal; 0 if one is constant.

    >>> x, y = np.random.default_rng(0).normal(size=(2, 500, 4))
    >>> tables = [z @ z.T for z in (x, 3 * x[:, ::-1], y)]
    >>> for table in tables: np.fill_diagonal(table, 0)
    >>> round(alike(tables[0], tables[1]), 6), abs(alike(tables[0], tables[2])) < 0.01
    (1.0, True)
    """
    size = _dependence(one, one) * _dependence(two, two)
    return _dependence(one, two) / float(np.sqrt(size)) if size > 0 else 0.0


def _dependence(one: Floats, two: Floats) -> float:
    """Unbiased Hilbert-Schmidt independence criterion of tables (image, image) with zeros on the diagonal."""
    n = len(one)
    sums = one.sum(0), two.sum(0)
    joint = float(np.sum(one * two))
    both = sums[0].sum() * sums[1].sum() / ((n - 1) * (n - 2))
    return float(joint + both - 2 * (sums[0] @ sums[1]) / (n - 2)) / (n * (n - 3))


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
