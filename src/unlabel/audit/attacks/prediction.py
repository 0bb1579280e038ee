"""What an attack would read from a model retrained in full, predicted from short trainings.

In d' (root two times the probit of the AUC; of bits, their root) let O be what an attack reads from the
original and R what it reads from a Retrain. Both grow as they are trained. The short pairs tell R at a share
of the epochs, and O there and at the end; the longer pair counts::

    R(whole) = R(short) + GROWTH * (O(whole) - O(short))

`GROWTH`, and how far such a prediction is from the truth (`DRIFT`), were measured on worlds whose full Retrain
is known; the command that measured them is in `docs/results/predicted.md`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log, sqrt
from operator import itemgetter

from scipy.special import ndtri
from scipy.stats import norm

from unlabel.audit.figures import (
    LABEL_MEMBERSHIP,
    LEAST_SQUARES,
    LINEAR_PROBE,
    OWN,
    Readings,
    judged_by,
    unit_of,
)
from unlabel.audit.short_pair import ShortPair
from unlabel.statistics.estimate import Estimate

CLOSEST = 1e-4  # to an AUC of 0 or 1; nearer, a probit says nothing of a model
LEAST_BITS = 0.01  # where a root is steep, the error is taken as it is here
CALIBRATED = 0.1  # share of the epochs of the longer pair, in the calibration


@dataclass(frozen=True)
class Calibrated:
    """What the calibration says of one unit.

    Args:
        growth: How much of the original's growth a Retrain shares, on the scale of d' or root bits.
        drift: Standard deviation of truth less prediction, images' errors taken out, on that scale.
        df: Degrees of freedom of `drift`.
    """

    growth: float
    drift: float
    df: int


BY_UNIT = {
    "adv": Calibrated(0.5, 0.15, 4),
    "bits": Calibrated(0.5, 0.06, 4),
}
MEMBERSHIP_DRIFT, MEMBERSHIP_DF = 0.01, 4


def scaled(item: Estimate, unit: str) -> Estimate:
    """An advantage as d', bits as their root.

    >>> import numpy as np
    >>> one = Estimate(0.5, np.zeros(2), np.arange(2), np.ones(2, bool))
    >>> round(scaled(one, "adv").value, 4), scaled(replace(one, value=0.25), "bits").value
    (0.9539, 0.5)
    """
    if unit == "bits":
        root = sqrt(max(item.value, 0.0))
        return _moved(item, root, 0.5 / sqrt(max(item.value, LEAST_BITS)))
    area = min(max((1.0 + item.value) / 2.0, CLOSEST), 1.0 - CLOSEST)
    value = sqrt(2.0) * float(ndtri(area))
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


@dataclass(frozen=True)
class Prediction:
    """What attacks would read from a model retrained in full, and what that was predicted from.

    Args:
        levels: By label and attack: the prediction, whose drift is the error of predicting.
        whole: What the same attacks read from the original.
        shorts: What they read from the short pairs, the shorter one first.
    """

    levels: Mapping[str, Readings]
    whole: Mapping[str, Readings]
    shorts: Sequence[ShortPair[Mapping[str, Readings]]]

    @property
    def cost(self) -> float:
        """Of all short trainings, in trainings of the original's length."""
        return sum(2 * pair.share for pair in self.shorts)


def predict_all(
    whole: Mapping[str, Readings], shorts: Sequence[ShortPair[Mapping[str, Readings]]]
) -> Prediction:
    """The level of every attack that judges C2, for every label.

    Args:
        whole: What the attacks read from the original, by label.
        shorts: The same of the short pairs, the shorter one first.
    """
    levels: dict[str, Readings] = {}
    for label, readings in whole.items():
        pairs = [pair.map(itemgetter(label)) for pair in shorts]
        levels[label] = {
            figure: predict(figure, readings[figure], pairs) for figure in judged_by("C2") if figure in readings
        }
    return Prediction(levels, whole, shorts)


def predict(figure: str, whole: Estimate, shorts: Sequence[ShortPair[Readings]]) -> Estimate:
    """One attack's level on a model retrained in full, with the error of the prediction as its drift.

    An output that nothing trains is as the short Retrain has it, and a model that never saw the annotations
    cannot have learnt them by heart.

    Args:
        figure: The attack.
        whole: What it reads from the original.
        shorts: What it reads from the short pairs, the shorter one first.
    """
    if figure == LABEL_MEMBERSHIP.id:
        return replace(whole.affine(0.0, 0.5), drift=MEMBERSHIP_DRIFT, drift_df=MEMBERSHIP_DF)
    longer = shorts[-1]
    if figure == OWN.id:
        return longer.retrained[figure]
    unit = unit_of(figure)
    known = BY_UNIT[unit]
    original, retrained = (scaled(part[figure], unit) for part in longer.both)
    growth = scaled(whole, unit) - original
    level = retrained - growth.affine(-known.growth, 0.0)
    further = log(longer.share) / log(CALIBRATED)  # 1 as calibrated; more, the shorter the training
    drift = known.drift * max(further, 1.0)
    return unscaled(replace(level, drift=drift, drift_df=known.df), unit)


def on_other_images(found: Mapping[str, Readings], levels: Mapping[str, Readings]) -> dict[str, Readings]:
    """For the attacks that detect cheats: the level of the same attack on the audit's own images.

    A Retrain was seen to differ between them by less than C2's margin (`docs/results/predicted.md`). The error
    of the level is no longer shared with the model's, as the images are others.

    Args:
        found: These attacks on the unlearned model, by label.
        levels: Predictions, by label.
    """
    usual = {LEAST_SQUARES.id: LINEAR_PROBE.id}
    return {
        label: {
            figure: _elsewhere(levels[label][usual.get(figure, figure.partition("@")[0])], item)
            for figure, item in rows.items()
        }
        for label, rows in found.items()
    }


def _elsewhere(level: Estimate, like: Estimate) -> Estimate:
    """A level as it stands for other images."""
    drift = sqrt(level.drift**2 + level.se**2)
    there = like.affine(0.0, level.value)
    return replace(there, drift=drift, drift_df=level.drift_df if level.drift else level.groups)
