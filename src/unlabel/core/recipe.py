"""How long and how fast to train, and what a training did: plain data, no torch."""

from dataclasses import asdict, dataclass
from math import ceil, cos, pi
from typing import Any, Literal

from unlabel.core.errors import OptionError
from unlabel.core.kinds import is_number
from unlabel.core.layout import Layout

MOST_EPOCHS = 10_000  # passes over the images of one training, fewer than so many


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train: SGD with Nesterov momentum on a one-cycle or a constant schedule.

    Args:
        epochs: Passes over the data, > 0; a part of a pass is allowed.
        lr: Peak learning rate, > 0, reached after a quarter of the steps; then a cosine to 0. With a
            constant schedule, the rate of every step.
        momentum: 0 to 1.
        weight_decay: >= 0, on weights of two or more axes only.
        augment: Whether to mirror, shift and relight the images.
        schedule: ``one-cycle``, or ``constant`` as in the paper.
    """

    epochs: float = 10.0
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: bool = True
    schedule: Literal["one-cycle", "constant"] = "one-cycle"

    def __post_init__(self) -> None:
        for name, high, zero in (
            ("epochs", MOST_EPOCHS, False),
            ("lr", 10, False),
            ("momentum", 1, True),
            ("weight_decay", 1, True),
        ):
            value = getattr(self, name)
            if not (is_number(value) and 0 <= value < high and (zero or value > 0)):
                option, least = name.replace("_", "-"), "from" if zero else "above"
                raise OptionError(f"--{option} is {value!r}; expected a number {least} 0 and below {high:,}")

        if self.schedule not in ("one-cycle", "constant"):
            raise OptionError(f"no schedule {self.schedule!r}; expected one-cycle or constant")

    def to_json(self) -> dict[str, Any]:
        """JSON-plain copy for a run's record; the ordinary schedule goes without saying."""
        fields = asdict(self)
        if self.schedule == "one-cycle":
            del fields["schedule"]  # a run that was recorded before there were two stays equal
        return fields

    def steps(self, images: int, batch_size: int) -> int:
        """Optimiser steps for this many images, at least 1."""
        # rounded first: a step count that was turned into epochs must come back as it was
        return max(1, ceil(round(self.epochs * images / batch_size, 6)))

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of one step, counted from 0."""
        if self.schedule == "constant":
            return self.lr
        warm = max(1.0, 0.25 * steps)
        if step < warm:
            return self.lr * (step + 1) / (warm + 1)
        return self.lr * 0.5 * (1.0 + cos(pi * (step - warm) / max(1.0, steps - warm)))


@dataclass(frozen=True)
class History:
    """What a training did.

    Args:
        rows: One ``{"step", "lr", "loss"}`` a step.
        images_processed: Images that went forward and backward, repeats counted.
        seconds: Wall clock of the loop in this process, over all resumed parts.
        earlier: Seconds of these that are of the parts before this one.
    """

    rows: tuple[dict[str, float], ...] = ()
    images_processed: int = 0
    seconds: float = 0.0
    earlier: float = 0.0

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return len(self.rows)


@dataclass(frozen=True)
class Blueprint:
    """How the original was trained: what `retrain` repeats."""

    network: str
    stem: str
    recipe: Recipe
    head: Layout | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-plain copy for a run's record."""
        head = {} if self.head is None else {"head": asdict(self.head)}
        return {"network": self.network, "stem": self.stem, "recipe": self.recipe.to_json(), **head}
