"""What several commands share: options of the computation, lists of names, and the typed command."""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass, replace
from typing import Annotated, Any, Literal, get_args

from cyclopts import App, Group, Parameter
from cyclopts.argument import ArgumentCollection

from unlabel.core.caching import Cache
from unlabel.core.errors import OptionError
from unlabel.core.framing import Framing, Interpolation, Resize, Size, checked_size

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
        micro_batch: Images in one forward pass. By default 32 on a CPU; on a GPU, as many as its memory
            holds; for forget, as the original was trained.
        devices: Number of processes, one per device; on each machine.
        nodes: Number of machines, for train and forget. Start the command on each, by torchrun, srun or
            yourself.
        accelerator: auto uses a GPU if there is one.
        precision: 32 (float32), or bf16 (autocast to bfloat16).
        cache: Where decoded photos are kept: disk decodes them once into a file, memory once into memory,
            none decodes them each time they are used.
        workers: Threads of each process that prepare batches, and processes that decode photos once; by
            default what usually pays.
        compile: Compile the network for training, if a compiler is there; otherwise say why not.
        quiet: Print warnings and errors alone.
    """

    seed: int = 0
    batch_size: int = 64
    micro_batch: int | None = None
    devices: int | None = 1
    nodes: int = 1
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["32", "bf16"] = "32"
    cache: Cache = "disk"
    workers: int | None = None
    compile: Annotated[bool, NoNegative] = False
    quiet: Annotated[bool, NoNegative] = False

    def start(self, track: Any = None, *, nodes: bool = False) -> Any:
        """The run that these options describe.

        Args:
            track: Receives the row of each optimiser step, see `tracking`.
            nodes: Whether the command works on several machines; then only the first of its processes prints.

        Raises:
            OptionError: Several machines are asked for, and the command works on one.
        """
        from dataclasses import replace

        from unlabel.cli.progress import terminal_log
        from unlabel.core import engine

        if self.nodes != 1 and not nodes:
            raise OptionError(
                f"--nodes is {self.nodes}; only train and forget work on several machines: leave it out"
            )
        run = engine.start(
            devices=engine.devices_here(self.accelerator) if self.devices is None else self.devices,
            nodes=self.nodes,
            accelerator=self.accelerator,
            precision=self.precision,
            seed=self.seed,
            batch_size=self.batch_size,
            cache=self.cache,
            workers=self.workers,
            micro_batch=self.micro_batch,
            log=terminal_log(quiet=self.quiet),
        )
        if not run.leads:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until this process ends
        return replace(run, track=track, compiled=self.compile)


DEFAULT_PLACE = Place()


@Parameter(name="*", group=PLACE)
@dataclass(frozen=True)
class Places(Place):
    """The same for a command whose jobs are shared out over processes.

    Args:
        seed: Seed of everything random.
        batch_size: Images in an optimiser step.
        devices: Number of worker processes, one per device; by default one per core, or per GPU.
        accelerator: auto uses a GPU if there is one.
        precision: 32 (float32), or bf16 (autocast to bfloat16).
        quiet: Print warnings and errors alone.
    """

    devices: int | None = None


DEFAULT_PLACES = Places()


@Parameter(name="*", group=Group("Images"))
@dataclass(frozen=True)
class Pictures:
    """How images of any shape come to the network.

    Args:
        image_size: Side of the input in pixels, or height,width such as 256,128; 64 by default for most data.
        resize: crop cuts out the middle, squash changes the shape, pad adds black; crop by default.
        crop_pct: Share of the scaled image's sides that crop keeps; 1 by default.
        interpolation: How pixels are computed when an image is scaled; bicubic by default.
    """

    image_size: str | None = None
    resize: Resize | None = None
    crop_pct: float | None = None
    interpolation: Interpolation | None = None

    def size(self) -> Size | None:
        """The size; None where none is given."""
        return None if self.image_size is None else image_size("--image-size", self.image_size)

    def framing(self, usual: Framing | None = None) -> Framing | None:
        """What is given, and for the rest the usual framing; that alone where nothing is given."""
        given = {"resize": self.resize, "crop_pct": self.crop_pct, "interpolation": self.interpolation}
        given = {name: value for name, value in given.items() if value is not None}
        return replace(usual or Framing(), **given) if given else usual


DEFAULT_PICTURES = Pictures()


def image_size(flag: str, text: str) -> Size:
    """A size as it is typed: a number of pixels, or height and width.

    Args:
        flag: The option, for the error.
        text: What was typed.

    Raises:
        OptionError: It is no size, or out of range.

    Example:
        >>> image_size("--image-size", "224"), image_size("--image-size", "256,128")
        (224, (256, 128))
    """
    sides = re.split("[,x]", text.strip())
    if len(sides) > 2 or not all(re.fullmatch(r" *[+-]?[0-9]{1,6} *", part) for part in sides):
        raise OptionError(
            f"{flag} is '{text[:40]}'; expected a whole number of pixels such as 224, or height,width such as"
            " 256,128"
        )
    numbers = [int(part) for part in sides]
    return checked_size(numbers[0] if len(numbers) == 1 else numbers)


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


def named(flag: str, text: str | None, kind: str = "label") -> tuple[str, ...]:
    """The names of an option that may be left out.

    Args:
        flag: The option, for the error.
        text: What was typed; None: it was left out.
        kind: What it names, for the error.

    Returns:
        The names; none if the option was left out.

    Raises:
        OptionError: It was typed and names nothing.

    Example:
        >>> named("--labels", "Male, Young"), named("--labels", None)
        (('Male', 'Young'), ())
    """
    listed = names(text)
    if text is not None and not listed:
        raise OptionError(f"{flag} is {text!r} and names no {kind}; name some, or leave it out")
    return listed


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
    entries = named(flag, text, "number")
    for part in entries:
        if not part.isdecimal() or len(part) > len(str(MOST)):
            raise OptionError(f"{flag} has '{part}'; expected whole numbers with commas, such as 53,188")
    return tuple(map(int, entries))


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


def refuse_fractions(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Called by the parser before it converts a command's arguments: it would round a fraction, unasked.

    Raises:
        OptionError: A fraction was typed, or stands in a file, where a whole number is expected.
    """
    for argument in arguments:
        kinds = {argument.hint, *get_args(argument.hint)}
        if int not in kinds or float in kinds:
            continue
        for token in argument.tokens:
            if "." in token.value and not _whole(token.value):
                raise OptionError(f"{argument.name} is {token.value}; expected a whole number")


def _whole(text: str) -> bool:
    """Whether a text such as ``2.0`` is a whole number; what is no number is left to the parser."""
    try:
        return float(text).is_integer()
    except ValueError:
        return True


def typed(*flags: str) -> str | None:
    """The first of some flags that the user typed; None if none was, though a file may set its option.

    An option that has no effect is refused where it was typed. In ``unlabel.toml`` it stops no command.
    """
    words = {word.partition("=")[0] for word in sys.argv[1:] if word.startswith("--")}
    return next((flag for flag in flags if flag in words), None)


def command_line() -> str:
    """What the user typed, for the record."""
    return shlex.join(["unlabel", *sys.argv[1:]])
