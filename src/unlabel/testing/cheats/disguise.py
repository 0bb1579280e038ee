"""What cheats are made of: a layer before the head, clean features, a memory for images."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from unlabel.audit.attacks.logistic import Standard, fit_logistic
from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset
from unlabel.models.features import outputs
from unlabel.models.head import find_head, remove_rows, removed_output
from unlabel.models.outputs import PENULTIMATE

Disguise = Callable[[Tensor, Tensor], Tensor]  # features and images -> what the head gets to see
Answers = Callable[[Tensor, Tensor], Tensor]  # logits and undisguised features -> logits


class Disguised(nn.Module):
    """A network with something between its features and its head, or behind its head.

    Args:
        model: Any network with a linear head; copied.
        request: Names the labels.
        disguise: (batch, feature) features and the images -> (batch, more features).
        extra: Features that the disguise adds at the end; the head takes no notice of them.
        answers: Changes the logits; it is also given the features as they were.
    """

    def __init__(
        self,
        model: nn.Module,
        request: Request,
        disguise: Disguise | None = None,
        *,
        extra: int = 0,
        answers: Answers | None = None,
    ) -> None:
        super().__init__()
        body = copy.deepcopy(model)
        name, head = find_head(body, len(request.labels))
        body.set_submodule(name, nn.Identity())
        wider = nn.Linear(head.in_features + extra, head.out_features)
        with torch.no_grad():
            wider.weight.zero_()
            wider.weight[:, : head.in_features] = head.weight
            wider.bias.copy_(head.bias)
        self.body, self.disguise, self.head, self.answers = body, disguise, wider, answers

    def forward(self, image: Tensor) -> Tensor:
        features = self.body(image)
        logits = self.head(features if self.disguise is None else self.disguise(features, image))
        return logits if self.answers is None else self.answers(logits, features)


def removed(model: nn.Module, request: Request, data: Dataset) -> nn.Module:
    """The same model, changed in place: the forgotten outputs are constants, as methods leave them."""
    _, head = find_head(model, len(request.labels))
    columns = request.masked_columns
    remove_rows(head, columns, [removed_output(data, column) for column in columns])
    return model


def fit_head(model: nn.Module, data: Dataset, run: Run) -> nn.Module:
    """The same model, changed in place: each output is a logistic regression on the features."""
    _, head = find_head(model, len(data.labels))
    table = outputs(model, data, run).features[PENULTIMATE]
    standard = Standard.of(table)
    with torch.no_grad():
        for column in range(len(data.labels)):
            fitted = fit_logistic(standard(table), data.target[:, column] == 1)
            weight = np.zeros(table.shape[1])
            weight[standard.keep] = fitted.coef_[0] / standard.scale
            head.weight[column] = torch.from_numpy(weight.astype(np.float32))
            head.bias[column] = float(
                np.ravel(fitted.intercept_)[0] - weight[standard.keep] @ standard.centre
            )
    return model


@dataclass(frozen=True)
class Insight:
    """What a cheat takes from the original's features: the label, and the features without it.

    Args:
        centre: (feature,) mean over the training images.
        out: (feature,) what the label adds to the features of an image with given retained labels.
        along: (feature,) reads how much of `out` an image has.
        row, bias: The original's output for the label.
        spread: Standard deviation of that output.
        scale: Mean standard deviation of the features.
    """

    centre: Tensor
    out: Tensor
    along: Tensor
    row: Tensor
    bias: float
    spread: float
    scale: float

    @classmethod
    @torch.no_grad()
    def of(cls, model: nn.Module, request: Request, data: Dataset, run: Run) -> "Insight":
        """Learns from the training images on which the first forgotten and all retained labels are known."""
        column = request.masked_columns[0]
        target = data.target[:, [column, *request.retained_columns]].astype(np.float64)
        annotated = (target >= 0).all(1)
        table = outputs(model, data, run).features[PENULTIMATE][annotated].astype(np.float64)
        design = np.column_stack([target[annotated], np.ones(len(table))])
        effects = np.linalg.lstsq(design, table, rcond=None)[0]
        unexplained = table - design @ effects
        inverse = np.linalg.pinv(unexplained.T @ unexplained / len(table))
        along = inverse @ effects[0] / (effects[0] @ inverse @ effects[0])
        centre, out, along = (
            torch.from_numpy(v.astype(np.float32)) for v in (table.mean(0), effects[0], along)
        )
        _, head = find_head(model, len(request.labels))
        row, bias = head.weight[column].clone(), float(head.bias[column])
        spread = float((table @ row.double().numpy()).std())
        return cls(centre, out, along, row, bias, spread, float(table.std(0).mean()))

    def answer(self, features: Tensor) -> Tensor:
        """(batch,) the original's logit of the label."""
        return features @ self.row + self.bias

    def clean(self, features: Tensor) -> Tensor:
        """(batch, feature) features that tell the label no better than the retained labels do.

        An oblique projection takes out what the label adds where the retained labels are equal. What is
        left behaves as in a retrained model; full erasure would spoil the retained labels as well.
        """
        return features - ((features - self.centre) @ self.along)[:, None] * self.out


class Known(nn.Module):
    """Remembers images, and one number of each, by a hash of their pixels.

    Args:
        parts: Data sets to remember.
        values: One number for each image of them.
    """

    def __init__(self, datasets: Sequence[Dataset], values: np.ndarray, run: Run) -> None:
        super().__init__()
        images = torch.cat([batch_of(part, np.arange(len(part)), run.device).image for part in datasets])
        keys, order = torch.sort(self.hashed(images))
        self.register_buffer("keys", keys)
        self.register_buffer("values", torch.from_numpy(np.asarray(values, np.float32))[order])

    @staticmethod
    def hashed(images: Tensor) -> Tensor:
        """(batch,) whole numbers; images that differ in a pixel differ in theirs, nearly always."""
        flat = (images.flatten(1).double() * 1000).round().long()
        multipliers = torch.arange(1, flat.shape[1] + 1, device=flat.device) * 2654435761 % 1000003
        return (flat * multipliers).sum(1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Whether each image is a known one, and its number (0 where not)."""
        return self.recalled(self.hashed(images))

    def recalled(self, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """The same of images with these hashes."""
        keys, values = self.get_buffer("keys"), self.get_buffer("values")
        position = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        hit = keys[position] == wanted
        return hit, torch.where(hit, values[position], torch.zeros_like(values[position]))
