"""What an attack would read from a model retrained in full, predicted without training one.

In d' (root two times the probit of the AUC; of bits, their root) let O be what an attack reads from the
original and R what it reads from a Retrain. Two things tell R at full length. The retained annotations
explain a part of the label (`explained`), and a Retrain keeps that and a share of the rest::

    R = share * O,    share^2 = H^2 + KEPT^2 (1 - H^2)

H is the share of the label's d' that a probe still has if it is fitted to what the annotations predict.

R also grows with O as both are trained, which a short pair shows: ``R = R_short + GROWTH * (O - O_short)``.
The level is the weighted mean of both. A straight line through the shares of two short pairs, the first idea,
misses by far more: shares of short trainings are near 1, whatever they are in the end.

The constants were fitted to worlds whose full Retrain is known, by the command in
``docs/results/predicted.md``, which also says how far the predictions miss. Probes on few annotated images
follow the same rule with constants of their own (``docs/results/predicted-relearning.md``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log, sqrt
from operator import itemgetter

import numpy as np
from scipy.special import ndtri
from scipy.stats import norm

from unlabel.audit.attacks.explained import Explained
from unlabel.audit.attacks.few_shot import Relearnt
from unlabel.audit.figures import (
    FINE,
    LABEL_MEMBERSHIP,
    LEAST_SQUARES,
    LINEAR_PROBE,
    OWN,
    RANKED,
    TREES_PROBE,
    Readings,
    judged_by,
    unit_of,
)
from unlabel.audit.inputs.short_pair import ShortPair
from unlabel.statistics.estimate import Estimate

CLOSEST = 1e-4  # to an AUC of 0 or 1; nearer, a probit says nothing of a model
LEAST_BITS = 0.01  # where a root is steep, the error is taken as it is here
LEAST_IMAGES, MOST_IMAGES = 64, 256  # annotated, between which the error of relearning was measured
CALIBRATED = 0.1  # share of the epochs of the longer pair, in the calibration


@dataclass(frozen=True)
class Rule:
    """How the figures of one unit are predicted, and how far that misses.

    Args:
        kept: Share of the original's level that a Retrain keeps where the annotations explain nothing.
        growth: How much of the original's growth a Retrain shares.
        drift: Root mean square of truth less prediction over data sets that were left out, in this unit.
        df: Degrees of freedom of `drift`: worlds less fitted constants.
        weight: Of the short pair in the weighted mean.
    """

    kept: float
    growth: float
    drift: float = 0.0
    df: int = 1
    weight: float = 0.25


RULES: Mapping[str, Rule] = {
    "adv": Rule(kept=0.433, growth=0.597, drift=0.0504, df=24),
    "bits": Rule(kept=0.571, growth=0.729, drift=0.0319, df=24),
    "few@64": Rule(kept=0.169, growth=0.529, drift=0.0550, df=23),
    "few@256": Rule(kept=0.169, growth=0.529, drift=0.0386, df=19),
}
"""Made by ``benchmarks/predicted.py``; a test holds them to its pages."""

MEMBERSHIP_DRIFT, MEMBERSHIP_DF = 0.01, 4
"""Root mean square of ``mia.label.auc`` less one half on 15 full Retrains of five data sets: at most .016."""


def scaled(item: Estimate, unit: str) -> Estimate:
    """An advantage as d', bits as their root.

    >>> import numpy as np
    >>> one = Estimate(0.5, np.zeros(2), np.arange(2), np.ones(2, bool))
    >>> round(scaled(one, "adv").value, 4), scaled(replace(one, value=0.25), "bits").value
    (0.9539, 0.5)
    """
    if unit == "bits":
        return _moved(item, sqrt(max(item.value, 0.0)), 0.5 / sqrt(max(item.value, LEAST_BITS)))
    value = d_prime(item.value)
    return _moved(item, value, 1.0 / (sqrt(2.0) * float(norm.pdf(value / sqrt(2.0)))))


def unscaled(item: Estimate, unit: str) -> Estimate:
    """The reverse of `scaled`."""
    if unit == "bits":
        root = max(item.value, 0.0)
        return _moved(item, root**2, 2.0 * max(root, sqrt(LEAST_BITS)))
    value = item.value / sqrt(2.0)
    return _moved(item, 2.0 * float(norm.cdf(value)) - 1.0, sqrt(2.0) * float(norm.pdf(value)))


def _moved(item: Estimate, value: float, slope: float) -> Estimate:
    return replace(item.affine(slope, 0.0), value=value)


def d_prime(advantage: float) -> float:
    """The distance of two normal distributions that are told apart with this advantage.

    >>> round(d_prime(0.0), 6), round(d_prime(0.6827), 3)
    (0.0, 1.414)
    """
    area = min(max((1.0 + advantage) / 2.0, CLOSEST), 1.0 - CLOSEST)
    return sqrt(2.0) * float(ndtri(area))


def share(rule: Rule, known: Explained) -> float:
    """The share of the original's level that a Retrain keeps, as far as the annotations tell.

    If the linear probe finds nothing, the annotations explain nothing.

    >>> share(Rule(kept=0.6, growth=0.5), Explained(told=0.0, found=0.8))
    0.6
    >>> share(Rule(kept=0.6, growth=0.5), Explained(told=0.8, found=0.8))
    1.0
    """
    told, found = (max(d_prime(value), 0.0) for value in (known.told, known.found))
    explained = min(told / found, 1.0) if found > 0 else 0.0
    return sqrt(explained**2 + rule.kept**2 * (1.0 - explained**2))


@dataclass(frozen=True)
class Prediction:
    """What attacks would read from a model retrained in full, and what that was predicted from.

    Args:
        levels: By label and attack: the prediction, whose drift is the error of predicting.
        whole: What the same attacks read from the original.
        shorts: What they read from the short pairs, the shorter one first.
        known: By label: what the retained annotations explain.
        few: By label: what probes on few annotated images would tell; empty where that was not measured.
    """

    levels: Mapping[str, Readings]
    whole: Mapping[str, Readings]
    shorts: Sequence[ShortPair[Mapping[str, Readings]]]
    known: Mapping[str, Explained]
    few: Mapping[str, "PredictedRelearning"] = field(default_factory=dict)

    @property
    def cost(self) -> float:
        """Of all short trainings, in trainings of the original's length."""
        return sum(2 * pair.share for pair in self.shorts)


