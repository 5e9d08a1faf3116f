"""Nothing within the distance is ever missed: held to comparing with every hash."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_node.matching.index import PdqIndex
from hashlight_node.matching.index.merging import Sizes
from support.hamming import (
    EVERYTHING,
    KERNELS,
    SMALL,
    GatedKernel,
    brute_force,
    clustered,
    digests,
    filled,
    flipped,
    kernel,
)

MANY_IN_A_DELTA = Sizes(bulk_rows=EVERYTHING)


def planted(query: bytes, distance: int, spread: str) -> list[bytes]:
    """Give hashes that differ from a query in so many bits, in several ways."""
    generator = np.random.default_rng(distance)
    places = {"anywhere": (0, 256), "first": (128, 256), "last": (0, 128)}
    made: list[bytes] = []
    for turn in range(16):
        if spread == "dense":
            start = int(generator.integers(0, 257 - distance))
            bits = list(range(start, start + distance))
        elif spread == "even":
            # As alike in every band as can be: the hardest case for the tables.
            bands = generator.permutation(16)
            bits = [
                16 * int(bands[at % 16]) + (at // 16 + turn) % 16
                for at in range(distance)
            ]
        else:
            low, high = places[spread]
            chosen = generator.choice(high - low, distance, replace=False) + low
            bits = chosen.tolist()
        made.append(flipped(query, bits))
    return made


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("where", ["segment", "delta", "merging"])
@pytest.mark.parametrize("spread", ["anywhere", "first", "last", "dense", "even"])
def test_what_is_planted_at_any_distance_is_found_from_there_on(
    name: str, where: str, spread: str
) -> None:
    query = digests(1, seed=99)[0]
    known = dict(enumerate(digests(2000, seed=1)))
    wanted: dict[int, set[int]] = {}
    for distance in range(36):
        hashes = planted(query, distance, spread)
        ids = range(10_000 + 100 * distance, 10_000 + 100 * distance + len(hashes))
        known |= zip(ids, hashes, strict=True)
        wanted[distance] = set(ids)
    gated = GatedKernel(kernel(name))
    if where == "segment":
        index = PdqIndex.from_rows(list(known), rows_of(known), kernel=gated)
    else:
        sizes = MANY_IN_A_DELTA if where == "delta" else Sizes(1200, EVERYTHING)
        if where == "merging":
            gated.gate.clear()
        index = filled(known, kernel=gated, sizes=sizes)
        assert where == "delta" or gated.is_building.wait(60)
    for distance in range(36):
        found = index.search(query, distance, limit=EVERYTHING)
        assert not found.truncated
        assert found.hits == brute_force(known, query, distance)
        assert wanted[distance] <= {hit.signal_id for hit in found.hits}
    assert index.stats().segments == (where == "segment")
    gated.gate.set()
    index.close()
    assert index.search(query, 31, limit=EVERYTHING).hits == brute_force(
        known, query, 31
    )


def rows_of(known: dict[int, bytes]) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(known.values()), np.uint8).reshape(-1, 32)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("is_clustered", [False, True])
def test_every_part_together_finds_what_comparing_with_each_would(
    name: str, *, is_clustered: bool
) -> None:
    generator = np.random.default_rng(5)
    if is_clustered:
        rows = clustered(6000, seed=7)
    else:
        rows = generator.integers(0, 256, (6000, 32), dtype=np.uint8)
    known = {at: row.tobytes() for at, row in enumerate(rows)}
    index = PdqIndex.from_rows(
        np.arange(3000),
        rows[:3000],
        kernel=kernel(name),
        sizes=Sizes(delta_rows=1000, segment_rows=2000, bulk_rows=EVERYTHING),
    )
    index.extend(range(3000, len(rows)), rows[3000:].tobytes())
    for turn in range(60):
        query = flipped(
            known[int(generator.integers(len(rows)))],
            generator.integers(0, 256, generator.integers(0, 33)).tolist(),
        )
        max_distance = int(generator.integers(0, 36))
        expected = brute_force(known, query, max_distance)
        for limit in (1, 7, 200, EVERYTHING):
            found = index.search(query, max_distance, limit=limit)
            assert found == (expected[:limit], len(expected) > limit), turn
    index.close()


@given(
    base=st.binary(min_size=32, max_size=32),
    changes=st.lists(st.lists(st.integers(0, 255), max_size=60), max_size=40),
    max_distance=st.integers(0, 256),
    limit=st.integers(1, 50),
    name=st.sampled_from(KERNELS),
    is_segment=st.booleans(),
)
def test_a_search_is_what_comparing_with_each_would_give(
    base: bytes,
    changes: list[list[int]],
    max_distance: int,
    limit: int,
    name: str,
    is_segment: bool,
) -> None:
    known = {7 * at: flipped(base, bits) for at, bits in enumerate(changes)}
    sizes = Sizes(bulk_rows=1) if is_segment else Sizes()
    index = filled(known, kernel=kernel(name), sizes=sizes)
    expected = brute_force(known, base, max_distance)
    assert index.search(base, max_distance, limit=EVERYTHING) == (expected, False)
    found = index.search(base, max_distance, limit=limit)
    assert found == (expected[:limit], len(expected) > limit)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("max_distance", [0, 15, 31, 120])
def test_searches_together_give_what_they_give_one_by_one(
    name: str, max_distance: int
) -> None:
    known = dict(enumerate(digests(5000, seed=1)))
    index = filled(known, kernel=kernel(name), sizes=Sizes(delta_rows=3000))
    queries = [flipped(known[at * 50], [at % 256, 200 - at]) for at in range(90)]
    queries += digests(60, seed=2)
    together = index.search_many(b"".join(queries), max_distance, limit=20)
    one_by_one = [index.search(it, max_distance, limit=20) for it in queries]
    assert together == one_by_one
    assert together[3].hits == brute_force(known, queries[3], max_distance)[:20]
    index.close()


@pytest.mark.parametrize("name", KERNELS)
def test_an_empty_index_and_no_queries_give_nothing(name: str) -> None:
    index = PdqIndex(kernel=kernel(name))
    assert len(index) == 0
    assert index.search(bytes(32), 256, limit=1) == ([], False)
    assert index.search_many(bytes(64), 31, limit=1) == [([], False)] * 2
    assert index.search_many(b"", 31, limit=1) == []
    index.extend([], b"")
    index.discard([], b"")
    index.remove(5, bytes(32))
    assert len(index.export()[0]) == 0


def test_small_sizes_move_rows_often() -> None:
    index = filled(dict(enumerate(digests(100, seed=8))), sizes=SMALL)
    index.settle()
    assert index.stats().segments == 1
