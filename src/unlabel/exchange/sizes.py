"""At which size a model that was trained elsewhere reads photos, where the user does not say it."""

from collections import Counter
from dataclasses import replace
from functools import partial

from torch import nn

from unlabel.core.engine import Run
from unlabel.core.framing import SIDES, Size, size_in_words, size_text
from unlabel.core.parallel import side_by_side
from unlabel.data.dataset import Photos, Source
from unlabel.exchange.check import tried
from unlabel.exchange.framing import chunks_of, losses_of, pixels_of, shapes_of
from unlabel.statistics.estimate import Estimate


def size_note(model: nn.Module, source: Source, run: Run) -> str | None:
    """The size that is used where none was given, and the photos' own if most are of another.

    Their own size is tried: the loss says whether it fits the model clearly better.

    Args:
        model: On the run's device, in eval mode.
        source: Photos with the model's normalisation, at a size that nobody named.
        run: Where; the seed chooses up to 512 photos of the probe split.

    Returns:
        A sentence; None where the images are no files.
    """
    photos, part = source.photos, tried(source.probe, run.seed)
    if photos is None or not len(part):
        return None
    used = photos.frame.height, photos.frame.width
    said = f"--image-size is not given, so photos are read at {size_in_words(list(used))}"
    chunks = chunks_of(photos, part)
    with side_by_side(len(part)) as each:
        found = Counter(shape for some in each(partial(shapes_of, photos.folder), chunks) for shape in some)
        own, count = found.most_common(1)[0]
        if own == used or 2 * count <= len(part) or not all(SIDES[0] <= side <= SIDES[1] for side in own):
            return said
        pixels = [pixels_of(_at(photos, size), chunks, each) for size in (used, own)]
    said += f"; {count:,} of {len(part):,} photos have {size_in_words(list(own))}"
    try:
        here, there = (losses_of(model, part, each_pixel, run) for each_pixel in pixels)
    except Exception:  # a network of one size may raise anything at another
        return f"{said}, which the network does not take"
    return (
        f"{said}: the loss is {there.value:.4f} there and {here.value:.4f} here; {_advice(here - there, own)}"
    )


def _at(photos: Photos, size: tuple[int, int]) -> Photos:
    return replace(photos, frame=replace(photos.frame, height=size[0], width=size[1]))


def _advice(gain: Estimate, own: tuple[int, int]) -> str:
    """What to do, by how much the loss falls at the photos' own size."""
    size: Size = own[0] if own[0] == own[1] else own
    if gain.interval()[0] > 0:
        return f"that is clearly better, so adopt it again with --image-size {size_text(size)}"
    return f"if the model was trained at that size, give --image-size {size_text(size)}"
