"""How well a trained network does on the val split: one line after `unlabel train`, and a part of its record.

The val split is what the audit calls the probe split: images that the network was not trained on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from unlabel.core.engine import Run
from unlabel.core.randomness import uniform
from unlabel.core.wording import listing
from unlabel.data.dataset import Dataset
from unlabel.data.splits import LEAST_OF_A_KIND, PEOPLE
from unlabel.exchange.check import areas, row_of
from unlabel.models.features import outputs
from unlabel.statistics.estimate import mean, rarer

MOST = 2048  # images that are read
NEAR_CHANCE = 0.6  # a label is named if the upper end of its AUC's 95 % interval is below


def val_quality(
    model: nn.Module, data: Dataset, run: Run, without: Sequence[str] = ()
) -> dict[str, Any] | None:
    """AUC of every label on up to `MOST` images of the val split, with 95 % intervals, as plain data.

    Args:
        model: On the run's device, in eval mode.
        data: The val split.
        run: Where; all its processes must call this. Its seed chooses the images.
        without: Labels to leave out, as the network was never shown them.

    Returns:
        ``n`` images read of ``of``; ``macro``, the mean over labels; ``labels``, by name; ``left_out``, names
        of those that fewer than 10 images of a kind show; ``near_chance``, names: none if fewer than four
        identities are there, as intervals mean nothing then. None where nothing can be measured: the split is
        empty, no label has enough images of both kinds, or an output is not finite.
    """
    rank = uniform(run.seed, "train/val", data.rows)
    part = data.take(np.sort(np.argsort(rank, kind="stable")[:MOST]))
    if not len(part):
        return None
    scores = outputs(model, part, run, stage="val").logits
    measured = [
        name
        for column, name in enumerate(part.labels)
        if name not in without and rarer(part.target[:, column]) >= LEAST_OF_A_KIND
    ]
    left_out = [name for name in part.labels if name not in without and name not in measured]
    estimates = areas(scores, part, (*without, *left_out)) if np.isfinite(scores).all() else {}
    if not estimates:
        return None
    few_people = len(np.unique(part.cluster)) < PEOPLE
    rows = {name: row_of(item) for name, item in estimates.items()}
    return {
        "n": len(part),
        "of": len(data),
        "macro": row_of(mean(list(estimates.values()))),
        "labels": rows,
        "left_out": left_out,
        "near_chance": [name for name, row in rows.items() if row["high"] < NEAR_CHANCE and not few_people],
    }


def sentence_of(found: Mapping[str, Any]) -> str:
    """One line of what `val_quality` found.

    >>> found = {"n": 458, "of": 458, "macro": {"value": 0.7449}, "labels": {}, "near_chance": ["glazed"]}
    >>> sentence_of(found)
    'probe split, 458 images: mean AUC 0.745; near chance: glazed; more epochs may help (--epochs)'
    """
    of = f" of {found['of']:,}" if found["n"] < found["of"] else ""
    text = f"probe split, {found['n']:,}{of} images: mean AUC {found['macro']['value']:.3f}"
    if left_out := found.get("left_out"):
        every = len(found["labels"]) + len(left_out)
        text += f" over {len(found['labels'])} of {every} labels: too few images of a kind show"
        text += f" {listing(left_out)}"
    if near := found["near_chance"]:
        text += f"; near chance: {listing(near)}; more epochs may help (--epochs)"
    return text
