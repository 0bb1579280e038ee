"""How a named data source is read: one value, which every reader takes beside the source's path."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from unlabel.core.caching import Cache
from unlabel.core.errors import OptionError
from unlabel.core.framing import CENTRE, Frame, Framing, Size, size_text
from unlabel.core.progress import SILENT, Log

DEFAULT_IMAGE_SIZE = 64


@dataclass(frozen=True)
class ReadOptions:
    """How to read or draw a named source.

    Args:
        image_size: Height and width of the images in pixels, one number for a square, 16 to 512 each; None
            for what the source has by default.
        labels: Columns or classes to read, in this order; None for all. Fewer classes than all are labels by
            themselves, of which an image may have none, and no exclusive classes.
        skip_bad: Leave out images that cannot be read, and record them, instead of refusing. A drawn image
            is never bad, and one file of all images is read whole or refused.
        cache: Where decoded photos are kept; see `core.caching`.
        workers: Processes that decode or draw; None for one a core, 0 or 1 for none beside this one.
        log: Receives progress, and what was left out.
        framing: How a picture of another shape comes to the size; a drawn one has the size.
    """

    image_size: Size | None = None
    labels: Sequence[str] | None = None
    skip_bad: bool = False
    cache: Cache = "disk"
    workers: int | None = None
    log: Log = SILENT
    framing: Framing = CENTRE

    def frame(self, default: int = DEFAULT_IMAGE_SIZE) -> Frame:
        """The size of the images, and how pictures come to it."""
        return Frame.of(default if self.image_size is None else self.image_size, self.framing)

    def kept(self, kind: str) -> Literal["disk", "memory"]:
        """Where a source is kept whose images are drawn, or come in one file and not each by itself.

        Raises:
            OptionError: It is asked to be kept nowhere.
        """
        if self.cache == "none":
            raise OptionError(
                f"--cache none is for photos that can be decoded one by one, and {kind} has none; use --cache"
                " disk or --cache memory"
            )
        return self.cache

    def square(self, kind: str) -> int | None:
        """The side of a source that draws squares; None for its default.

        Raises:
            OptionError: The size is no square.
        """
        if isinstance(self.image_size, tuple):
            raise OptionError(
                f"{kind} draws squares, but the image size is {size_text(self.image_size)}; give one number"
                f" such as --image-size {max(self.image_size)}, or use photos: folder:PATH"
            )
        return self.image_size


DEFAULTS = ReadOptions()
