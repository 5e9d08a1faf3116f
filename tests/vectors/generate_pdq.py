"""Make pdq.json: pictures, and the hash and quality that Meta's PDQ gives for them.

Expectations come from the reference (`make oracle` installs it), never from our own
implementation, so this runs only where the reference is installed. The pictures are
written down as formulas in whole numbers, or as uncompressed PNG files, so that
they are the same everywhere.
"""

import hashlib
import json
import struct
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent

Pixels = NDArray[np.uint8]

ABOUT = (
    "PDQ of pictures, as facebook/ThreatExchange's C++ computes it through pdqhash"
    " 0.2.8. `pictures`: pixels by formula, hashed at the size they have. `files`:"
    " uncompressed PNG files through the pinned pipeline of SPEC.md, section Picture"
    " hashing; scaled by Pillow, an implementation with another triangle filter may"
    " be 2 bits off. `bytes`(seed): x = (1664525 x + 1013904223) mod 2^32 from x ="
    " seed, each time giving x >> 24. noise: these bytes, row by row, R G B. lattice:"
    " a grid of `down` x `across` colours made of these bytes; pixel (i, j) lies at"
    " u = i (down - 1), v = j (across - 1), between the grid's rows u div h and the"
    " next and the columns v div w and the next, weighted by b = u mod h and a = v mod"
    " w: ((h-b)(w-a) c00 + (h-b) a c01 + b (w-a) c10 + a b c11) div (h w). ramp: R ="
    " 255 j div (w-1), G = 255 i div (h-1), B = 128. flat: all three are `value`."
    " sha256 is that of the pixels, row by row, R G B."
)

# Name, height, width, what to draw.
PICTURES: list[tuple[str, int, int, dict[str, Any]]] = [
    ("64 x 64, hashed without a filter", 64, 64, {"kind": "lattice", "seed": 1}),
    ("64 x 64 noise", 64, 64, {"kind": "noise", "seed": 2}),
    ("64 high only", 64, 65, {"kind": "noise", "seed": 3}),
    ("smallest", 5, 5, {"kind": "noise", "seed": 4}),
    ("too small", 4, 300, {"kind": "noise", "seed": 5}),
    ("one pixel", 1, 1, {"kind": "flat", "value": 200}),
    ("window of 1", 128, 127, {"kind": "lattice", "seed": 6}),
    ("window of 2 across", 128, 129, {"kind": "lattice", "seed": 7}),
    ("window of 2 down", 129, 128, {"kind": "noise", "seed": 8}),
    ("window of 3", 300, 290, {"kind": "lattice", "seed": 9}),
    ("window of 4, the usual size", 512, 512, {"kind": "lattice", "seed": 10}),
    ("landscape", 341, 512, {"kind": "lattice", "seed": 11}),
    ("portrait", 640, 427, {"kind": "lattice", "seed": 12}),
    ("panorama", 60, 700, {"kind": "lattice", "seed": 13}),
    ("large", 900, 1200, {"kind": "lattice", "seed": 14}),
    ("fine grid", 384, 512, {"kind": "lattice", "seed": 15, "down": 60, "across": 80}),
    ("coarse grid", 384, 512, {"kind": "lattice", "seed": 16, "down": 3, "across": 3}),
    ("ramp", 200, 320, {"kind": "ramp"}),
    ("black", 100, 100, {"kind": "flat", "value": 0}),
    ("white", 300, 400, {"kind": "flat", "value": 255}),
    (
        "grey, where nothing but rounding decides",
        97,
        203,
        {"kind": "flat", "value": 77},
    ),
]


def numbers(seed: int) -> Iterator[int]:
    """Give bytes without end, the same on every machine."""
    state = seed
    while True:
        state = (1664525 * state + 1013904223) % 2**32
        yield state >> 24


def drawn(height: int, width: int, seed: int, channels: int = 3) -> Pixels:
    """Fill a picture with `numbers`, row by row."""
    stream = numbers(seed)
    count = height * width * channels
    values = np.fromiter(stream, dtype=np.uint8, count=count)
    return values.reshape(height, width, channels)


def noise(height: int, width: int, *, seed: int) -> Pixels:
    """Give every pixel a colour of its own."""
    return drawn(height, width, seed)


