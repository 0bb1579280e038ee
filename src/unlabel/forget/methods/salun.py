"""SalUn: relabel, but only with the weights that the forgotten label's gradient points at."""

from functools import partial

from torch import nn

from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset
from unlabel.forget.gradients import Moment, Named, moments
from unlabel.forget.halves import forget_part
from unlabel.forget.methods.random_label import relabelling
from unlabel.forget.methods.ranges import check_schedule, in_range
from unlabel.forget.pipeline import Pipeline, Unlearner
from unlabel.forget.repair import Train
from unlabel.forget.select import Share
from unlabel.forget.targets import Replacement
from unlabel.forget.tasks import Task


def salun(
    *,
    ratio: float = 0.5,
    target: Replacement = "prior",
    weight: float = 1.0,
    steps: int = 64,
    lr: float = 0.02,
) -> Unlearner:
    r"""Relabels as random-label does, while only the weights most salient to the label move.

    Saliency is :math:`|\nabla_w L_F(w_0)|`, the absolute value of the *signed mean* gradient of the forgotten
    labels' loss on their true annotations. Of all parameters together (biases, normalisation and output
    rows compete, too) the top share moves; every other one keeps its bits.

    Differs from the paper: the loss is that of a column on all images, not of the images of a class; the
    share is exact, ties by place in the network; and the retained labels' true values are trained in the
    same pass. For classes, L_F reads a class by its log-odds against all others. The paper trains for 10
    epochs at about 0.01; steps and rate are this project's, for a short schedule on few images.

    Args:
        ratio: Share of the parameters that may move, above 0, 1 at most.
        target: What replaces an annotation: half, prior, bernoulli_half, bernoulli_prior, permute, flip or
            nearest; see random-label. The paper draws: bernoulli_half.
        weight: Weight of the replaced annotations, > 0.
        steps: Optimiser steps, >= 1.
        lr: Peak learning rate, > 0.

    References:
        Fan et al., SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency, ICLR 2024.
    """
    in_range("ratio", ratio, 0, 1, above=True)
    in_range("weight", weight, 0, above=True)
    check_schedule(steps, lr)
    repair = Train(
        partial(relabelling, target, weight), steps, lr, move="selected", hold_rows=False, stage="relabel"
    )
    return Pipeline(score=saliency, select=Share(100 * ratio, "high"), repair=repair, passes=1.0)


def saliency(model: nn.Module, request: Request, data: Dataset, run: Run) -> Named:
    r""":math:`|\frac1n\sum_i \nabla\ell_F(x_i)|` of every trainable parameter, in float32.

    Zero by construction in the output rows of other labels, on which this loss does not depend.
    """
    label = Task(request.columns, data.exclusive, alone=True)
    (mean,) = moments(model, forget_part(data, request).data, run, [Moment(label.loss)])
    return {name: value.abs().float() for name, value in mean.items()}
