"""Files made to break a decoder: each is refused, in bounded time and memory."""

import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from hashlight_node.matching.image import (
    MAX_IMAGE_BYTES,
    MAX_IMAGE_PIXELS,
    MAX_JPEG_SCANS,
    ImageRefusedError,
    hash_image,
)
from support.pictures import PHOTOS, encoded, photo, png, repeated

CODES = {"not-an-image", "image-too-large", "image-truncated", "image-quality-too-low"}


def held_sideways() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


SMALL = photo().resize((48, 40))
FILES = {
    "JPEG": encoded(SMALL, "JPEG"),
    "progressive JPEG": encoded(SMALL, "JPEG", progressive=True),
    "PNG": encoded(SMALL, "PNG"),
    "palette PNG": encoded(SMALL.convert("P"), "PNG", transparency=3),
    "WEBP": encoded(SMALL, "WEBP"),
    "moving WEBP": encoded(SMALL, "WEBP", save_all=True, append_images=[SMALL]),
    "GIF": encoded(SMALL, "GIF", transparency=3),
    "BMP": encoded(SMALL, "BMP"),
    "TIFF": encoded(SMALL, "TIFF"),
    "deflated TIFF": encoded(SMALL, "TIFF", compression="tiff_adobe_deflate"),
    "JPEG with EXIF": encoded(SMALL, "JPEG", exif=held_sideways()),
}


def refusal_of(data: bytes) -> str | None:
    """Hash and give the code of the refusal, None if there was none."""
    try:
        hash_image(data)
    except ImageRefusedError as error:
        return error.code if str(error).startswith(error.code) else "badly written"
    return None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100_000,
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"GIF89a",
        b"BM",
        b"II*\0",
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj <<>> endobj",
        b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "b">]><svg>&b;</svg>',
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"P6\n64 64\n255\n" + b"\x7f" * 64 * 64 * 3,
        b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0" + b"\0" * 100,
        zlib.compress(b"\0" * 1000),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    assert refusal_of(data) == "not-an-image"


def test_formats_that_nobody_asked_for_reach_no_decoder() -> None:
    for file_format in ("PPM", "TGA", "PCX", "ICO", "SGI", "EPS", "PDF", "JPEG2000"):
        assert refusal_of(encoded(photo(), file_format)) == "not-an-image"


