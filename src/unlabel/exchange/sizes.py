"""At which size a model that was trained elsewhere reads photos, and whether another fits it better."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from torch import nn

from unlabel.core.engine import Run
from unlabel.core.framing import SIDES, Size, size_in_words, size_text
from unlabel.core.parallel import Each, side_by_side
from unlabel.data.dataset import Photos, Source
from unlabel.exchange.check import fit_of, much_better, tried
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
    sentence = f"--image-size is not given, so photos are read at {size_in_words(list(used))}"
    chunks = chunks_of(photos, part)
    with side_by_side(len(part)) as each:
        own, count = _own_size(photos, chunks, each)
        if own is None or own == used:
            return sentence
        pixels = [pixels_of(_at(photos, size), chunks, each) for size in (used, own)]
    sentence += f"; {count:,} of {len(part):,} photos have {size_in_words(list(own))}"
    try:
        here, there = (losses_of(model, part, each_pixel, run) for each_pixel in pixels)
    except Exception:  # a network of one size may raise anything at another
        return f"{sentence}, which the network does not take"
    return (
        f"{sentence}: the loss is {there.value:.4f} there and {here.value:.4f} here;"
        f" {_advice(here - there, own)}"
    )


def asked_size_note(model: nn.Module, source: Source, run: Run) -> str | None:
    """A sentence if another size fits much better than the one that the user gave; else None.

    Tried are the photos' own size, if most have it, and the given height and width the other way round.

    Args:
        model: On the run's device, in eval mode.
        source: Photos with the model's normalisation, at the size that the user gave.
        run: Where; the seed chooses up to 512 photos of the probe split.
    """
    photos, part = source.photos, tried(source.probe, run.seed)
    if photos is None or not len(part):
        return None
    used = photos.frame.height, photos.frame.width
    chunks = chunks_of(photos, part)
    with side_by_side(len(part)) as each:
        own, _ = _own_size(photos, chunks, each)
        others = {used[::-1], *([own] if own else [])} - {used}
        pixels = {size: pixels_of(_at(photos, size), chunks, each) for size in sorted(others)}
    here = fit_of(model, part, run)
    losses: dict[tuple[int, int], Estimate] = {}
    for size, decoded in pixels.items():
        with suppress(Exception):  # a network of one size may raise anything at another
            losses[size] = losses_of(model, part, decoded, run)
    best = min(losses, key=lambda size: losses[size].value, default=None)
    if best is None or not much_better(here, losses[best]):
        return None
    text = size_text(best[0] if best[0] == best[1] else best)
    return (
        f"photos are read at {size_in_words(list(used))}, as --image-size says: the loss is {here.value:.4f},"
        f" but {losses[best].value:.4f} at {size_in_words(list(best))}; check it, or adopt it again with"
        f" --image-size {text}"
    )


def _own_size(
    photos: Photos, chunks: Sequence[Sequence[str]], each: Each
) -> tuple[tuple[int, int] | None, int]:
    """The height and width of most photos, if networks take them, and how many have it; else None."""
    shapes = [shape for some in each(partial(shapes_of, photos.folder), chunks) for shape in some]
    size, count = Counter(shapes).most_common(1)[0]
    fits = 2 * count > len(shapes) and all(SIDES[0] <= side <= SIDES[1] for side in size)
    return size if fits else None, count


def _at(photos: Photos, size: tuple[int, int]) -> Photos:
    return replace(photos, frame=replace(photos.frame, height=size[0], width=size[1]))


def _advice(gain: Estimate, own: tuple[int, int]) -> str:
    """What to do, by how much the loss falls at the photos' own size."""
    size: Size = own[0] if own[0] == own[1] else own
    if gain.interval()[0] > 0:
        return f"that is clearly better, so adopt it again with --image-size {size_text(size)}"
    return f"if the model was trained at that size, give --image-size {size_text(size)}"
