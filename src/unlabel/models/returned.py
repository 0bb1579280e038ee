"""What a network returns, and where its logits are in it: a tensor, or a dict, list or tuple of tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from unlabel.core.errors import ModelError, NoLinearHead, OptionError
from unlabel.core.wording import listing, suggest

Returned: TypeAlias = Literal["logits", "sigmoid", "log-sigmoid", "softmax", "log-softmax"]
USUAL = ("logits", "logit", "scores", "outputs", "output", "predictions", "pred", "probabilities", "probs")
"""Names under which a dict holds what counts, the first one first."""


@dataclass(frozen=True)
class Entry:
    """A part of what a network returns.

    Args:
        name: Its key or its number; empty for all that is returned.
        tensors: One for all labels, or several, one after another.
        keys: Of several in a dict, their keys.
    """

    name: str
    tensors: tuple[Tensor, ...]
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        shapes = [str(tuple(tensor.shape)) for tensor in self.tensors]
        alike = f"{len(shapes)} tensors of shape {shapes[0]}" if len({*shapes}) == 1 else listing(shapes)
        what = f"a tensor of shape {shapes[0]}" if len(shapes) == 1 else alike
        return f"'{self.name}', {what}" if self.name else what


@dataclass(frozen=True)
class Columns:
    """The numbers that a network returns for its labels, in the labels' order.

    Args:
        entry: The part of what is returned that holds them; empty for all of it.
        values: (batch, column): one a label, or two.
        pairs: Of two a label, the ways in which they may lie: columns of "absent" and of "present".
        order: The keys of a dict that give the order, if they are not the labels.
    """

    entry: str
    values: Tensor
    pairs: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()
    order: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """How logits lie in what a network returns.

    Args:
        entry: The part that holds them; empty for all that is returned.
        absent, present: Columns of each label; without pairs, ``absent`` is empty.
        returned: What the network made of its logits.
    """

    entry: str
    absent: tuple[int, ...]
    present: tuple[int, ...]
    returned: Returned

    def columns(self, value: Any, labels: Sequence[str]) -> Tensor:
        """One number a label, (batch, label), of what the network returned."""
        values = columns_of(value, labels, self.entry).values
        return values[:, self.present] - values[:, self.absent] if self.absent else values[:, self.present]

    def of_logits(self, logits: Tensor) -> Tensor:
        """What the network would return for these logits, (batch, label)."""
        return ACTIVATIONS[self.returned](logits)


ACTIVATIONS = {
    "logits": lambda logits: logits,
    "sigmoid": torch.sigmoid,
    "log-sigmoid": logsigmoid,
    "softmax": lambda logits: logits.softmax(-1),
    "log-softmax": lambda logits: logits.log_softmax(-1),
}


def entries(value: Any) -> list[Entry]:
    """The parts of what a network returned, the whole of a list or dict of tensors first.

    >>> [str(entry) for entry in entries({"logits": torch.zeros(2, 3), "note": "text"})]
    ["'logits', a tensor of shape (2, 3)"]
    """
    if isinstance(value, Tensor):
        return [Entry("", (value,))]
    named = _parts(value)
    if named is None:
        return []
    result = []
    if len(named) > 1 and all(isinstance(part, Tensor) for part in named.values()):
        keys = () if isinstance(value, list | tuple) else tuple(named)
        result.append(Entry("", tuple(named.values()), keys))
    for name, part in named.items():
        if isinstance(part, Tensor):
            result.append(Entry(name, (part,)))
        elif (inner := _parts(part)) and all(isinstance(item, Tensor) for item in inner.values()):
            keys = () if isinstance(part, list | tuple) else tuple(inner)
            result.append(Entry(name, tuple(inner.values()), keys))
    return result


def _parts(value: Any) -> dict[str, Any] | None:
    """What a dict, list, tuple or dataclass holds, by key or number."""
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if isinstance(value, list | tuple):
        return {str(number): item for number, item in enumerate(value)}
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name) for item in fields(value)}
    return None


def columns_of(value: Any, labels: Sequence[str], wanted: str | None = None) -> Columns:
    """Finds the part with one number a label, or two.

    Args:
        value: What the network returned.
        labels: Names, in the outputs' order.
        wanted: The part to take; empty for the whole. If None, a usual name, or the only part that fits.

    Raises:
        OptionError: There is no such part.
        ModelError: No part fits, or several do.
    """
    returned = entries(value)
    fitting = [(entry, fitted) for entry in returned if (fitted := _fitted(entry, labels)) is not None]
    if wanted is not None:
        names = [entry.name for entry in returned]
        if wanted not in names:
            raise OptionError(
                f"--logits is '{wanted}', but the model returned {_listed(returned, value)}."
                f"{suggest(wanted, names)}"
            )
        fitting = [(entry, fitted) for entry, fitted in fitting if entry.name == wanted]
    if not fitting:
        raise ModelError(
            f"the model returned {_listed(returned, value)}; expected one tensor of shape"
            f" ({_batch(returned)}, {len(labels)}), the logits of {len(labels)} labels, or a dict, list or"
            " tuple that holds it, or one tensor a label; `unlabel inspect` prints a wrapper to fill in"
        )
    named = next((pair for pair in fitting if {*pair[0].keys} == {*labels}), None)
    usual = next((pair for name in USUAL for pair in fitting if pair[0].name == name), None)
    if not (named or usual) and len(fitting) > 1:
        candidates = [entry for entry, _ in fitting if entry.name]
        raise ModelError(
            f"the model returned {_listed(candidates, value)}, and more than one may hold the logits of"
            f" {len(labels)} labels; name it with --logits {candidates[0].name}"
        )
    return (named or usual or fitting[0])[1]


def _listed(found: Sequence[Entry], value: Any) -> str:
    named = [str(entry) for entry in found if entry.name] or [str(entry) for entry in found]
    kind = "" if isinstance(value, Tensor) else f"{type(value).__name__} with "
    return f"{kind}{'; '.join(named[:5])}" if named else type(value).__name__


def _batch(found: Sequence[Entry]) -> int:
    return next((len(entry.tensors[0]) for entry in found if entry.tensors[0].ndim), 2)


def _fitted(entry: Entry, labels: Sequence[str]) -> Columns | None:
    """The columns of a part with one or two numbers a label; None if it has another shape."""
    count, tensors = len(labels), entry.tensors
    if not all(tensor.ndim >= 1 and tensor.is_floating_point() for tensor in tensors):
        return None
    if len(tensors) == 1:
        return _of_one(entry.name, tensors[0], count)
    order: tuple[str, ...] = ()
    if entry.keys and len(tensors) == count:
        by_key = dict(zip(entry.keys, tensors, strict=True))
        if {*entry.keys} == {*labels}:
            tensors = tuple(by_key[label] for label in labels)
        elif {*entry.keys} & {*labels}:
            raise NoLinearHead(
                f"the model returned a dict with the keys {listing(entry.keys)}, of which some are labels and"
                " some are not; expected every label's name, or none"
            )
        else:
            order = entry.keys
    rows = [tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None] for tensor in tensors]
    widths = [row.shape[1] for row in rows]
    if len({len(row) for row in rows}) > 1 or any(tensor.ndim > 2 for tensor in tensors):
        return None
    if sum(widths) == count:
        return Columns(entry.name, torch.cat(rows, 1), order=order)
    if len(rows) == count and {*widths} == {2}:
        return Columns(entry.name, torch.cat(rows, 1), (_side_by_side(count),), order)
    return None


def _of_one(name: str, tensor: Tensor, count: int) -> Columns | None:
    shape = tuple(tensor.shape[1:])
    flat = tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None]
    if flat.shape[1] == count and max(shape, default=1) == count:
        return Columns(name, flat)
    beside, apart = _side_by_side(count), (tuple(range(count)), tuple(range(count, 2 * count)))
    ways = {(count, 2): (beside,), (2, count): (apart,), (2 * count,): (beside, apart)}
    if shape == (2, 2) and count == 2:
        return Columns(name, flat, (beside, apart))
    return Columns(name, flat, ways[shape]) if shape in ways else None


def _side_by_side(count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(range(0, 2 * count, 2)), tuple(range(1, 2 * count, 2))
