"""Reading photos against torchvision's ImageFolder and DataLoader: the same photos, pixels and workers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from unlabel.bench.pairs import Line, by_turns
from unlabel.core.caching import Cache
from unlabel.core.engine import Run
from unlabel.data import load
from unlabel.data.dataset import Source
from unlabel.data.feed import batches

PHOTO = (218, 178)  # height and width, as of CelebA's aligned photos
BATCH = 64


def write_photos(folder: Path, images: int) -> None:
    """JPEG files of smooth noise in the project's folder format; ImageFolder reads the same files.

    Of photos more than four times as large as wanted, our decoder computes a smaller one, and pixels differ.
    """
    draw = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows = ["image_id,odd"]
    for number in range(images):
        coarse = Image.fromarray(draw.integers(0, 256, (28, 22, 3), dtype=np.uint8))
        name = f"{number:06d}.jpg"
        coarse.resize((PHOTO[1], PHOTO[0]), Image.Resampling.BICUBIC).save(
            folder / "images" / name, quality=90
        )
        rows.append(f"{name},{number % 2}")
    (folder / "attributes.csv").write_text("\n".join(rows) + "\n")


def input_lines(images: int, side: int, workers: int, run: Run, rounds: int) -> list[Line]:
    """The first reading, which decodes every photo, and a later epoch, augmented, from the disk or decoded.

    Args:
        images: Photos.
        side: Of the network's input, in pixels.
        workers: Processes of ours at the first reading and threads of ours later; processes of theirs.
        run: Where.
        rounds: See `by_turns`.

    Raises:
        RuntimeError: The two give different pixels: then nothing is compared.
    """
    with TemporaryDirectory(prefix="unlabel-bench-") as top:
        folder = Path(top)
        write_photos(folder / "photos", images)
        theirs = _image_folder(folder / "photos", side, augmented=False)
        with cache_in(folder / "cache"):
            disk, none = (_ours(folder / "photos", side, workers, cache) for cache in ("disk", "none"))
        _check_pixels(disk, theirs)
        _check_pixels(none, theirs)
        numbers = iter(range(10_000))

        def decode() -> None:
            with cache_in(folder / f"cold{next(numbers)}"):
                _ours(folder / "photos", side, workers, "disk")

        augmented = _image_folder(folder / "photos", side, augmented=True)
        what = f"photos of {PHOTO[0]} x {PHOTO[1]} to {side} pixels, {workers} workers, against torchvision"
        return [
            by_turns(f"first reading, {what}", decode, lambda: _read(theirs, workers), rounds, images=images),
            *(
                by_turns(
                    f"a later epoch, augmented, cache {cache}, {what}",
                    lambda source=source: _epoch(source, replace(run, workers=workers)),
                    lambda: _read(augmented, workers),
                    rounds,
                    images=images,
                )
                for cache, source in (("disk", disk), ("none", none))
            ),
        ]


def _ours(folder: Path, side: int, workers: int, cache: Cache) -> Source:
    return load(f"folder:{folder}", image_size=side, workers=workers, cache=cache)


def _epoch(source: Source, run: Run) -> None:
    for part in (source.train, source.probe, source.test):
        starts = range(0, len(part), BATCH)
        wanted = ((np.arange(start, min(start + BATCH, len(part))), 0) for start in starts)
        for _ in batches(part, wanted, run):
            pass
    if run.device.type == "cuda":
        torch.cuda.synchronize()


def _image_folder(folder: Path, side: int, *, augmented: bool) -> ImageFolder:
    from torchvision.transforms import v2

    def square(photo: Image.Image) -> Image.Image:
        width, height = photo.size
        edge = min(width, height)
        left, top = (width - edge) // 2, (height - edge) // 2
        box = (left, top, left + edge, top + edge)
        return photo.resize((side, side), Image.Resampling.BICUBIC, box=box)

    steps = [square, v2.ToImage()]
    if augmented:
        reach = side // 16
        steps += [
            v2.RandomHorizontalFlip(),
            v2.RandomCrop(side, padding=reach, padding_mode="edge"),
            v2.ColorJitter(brightness=0.1, contrast=0.15),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.25] * 3),
        ]
    return ImageFolder(str(folder), v2.Compose(steps))


def _read(dataset: ImageFolder, workers: int) -> None:
    for _ in torch.utils.data.DataLoader(dataset, batch_size=BATCH, num_workers=workers):
        pass


def _check_pixels(source: Source, theirs: ImageFolder) -> None:
    """Whether both read the same pixels of the same files."""
    names = [Path(path).name for path, _ in theirs.samples]
    for part in (source.train, source.probe, source.test):
        for position in range(min(4, len(part))):
            image, _ = theirs[names.index(str(part.ids[position]))]
            if not np.array_equal(part.images(slice(position, position + 1))[0], image.permute(1, 2, 0)):
                raise RuntimeError(f"{part.ids[position]}: the two readers give different pixels")


@contextmanager
def cache_in(folder: Path) -> Iterator[None]:
    """Keeps decoded images, outputs and attacks here while open."""
    before = os.environ.get("UNLABEL_CACHE")
    folder.mkdir(mode=0o700, exist_ok=True)
    os.environ["UNLABEL_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["UNLABEL_CACHE"]
        else:
            os.environ["UNLABEL_CACHE"] = before
