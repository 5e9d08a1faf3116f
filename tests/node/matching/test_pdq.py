"""PDQ, held against the reference and against what it once said.

The comparison with the reference itself needs `make oracle`; without it these tests
are skipped, and the run says so aloud. The vectors are checked everywhere.
"""

import hashlib
import json
import runpy
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hashlight_node.matching.image import decode_image
from hashlight_node.matching.pdq import PdqHash, luminance, pdq_hash
from support.pictures import PHOTOS, blocks

Pixels = NDArray[np.uint8]
Reference = Callable[[Pixels], PdqHash]

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
GENERATOR = VECTORS / "generate_pdq.py"
DOCUMENT: Any = json.loads((VECTORS / "pdq.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def reference() -> Reference:
    pdqhash = pytest.importorskip("pdqhash", reason="the PDQ reference: make oracle")

    def compute(rgb: Pixels) -> PdqHash:
        bits, quality = pdqhash.compute(np.ascontiguousarray(rgb))
        return PdqHash(np.packbits(bits.astype(np.uint8)).tobytes(), quality)

    return compute


@pytest.fixture(scope="module")
def draw() -> Callable[..., Pixels]:
    drawing: Callable[..., Pixels] = runpy.run_path(str(GENERATOR))["draw"]
    return drawing


def ours(rgb: Pixels) -> PdqHash:
    return pdq_hash(luminance(rgb))


@pytest.mark.parametrize("case", DOCUMENT["pictures"], ids=lambda case: case["name"])
def test_every_vector_holds(case: Any, draw: Callable[..., Pixels]) -> None:  # noqa: ANN401 -- JSON
    pixels = draw(case["height"], case["width"], case["picture"])
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == case["sha256"]
    digest, quality = ours(pixels)
    assert (digest.hex(), quality) == (case["pdq"], case["quality"])


@pytest.mark.parametrize("case", DOCUMENT["files"], ids=lambda case: case["name"])
def test_every_file_vector_holds(case: Any) -> None:  # noqa: ANN401 -- JSON
    digest, quality = ours(decode_image(b64decode(case["png"])))
    assert (digest.hex(), quality) == (case["pdq"], case["quality"])


@pytest.mark.usefixtures("reference")
def test_the_vectors_are_what_the_reference_says_today() -> None:
    made = runpy.run_path(str(GENERATOR))["build"]()
    assert made == {"pdq.json": (VECTORS / "pdq.json").read_text("utf-8")}


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda path: path.stem)
def test_photographs_hash_as_the_reference_hashes_them(
    photo: Path, reference: Reference
) -> None:
    pixels = decode_image(photo.read_bytes())
    for rgb in (pixels, pixels[:, ::-1], pixels[:300], pixels[:, 100:421], pixels[::4]):
        assert ours(rgb) == reference(rgb)


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    seed=st.integers(0, 2**32 - 1),
    block=st.sampled_from([1, 2, 7, 40]),
)
def test_any_picture_hashes_as_the_reference_hashes_it(
    reference: Reference, height: int, width: int, seed: int, block: int
) -> None:
    rgb = blocks(height, width, seed=seed, block=block)
    assert ours(rgb) == reference(rgb)


@pytest.mark.parametrize("height", [63, 64, 65, 127, 128, 129, 383, 512, 1025])
@pytest.mark.parametrize("width", [5, 64, 128, 129, 512])
def test_every_size_of_window_is_the_reference_s(
    reference: Reference, height: int, width: int
) -> None:
    rgb = blocks(height, width, seed=height * width, block=9)
    assert ours(rgb) == reference(rgb)


@given(value=st.integers(0, 255), height=st.integers(5, 200))
def test_pictures_without_detail_hash_as_the_reference_s_rounding_decides(
    reference: Reference, value: int, height: int
) -> None:
    rgb = np.full((height, 90, 3), value, dtype=np.uint8)
    assert ours(rgb) == reference(rgb)


def test_luminance_is_the_float_nearest_to_the_exact_value() -> None:
    # One value of red and one of green with all of blue: every carry occurs.
    colours = np.stack(np.meshgrid(*[np.arange(256, dtype=np.uint8)] * 2), axis=-1)
    for red in range(0, 256, 15):
        rgb = np.insert(colours, 0, red, axis=2)
        exact = rgb.astype(np.int64) @ np.array([299, 587, 114]) / 1000.0
        assert np.array_equal(luminance(rgb), exact.astype(np.float32))


@pytest.mark.parametrize(("height", "width"), [(4, 500), (500, 4), (1, 1)])
def test_a_side_shorter_than_five_gives_no_hash(height: int, width: int) -> None:
    noise = blocks(height, width, seed=1, block=1)
    assert ours(noise) == PdqHash(bytes(32), 0)


def test_hashing_leaves_the_picture_as_it_was() -> None:
    luma = luminance(blocks(200, 300, seed=3, block=5))
    before = luma.copy()
    pdq_hash(luma)
    assert np.array_equal(luma, before)
