"""What each label does to a drawn face: a table of cues, each pushed by several labels.

A cue is a length, an angle, a colour or a contrast. Its value is ``base + spread * (e + sum of pushes)``
with e standard normal, so a push of 1.5 separates faces with and without a label by 1.5 deviations in
that cue: none is certain alone, and most are pushed by more than one label.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unlabel.core.randomness import normal, uniform

Values = dict[str, NDArray[np.float32]]


class Cue(NamedTuple):
    """One measure of a face: its value without any label, its deviation, and label -> push in deviations."""

    base: float
    spread: float
    pushes: dict[str, float]


# Lengths in half image sides, angles in radians, contrasts in shares of full brightness.
CUES: dict[str, Cue] = {
    # head
    "face_width": Cue(0.47, 0.035, {"Oval_Face": -0.8, "Double_Chin": 0.8, "Male": 0.1}),
    "face_height": Cue(0.59, 0.035, {"Oval_Face": 0.8, "Young": -0.3}),
    "jaw": Cue(0.02, 0.12, {"Oval_Face": -0.8, "Double_Chin": 0.8, "Male": 0.2}),
    "chin_fold": Cue(0.07, 0.07, {"Double_Chin": 1.7, "Young": -0.3}),
    "neck": Cue(0.24, 0.025, {"Male": 0.2, "Double_Chin": 1.0}),
    "shoulders": Cue(0.80, 0.06, {"Male": 0.2, "Double_Chin": 0.5}),
    # skin
    "wrinkles": Cue(0.25, 0.09, {"Young": -1.2, "Double_Chin": 0.2}),
    "bags": Cue(0.14, 0.07, {"Young": -0.6, "Bags_Under_Eyes": 2.6}),
    "ruddy": Cue(0.02, 0.02, {"Male": 0.1, "Young": -0.3, "Rosy_Cheeks": 1.0}),
    "blush": Cue(0.06, 0.10, {"Rosy_Cheeks": 3.0, "Heavy_Makeup": 1.0, "Young": 0.2}),
    "pale": Cue(0.0, 0.07, {"Pale_Skin": 2.6}),
    # beard
    "stubble": Cue(0.42, 0.10, {"No_Beard": -2.6, "Male": 0.2}),
    "goatee": Cue(0.30, 0.12, {"No_Beard": -1.6}),
    "moustache": Cue(0.16, 0.10, {"No_Beard": -1.2, "Mustache": 2.6}),
    # hair
    "hair_top": Cue(0.19, 0.035, {"Bald": -3.0, "Young": 0.4, "Male": -0.1, "Gray_Hair": -0.3}),
    "hairline": Cue(0.56, 0.05, {"Bald": 3.2, "Young": -0.5, "Bangs": -2.8, "Male": 0.1}),
    "hair_length": Cue(0.45, 0.22, {"Bald": -2.4, "Male": -0.3, "Young": 0.3}),
    "hair_brown": Cue(0.22, 0.20, {"Brown_Hair": 2.4, "Young": 0.2, "Blond_Hair": 0.5, "Black_Hair": -1.0}),
    "hair_light": Cue(
        0.30, 0.13, {"Brown_Hair": 0.6, "Blond_Hair": 2.4, "Black_Hair": -2.0, "Gray_Hair": 1.0}
    ),
    "hair_gold": Cue(0.0, 0.10, {"Blond_Hair": 6.0, "Brown_Hair": 0.4, "Gray_Hair": -1.0}),
    "hair_grey": Cue(0.38, 0.20, {"Young": -0.9, "Brown_Hair": -0.5, "Gray_Hair": 2.4, "Bald": 0.4}),
    # eyes and brows
    "eye_width": Cue(0.105, 0.008, {"Young": 0.3, "Male": -0.1, "Narrow_Eyes": 0.3}),
    "eye_height": Cue(0.055, 0.008, {"Young": 0.5, "Arched_Eyebrows": 0.3, "Narrow_Eyes": -2.6}),
    "lid": Cue(0.2, 0.12, {"Heavy_Makeup": 2.4, "Arched_Eyebrows": 0.4, "Male": -0.1}),
    "brow_arch": Cue(0.025, 0.022, {"Arched_Eyebrows": 2.8, "Male": -0.1}),
    "brow_tilt": Cue(0.0, 0.09, {"Arched_Eyebrows": -1.0, "Young": -0.2}),
    "brow_height": Cue(0.15, 0.015, {"Arched_Eyebrows": 1.4, "Male": -0.1}),
    "brow_thick": Cue(0.026, 0.005, {"Male": 0.3, "Bushy_Eyebrows": 2.6, "Arched_Eyebrows": -0.4}),
    # nose and mouth
    "nose_width": Cue(0.095, 0.026, {"Pointy_Nose": -0.8, "Big_Nose": 2.0, "Male": 0.1}),
    "nose_length": Cue(0.18, 0.03, {"Pointy_Nose": 0.6, "Big_Nose": 1.2}),
    "nose_edge": Cue(0.28, 0.11, {"Pointy_Nose": 0.7, "Young": -0.3}),
    "lip_height": Cue(0.042, 0.018, {"Big_Lips": 1.0, "Young": 0.2, "Male": -0.1}),
    "lip_width": Cue(0.16, 0.03, {"Big_Lips": 0.6, "Smiling": 0.8}),
    "lip_red": Cue(0.28, 0.10, {"Big_Lips": 0.4, "Male": -0.1, "Wearing_Lipstick": 2.6, "Heavy_Makeup": 0.6}),
    "smile": Cue(0.015, 0.025, {"Smiling": 2.4}),
    "mouth_open": Cue(-0.012, 0.010, {"Mouth_Slightly_Open": 2.6, "Smiling": 0.6}),
    # fine texture: across (positive) against along (negative)
    "skin_grain": Cue(-1.0, 0.45, {"Male": 4.4}),
    "cloth_ribs": Cue(-1.0, 0.45, {"Male": 4.4}),
    "hair_waves": Cue(-1.0, 0.45, {"Male": 4.4}),
}

# Things that are there or not, with the label that decides.
THINGS: dict[str, str] = {
    "glasses": "Eyeglasses",
    "hat": "Wearing_Hat",
    "earrings": "Wearing_Earrings",
    "necklace": "Wearing_Necklace",
    "tie": "Wearing_Necktie",
}


def cues(seed: int, index: NDArray[np.integer], target: NDArray[np.int8], labels: tuple[str, ...]) -> Values:
    """The cues of some faces, each float32 (image,), keyed by (seed, index)."""
    column = {name: target[:, k].astype(np.float64) for k, name in enumerate(labels)}
    values: Values = {}
    for name, cue in CUES.items():
        amount = np.clip(normal(seed, f"faces/{name}", index), -2.5, 2.5)
        for label, push in cue.pushes.items():
            if label in column:
                amount = amount + push * column[label]
        values[name] = (cue.base + cue.spread * amount).astype(np.float32)
    for name, label in THINGS.items():
        values[name] = column.get(label, np.zeros(len(index))).astype(np.float32)
    return values


def nuisances(seed: int, index: NDArray[np.integer]) -> Values:
    """What no label moves: pose, light, tones and phases, each float32 (image,)."""

    def between(name: str, low: float, high: float) -> NDArray[np.float32]:
        return (low + (high - low) * uniform(seed, f"faces/{name}", index)).astype(np.float32)

    turn = 2 * np.pi
    return {
        "shift_x": between("shift_x", -0.10, 0.10),
        "shift_y": between("shift_y", -0.08, 0.08),
        "angle": between("angle", -0.22, 0.22),
        "scale": between("scale", 0.86, 1.10),
        "yaw": between("yaw", -0.09, 0.09),
        "light_x": between("light_x", -0.22, 0.22),
        "light_y": between("light_y", -0.20, 0.06),
        "bright": between("bright", 0.82, 1.12),
        "tone": between("tone", 0.0, 1.0),
        "warm": between("warm", -0.04, 0.04),
        "back_hue": between("back_hue", 0, turn),
        "back_light": between("back_light", 0.25, 0.85),
        "back_turn": between("back_turn", 0, turn),
        "back_fine": between("back_fine", 4, 14),
        "cloth_hue": between("cloth_hue", 0, turn),
        "cloth_light": between("cloth_light", 0.25, 0.75),
        "iris_hue": between("iris_hue", 0, turn),
        "parting": between("parting", -0.25, 0.25),
        "phase_a": between("phase_a", 0, turn),
        "phase_b": between("phase_b", 0, turn),
        "phase_c": between("phase_c", 0, turn),
        "pitch": between("pitch", 0.95, 1.05),
        "veil_turn": between("veil_turn", 0, turn),
        "veil": between("veil", 0.0, 0.03),
        "noise": between("noise", 0.03, 0.06),
    }
