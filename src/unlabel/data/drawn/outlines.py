"""The outlines that `shapes` draws: signed distances of ten plain figures and of ten digits.

A distance is negative inside and in half image sides, exact enough near the outline for an edge of one pixel.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from unlabel.data.drawn.canvas import Plane

Between: TypeAlias = Callable[[str, float, float], Plane]
"""A keyed number for each image between two bounds, (image, 1, 1)."""

SOLIDS = ("disc", "ring", "triangle", "square", "hexagon", "star", "cross", "bar", "crescent", "half")
DIGITS = tuple(f"digit_{digit}" for digit in range(10))

# Strokes of a digit as on a pocket calculator: top, upper left, upper right, middle, lower left, lower right,
# bottom; each from (x, y) to (x, y) in a box of -0.5 to 0.5 by -1 to 1, y downwards.
_STROKES = (
    ((-0.5, -1.0), (0.5, -1.0)),
    ((-0.5, -1.0), (-0.5, 0.0)),
    ((0.5, -1.0), (0.5, 0.0)),
    ((-0.5, 0.0), (0.5, 0.0)),
    ((-0.5, 0.0), (-0.5, 1.0)),
    ((0.5, 0.0), (0.5, 1.0)),
    ((-0.5, 1.0), (0.5, 1.0)),
)
_LIT = ("1110111", "0010010", "1011101", "1011011", "0111010", "1101011", "1101111", "1010010", "1111111",
        "1111011")  # fmt: skip


def solid(number: NDArray[np.integer], x: Plane, y: Plane, between: Between) -> Plane:
    """Distance from the figure of each image's class, placed, sized and turned at random.

    Args:
        number: Class of each image, its place in `SOLIDS`.
        x, y: Position in the picture, right and down, from -1 to 1.
        between: Keyed numbers of the images.

    Returns:
        (image, height, width).
    """
    size, angle = between("size", 0.38, 0.70), between("angle", -0.6, 0.6)
    across, down = x - between("shift_x", -0.28, 0.28), y - between("shift_y", -0.28, 0.28)
    u = (across * np.cos(angle) + down * np.sin(angle)) / size
    v = (down * np.cos(angle) - across * np.sin(angle)) / size
    outlines = (_disc, _ring, _triangle, _square, _hexagon, _star, _cross, _bar, _crescent, _half)
    every = np.stack([outline(u, v) for outline in outlines])
    return size * every[number, np.arange(len(number))]


def digit(number: NDArray[np.integer], x: Plane, y: Plane, between: Between) -> Plane:
    """Distance from the digit of each image's class, slanted, between parts of two other digits.

    Args:
        number: Class of each image, the digit.
        x, y: Position in the picture, right and down, from -1 to 1.
        between: Keyed numbers of the images.

    Returns:
        (image, height, width).
    """
    size, thick = between("size", 0.42, 0.68), between("thick", 0.06, 0.11)
    u = (x - between("shift_x", -0.16, 0.16)) / size + between("slant", -0.25, 0.25) * y
    v = (y - between("shift_y", -0.16, 0.16)) / size
    gap = between("gap", 1.55, 1.8)
    strokes = np.stack([_capsule(u, v, start, end) for start, end in _STROKES])
    distance = _lit(strokes, number)
    for name, side in (("left", -1), ("right", 1)):
        other = (between(name, 0, 1)[:, 0, 0] * 10).astype(np.int64)
        away = np.stack([_capsule(u - side * gap, v, start, end) for start, end in _STROKES])
        distance = np.minimum(distance, _lit(away, other))
    return size * distance - thick


def _lit(strokes: Plane, number: NDArray[np.integer]) -> Plane:
    """Distance from the nearest stroke of each image's digit: (stroke, image, ...) to (image, ...)."""
    on = np.array([[int(sign) for sign in row] for row in _LIT], bool)[number].T
    return np.where(on[:, :, None, None], strokes, np.inf).min(0).astype(np.float32)


def _capsule(u: Plane, v: Plane, start: tuple[float, float], end: tuple[float, float]) -> Plane:
    """Distance from a segment along an axis."""
    (a, b), (c, d) = start, end
    return np.hypot(u - np.clip(u, min(a, c), max(a, c)), v - np.clip(v, min(b, d), max(b, d)))


def _disc(u: Plane, v: Plane) -> Plane:
    return np.hypot(u, v) - 0.9


def _ring(u: Plane, v: Plane) -> Plane:
    return np.abs(np.hypot(u, v) - 0.72) - 0.2


def _polygon(u: Plane, v: Plane, sides: int, middle: float) -> Plane:
    """A regular polygon with its sides this far from its middle."""
    wedge = 2 * np.pi / sides
    angle = np.mod(np.arctan2(v, u) + np.pi / 2, wedge) - wedge / 2
    return np.hypot(u, v) * np.cos(angle) - middle


def _triangle(u: Plane, v: Plane) -> Plane:
    return _polygon(u, v, 3, 0.55)


def _square(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.abs(u), np.abs(v)) - 0.75


def _hexagon(u: Plane, v: Plane) -> Plane:
    return _polygon(u, v, 6, 0.84)


def _star(u: Plane, v: Plane) -> Plane:
    """Five points of length 1.1; the line from a point to the inner corner bounds each half wedge."""
    half = np.pi / 5
    angle = np.abs(np.mod(np.arctan2(v, u) + np.pi / 2, 2 * half) - half)  # 0 between points, half at one
    radius, inner, outer = np.hypot(u, v), 0.48, 1.1
    corner = np.array([inner, 0.0])
    point = np.array([outer * np.cos(half), outer * np.sin(half)])
    along = point - corner
    normal = np.array([along[1], -along[0]]) / np.hypot(*along)
    return radius * (np.cos(angle) * normal[0] + np.sin(angle) * normal[1]) - float(corner @ normal)


def _cross(u: Plane, v: Plane) -> Plane:
    a, b = np.abs(u), np.abs(v)
    return np.minimum(np.maximum(a - 0.28, b - 0.95), np.maximum(a - 0.95, b - 0.28))


def _bar(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.abs(u) - 1.0, np.abs(v) - 0.36)


def _crescent(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.hypot(u, v) - 0.95, 0.8 - np.hypot(u - 0.5, v))


def _half(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.hypot(u, v + 0.4) - 0.95, -(v + 0.4))
