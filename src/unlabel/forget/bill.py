"""What a method takes: steps and images, known before it runs. `unlabel compare` gives all methods the same.

A method's bill is a function ``(unlearner, options, budget) -> Bill``. What a method reads besides its steps
(scores, teachers, noise) is paid in images, too. A method names its bill in its row of the catalogue; without
one, it is taken to be a pipeline: so many passes over the calibration images, then ``steps`` batches.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

DEFAULT_IMAGES = 2048
MANY_IMAGES = 32_768  # for a training of several hundred steps: each image about once
LEAST = 1  # optimiser steps that a method takes if its scores alone use the budget up


@dataclass(frozen=True)
class Budget:
    """What every method may spend.

    Args:
        steps: Optimiser steps, >= 1.
        batch_size: Images in a step.
        images: Calibration images that are really there.
        labels: Labels to forget at once.
        guarded: Whether labels were forgotten earlier: repairs then read the images once more, to guard them.
    """

    steps: int
    batch_size: int
    images: int = DEFAULT_IMAGES
    labels: int = 1
    guarded: bool = False

    @property
    def processed(self) -> int:
        """Images that may go through a network."""
        return self.steps * self.batch_size

    @property
    def guard(self) -> int:
        """Images that guarding earlier requests reads."""
        return self.images if self.guarded else 0


class Bill(NamedTuple):
    """Optimiser steps, and images that go through a network."""

    steps: int
    images: int


def pipeline_bill(unlearner: Any, options: Mapping[str, Any], budget: Budget) -> Bill:
    """The bill of a `Pipeline`, or of any method that trains ``steps`` batches ``iterations`` times.

    Args:
        unlearner: What the method's function returned; its ``passes``, if it has any, are counted.
        options: Every option of the method.
        budget: Batch size and number of calibration images.
    """
    once, rounds = getattr(unlearner, "once", unlearner), getattr(unlearner, "times", 1)
    read = round(rounds * float(getattr(once, "passes", 0.0)) * budget.images)
    iterations = options.get("iterations", 1)
    steps = options.get("steps", 0) * iterations
    return Bill(steps, steps * budget.batch_size + read + (iterations * budget.guard if steps else 0))


def one_pass(unlearner: Any, options: Mapping[str, Any], budget: Budget) -> Bill:
    """The bill of a method that reads every calibration image once and takes no step."""
    return Bill(0, budget.images)


def pipeline_sizes(options: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """The options that make a pipeline take so many steps in all; none if it takes no steps."""
    return {"steps": max(LEAST, steps // options.get("iterations", 1))} if "steps" in options else {}
