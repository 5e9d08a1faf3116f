"""The hashes that benchmarks search in: the same everywhere, and crowded where said."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.hashes import (
    DISTRIBUTIONS,
    THRESHOLD,
    Distribution,
    load,
    make_hashes,
    make_queries,
    prepare,
)
from benchmarks.pictures import Artist, hash_pictures
from benchmarks.truth import brute_force
from hashlight_node.matching.pdq import pdq_hash

COUNT = 6000


def neighbours(distribution: Distribution) -> list[int]:
    hashes = make_hashes(distribution, COUNT)
    return [len(rows) - 1 for rows in brute_force(hashes, hashes[:1000])]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_seed_gives_the_same_hashes_again(distribution: Distribution) -> None:
    one, again = (make_hashes(distribution, COUNT, 5) for _ in range(2))

    assert (one == again).all()
    assert (one != make_hashes(distribution, COUNT, 6)).any()


def test_uniform_hashes_have_no_neighbours() -> None:
    assert max(neighbours("uniform")) == 0


def test_some_clustered_hashes_have_many_neighbours_and_most_have_few() -> None:
    counts = sorted(neighbours("clustered"))

    assert counts[len(counts) // 2] <= 2
    assert counts[-1] >= 10


def test_every_distance_is_planted() -> None:
    stored = make_hashes("uniform", COUNT)
    queries = make_queries("uniform", stored, 256)

    nearest = [
        int(np.bitwise_count(stored ^ query).sum(axis=1).min()) for query in queries
    ]
    assert set(nearest[1::2]) == set(range(THRESHOLD + 1))
    assert min(nearest[0::2]) > THRESHOLD


def test_drawn_pictures_are_hashed_as_pdq_does() -> None:
    rng = np.random.default_rng(1)
    pictures = Artist(templates=4, letters=4).memes(rng, 20)

    expected = [pdq_hash(picture).digest for picture in pictures]
    assert [it.tobytes() for it in hash_pictures(pictures)] == expected


def test_files_of_an_earlier_run_are_used_again(tmp_path: Path) -> None:
    first = prepare(tmp_path, "uniform", COUNT)
    written = [file.stat().st_mtime_ns for file in first]
    again = prepare(tmp_path, "uniform", COUNT)

    assert again == first
    assert [file.stat().st_mtime_ns for file in again] == written
    assert (load(first[0]) == make_hashes("uniform", COUNT)).all()
