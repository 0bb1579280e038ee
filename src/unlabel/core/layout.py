"""Where a network's outputs are made: its final layers as plain data, which a run's ``config.json`` holds."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from unlabel.core.errors import ModelError

MOST_LAYERS = 10_000
MOST_FEATURES = 1_000_000
MOST_NUMBERS = 200_000_000  # of the joined layer; a hostile file must not fill the memory
NAME = r"[\w-]+(\.[\w-]+)*"  # of a module
LONGEST = 300


@dataclass(frozen=True)
class FinalLayer:
    """A layer whose outputs are the network's, or become them without another layer.

    Args:
        module: Its name in the network.
        outputs: Its rows, >= 1.
        features: What it reads at one position, >= 1.
        reads: Which of the different inputs of all final layers it reads, counted from 0.
        bias: Whether it has one.
        convolution: A 1x1 convolution, of which the mean over positions counts; else a linear layer.
    """

    module: str
    outputs: int
    features: int
    reads: int
    bias: bool
    convolution: bool = False


@dataclass(frozen=True)
class Layout:
    """The final layers of a network, and which of their rows make each label's logit.

    Args:
        layers: In the order of use. Rows are counted over all of them, in that order.
        rows: Of each label ``(row,)``, or ``(absent, present)`` where its logit is a difference of two.
        features: A module whose output is read as features as well, if any.
        width: Features of that module's output; 0 without one.
        channels_last: Whether the channels of that output stand last, if it is a picture; None: not recorded.

    Raises:
        ModelError: No network has such layers.
    """

    layers: tuple[FinalLayer, ...]
    rows: tuple[tuple[int, ...], ...]
    features: str | None = None
    width: int = 0
    channels_last: bool | None = None

    def __post_init__(self) -> None:
        if fault := next((words for words, holds in self._faults() if holds), None):
            raise ModelError(f"head: {fault}")

    def _faults(self) -> Iterator[tuple[str, bool]]:
        count = len(self.layers)
        yield f"{count:,} layers; expected 1 to {MOST_LAYERS:,}", not 1 <= count <= MOST_LAYERS
        names = [layer.module for layer in self.layers]
        modules = [*names, *([] if self.features is None else [self.features])]
        odd = next((name for name in modules if len(name) > LONGEST or not re.fullmatch(NAME, name)), None)
        yield f"the module {str(odd)[:40]!r}; expected a name such as 'heads.0'", odd is not None
        yield "a layer twice", len(set(names)) < count
        sizes = [(layer.outputs, layer.features) for layer in self.layers]
        yield (
            f"a layer that is not of 1 to {MOST_FEATURES:,} features and outputs",
            not all(1 <= value <= MOST_FEATURES for size in sizes for value in size),
        )
        yield (
            "a width without the name of features, or one out of range",
            (self.features is None) != (self.width == 0) or not 0 <= self.width <= MOST_FEATURES,
        )
        widths: dict[int, int] = {}
        for layer in self.layers:
            widths.setdefault(layer.reads, layer.features)
        yield "inputs that are not counted from 0", list(widths) != list(range(len(widths)))
        yield (
            "layers that read one input of two widths",
            any(widths[layer.reads] != layer.features for layer in self.layers),
        )
        used = sorted(row for rows in self.rows for row in rows)
        kinds = {len(rows) for rows in self.rows}
        total = sum(layer.outputs for layer in self.layers)
        yield (
            "a label with no row or more than two, or some with one and some with two",
            kinds
            not in (
                {1},
                {2},
            ),
        )
        yield "rows that are not each used once", len(used) != total or used != list(range(total))
        yield (
            f"more than {MOST_NUMBERS:,} numbers",
            total * (sum(widths.values()) + self.width) > MOST_NUMBERS,
        )

    @property
    def pairs(self) -> bool:
        """Whether each label has two logits."""
        return len(self.rows[0]) == 2

    @property
    def inputs(self) -> tuple[slice, ...]:
        """Columns of the joined features that hold each input, the named features last."""
        widths = dict.fromkeys(range(1 + max(layer.reads for layer in self.layers)), 0)
        widths |= {layer.reads: layer.features for layer in self.layers}
        starts, end = [], 0
        for width in [*widths.values(), *([self.width] if self.features else [])]:
            starts.append(slice(end, end + width))
            end += width
        return tuple(starts)

    def owner(self, row: int) -> tuple[FinalLayer, int]:
        """The layer that has a row, and the row's number there."""
        for layer in self.layers:
            if row < layer.outputs:
                return layer, row
            row -= layer.outputs
        raise AssertionError("rows are in range")
