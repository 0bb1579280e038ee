"""Groups of outputs that a softmax made beside outputs of single labels: `adopt` reads them one by one.

A network with several heads may have learnt some of its labels as classes of one question, of which each
image shows one. Read as single labels, such outputs order the classes of an image rightly, but their
sigmoids are no probabilities.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from unlabel.core.engine import Run
from unlabel.core.loss import log_odds
from unlabel.core.wording import listing
from unlabel.data.dataset import Dataset, one_hot
from unlabel.exchange.check import logits, tried
from unlabel.statistics.estimate import average

Floats = NDArray[np.floating]
AWAY = 1 / 3  # by which the sigmoids of a group sum to more or less than the one label that is present


def exclusive_groups(target: NDArray[np.int8]) -> list[range]:
    """Columns side by side of which exactly one is present in each image: three or more, no two overlap.

    Args:
        target: (image, label): 1 present, 0 absent, -1 unknown; images with an unknown one are left out.

    Example:
        >>> target = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]], np.int8)
        >>> exclusive_groups(target)
        [range(1, 4)]
    """
    rows = target[(target >= 0).all(1)]
    width, found, start = target.shape[1], list[range](), 0
    while start < width and len(rows):
        sums = rows[:, start:].cumsum(1, dtype=np.int64)
        over = np.flatnonzero((sums > 1).any(0))  # two present: no longer group begins here
        last = start + (int(over[0]) if len(over) else width - start)
        whole = [end for end in range(start + 3, last + 1) if one_hot(rows[:, start:end])]
        end = next((end for end in whole if rows[:, start:end].any(0).all()), start)
        if end > start:
            found.append(range(start, end))
        start = max(end, start + 1)
    return found


def softmax_fits(scores: Floats, target: NDArray[np.int8], cluster: NDArray[np.int64]) -> bool:
    """Whether a group's outputs fit its annotations clearly better as a softmax than as sigmoids.

    The losses are those of single labels in both ways, so that they can be compared. A softmax may sharpen
    outputs that were learnt as single labels, too: of those, the sigmoids sum to about 1.

    Args:
        scores: (image, label of the group) outputs, finite.
        target: Likewise, 0 or 1.
        cluster: (image,) identity of each image.
    """
    own, wanted = torch.from_numpy(scores).double(), torch.from_numpy(target).double()
    losses = [bce(each, wanted, reduction="none").mean(1).numpy() for each in (own, log_odds(own))]
    gain = average(losses[0] - losses[1], np.ones(len(target), bool), cluster)
    total = float(own.sigmoid().sum(1).mean())
    return gain.interval()[0] > 0 and abs(total - 1) > AWAY


def grouped_note(model: nn.Module, data: Dataset, run: Run, without: Sequence[str] = ()) -> str | None:
    """What a person must know of outputs that were probably learnt by a softmax, in a sentence.

    Args:
        model: On the run's device, in eval mode.
        data: Images of which up to 512 are used; not of exclusive classes as a whole.
        run: Where; the seed chooses the images.
        without: Labels whose outputs are constants: a group with one is left out.

    Returns:
        None where no group is found.
    """
    part = tried(data, run.seed)
    if part.exclusive or not len(part):
        return None
    groups = [
        group
        for group in exclusive_groups(part.target)
        if not {*without} & {part.labels[column] for column in group}
    ]
    if not groups:
        return None
    scores, named = logits(model, part, run).numpy(), []
    for group in groups:
        own, target = scores[:, group.start : group.stop], part.target[:, group.start : group.stop]
        known = (target >= 0).all(1) & np.isfinite(own).all(1)
        if known.any() and softmax_fits(own[known], target[known], part.cluster[known]):
            named.append(listing(part.labels[group.start : group.stop]))
    if not named:
        return None
    return (
        f"each image has exactly one of {'; and one of '.join(named)}: these outputs fit a softmax clearly"
        " better. They are read as yes/no outputs: their order holds, their probabilities do not"
    )
