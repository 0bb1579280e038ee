"""Scores that attacks would reach on simulated models, of exactly known strength, on the same images.

::

    crowd = Crowd.draw(np.random.default_rng(0), 1500)
    crowd.odds(0.5, crowd.fresh())          one model's log-odds, advantage 0.5 and calibrated
    readings(crowd, sight, 0.5, 0.4)        the seven figures of a model without the label's own output

All models see the same images: 70 % of an image's noise is common to them, as the look of a picture is,
and two images of a person share 30 %.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit
from scipy.stats import norm

from calibration.planted import LABEL, PER_PERSON, SHARED
from calibration.truth import Floats
from unlabel.audit.figures import OWN, Readings
from unlabel.audit.inputs.question import Question
from unlabel.statistics.estimate import advantage, bits

AGREE = 0.7  # share of an image's noise that is common to all models


@dataclass(frozen=True)
class Crowd:
    """One set of images: who is on them, who has the label, and what all models see alike.

    Args:
        y: (image,) whether the label is present; images of a person agree.
        cluster: (image,) person.
        common: (image,) noise that all models share.
        rng: Draws all else.
    """

    y: NDArray[np.int8]
    cluster: NDArray[np.int64]
    common: Floats
    rng: np.random.Generator

    @classmethod
    def draw(cls, rng: np.random.Generator, images: int) -> "Crowd":
        """Two images a person, half of the people with the label."""
        cluster = np.arange(images) // PER_PERSON
        y = (rng.random(images) < 0.5)[cluster].astype(np.int8)
        return cls(y, cluster, _together(rng, cluster), rng)

    def another(self) -> "Crowd":
        """Another label or another way to look at the same images."""
        y = (self.rng.random(len(self.y)) < 0.5)[self.cluster].astype(np.int8)
        return Crowd(y, self.cluster, _together(self.rng, self.cluster), self.rng)

    def fresh(self) -> Floats:
        """Noise of one model, images of a person going together."""
        return _together(self.rng, self.cluster)

    def odds(self, adv: float, own_noise: Floats) -> Floats:
        """Log-odds of a model whose best attack has this advantage, calibrated; `own_noise` is its noise."""
        strength = np.sqrt(2) * norm.ppf((1 + adv) / 2)
        noise = np.sqrt(AGREE) * self.common + np.sqrt(1 - AGREE) * own_noise
        return strength * (strength / 2 * np.where(self.y == 1, 1.0, -1.0) + noise)

    @property
    def question(self) -> Question:
        """The label as the claims ask for it; only E matters to them."""
        one = self.y, self.cluster
        return Question(LABEL, 0, one[0], one[0], one[0], one[1], one[1], one[1])


def _together(rng: np.random.Generator, cluster: NDArray[np.int64]) -> Floats:
    person = rng.normal(size=cluster[-1] + 1)[cluster]
    return np.sqrt(SHARED) * person + np.sqrt(1 - SHARED) * rng.normal(size=len(cluster))


def readings(crowd: Crowd, sight: Crowd, probes: float, others: float) -> Readings:
    """The seven figures of a model without its own output, whose attacks have these true advantages.

    Args:
        crowd: E, as the features show it.
        sight: The same images and label, as the other outputs show them.
        probes: True advantage of both probes; their bits follow.
        others: True advantage of both attacks on the other outputs.
    """
    y, cluster = crowd.y, crowd.cluster
    figures = {OWN.id: advantage(np.zeros(len(y)), y, cluster)}
    for side, adv, names in ((crowd, probes, ("lin", "mlp")), (sight, others, ("lin", "gbt"))):
        noise = side.fresh()
        for name in names:
            odds = side.odds(adv, 0.9 * noise + np.sqrt(1 - 0.9**2) * side.fresh())
            if side is crowd:
                figures[f"probe.adv.{name}"] = advantage(odds, y, cluster)
                figures[f"probe.bits.{name}"] = bits(log_expit(odds), log_expit(-odds), y, cluster).at_least(
                    0.0
                )
            else:
                figures[f"others.adv.{name}"] = advantage(odds, y, cluster)
    return figures
