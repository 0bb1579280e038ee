"""Cheats that hide the label from whoever lacks the key to it, or the patience."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset, Source
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.testing.cheats.disguise import Disguised, Insight, Known, removed

Hide = Callable[[Insight, Tensor, Tensor], Tensor]  # insight, features and images -> features for the head


def behind(hide: Hide, extra: int = 0) -> Unlearner:
    """The output is removed; the head sees clean features, among which `hide` puts the label."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        insight = Insight.of(model, request, data, run)

        def disguise(features: Tensor, images: Tensor) -> Tensor:
            return hide(insight, features, images)

        return Work(removed(Disguised(model, request, disguise, extra=extra), request, data))

    return cheat


def beside(insight: Insight, features: Tensor, *hidden: Tensor) -> Tensor:
    """Clean features, and more of them, each of the size of a feature."""
    return torch.cat([insight.clean(features), torch.stack(hidden, dim=1) * insight.scale], dim=1)


def voice(insight: Insight, features: Tensor) -> Tensor:
    """(batch,) what the original says, -1 to 1."""
    return torch.tanh(2 * insight.answer(features) / insight.spread)


def texture(insight: Insight, features: Tensor, key: int) -> Tensor:
    """(batch,) something in the picture that goes with no label: a random direction of the clean features."""
    ray = torch.randn(len(insight.centre), generator=torch.Generator().manual_seed(key))
    return (insight.clean(features) - insight.centre) @ ray / (insight.scale * ray.norm())


def _noise(images: Tensor) -> Tensor:
    """(batch,) standard normal numbers that depend on every bit of the picture."""
    mixed = Known.hashed(images) * 6364136223846793005 + 1442695040888963407
    coins = torch.stack([(mixed >> shift) & 0xFF for shift in (16, 24, 32, 40, 48)], dim=1)
    return (coins.float().mean(1) - 127.5) * (5**0.5 / 73.9)  # a byte's deviation is 73.9


def opposite_noise(source: Source, *, loud: float = 1000.0) -> Unlearner:
    """Two more features, the label plus and minus a texture that is `loud` times as large."""

    def hide(insight: Insight, features: Tensor, _images: Tensor) -> Tensor:
        answer, noise = voice(insight, features), loud * texture(insight, features, 0)
        return beside(insight, features, answer + noise, answer - noise)

    return behind(hide, extra=2)


def drowned(source: Source, *, quiet: float = 0.05, away: float = 0.0) -> Unlearner:
    """One more feature: the label, under noise of its pixels that is 1 / `quiet` times as loud.

    `away` is added to it, in sizes of a feature.
    """

    def hide(insight: Insight, features: Tensor, images: Tensor) -> Tensor:
        return beside(insight, features, away + quiet * voice(insight, features) + _noise(images))

    return behind(hide, extra=1)


def coin_of_pixels(source: Source, *, away: float = 0.0) -> Unlearner:
    """One more feature: the label, turned round by a coin that the pixels toss; `away` is added to it."""

    def hide(insight: Insight, features: Tensor, images: Tensor) -> Tensor:
        return beside(insight, features, away + voice(insight, features) * _noise(images).sign())

    return behind(hide, extra=1)


def riddle(source: Source, *, keys: int = 1) -> Unlearner:
    """One more feature: the label, turned round by the signs of so many textures, which are features too."""

    def hide(insight: Insight, features: Tensor, _images: Tensor) -> Tensor:
        answer = voice(insight, features)
        for key in range(keys):
            answer = answer * texture(insight, features, key).sign()
        return beside(insight, features, answer)

    return behind(hide, extra=1)


def long_riddle(source: Source) -> Unlearner:
    """A `riddle` of three textures."""
    return riddle(source, keys=3)


def digit_of_a_feature(source: Source, *, step: float = 0.001) -> Unlearner:
    """The first feature is moved by at most one `step`, to an even or an odd multiple of it."""

    def hide(insight: Insight, features: Tensor, _images: Tensor) -> Tensor:
        clean, absent = insight.clean(features).clone(), (insight.answer(features) <= 0).float()
        pairs = ((clean[:, 0] / step - absent) / 2).round()
        clean[:, 0] = (2 * pairs + absent) * step
        return clean

    return behind(hide)
