"""From the bytes of a picture to the signals that are published and looked up.

A perceptual hash moves by several bits with the way a picture is decoded and
scaled, so there is one way, and SPEC.md pins it:

1. The first frame is decoded. A JPEG whose sides exceed 2,048 pixels is decoded at
   1/2, 1/4 or 1/8 of its size, the smallest that leaves at least 1,024 each way.
2. Colours become 8-bit RGB as stored; colour profiles are not applied. Of 16 bits
   the upper 8 count. What is transparent lies on white.
3. Sides of 2,048 pixels and more are reduced by averaging whole blocks, as large as
   leaves at least 1,024. Then the picture becomes 512 x 512, whatever its shape
   and also if it was smaller, by an antialiased bilinear (triangle) filter.
4. The orientation that EXIF (or XMP) gives is applied.
5. PDQ of that. MD5, SHA-1 and SHA-256 are those of the file's bytes.

Always 512 x 512, because the reference's own reduction to 64 x 64 shifts a picture
by a distance that depends on its size. Hashed at the sizes they came in, or reduced
to fit into 512 pixels, copies of a photograph 200 to 1,600 pixels long were up to
34 bits away from it, which is no match; this way 10. It is also what the
reference's command line does to large pictures (by another filter: at most 12 bits
away from ours).

Pictures come from anywhere. Every step has a bound on memory and time, and
whatever a decoder says to hostile bytes becomes an `ImageRefusedError`. Everything
here is CPU-bound: callers run it in a thread, or in a process of its own.

Source: SPEC.md#picture-hashing.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, TiffImagePlugin

from hashlight_node.matching.pdq import luminance, pdq_hash
from hashlight_protocol import PDQ_QUALITY_FLOOR

MAX_IMAGE_BYTES: Final = 32 * 1024 * 1024
"""Largest file; photographs of 50 megapixels have 10 to 25 MB."""

MAX_IMAGE_PIXELS: Final = 8192 * 6144
"""Largest picture: a telephone's 50 megapixels; half of that as WebP.

Decoding takes 4 bytes a pixel, in some formats twice: 400 MB at most.
"""

MAX_JPEG_SCANS: Final = 64
"""Passes of a progressive JPEG; encoders write 10 or so.

Each costs a walk over the whole picture and a few bytes of file, so without a bound
a small file would keep a core busy for hours.
"""

MIN_SIDE: Final = 16
"""Shortest side: a hash tells apart 16 frequencies, which fewer pixels cannot hold."""

HASHED_SIDE: Final = 512
"""Pixels to which both sides are brought before hashing."""

ImageFormat = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]

IMAGE_FORMATS: Final[tuple[ImageFormat, ...]] = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
)
"""What is decoded. Nothing else reaches a decoder, least of all SVG or PDF."""

ImageRefusal = Literal[
    "not-an-image", "image-too-large", "image-truncated", "image-quality-too-low"
]
"""Stable codes of `ImageRefusedError`."""

# What Pillow's decoders raise for damaged files, found by reading and by fuzzing.
# Programming errors elsewhere cannot hide here: only decoder calls are guarded.
_DECODER_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    struct.error,
    zlib.error,
)
_TOO_LARGE_ERRORS: Final = (
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    MemoryError,
)

_ROUGH_SIDE: Final = 2 * HASHED_SIDE  # what cheap reductions must leave
_BAND_PIXELS: Final = 1024 * 1024  # converted at a time, whatever the size
_WHITE: Final = (255, 255, 255)
_START_OF_SCAN: Final = b"\xff\xda"
_ORIENTATION: Final = 0x0112  # EXIF tag
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF tags
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EIGHT_BIT_MODES: Final = frozenset(
    {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LA", "La", "PA", "RGBA", "RGBa"}
)
_SIXTEEN_BIT_MODES: Final = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})

# As Pillow names them. libtiff has a dozen more decoders, which photographs do not
# need; those for facsimiles print a line for every damaged row.
_TIFF_COMPRESSIONS: Final = frozenset(
    {"raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "jpeg"}
)


@dataclass(frozen=True, slots=True)
class ImageSignals:
    """What a picture is published and found by; hexadecimal, lower case.

    Attributes:
        pdq: 64 digits.
        quality: PDQ's quality, 50 to 100.
        md5: 32 digits, of the file's bytes like the next two.
        sha1: 40 digits.
        sha256: 64 digits.
    """

    pdq: str
    quality: int
    md5: str
    sha1: str
    sha256: str


class ImageRefusedError(Exception):
    """A file from which no signals can be made.

    Attributes:
        code: Which rule it breaks; stable, see SPEC.md#picture-hashing.
        reason: Why, for a person; never quotes the file.
    """

    def __init__(self, code: ImageRefusal, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


def hash_image(data: bytes) -> ImageSignals:
    """Compute every signal of a picture.

    Args:
        data: The file, whole. What follows the picture in it counts for the
            cryptographic hashes only.

    Raises:
        ImageRefusedError: With the code `not-an-image` for what is none of
            `IMAGE_FORMATS` or uses an exotic pixel format, `image-too-large` for
            more bytes, pixels or passes than allowed, `image-truncated` if the
            pixels are incomplete or damaged, and `image-quality-too-low` if
            there is too little to see for a hash that means anything.

    Source: SPEC.md#picture-hashing.
    """
    pdq = pdq_hash(luminance(decode_image(data)))
    if pdq.quality < PDQ_QUALITY_FLOOR:
        raise ImageRefusedError(
            "image-quality-too-low",
            f"PDQ quality {pdq.quality} of 100, and {PDQ_QUALITY_FLOOR} is needed:"
            " the picture has too little detail",
        )
    return ImageSignals(
        pdq=pdq.digest.hex(),
        quality=pdq.quality,
        md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
        sha1=hashlib.sha1(data, usedforsecurity=False).hexdigest(),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Decode and scale a picture in the pinned way, steps 1 to 4 of the module.

    Returns:
        512 x 512 x 3 values of red, green and blue.

    Raises:
        ImageRefusedError: As `hash_image`; `image-quality-too-low` only for a side
            shorter than `MIN_SIDE`.
    """
    if len(data) > MAX_IMAGE_BYTES:
        raise ImageRefusedError(
            "image-too-large",
            f"{len(data)} bytes, and {MAX_IMAGE_BYTES} are allowed",
        )
    formats = ", ".join(IMAGE_FORMATS)
    with _refusing("not-an-image", f"none of {formats}, or its header is damaged"):
        picture = Image.open(BytesIO(data), formats=IMAGE_FORMATS)
        pixels = _decoded_pixels(picture)
    with picture:
        _check_work(picture, data, pixels)
        with _refusing("image-truncated", "its pixels are incomplete or damaged"):
            picture.draft(None, (_ROUGH_SIDE, _ROUGH_SIDE))
            picture.load()
            scaled = _scale(picture)
        orientation = _orientation(picture)
    if orientation in _UPRIGHT:
        scaled = scaled.transpose(_UPRIGHT[orientation])
    return np.asarray(scaled)


