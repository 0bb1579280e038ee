"""What several commands share: options of the computation, lists of names, and the typed command."""

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
Json = Annotated[bool, Parameter(name="--json", negative=())]


@Parameter(name="*", group=PLACE)
@dataclass(frozen=True)
class Place:
    """Options that every computing command shares.

    Args:
        seed: Seed of everything random.
        batch_size: Images in an optimiser step.
        devices: Number of processes, one per device.
        accelerator: auto uses a GPU if there is one.
        precision: 32 (float32), or bf16 (autocast to bfloat16).
        quiet: Print no progress.
    """

    seed: int = 0
    batch_size: int = 64
    devices: int = 1
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["32", "bf16"] = "32"
    quiet: Annotated[bool, NoNegative] = False

    def start(self, track: Any = None) -> Any:
        """The run that these options describe.

        Args:
            track: Receives the row of each optimiser step, see `tracking`.
        """
        from dataclasses import replace

        from unlabel.cli.progress import terminal_log
        from unlabel.core import engine

        run = engine.start(
            devices=self.devices,
            accelerator=self.accelerator,
            precision=self.precision,
            seed=self.seed,
            batch_size=self.batch_size,
            log=terminal_log(quiet=self.quiet),
        )
        return run if track is None else replace(run, track=track)


DEFAULT_PLACE = Place()


def names(text: str | None) -> tuple[str, ...]:
    r"""Splits a list at its commas; a comma or a backslash after a backslash belongs to a name.

    >>> names("Male, Young")
    ('Male', 'Young')
    >>> names(r"Hat\, red, A\\B")
    ('Hat, red', 'A\\B')
    """
    written = re.findall(r"(?:\\[,\\]|[^,])+", text or "")
    items = (re.sub(r"\\([,\\])", r"\1", part.strip()) for part in written)
    return tuple(item for item in items if item)


def whole_numbers(flag: str, text: str | None) -> tuple[int, ...]:
    """Splits a list of whole numbers at its commas.

    Args:
        flag: The option, for the error.
        text: What was typed.

    Raises:
        OptionError: A part is no whole number.

    Example:
        >>> whole_numbers("--steps", "53, 188")
        (53, 188)
    """
    parts = names(text)
    for part in parts:
        if not part.isdecimal() or len(part) > len(str(MOST)):
            raise OptionError(f"{flag} has '{part}'; expected whole numbers with commas, such as 53,188")
    return tuple(map(int, parts))


def check_whole(arguments: Mapping[str, Any]) -> None:
    """Refuses whole numbers that are too large for any option.

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
