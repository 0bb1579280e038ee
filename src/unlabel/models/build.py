"""Networks by name: those that the command line can train, and the user's own."""

from collections.abc import Callable

import torch
from torch import nn

from unlabel.core.errors import OptionError
from unlabel.core.layout import Layout
from unlabel.core.wording import suggest
from unlabel.models.custom import build_custom, is_custom
from unlabel.models.named import build_named
from unlabel.models.named_options import is_named
from unlabel.models.normal_form import normal_form


def small(outputs: int) -> nn.Sequential:
    """A plain convolutional network with 0.27 M weights, for two cores.

    Six 3x3 convolutions, each with BatchNorm and ReLU, take an image to a sixteenth of its side, then the
    mean over positions gives 128 penultimate features and one linear layer gives the logits. 18 M
    multiplications forward at 64 x 64.

    Args:
        outputs: Number of labels.
    """
    widths = [(3, 24, 2), (24, 48, 2), (48, 48, 1), (48, 96, 2), (96, 96, 1), (96, 128, 2)]
    stages = [_stage(*width) for width in widths]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, outputs))


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _resnet(name: str, outputs: int, stem: str) -> nn.Module:
    """A torchvision ResNet with random weights; its small stem keeps the resolution of small images."""
    from torchvision import models  # 1 s to import

    model = getattr(models, name)(weights=None, num_classes=outputs)
    if stem == "small":
        model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = nn.Identity()
    return model


BUILDERS: dict[str, Callable[[int, str], nn.Module]] = {
    "small": lambda outputs, stem: small(outputs),
    "resnet18": lambda outputs, stem: _resnet("resnet18", outputs, stem),
    "resnet50": lambda outputs, stem: _resnet("resnet50", outputs, stem),
}


STEMMED = ("resnet18", "resnet50")
"""Networks whose first layer `build` chooses by ``stem``."""


def build(
    name: str, outputs: int, *, stem: str = "imagenet", seed: int = 0, head: Layout | None = None
) -> nn.Module:
    """Builds a network with seeded random weights; the caller's random state is left alone.

    Args:
        name: ``small``, ``resnet18``, ``resnet50``; ``timm:NAME``, ``torchvision:NAME`` or ``hf:TYPE``, see
            `models.named`; or the user's own ``package.module:function``, which is only imported when the
            user has named it, see `models.custom`.
        outputs: Number of labels, >= 1.
        stem: ``imagenet`` (7x7 stride 2 and pooling, for the ResNets) or ``small`` (3x3, stride 1: four
            to sixteen times the arithmetic, for GPUs and images under 100 pixels). Only for `STEMMED`.
        seed: Key of the initial weights.
        head: Where its outputs are made, if it is to become its normal form; see `models.normal_form`.

    Raises:
        OptionError: No such network or stem.
        ModelError: The user's own network is not trusted, or cannot be made, or has another head.

    Example:
        >>> sum(weight.numel() for weight in build("small", 10).parameters())
        268930
    """
    if name not in BUILDERS and not is_custom(name) and not is_named(name):
        raise OptionError(
            f"no network '{name}'; expected one of {', '.join(BUILDERS)}, timm:NAME, torchvision:NAME, hf:DIR"
            f" or package.module:function.{suggest(name, BUILDERS)}"
        )
    if stem not in ("imagenet", "small"):
        raise OptionError(f"no stem '{stem}'; expected imagenet or small")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return normal_form(_network(name, outputs, stem), head)


def _network(name: str, outputs: int, stem: str) -> nn.Module:
    if name in BUILDERS:
        return BUILDERS[name](outputs, stem)
    return build_named(name, outputs) if is_named(name) else build_custom(name, outputs)
