"""What a model's library says of the images that it reads: size, normalisation, framing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal

from unlabel.core.errors import OptionError
from unlabel.core.framing import Framing

Triple = tuple[float, float, float]
RESIZES: dict[str, Literal["crop", "squash", "pad"]] = {"crop": "crop", "squash": "squash", "pad": "pad"}
INTERPOLATIONS: dict[str, Literal["nearest", "bilinear", "bicubic", "lanczos"]] = {
    "nearest": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "lanczos": "lanczos",
}


@dataclass(frozen=True)
class Preprocessing:
    """How images are made ready for a model; None for what its library does not say.

    Args:
        size: Height and width in pixels.
        mean, std: Of red, green and blue, on the 0 to 1 scale.
        framing: How a picture of any shape comes to that size.
        source: Where this was read, for messages.
    """

    size: tuple[int, int] | None = None
    mean: Triple | None = None
    std: Triple | None = None
    framing: Framing = field(default_factory=Framing)
    source: str = ""


def sides(value: Any) -> tuple[int, int]:
    """Height and width, of one number or of two.

    Raises:
        OptionError: It is neither.

    >>> sides(64), sides([64, 32])
    ((64, 64), (64, 32))
    """
    pair = [value, value] if isinstance(value, int) else value
    if isinstance(pair, Sequence) and len(pair) == 2 and all(type(side) is int and side > 0 for side in pair):
        return int(pair[0]), int(pair[1])
    raise OptionError(f"the size of images is {str(value)[:40]!r}; expected a number of pixels, or two")


def colours(value: Any) -> Triple:
    """Three numbers, of three or of one.

    Raises:
        OptionError: It is neither.

    >>> colours([0.5]), colours((0.1, 0.2, 0.3))
    ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    """
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    plain = all(isinstance(item, int | float) and isfinite(item) for item in numbers)
    if len(numbers) not in (1, 3) or not plain:
        raise OptionError(
            f"a mean or std is {str(value)[:40]!r}; expected one number, or one for each colour"
        )
    red, green, blue = (float(item) for item in numbers * (3 // len(numbers)))
    return red, green, blue


def framing(resize: str, crop_pct: float | None, interpolation: str) -> Framing:
    """How a picture is framed; what is not known there, such as ``random``, is `Framing`'s own choice.

    Args:
        resize: ``crop``, ``squash`` or ``pad``.
        crop_pct: Share of the scaled picture's sides that is cut out; None for all of it.
        interpolation: How pixels are computed when a picture is scaled.
    """
    share = crop_pct if crop_pct and 0 < crop_pct <= 1 else 1.0
    return Framing(RESIZES[resize], share, INTERPOLATIONS.get(interpolation, Framing.interpolation))
