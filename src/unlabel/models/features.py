"""One forward pass that gives both the logits and the features behind them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PENULTIMATE = "penultimate"


@dataclass(frozen=True)
class Outputs:
    """What one model says about one data set.

    Args:
        logits: float32 (image, label), before the sigmoid.
        features: Layer name -> float32 (image, feature); ``penultimate`` is the head's input.
    """

    logits: NDArray[np.float32]
    features: Mapping[str, NDArray[np.float32]]
