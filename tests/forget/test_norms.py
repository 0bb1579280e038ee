"""Norms whose statistics a backward pass holds constant."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from unlabel.forget.norms import ConstantNorms

SHAPE = (4, 6, 5, 5)


def channels_last(x: Tensor) -> Tensor:
    """As timm and torchvision normalise the channels of pictures: by the function, not the module."""
    return functional.layer_norm(x.permute(0, 2, 3, 1), (6,)).permute(0, 3, 1, 2)


NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "LayerNorm": nn.LayerNorm([6, 5, 5]),
    "LayerNorm of one axis": nn.LayerNorm(5, elementwise_affine=False),
    "layer_norm": channels_last,
    "torch.layer_norm": lambda x: torch.layer_norm(x, (5,)),
    "GroupNorm": nn.GroupNorm(3, 6),
    "group_norm": lambda x: functional.group_norm(x, 2),
    "RMSNorm": nn.RMSNorm(5),
    "rms_norm": lambda x: functional.rms_norm(x, (5,), eps=1e-3),
    "InstanceNorm": nn.InstanceNorm2d(6, affine=True),
}


@pytest.mark.parametrize("name", NORMS)
def test_the_values_are_torchs_and_the_slopes_those_of_a_constant_scale(name: str) -> None:
    norm = NORMS[name]
    rng = torch.Generator().manual_seed(0)
    if isinstance(norm, nn.Module):
        for parameter in norm.parameters():
            nn.init.normal_(parameter, 1.0, 0.3, generator=rng)
    x = (2.0 * torch.randn(SHAPE, generator=rng) + 1.0).requires_grad_()
    plain = norm(x)
    with ConstantNorms():
        steady = norm(x)
    torch.testing.assert_close(steady, plain, rtol=1e-5, atol=1e-5)
    step = torch.randn(SHAPE, generator=rng)
    with ConstantNorms():
        (held,) = torch.autograd.grad(norm(x), x, step)
        (scale,) = torch.autograd.grad(norm(x), x, torch.ones_like(step))
    (free,) = torch.autograd.grad(norm(x), x, step)
    torch.testing.assert_close(held, scale * step)  # what goes out at a place came in at that place
    assert not torch.allclose(free, held, rtol=1e-2)


def test_running_statistics_are_left_to_torch() -> None:
    norm = nn.InstanceNorm2d(6, track_running_stats=True).eval()
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    with ConstantNorms():
        found = norm(x)
    assert torch.equal(found, norm(x))
