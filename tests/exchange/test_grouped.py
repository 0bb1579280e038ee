"""Outputs that a softmax made beside outputs of single labels are found by annotations and fit."""

import numpy as np
import pytest
import torch
from torch import nn

from unlabel.core import engine
from unlabel.core.randomness import normal
from unlabel.data.dataset import Dataset
from unlabel.exchange.grouped import exclusive_groups, grouped_note

SHOWN = np.arange(300) % 4
CLASSES = np.eye(4, dtype=np.int8)[SHOWN]
ALONE = np.stack([np.arange(300) // 2 % 2, np.arange(300) // 3 % 2], 1).astype(np.int8)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (np.hstack([ALONE, CLASSES]), [range(2, 6)]),
        (np.hstack([CLASSES, ALONE, CLASSES]), [range(4), range(6, 10)]),
        (np.hstack([ALONE, CLASSES[:, :3]]), []),
        (np.hstack([ALONE[:, :1], 1 - ALONE[:, :1]]), []),
        (np.full((4, 3), -1, np.int8), []),
    ],
)
def test_groups_have_exactly_one_present_in_each_image(target, expected) -> None:
    assert exclusive_groups(target.astype(np.int8)) == expected


class Answers(nn.Module):
    """Gives the outputs that belong to an image's number, which its first two pixels hold."""

    def __init__(self, outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs = nn.Parameter(outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = (images[:, 0, 0, :2] * 255).round().long()
        return self.outputs[pixels[:, 0] * 256 + pixels[:, 1]]


def data_of(target: np.ndarray) -> Dataset:
    pixels = np.zeros((len(target), 2, 2, 3), np.uint8)
    pixels[:, 0, 0], pixels[:, 0, 1] = (
        np.divmod(np.arange(len(target)), 256)[0][:, None],
        (np.arange(len(target)) % 256)[:, None],
    )
    rows = np.arange(len(target))
    names = tuple("abcdefgh"[: target.shape[1]])
    return Dataset(
        pixels, rows, target, rows, rows.astype(str), names, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )


@pytest.mark.parametrize(("level", "told"), [(1.0, True), (-2.0, False)])
def test_a_softmax_is_told_by_sigmoids_that_do_not_sum_to_one(level: float, told: bool) -> None:
    """At a level of -2, the sigmoids of three absent classes and one present class sum to about 1."""
    target = np.hstack([ALONE, CLASSES])
    noise = np.asarray(normal(0, "grouped", np.arange(target.size))).reshape(target.shape)
    outputs = torch.from_numpy(3.0 * target + level + 0.3 * noise).float()
    note = grouped_note(Answers(outputs), data_of(target), engine.start(accelerator="cpu"))
    assert (note is not None) == told
    if note:
        assert "each image has exactly one of c, d, e, f: these outputs fit a softmax clearly better" in note
        assert "their order holds, their probabilities do not" in note
    assert grouped_note(Answers(outputs), data_of(target), engine.start(accelerator="cpu"), ["c"]) is None
