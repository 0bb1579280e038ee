"""What size a network's images have, and how a picture of any shape comes to it."""

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal, TypeAlias, get_args

from unlabel.core.errors import OptionError
from unlabel.core.wording import suggest

SIDES = (16, 512)
"""The least and the most pixels that a side of an image may have."""

Size: TypeAlias = int | tuple[int, int]  # pixels: of a square, or (height, width)
Resize: TypeAlias = Literal["crop", "squash", "pad"]
Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos"]


def checked_size(size: Any) -> Size:
    """A size in its one form: a whole number for a square, else (height, width).

    Args:
        size: A whole number of pixels, or height and width, each 16 to 512.

    Raises:
        OptionError: It is not.

    Example:
        >>> checked_size([256, 128]), checked_size((64, 64))
        ((256, 128), 64)
    """
    sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
    low, high = SIDES
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) for side in sides):
        raise OptionError(f"image size {size!r} is no size; give a number of pixels, or (height, width)")
    if not all(low <= side <= high for side in sides):
        raise OptionError(f"image size {size_text(size)} is out of range; choose {low} to {high} pixels")
    return sides[0] if sides[0] == sides[1] else sides


def plain_size(size: Size) -> int | list[int]:
    """A size as JSON holds it, so that what was read and what is read back are equal."""
    return size if isinstance(size, int) else list(size)


def size_text(size: Any) -> str:
    """A size as it is typed after ``--image-size``.

    >>> size_text(64), size_text((256, 128))
    ('64', '256,128')
    """
    return ",".join(map(str, size)) if isinstance(size, tuple | list) else str(size)


def sides_of(size: Size | list[int]) -> tuple[int, int]:
    """Height and width of a size, in pixels."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def size_in_words(size: Size | list[int]) -> str:
    """A size for people.

    >>> size_in_words(64), size_in_words((256, 128))
    ('64 x 64 pixels', '256 x 128 pixels (height x width)')
    """
    height, width = sides_of(size)
    return f"{height} x {width} pixels{'' if height == width else ' (height x width)'}"


@dataclass(frozen=True)
class Framing:
    """How a picture of any shape comes to the size that a network reads.

    Args:
        resize: ``crop`` scales the picture until it covers the size and cuts the middle out, ``squash``
            scales both sides, ``pad`` scales the picture until it fits and adds black.
        crop_pct: Of ``crop``, the share of the scaled picture's sides that is cut out, above 0, at most 1.
        interpolation: How pixels are computed when a picture is scaled.

    Raises:
        OptionError: A value is none of these.
    """

    resize: Resize = "crop"
    crop_pct: float = 1.0
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        for name, kind in (("resize", Resize), ("interpolation", Interpolation)):
            value = str(getattr(self, name))[:40]
            if value not in get_args(kind):
                raise OptionError(
                    f"{name} is {value!r}; expected {', '.join(get_args(kind))}."
                    f"{suggest(value, get_args(kind))}"
                )
        if not (isfinite(self.crop_pct) and 0 < self.crop_pct <= 1):
            raise OptionError(f"crop_pct is {self.crop_pct:g}; expected a share above 0, at most 1")
        if self.crop_pct < 1 and self.resize != "crop":
            raise OptionError(
                f"crop_pct is {self.crop_pct:g}, but resize is {self.resize}, which cuts nothing off; use"
                " crop, or leave crop_pct out"
            )

    def __str__(self) -> str:
        """What was done, in words.

        >>> str(Framing()), str(Framing("crop", 0.875, "bilinear"))
        ('crop, bicubic', 'crop of 0.875, bilinear')
        """
        share = f" of {self.crop_pct:g}" if self.crop_pct < 1 else ""
        return f"{self.resize}{share}, {self.interpolation}"


CENTRE = Framing()
"""The largest centred cut of the size's shape, by bicubic interpolation."""


@dataclass(frozen=True)
class Frame:
    """A size, and how a picture of any shape comes to it.

    Args:
        height, width: In pixels, >= 1.
        framing: How.
    """

    height: int
    width: int
    framing: Framing = CENTRE

    @classmethod
    def of(cls, size: "Size | Frame", framing: Framing = CENTRE) -> "Frame":
        """A size with its framing; a frame as it is."""
        return size if isinstance(size, Frame) else cls(*sides_of(size), framing)

    @property
    def name(self) -> str:
        """Height and width for a file's name: one number for a square."""
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image's pixels: (height, width, 3)."""
        return self.height, self.width, 3


def framing_facts(framing: Framing) -> dict[str, Any]:
    """What the record of a data source says of its framing; nothing where it is the usual one."""
    return {} if framing == CENTRE else {"framing": asdict(framing)}