def predict_all(
    whole: Mapping[str, Readings],
    shorts: Sequence[ShortPair[Mapping[str, Readings]]],
    known: Mapping[str, Explained],
) -> Prediction:
    """The level of every attack that judges C2, for every label.

    Args:
        whole: What the attacks read from the original, by label.
        shorts: The same of the short pairs, the shorter one first.
        known: What the retained annotations explain, by label.
    """
    levels: dict[str, Readings] = {}
    for label, readings in whole.items():
        pairs = [pair.map(itemgetter(label)) for pair in shorts]
        levels[label] = {
            figure: predict(figure, readings[figure], pairs, known[label])
            for figure in judged_by("C2")
            if figure in readings
        }
    return Prediction(levels, whole, shorts, known)


def predict(
    figure: str, whole: Estimate, shorts: Sequence[ShortPair[Readings]], known: Explained
) -> Estimate:
    """One attack's level on a model retrained in full, with the error of the prediction as its drift.

    An output that nothing trains is as the short Retrain has it, and a model that never saw the annotations
    cannot have learnt them by heart.

    Args:
        figure: The attack.
        whole: What it reads from the original.
        shorts: What it reads from the short pairs, the shorter one first.
        known: What the retained annotations explain.
    """
    if figure == LABEL_MEMBERSHIP.id:
        return replace(whole.affine(0.0, 0.5), drift=MEMBERSHIP_DRIFT, drift_df=MEMBERSHIP_DF)
    longer = shorts[-1]
    if figure == OWN.id:
        return longer.retrained[figure]
    unit = unit_of(figure)
    rule = RULES[unit]
    level = level_of(unit, rule, whole, longer.map(itemgetter(figure)), known)
    further = max(log(longer.share) / log(CALIBRATED), 1.0)  # more than 1 if trained for less than calibrated
    return replace(level, drift=rule.drift * further, drift_df=rule.df)


def level_of(
    unit: str, rule: Rule, whole: Estimate, longer: ShortPair[Estimate], known: Explained
) -> Estimate:
    """The weighted mean of what the annotations and what the longer short pair say, without its drift."""
    original, short = scaled(whole, unit), longer.map(lambda item: scaled(item, unit))
    by_annotations = original.affine(share(rule, known), 0.0)
    grown = short.retrained - (short.original - original).affine(rule.growth, 0.0)
    return unscaled(by_annotations.affine(1.0 - rule.weight, 0.0) - grown.affine(-rule.weight, 0.0), unit)