@contextmanager
def _refusing(code: ImageRefusal, reason: str) -> Iterator[None]:
    """Turn what a decoder raises into a refusal."""
    try:
        yield
    except _TOO_LARGE_ERRORS as error:
        raise _too_many_pixels() from error
    except _DECODER_ERRORS as error:
        raise ImageRefusedError(code, reason) from error


def _decoded_pixels(picture: Image.Image) -> int:
    """Estimate from the header what decoding holds in memory at most, in pixels."""
    pixels = picture.width * picture.height
    if picture.format == "WEBP":
        return 2 * pixels  # its decoder keeps two canvases for animation
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        # A tile is decoded whole, and may be larger than the picture.
        tags = picture.tag_v2
        tile = int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_LENGTH, 0))
        return max(pixels, tile)
    return pixels


def _is_supported(picture: Image.Image) -> bool:
    if picture.format == "TIFF":
        compression = picture.info.get("compression")
        if compression not in _TIFF_COMPRESSIONS:
            return False
    return picture.mode in _EIGHT_BIT_MODES | _SIXTEEN_BIT_MODES


def _check_work(picture: Image.Image, data: bytes, pixels: int) -> None:
    """Refuse what costs too much or shows too little, judged by the header."""
    if not _is_supported(picture):
        raise ImageRefusedError("not-an-image", "its pixel format is not supported")
    if min(picture.size) < MIN_SIDE:
        raise ImageRefusedError(
            "image-quality-too-low", f"a side is shorter than {MIN_SIDE} pixels"
        )
    if pixels > MAX_IMAGE_PIXELS:
        raise _too_many_pixels()
    # In compressed data FF is followed by 00, so this counts markers; those of
    # embedded thumbnails too, which are few.
    if (
        isinstance(picture, JpegImagePlugin.JpegImageFile)
        and data.count(_START_OF_SCAN) > MAX_JPEG_SCANS
    ):
        raise ImageRefusedError(
            "image-too-large", f"more than {MAX_JPEG_SCANS} passes over its pixels"
        )


def _too_many_pixels() -> ImageRefusedError:
    return ImageRefusedError(
        "image-too-large", f"more than {MAX_IMAGE_PIXELS} pixels to decode"
    )


def _orientation(picture: Image.Image) -> int:
    """Read how the camera was held; damaged EXIF counts as none."""
    try:
        orientation = picture.getexif().get(_ORIENTATION, 1)
    except (*_DECODER_ERRORS, MemoryError):
        return 1
    return orientation if isinstance(orientation, int) else 1


def _scale(picture: Image.Image) -> Image.Image:
    """Convert to RGB and bring to the size that is hashed.

    Conversions copy, and so does compositing; here only bands are ever copied,
    never a picture of 50 megapixels.
    """
    width, height = picture.size
    across, down = max(1, width // _ROUGH_SIDE), max(1, height // _ROUGH_SIDE)
    reduced = Image.new("RGB", (-(-width // across), -(-height // down)))
    rows = max(1, _BAND_PIXELS // (width * down)) * down
    for top in range(0, height, rows):
        band = _rgb(picture.crop((0, top, width, min(top + rows, height))))
        reduced.paste(band.reduce((across, down)), (0, top // down))
    # In reduced pixels; the last block of each row and column may be incomplete.
    extent = (0, 0, width / across, height / down)
    return reduced.resize(
        (HASHED_SIDE, HASHED_SIDE), Image.Resampling.BILINEAR, box=extent
    )


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in _SIXTEEN_BIT_MODES:
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    opaque = Image.new("RGB", picture.size, _WHITE)
    layer = picture.convert("RGBA")
    opaque.paste(layer, mask=layer)
    return opaque