def test_a_file_over_the_limit_is_refused_unread() -> None:
    assert refusal_of(bytes(MAX_IMAGE_BYTES + 1)) == "image-too-large"
    assert refusal_of(PHOTOS[0].read_bytes().ljust(MAX_IMAGE_BYTES, b"\0")) is None


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_is_accepted(name: str) -> None:
    assert refusal_of(FILES[name]) is None


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_off_anywhere_is_refused(name: str) -> None:
    data = FILES[name]
    for length in range(0, len(data), max(1, len(data) // 40)):
        # The very end may be padding, metadata or a further frame.
        if length < 0.6 * len(data) or "moving" not in name:
            assert length > len(data) - 40 or refusal_of(data[:length]) in CODES


def test_a_photograph_cut_off_in_the_middle_is_told_apart_from_no_picture() -> None:
    data = PHOTOS[0].read_bytes()
    assert refusal_of(data[: len(data) // 2]) == "image-truncated"
    data = encoded(photo(), "PNG")
    assert refusal_of(data[: len(data) // 2]) == "image-truncated"


@given(
    name=st.sampled_from(sorted(FILES)),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=12),
    cut=st.none() | st.floats(0, 1),
)
def test_a_damaged_file_is_hashed_or_refused_and_nothing_else(
    name: str, edits: list[tuple[float, int]], cut: float | None
) -> None:
    data = bytearray(FILES[name])
    for place, value in edits:
        data[int(place * (len(data) - 1))] = value
    if cut is not None:
        del data[int(cut * len(data)) :]
    refusal_of(bytes(data))


MAGIC = [
    b"\xff\xd8\xff\xe0",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
]
MAGIC += [b"RIFF\x40\0\0\0WEBPVP8L", b"RIFF\x40\0\0\0WEBPVP8X", b"II+\0", b""]


@given(
    magic=st.sampled_from(MAGIC),
    rest=st.binary(max_size=300),
)
@example(magic=b"II*\0", rest=struct.pack("<IH", 8, 0xFFFF))
def test_arbitrary_bytes_are_refused_and_nothing_else(
    magic: bytes, rest: bytes
) -> None:
    assert refusal_of(magic + rest) in CODES


@pytest.mark.parametrize(
    "size",
    [(2**31 - 1, 2**31 - 1), (100_000, 100_000), (MAX_IMAGE_PIXELS // 100 + 1, 100)],
)
def test_a_header_that_promises_too_much_is_believed_and_refused(
    size: tuple[int, int],
) -> None:
    assert refusal_of(png(*size, pixels=zlib.compress(b""))) == "image-too-large"


def tiff(side: int, tile: int, content: bytes) -> bytes:
    """Write a grey TIFF of one deflated tile."""
    tags = [(256, side), (257, side), (258, 8), (259, 8), (262, 1), (277, 1)]
    tags += [(322, tile), (323, tile), (324, 8 + 2 + 12 * 10 + 4), (325, len(content))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return head + entries + bytes(4) + content


@pytest.mark.parametrize("compression", ["group3", "group4", "lzma", "zstd"])
def test_a_tiff_for_an_exotic_decoder_is_refused(compression: str) -> None:
    picture = SMALL.convert("1")
    data = encoded(picture, "TIFF", compression=compression)
    assert refusal_of(data) == "not-an-image"


def test_a_tile_larger_than_its_picture_is_refused() -> None:
    bomb = tiff(100, 30_000, repeated(bytes(30_000), 3000))
    assert refusal_of(bomb) == "image-too-large"
    plain = tiff(100, 128, zlib.compress(bytes(128 * 128)))
    assert refusal_of(plain) == "image-quality-too-low"


def test_a_jpeg_of_endless_passes_is_refused() -> None:
    data = encoded(SMALL, "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    assert refusal_of(data[:-2] + last * 10 + data[-2:]) is None
    endless = data[:-2] + last * MAX_JPEG_SCANS + data[-2:]
    assert refusal_of(endless) == "image-too-large"


def test_a_picture_that_is_also_something_else_counts_as_the_picture() -> None:
    archive = b"PK\x05\x06" + bytes(18)
    script = b"GIF89a/*" + FILES["GIF"][8:] + b"*/=1;alert(1)"
    assert refusal_of(FILES["JPEG"] + archive) is None
    assert refusal_of(archive + FILES["JPEG"]) == "not-an-image"
    refusal_of(script)


def test_text_that_explodes_inside_a_png_is_not_unpacked() -> None:
    plain = encoded(SMALL, "PNG")
    content = b"note\0\0" + zlib.compress(bytes(50_000_000), 9)
    checksum = struct.pack(">I", zlib.crc32(b"zTXt" + content))
    bomb = struct.pack(">I", len(content)) + b"zTXt" + content + checksum
    started = time.monotonic()
    assert refusal_of(plain[:33] + bomb + plain[33:]) in CODES | {None}
    assert time.monotonic() - started < 5


# Width, height, bits per sample and colour type of PNG files that expand some
# thousandfold and stay just within the limits.
BOMBS = {
    "transparent": (8192, 6144, 8, 6),
    "deep": (8192, 6144, 16, 2),
    "wide": (3_145_728, 16, 8, 6),
    "high": (16, 3_145_728, 8, 6),
}
# A process of its own, because its peak is what a host would see.
# The kernel's own peak of this process: `ru_maxrss` would start at the peak of the
# process that started it, which here is the whole test run.
CHILD = """
import re, time
from pathlib import Path
from hashlight_node.matching.image import ImageRefusedError, hash_image
from support.pictures import png, repeated
width, height, depth, colour_type = {bomb}
row = b"\\0" + bytes(range(depth // 8 * {{2: 3, 6: 4}}[colour_type])) * width
data = png(width, height, repeated(row, height), depth=depth, colour_type=colour_type)
started = time.monotonic()
try:
    hash_image(data)
except ImageRefusedError as error:
    print(error.code)
print(time.monotonic() - started)
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.parametrize("name", BOMBS)
def test_the_worst_bomb_within_the_limits_costs_bounded_time_and_memory(
    name: str,
) -> None:
    tests = Path(__file__).resolve().parents[2]
    path = [tests, tests.parent / "node", tests.parent / "protocol"]
    answer = subprocess.run(
        [sys.executable, "-c", CHILD.format(bomb=BOMBS[name])],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        check=True,
    )
    code, seconds, peak_kib = answer.stdout.split()
    assert code == "image-quality-too-low"
    assert float(seconds) < 30
    assert int(peak_kib) < 450 * 1024


def test_a_webp_of_two_canvases_is_held_to_half_the_pixels() -> None:
    wide = encoded(Image.new("L", (8192, 4096)), "WEBP", lossless=True, method=0)
    assert refusal_of(wide) == "image-too-large"
