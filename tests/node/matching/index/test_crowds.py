"""What many near hashes do: bounded work, the nearest hits, and an honest flag."""

import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest

from hashlight_node.matching.index import Hit, PdqIndex
from hashlight_node.matching.index.merging import Sizes
from support.hamming import (
    EVERYTHING,
    KERNELS,
    brute_force,
    clustered,
    filled,
    flipped,
    kernel,
)


@pytest.mark.parametrize("name", KERNELS)
def test_one_hash_under_very_many_signals_gives_the_first_of_them(name: str) -> None:
    count = 50_000
    index = PdqIndex.from_rows(
        np.arange(count), np.zeros((count, 32), np.uint8), kernel=kernel(name)
    )
    near = flipped(bytes(32), [1])
    index.add(500_000, near)
    found = index.search(bytes(32), 31, limit=5)
    assert [hit.signal_id for hit in found.hits] == [0, 1, 2, 3, 4]
    assert found.truncated
    # However many are near, what is equal comes first.
    assert index.search(near, 31, limit=1) == ([Hit(0, 500_000, near)], True)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("limit", [1, 10, 1000])
def test_of_a_crowd_the_nearest_are_found(name: str, limit: int) -> None:
    rows = clustered(20_000, seed=3)
    known = {at: row.tobytes() for at, row in enumerate(rows)}
    half = len(rows) // 2
    index = PdqIndex.from_rows(
        np.arange(half),
        rows[:half],
        kernel=kernel(name),
        sizes=Sizes(bulk_rows=EVERYTHING),
    )
    index.extend(range(half, len(rows)), rows[half:].tobytes())
    for at in (0, 77, half, len(rows) - 1):
        expected = brute_force(known, known[at], 31)
        found = index.search(known[at], 31, limit=limit)
        assert found == (expected[:limit], len(expected) > limit)
        assert found.hits[0].distance == 0
        together = index.search_many(known[at] * 3, 31, limit=limit)
        assert together == [found] * 3


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("where", ["segment", "delta"])
@pytest.mark.parametrize("bands", [1, 2, 8, 15])
def test_a_flood_that_shares_bands_with_a_query_hides_nothing(
    name: str, where: str, bands: int
) -> None:
    generator = np.random.default_rng(bands)
    query = generator.bytes(32)
    count = 60_000 if where == "segment" else 12_000
    flood = generator.integers(0, 256, (count, 32), dtype=np.uint8)
    flood[:, : 2 * bands] = np.frombuffer(query, np.uint8)[: 2 * bands]
    for at, distance in enumerate((0, 9, 20, 31)):
        some = generator.choice(256, distance, replace=False).tolist()
        flood[1000 * at] = np.frombuffer(flipped(query, some), np.uint8)
    if where == "segment":
        index = PdqIndex.from_rows(np.arange(count), flood, kernel=kernel(name))
    else:
        index = filled(
            {at: row.tobytes() for at, row in enumerate(flood)},
            kernel=kernel(name),
            sizes=Sizes(bulk_rows=EVERYTHING),
        )
    found = index.search(query, 31, limit=EVERYTHING)
    distances = np.bitwise_count(flood ^ np.frombuffer(query, np.uint8)).sum(axis=1)
    near = np.flatnonzero(distances <= 31)
    assert {hit.signal_id for hit in found.hits} == set(near.tolist())
    assert len(found.hits) == len(near)
    assert {0, 1000, 2000, 3000} <= set(near.tolist())


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("max_distance", [31, 40])
@pytest.mark.parametrize("limit", [1, 7, 5000, 99_999, 100_000])
def test_the_nearest_are_found_that_come_last(
    name: str, max_distance: int, limit: int
) -> None:
    # In the order of their hashes, those with more bits come later: they are nearer.
    query, count = bytes([255]) * 32, 100_000
    generator = np.random.default_rng(8)
    rows = np.full((count, 32), 255, np.uint8)
    for _ in range(8):
        rows[np.arange(count), generator.integers(0, 32, count)] &= 0xFE
    ids = generator.permutation(count)
    index = PdqIndex.from_rows(ids, rows, kernel=kernel(name))
    distances = np.bitwise_count(rows ^ np.uint8(255)).sum(axis=1)
    nearest = np.lexsort((ids, distances))[:limit]
    wanted = list(zip(distances[nearest].tolist(), ids[nearest].tolist(), strict=True))
    for found in index.search_many(query * 2, max_distance, limit=limit):
        assert [hit[:2] for hit in found.hits] == wanted
        assert found.truncated == (limit < count)


def test_a_batch_in_a_crowd_holds_what_it_answers_and_little_more() -> None:
    count, queries = 50_000, 64
    rows = np.zeros((count, 32), np.uint8)
    rows[:, 31] = np.arange(count) % 8
    index = PdqIndex.from_rows(np.arange(count), rows, kernel=kernel("numpy"))
    tracemalloc.start()
    try:
        found = index.search_many(bytes(32) * queries, 31, limit=20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [len(it.hits) for it in found] == [20] * queries
    assert peak < 24 << 20, "all that is near would be 179 MB"


def test_a_long_query_in_a_crowd_lets_other_threads_run() -> None:
    generator = np.random.default_rng(5)
    rows = generator.integers(0, 256, (100_000, 32), dtype=np.uint8)
    rows[:2000] = 0
    rows[:2000, 31] = generator.integers(0, 256, 2000)
    index = PdqIndex.from_rows(np.arange(len(rows)), rows, kernel=kernel("c"))
    has_run = threading.Event()
    waits = threading.Event()

    def run() -> None:
        waits.set()
        time.sleep(0.001)  # from here on it waits for the interpreter's lock
        has_run.set()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e6)  # a thread runs only when another one lets it
    try:
        other = threading.Thread(target=run)
        other.start()
        waits.wait()
        for _ in range(20_000):
            if has_run.is_set():
                break
            index.search(bytes(32), 31, limit=5)
        released = has_run.is_set()
    finally:
        sys.setswitchinterval(before)
    other.join()
    assert released


@pytest.mark.parametrize("name", KERNELS)
def test_removed_rows_of_a_crowd_are_not_found(name: str) -> None:
    rows = clustered(8000, seed=4)
    known = {at: row.tobytes() for at, row in enumerate(rows)}
    index = PdqIndex.from_rows(np.arange(len(rows)), rows, kernel=kernel(name))
    gone = sorted(known)[::3]
    index.discard(gone, b"".join(known.pop(at) for at in gone))
    for at in (1, 2, 4000, 4001):
        if at in known:
            found = index.search(known[at], 31, limit=EVERYTHING)
            assert found.hits == brute_force(known, known[at], 31)
    index.close()
