"""How a model that was trained elsewhere wants photos of other shapes: tried on a few of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from torch import nn

from unlabel.core.engine import Run
from unlabel.core.errors import DataError
from unlabel.core.framing import Framing, Resize
from unlabel.core.parallel import side_by_side
from unlabel.data.dataset import Dataset, Photos, Source
from unlabel.data.images.cache import decode_files
from unlabel.data.images.decoding import Unreadable, shape_of
from unlabel.data.images.reading import read_file
from unlabel.exchange.check import fit_of, tried
from unlabel.statistics.estimate import Estimate

OTHER_SHAPE = 0.02  # by which a photo's shape differs from the input's before it counts as another
MANY = 0.1  # share of photos of another shape from which the ways are tried
_CHUNK = 32


@dataclass(frozen=True)
class Fit:
    """How well the ways to bring photos to a size fit a model.

    Args:
        n: Photos of the probe split on which they were tried.
        other_shape: How many of them have another shape than the input.
        losses: Mean loss by way; empty where the ways were not tried.
        best: The way with the lowest loss.
        gain: By how much the loss of the usual way is above that of the best, on the same photos.
        usual: The way that is used if no other is better: ``crop``, or what the network's library says.
    """

    n: int
    other_shape: int
    losses: Mapping[Resize, float]
    best: Resize = "crop"
    gain: Estimate | None = None
    usual: Resize = "crop"

    @property
    def chosen(self) -> Resize:
        """The best way, if the whole 95 % interval says that it is better than the usual one."""
        return self.best if self.gain is not None and self.gain.interval()[0] > 0 else self.usual

    def to_json(self) -> dict[str, Any]:
        """What the record of a run keeps."""
        low, high = self.gain.interval() if self.gain else (0.0, 0.0)
        gain = {"value": self.gain.value, "low": low, "high": high, "n": self.gain.n} if self.gain else None
        return {
            "n": self.n,
            "other_shape": self.other_shape,
            "losses": dict(self.losses),
            "best": self.best,
            "chosen": self.chosen,
            "gain": gain,
        }

    def __str__(self) -> str:
        """What a person reads: which way fits best, by how much, and what is used."""
        ranked = sorted(self.losses, key=lambda way: self.losses[way])
        measured = "; ".join(f"{self.losses[way]:.4f} with --resize {way}" for way in ranked)
        start = (
            f"{self.other_shape:,} of {self.n:,} photos have another shape than the input, and --resize is"
            f" not given: the loss is {measured}"
        )
        if self.gain is None:
            return f"{start}; {self.usual} fits best and is used"
        low, high = self.gain.interval()
        by = f"{self.best} is better than {self.usual} by {self.gain.value:.4f} ({low:.4f} to {high:.4f})"
        if self.chosen != self.usual:
            return f"{start}; {by}: {self.best} is used"
        return f"{start}; {by}, which may be chance: {self.usual} is used; if you know better, give --resize"


def try_framings(model: nn.Module, source: Source, run: Run) -> Fit | None:
    """Tries the ways to bring photos to the size, by the loss on up to 512 photos of the probe split.

    Args:
        model: On the run's device, in eval mode.
        source: Photos that were brought to the size in the usual way, with the model's normalisation.
        run: Where; the seed chooses the photos.

    Returns:
        How well the ways fit, with no losses where fewer than a tenth of the photos have another shape than
        the input; None where the images are no files.

    Raises:
        DataError: A photo has changed since it was read.
    """
    photos, part = source.photos, tried(source.probe, run.seed)
    if photos is None or not len(part):
        return None
    chunks = chunks_of(photos, part)
    with side_by_side(len(part)) as each:
        shapes = [shape for found in each(partial(shapes_of, photos.folder), chunks) for shape in found]
        wide = photos.frame.width / photos.frame.height
        other = sum(abs(width / height / wide - 1) > OTHER_SHAPE for height, width in shapes)
        if other < MANY * len(part):
            return Fit(len(part), other, {})
        pixels = {way: pixels_of(_by(photos, way), chunks, each) for way in get_args(Resize)}
    measured = {way: losses_of(model, part, pixels[way], run) for way in pixels}
    losses = {way: found.value for way, found in measured.items()}
    best = min(losses, key=lambda way: losses[way])
    usual = photos.frame.framing.resize
    gain = None if best == usual else measured[usual] - measured[best]
    return Fit(len(part), other, losses, best, gain, usual)


def chunks_of(photos: Photos, part: Dataset) -> list[list[str]]:
    """Names of the photos of some images, a few at a time."""
    names = [photos.names[int(row)] for row in part.rows]
    return [names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK)]


def shapes_of(folder: Path, names: Sequence[str]) -> list[tuple[int, int]]:
    """Height and width of each photo."""
    try:
        return [shape_of(read_file(folder, name)) for name in names]
    except Unreadable as error:
        raise _changed(folder) from error


def _by(photos: Photos, way: Resize) -> Photos:
    """The photos brought to the size by a way; in the usual one, with the usual share."""
    usual = photos.frame.framing
    framing = usual if way == usual.resize else Framing(way, interpolation=usual.interpolation)
    return replace(photos, frame=replace(photos.frame, framing=framing))


def pixels_of(photos: Photos, chunks: Sequence[Sequence[str]], each: Any) -> NDArray[np.uint8]:
    """Some photos brought to their frame.

    Raises:
        DataError: One has changed since it was read.
    """
    decoded = list(each(partial(decode_files, photos.folder, photos.frame), chunks))
    if any(bad for _, _, bad, _ in decoded):
        raise _changed(photos.folder)
    return np.concatenate([pixels for pixels, *_ in decoded])


def _changed(folder: Path) -> DataError:
    return DataError(
        f"photos in {folder} changed while they were read; leave them as they are, and try again"
    )


def losses_of(model: nn.Module, part: Dataset, pixels: NDArray[np.uint8], run: Run) -> Estimate:
    """The mean loss of the annotations on these images, with an influence for each."""
    return fit_of(model, replace(part, pixels=pixels, rows=np.arange(len(part))), run)
