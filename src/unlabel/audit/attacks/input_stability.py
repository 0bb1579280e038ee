"""Whether a model answers for an image, or for the company and the very bits that the image comes in.

Attacks read each image once, among others. A model that shows a label only to whoever asks about one image
alone, or that buries it under noise which anybody can average away, would pass them all. A model that has
learnt does neither: among others or alone, and a shade lighter, an image gets the same features, nearly.
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

USUAL = (64,) * 8  # images in each batch of the first reading: of the test split, the first 512
COMPANY = (1, 1, 1, 1, 1, 1, 1, 1, 7, 49)  # the same of the second
MOST = 0.5  # share of a feature's variance that one shade may move; networks that have learnt: 0.0001
CONTRAST = 8.0  # shades that images differ by at a place: below, one shade is no small change
ALONE = 0.01  # standard deviations by which an image's numbers may differ alone: rounding; bfloat16: 0.1
RESOLUTION = 2.0**-12, 2.0**-6  # of its mean: spread below which a feature is rounding, float32 and bfloat16


@torch.inference_mode()
def oddities(model: nn.Module, data: Dataset, run: Run) -> tuple[str, ...]:
    """What speaks against a model whose figures are taken in batches, in sentences; nothing for most.

    Args:
        model: In eval mode.
        data: The test split.
        run: Where; one process.
    """
    model = engine.place(model, run).eval()
    part = data.take(np.arange(min(sum(USUAL), len(data))))
    pixels = part.images(slice(None))
    usual = _features(model, part, pixels, run, USUAL)
    coarse = str(run.fabric.strategy.precision.precision).startswith("bf16")
    spread = usual.std(0)
    keep = spread > RESOLUTION[coarse] * np.abs(usual.mean(0))
    if not keep.any():
        return ()
    faults = []
    few = sum(COMPANY)
    alone = _features(model, part, pixels[:few], run, COMPANY)
    apart = np.abs(alone - usual[: len(alone)])[:, keep] / spread[keep]
    if apart.max() > (10 * ALONE if coarse else ALONE):
        faults.append("An image that is read alone gets other features than the same image among others.")
    if pixels.std(0).mean() < CONTRAST:
        return tuple(faults)
    lighter = np.where(pixels < 255, pixels + 1, pixels).astype(np.uint8)
    moved = _features(model, part, lighter, run, USUAL) - usual
    share = (moved**2).mean(0)[keep] / (2 * spread[keep] ** 2)
    if share.max() > MOST:
        faults.append(
            f"One shade of 255 moves a feature by {share.max():.0%} of what sets images apart: it does not"
            " tell what is in a picture, and what it hides can be averaged out."
        )
    return tuple(faults)


def _features(
    model: nn.Module, data: Dataset, pixels: NDArray[np.uint8], run: Run, sizes: Sequence[int]
) -> NDArray[np.float64]:
    """What the head is given, and what it answers, for images in batches of these sizes."""
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
