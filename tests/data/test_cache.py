import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unlabel.core import parallel
from unlabel.core.errors import DataError
from unlabel.core.progress import Silent
from unlabel.data.images import cache as cache_module
from unlabel.data.images import photos
from unlabel.data.images.cache import Decoded
from unlabel.data.images.cache_folder import cache_folder
from unlabel.data.images.decoding import MAX_PIXELS, Unreadable, decode, shape_of
from unlabel.data.images.photos import decoded


class Counting(Silent):
    """Remembers the stages that ran."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []

    def track(self, stage: str, total: int, unit: str = ""):
        self.stages.append((stage, total))
        return super().track(stage, total, unit)


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:  # noqa: A002
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def quadrants(size: int = 32) -> Image.Image:
    """Red, green / blue, white: every flip and turn of it differs."""
    pixels = np.zeros((size, size, 3), np.uint8)
    half = size // 2
    pixels[:half, :half] = 255, 0, 0
    pixels[:half, half:] = 0, 255, 0
    pixels[half:, :half] = 0, 0, 255
    pixels[half:, half:] = 255
    return Image.fromarray(pixels)


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


def status(folder: Path) -> dict[str, os.stat_result]:
    return {path.name: path.stat() for path in sorted(folder.iterdir())}


def read(folder: Path, size: int = 16, log: Silent | None = None, workers: int = 0) -> Decoded:
    return decoded(folder, status(folder), size, workers=workers, log=log or Silent())


@pytest.fixture
def images(tmp_path: Path, cache: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(encoded(Image.new("RGB", (20, 20), (number * 50, 0, 9))))
    return folder


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the images had been written long ago."""
    monkeypatch.setattr(photos, "_SETTLED_SECONDS", -1e9)


# -- one image


def test_the_centre_square_of_a_wide_image_is_kept() -> None:
    wide = Image.new("RGB", (60, 20), (0, 0, 0))
    wide.paste((200, 100, 50), (20, 0, 40, 20))
    assert (decode(encoded(wide), 20) == [200, 100, 50]).all()


def test_the_centre_square_of_a_tall_image_is_kept() -> None:
    tall = Image.new("RGB", (16, 48), (0, 0, 0))
    tall.paste((200, 100, 50), (0, 16, 16, 32))
    assert (decode(encoded(tall), 16) == [200, 100, 50]).all()


def test_an_image_of_the_right_size_is_unchanged() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert (decode(encoded(Image.fromarray(pixels)), 16) == pixels).all()


