"""Pictures of any shape and depth come to the size that a network reads, as docs/images.md says."""

import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from unlabel.audit.inputs.perturbed_images import perturb
from unlabel.core.errors import DataError, OptionError
from unlabel.core.framing import CENTRE, Frame, Size, checked_size
from unlabel.data import Framing, load
from unlabel.data.batches import augment, moves_of, normalise
from unlabel.data.images.cache import content_key
from unlabel.data.images.decoding import Unreadable, decode, shape_of
from unlabel.data.images.photos import decoded

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "images.md").read_text("utf-8")


def table(heading: str) -> list[list[str]]:
    """The cells of the first table after a heading, without its head."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:  # noqa: A002
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def ramp(width: int = 80, height: int = 40) -> Image.Image:
    """Red grows to the right, green downwards; smooth, and never black."""
    across = np.linspace(40, 250, width)[None, :].repeat(height, 0)
    down = np.linspace(40, 250, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([across, down, across], 2).round().astype(np.uint8))


# -- shapes


@pytest.mark.parametrize("size", [16, 33, 64])
@pytest.mark.parametrize("shape", [(80, 40), (37, 90), (64, 64), (33, 33)])
def test_by_default_pixels_and_keys_are_what_they_were_before_other_ways(
    size: int, shape: tuple[int, int]
) -> None:
    """The oracle is the code of before: the centre square, by Pillow's bicubic."""
    picture = ramp(*shape)
    width, height = shape
    side = min(shape)
    box = ((width - side) / 2, (height - side) / 2, (width - side) / 2 + side, (height - side) / 2 + side)
    resized = picture.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    expected = np.asarray(picture if shape == (size, size) else resized)
    assert np.array_equal(decode(encoded(picture), size), expected)
    transform = f"rgb-upright-centre-square-bicubic-3/{size}/pillow-{PIL.__version__}"
    key = hashlib.sha256(transform.encode() + b"content").hexdigest()[:32]
    assert content_key([b"content"], Frame.of(size)) == key


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "framing", [CENTRE, Framing("squash"), Framing("pad"), Framing(crop_pct=0.8)], ids=str
)
@pytest.mark.parametrize("sides", [(257, 257), (385, 257), (300, 385)])
def test_a_large_jpeg_lies_where_the_same_png_does(
    sides: tuple[int, int], framing: Framing, orientation: int
) -> None:
    """At 1/8 a side of 257 is 33 pixels, of which it covers 32.125: without that, the picture shifts."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    picture, exif = Image.fromarray(noise).resize(sides, Image.Resampling.BICUBIC), Image.Exif()
    exif[0x0112] = orientation
    frame = Frame(16, 16, framing)
    png = decode(encoded(picture, exif=exif), frame).astype(float)
    jpeg = decode(encoded(picture, "JPEG", exif=exif, quality=98, subsampling=0), frame)
    assert np.abs(jpeg - png).mean() < 1.0


@pytest.mark.parametrize("sides", [(256, 256), (640, 480)])
def test_a_large_jpeg_whose_sides_divide_keeps_its_pixels(sides: tuple[int, int]) -> None:
    """The oracle is the code of before."""
    data, (width, height), side = encoded(ramp(*sides), "JPEG"), sides, min(sides)
    image = Image.open(io.BytesIO(data))
    image.draft(None, (128, 128))
    scale = width // image.width
    box = [edge / 2 / scale for edge in (width - side, height - side, width + side, height + side)]
    resized = image.resize((64, 64), Image.Resampling.BICUBIC, box=tuple(box), reducing_gap=3.0)
    assert scale > 1
    assert np.array_equal(decode(data, 64), np.asarray(resized))


def test_every_way_and_size_has_a_key_of_its_own() -> None:
    frames = [
        Frame.of(size, framing)
        for size in (64, (64, 32), (32, 64))
        for framing in (
            CENTRE, Framing("squash"), Framing("pad"), Framing(crop_pct=0.9), Framing(interpolation="nearest")
        )
    ]  # fmt: skip
    assert len({content_key([b"content"], frame) for frame in frames}) == len(frames) == 15


WAYS = {
    "`--resize crop`": Framing("crop"),
    "`--resize squash`": Framing("squash"),
    "`--resize pad`": Framing("pad"),
    "`--crop-pct 0.5`": Framing(crop_pct=0.5),
    "nothing": Framing(),
}


@pytest.mark.parametrize("row", table("Shape"), ids=lambda row: row[0])
def test_the_ways_are_those_of_the_table(row: list[str]) -> None:
    """Where the columns and rows of the result come from, as the ramp tells."""
    option, done, _ = row
    found = decode(encoded(ramp()), Frame(20, 20, WAYS[option])).astype(float)
    scaled = re.findall(r"scaled to (\d+) x (\d+)", done)[0]
    width, height = map(int, scaled)
    black = 5 if "5 black rows above and 5 below" in done else 0
    inside = found[black : 20 - black]
    assert (found[:black] == 0).all()
    assert (found[20 - black :] == 0).all()
    assert inside.min() > 30
    # of a ramp from 40 to 250 over `width`, the middle 20 are left; edges are a little nearer to the middle
    for channel, axis, length in ((0, 1, width), (1, 0, height)):
        shown = inside[..., channel].mean(1 - axis)
        kept = min(len(shown), length)
        reach = 210 * kept / length
        assert np.ptp(shown) == pytest.approx(reach * (1 - 1 / kept), rel=0.08)
        assert shown.mean() == pytest.approx(145, abs=2)


def test_the_table_has_every_way() -> None:
    assert [row[0] for row in table("Shape")] == list(WAYS)


@pytest.mark.parametrize("framing", list(WAYS.values()), ids=str)
@pytest.mark.parametrize("size", [(20, 40), (40, 20), (24, 17)])
def test_rectangles(size: tuple[int, int], framing: Framing) -> None:
    found = decode(encoded(ramp()), Frame.of(size, framing)).astype(float)
    assert found.shape == (*size, 3)
    if size == (20, 40) and framing.crop_pct == 1:  # the photo's own shape: every way is the same
        assert np.array_equal(found, decode(encoded(ramp()), Frame.of(size)))
        assert found[..., 0].min() < 45
    if framing.resize != "pad":
        assert found.min() > 30


def test_cut_out_of_a_rectangle_is_centred() -> None:
    """Of 80 x 40, the largest middle part of the shape 1 x 1.6 (wide x high) is 25 x 40."""
    found = decode(encoded(ramp()), (32, 20)).astype(float)
    assert found[..., 0].mean() == pytest.approx(145, abs=2)
    assert np.ptp(found[..., 0].mean(0)) == pytest.approx(210 * 25 / 80 * (1 - 1 / 20), rel=0.05)
    assert np.ptp(found[..., 1].mean(1)) == pytest.approx(210 * (1 - 1 / 32), rel=0.05)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_interpolations_are_pillows(interpolation: Any) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8))
    found = decode(encoded(noise), Frame(16, 16, Framing(interpolation=interpolation)))
    expected = noise.resize((16, 16), Image.Resampling[interpolation.upper()], reducing_gap=3.0)
    assert np.array_equal(found, np.asarray(expected))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("share", [0.875, 1.0])
def test_as_timm_prepares_images(share: float, interpolation: Any) -> None:
    """On a smooth picture, which rounding the scaled size moves by part of a pixel."""
    timm = pytest.importorskip("timm.data")
    picture = ramp(300, 200)
    transform = timm.create_transform(
        (3, 64, 64), crop_pct=share, interpolation=interpolation, mean=(0, 0, 0), std=(1, 1, 1)
    )
    theirs = np.asarray(transform(picture).permute(1, 2, 0)) * 255
    ours = decode(encoded(picture), Frame(64, 64, Framing("crop", share, interpolation)))
    assert np.abs(ours - theirs).max() < 2.5


def test_a_turned_photo_is_upright_before_it_is_framed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = ramp().transpose(Image.Transpose.ROTATE_90)
    for data in (encoded(stored, exif=exif), encoded(stored, "JPEG", exif=exif, quality=98)):
        assert shape_of(data) == (40, 80)
        found = decode(data, Frame(16, 16, Framing("pad"))).astype(int)
        assert np.abs(found - decode(encoded(ramp()), Frame(16, 16, Framing("pad"))).astype(int)).max() < 6


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Framing("crob"), "Close: crop"),  # type: ignore[arg-type]
        (lambda: Framing(interpolation="cubic"), "Close: bicubic"),  # type: ignore[arg-type]
        (lambda: Framing(crop_pct=0.0), "above 0, at most 1"),
        (lambda: Framing(crop_pct=float("nan")), "above 0, at most 1"),
        (lambda: Framing("pad", 0.9), "cuts nothing off"),
        (lambda: checked_size((64, 8)), "16 to 512"),
        (lambda: checked_size((64, 64, 3)), "is no size"),
        (lambda: checked_size(64.0), "is no size"),
        (lambda: checked_size(True), "is no size"),
    ],
)
def test_what_is_no_way_or_no_size_is_refused(make: Callable[[], object], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        make()


# -- depth


def grey(values: NDArray[Any]) -> Image.Image:
    return Image.fromarray(np.broadcast_to(values, (20, 20)).copy())


def inverted(values: NDArray[np.uint16]) -> bytes:
    """A TIFF of 16 bits that says that white is zero."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    tags = ImageFileDirectory_v2()
    tags[262] = 0
    data = encoded(grey(values), "TIFF", tiffinfo=tags)
    with Image.open(io.BytesIO(data)) as image:
        assert image.tag_v2[262] == 0, "Pillow wrote the tag"  # type: ignore[attr-defined]
    return data


