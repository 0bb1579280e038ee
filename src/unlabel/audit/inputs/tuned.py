"""What training a whole model on few annotated images leaves: tables, made by `fine_tuning`.

And what is predicted of it without training, made by `tangent`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.inputs.attackers import ADAM
from unlabel.statistics.estimate import Estimate, auc

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Tuned:
    """One model after the whole of it was trained on few annotated images of one label.

    Args:
        run: The model.
        label: The label.
        images: Annotated images that it was trained on.
        rate: The learning rate that was best for the attacker, by probe images that were not trained on.
        scores: float32 (draw, test image) the new output.
        curve: float64 (look,) AUC on those probe images as it was trained, mean over the
            draws that chose the rate.
        attacker: Name of who trained it.
        every: Steps between two looks.
    """

    run: str
    label: str
    images: int
    rate: float
    scores: Scores
    curve: NDArray[np.float64]
    attacker: str = ADAM.name
    every: int = ADAM.every

    def steps_to(self, area: float) -> int | None:
        """Steps until the curve first reaches an AUC; None where it does not.

        >>> Tuned("a", "b", 8, 0.1, np.zeros((1, 1)), np.array([0.6, 0.8, 0.7])).steps_to(0.7)
        20
        """
        reached = np.flatnonzero(self.curve >= area)
        return self.every * (int(reached[0]) + 1) if len(reached) else None


@dataclass(frozen=True)
class Predicted:
    """What one model, linear in its weights, says after it has learnt a label from few annotated images.

    Args:
        run: The model.
        label: The label.
        images: Annotated images.
        scores: float32 (draw, test image) the predicted output; NaN for images that were not drawn to be
            scored, the same of every model.
        ridges: float64 (draw,) the chosen ridge, in units of the kernel's mean eigenvalue.
        shares: By stage, ``features`` (what follows the last stage) and ``head``: the part of the squared
            length of the predicted step that lies there, 0-1, mean over draws. They sum to 1.
    """

    run: str
    label: str
    images: int
    scores: NDArray[np.float32]
    ridges: NDArray[np.float64]
    shares: Mapping[str, float]

    def areas(self, target: NDArray[np.int8], cluster: NDArray[np.int64]) -> list[Estimate]:
        """AUC of each draw, on the images that were scored.

        Args:
            target: int8 (test image,) 1, 0 or -1.
            cluster: int64 (test image,) identity.
        """
        scored = ~np.isnan(self.scores[0])
        annotations = np.where(scored, target, np.int8(-1))
        return [auc(np.where(scored, draw, np.float32(0.0)), annotations, cluster) for draw in self.scores]
