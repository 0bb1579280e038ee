"""What drawn faces are painted on: frames of reference, colours, soft masks and fine textures.

Lengths are in half image sides, so a face can be drawn at any size; edges are one pixel wide.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unlabel.data.drawn.cues import THINGS, cues, nuisances
from unlabel.data.drawn.joint import LABELS

Plane: TypeAlias = NDArray[np.floating[Any]]
"""float32 that broadcasts to (image, size, size)."""

GRAIN, RIBS, WAVES = 0.0185, 0.0295, 0.0295
"""Contrast of the fine textures that tell Male: under the noise of a pixel, above that of a region."""

PERIOD = 0.105
"""Distance from stripe to stripe: 3.4 pixels at 64 x 64."""


def hue(turn: Plane, light: Plane | float, strength: float) -> list[Plane]:
    """Red, green and blue at an angle of the colour circle."""
    return [light + strength * np.cos(turn + k * 2.0944) for k in range(3)]


class Canvas:
    """A batch of pictures being painted, their cues, and the frames their parts are drawn in.

    Attributes:
        v: Cues and nuisances by name, each (image, 1, 1).
        x, y: Position in the picture, right and down, from -1 to 1.
        head_x, head_y: Position in the frame of the head: shifted, turned and scaled with the pose.
        face_x, side: Position right of the middle of the turned face, and its absolute value.
        skin, hair: Red, green and blue of each face.
        waves: Texture of the hair.
        inside: Coverage of the face's outline, once it is painted.
        image: float32 (image, 3, size, size), 0 black to 1 white.
    """

    def __init__(
        self,
        seed: int,
        index: NDArray[np.integer],
        target: NDArray[np.int8],
        size: int,
        moved: Mapping[str, NDArray[np.floating]] = MappingProxyType({}),
    ):
        values = {**cues(seed, index, target, LABELS[: target.shape[1]]), **nuisances(seed, index)}
        for name, amount in moved.items():
            values[name] = values[name] + amount.astype(np.float32)
        self.v: dict[str, Plane] = {name: value[:, None, None] for name, value in values.items()}
        self.things = {name: bool(values[name].any()) for name in THINGS}
        self.seed, self.index, self.size = seed, index, size
        v = self.v
        axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
        self.x: Plane = axis[None, None, :]
        self.y: Plane = axis[None, :, None]
        x, y = self.x - v["shift_x"], self.y - v["shift_y"]
        cos, sin = np.cos(v["angle"]) / v["scale"], np.sin(v["angle"]) / v["scale"]
        self.head_x: Plane = x * cos + y * sin
        self.head_y: Plane = y * cos - x * sin
        # Turning the head moves what is nearer to us further: features slide over the outline.
        self.face_x: Plane = self.head_x - v["yaw"]
        self.side: Plane = np.abs(self.face_x)
        self.image = np.empty((len(index), 3, size, size), np.float32)
        self.inside: Plane = np.zeros((len(index), size, size), np.float32)
        self.skin = self._skin()
        self.hair = self._hair()
        self.waves = WAVES * self.weave("hair_waves", "phase_c")

    def _skin(self) -> list[Plane]:
        v = self.v
        tone, pale = v["tone"], np.clip(v["pale"], 0, 0.3)
        return [
            0.48 + 0.46 * tone + v["warm"] + pale * 0.3,
            0.30 + 0.50 * tone - v["ruddy"] + pale * 0.6,
            0.20 + 0.50 * tone - v["ruddy"] - v["warm"] + pale,
        ]

    def _hair(self) -> list[Plane]:
        v = self.v
        brown, grey = np.clip(v["hair_brown"], 0, 1), np.clip(v["hair_grey"], 0, 1)
        level = v["hair_light"] * (1 - grey) + 0.62 * grey
        vivid = 0.22 * brown * (1 - grey)
        gold = 0.22 * np.clip(v["hair_gold"], 0, 1) * (1 - grey)
        return [level + vivid + gold, level + 0.15 * vivid + 0.5 * gold, level - 0.75 * vivid - 1.1 * gold]

    def cover(self, distance: Plane) -> Plane:
        """Coverage of a pixel, 0 to 1, from the signed distance of its centre (negative inside)."""
        return np.clip(0.5 - distance * (self.size / 2), 0, 1)

    def ellipse(self, x: Plane, y: Plane, width: Plane | float, height: Plane | float) -> Plane:
        """Signed distance from an ellipse at the origin; near the outline and for round ones about exact."""
        a, b = x / width, y / height
        return (np.sqrt(a * a + b * b) - 1) * np.minimum(width, height)

    def put(self, cover: Plane, colour: Sequence[Plane | float]) -> None:
        """Paints a colour over what is there."""
        for k in range(3):
            plane = self.image[:, k]
            plane += cover * (colour[k] - plane)

    def shade(self, cover: Plane, channels: tuple[float, float, float] = (1, 1, 1)) -> None:
        """Darkens by a share of the brightness, per channel."""
        for k, amount in enumerate(channels):
            self.image[:, k] *= 1 - amount * cover

    def weave(self, cue: str, phase: str) -> Plane:
        """Fine stripes across where the cue is positive, along where it is negative, of equal contrast."""
        v = self.v
        pace = (2 * np.pi / PERIOD) * v["pitch"]
        across, along = np.clip(v[cue], 0, 1), np.clip(-v[cue], 0, 1)
        return across * np.sin(self.head_y * pace + v[phase]) + along * np.sin(self.head_x * pace + v[phase])
