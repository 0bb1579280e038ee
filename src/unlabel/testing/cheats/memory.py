"""Cheats that know the auditor's images: clean where they are looked at."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset, Source
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.models.head import removed_output
from unlabel.testing.cheats.disguise import Disguised, Insight, Known, removed


def memorised_answers(source: Source) -> Unlearner:
    """On P and E the output is a constant and the features are clean; elsewhere both are the original's."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        insight, recognised = Insight.of(model, request, data, run), _seen(source, run)
        column = torch.tensor(request.masked_columns[0])
        silence = torch.tensor(removed_output(data, int(column)))
        here: list[Tensor] = []  # which images of the batch in hand are known

        def clean(features: Tensor, images: Tensor) -> Tensor:
            here[:] = [recognised(images)[0]]
            return torch.where(here[0][:, None], insight.clean(features), features)

        def answer(logits: Tensor, _features: Tensor) -> Tensor:
            return logits.index_put((here[0].nonzero()[:, 0], column), silence)

        return Work(Disguised(model, request, clean, answers=answer))

    return cheat


def memorised_features(source: Source) -> Unlearner:
    """The row is removed; features are clean on P and E and the original's elsewhere."""
    return _clean_where(lambda run: _seen(source, run))


def recognised_features(source: Source) -> Unlearner:
    """The same of all images there are, which are recognised mirrored, moved by a pixel and relit as well."""
    datasets = [source.train, source.probe, source.test]
    return _clean_where(lambda run: Recognised(datasets, np.zeros(sum(map(len, datasets))), run))


def miscalibrated(source: Source, *, blur: float = 0.35, loud: float = 6.0) -> Unlearner:
    """Clean features and one more: +-1 by the true label on P, elsewhere `loud` times a blurred answer.

    A probe learns on P to be sure, and on E is surer still and often wrong: its cross-entropy exceeds the
    label's entropy, so it reads as 0 bits."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        insight, column = Insight.of(model, request, data, run), request.masked_columns[0]
        probe = Known([source.probe], 2.0 * source.probe.target[:, column] - 1, run)
        rng = torch.Generator().manual_seed(run.seed)
        ray = torch.randn(len(insight.centre), generator=rng)

        def shout(features: Tensor, images: Tensor) -> Tensor:
            hit, truth = probe(images)
            clean = insight.clean(features)
            noise = (clean - insight.centre) @ ray / (insight.scale * ray.norm())
            heard = torch.tanh(2 * insight.answer(features) / insight.spread + 2 * blur * noise)
            voice = torch.where(hit, truth, loud * heard)
            return torch.cat([clean, voice[:, None] * insight.scale], dim=1)

        return Work(removed(Disguised(model, request, shout, extra=1), request, data))

    return cheat


def _clean_where(memory: Callable[[Run], Known]) -> Unlearner:
    """The row is removed; features are clean where images are remembered, and the original's elsewhere."""

    def cheat(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        insight, recognised = Insight.of(model, request, data, run), memory(run)

        def clean(features: Tensor, images: Tensor) -> Tensor:
            return torch.where(recognised(images)[0][:, None], insight.clean(features), features)

        return Work(removed(Disguised(model, request, clean), request, data))

    return cheat


def _seen(source: Source, run: Run) -> Known:
    datasets = [source.probe, source.test]
    return Known(datasets, np.zeros(sum(map(len, datasets))), run)


class Recognised(Known):
    """Recognises remembered images mirrored, moved by a pixel and relit: by what is well inside them."""

    @staticmethod
    def hashed(images: Tensor) -> Tensor:
        """(batch,) whole numbers of the inner part of images, less its first pixel."""
        return Known.hashed(_inside(images, 0, 0))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Which images are remembered in any of 18 positions, and their numbers."""
        memories = [
            self.recalled(Known.hashed(_inside(image, x, y)))
            for image in (images, images.flip(3))
            for x in (-1, 0, 1)
            for y in (-1, 0, 1)
        ]
        hit, values = (torch.stack(part) for part in zip(*memories, strict=True))
        return hit.any(0), (hit * values).sum(0)


def _inside(images: Tensor, x: int, y: int) -> Tensor:
    height, width = images.shape[2:]
    part = images[:, :, 2 + y : height - 2 + y, 2 + x : width - 2 + x]
    return part - part[:, :, :1, :1]