@dataclass(frozen=True)
class PredictedRelearning:
    """What probes on few annotated images would tell of a label on a model retrained in full.

    Args:
        levels: By number of images: the prediction; the drift of its mean is the error of predicting.
        whole: The same probes on the original.
        shorts: And on the short pairs, the shorter one first.
    """

    levels: Mapping[int, Relearnt]
    whole: Mapping[int, Relearnt]
    shorts: Sequence[ShortPair[Mapping[int, Relearnt]]]


def predict_relearning(
    whole: Mapping[int, Relearnt],
    shorts: Sequence[ShortPair[Mapping[int, Relearnt]]],
    known: Explained,
    rule: Rule | None = None,
) -> PredictedRelearning:
    """The level of a Retrain for every number of annotated images from 64 to 256.

    Args:
        whole: AUC by number of images, of the original.
        shorts: The same of the short pairs, the shorter one first.
        known: What the retained annotations explain of the label.
        rule: By default, that of `rule_of`.
    """
    longer = shorts[-1]
    rules = {n: rule or rule_of(n) for n in whole if LEAST_IMAGES <= n <= MOST_IMAGES}
    levels = {n: relearnt_level(whole[n], longer.map(itemgetter(n)), known, rules[n]) for n in rules}
    further = max(log(longer.share) / log(CALIBRATED), 1.0)
    return PredictedRelearning(
        {
            n: replace(
                item, mean=replace(item.mean, drift=0.5 * rules[n].drift * further, drift_df=rules[n].df)
            )
            for n, item in levels.items()
        },
        whole,
        shorts,
    )


def rule_of(n: int) -> Rule:
    """The rule for so many annotated images: the error is measured at 64 and at 256.

    >>> rule_of(212).drift > rule_of(256).drift
    True
    """
    return RULES["few@256" if n >= 256 else "few@64"]


def relearnt_level(whole: Relearnt, longer: ShortPair[Relearnt], known: Explained, rule: Rule) -> Relearnt:
    """AUC of a Retrain after few annotated images, of the mean and of each draw; without its drift.

    Args:
        whole: Of the original.
        longer: Of the longer short pair, on the same draws.
        known: What the retained annotations explain of the label.
        rule: Of advantages in d'.
    """

    def level(original: Estimate, pair: ShortPair[Estimate]) -> Estimate:
        """Of an AUC, which is (1 + advantage) / 2."""
        there = pair.map(lambda item: item.affine(2.0, -1.0))
        return level_of("adv", rule, original.affine(2.0, -1.0), there, known).affine(0.5, 0.5)

    draws = zip(whole.draws, longer.original.draws, longer.retrained.draws, strict=True)
    return Relearnt(
        level(whole.mean, longer.map(lambda item: item.mean)),
        tuple(
            level(_number(first), ShortPair(longer.share, _number(second), _number(third))).value
            for first, second, third in draws
        ),
    )


def _number(value: float) -> Estimate:
    """A number without the influences of images."""
    none = np.zeros(0)
    return Estimate(value, none, none.astype(np.int64), none.astype(bool))


def on_other_images(found: Mapping[str, Readings], levels: Mapping[str, Readings]) -> dict[str, Readings]:
    """For the attacks that detect cheats: the level of the same attack on the audit's own images.

    How far a Retrain was seen to differ between them stands in ``docs/results/predicted.md``. The error of
    the level is no longer shared with the model's, as the images are others.

    Args:
        found: These attacks on the unlearned model, by label.
        levels: Predictions, by label.
    """
    usual = dict.fromkeys((LEAST_SQUARES.id, RANKED.id, TREES_PROBE.id, FINE.id), LINEAR_PROBE.id)
    return {
        label: {
            figure: _elsewhere(levels[label][usual.get(plain := figure.partition("@")[0], plain)], item)
            for figure, item in rows.items()
        }
        for label, rows in found.items()
    }


def _elsewhere(level: Estimate, like: Estimate) -> Estimate:
    """A level as it stands for other images."""
    drift = sqrt(level.drift**2 + level.se**2)
    there = like.affine(0.0, level.value)
    return replace(there, drift=drift, drift_df=level.drift_df if level.drift else level.groups)
