"""What forgetting did to the labels that are to be kept, measured on images that the method did not see.

A method's promise is that the other labels go on working. Whether that holds for this network is looked at
each time: the retained labels' mean AUC before and after, on the same training images, which are held back
from the method. The original was trained on them, so what it knows of them by heart counts as lost, too: the
loss is the most to expect. `audit` measures new images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
import torch
from torch import nn

from unlabel.core.engine import Run
from unlabel.core.errors import MethodError
from unlabel.core.loss import log_odds
from unlabel.core.randomness import uniform
from unlabel.core.request import Request
from unlabel.core.wording import listing
from unlabel.data.dataset import Dataset
from unlabel.models.features import outputs
from unlabel.statistics.estimate import Estimate, auc, mean, rarer

HELD_BACK = 512  # images, or a tenth of the training images if that is fewer
ENOUGH = 20  # images of both kinds: a label with fewer stays out of the mean if another has as many
LEAST = 5  # images of both kinds: with fewer, a label's AUC is mostly chance
ONE_LABEL = 0.05  # fall of one label's AUC past which it is named: of many labels, a mean hides it
NOTABLE = 0.02  # fall of the mean AUC past which a warning is given; so it is if the fall may be that large
OTHERS = "another method or milder options"
OWN = "the original was trained on these images, so the loss on new images should be no larger"


@dataclass(frozen=True)
class Retained:
    """The retained labels before and after.

    Args:
        labels: The labels measured: those with `LEAST` images of both kinds.
        images: How many images.
        held_back: Whether the method did not see them; `retrain` sees all training images.
        before: Mean AUC of the original; None where no label can be measured.
        after: Mean AUC of the unlearned model, on the same images.
        falls: What the AUC of each label measured lost, paired by image.
        left_out: Labels measured that the mean leaves out: fewer than `ENOUGH` images of a kind show them.
        out_of: Retained labels, measured or not.
        unmeasured: Those that are not measured.
    """

    labels: tuple[str, ...]
    images: int
    held_back: bool
    before: Estimate | None = None
    after: Estimate | None = None
    falls: tuple[Estimate, ...] = ()
    left_out: tuple[str, ...] = ()
    out_of: int = 0
    unmeasured: tuple[str, ...] = ()

    @property
    def worst(self) -> dict[str, Any] | None:
        """The label that lost most for certain, with an interval that holds for all together (95 %)."""
        if not self.falls:
            return None
        level = 1 - 0.05 / len(self.falls)
        rows = [
            {"label": label, "value": fall.value, "low": low, "high": high}
            for label, fall in zip(self.labels, self.falls, strict=True)
            for low, high in [fall.interval(level, low=-1.0, high=1.0)]
        ]
        return max(rows, key=lambda row: row["low"])

    @property
    def loss(self) -> Estimate | None:
        """What the mean AUC lost, paired by image; None where nothing is measured."""
        return self.before - self.after if self.before and self.after else None

    def past(self, most: float) -> bool:
        """Whether the loss is more than this, and too much to be chance (one-sided 95 % bound above 0)."""
        return self.loss is not None and self.loss.value > most and self.loss.lower() > 0

    def to_json(self) -> dict[str, Any]:
        """JSON-plain copy for a run's record; each figure with its 95 % interval, or None."""
        return {
            "before": _row(self.before, 0.0),
            "after": _row(self.after, 0.0),
            "loss": _row(self.loss, -1.0),
            "worst": self.worst,
            "n": self.images,
            "held_back": self.held_back,
            "labels": list(self.labels),
            "left_out": list(self.left_out),
            "out_of": self.out_of,
            **({"unmeasured": list(self.unmeasured)} if self.unmeasured else {}),
            **({"note": OWN} if self.held_back and self.loss else {}),
        }


def sentence_of(record: Mapping[str, Any]) -> str:
    """One sentence of what a run's record holds under ``retained``, without its full stop.

    >>> sentence_of(Retained((), 40, True).to_json())
    'retained labels: not measured, none has 5 images of both kinds among 40 training images held back'
    """
    images = f"{record['n']:,} training images{' held back' if record['held_back'] else ''}"
    if record["loss"] is None:
        return f"retained labels: not measured, none has {LEAST} images of both kinds among {images}"
    before, after = (record[name]["value"] for name in ("before", "after"))
    text = f"retained labels: mean AUC {before:.3f} before, {after:.3f} after, on {images}"
    counted = len(record["labels"]) - len(record.get("left_out", ()))
    if counted < (out_of := record.get("out_of", len(record["labels"]))):
        names = [*record.get("left_out", ()), *record.get("unmeasured", ())]
        which = listing(names) if counted + len(names) == out_of else "the others"
        text += f", mean of {counted} of {out_of} labels: too few images of a kind show {which}"
    return f"{text}; {record['note']}" if "note" in record else text


