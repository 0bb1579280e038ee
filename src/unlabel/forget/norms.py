"""Normalisations whose mean and spread a backward pass holds constant, as BatchNorm's are in use.

A LayerNorm gives features of a constant sum, whatever goes in: differentiated as it stands, that sum has no
slope in any channel, and a slope that is nearly 0 says nothing of what an edit does. With the mean and the
spread of each image held, each feature has the slope that an edit of its own channel meets. What an edit
changes in the mean and the spread of all channels together is then left out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class ConstantNorms(TorchFunctionMode):
    """While open, layer, group, instance and RMS norms take their statistics as constants.

    Modules and calls of `torch.nn.functional` alike. The values stay those of torch, to rounding.

    Example:
        >>> x = torch.tensor([[1.0, 2.0, 4.0]], requires_grad=True)
        >>> torch.autograd.grad(torch.nn.functional.layer_norm(x, (3,)).sum(), x)[0].abs().max() < 1e-6
        tensor(True)
        >>> with ConstantNorms():
        ...     torch.autograd.grad(torch.nn.functional.layer_norm(x, (3,)).sum(), x)[0].round(decimals=3)
        tensor([[0.8020, 0.8020, 0.8020]])
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _CONSTANT.get(func, func)(*args, **(kwargs or {}))


# torch's names, which callers may use
def _layer_norm(
    input: Tensor,  # noqa: A002
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    return _affine(_standard(input, axes, eps), weight, bias)


def _rms_norm(
    input: Tensor,  # noqa: A002
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    least = torch.finfo(input.dtype).eps if eps is None else eps
    return _affine(input * (input.detach().square().mean(axes, keepdim=True) + least).rsqrt(), weight, None)


def _group_norm(
    input: Tensor,  # noqa: A002
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    normed = _standard(input.reshape(len(input), num_groups, -1), (-1,), eps).view(input.shape)
    channel = (-1, *[1] * (input.dim() - 2))
    return _affine(normed, *(None if each is None else each.view(channel) for each in (weight, bias)))


def _instance_norm(
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return functional.instance_norm(
            input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
        )
    return _group_norm(input, input.shape[1], weight, bias, eps)


def _standard(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    variance, mean = torch.var_mean(x.detach(), axes, correction=0, keepdim=True)
    return (x - mean) * (variance + eps).rsqrt()


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


_CONSTANT: Mapping[Callable[..., Any], Callable[..., Any]] = {
    functional.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    functional.rms_norm: _rms_norm,
    torch.rms_norm: _rms_norm,
    functional.group_norm: _group_norm,
    torch.group_norm: _group_norm,
    functional.instance_norm: _instance_norm,
}
