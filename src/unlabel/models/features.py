"""One forward pass that gives both the logits and the features behind them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.data.dataset import Dataset
from unlabel.data.feed import in_order
from unlabel.models.head import find_head, tap
from unlabel.models.outputs import PENULTIMATE, Outputs

BATCH = 256
ON_CPU = 64
"""Images in one pass on a CPU: what a layer makes of them fits its cache, and the bits are the same."""


def images_at_once(run: Run) -> int:
    """Images in one pass where a run computes."""
    return BATCH if run.device.type == "cuda" else ON_CPU


@torch.inference_mode()
def outputs(model: nn.Module, data: Dataset, run: Run, *, stage: str = "read") -> Outputs:
    """Logits and penultimate features of every image, in one forward pass.

    Args:
        model: On the run's device; evaluated in eval mode, its mode restored afterwards.
        data: Images, without augmentation.
        run: Where; images are shared out over its processes, and every process gets all rows.
        stage: Name in the progress display.

    Returns:
        float32 rows in the data's order, equal for any number of processes to rounding.
    """
    _, head = find_head(model, len(data.labels))
    logits: list[NDArray[np.float32]] = [np.zeros((0, len(data.labels)), np.float32)]
    features: list[NDArray[np.float32]] = [np.zeros((0, head.in_features), np.float32)]
    size = images_at_once(run)
    was_training = model.training
    model.eval()
    with tap(head) as inputs, run.log.track(stage, len(data), "images") as advance:
        for batch in in_order(data, run, size, run.shard(len(data))):
            with run.fabric.autocast():
                scores = model(batch.image)
            logits.append(scores.float().cpu().numpy())
            features.append(inputs[0].float().cpu().numpy())
            advance(len(batch.rows) * run.world)
    model.train(was_training)
    return Outputs(
        logits=engine.gather_rows(run, np.concatenate(logits), len(data)),
        features={PENULTIMATE: engine.gather_rows(run, np.concatenate(features), len(data))},
    )