def png_of_16_bits(colour: tuple[int, int, int]) -> bytes:
    """An RGB PNG of 16 bits, which Pillow does not write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + struct.pack(">HHH", *colour) * 20 for _ in range(20))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


DEEP = np.uint16(257 * 100)
PICTURES: dict[str, tuple[Callable[[], bytes], tuple[int, int, int] | str]] = {
    "8 bits, grey": (lambda: encoded(grey(np.uint8(100))), (100, 100, 100)),
    "8 bits, RGB": (lambda: encoded(Image.new("RGB", (20, 20), (9, 90, 200))), (9, 90, 200)),
    "8 bits, with transparency": (
        lambda: encoded(Image.new("RGBA", (20, 20), (9, 90, 200, 0))),
        (9, 90, 200),
    ),
    "8 bits, a palette or CMYK": (
        lambda: encoded(Image.new("RGB", (20, 20), (9, 90, 200)).quantize(4)),
        (9, 90, 200),
    ),
    "1 bit": (lambda: encoded(Image.new("1", (20, 20), 1)), (255, 255, 255)),
    "16 bits, grey PNG": (lambda: encoded(grey(DEEP)), (100, 100, 100)),
    "16 bits, grey TIFF": (lambda: encoded(grey(DEEP), "TIFF"), (100, 100, 100)),
    "16 bits, grey TIFF, white is zero": (lambda: inverted(DEEP), (155, 155, 155)),
    "16 bits, RGB PNG": (lambda: png_of_16_bits((9 * 256, 90 * 256 + 255, 200 * 256)), (9, 90, 200)),
    "floating TIFF, 0 to 1": (lambda: encoded(grey(np.float32(100 / 255)), "TIFF"), (100, 100, 100)),
    "floating TIFF, outside 0 to 1": (lambda: encoded(grey(np.float32(100)), "TIFF"), "expected 0 to 1"),
    "32 bits, whole numbers, TIFF": (lambda: encoded(grey(np.int32(100)), "TIFF"), "32 bits"),
}


def test_the_table_of_depths_has_every_picture() -> None:
    assert [row[0] for row in table("Depth and colour")] == list(PICTURES)


@pytest.mark.parametrize(("kind", "becomes"), table("Depth and colour"), ids=lambda cell: cell)
def test_pictures_become_what_the_table_says(kind: str, becomes: str) -> None:
    make, expected = PICTURES[kind]
    if isinstance(expected, str):
        assert becomes == "refused"
        with pytest.raises(Unreadable, match=expected):
            decode(make(), 16)
        return
    assert becomes != "refused"
    assert (decode(make(), 16) == expected).all()


@pytest.mark.parametrize("value", [0, 128, 129, 257, 385, 386, 30_000, 65_406, 65_407, 65_535])
def test_16_bits_are_rounded(value: int) -> None:
    assert decode(encoded(grey(np.uint16(value))), 16)[0, 0, 0] == round(value / 257)


@pytest.mark.parametrize("value", [np.float32(-0.01), np.float32(1.01), np.float32("nan"), np.float32("inf")])
def test_floating_values_outside_their_range_are_refused(value: np.float32) -> None:
    values = np.full((20, 20), 0.5, np.float32)
    values[3, 3] = value
    with pytest.raises(Unreadable, match="expected 0 to 1; divide all images"):
        decode(encoded(Image.fromarray(values), "TIFF"), 16)


# -- data


def write(folder: Path, data: dict[str, bytes]) -> Path:
    (folder / "images").mkdir(parents=True)
    rows = ["image_id,a,b"]
    for number, (name, content) in enumerate(data.items()):
        (folder / "images" / name).write_bytes(content)
        rows.append(f"{name},{number % 2},{number // 2 % 2}")
    (folder / "attributes.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_folder_of_deep_photos_says_so(tmp_path: Path, cache: Path) -> None:
    photos = {f"{n:02}.png": encoded(grey(np.uint16(n * 257))) for n in range(40)}
    photos |= {"x.tif": encoded(grey(np.float32(0.5)), "TIFF"), "y.png": encoded(ramp())}
    source = load(f"folder:{write(tmp_path / 'deep', photos)}", image_size=16)
    assert source.facts["depths"] == {"16 bits, divided by 257": 40, "floating, times 255": 1}
    assert load(source.name, image_size=16).facts == source.facts
    assert "framing" not in source.facts


def test_an_entry_of_before_that_refused_deep_photos_is_made_anew(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "deep.png").write_bytes(encoded(grey(DEEP)))
    files = {"deep.png": (folder / "deep.png").stat()}
    frame = Frame.of(16)
    hashed = hashlib.sha256((folder / "deep.png").read_bytes()).digest()
    stem = cache / f"images-1x16-{content_key([hashed], frame)}"
    cache.mkdir(mode=0o700)
    np.save(stem.with_suffix(".npy"), np.empty((0, 16, 16, 3), np.uint8))
    record = {
        "sha256": hashlib.sha256(b"").hexdigest(),
        "bad": {"0": "pixels deeper than 8 bits (mode I;16)"},
    }
    stem.with_suffix(".json").write_text(json.dumps(record))
    found = decoded(folder, files, 16, workers=0)
    assert (found.bad, found.pixels.shape) == ({}, (1, 16, 16, 3))


SIZES: list[tuple[Size, Framing]] = [((24, 16), CENTRE), (16, Framing("pad")), ((16, 40), Framing("squash"))]


@pytest.mark.parametrize(("size", "framing"), SIZES, ids=str)
def test_a_folder_is_read_at_a_size_and_by_a_way(
    size: Size, framing: Framing, tmp_path: Path, cache: Path
) -> None:
    folder = write(tmp_path / "wide", {f"{n:02}.png": encoded(ramp(60 + n, 40)) for n in range(40)})
    source = load(f"folder:{folder}", image_size=size, framing=framing)
    assert source.train.image_size == size
    assert source.facts["image_size"] == (list(size) if isinstance(size, tuple) else size)
    assert source.facts.get("framing", asdict(CENTRE)) == asdict(framing)
    name = str(source.test.ids[0])
    expected = decode((folder / "images" / name).read_bytes(), Frame.of(size, framing))
    assert np.array_equal(source.test.images(slice(0, 1))[0], expected)
    assert load(f"folder:{folder}", image_size=16).facts["digest"] != source.facts["digest"]


@pytest.mark.parametrize(
    "kind", ["faces:train=20,probe=20,test=20", "shapes:train=20,probe=20,test=20", "ages"]
)
def test_drawn_sources_refuse_rectangles(kind: str) -> None:
    with pytest.raises(OptionError, match="draws squares, but the image size is 32,16"):
        load(kind, image_size=(32, 16))


def test_digits_are_brought_to_rectangles(cache: Path) -> None:
    source = load("digits", image_size=(32, 20), framing=Framing("pad"), workers=0)
    pixels = source.test.images(slice(0, 9))
    assert pixels.shape == (9, 32, 20, 3)
    assert (pixels[:, :6] == 0).all()
    assert (pixels[:, -6:] == 0).all()
    assert pixels[:, 6:-6].max() == 255


def arrays(images: NDArray[Any]) -> dict[str, Any]:
    target = np.arange(len(images))[:, None] % 2 == np.array([0, 1])
    split = (images, target.astype(np.int64))
    return {"train": split, "probe": split, "test": split, "labels": ["a", "b"]}


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda pixels: pixels, 1),
        (lambda pixels: pixels.transpose(0, 3, 1, 2), 1),
        (lambda pixels: pixels[..., :1], 1),
        (lambda pixels: pixels[..., :1].transpose(0, 3, 1, 2), 1),
        (lambda pixels: pixels.astype(np.uint16) * 257, 1),
        (lambda pixels: pixels / 255, 1),
    ],
    ids=["last", "first", "grey, last", "grey, first", "16 bits", "floating"],
)
def test_arrays_may_be_rectangles_grey_and_deep(make: Callable[[Any], Any], value: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 24, 16, 1), np.uint8).repeat(3, 3)
    source = load(**arrays(make(pixels)))
    assert source.train.image_size == (24, 16)
    assert np.array_equal(source.train.images(slice(None)), pixels * value)


class Pictures:
    """A torch Dataset of PIL images."""

    def __init__(self, images: list[Image.Image]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, at: int) -> tuple[Image.Image, list[int]]:
        return self.images[at], [at % 2, 1 - at % 2]


def test_deep_pictures_in_memory_are_scaled_as_files_are() -> None:
    pictures = Pictures([grey(np.uint16(257 * at)) for at in range(8)] + [grey(np.float32(0.2))])
    source = load(train=pictures, probe=pictures, test=pictures, labels=["a", "b"])
    assert source.train.images(slice(None))[:, 0, 0, 0].tolist() == [*range(8), 51]
    pictures = Pictures([grey(np.float32(2.0))] * 4)
    with pytest.raises(DataError, match="image 0 of train has the mode F: floating pixels from 2 to 2"):
        load(train=pictures, probe=pictures, test=pictures, labels=["a", "b"])


def test_arrays_of_two_shapes_are_refused() -> None:
    given = arrays(np.zeros((8, 24, 16, 3), np.uint8))
    given["test"] = (np.zeros((8, 16, 24, 3), np.uint8), given["test"][1])
    with pytest.raises(DataError, match="24 x 16 pixels beside others of 16 x 24"):
        load(**given)


# -- batches


def test_augmenting_rectangles_moves_each_side_by_its_own_sixteenth() -> None:
    height, width, images = 16, 64, 1500
    pixels = np.zeros((images, height, width, 3), np.uint8)
    pixels[:, 8, 20] = 255
    moved = augment(torch.from_numpy(pixels), moves_of(np.arange(images), 0, 0, (height, width))).numpy()
    brightest = moved[..., 0].reshape(images, -1).argmax(1)
    row, column = brightest // width, brightest % width
    mirrored = column > width // 2
    assert sorted(set((row - 8).tolist())) == [-1, 0, 1]
    assert sorted(set((column[~mirrored] - 20).tolist())) == list(range(-4, 5))
    assert sorted(set((column[mirrored] - 43).tolist())) == list(range(-4, 5))


def test_perturbing_rectangles_mirrors_them() -> None:
    pixels = np.full((40, 12, 30, 3), 100, np.uint8)
    pixels[:, 5, 8] = 200
    changed = perturb(pixels, np.arange(40), 0)
    brightest = changed[..., 0].reshape(40, -1).argmax(1)
    assert set((brightest // 30).tolist()) == {4, 6}
    assert set((brightest % 30).tolist()) == {20, 22}


def test_one_number_makes_one_channel() -> None:
    pixels = np.array([[[[90, 90, 90], [10, 200, 60]]]], np.uint8)
    found = normalise(pixels, (0.5,), (0.25,), torch.device("cpu"))
    assert found.shape == (1, 1, 1, 2)
    grey_of = [90 / 255, (0.299 * 10 + 0.587 * 200 + 0.114 * 60) / 255]
    assert found.flatten().tolist() == pytest.approx([(value - 0.5) / 0.25 for value in grey_of], abs=1e-5)
