"""A model retrained by the user's own code without some labels often has no outputs for them.

A run has an output for every label of its original. So the file's head gets a row of zeros for each that is
not there, and the run then holds a constant in its place, as that of ``unlabel train --without`` does.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from unlabel.core.errors import ModelError, NoLinearHead, UnknownLabel
from unlabel.core.request import Request
from unlabel.core.wording import joined, suggest
from unlabel.models.head import find_head, head_rows
from unlabel.models.returned import Reading
from unlabel.models.weights import Weights

KEEP = (
    "train the model with an output for every label of the original, leave {names} out of its loss, and adopt"
    " it with the same --without"
)


def check_without(without: Sequence[str], labels: Sequence[str]) -> None:
    """Refuses names of ``--without`` that are not among all labels, and all labels at once.

    Raises:
        UnknownLabel: The labels lack one; their order in the original is then not known.
        RequestError: As `Request.make` raises.
    """
    missing = [name for name in without if name not in labels]
    if missing and not any(suggest(name, labels) for name in missing):
        raise UnknownLabel(
            f"--without names {joined(missing)}, but the file of --labels does not; expected there all labels"
            " of the original, in its order: if the model has no output for some, its outputs are that list"
            " without those of --without"
        )
    if without:
        Request.make(without, labels, see="in the file of --labels")


def insert_absent(
    weights: Weights, model: nn.Module, labels: Sequence[str], without: Sequence[str]
) -> tuple[Weights, tuple[str, ...]]:
    """The weights with a row of zeros for each label that the model has no output for.

    Args:
        weights: Of the file.
        model: The network with an output for every label.
        labels: All labels, in the original's order.
        without: Those that the model was never shown: all of them have an output, or none has.

    Returns:
        The weights, and the labels that got a row: `without`, or none if the file has them, or if its head is
        no linear layer with one output a label. `models.weights.fit_weights` then says what does not fit.
    """
    try:
        rows = head_rows(find_head(model, len(labels))[0])
    except NoLinearHead:
        return weights, ()
    heads = {
        name: value
        for name, value in weights.tensors.items()
        if any(name == row or name.endswith(f".{row}") for row in rows)
    }
    there = [column for column, name in enumerate(labels) if name not in without]
    if not without or len(heads) != len(rows) or any(len(value) != len(there) for value in heads.values()):
        return weights, ()
    filled = {name: _spread(value, there, len(labels)) for name, value in heads.items()}
    return replace(weights, tensors={**weights.tensors, **filled}), tuple(without)


def _spread(value: Tensor, columns: Sequence[int], count: int) -> Tensor:
    """A tensor of so many rows, with the given ones at these places and zeros elsewhere."""
    whole = value.new_zeros((count, *value.shape[1:]))
    whole[torch.tensor(columns)] = value
    return whole


def check_inserted(inserted: Sequence[str], reading: Reading) -> None:
    """Refuses rows that were inserted where the network's outputs depend on each other.

    Raises:
        ModelError: The network returns a softmax: one more output changes all others.
    """
    if inserted and "softmax" in reading.returned:
        raise ModelError(
            f"the model returns a softmax over its outputs and has none for {joined(inserted)}, and one that"
            f" is put in would change the others; expected a model that returns its logits, or"
            f" {KEEP.format(names=joined(inserted))}"
        )


def advice(outputs: int, without: Sequence[str]) -> str:
    """The end of the sentence on weights that do not fit a network with so many outputs."""
    if not without:
        return ""
    return (
        f"; the network has an output for each of the {outputs} names in --labels, and outputs for"
        f" {joined(without)} can be put in only where its last layer is linear, with a bias and one output a"
        f" label: else {KEEP.format(names=joined(without))}"
    )
