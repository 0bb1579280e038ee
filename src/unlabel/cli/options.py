"""What several commands share on the command line: where to compute, lists, and what was typed."""

import shlex
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

PLACE = Group("Where and how")
NoNegative = Parameter(negative=())


@Parameter(name="*", group=PLACE)
@dataclass(frozen=True)
class Place:
    """Options that every computing command shares.

    Args:
        seed: Key of all randomness.
        batch_size: Images in one optimiser step.
        devices: Processes, one a device.
        accelerator: auto takes a GPU where there is one.
        precision: 32, or bf16 autocast.
        quiet: No progress.
    """

    seed: int = 0
    batch_size: int = 64
    devices: int = 1
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["32", "bf16"] = "32"
    quiet: Annotated[bool, NoNegative] = False

    def start(self) -> Any:
        """The run that these options describe."""
        from unlabel.cli.progress import terminal_log
        from unlabel.core import engine

        return engine.start(
            devices=self.devices,
            accelerator=self.accelerator,
            precision=self.precision,
            seed=self.seed,
            batch_size=self.batch_size,
            log=terminal_log(quiet=self.quiet),
        )


DEFAULT_PLACE = Place()


def names(text: str | None) -> tuple[str, ...]:
    """Splits a comma-separated list.

    >>> names("Male, Young")
    ('Male', 'Young')
    """
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


def command_line() -> str:
    """What the user typed, for the record."""
    return shlex.join(["unlabel", *sys.argv[1:]])
