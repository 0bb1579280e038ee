"""Faces drawn as soft masks over a whole batch at once: no data, no person, 64 x 64 in a millisecond.

A face is painted from back to front. Each part is a signed distance in the head's own frame, made into
coverage by `Canvas.cover` and painted over what lies behind.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from unlabel.core.randomness import uniform
from unlabel.data.drawn.canvas import GRAIN, PERIOD, RIBS, Canvas, hue

VERSION = 3
"""Raise it when any pixel changes: cached pictures of other versions are not read."""

_BATCH = 16  # drawn together, always full: rounding cannot depend on how many pictures were asked for


def draw(
    seed: int,
    index: NDArray[np.integer],
    target: NDArray[np.int8],
    size: int,
    moved: Mapping[str, NDArray[np.floating]] = MappingProxyType({}),
) -> NDArray[np.uint8]:
    """Draws faces, keyed by (seed, index): the same bytes whatever else is drawn with them.

    Args:
        seed: Key of the whole data set, >= 0.
        index: Image numbers >= 0.
        target: 0 or 1, (image, label), for the first columns of `unlabel.data.drawn.joint.LABELS`.
        size: Height and width in pixels, >= 16.
        moved: Cues of `unlabel.data.drawn.cues` by name, and what is added to each face's, (image,).

    Returns:
        uint8 (image, size, size, 3).

    Example:
        >>> draw(0, np.array([5, 6]), np.zeros((2, 10), np.int8), 32).shape
        (2, 32, 32, 3)
    """
    pictures = np.empty((len(index), size, size, 3), np.uint8)
    for start in range(0, len(index), _BATCH):
        rows = np.resize(np.arange(start, min(start + _BATCH, len(index))), _BATCH)
        added = {name: amount[rows] for name, amount in moved.items()}
        canvas = Canvas(seed, index[rows], target[rows], size, added)
        for part in (_background, _hair_behind, _body, _face, _beard, _nose, _mouth, _eyes, _hair_before):
            part(canvas)
        pictures[start : start + _BATCH] = _developed(canvas)[: len(index) - start]
    return pictures


def _background(on: Canvas) -> None:
    v = on.v
    across = on.x * np.cos(v["back_turn"]) + on.y * np.sin(v["back_turn"])
    pattern = v["back_light"] + 0.12 * across + 0.05 * np.sin(across * v["back_fine"])
    for k, colour in enumerate(hue(v["back_hue"], pattern, 0.10)):
        on.image[:, k] = colour


def _hair_behind(on: Canvas) -> None:
    v = on.v
    x, y = on.head_x, on.head_y
    width = v["face_width"] + 0.6 * v["hair_top"] + 0.02
    crown = on.ellipse(x, y + 0.08, width, v["face_height"] + v["hair_top"] - 0.08)
    fall = np.maximum(np.abs(x) - width, np.maximum(-y - 0.08, y - v["hair_length"]))
    thick = np.clip(v["hair_top"] * 12, 0, 1)
    cover = on.cover(np.minimum(crown, fall)) * thick
    on.put(cover, [c + on.waves for c in on.hair])


def _body(on: Canvas) -> None:
    v = on.v
    x, y = on.head_x, on.head_y
    neck = np.maximum(np.abs(x) - v["neck"], 0.2 - y)
    on.put(on.cover(neck), [c * 0.86 for c in on.skin])
    trunk = on.ellipse(x, y - 1.28, v["shoulders"], 0.52)
    collar = on.ellipse(x, y - 0.74, v["neck"] + 0.03, 0.16)
    ribs = RIBS * on.weave("cloth_ribs", "phase_b")
    cloth = hue(v["cloth_hue"], v["cloth_light"] + ribs, 0.14)
    on.put(on.cover(np.maximum(trunk, -collar)), cloth)
    if on.things["tie"]:
        tie = np.maximum(np.abs(x) - 0.10 - 0.2 * (y - 0.7), 0.70 - y)
        on.put(on.cover(tie) * v["tie"], hue(v["cloth_hue"] + 2, 0.3, 0.25))
    if on.things["necklace"]:
        ring = np.abs(on.ellipse(x, y - 0.66, v["neck"] + 0.04, 0.24)) - 0.018
        on.put(on.cover(np.maximum(ring, 0.66 - y)) * v["necklace"], [0.95, 0.85, 0.45])


def _face(on: Canvas) -> None:
    v = on.v
    x, y = on.head_x, on.head_y
    ears = on.ellipse(np.abs(x) - v["face_width"], y - 0.03, 0.06, 0.11)
    on.put(on.cover(ears), [c * 0.9 for c in on.skin])
    if on.things["earrings"]:
        drop = on.ellipse(np.abs(x) - v["face_width"] - 0.02, y - 0.18, 0.035, 0.05)
        on.put(on.cover(drop) * v["earrings"], [0.95, 0.85, 0.5])
    width = v["face_width"] * (1 + v["jaw"] * y - 0.14 * y * np.maximum(y, 0))
    outline = on.ellipse(x, y, width, v["face_height"])
    # A second, lower outline: the fold under the chin.
    fold = on.ellipse(x, y - 0.22, v["face_width"] * 0.72, v["face_height"] - 0.12)
    strength = np.clip(v["chin_fold"] * 5, 0, 1)
    on.put(on.cover(fold) * strength, [c * 0.95 for c in on.skin])
    rim = np.clip(1 - np.abs(outline - 0.015) * 22, 0, 1) * (y > 0.3)
    on.shade(rim * (0.10 + 0.25 * strength))
    on.inside = on.cover(outline)
    grain = GRAIN * on.weave("skin_grain", "phase_a")
    glow = 1 + v["light_x"] * x + v["light_y"] * y - 0.10 * (x * x + y * y) + grain
    on.put(on.inside, [c * glow for c in on.skin])
    blush = np.clip(1 - on.ellipse(on.side - 0.26, y - 0.14, 0.13, 0.10) * 8 - 1, 0, 1)
    on.shade(blush * np.clip(v["blush"], 0, 1), (0.0, 0.7, 0.6))
    lines = np.abs(np.mod(y * 11 + 0.9 * on.face_x * on.face_x + 0.2, 1) - 0.5)
    brow = np.clip(1 - lines * 4, 0, 1) * ((y < -0.28) & (on.side < 0.3))
    crease = np.abs(on.side - 0.13 - 0.45 * (y - 0.12)) - 0.008
    smile_lines = on.cover(crease) * ((y > 0.12) & (y < 0.36))
    bags = np.clip(1 - np.abs(on.ellipse(on.side - 0.2, y - 0.02, 0.11, 0.07)) * 30, 0, 1)
    old = np.clip(v["wrinkles"], 0, 1)
    on.shade(on.inside * ((brow + smile_lines) * old * 1.2 + bags * (y > 0.03) * np.clip(v["bags"], 0, 1)))


def _beard(on: Canvas) -> None:
    v = on.v
    y = on.head_y
    level = y - 0.10 - 0.55 * np.maximum(0.30 - on.side, 0)
    cheeks = np.clip(level * 8, 0, 1) * on.inside
    chin = on.cover(on.ellipse(on.face_x, y - 0.50, 0.17, 0.14)) * on.inside
    lip = on.cover(on.ellipse(on.face_x, y - 0.245, 0.15, 0.035))
    cover = (
        cheeks * np.clip(v["stubble"], 0, 0.7)
        + chin * np.clip(v["goatee"], 0, 0.6)
        + lip * np.clip(v["moustache"], 0, 0.8)
    )
    on.put(np.minimum(cover, 0.85), [c * 0.55 + 0.04 for c in on.hair])


def _nose(on: Canvas) -> None:
    v = on.v
    y = on.head_y
    tip = -0.02 + v["nose_length"]
    side = np.abs(on.face_x - 0.25 * v["yaw"])
    wing = side - v["nose_width"] * np.clip((y + 0.1) / (tip + 0.1), 0, 1)
    ridge = np.clip(1 - np.abs(wing) * 24, 0, 1) * ((y > -0.08) & (y < tip))
    under = np.clip(1 - np.abs(on.ellipse(side, y - tip, v["nose_width"], 0.035)) * 22, 0, 1) * (y > tip)
    on.shade(ridge * np.clip(v["nose_edge"], 0, 0.6) + under * 0.42)


def _mouth(on: Canvas) -> None:
    v = on.v
    x = on.face_x
    bend = v["smile"] * (x * x * 30 - 0.4)
    y = on.head_y - 0.335 + bend
    red = np.clip(v["lip_red"], 0, 0.8)
    lips = [
        on.skin[0] * (1 - red * 0.25),
        on.skin[1] * (1 - red),
        on.skin[2] * (1 - red * 0.8),
    ]
    opening = np.maximum(v["mouth_open"], 0)
    on.put(on.cover(on.ellipse(x, y, v["lip_width"], v["lip_height"] + opening)), lips)
    gap = on.ellipse(x, y, v["lip_width"] * 0.86, opening + 0.008)
    on.put(on.cover(gap) * 0.75, [0.25, 0.08, 0.08])
    teeth = on.ellipse(
        x,
        y + opening * 0.4,
        v["lip_width"] * 0.7,
        opening * 0.6 + 1e-3,
    )
    on.put(on.cover(teeth) * np.clip(opening * 60, 0, 1), [0.93, 0.92, 0.88])


def _eyes(on: Canvas) -> None:
    v = on.v
    side, y = on.side - 0.2, on.head_y + 0.07
    lid = on.ellipse(side, y + 0.02, v["eye_width"] * 1.15, v["eye_height"] * 1.35)
    on.shade(on.cover(lid) * np.clip(v["lid"], 0, 0.8), (0.6, 0.8, 0.5))
    white = on.cover(on.ellipse(side, y, v["eye_width"], v["eye_height"]))
    on.put(white, [0.95, 0.95, 0.95])
    spot = side * side + y * y
    on.put(
        white * np.clip((0.0036 - spot) * 900, 0, 1),
        hue(v["iris_hue"], 0.33, 0.13),
    )
    on.put(white * np.clip((0.0008 - spot) * 1500, 0, 1), [0.05, 0.05, 0.05])
    rim = np.abs(on.ellipse(side, y, v["eye_width"], v["eye_height"])) - 0.006
    on.shade(on.cover(rim) * (y < 0) * 0.6)
    along = side / 0.15
    line = (
        on.head_y
        + 0.07
        + v["brow_height"]
        + v["brow_arch"] * (1 - 3 * (along - 0.2) ** 2)
        + v["brow_tilt"] * side
    )
    brow = np.maximum(
        np.abs(line) - v["brow_thick"] * (1 - 0.35 * along),
        np.abs(along) * 0.15 - 0.14,
    )
    on.put(on.cover(brow) * 0.85, [c * 0.6 for c in on.hair])
    if on.things["glasses"]:
        ring = np.abs(on.ellipse(side, y, 0.15, 0.13)) - 0.016
        bridge = np.maximum(np.abs(y) - 0.012, np.abs(on.face_x) - 0.05)
        on.put(on.cover(np.minimum(ring, bridge)) * v["glasses"], [0.1, 0.1, 0.12])


def _hair_before(on: Canvas) -> None:
    v = on.v
    x, y = on.head_x, on.head_y
    sweep = (x - v["parting"]) ** 2 * 0.9
    fringe = y + v["hairline"] * v["face_height"] / 0.75 - sweep
    top = on.ellipse(x, y + 0.08, v["face_width"] + 0.03, v["face_height"] - 0.06)
    thick = np.clip(v["hair_top"] * 12, 0, 1)
    on.put(on.cover(np.maximum(fringe, top)) * thick, [c + on.waves for c in on.hair])
    if on.things["hat"]:
        crown = np.maximum(
            on.ellipse(x, y + 0.40, v["face_width"] + 0.10, 0.45),
            y + 0.38,
        )
        brim = np.maximum(
            np.abs(y + 0.38) - 0.05,
            np.abs(x) - v["face_width"] - 0.22,
        )
        on.put(
            on.cover(np.minimum(crown, brim)) * v["hat"],
            hue(v["cloth_hue"] + 1, v["cloth_light"], 0.2),
        )


def _developed(on: Canvas) -> NDArray[np.uint8]:
    """Exposure, a faint veil of stripes at any angle, grain of the film, bytes."""
    v = on.v
    across = on.x * np.cos(v["veil_turn"]) + on.y * np.sin(v["veil_turn"])
    veil = v["veil"] * np.sin(across * (2 * np.pi / PERIOD) + v["phase_a"] * 3)
    pixels = np.arange(on.size**2)
    # One 64-bit number a pixel gives eight bytes: two for each channel, two for all of them.
    number = uniform(on.seed, "faces/film", on.index[:, None], pixels[None, :])
    film = (number * 2.0**53).astype(np.uint64)
    planes = [((film >> np.uint64(8 * k)) & np.uint64(255)).astype(np.float32) for k in range(6)]
    shape = (len(on.index), on.size, on.size)
    strength = v["noise"] / 104.5  # deviation of the sum of two uniform bytes
    for k in range(3):
        grain = (planes[2 * k] + planes[2 * k + 1] - 255).reshape(shape)
        on.image[:, k] = on.image[:, k] * v["bright"] + veil + strength * grain
    bytes_ = np.clip(on.image * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(bytes_.transpose(0, 2, 3, 1))
