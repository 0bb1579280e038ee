"""A folder of faces with 10 or 40 labels that go together: docs/results/other-sets.md.

python benchmarks/derived.py FAIRFACE --labels 40 --out f40

FAIRFACE is a folder with images/, attributes.csv and meta.csv, whose labels include Male, ages and races. A
part of its images is kept. Beside its own labels there are their combinations (Boy, Young_Man ...),
properties of the picture (bright, warm, blurry ...), and labels that are drawn by a coin of which Male
decides the chance (Lipstick, Beard ...): noisy copies of Male, of which nothing in the picture tells more.
They say nothing about a person.
"""

import argparse
import csv
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Column = NDArray[np.int64]
PART = 0.55  # of the images
CHANCES = {"Lipstick": (0.01, 0.8), "Beard": (0.5, 0.0), "Makeup": (0.0, 0.65), "Tie": (0.17, 0.0)}
"""Of a noisy copy, with Male and without."""
TEN = ("Male", "Young", "Lipstick", "Beard", "Bright", "Warm", "Blurry", "Light_Left", "Asian", "Black")
Look = Callable[[NDArray[np.float32]], float]
LOOKS: Mapping[str, tuple[Look, float]] = {
    "Bright": (lambda image: float(image.mean()), 0.5),
    "Warm": (lambda image: float((image[..., 0] - image[..., 2]).mean()), 0.5),
    "Contrast": (lambda image: float(image.std()), 0.5),
    "Blurry": (lambda image: -float(np.abs(np.diff(image, axis=0)).mean()), 0.8),
    "Light_Left": (lambda image: float(image[:, :32].mean() - image[:, 32:].mean()), 0.5),
    "Dark_Top": (lambda image: float(image[48:].mean() - image[:16].mean()), 0.5),
    "Bright_Corners": (lambda image: float(image[:12, :12].mean() + image[:12, -12:].mean()), 0.5),
    "Green": (lambda image: float((image[..., 1] - image[..., 0]).mean()), 0.7),
    "Saturated": (lambda image: float((image.max(2) - image.min(2)).mean()), 0.7),
}
"""A property of a picture of 64 pixels, and the share of the pictures that are below the cut."""


def combined(of: Mapping[str, Column]) -> dict[str, Column]:
    """Labels that others determine."""
    male, young = of["Male"], of["Child"] | of["Teen"]
    female, old = 1 - male, of["Age_40_59"] | of["Senior"]
    return {
        "Boy": male & young,
        "Girl": female & young,
        "Young_Man": male & of["Age_20_29"],
        "Woman_20_29": female & of["Age_20_29"],
        "Woman_30_39": female & of["Age_30_39"],
        "Man_over_40": male & old,
        "White_Man": male & of["White"],
        "Black_Woman": female & of["Black"],
        "Indian_Man": male & of["Indian"],
        "East_Asian_Woman": female & of["East_Asian"],
        "Young": young | of["Age_20_29"],
        "Over_40": old,
        "Asian": of["East_Asian"] | of["Southeast_Asian"],
    }


def copies(male: Column, rng: np.random.Generator) -> dict[str, Column]:
    """Noisy copies of a label."""
    return {
        name: (rng.random(len(male)) < np.where(male == 1, *chances)).astype(np.int64)
        for name, chances in CHANCES.items()
    }


def looks(files: list[Path]) -> dict[str, Column]:
    """Properties of pictures."""
    small = (Image.open(file).convert("RGB").resize((64, 64)) for file in files)
    pictures = [np.asarray(picture, np.float32) / np.float32(255) for picture in small]
    found = {}
    for name, (look, below) in LOOKS.items():
        values = np.array([look(picture) for picture in pictures])
        found[name] = (values > np.quantile(values, below)).astype(np.int64)
    return found


def main() -> None:
    """Writes the folder; its images are links to the given ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--labels", type=int, choices=(10, 40), default=40)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rng = np.random.default_rng(5)
    with (given.faces / "attributes.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if rng.random() < PART]
    with (given.faces / "meta.csv").open(encoding="utf-8") as file:
        split = {row["image_id"]: row["split"] for row in csv.DictReader(file)}
    of = {name: np.array([int(row[name]) for row in rows]) for name in rows[0] if name != "image_id"}
    of |= combined(of)
    of |= copies(of["Male"], rng)
    of |= looks([given.faces / "images" / row["image_id"] for row in rows])
    names = list(of)[:40] if given.labels == 40 else list(TEN)
    (given.out / "images").mkdir(parents=True)
    for row in rows:
        os.link(given.faces / "images" / row["image_id"], given.out / "images" / row["image_id"])
    with (given.out / "attributes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", *names])
        writer.writerows([row["image_id"], *(of[name][at] for name in names)] for at, row in enumerate(rows))
    with (given.out / "meta.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", "split"])
        writer.writerows([row["image_id"], split[row["image_id"]]] for row in rows)
    print(given.out)


if __name__ == "__main__":
    main()