def lattice(
    height: int, width: int, *, seed: int, down: int = 13, across: int = 17
) -> Pixels:
    """Blend the colours of a coarse grid, which resembles a photograph."""
    grid = drawn(down, across, seed).astype(np.int64)
    row, b = np.divmod(np.arange(height) * (down - 1), height)
    column, a = np.divmod(np.arange(width) * (across - 1), width)
    a, b = a[np.newaxis, :, np.newaxis], b[:, np.newaxis, np.newaxis]
    above, below = grid[row], grid[row + 1]
    blend = (height - b) * ((width - a) * above[:, column] + a * above[:, column + 1])
    blend += b * ((width - a) * below[:, column] + a * below[:, column + 1])
    return (blend // (height * width)).astype(np.uint8)


def ramp(height: int, width: int) -> Pixels:
    """Let red grow to the right and green downwards."""
    pixels = np.full((height, width, 3), 128, dtype=np.uint8)
    pixels[:, :, 0] = 255 * np.arange(width) // (width - 1)
    pixels[:, :, 1] = (255 * np.arange(height) // (height - 1))[:, np.newaxis]
    return pixels


def flat(height: int, width: int, *, value: int) -> Pixels:
    """Fill with one shade of grey."""
    return np.full((height, width, 3), value, dtype=np.uint8)


KINDS: dict[str, Callable[..., Pixels]] = {
    "noise": noise,
    "lattice": lattice,
    "ramp": ramp,
    "flat": flat,
}


def draw(height: int, width: int, picture: dict[str, Any]) -> Pixels:
    """Draw one of `pictures`, height x width x 3 values."""
    options = {name: value for name, value in picture.items() if name != "kind"}
    return KINDS[picture["kind"]](height, width, **options)


def chunk(kind: bytes, content: bytes) -> bytes:
    """Frame one chunk of a PNG file."""
    checksum = zlib.crc32(kind + content)
    return (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    )


def stored(content: bytes) -> bytes:
    """Wrap bytes as zlib does, uncompressed: compressors differ, this does not."""
    blocks = [content[at : at + 65535] for at in range(0, len(content), 65535)]
    framed = b"".join(
        struct.pack("<BHH", at == len(blocks) - 1, len(block), len(block) ^ 0xFFFF)
        + block
        for at, block in enumerate(blocks)
    )
    return b"\x78\x01" + framed + struct.pack(">I", zlib.adler32(content))


def png(samples: NDArray[Any], colour_type: int, *more: bytes) -> bytes:
    """Write a PNG file.

    Args:
        samples: Height x width x channels, of 8 or 16 bits.
        colour_type: As PNG counts: 0 grey, 2 RGB, 3 palette, 6 RGB and alpha.
        *more: Whole chunks to put before the pixels.
    """
    height, width = samples.shape[:2]
    depth = 8 * samples.itemsize
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    rows = samples.astype(samples.dtype.newbyteorder(">"))
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    parts = [chunk(b"IHDR", header), *more]
    parts += [chunk(b"IDAT", stored(lines)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def files() -> Iterator[tuple[str, bytes]]:
    """Give files that each need one step of the pipeline."""
    rgb = lattice(48, 64, seed=20, down=7, across=9)
    yield "enlarged to 512 x 512", png(rgb, 2)
    alpha = lattice(48, 64, seed=21, down=5, across=5)[:, :, :1]
    yield "transparency lies on white", png(np.concatenate((rgb, alpha), axis=2), 6)
    deep = lattice(48, 64, seed=22, down=7, across=9)[:, :, :1].astype(np.uint16)
    yield "of 16 bits the upper 8 count", png(deep << 8 | 0xFF, 0)
    palette = drawn(1, 256, 23).tobytes()
    indexed = png(
        rgb[:, :, :1],
        3,
        chunk(b"PLTE", palette),
        chunk(b"tRNS", bytes(255 - value for value in range(256))),
    )
    yield "palette with transparency", indexed
    held = lattice(24, 32, seed=24, down=5, across=7)
    for orientation in range(1, 9):
        entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
        exif = b"MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
        yield f"EXIF orientation {orientation}", png(held, 2, chunk(b"eXIf", exif))


def build() -> dict[str, str]:
    """Give the content of every file by its name.

    Raises:
        ImportError: The reference is not installed.
    """
    # Here, because the test beside this file draws the pictures without it.
    from pdqhash import compute  # noqa: PLC0415

    from hashlight_node.matching.image import decode_image  # noqa: PLC0415

    def expected(pixels: Pixels) -> dict[str, Any]:
        # It reads memory row by row, whatever the array's strides say.
        bits, quality = compute(np.ascontiguousarray(pixels))
        digest = np.packbits(np.asarray(bits, dtype=np.uint8)).tobytes()
        return {"pdq": digest.hex(), "quality": int(quality)}

    pictures = []
    for name, height, width, picture in PICTURES:
        pixels = draw(height, width, picture)
        case = {"name": name, "height": height, "width": width, "picture": picture}
        case["sha256"] = hashlib.sha256(pixels.tobytes()).hexdigest()
        pictures.append(case | expected(pixels))
    encoded = [
        {"name": name, "png": b64encode(data).decode()} | expected(decode_image(data))
        for name, data in files()
    ]
    document = {"about": ABOUT, "pictures": pictures, "files": encoded}
    return {"pdq.json": json.dumps(document, indent=1, ensure_ascii=True) + "\n"}


if __name__ == "__main__":
    for name, content in build().items():
        (HERE / name).write_text(content, encoding="utf-8")
