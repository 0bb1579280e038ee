"""The loss of each step, read from the device every few steps: reading waits for all that was asked of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite

import torch
from torch import Tensor

from unlabel.core.errors import Diverged, UnlabelError

READ_EVERY = {"cuda": 16}  # steps; on other devices reading costs nothing, and every step is read


@dataclass
class Ledger:
    """What the steps of a training did.

    Args:
        steps: How many there will be.
        every: Steps between two readings, >= 1.
        rows: One ``{"step", "lr", "loss"}`` for each step that was read.
        pending: Step, rate and loss of those that were not.
    """

    steps: int
    every: int
    rows: list[dict[str, float]]
    pending: list[tuple[int, float, Tensor]] = field(default_factory=list)

    def note(self, step: int, rate: float, loss: Tensor) -> bool:
        """Keeps the mean loss of a step, counted from 0; whether it was read, with those before.

        Raises:
            Diverged: A loss that was read is NaN or infinite.
        """
        self.pending.append((step, rate, loss))
        due = (step + 1) % self.every == 0 or step + 1 == self.steps
        if due:
            self.read()
        return due

    def read(self) -> None:
        """Reads what is pending."""
        pending, self.pending = self.pending, []
        losses = torch.stack([loss for *_, loss in pending]).tolist() if pending else []
        for (step, rate, _), loss in zip(pending, losses, strict=True):
            if not isfinite(loss):
                raise Diverged(
                    f"the loss became {loss} at step {step + 1} of {self.steps} (learning rate {rate:.3g});"
                    " lower --lr, or check the data and the model's normalisation"
                )
            self.rows.append({"step": step + 1, "lr": rate, "loss": loss})

    @contextmanager
    def first_cause(self) -> Iterator[None]:
        """While open, an error that a NaN of an earlier step has caused is raised as that."""
        try:
            yield
        except UnlabelError:
            raise
        except Exception:
            self.read()
            raise


def ledger(steps: int, device: torch.device, rows: list[dict[str, float]]) -> Ledger:
    """A ledger that begins with the rows of an earlier part of the training."""
    return Ledger(steps, READ_EVERY.get(device.type, 1), rows)
