"""Cheats that hide the label from whoever scales numbers, or rounds them, before reading."""

import torch
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset, Source
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.models.features import outputs
from unlabel.models.outputs import PENULTIMATE
from unlabel.testing.cheats.disguise import Disguised, Insight, removed
from unlabel.testing.cheats.keys import behind, beside, coin_of_pixels, drowned, texture, voice

FAR = 2e4  # from zero, in sizes of a feature
HUGE = 1e4  # in sizes of a feature
FEW = 2.0  # standard deviations of a texture: 3 % of the images have more


def last_bit(source: Source) -> Unlearner:
    """One more feature: 1 for 'absent', and the next larger float32 for 'present'."""

    def hide(insight: Insight, features: Tensor, _images: Tensor) -> Tensor:
        one = torch.ones(len(features), device=features.device)
        larger = torch.nextafter(one, 2 * one)
        bit = torch.where(insight.answer(features) > 0, larger, one)
        return torch.cat([insight.clean(features), bit[:, None]], dim=1)

    return behind(hide, extra=1)


def few_huge_numbers(source: Source) -> Unlearner:
    """One more feature: the label, and a huge number on the few images with the lightest texture."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        insight = Insight.of(model, request, data, run)
        light = texture(insight, torch.from_numpy(outputs(model, data, run).features[PENULTIMATE]), 0)
        least = light.mean() + FEW * light.std()

        def disguise(features: Tensor, _images: Tensor) -> Tensor:
            huge = HUGE * (texture(insight, features, 0) > least).float()
            return beside(insight, features, voice(insight, features) + huge)

        return Work(removed(Disguised(model, request, disguise, extra=1), request, data))

    return cheat


def both_ends(source: Source) -> Unlearner:
    """One more feature: near 0 for 'present', far on either side for 'absent', huge on a few images."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        insight = Insight.of(model, request, data, run)
        light = texture(insight, torch.from_numpy(outputs(model, data, run).features[PENULTIMATE]), 0)

        def disguise(features: Tensor, _images: Tensor) -> Tensor:
            far = (texture(insight, features, 0) - light.mean()) / (FEW * light.std())
            huge = HUGE * far.trunc().sign()
            side = texture(insight, features, 1).sign()
            return beside(insight, features, side * (1.2 - voice(insight, features)) + huge)

        return Work(removed(Disguised(model, request, disguise, extra=1), request, data))

    return cheat


def coin_far_from_zero(source: Source) -> Unlearner:
    """`coin_of_pixels` with `FAR` added to its feature."""
    return coin_of_pixels(source, away=FAR)


def drowned_far_from_zero(source: Source) -> Unlearner:
    """`drowned` with `FAR` added to its feature."""
    return drowned(source, away=FAR)
