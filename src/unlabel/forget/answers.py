"""What the original answers of the retained labels, as a target: less what the forgotten labels alone add.

A training on annotations teaches the retained labels further if the original had not learnt them to the end.
Then a label that goes along with them becomes easier to tell. A training on the original's own answers does
not. From these answers, what belongs to the residual r of the forgotten labels is taken off
(`forget.residual`)::

    t = sigmoid(z(x) - r b),    b = (r' r)^-1 r' z

with z the original's retained logits, centred for b. By each image's own annotations, the logits of t are
uncorrelated with r. So nothing of what only the forgotten labels tell is asked for, and nothing else changes.

The target may lie between the two: a y + (1 - a) t, with y the annotation. Few images can then be passed over
more often, as each pass teaches less of them by heart.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from unlabel.core.engine import Run
from unlabel.data.batches import Batch
from unlabel.data.dataset import Dataset
from unlabel.forget.residual import Floats, Residuals


@dataclass(frozen=True)
class Answers:
    """What the original answers of each image, as the image is augmented.

    Args:
        original: Frozen, in eval mode.
        told: The residuals of the images that may be met.
        slopes: How much each logit rises with each residual.
        annotated: How much of each target is the annotation, in [0, 1).
    """

    original: nn.Module
    told: Residuals
    slopes: Float[Tensor, "label retained"]
    annotated: float = 0.0

    @classmethod
    def of(
        cls,
        model: nn.Module,
        told: Residuals,
        logits: Floats,
        data: Dataset,
        run: Run,
        annotated: float = 0.0,
    ) -> "Answers":
        """A model's.

        Args:
            model: On the run's device.
            told: Residuals of these images.
            logits: The model's, of the retained labels (`forget.residual.retained_logits`).
            data: Images.
            run: Where.
            annotated: How much of each target is the annotation.
        """
        residual, _ = told.of_rows(torch.from_numpy(data.rows).to(run.device))
        slopes = slopes_of(logits, residual.cpu().double().numpy())
        frozen = copy.deepcopy(model).eval().requires_grad_(False)
        return cls(frozen, told, torch.from_numpy(slopes).float().to(run.device), annotated)

    @torch.no_grad()
    def at(self, batch: Batch) -> Float[Tensor, "batch retained"]:
        """The probabilities to be learnt, of a batch's images; an unknown annotation has no part in them."""
        retain = list(self.told.retain)
        logits = self.original(batch.image)[:, retain].float()
        residual, _ = self.told.at(batch)
        answer, annotation = torch.sigmoid(logits - residual @ self.slopes), batch.target[:, retain]
        return torch.where(annotation >= 0, answer.lerp(annotation.float(), self.annotated), answer)

    def loss(self, logits: Float[Tensor, "batch label"], batch: Batch) -> Float[Tensor, " batch"]:
        """Binary cross-entropy of each image with these probabilities, averaged over the retained labels."""
        retained = logits[:, list(self.told.retain)].float()
        return bce(retained, self.at(batch), reduction="none").mean(1)


def slopes_of(logits: Floats, residual: Floats) -> Floats:
    """Least squares of centred logits (image, retained) on residuals (image, label): (label, retained).

    A label without a residual has slopes of 0.

    >>> residual = np.array([[1.0], [-1.0], [0.0]])
    >>> found = slopes_of(np.array([[5.0, 0.0], [1.0, 0.0], [3.0, 6.0]]), residual)
    >>> np.allclose(found, [[2.0, 0.0]])
    True
    """
    return np.linalg.lstsq(residual, logits - logits.mean(0), rcond=None)[0]
