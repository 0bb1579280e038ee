"""Frozen linear probes of labels in the features: what `confusion` blinds, and what guards earlier requests.

A label that an earlier request removed has no output row any more, and fine-tuning for the next request can
make the features tell of it again: measured, by .03 to .04 advantage. So every repair that rests on the
retained labels also blinds a probe of each label forgotten earlier, fitted to the features as they are.
"""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from unlabel.core.engine import Run
from unlabel.data.dataset import Dataset
from unlabel.models.features import outputs
from unlabel.models.head import find_head
from unlabel.models.outputs import PENULTIMATE

FEWEST = 10  # images of each kind without which no probe is fitted


@dataclass(frozen=True)
class Probes:
    """Linear probes of the penultimate features, and what they shall be made to say.

    Args:
        weight: (probe, feature).
        bias: (probe,).
        target: Probability in (0, 1) that each probe is driven to; see `confused_target`.
    """

    weight: Tensor
    bias: Tensor
    target: Tensor

    def blind(self, features: Tensor) -> Tensor:
        """Binary cross-entropy of every probe against its target, (batch, probe)."""
        return self.loss((features @ self.weight.T.to(features.dtype)).float() + self.bias)

    def loss(self, reading: Tensor) -> Tensor:
        """The same of logits that were read already."""
        return bce(reading, self.target.expand_as(reading), reduction="none")


def original_rows(original: nn.Module, data: Dataset, columns: tuple[int, ...], run: Run) -> Probes:
    """The original's own output rows: probes that knew how to find the labels. No annotation is used."""
    _, head = find_head(original, len(data.labels))
    chosen = list(columns)
    return Probes(
        head.weight[chosen].detach().clone(), head.bias[chosen].detach().clone(), targets(data, columns, run)
    )


def fitted(model: nn.Module, data: Dataset, columns: tuple[int, ...], run: Run) -> Probes | None:
    """Logistic regressions of labels on a model's features; None where no label has enough images.

    Args:
        model: In eval mode.
        data: Images with annotations of the labels; one forward pass over them.
        columns: The labels.
        run: Where; every process fits the same.
    """
    varied = [
        column
        for column in columns
        if min(np.sum(data.target[:, column] == 1), np.sum(data.target[:, column] == 0)) >= FEWEST
    ]
    if not varied:
        return None
    features = outputs(model, data, run, stage="guard").features[PENULTIMATE].astype(np.float64)
    centre, scale = features.mean(0), features.std(0) + 1e-6  # a dead feature must not be read
    weight, bias = [], []
    for column in varied:
        rows = data.target[:, column] >= 0
        standard = (features[rows] - centre) / scale
        fit = LogisticRegression(C=0.1, max_iter=5000).fit(standard, data.target[rows, column])
        weight.append(fit.coef_[0] / scale)
        bias.append(fit.intercept_[0] - weight[-1] @ centre)
    return Probes(
        torch.tensor(np.array(weight), dtype=torch.float32, device=run.device),
        torch.tensor(np.array(bias), dtype=torch.float32, device=run.device),
        targets(data, tuple(varied), run),
    )


def targets(data: Dataset, columns: tuple[int, ...], run: Run) -> Tensor:
    """`confused_target` of each label."""
    return torch.tensor([confused_target(data.prior(column)) for column in columns], device=run.device)


def confused_target(prior: float) -> float:
    """1/2, or the base rate of a rare or a nearly universal label: 1/2 would move nearly every image of it.

    >>> confused_target(0.42), confused_target(0.02)
    (0.5, 0.02)
    """
    return 0.5 if 0.2 <= prior <= 0.8 else prior
