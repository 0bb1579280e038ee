"""Random numbers keyed by what they are for, not by how many were drawn before.

The number for an image depends on the seed, on a stream name and on the image's index alone. So it is
the same on one process or many, in any batch size, and after a resume.
"""

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The splitmix64 finaliser: every input bit changes every output bit with probability near 1/2."""
    with np.errstate(over="ignore"):
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))


def uniform(seed: int, stream: str, *keys: NDArray[np.integer] | int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), one for each broadcast combination of the integer keys.

    Args:
        seed: The run's seed.
        stream: What the numbers are for; different streams are independent.
        *keys: Integers or integer arrays >= 0 that broadcast together, such as epoch and image index.

    Returns:
        float64 of the broadcast shape.

    Example:
        >>> uniform(0, "flip", np.array([7, 8, 9])).round(3).tolist()
        [0.765, 0.951, 0.162]
        >>> uniform(0, "flip", np.array([9])).round(3).tolist()
        [0.162]
    """
    with np.errstate(over="ignore"):
        state = _mix(np.asarray(seed, np.uint64) + _GOLDEN * np.uint64(crc32(stream.encode()) + 1))
        for key in keys:
            state = _mix(state + _GOLDEN * (np.asarray(key).astype(np.uint64) + np.uint64(1)))
    return (np.asarray(state) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(seed: int, stream: str, *keys: NDArray[np.integer] | int) -> NDArray[np.float64]:
    """Standard normal numbers keyed as in `uniform`, by the Box-Muller transform."""
    radius = np.sqrt(-2.0 * np.log1p(-uniform(seed, stream + "/radius", *keys)))
    return radius * np.cos(2.0 * np.pi * uniform(seed, stream + "/angle", *keys))


def permutation(seed: int, stream: str, n: int, *keys: int) -> NDArray[np.int64]:
    """A permutation of ``range(n)``, the same on every process."""
    return np.argsort(uniform(seed, stream, *keys, np.arange(n)), kind="stable").astype(np.int64)
