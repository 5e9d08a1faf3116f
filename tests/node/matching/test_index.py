"""Exact search: recall is 1 at every distance, whatever happens in between."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from hashlight_node.matching.index import Hit, PdqIndex

EVERYTHING = 10**9


def digests(count: int, *, seed: int) -> list[bytes]:
    generator = np.random.default_rng(seed)
    return [generator.bytes(32) for _ in range(count)]


def flipped(digest: bytes, bits: list[int]) -> bytes:
    value = int.from_bytes(digest)
    for bit in bits:
        value ^= 1 << bit
    return value.to_bytes(32)


def brute_force(known: dict[int, bytes], query: bytes, max_distance: int) -> list[Hit]:
    wanted = int.from_bytes(query)
    hits = [
        Hit((int.from_bytes(digest) ^ wanted).bit_count(), signal_id, digest)
        for signal_id, digest in known.items()
    ]
    return sorted(hit for hit in hits if hit.distance <= max_distance)


def filled(known: dict[int, bytes]) -> PdqIndex:
    index = PdqIndex()
    index.extend(list(known), b"".join(known.values()))
    return index


@pytest.mark.parametrize("spread", ["anywhere", "first", "last", "dense"])
@pytest.mark.parametrize("distance", range(35))
def test_what_is_planted_at_a_distance_is_found_from_there_on(
    distance: int, spread: str
) -> None:
    generator = np.random.default_rng(distance)
    query = generator.bytes(32)
    places = {"anywhere": (0, 256), "first": (128, 256), "last": (0, 128)}
    known = dict(enumerate(digests(3000, seed=1000 + distance), start=1))
    for signal_id in range(4000, 4050):
        if spread == "dense":
            start = int(generator.integers(0, 257 - distance))
            bits = list(range(start, start + distance))
        else:
            low, high = places[spread]
            chosen = generator.choice(high - low, distance, replace=False) + low
            bits = chosen.tolist()
        known[signal_id] = flipped(query, bits)
    index = filled(known)
    planted = set(range(4000, 4050))
    found = index.search(query, distance, limit=EVERYTHING)
    assert planted <= {hit.signal_id for hit in found}
    assert found == brute_force(known, query, distance)
    if distance:
        assert index.search(query, distance - 1, limit=EVERYTHING) == []


@given(
    base=st.binary(min_size=32, max_size=32),
    changes=st.lists(st.lists(st.integers(0, 255), max_size=60), max_size=40),
    max_distance=st.integers(0, 256),
    limit=st.integers(1, 50),
)
def test_a_search_is_what_comparing_with_each_would_give(
    base: bytes, changes: list[list[int]], max_distance: int, limit: int
) -> None:
    known = {7 * at: flipped(base, bits) for at, bits in enumerate(changes)}
    index = filled(known)
    expected = brute_force(known, base, max_distance)
    assert index.search(base, max_distance, limit=EVERYTHING) == expected
    assert index.search(base, max_distance, limit=limit) == expected[:limit]


def test_searches_together_give_what_they_give_one_by_one() -> None:
    known = dict(enumerate(digests(40_000, seed=1)))
    index = filled(known)
    queries = [flipped(known[at * 5000], [at, 200 - at]) for at in range(7)]
    queries += digests(3, seed=2)
    together = index.search_many(b"".join(queries), 120, limit=20)
    assert together == [index.search(query, 120, limit=20) for query in queries]
    assert [hits[0].signal_id for hits in together[:7]] == [
        5000 * at for at in range(7)
    ]
    assert together[3] == brute_force(known, queries[3], 120)[:20]


def test_an_empty_index_and_no_queries_give_nothing() -> None:
    index = PdqIndex()
    assert len(index) == 0
    assert index.search(bytes(32), 256, limit=1) == []
    index.extend([], b"")
    index.discard([])
    index.remove(5)
    assert index.search_many(b"", 31, limit=1) == []


def test_what_is_added_twice_is_there_once_and_gone_at_once() -> None:
    index = PdqIndex()
    index.add(3, bytes(32))
    index.add(3, bytes(32))
    index.extend([3, 4, 3], bytes(96))
    assert [hit.signal_id for hit in index.search(bytes(32), 0, limit=9)] == [3, 4]
    index.remove(3)
    index.remove(3)
    assert [hit.signal_id for hit in index.search(bytes(32), 0, limit=9)] == [4]
    assert len(index) == 1


def test_the_same_hash_under_two_signals_is_found_under_both() -> None:
    index = filled({9: bytes(32), 2: bytes(32)})
    hits = index.search(bytes(32), 0, limit=9)
    assert hits == [Hit(0, 2, bytes(32)), Hit(0, 9, bytes(32))]


def test_a_flood_of_near_hashes_costs_no_more_than_the_limit() -> None:
    index = PdqIndex()
    index.extend(range(200_000), bytes(32) * 200_000)
    index.add(500_000, flipped(bytes(32), [1]))
    hits = index.search(bytes(32), 31, limit=5)
    assert [hit.signal_id for hit in hits] == [0, 1, 2, 3, 4]
    assert index.search(flipped(bytes(32), [1]), 31, limit=1)[0].signal_id == 500_000


def test_most_may_be_removed_and_the_rest_is_still_found() -> None:
    known = dict(enumerate(digests(30_000, seed=3)))
    index = filled(known)
    gone = [at for at in known if at % 10]
    index.discard(gone)
    assert len(index) == 3000
    for at in (0, 10, 29_990):
        assert index.search(known[at], 0, limit=9) == [Hit(0, at, known[at])]
    assert index.search(known[11], 31, limit=9) == []
    index.add(11, known[11])
    assert index.search(known[11], 0, limit=9) == [Hit(0, 11, known[11])]
    assert len(index) == 3001


class Changes(RuleBasedStateMachine):
    """Any order of adding, removing and searching agrees with a dictionary."""

    ids: Bundle[int] = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.index = PdqIndex()
        self.known: dict[int, bytes] = {}

    @rule(target=ids, signal_id=st.integers(0, 5000), bits=st.sets(st.integers(0, 255)))
    def add(self, signal_id: int, bits: set[int]) -> int:
        digest = flipped(bytes(32), list(bits))
        self.index.add(signal_id, digest)
        self.known.setdefault(signal_id, digest)
        return signal_id

    @rule(start=st.integers(0, 40), count=st.integers(0, 3000), seed=st.integers(0, 9))
    def extend(self, start: int, count: int, seed: int) -> None:
        some = digests(count, seed=seed)
        ids = range(start, start + count)
        self.index.extend(ids, b"".join(some))
        for signal_id, digest in zip(ids, some, strict=True):
            self.known.setdefault(signal_id, digest)

    @rule(signal_id=ids)
    def remove(self, signal_id: int) -> None:
        self.index.remove(signal_id)
        self.known.pop(signal_id, None)

    @precondition(lambda self: self.known)
    @rule(every=st.integers(1, 5))
    def discard(self, every: int) -> None:
        gone = sorted(self.known)[::every]
        self.index.discard(gone)
        for signal_id in gone:
            del self.known[signal_id]

    @invariant()
    def finds_what_a_dictionary_would(self) -> None:
        assert len(self.index) == len(self.known)
        hits = self.index.search(bytes(32), 110, limit=EVERYTHING)
        assert hits == brute_force(self.known, bytes(32), 110)


Changes.TestCase.settings = settings(max_examples=15, stateful_step_count=15)
TestChanges = Changes.TestCase


def test_readers_never_miss_what_stays_while_a_writer_works() -> None:
    stays = dict(enumerate(digests(5000, seed=4)))
    index = filled(stays)
    stopped = threading.Event()
    wrong: list[str] = []

    def read(offset: int) -> None:
        at = offset
        while not stopped.is_set():
            at = (at + 997) % len(stays)
            hits = index.search(stays[at], 31, limit=9)
            if hits != [Hit(0, at, stays[at])]:
                wrong.append(f"{at}: {hits}")

    readers = [threading.Thread(target=read, args=(at,)) for at in range(2)]
    for reader in readers:
        reader.start()
    for turn in range(15):
        passing = range(10_000, 10_000 + 4000)
        index.extend(passing, b"".join(digests(4000, seed=100 + turn)))
        index.discard(passing)
    stopped.set()
    for reader in readers:
        reader.join()
    assert wrong == []
