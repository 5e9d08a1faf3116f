"""Pictures for tests: the demo's photographs, drawn ones, and files made of them."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PHOTO_FOLDER = (
    Path(__file__).resolve().parents[2] / "node" / "hashlight_node" / "demo" / "photos"
)
PHOTOS = sorted(PHOTO_FOLDER.glob("*.jpg"))


def photo(name: str = "raccoon") -> Image.Image:
    """Open one of the photographs, decoded."""
    with Image.open(PHOTO_FOLDER / f"{name}.jpg") as picture:
        return picture.convert("RGB")


def blocks(height: int, width: int, *, seed: int, block: int) -> NDArray[np.uint8]:
    """Draw squares of random colours, `block` pixels wide."""
    generator = np.random.default_rng(seed)
    size = (-(-height // block), -(-width // block), 3)
    colours = generator.integers(0, 256, size, dtype=np.uint8)
    wide = np.repeat(np.repeat(colours, block, axis=0), block, axis=1)
    return np.ascontiguousarray(wide[:height, :width])


def encoded(picture: Image.Image, file_format: str, **options: object) -> bytes:
    """Write a picture as a file."""
    file = BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """Frame one chunk of a PNG file."""
    checksum = zlib.crc32(kind + content)
    return (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    )


def png(
    width: int, height: int, pixels: bytes, *, depth: int = 8, colour_type: int = 2
) -> bytes:
    """Write a PNG file whose header and compressed pixels need not agree."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def repeated(row: bytes, count: int) -> bytes:
    """Compress one row of pixels many times over, a bomb in few bytes."""
    compressor = zlib.compressobj(1)
    at_once = max(1, min(count, 2**20 // len(row)))
    rows = row * at_once
    parts = [compressor.compress(rows) for _ in range(count // at_once)]
    parts.append(compressor.compress(row * (count % at_once)))
    return b"".join(parts) + compressor.flush()
