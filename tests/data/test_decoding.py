"""Hostile images: what a small file can unpack to is refused before it fills the memory, and runs nothing."""

import io
import os
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unlabel.core.errors import DataError
from unlabel.data.images import decoding
from unlabel.data.images.decoding import MAX_BYTES, MAX_PIXELS, Unreadable, decode
from unlabel.exchange.predict import predict_files

ZEROS = zlib.compress(bytes(100_000_000), 9)  # 97 kB
MEGABYTE = 2**20


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, extra: bytes = b"", pixels: bytes | None = None) -> bytes:
    """A PNG of one grey, with further chunks; its pixels may be those of another size."""
    rows = b"".join(b"\0" + b"\x80" * 3 * 16 for _ in range(16))
    body = chunk(b"IDAT", zlib.compress(rows) if pixels is None else pixels)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + body + chunk(b"IEND", b"")


def tiff(width: int, height: int, *more: tuple[int, int], pixels: bytes = ZEROS) -> bytes:
    """A deflated grey TIFF with the data first."""
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, **dict(more)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    start = 8 + len(pixels)
    return b"II*\0" + struct.pack("<I", start) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


def tiled(width: int, height: int, side: int) -> bytes:
    return tiff(width, height, (322, side), (323, side), (324, 8), (325, len(ZEROS)))


def strips(width: int, height: int, rows: int) -> bytes:
    return tiff(width, height, (273, 8), (278, rows), (279, len(ZEROS)))


def gif(canvas: int, frame: int) -> bytes:
    screen = struct.pack("<HHBBB", canvas, canvas, 0x80, 0, 0) + bytes(6)
    return b"GIF89a" + screen + b"," + struct.pack("<HHHHB", 0, 0, frame, frame, 0) + b"\2\2\x4c\1\0;"


def jpeg(width: int, height: int, **options: Any) -> bytes:
    """A JPEG of 16 pixels that claims another size."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", **options)
    data = bytearray(file.getvalue())
    at = data.index(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)
    )


def webp(width: int, height: int) -> bytes:
    """A lossless WebP header, and nothing behind it."""
    size = struct.pack("<I", (width - 1) | (height - 1) << 14)
    body = b"WEBPVP8L" + struct.pack("<I", 8) + b"\x2f" + size + bytes(3)
    return b"RIFF" + struct.pack("<I", len(body)) + body


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "PNG, 60,000 x 60,000": (lambda: png(60_000, 60_000), "more than 50,000,000"),
    "PNG, just above": (lambda: png(10_000, 5_001), "more than 50,000,000"),
    "PNG, 2 billion wide": (lambda: png(2**31 - 1, 1), "more than 50,000,000"),
    "PNG, a text that unpacks": (lambda: png(16, 16, chunk(b"zTXt", b"k\0\0" + ZEROS)), "too large"),
    "PNG, an international one": (lambda: png(16, 16, chunk(b"iTXt", b"k\0\1\0\0\0" + ZEROS)), "too large"),
    "PNG, a colour profile": (lambda: png(16, 16, chunk(b"iCCP", b"k\0\0" + ZEROS)), "too large"),
    "PNG, a hundred texts": (
        lambda: png(16, 16, 100 * chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000)))),
        "Too much memory",
    ),
    "JPEG": (lambda: jpeg(65_000, 65_000), "more than 50,000,000"),
    "JPEG, progressive": (lambda: jpeg(65_000, 65_000, progressive=True), "more than 50,000,000"),
    "GIF, canvas": (lambda: gif(65_535, 1), "more than 50,000,000"),
    "GIF, a frame beyond its canvas": (lambda: gif(16, 65_535), "more than 50,000,000"),
    "TIFF": (lambda: strips(2**30, 2**30, 2**20), "more than 50,000,000"),
    "TIFF, a tile beyond the image": (lambda: tiled(16, 16, 40_000), "a tile of 1,600,000,000 pixels"),
    "TIFF, a strip beyond the image": (lambda: strips(16, 16, 2**31), "decoder error"),
    "WebP": (lambda: webp(16_383, 16_383), "more than 50,000,000|could not create decoder"),
    "BMP": (lambda: bmp(40_000, 40_000), "more than 50,000,000"),
    "PPM": (lambda: b"P6\n1000000 1000000\n255\n", "more than 50,000,000"),
    "a file of 300 MB": (lambda: bytes(MAX_BYTES + 1), "more than 256,000,000 bytes"),
}


def peak(work: Callable[[], object]) -> int:
    """By how many bytes a child process grew while it worked; the work must not raise."""
    child = os.fork()
    if child == 0:
        try:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            work()
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            os._exit(min(grown // 8192, 254))  # kB to units of 8 MiB
        finally:
            os._exit(255)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert 0 <= code < 255, f"the child ended with {code}"
    return code * 8 * MEGABYTE


@pytest.mark.parametrize("what", BOMBS)
def test_a_bomb_is_refused_without_a_warning_and_in_little_memory(what: str) -> None:
    make, reason = BOMBS[what]
    data = make()
    with pytest.raises(Unreadable, match=reason) as found:
        decode(data, 16)
    assert "\n" not in str(found.value)

    def refused() -> None:
        with pytest.raises(Unreadable):
            decode(data, 16)

    assert peak(refused) < 64 * MEGABYTE


def test_pixels_beyond_the_image_are_not_unpacked() -> None:
    """A hundred megabytes in the pixels' chunk of an image of 16 x 16."""
    data = png(16, 16, pixels=ZEROS)
    assert decode(data, 16).shape == (16, 16, 3)
    assert peak(lambda: decode(data, 16)) < 64 * MEGABYTE


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"])
def test_the_largest_image_allowed_needs_bounded_memory(kind: str) -> None:
    """1 to 3 s each: four bytes a pixel, for the image, a copy in RGB and one turned upright, or a canvas."""
    file = io.BytesIO()
    options: dict[str, Any] = (
        {"progressive": True} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    )
    Image.new("RGB", (7_000, 7_000)).save(file, kind, **options)
    data = file.getvalue()
    assert peak(lambda: decode(data, 64)) < 16 * MAX_PIXELS