def warning(record: Mapping[str, Any], instead: str = OTHERS) -> str | None:
    """A line where the mean AUC lost more than `NOTABLE`, or may have, or one label more than `ONE_LABEL`.

    Args:
        record: What a run's record holds under ``retained``.
        instead: What else may be tried.

    Returns:
        None where nothing of this is so.
    """
    if record["loss"] is None:
        return None
    value, low, high = (record["loss"][name] for name in ("value", "low", "high"))
    where = " on images that the original was trained on" if "note" in record else ""
    if value > NOTABLE:
        return (
            f"the retained labels lost {value:.3f} of mean AUC (95 % interval {low:.3f} to {high:.3f}){where}"
            f", more than {NOTABLE:g}; audit the run before use, or try {instead}"
        )
    worst = record.get("worst")
    if worst and worst["low"] > ONE_LABEL:
        return (
            f"the retained label {worst['label']} lost {worst['value']:.3f} of its AUC (95 % interval, all"
            f" {len(record['labels'])} labels together: {worst['low']:.3f} to {worst['high']:.3f}){where},"
            f" which the mean does not show; audit the run before use, or try {instead}"
        )
    if high > NOTABLE:
        return (
            f"the retained labels may have lost up to {high:.3f} of mean AUC: {record['n']:,} images held"
            f" back cannot tell that from {max(value, 0):.3f}; audit the run before use"
        )
    return None


def _row(item: Estimate | None, least: float) -> dict[str, float] | None:
    if item is None:
        return None
    low, high = item.interval(low=least, high=1.0)
    return {"value": item.value, "low": low, "high": high}


def held_back(
    data: Dataset, sample: Dataset, seed: int, *, listed: Sequence[int] = ()
) -> tuple[Dataset, Dataset]:
    """The calibration images that a method may see, and the images that it may not.

    `HELD_BACK` images, or a tenth of the training images if that is fewer, are held back: images outside the
    calibration sample first, so that a method sees what it would see otherwise; where there are too few of
    those, calibration images too. Of under 100 training images none: a tenth could not measure anything.

    Args:
        data: All training images.
        sample: Those chosen for calibration.
        seed: Which images, with the images alone.
        listed: Positions in the whole source of images that the method must see.
    """
    wanted = min(HELD_BACK, len(data) // 10)
    wanted = wanted if wanted >= 2 * LEAST else 0
    rank = uniform(seed, "held-back", data.rows) + np.isin(data.rows, sample.rows)
    rank[np.isin(data.rows, np.array(listed, np.int64))] = np.inf
    order = np.argsort(rank, kind="stable")[:wanted]
    held = data.take(np.sort(order[np.isfinite(rank[order])]))
    return sample.take(np.flatnonzero(~np.isin(sample.rows, held.rows))), held


def sample_to_measure(data: Dataset, seed: int) -> Dataset:
    """As many of all training images, for a method that sees all of them."""
    return held_back(data, data, seed)[1]


def compare(
    before: nn.Module, after: nn.Module, held: Dataset, request: Request, run: Run, *, unseen: bool = True
) -> Retained:
    """Measures the retained labels of two models on the same images, each read once; of one, if they are one.

    Exclusive classes are ranked by their log-odds among the retained ones, on images of those. The mean is
    over the labels with `ENOUGH` images of both kinds, or over all measured if there is none.

    Args:
        before, after: On the run's device, in eval mode.
        held: The images.
        request: What was asked.
        run: Where.
        unseen: Whether the method did not see them.

    Raises:
        MethodError: An output is NaN or infinite.
    """
    columns = list(request.retained_columns)
    target = held.target[:, columns]
    if held.exclusive:
        target = np.where((target == 1).any(1, keepdims=True), target, -1)
    fewer = [rarer(target[:, position]) for position in range(len(columns))]
    chosen = [position for position, count in enumerate(fewer) if count >= LEAST]
    sure = [fewer[position] >= ENOUGH for position in chosen]
    sure = sure if any(sure) else [True] * len(chosen)
    labels = tuple(request.retained[position] for position in chosen)
    if not chosen:
        return Retained((), len(held), unseen, out_of=len(columns), unmeasured=request.retained)
    areas: list[list[Estimate]] = []
    models = [(before, "before")] if after is before else [(before, "before"), (after, "after")]
    for model, which in models:
        scores = outputs(model, held, run, stage="check").logits[:, columns]
        if not np.isfinite(scores).all():
            raise MethodError(
                f"the model's outputs are NaN or infinite on training images {which} forgetting; use another"
                " method or milder options, and check the model if it is so before"
            )
        if held.exclusive:
            scores = log_odds(torch.from_numpy(scores).double()).numpy()
        areas.append([auc(scores[:, position], target[:, position], held.cluster) for position in chosen])
    first, last = areas[0], areas[-1]
    falls = tuple(one - other for one, other in zip(first, last, strict=True))
    there, here = (mean(list(compress(part, sure))) for part in (first, last))
    rare = tuple(label for label, counts in zip(labels, sure, strict=True) if not counts)
    missing = tuple(name for name in request.retained if name not in labels)
    return Retained(labels, len(held), unseen, there, here, falls, rare, len(columns), missing)