def test_shrinking_antialiases() -> None:
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    small = decode(encoded(Image.fromarray(stripes)), 16)
    assert abs(small.astype(int) - 128).max() <= 12  # picking single pixels would give 0 or 255


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int, kind: str) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that the camera's turn is undone by
    stored = quadrants()
    if orientation in undo:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert (decode(encoded(stored, kind, exif=exif), 32) == np.asarray(quadrants())).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_shape_is_that_of_the_upright_image(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.new("RGB", (30, 20)), kind, exif=exif)
    assert shape_of(data) == ((30, 20) if orientation >= 5 else (20, 30))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_damaged_exif_does_not_make_an_image_bad() -> None:
    data = encoded(quadrants(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=95)
    assert abs(decode(data, 32).astype(int) - np.asarray(quadrants())).mean() < 8


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_common_mode_becomes_rgb(mode: str) -> None:
    white = Image.new("RGB", (20, 20), (255, 255, 255)).convert(mode)
    data = encoded(white, "JPEG" if mode == "CMYK" else "PNG")
    assert decode(data, 16).min() >= 250


def test_a_large_jpeg_decodes_as_a_png_does() -> None:
    photo = quadrants(1024)
    difference = decode(encoded(photo, "JPEG", quality=98), 32).astype(int) - decode(encoded(photo), 32)
    assert abs(difference).mean() < 3  # JPEG rounding and ringing at two edges


def header_only_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"hello", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (encoded(noise(), "JPEG")[:2000], "truncated"),
        (encoded(noise())[:2000], "truncated"),
        (encoded(noise(), "JPEG")[:300], "Truncated File Read"),
        (header_only_png(10_000, 5_001), f"more than {MAX_PIXELS:,}"),
        (header_only_png(10_000, 10_000), "more than"),
        (header_only_png(60_000, 60_000), "more than"),
        (encoded(Image.fromarray(np.full((9, 9), 3000, np.float32)), "TIFF"), "floating pixels from 3000"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_unreadable_file_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason) as caught:
        decode(data, 16)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


# -- a folder of them


def test_pixels_come_in_the_order_of_the_names(images: Path) -> None:
    found = read(images)
    assert found.pixels.shape == (5, 16, 16, 3)
    assert found.pixels.dtype == np.uint8
    assert found.pixels[:, 8, 8, 0].tolist() == [0, 50, 100, 150, 200]
    assert isinstance(found.pixels, np.memmap)


def test_the_second_reading_decodes_nothing(images: Path) -> None:
    read(images)
    log = Counting()
    read(images, log=log)
    assert log.stages == [("read", 5)]


def test_an_untouched_folder_is_not_even_read(images: Path, settled: None) -> None:
    first, log = read(images), Counting()
    assert read(images, log=log).digest == first.digest
    assert log.stages == []


def test_freshly_written_images_are_not_trusted_by_their_times(images: Path, cache: Path) -> None:
    read(images)
    assert not list(cache.glob("seen-*"))


def test_a_touched_folder_is_read_once_and_decoded_never(images: Path, settled: None) -> None:
    read(images)
    for path in images.iterdir():
        os.utime(path, (1, 1))
    first, second = Counting(), Counting()
    read(images, log=first)
    read(images, log=second)
    assert (first.stages, second.stages) == ([("read", 5)], [])


def test_a_copy_elsewhere_shares_the_pixels(images: Path, tmp_path: Path, cache: Path) -> None:
    first = read(images)
    images.rename(tmp_path / "moved")
    assert read(tmp_path / "moved").digest == first.digest
    assert len(list(cache.glob("images-*.npy"))) == 1


def test_a_changed_image_of_equal_size_and_time_is_seen(images: Path, settled: None) -> None:
    read(images)
    path = images / "0.png"
    before, data = path.stat(), (images / "1.png").read_bytes()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read(images).pixels[0, 8, 8, 0] == 50


def test_another_size_is_another_entry(images: Path) -> None:
    assert read(images, 16).pixels.shape[1] == 16
    assert read(images, 24).pixels.shape[1] == 24
    assert read(images, 16).pixels.shape[1] == 16


@pytest.mark.parametrize("damage", ["cut", "flip", "header", "empty", "gone", "record", "record gone"])
def test_a_damaged_entry_is_made_again(images: Path, cache: Path, settled: None, damage: str) -> None:
    first = read(images)
    expected, digest = first.pixels.copy(), first.digest
    del first
    (array,), (record,) = cache.glob("images-*.npy"), cache.glob("images-*.json")
    data = array.read_bytes()
    match damage:
        case "cut":
            array.write_bytes(data[:-100])
        case "flip":
            array.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "header":
            array.write_bytes(b"not an array" + data[12:])
        case "empty":
            array.write_bytes(b"")
        case "gone":
            array.unlink()
        case "record":
            record.write_text('{"bad": 3')
        case _:
            record.unlink()
    again = read(images)
    assert (again.pixels == expected).all()
    assert again.digest == digest


def test_unreadable_images_are_packed_out_and_named_by_position(images: Path) -> None:
    good = read(images)
    (images / "2b.jpg").write_bytes(b"not a photo")
    (images / "9.png").write_bytes(encoded(quadrants(64))[:60])
    found = read(images)
    assert sorted(found.bad) == [3, 6]
    assert found.bad[3] == "not an image"
    assert found.digest == good.digest
    assert sorted(read(images).bad) == [3, 6]


def test_a_folder_of_only_unreadable_images_is_cached_too(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"a")
    for _ in range(2):
        found = read(folder)
        assert found.pixels.shape == (0, 16, 16, 3)
        assert list(found.bad) == [0]


def test_processes_find_what_one_finds(
    images: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number in range(5, 150):
        (images / f"{number:03}.png").write_bytes(encoded(Image.new("RGB", (8, 8), (number, 1, 2))))
    (images / "100.png").write_bytes(b"broken")
    alone = read(images, workers=1)
    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(parallel, "_FEW", 2)
    together = read(images, workers=2)
    assert (together.digest, together.bad) == (alone.digest, alone.bad)
    assert sum(1 for _ in (tmp_path / "other").glob(".new-*")) == 0


def test_pillow_warnings_do_not_leak(images: Path) -> None:
    (images / "bomb.png").write_bytes(
        header_only_png(10_000, 10_000)
    )  # Pillow warns; warnings are errors here
    assert "more than" in read(images).bad[5]


def test_two_at_once_both_end_with_whole_files(images: Path, cache: Path) -> None:
    found: list[Decoded] = []
    threads = [threading.Thread(target=lambda: found.append(read(images))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.digest for one in found}) == 1
    assert len(found) == 4
    assert len(list(cache.glob("images-*.npy"))) == 1
    assert not list(cache.glob(".new-*"))


def test_an_interrupted_decoding_leaves_nothing(
    images: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache_module, "read_picture", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read(images)
    assert list(cache.iterdir()) == []


def test_leftovers_of_killed_processes_are_swept_and_fresh_ones_kept(images: Path, cache: Path) -> None:
    cache.mkdir()
    (cache / ".new-old").write_bytes(b"half")
    os.utime(cache / ".new-old", (1, 1))
    (cache / ".new-fresh").write_bytes(b"half")
    read(images)
    assert [path.name for path in cache.glob(".new-*")] == [".new-fresh"]


def test_an_image_that_cannot_be_opened_is_named(images: Path) -> None:
    files = status(images)
    (images / "3.png").unlink()
    with pytest.raises(DataError, match=r"cannot open image '3.png' .*No such file"):
        decoded(images, files, 16, workers=0)


def test_a_cache_that_cannot_be_written_is_said(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"cannot write decoded images to .*UNLABEL_CACHE"):
        read(images)


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNLABEL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "unlabel"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "unlabel"
    monkeypatch.setenv("UNLABEL_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    assert (tmp_path / "own").is_dir()
