"""The demo's photographs are free to ship, small, and good to match."""

from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

import hashlight_node
from hashlight_node.matching.image import hash_image

FOLDER = Path(hashlight_node.__file__).parent / "demo" / "photos"
PHOTOGRAPHS = sorted(FOLDER.glob("*.jpg"))
MAX_BYTES = 60_000
LARGEST_SIDE_PIXELS = 640
TWICE_THE_THRESHOLD = 62


def test_every_photograph_is_attributed_and_nothing_else() -> None:
    table = (FOLDER / "ATTRIBUTION.md").read_text("utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in table if line.startswith("| `")]

    assert [row[0].strip("`") for row in rows] == [file.name for file in PHOTOGRAPHS]
    assert {row[3] for row in rows} <= {"CC0 1.0", "public domain"}


@pytest.mark.parametrize("file", PHOTOGRAPHS, ids=lambda file: file.stem)
def test_a_photograph_is_small(file: Path) -> None:
    with Image.open(file) as picture:
        assert max(picture.size) <= LARGEST_SIDE_PIXELS
    assert file.stat().st_size <= MAX_BYTES


@pytest.mark.parametrize("file", PHOTOGRAPHS, ids=lambda file: file.stem)
def test_a_photograph_has_enough_detail_to_match(file: Path) -> None:
    assert hash_image(file.read_bytes()).quality == 100


def test_no_photograph_is_near_another() -> None:
    hashes = [int(hash_image(file.read_bytes()).pdq, 16) for file in PHOTOGRAPHS]

    assert len(hashes) >= 8
    for one, other in combinations(hashes, 2):
        assert (one ^ other).bit_count() > TWICE_THE_THRESHOLD
