"""What several commands share on the command line: where to compute, lists, and what was typed."""

import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from unlabel.core.errors import OptionError

MOST = 10**12
"""Of any whole number on the command line; the options have narrower bounds of their own."""

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
    r"""Splits a list at its commas; a comma or a backslash after a backslash belongs to a name.

    >>> names("Male, Young")
    ('Male', 'Young')
    >>> names(r"Hat\, red, A\\B")
    ('Hat, red', 'A\\B')
    """
    found = re.findall(r"(?:\\[,\\]|[^,])+", text or "")
    parts = (re.sub(r"\\([,\\])", r"\1", part.strip()) for part in found)
    return tuple(part for part in parts if part)


def check_whole(arguments: Mapping[str, Any]) -> None:
    """Refuses whole numbers that no option can mean: they would not fit the machine's own.

    Raises:
        OptionError: With the option's name.
    """
    for name, value in arguments.items():
        if is_dataclass(value):
            check_whole(vars(value))
        elif isinstance(value, int) and abs(value) > MOST:
            raise OptionError(
                f"--{name.strip('_').replace('_', '-')} is {value}; expected a number of at most {MOST:,}"
            )


def command_line() -> str:
    """What the user typed, for the record."""
    return shlex.join(["unlabel", *sys.argv[1:]])
