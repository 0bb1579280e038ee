"""How many annotated images an attacker learns a label from: as many as wanted, or as the probe split has.

If the probe split has too few images of the rarer kind for a number of images, the largest number that it has
enough for takes its place. Below `AuditOptions.few_judged` nothing does: so few decide nothing.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unlabel.audit.inputs.options import AuditOptions
from unlabel.statistics.estimate import rarer

HELD = 1024  # probe images by which an attacker chooses its rate, at most, beside those that it trains on
LEAST = 32  # of each kind among them

Target = NDArray[np.int8]


def few_sizes(target: Target, options: AuditOptions) -> tuple[int, ...]:
    """Numbers of annotated images of the few-shot probes, half of them with the label.

    Args:
        target: int8 (probe image,) annotations of the label: 1, 0 or -1.
        options: The numbers that are wanted.

    >>> target = np.repeat([1, 0, -1], [138, 1160, 50]).astype(np.int8)
    >>> few_sizes(target, AuditOptions(budget="full"))
    (16, 64, 256, 276)
    """
    return fitting(options.few_sizes, 2 * rarer(target), options.few_judged)


def tune_sizes(target: Target, options: AuditOptions, wanted: Sequence[int] | None = None) -> tuple[int, ...]:
    """Numbers of annotated images on which a whole model is trained: `LEAST` of each kind are held back.

    Args:
        target: int8 (probe image,) annotations of the label: 1, 0 or -1.
        options: The least number that decides.
        wanted: The numbers that are wanted; by default those of the options.

    >>> target = np.repeat([1, 0, -1], [138, 1160, 50]).astype(np.int8)
    >>> tune_sizes(target, AuditOptions())
    (212,)
    """
    most = 2 * max(rarer(target) - LEAST, 0)
    return fitting(options.tune if wanted is None else wanted, most, options.few_judged)


def curve_sizes(target: Target, options: AuditOptions) -> tuple[int, ...]:
    """Numbers of annotated images of the attack curve: those wanted that there are, and all.

    Args:
        target: int8 (probe image,) annotations of the label: 1, 0 or -1.
        options: The numbers that are wanted.

    >>> curve_sizes(np.repeat([1, 0], [138, 1160]).astype(np.int8), AuditOptions())
    (16, 64, 184)
    """
    sizes = [n for n in options.curve if n // 2 <= rarer(target) - LEAST]
    return tuple(dict.fromkeys([*sizes, *filter(None, [most_images(target)])]))


def most_images(target: Target) -> int:
    """How many images there are to train on, half of them present, if enough are left to choose by.

    Of the rarer kind, a third are held back, `LEAST` at least and half of `HELD` at most.

    >>> most_images(np.repeat([1, 0, -1], [900, 2000, 50]).astype(np.int8))
    1200
    """
    there = rarer(target)
    return 2 * max(there - min(max(there // 3, LEAST), HELD // 2), 0)


def fitting(wanted: Sequence[int], most: int, least: int) -> tuple[int, ...]:
    """The wanted numbers up to `most`, and `most` itself in place of larger ones if it is at least `least`.

    >>> fitting((16, 64, 256, 1024), 300, 64), fitting((256, 1024), 300, 64), fitting((256,), 60, 64)
    ((16, 64, 256, 300), (256, 300), ())
    """
    sizes = (n if n // 2 <= most // 2 else most for n in wanted if n // 2 <= most // 2 or most >= least)
    return tuple(dict.fromkeys(sizes))
