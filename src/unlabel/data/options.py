"""How a named data source is read: one value, which every reader takes beside the source's path."""

from collections.abc import Sequence
from dataclasses import dataclass

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
        workers: Processes that decode or draw; None for one a core, 0 or 1 for none beside this one.
        log: Receives progress, and what was left out.
        framing: How a picture of another shape comes to the size; a drawn one has the size.
    """

    image_size: Size | None = None
    labels: Sequence[str] | None = None
    skip_bad: bool = False
    workers: int | None = None
    log: Log = SILENT
    framing: Framing = CENTRE

    def frame(self, default: int = DEFAULT_IMAGE_SIZE) -> Frame:
        """The size of the images, and how pictures come to it."""
        return Frame.of(default if self.image_size is None else self.image_size, self.framing)

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
