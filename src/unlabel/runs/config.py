"""What a run's model is, as ``config.json`` holds it; values that no run can have are refused."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from unlabel.core.errors import ModelError, OptionError
from unlabel.core.files import visible
from unlabel.core.framing import SIDES, Framing, Interpolation, Resize, Size, sides_of, size_text
from unlabel.core.layout import Layout
from unlabel.data.dataset import Colours
from unlabel.models.named_options import is_named, parse_named

MOST_LABELS = 50_000  # more than any collection has; a hostile file must not fill the memory
LONGEST_LABEL = 500
MOST_DIRECTIONS = 4096  # in an erasing layer
LARGEST_MEAN = 1000.0  # of pixels from 0 to 1; a hostile one must not make every output NaN
STDS = (1e-6, 1e6)


@dataclass(frozen=True)
class Config:
    """What a run's model is: enough to build it, feed it and read its outputs.

    Args:
        network, stem: See `models.build.build`.
        labels: Output names, in order: 1 to 50,000 different ones, without control characters.
        forgotten: Labels whose output is removed: a constant, printed as null. Not all of them.
        image_size: Side of a square input, or (height, width): 16 to 512 pixels each.
        mean, std: Normalisation of red, green and blue: -1,000 to 1,000, and 1e-6 to 1e6. One number: the
            network reads grey, one channel.
        thresholds: Probability from which each label counts as present.
        activation: ``sigmoid``, each label by itself, or ``softmax``, classes of which one is present.
        eraser: Rank of the layer before the head that takes directions out of the features, 0 to 4,096; 0
            for none. See `models.eraser`.
        erased: Labels that it takes out, where that is known.
        head: Where the network's outputs are made, if not by one last linear layer with a bias; see
            `models.normal_form`.
        resize, crop_pct, interpolation: How a picture of another shape comes to the size; see
            `core.framing.Framing`.

    Raises:
        ModelError: A value is out of range: refused before a run is trained as after it was copied.
    """

    network: str
    stem: str
    labels: tuple[str, ...]
    forgotten: tuple[str, ...]
    image_size: Size
    mean: Colours
    std: Colours
    thresholds: tuple[float, ...]
    activation: str = "sigmoid"
    eraser: int = 0
    erased: tuple[str, ...] = ()
    head: Layout | None = None
    resize: Resize = "crop"
    crop_pct: float = 1.0
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        if fault := next((words for words, holds in self._faults() if holds), None):
            raise ModelError(fault)
        try:
            _ = self.framing
        except OptionError as error:
            raise ModelError(str(error)) from error

    def _faults(self) -> Iterator[tuple[str, bool]]:
        labels, (least, most) = len(self.labels), SIDES
        yield f"{labels:,} labels; expected 1 to {MOST_LABELS:,}", not 1 <= labels <= MOST_LABELS
        odd = next((name for name in self.labels if not _is_name(name)), "")
        yield (
            f"the label {odd[:40]!r}; expected a name of 1 to {LONGEST_LABEL} characters, none of which is a"
            " control character",
            bool(odd) or "" in self.labels,
        )
        yield "a label twice", len(set(self.labels)) < labels
        gone = set(self.forgotten)
        yield (
            "forgotten labels that are not among its labels, or that are all of them",
            not gone < set(self.labels) or len(gone) < len(self.forgotten),
        )
        yield (
            f"{len(self.thresholds)} thresholds for {labels} labels; expected one from 0 to 1 for each label",
            len(self.thresholds) != labels or not all(0 <= value <= 1 for value in self.thresholds),
        )
        size = self.image_size
        yield (
            f"image_size {size_text(size)}; expected {least} to {most}",
            not all(least <= side <= most for side in sides_of(size)),
        )
        yield f"image_size {size_text(size)}; expected one number for a square", _is_square_pair(size)
        low, high = STDS
        yield (
            f"a mean or std that is no usable number; expected a mean of -{LARGEST_MEAN:,.0f} to"
            f" {LARGEST_MEAN:,.0f} and a std of {low:g} to {high:,.0f}",
            not all(abs(value) <= LARGEST_MEAN for value in self.mean)
            or not all(low <= value <= high for value in self.std),
        )
        yield (
            f"a mean of {len(self.mean)} and a std of {len(self.std)} numbers; expected 3 each, 1 for grey",
            len(self.mean) not in (1, 3) or len(self.std) != len(self.mean),
        )
        yield (
            f"activation {self.activation[:20]!r}; expected sigmoid or softmax",
            self.activation not in ("sigmoid", "softmax"),
        )
        yield (
            f"eraser {self.eraser}; expected 0 to {MOST_DIRECTIONS:,}",
            not 0 <= self.eraser <= MOST_DIRECTIONS,
        )
        yield (
            "erased labels that are not among its labels, or no layer that erases them",
            not {*self.erased} <= {*self.labels} or (bool(self.erased) and not self.eraser),
        )
        yield (
            f"a head of {0 if self.head is None else len(self.head.rows):,} labels; expected {labels}",
            self.head is not None and len(self.head.rows) != labels,
        )
        for kind, name in (("network", self.network), ("stem", self.stem)):
            named = kind == "network" and is_named(name)
            yield (
                f"{kind} {name[:40]!r}; expected a name",
                not (_is_library(name) if named else re.fullmatch(r"[\w.:-]{1,200}", name)),
            )

    @property
    def framing(self) -> Framing:
        """How a picture of another shape comes to the size."""
        return Framing(self.resize, self.crop_pct, self.interpolation)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Of one image as the network gets it: (channel, height, width)."""
        return len(self.mean), *sides_of(self.image_size)


def _is_library(name: str) -> bool:
    """Whether a network's name is one of another library's, with plain options."""
    try:
        return bool(parse_named(name))
    except OptionError:
        return False


def _is_square_pair(size: Size) -> bool:
    return not isinstance(size, int) and size[0] == size[1]


def _is_name(label: str) -> bool:
    """Whether a label can be printed on a line, and written as UTF-8."""
    whole = not any("\ud800" <= letter <= "\udfff" for letter in label)
    return whole and 0 < len(label) <= LONGEST_LABEL and visible(label) == label
