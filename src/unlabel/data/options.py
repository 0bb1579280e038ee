"""How a named data source is read: one value, which every reader takes beside the source's path."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from unlabel.core.progress import SILENT, Log

DEFAULT_IMAGE_SIZE = 64

Size: TypeAlias = int | tuple[int, int]  # pixels: of a square, or (height, width)


@dataclass(frozen=True)
class Framing:
    """How a picture of any shape comes to the size that a network reads.

    Args:
        resize: ``crop`` scales the shorter side and cuts the middle out, ``squash`` scales both sides,
            ``pad`` scales the longer side and adds black.
        crop_pct: Of ``crop``, the share of the scaled picture's sides that is cut out, above 0, at most 1.
        interpolation: How pixels are computed when a picture is scaled.
    """

    resize: Literal["crop", "squash", "pad"] = "crop"
    crop_pct: float = 1.0
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"


@dataclass(frozen=True)
class ReadOptions:
    """How to read or draw a named source.

    Args:
        image_size: Height and width of the images in pixels, 16 to 512; None for what the source has by
            default.
        labels: Columns or classes to read, in this order; None for all. Fewer classes than all are labels by
            themselves, of which an image may have none, and no exclusive classes.
        skip_bad: Leave out images that cannot be read, and record them, instead of refusing. A drawn image
            is never bad, and one file of all images is read whole or refused.
        workers: Processes that decode or draw; None for one a core, 0 or 1 for none beside this one.
        log: Receives progress, and what was left out.
    """

    image_size: int | None = None
    labels: Sequence[str] | None = None
    skip_bad: bool = False
    workers: int | None = None
    log: Log = SILENT

    def size(self, default: int = DEFAULT_IMAGE_SIZE) -> int:
        """Height and width in pixels."""
        return default if self.image_size is None else self.image_size


DEFAULTS = ReadOptions()
