"""A set of drawings that is no set of faces: emojis of several vendors as a folder that `unlabel` reads.

    npm pack emoji-datasource-google emoji-datasource-twitter       # images and names; unpack each archive
    python benchmarks/emoji.py UNPACKED_GOOGLE UNPACKED_TWITTER --out emoji

Eleven labels: the name says woman or man, the skin tone is one of the two darkest, and eight categories. An
emoji, with its skin tones and in every vendor's drawing, is one identity, so no split shares one. Each folder
holds ``emoji.json`` and ``img/VENDOR/64``.
"""

import argparse
import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

CATEGORIES = {
    "People": "People & Body",
    "Objects": "Objects",
    "Symbols": "Symbols",
    "Flags": "Flags",
    "Places": "Travel & Places",
    "Faces": "Smileys & Emotion",
    "Animals": "Animals & Nature",
    "Food": "Food & Drink",
}
LABELS = ("Woman", "Man", "Skin_Dark", *CATEGORIES)
DARK = ("1F3FE", "1F3FF")
SPLITS = (("train", 55), ("val", 73), ("test", 100))  # by the hash of the emoji, in percent


def drawings(item: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """File names of one emoji, and whether its skin is one of the two darkest."""
    yield item["image"], 0
    for tone, variant in item.get("skin_variations", {}).items():
        yield variant["image"], int(any(part in DARK for part in tone.split("-")))


def annotated(item: dict[str, Any], dark: int) -> list[int]:
    """The labels of one drawing, in the order of `LABELS`."""
    name = item["name"].replace("-", " ").split()
    words = {*name, *item["short_name"].upper().replace("-", "_").split("_")}
    woman, man = bool(words & {"WOMAN", "WOMEN", "GIRL"}), bool(words & {"MAN", "MEN", "BOY"})
    return [int(woman), int(man), dark, *(int(item["category"] == name) for name in CATEGORIES.values())]


def split_of(item: dict[str, Any]) -> str:
    """The split of an emoji, the same for all its drawings."""
    drawn = int(hashlib.sha256(item["unified"].encode()).hexdigest(), 16) % 100
    return next(name for name, below in SPLITS if drawn < below)


def main() -> None:
    """Writes ``images/``, ``attributes.csv`` and ``meta.csv``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    (given.out / "images").mkdir(parents=True)
    rows: list[list[object]] = []
    people: list[list[object]] = []
    for package in given.packages:
        (vendor,) = (folder.name for folder in (package / "img").iterdir() if (folder / "64").is_dir())
        for number, item in enumerate(json.loads((package / "emoji.json").read_text("utf-8"))):
            for image, dark in drawings(item):
                file = package / "img" / vendor / "64" / image
                if not file.is_file():
                    continue
                picture = Image.open(file).convert("RGBA")
                page = Image.new("RGBA", picture.size, "white")
                page.alpha_composite(picture)
                page.convert("RGB").save(given.out / "images" / f"{vendor}-{image}")
                rows.append([f"{vendor}-{image}", *annotated(item, dark)])
                people.append([f"{vendor}-{image}", split_of(item), number])
    tables = {"attributes.csv": ("image_id", *LABELS), "meta.csv": ("image_id", "split", "identity")}
    for (name, header), table in zip(tables.items(), (rows, people), strict=True):
        with (given.out / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *table])
    print(f"{given.out}: {len(rows):,} images, {len(LABELS)} labels")


if __name__ == "__main__":
    main()
