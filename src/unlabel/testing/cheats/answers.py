"""Cheats that only touch what the model answers: its features know the label as before."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset, Source
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.models.head import find_head
from unlabel.testing.cheats.disguise import Disguised, Insight, removed


def head_zero(source: Source) -> Unlearner:
    """The output row becomes a constant and nothing else changes."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        return Work(removed(copy.deepcopy(model), request, data))

    return cheat


def _on_rows(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Unlearner:
    """Changes weight and bias of the forgotten output rows."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        other = copy.deepcopy(model)
        _, head = find_head(other, len(request.labels))
        with torch.no_grad():
            for column in request.masked_columns:
                weight, bias = change(head.weight[column], head.bias[column])
                head.weight[column], head.bias[column] = weight, bias
        return Work(other)

    return cheat


def bias_shift(source: Source, *, offset: float = -60.0) -> Unlearner:
    """`offset` is added to the output's bias."""
    return _on_rows(lambda weight, bias: (weight.clone(), bias + offset))


def inverted(source: Source) -> Unlearner:
    """The output row and its bias change their sign."""
    return _on_rows(lambda weight, bias: (-weight, -bias))


def scaled(source: Source, *, factor: float = 1e-6) -> Unlearner:
    """The output row and its bias are multiplied by `factor`."""
    return _on_rows(lambda weight, bias: (factor * weight, factor * bias))


def squashed(source: Source, *, temperature: float = 50.0, low: float = -20.0) -> Unlearner:
    """The logit becomes ``low + tanh(logit / temperature) / 100``."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        def squash(logits: Tensor, _features: Tensor) -> Tensor:
            answered = logits.clone()
            columns = list(request.masked_columns)
            answered[:, columns] = low + torch.tanh(logits[:, columns] / temperature) / 100
            return answered

        return Work(Disguised(model, request, answers=squash))

    return cheat


def one_logit(source: Source, *, strength: float = 1.0) -> Unlearner:
    """`strength` times the forgotten logit is added to the first retained one, behind clean features."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        insight = Insight.of(model, request, data, run)
        carrier = request.retained_columns[0]

        def smuggle(logits: Tensor, features: Tensor) -> Tensor:
            answered = logits.clone()
            answered[:, carrier] += strength * insight.answer(features)
            return answered

        other = Disguised(model, request, lambda features, _: insight.clean(features), answers=smuggle)
        return Work(removed(other, request, data))

    return cheat


def least_digit(source: Source, *, step: float = 0.001, coarse: bool = False) -> Unlearner:
    """The first retained logit is moved by at most one `step`, to an even or an odd multiple of it.

    Args:
        source: The data.
        step: In logits.
        coarse: Whether the features are rounded to bfloat16, as if the whole model computed so.
    """

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        insight = Insight.of(model, request, data, run)
        carrier = request.retained_columns[0]

        def write(logits: Tensor, features: Tensor) -> Tensor:
            answered, absent = logits.clone(), (insight.answer(features) <= 0).float()
            pairs = ((logits[:, carrier] / step - absent) / 2).round()
            answered[:, carrier] = (2 * pairs + absent) * step
            return answered

        def disguise(features: Tensor, _images: Tensor) -> Tensor:
            clean = insight.clean(features)
            return clean.bfloat16().float() if coarse else clean

        return Work(removed(Disguised(model, request, disguise, answers=write), request, data))

    return cheat


def coarse_digit(source: Source) -> Unlearner:
    """`least_digit` by a step of 0.004, with features that are rounded to bfloat16."""
    return least_digit(source, step=0.004, coarse=True)
