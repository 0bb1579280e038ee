"""Check that a prediction depends on the image alone: not on the batch, nor on changes of one grey level.

Attacks read each image once, in a batch. A model would pass them all if it leaks a label only for an image
that is read alone, or hides it under noise that an attacker can average out. An honest model gives an image
nearly the same features in a batch or alone, and one grey level lighter.

Both readings are compared with the very table that the attacks get. A feature may be far from zero, or huge
on a few images, and still hold a label. So differences are measured against what lies between its 5 % and
95 % quantiles, or by ranks. Only differences that rounding makes are not counted, see `ROUNDING`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unlabel.audit.attacks.logistic import ranks
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.data.batches import normalise
from unlabel.data.dataset import Dataset
from unlabel.models.features import images_at_once
from unlabel.models.head import find_head, tap
from unlabel.models.outputs import PENULTIMATE, Outputs

IMAGES = 512  # of the test split, the first
IN_FEW = (1, 1, 1, 1, 1, 1, 1, 1, 7, 49)  # images in each batch of the reading in small batches
MOST = (
    0.5  # share of the variance of a feature's ranks that one grey level may move; trained networks: 0.0002
)
OFTEN = 0.05  # share of images on which a feature must leave its median; one level may switch a rarer off
CONTRAST = 8.0  # grey levels by which images differ at a pixel: below, one level is no small change
ALONE: Mapping[str, float] = {"32": 0.01, "bf16": 0.1}
"""Standard deviations by which an image's numbers may differ alone. On a CPU, networks differ by 0.00003."""

ROUNDING: Mapping[tuple[str, bool], float] = {
    ("32", True): 2.0**-18,
    ("32", False): 2.0**-12,
    ("bf16", True): 2.0**-6,
    ("bf16", False): 2.0**-6,
}
"""Share of a feature's largest number that rounding may change, by precision and whether on a CPU.

Sums in another order differ by 2^-18 at most in `small`, a ResNet-18 and a vision transformer on a CPU. A GPU
rounds the numbers of a convolution to 11 bits (TF32).
"""

MIDDLE = (0.05, 0.95)  # quantiles


@torch.inference_mode()
def oddities(model: nn.Module, data: Dataset, said: Outputs, run: Run) -> tuple[str, ...]:
    """Reasons not to trust figures that are measured in batches, in sentences; none for an honest model.

    Args:
        model: In eval mode.
        data: The test split.
        said: What the attacks read: the model's outputs on these images.
        run: Where; one process.
    """
    model = engine.place(model, run).eval()
    part = data.take(np.arange(min(IMAGES, len(data))))
    pixels, usual = part.images(slice(None)), _numbers(said)
    faults = []
    few = _read(model, part, pixels, run, IN_FEW)
    if _apart(few, usual, run):
        faults.append("An image that is read alone gets other features than the same image among others.")
    if pixels.std(0).mean() < CONTRAST:
        return tuple(faults)
    lighter = np.where(pixels < 255, pixels + 1, pixels).astype(np.uint8)
    size = images_at_once(run)
    moved = _read(model, part, lighter, run, [size] * -(-len(part) // size))
    share = _share_moved(moved, usual, run)
    if share > MOST:
        faults.append(
            f"A change of one grey level in 255 moves a feature by {share:.0%} of the difference"
            " between images. So it does not depend on the picture, and an attacker can average out the"
            " noise."
        )
    return tuple(faults)


def within_rounding(said: Outputs, run: Run) -> int:
    """Features and outputs that vary, but by no more than rounding may: `oddities` cannot judge them.

    Args:
        said: Outputs of a model on the test split.
        run: Where they were computed.
    """
    usual = _numbers(said)
    low, high = _middle(usual)
    rounding = _rounding(np.clip(usual, low, high), run)
    return int(np.sum((np.ptp(usual, axis=0) > 0) & (high - low <= 2 * rounding)))


def _apart(few: NDArray[np.float64], usual: NDArray[np.float64], run: Run) -> bool:
    """Whether numbers that were read in small batches differ from the table by more than rounding."""
    low, high = _middle(usual)
    table = np.clip(usual, low, high)
    allowed = ALONE[engine.precision_of(run)] * table.std(0) + _rounding(table, run)
    return bool((np.abs(np.clip(few, low, high) - table[: len(few)]) > allowed).any())


def _share_moved(moved: NDArray[np.float64], usual: NDArray[np.float64], run: Run) -> float:
    """The largest share of the variance of a feature's ranks that a change of the images moves; 1 is all."""
    rounding = _rounding(np.clip(usual, *_middle(usual)), run)
    counted = np.where(np.abs(moved - usual) > rounding, moved, usual)
    often = (np.abs(usual - np.median(usual, axis=0)) > rounding).mean(0) >= OFTEN
    if not often.any():
        return 0.0
    before, after = usual[:, often], counted[:, often]
    first, then = ranks(before, before), ranks(before, after)
    return float((((then - first) ** 2).mean(0) / (2 * first.var(0))).max())


def _rounding(table: NDArray[np.float64], run: Run) -> NDArray[np.float64]:
    """(column,) by how much rounding may change a number."""
    unit = ROUNDING[engine.precision_of(run), run.device.type == "cpu"]
    return unit * np.abs(table).max(0, initial=0.0)


def _middle(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(column,) each: the 5 % and the 95 % quantile; where these are equal, the smallest and the largest."""
    low, high = np.quantile(table, MIDDLE, axis=0)
    return np.where(low < high, low, table.min(0)), np.where(low < high, high, table.max(0))


def _numbers(said: Outputs) -> NDArray[np.float64]:
    """(image, column) features and logits of the first images."""
    return np.concatenate([said.features[PENULTIMATE], said.logits], axis=1)[:IMAGES].astype(np.float64)


def _read(
    model: nn.Module, data: Dataset, pixels: NDArray[np.uint8], run: Run, sizes: Sequence[int]
) -> NDArray[np.float64]:
    """Inputs and outputs of the head, for images in batches of these sizes."""
    _, head = find_head(model, len(data.labels))
    rows, start = [], 0
    with tap(head) as seen:
        for size in sizes:
            batch = pixels[start : start + size]
            if not len(batch):
                break
            with run.fabric.autocast():
                logits = model(normalise(batch, data.mean, data.std, run.device))
            rows.append(torch.cat([seen[0].float(), logits.float()], dim=1).cpu().numpy())
            start += size
    return np.concatenate(rows).astype(np.float64)
