"""Check that a prediction depends on the image alone: not on the batch, nor on changes of one grey level.

Attacks read each image once, in a batch. A model would pass them all if it leaks a label only for an image
that is read alone, or hides it under noise that an attacker can average out. An honest model gives an image
nearly the same features in a batch or alone, and one grey level lighter.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.data.batches import normalise
from unlabel.data.dataset import Dataset
from unlabel.models.head import find_head, tap

FIRST_BATCHES = (64,) * 8  # images in each batch of the first reading: of the test split, the first 512
SECOND_BATCHES = (1, 1, 1, 1, 1, 1, 1, 1, 7, 49)  # the same of the second
MOST = 0.5  # share of a feature's variance that one grey level may move; in trained networks: 0.0001
OFTEN = 0.05  # share of images on which a feature must leave its median; one level may switch a rarer off
CONTRAST = 8.0  # grey levels by which images differ at a pixel: below, one level is no small change
ALONE = 0.01  # standard deviations by which an image's numbers may differ alone: rounding; bfloat16: 0.1
RESOLUTION = 2.0**-12, 2.0**-6  # of its mean: spread below which a feature is rounding, float32 and bfloat16


@torch.inference_mode()
def oddities(model: nn.Module, data: Dataset, run: Run) -> tuple[str, ...]:
    """Reasons not to trust figures that are measured in batches, in sentences; none for an honest model.

    Args:
        model: In eval mode.
        data: The test split.
        run: Where; one process.
    """
    model = engine.place(model, run).eval()
    part = data.take(np.arange(min(sum(FIRST_BATCHES), len(data))))
    pixels = part.images(slice(None))
    usual = _features(model, part, pixels, run, FIRST_BATCHES)
    coarse = str(run.fabric.strategy.precision.precision).startswith("bf16")
    spread = usual.std(0)
    keep = spread > RESOLUTION[coarse] * np.abs(usual.mean(0))
    if not keep.any():
        return ()
    faults = []
    few = sum(SECOND_BATCHES)
    alone = _features(model, part, pixels[:few], run, SECOND_BATCHES)
    apart = np.abs(alone - usual[: len(alone)])[:, keep] / spread[keep]
    if apart.max() > (10 * ALONE if coarse else ALONE):
        faults.append("An image that is read alone gets other features than the same image among others.")
    if pixels.std(0).mean() < CONTRAST:
        return tuple(faults)
    lighter = np.where(pixels < 255, pixels + 1, pixels).astype(np.uint8)
    moved = _features(model, part, lighter, run, FIRST_BATCHES) - usual
    keep &= (np.abs(usual - np.median(usual, 0)) > RESOLUTION[coarse] * spread).mean(0) >= OFTEN
    share = (moved**2).mean(0)[keep] / (2 * spread[keep] ** 2)
    if share.max(initial=0.0) > MOST:
        faults.append(
            f"A change of one grey level in 255 moves a feature by {share.max():.0%} of the difference"
            " between images. So it does not depend on the picture, and an attacker can average out the"
            " noise."
        )
    return tuple(faults)


def _features(
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
