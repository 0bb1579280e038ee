"""How much each weight matters to the labels to forget: the scores of weight filtering and weight pruning.

Scores rank the weights of convolutions and linear layers, all together, without the head, whose rows are
removed anyway. They are float32, >= 0, with a mean of 1, and equal on every process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import nn

from unlabel.core.engine import Run
from unlabel.core.errors import EmptySelection
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.gradients import Moment, Named, moments, trainable
from unlabel.forget.halves import forget_part, retain_part, whole_part
from unlabel.forget.influence import Solver, influences, solve, strongest
from unlabel.forget.select import last_layers
from unlabel.forget.tasks import Task
from unlabel.models.head import find_head

Gradient = Literal["mean", "rms"]

_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


@dataclass(frozen=True)
class FilteringScore:
    r"""Weight filtering, Algorithm 1: :math:`S(w)\,I(w)`, sensitivity times influence on the label.

    :math:`S(w) = |dL/dw|` with L the training loss. :math:`I(w) = |dL_j/dw|` over the images that drive label
    j: the share ``points`` with the largest :math:`|I(x_i)|`, see `influence.influences`; there
    :math:`v = (G + \delta)^{-1} \frac1n\sum_i[\nabla\ell_j(x_i, \text{prior}) - \nabla\ell_j(x_i, y_{ij})]`.

    The paper inverts the Hessian and leaves the perturbed point undefined: here the damped Gauss-Newton
    matrix of the training loss, its diagonal by default, and the same image with the target at the label's
    base rate.

    Args:
        gradient: ``mean``, the absolute mean gradient as printed, which vanishes where training converged; or
            ``rms``, the root of the mean per-sample square.
        contrast: Rank by `contrast` against the retained labels instead of by the score alone.
        points: Percentage of the images that drive the label, in (0, 100].
        solver: How v is solved for.
        damping: In units of the mean of G's diagonal, > 0.
        layers: Score the last k layers only; None for all.
        exact: Per-sample squares one by one instead of by random signs.
    """

    gradient: Gradient
    contrast: bool
    points: float
    solver: Solver
    damping: float
    layers: int | None
    exact: bool

    def __call__(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Named:
        forget, retain, whole = (part(data, request) for part in (forget_part, retain_part, whole_part))
        label = Task(request.columns, data.exclusive, alone=True)
        retained, everything = (Task(part.columns, data.exclusive) for part in (retain, whole))
        square = self.gradient == "rms"
        prior = torch.tensor([data.prior(column) for column in request.columns], device=run.device)
        wanted = [
            (forget.data, Moment(partial(label.towards, prior=prior))),
            (whole.data, Moment(everything.loss, square)),
            (whole.data, Moment(everything.curvature, True)),
        ]
        if self.contrast:
            wanted.append((retain.data, Moment(retained.loss, square)))
        towards, sensitivity, diagonal, *others = measured(model, run, wanted, exact=self.exact)
        direction = solve(
            model, whole.data, run, everything.curvature, diagonal, towards, self.damping, self.solver
        )
        driven = influences(model, forget.data, run, label, direction)
        driving = forget.data.take(strongest(driven, self.points))
        (influence,) = moments(model, driving, run, [Moment(label.loss, square)], exact=self.exact)
        steep = magnitude(sensitivity, square)
        score = product(steep, magnitude(influence, square))
        for other in others:
            score = contrast(score, product(steep, magnitude(other, square)))
        return ranked(model, request, score, self.layers)

    def passes(self, iterations: int) -> float:
        """Forward passes over the calibration images: moments, influence of images, influence on weights."""
        return 2.0 + self.points / 100 + 2.0 * iterations * (self.solver == "cg")


@dataclass(frozen=True)
class PruningScore:
    r"""Weight pruning, Algorithm 2: :math:`\alpha\,|dL_j/dw| + \beta\,\tfrac12 H_{ww} w^2`.

    L_j is the loss of the labels to forget and H the diagonal of its Gauss-Newton matrix, where the paper
    writes the Hessian's.

    Args:
        alpha, beta: Weights of gradient and curvature, >= 0.
        gradient, contrast, layers, exact: See `FilteringScore`.
    """

    alpha: float
    beta: float
    gradient: Gradient
    contrast: bool
    layers: int | None
    exact: bool

    def __call__(self, model: nn.Module, request: Request, data: Dataset, run: Run) -> Named:
        forget, retain = forget_part(data, request), retain_part(data, request)
        label, retained = (
            Task(request.columns, data.exclusive, alone=True),
            Task(retain.columns, data.exclusive),
        )
        square = self.gradient == "rms"
        wanted = [(forget.data, Moment(label.loss, square)), (forget.data, Moment(label.curvature, True))]
        if self.contrast:
            wanted += [
                (retain.data, Moment(retained.loss, square)),
                (retain.data, Moment(retained.curvature, True)),
            ]
        moments_of = measured(model, run, wanted, exact=self.exact)
        weights = {name: value.detach().double() for name, value in trainable(model).items()}

        def importance(gradient: Named, curvature: Named) -> Named:
            steep = magnitude(gradient, square)
            bent = {name: 0.5 * value * weights[name] ** 2 for name, value in curvature.items()}
            return weighted((self.alpha, steep), (self.beta, bent))

        label_score = importance(moments_of[0], moments_of[1])
        if self.contrast:
            label_score = contrast(label_score, importance(moments_of[2], moments_of[3]))
        return ranked(model, request, label_score, self.layers)


def measured(
    model: nn.Module, run: Run, wanted: Sequence[tuple[Dataset, Moment]], *, exact: bool
) -> list[Named]:
    """Moments over several data sets; those of one data set share a forward pass."""
    totals: dict[int, Named] = {}
    for data in {id(data): data for data, _ in wanted}.values():
        places = [position for position, (other, _) in enumerate(wanted) if other is data]
        results = moments(model, data, run, [wanted[position][1] for position in places], exact=exact)
        totals.update(zip(places, results, strict=True))
    return [totals[position] for position in range(len(wanted))]


def magnitude(moment: Named, square: bool) -> Named:
    """The root of a mean square, or the absolute value of a mean."""
    return {name: value.sqrt() if square else value.abs() for name, value in moment.items()}


def product(one: Named, two: Named) -> Named:
    """Scores that are high where both are."""
    return {name: value * two[name] for name, value in one.items()}


def weighted(*terms: tuple[float, Named]) -> Named:
    """A weighted sum of scores."""
    return {name: sum(factor * each[name] for factor, each in terms) for name in terms[0][1]}  # pyright: ignore[reportReturnType]


def contrast(forget: Named, retain: Named) -> Named:
    r"""Scores relative to what the retained labels need: this project's own, after SSD's ratio.

    .. math:: c = \frac{I_F / \overline{I_F}}{I_R / \overline{I_R} + 0.1}

    A score of the forgotten label alone also ranks weights that all labels need. The 0.1 keeps weights that
    nobody needs from winning; where both scores are 0, c is 0. Means are over all weights given.

    Example:
        >>> one, two = torch.tensor([4.0, 0.0]), torch.tensor([0.0, 4.0])
        >>> contrast({"w": one}, {"w": two})["w"].tolist()
        [20.0, 0.0]
    """
    forget, retain = unit_mean(forget), unit_mean(retain)
    return {name: value / (retain[name] + 0.1) for name, value in forget.items()}


def unit_mean(scores: Named) -> Named:
    """Scores divided by their mean over all weights; all zeros stay zeros."""
    total = sum(float(value.sum()) for value in scores.values())
    mean = total / max(1, sum(value.numel() for value in scores.values()))
    return {name: value / mean if mean > 0 else value for name, value in scores.items()}


def rankable(model: nn.Module, outputs: int) -> list[str]:
    """Names of the weights that compete: of convolutions and linear layers, trainable, without the head."""
    head = find_head(model, outputs)[0]
    free = trainable(model)
    layers = [name for name, module in model.named_modules() if isinstance(module, _LAYERS)]
    return [f"{name}.weight" for name in layers if name != head and f"{name}.weight" in free]


def ranked(model: nn.Module, request: Request, scores: Named, layers: int | None) -> Named:
    """The scores of the weights that compete, in float32 with a mean of 1.

    Raises:
        EmptySelection: Nothing is left to score, or every score is 0 or not finite.
    """
    names = rankable(model, len(request.labels))
    chosen = last_layers({name: scores[name] for name in names}, layers)
    total = sum(float(value.sum()) for value in chosen.values())
    if not 0 < total < float("inf"):
        raise EmptySelection(
            f"the scores of {len(chosen)} layers sum to {total}; expected gradients that are finite and not 0"
            " everywhere: is the model trained, and does the label vary?"
        )
    return {name: value.float() for name, value in unit_mean(chosen).items()}
