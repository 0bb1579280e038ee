"""An original and a retrained model that were both trained for a share of the original's epochs.

The same pair in every form that an audit has of it: as folders, as models, as outputs, as figures.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")


@dataclass(frozen=True)
class ShortPair(Generic[T_co]):
    """A short original and a short Retrain.

    Args:
        share: Of the original's epochs, above 0 and below 1.
        original: Trained on all labels.
        retrained: Trained without the forgotten ones.
    """

    share: float
    original: T_co
    retrained: T_co

    def map(self, function: Callable[[T_co], U]) -> "ShortPair[U]":
        """The same pair, each model in another form.

        >>> ShortPair(0.1, "a", "b").map(str.upper)
        ShortPair(share=0.1, original='A', retrained='B')
        """
        return ShortPair(self.share, function(self.original), function(self.retrained))

    @property
    def both(self) -> tuple[T_co, T_co]:
        """The original, and the model that was retrained."""
        return self.original, self.retrained
