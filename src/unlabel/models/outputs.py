"""What one model says about one data set: its logits, and the features behind them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PENULTIMATE = "penultimate"


@dataclass(frozen=True)
class Outputs:
    """What one model says about one data set.

    Args:
        logits: float32 (image, label), before the sigmoid; float64 of outputs that a file holds.
        features: Layer name -> float32 (image, feature); ``penultimate`` is the head's input.
    """

    logits: NDArray[np.floating]
    features: Mapping[str, NDArray[np.floating]]

    @property
    def ends(self) -> list[NDArray[np.floating]]:
        """The logits and, where they were given, the last features."""
        return [self.logits, *([self.features[PENULTIMATE]] if PENULTIMATE in self.features else [])]
