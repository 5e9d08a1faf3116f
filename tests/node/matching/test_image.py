"""From the bytes of a picture to its signals: the pinned way, and that it is robust."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from hashlight_node.matching.image import (
    HASHED_SIDE,
    IMAGE_FORMATS,
    MIN_SIDE,
    ImageRefusedError,
    decode_image,
    hash_image,
)
from support.pictures import PHOTOS, blocks, encoded, photo

ORIENTATION = 0x0112

# What an upload commonly went through. `hash_image` has to see through all of it.
COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG of low quality": lambda it: encoded(it, "JPEG", quality=40),
    "progressive JPEG": lambda it: encoded(it, "JPEG", progressive=True),
    "WebP": lambda it: encoded(it, "WEBP", quality=60),
    "GIF": lambda it: encoded(it, "GIF"),
    "half size": lambda it: encoded(it.reduce(2), "PNG"),
    "a third of its size": lambda it: encoded(it.reduce(3), "JPEG"),
    "twice the size": lambda it: encoded(
        it.resize((2 * it.width, 2 * it.height)), "JPEG"
    ),
    "seven times the size": lambda it: encoded(it.resize((3500, 2800)), "JPEG"),
    "stretched": lambda it: encoded(it.resize((700, 300)), "PNG"),
    "brighter": lambda it: encoded(ImageEnhance.Brightness(it).enhance(1.2), "JPEG"),
    "greyscale": lambda it: encoded(it.convert("L"), "JPEG"),
}


def distance(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_the_photographs_are_there() -> None:
    assert len(PHOTOS) >= 5


@pytest.mark.parametrize("change", COPIES)
@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_a_copy_of_a_photograph_matches_it(path: Path, change: str) -> None:
    original = hash_image(path.read_bytes())
    copy = hash_image(COPIES[change](photo(path.stem)))
    assert distance(original.pdq, copy.pdq) <= 20


def test_different_photographs_do_not_match() -> None:
    hashes = [hash_image(path.read_bytes()).pdq for path in PHOTOS]
    for index, one in enumerate(hashes):
        assert all(distance(one, other) > 80 for other in hashes[:index])


def test_hashes_of_the_file_are_those_of_its_bytes() -> None:
    data = PHOTOS[0].read_bytes() + b"anything after the picture"
    signals = hash_image(data)
    assert signals.md5 == hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert signals.sha1 == hashlib.sha1(data, usedforsecurity=False).hexdigest()
    assert signals.sha256 == hashlib.sha256(data).hexdigest()
    assert signals.pdq == hash_image(PHOTOS[0].read_bytes()).pdq
    assert len(signals.pdq) == 64
    assert 50 <= signals.quality <= 100


@pytest.mark.parametrize("size", [(40, 30), (512, 512), (300, 900), (2500, 2100)])
def test_what_is_hashed_has_one_size(size: tuple[int, int]) -> None:
    pixels = decode_image(encoded(photo().resize(size), "BMP"))
    assert pixels.shape == (HASHED_SIDE, HASHED_SIDE, 3)


def test_a_picture_of_the_hashed_size_is_not_touched() -> None:
    pixels = blocks(HASHED_SIDE, HASHED_SIDE, seed=1, block=1)
    assert np.array_equal(decode_image(encoded(Image.fromarray(pixels), "PNG")), pixels)


@pytest.mark.parametrize(
    "size", [(3000, 3500), (2049, 2047), (8000, 1100), (3103, 2999)]
)
def test_cheap_reductions_change_next_to_nothing(size: tuple[int, int]) -> None:
    large = photo("coffee").resize(size, Image.Resampling.BICUBIC)
    plain = large.resize((HASHED_SIDE, HASHED_SIDE), Image.Resampling.BILINEAR)
    expected = hash_image(encoded(plain, "PNG")).pdq
    assert distance(hash_image(encoded(large, "BMP")).pdq, expected) <= 2
    jpeg = encoded(large, "JPEG", quality=95)
    assert distance(hash_image(jpeg).pdq, expected) <= 4


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_held_in_any_way_has_the_hash_of_the_upright_one(
    orientation: int, file_format: str
) -> None:
    upright = photo()
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    held = upright.transpose(turns[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    turned = hash_image(encoded(held, file_format, exif=exif))
    plain = hash_image(encoded(upright, file_format))
    assert distance(turned.pdq, plain.pdq) <= 4


def test_exif_that_says_nonsense_counts_as_upright() -> None:
    plain = encoded(photo(), "PNG")
    for exif in (b"", b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"MM\0*" * 9):
        damaged = encoded(photo(), "PNG", exif=exif)
        assert hash_image(damaged).pdq == hash_image(plain).pdq
    nonsense = Image.Exif()
    nonsense[ORIENTATION] = 99
    data = encoded(photo(), "PNG", exif=nonsense)
    assert hash_image(data).pdq == hash_image(plain).pdq


@pytest.mark.parametrize("file_format", IMAGE_FORMATS)
def test_every_format_gives_the_same_picture(file_format: str) -> None:
    options = {"lossless": True} if file_format == "WEBP" else {}
    signals = hash_image(encoded(photo(), file_format, **options))
    assert distance(signals.pdq, hash_image(encoded(photo(), "PNG")).pdq) <= 8


@pytest.mark.parametrize(
    ("mode", "file_format"),
    [
        ("1", "PNG"),
        ("L", "PNG"),
        ("P", "PNG"),
        ("LA", "PNG"),
        ("RGBA", "PNG"),
        ("RGBA", "WEBP"),
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
        ("YCbCr", "TIFF"),
        ("I;16", "PNG"),
        ("I;16", "TIFF"),
        ("I;16B", "TIFF"),
    ],
)
def test_every_pixel_format_shows_the_same_picture(mode: str, file_format: str) -> None:
    grey = photo().convert("L")
    if mode.startswith("I;16"):
        deep = (np.asarray(grey).astype(int) << 8).astype(
            ">u2" if mode == "I;16B" else "<u2"
        )
        picture = Image.frombytes(mode, grey.size, deep.tobytes())
    else:
        picture = grey.convert("RGB").convert(mode)
    signals = hash_image(encoded(picture, file_format))
    assert distance(signals.pdq, hash_image(encoded(grey, "PNG")).pdq) <= 12


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_range_are_refused(mode: str) -> None:
    with pytest.raises(ImageRefusedError, match="pixel format") as refusal:
        hash_image(encoded(photo().convert("L").convert(mode), "TIFF"))
    assert refusal.value.code == "not-an-image"


def test_what_is_transparent_lies_on_white() -> None:
    visible = photo().convert("RGBA")
    hidden = Image.new("RGBA", visible.size, (200, 0, 0, 0))
    hidden.paste(visible.crop((100, 100, 400, 300)), (100, 100))
    on_white = Image.new("RGB", visible.size, "white")
    on_white.paste(visible.crop((100, 100, 400, 300)), (100, 100))
    seen = decode_image(encoded(hidden, "PNG"))
    assert np.array_equal(seen, decode_image(encoded(on_white, "PNG")))


def test_transparency_by_colour_lies_on_white_too() -> None:
    picture = Image.new("RGB", (600, 600), (1, 2, 3))
    data = encoded(picture, "PNG", transparency=(1, 2, 3))
    assert decode_image(data).min() == 255


def test_of_an_animation_the_first_frame_counts() -> None:
    first, second = (photo(name).resize((300, 200)) for name in ("raccoon", "coffee"))
    for file_format in ("GIF", "WEBP", "PNG", "TIFF"):
        still = hash_image(encoded(first, file_format))
        moving = encoded(first, file_format, save_all=True, append_images=[second])
        assert distance(hash_image(moving).pdq, still.pdq) <= 10


def test_a_telephone_s_jpeg_of_two_pictures_counts_as_its_first() -> None:
    both = encoded(photo(), "MPO", save_all=True, append_images=[photo("coffee")])
    assert hash_image(both).pdq == hash_image(encoded(photo(), "JPEG")).pdq


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_a_plain_picture_is_refused_because_it_shows_nothing(shade: int) -> None:
    with pytest.raises(ImageRefusedError, match="quality 0 of 100") as refusal:
        hash_image(encoded(Image.new("L", (600, 400), shade), "PNG"))
    assert refusal.value.code == "image-quality-too-low"


@pytest.mark.parametrize("size", [(MIN_SIDE - 1, 500), (500, 1), (1, 1)])
def test_a_sliver_is_refused_because_it_shows_nothing(size: tuple[int, int]) -> None:
    with pytest.raises(ImageRefusedError, match="shorter than") as refusal:
        hash_image(encoded(photo().resize(size), "PNG"))
    assert refusal.value.code == "image-quality-too-low"
