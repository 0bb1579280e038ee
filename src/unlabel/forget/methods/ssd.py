"""Selective synaptic dampening: shrink what matters far more to the forgotten label than to the others."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

import torch
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.errors import EmptySelection
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.gradients import Moment, Named
from unlabel.forget.halves import forget_part, retain_part, whole_part
from unlabel.forget.methods.ranges import in_range
from unlabel.forget.pipeline import Bands, Pipeline, Unlearner
from unlabel.forget.score import measured, unit_mean
from unlabel.forget.tasks import Task

Reference = Literal["retain", "full"]


def ssd(
    *,
    alpha: float = 10.0,
    lam: float = 1.0,
    reference: Reference = "retain",
    normalise: bool = True,
    exact: bool = False,
) -> Unlearner:
    r"""Shrinks the weights that matter far more to the forgotten label than to the reference; no training.

    :math:`w \leftarrow w \min(\lambda I_R / I_F, 1)` where :math:`I_F > \alpha I_R`, with I the diagonal of
    the empirical Fisher matrix: the mean of *per-sample* squared gradients. As in the paper all trainable
    parameters take part, biases and normalisation included. The forgotten label's own output row always
    qualifies against retain, since nothing retained needs it, and becomes 0.

    Differs from the paper: importance is split by label column, not by image, since every image carries
    every label; its reference, all of the data, would contain the forgotten label (``full`` takes that);
    the labels' losses differ in scale, so both importances are divided by their means; and the paper's code
    squares the gradients of batch means, which is another quantity. As printed: ``--reference full
    --no-normalise``. For classes, I_F reads a class by its log-odds against all others.

    Args:
        alpha: How much more a weight must matter to the forgotten label, > 0. Larger touches fewer weights.
        lam: Dampening, > 0. Smaller shrinks more.
        reference: Whose importance counts against the label's: retain, the retained columns, or full, all.
        normalise: Divide both importances by their mean over all weights.
        exact: Per-sample squares one by one instead of by random signs; slow.

    References:
        Foster, Schoepf and Brintrup, Fast Machine Unlearning Without Retraining Through Selective Synaptic
        Dampening, AAAI 2024.
    """
    in_range("alpha", alpha, 0, above=True)
    in_range("lam", lam, 0, above=True)
    score = Importance(reference, normalise, exact)
    return Pipeline(score=score, select=Below(1 / alpha), edit=(Dampen(lam),), passes=1.0)


@dataclass(frozen=True)
class Importance:
    """I_R / I_F of every trainable parameter: low where a weight serves the forgotten label alone.

    A weight that does not serve the forgotten label, used or dead, gets the largest number there is.

    Args:
        reference, normalise, exact: See `ssd`.
    """

    reference: Reference
    normalise: bool
    exact: bool

    def __call__(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Named:
        forget = forget_part(data, request)
        other = (retain_part if self.reference == "retain" else whole_part)(data, request)
        label, others = Task(request.columns, data.exclusive, alone=True), Task(other.columns, data.exclusive)
        wanted = [
            (forget.data, Moment(label.loss, square=True)),
            (other.data, Moment(others.loss, square=True)),
        ]
        forgotten, against = measured(model, run, wanted, exact=self.exact)
        for whose, importance in (("forgotten", forgotten), ("reference", against)):
            total = sum(float(value.sum()) for value in importance.values())
            if not (isfinite(total) and total > 0):
                raise EmptySelection(
                    f"the importances to the {whose} labels sum to {total}; expected gradients that are"
                    " finite and not 0 everywhere: is the model trained?"
                )
        if self.normalise:
            forgotten, against = unit_mean(forgotten), unit_mean(against)
        return {name: quotient(against[name], value) for name, value in forgotten.items()}


def quotient(above: Tensor, below: Tensor) -> Tensor:
    """A ratio of importances, finite: where the denominator is 0, the largest number there is.

    >>> quotient(torch.tensor([1.0, 0.0, 0.0]), torch.tensor([2.0, 2.0, 0.0])) < 1
    tensor([ True,  True, False])
    """
    most = torch.finfo(below.dtype).max
    return torch.where(below > 0, above / torch.where(below > 0, below, 1.0), most).clamp(max=most)


@dataclass(frozen=True)
class Below:
    """Band 1 is every weight whose score is below a limit.

    >>> Below(0.1)(nn.Identity(), {"w": torch.tensor([0.05, 0.1])})["w"].tolist()
    [1, 0]
    """

    limit: float

    def __call__(self, model: nn.Module, scores: Named) -> Bands:
        return {name: (score < self.limit).to(torch.int8) for name, score in scores.items()}


@dataclass(frozen=True)
class Dampen:
    r"""Multiplies weights by :math:`\min(\lambda s, 1)` of their score s.

    >>> Dampen(2.0)(torch.ones(3), torch.tensor([0.0, 0.1, 0.9]), torch.Generator()).tolist()
    [0.0, 0.20000000298023224, 1.0]
    """

    lam: float

    def __call__(self, weight: Tensor, score: Tensor, rng: torch.Generator) -> Tensor:
        return weight * (self.lam * score).clamp(max=1.0).to(weight)