FOREIGN = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(owned) (w) file closefile\n",
    "PDF": b"%PDF-1.4\n1 0 obj\n",
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(40),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://127.0.0.1/'/></svg>",
    "FITS": b"SIMPLE  =                    T" + bytes(3000),
    "ICNS": b"icns" + struct.pack(">I", 100) + bytes(92),
    "PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 16, 16, 8, 3) + bytes(40),
    "a pickle": b"\x80\x04\x95\x1c\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_no_other_format_is_opened_and_no_program_started(kind: str, monkeypatch) -> None:
    """Pillow would hand an EPS to Ghostscript, which is a programming language."""

    def start(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(os, "system", start)
    with pytest.raises(Unreadable, match="not an image"):
        decode(FOREIGN[kind], 16)


def test_the_formats_are_a_short_list_without_programs() -> None:
    expected = {"JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "MPO"}
    assert set(decoding._readable_formats()) <= expected


@pytest.mark.parametrize("what", ["PNG, 60,000 x 60,000", "TIFF, a tile beyond the image"])
def test_predicting_a_bomb_is_one_line(what: str, command, base: Path, tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(BOMBS[what][0]())
    ran = command("predict", base, "bomb.png")
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert "bomb.png cannot be used: " in ran.err
    with pytest.raises(DataError):
        predict_files(base, [tmp_path / "bomb.png"])


def test_predicting_from_a_device_is_refused(base: Path) -> None:
    """It would be read without an end."""
    with pytest.raises(DataError, match="/dev/zero cannot be used: it is a device"):
        predict_files(base, [Path("/dev/zero")])


def test_a_huge_file_among_the_images_is_not_read_to_its_end(photos: Path, tmp_path: Path) -> None:
    """A sparse file of 100 GB takes no room on the disk, and would take all of the memory."""
    from unlabel.data.images.reading import read_file

    with (tmp_path / "huge.png").open("wb") as file:
        try:
            file.truncate(100_000_000_000)
        except OSError as error:
            pytest.skip(f"no sparse file of 100 GB here: {error}")
    assert len(read_file(tmp_path, "huge.png")) == MAX_BYTES + 1
    assert len(read_file(photos / "images", "00000.png")) < 10_000


def test_noise_in_a_header_never_ends_the_process() -> None:
    """2,000 files with a few bytes changed, of every format: a reason or pixels, nothing else."""
    rng, files = np.random.default_rng(0), []
    picture = Image.fromarray(rng.integers(0, 255, (24, 24, 3), np.uint8))
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM"):
        file = io.BytesIO()
        picture.save(file, kind)
        files.append(file.getvalue())

    def work() -> None:
        sys.stderr = io.StringIO()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff says what it finds
        for number in range(2_000):
            data = bytearray(files[number % len(files)])
            for at in rng.integers(0, min(len(data), 200), 4):
                data[at] = rng.integers(0, 256)
            with suppress(Unreadable):
                assert decode(bytes(data), 16).shape == (16, 16, 3)

    assert peak(work) < 16 * MAX_PIXELS
