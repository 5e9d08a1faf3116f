"""Adding and removing: visible at once, whatever moves in the background."""

import os
import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)
from numpy.typing import NDArray
from typing_extensions import override

from hashlight_node.matching.index import Hit, PdqIndex
from hashlight_node.matching.index.merging import Sizes
from support.hamming import (
    EVERYTHING,
    KERNELS,
    SMALL,
    GatedKernel,
    digests,
    filled,
    flipped,
    kernel,
    merging_thread,
)


@pytest.fixture(params=KERNELS)
def gated(request: pytest.FixtureRequest) -> GatedKernel:
    """Give each kernel, with a gate before everything that it builds."""
    return GatedKernel(kernel(request.param))


def memory_of(index: PdqIndex) -> list[NDArray[np.uint8]]:
    """Give the arrays that hold whole hashes."""
    return [part.arrays[0] for part in index._state.parts]  # noqa: SLF001 - its memory is the point


def test_what_is_added_twice_is_there_once_and_gone_at_once(gated: GatedKernel) -> None:
    index = PdqIndex(kernel=gated)
    index.add(3, bytes(32))
    index.add(3, bytes(32))
    index.extend([3, 4, 3], bytes(96))
    assert [hit.signal_id for hit in index.search(bytes(32), 0, limit=9).hits] == [3, 4]
    index.remove(3, bytes(32))
    index.remove(3, bytes(32))
    assert [hit.signal_id for hit in index.search(bytes(32), 0, limit=9).hits] == [4]
    assert len(index) == 1


def test_a_large_batch_adds_only_what_is_new(gated: GatedKernel) -> None:
    known = dict(enumerate(digests(300, seed=3)))
    index = PdqIndex(kernel=gated, sizes=SMALL)
    for signal_id in (0, 7, 299):
        index.add(signal_id, known[signal_id])
    for _ in range(2):
        index.extend([*known, *known], b"".join(known.values()) * 2)
    index.settle()
    assert len(index) == 300
    assert index.search(known[7], 31, limit=9).hits == [Hit(0, 7, known[7])]


def test_an_id_may_stand_for_another_hash_later(gated: GatedKernel) -> None:
    first, second = digests(2, seed=1)
    index = filled({5: first}, kernel=gated)
    index.remove(5, second)
    assert len(index) == 1
    index.add(5, second)
    index.remove(5, first)
    assert index.search(first, 31, limit=9).hits == []
    assert index.search(second, 31, limit=9).hits == [Hit(0, 5, second)]


def test_the_same_hash_under_two_signals_is_found_under_both() -> None:
    index = filled({9: bytes(32), 2: bytes(32)})
    hits = index.search(bytes(32), 0, limit=9).hits
    assert hits == [Hit(0, 2, bytes(32)), Hit(0, 9, bytes(32))]


@pytest.mark.parametrize(
    ("signal_id", "digest"),
    [(-1, bytes(32)), (2**32 - 1, bytes(32)), (1, bytes(31)), (1, bytes(33))],
)
def test_what_is_no_row_is_refused(signal_id: int, digest: bytes) -> None:
    index = PdqIndex()
    with pytest.raises(ValueError, match="32"):
        index.add(signal_id, digest)
    with pytest.raises(ValueError, match="32"):
        index.extend([signal_id], digest)
    with pytest.raises(ValueError, match="32"):
        index.discard([1, 2], bytes(32))
    assert len(index) == 0


def test_a_delta_has_a_bounded_size() -> None:
    with pytest.raises(ValueError, match="65535"):
        PdqIndex(sizes=Sizes(delta_rows=2**16))


def test_most_may_be_removed_and_the_rest_is_still_found(gated: GatedKernel) -> None:
    known = dict(enumerate(digests(3000, seed=3)))
    index = filled(known, kernel=gated, sizes=SMALL)
    gone = [at for at in known if at % 10]
    index.settle()
    index.discard(gone, b"".join(known[at] for at in gone))
    index.settle()
    stats = index.stats()
    assert len(index) == stats.hashes == 300
    assert stats.removed < 300, "the segment was written anew"
    assert stats.merges > 0
    for at in (0, 10, 2990):
        assert index.search(known[at], 0, limit=9).hits == [Hit(0, at, known[at])]
    assert index.search(known[11], 31, limit=9).hits == []
    index.add(11, known[11])
    assert index.search(known[11], 0, limit=9).hits == [Hit(0, 11, known[11])]


def test_a_removed_hash_is_zeroed_in_memory(gated: GatedKernel) -> None:
    known = dict(enumerate(digests(200, seed=6)))
    index = filled(known, kernel=gated, sizes=Sizes(bulk_rows=100))
    index.add(900, digests(1, seed=7)[0])
    for signal_id, digest in ((50, known[50]), (900, digests(1, seed=7)[0])):
        assert any(digest in it.tobytes() for it in memory_of(index))
        index.remove(signal_id, digest)
        assert not any(digest in it.tobytes() for it in memory_of(index))


def test_what_is_removed_during_a_merge_is_neither_found_nor_kept(
    gated: GatedKernel,
) -> None:
    known = dict(enumerate(digests(200, seed=9)))
    index = PdqIndex(kernel=gated, sizes=Sizes(delta_rows=100, bulk_rows=EVERYTHING))
    gated.gate.clear()
    index.extend(list(known), b"".join(known.values()))
    assert gated.is_building.wait(60)
    before = memory_of(index)
    for signal_id in (5, 150):
        index.remove(signal_id, known[signal_id])
        assert index.search(known[signal_id], 31, limit=9).hits == []
    index.remove(6, known[6])
    index.add(6, known[6])
    gated.gate.set()
    index.settle()
    assert index.stats().deltas == 1
    assert len(index) == 198
    for signal_id in (5, 150):
        assert index.search(known[signal_id], 31, limit=9).hits == []
        memory = (*before, *memory_of(index))
        assert not any(known[signal_id] in it.tobytes() for it in memory)
    assert index.search(known[6], 0, limit=9).hits == [Hit(0, 6, known[6])]


def test_a_writer_waits_for_no_merge(gated: GatedKernel) -> None:
    known = dict(enumerate(digests(2000, seed=10)))
    index = PdqIndex(kernel=gated, sizes=Sizes(delta_rows=50, bulk_rows=EVERYTHING))
    gated.gate.clear()
    index.extend(list(known)[:50], b"".join(list(known.values())[:50]))
    assert gated.is_building.wait(60)
    stopped = merging_thread()
    assert stopped is not None
    for signal_id in range(50, 2000):
        index.add(signal_id, known[signal_id])
    assert index.stats().deltas <= 6
    assert stopped.is_alive()
    for signal_id in (0, 49, 50, 777, 1999):
        hits = index.search(known[signal_id], 31, limit=9).hits
        assert hits == [Hit(0, signal_id, known[signal_id])]
    gated.gate.set()
    index.close()
    index.remove(0, known[0])
    assert len(index) == 1999


def test_a_closed_index_goes_on_without_a_thread() -> None:
    index = PdqIndex(sizes=Sizes(delta_rows=10, bulk_rows=EVERYTHING))
    index.close()
    known = dict(enumerate(digests(300, seed=12)))
    index.extend(list(known), b"".join(known.values()))
    assert merging_thread() is None
    assert index.search(known[150], 3, limit=9).hits == [Hit(0, 150, known[150])]


def test_a_merge_that_fails_leaves_everything_findable(
    gated: GatedKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dict(enumerate(digests(100, seed=13)))
    seen: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda it: seen.append(it.exc_type))

    def no_memory(*_arrays: object) -> None:
        raise MemoryError

    index = PdqIndex(kernel=gated, sizes=Sizes(delta_rows=50, bulk_rows=EVERYTHING))
    with monkeypatch.context() as patch:
        patch.setattr(gated, "build", no_memory)
        index.extend(range(50), b"".join(list(known.values())[:50]))
        index.settle()
    assert seen == [MemoryError]
    assert index.search(known[7], 31, limit=9).hits == [Hit(0, 7, known[7])]
    index.extend(range(50, 100), b"".join(list(known.values())[50:]))
    index.settle()
    assert index.stats().segments == 1
    assert index.search(known[7], 31, limit=9).hits == [Hit(0, 7, known[7])]


def test_what_is_removed_during_a_merge_that_fails_is_zeroed_and_may_return(
    gated: GatedKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dict(enumerate(digests(100, seed=16)))
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def no_memory(*_arrays: object) -> None:
        gated.is_building.set()
        assert gated.gate.wait(60)
        raise MemoryError

    index = PdqIndex(kernel=gated, sizes=Sizes(delta_rows=50, bulk_rows=EVERYTHING))
    gated.gate.clear()
    with monkeypatch.context() as patch:
        patch.setattr(gated, "build", no_memory)
        index.extend(range(50), b"".join(list(known.values())[:50]))
        assert gated.is_building.wait(60)
        index.remove(7, known[7])
        gated.gate.set()
        index.settle()
    assert not any(known[7] in it.tobytes() for it in memory_of(index))
    index.add(7, known[7])
    index.extend(range(50, 100), b"".join(list(known.values())[50:]))
    index.settle()
    assert index.stats().segments == 1
    assert len(index) == 100
    assert index.search(known[7], 31, limit=9).hits == [Hit(0, 7, known[7])]


def test_what_is_exported_makes_the_same_index(gated: GatedKernel) -> None:
    known = dict(enumerate(digests(1000, seed=14)))
    index = filled(known, kernel=gated, sizes=SMALL)
    index.add(5000, flipped(known[1], [4]))
    index.remove(3, known.pop(3))
    known[5000] = flipped(known[1], [4])
    ids, rows = index.export()
    index.close()
    assert ids.dtype == np.int64
    assert rows.shape == (1000, 32)
    exported = zip(ids.tolist(), rows, strict=True)
    assert {at: row.tobytes() for at, row in exported} == known
    again = PdqIndex.from_rows(ids, rows, kernel=gated)
    assert len(again) == 1000
    assert again.search(known[1], 31, limit=9) == index.search(known[1], 31, limit=9)


def test_many_rows_become_several_segments_and_twins_count_once() -> None:
    rows = np.frombuffer(b"".join(digests(1000, seed=15)), np.uint8).reshape(-1, 32)
    doubled = np.concatenate((rows, rows[::-1]))
    ids = np.concatenate((np.arange(1000), np.arange(1000)[::-1]))
    index = PdqIndex.from_rows(ids, doubled, sizes=Sizes(segment_rows=500))
    index.settle()
    assert len(index) == 1000
    assert 2 <= index.stats().segments <= 4
    assert index.search(rows[5].tobytes(), 0, limit=9).hits == [
        Hit(0, 5, rows[5].tobytes())
    ]


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((2, 32), np.uint8),
        np.zeros((1, 31), np.uint8),
        np.zeros(32, np.uint8),
        np.zeros((1, 32), np.int8),
    ],
)
def test_rows_of_another_shape_are_refused(rows: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        PdqIndex.from_rows([1], rows)


class Changes(RuleBasedStateMachine):
    """Any order of adding, removing, merging and searching agrees with a set."""

    pairs: Bundle[tuple[int, bytes]] = Bundle("pairs")
    name = "numpy"

    def __init__(self) -> None:
        super().__init__()
        sizes = Sizes(delta_rows=40, bulk_rows=90, segment_rows=900, min_dead=20)
        self.index = PdqIndex(kernel=kernel(self.name), sizes=sizes)
        self.known: set[tuple[int, bytes]] = set()

    @rule(target=pairs, signal_id=st.integers(0, 99), bits=st.sets(st.integers(0, 255)))
    def add(self, signal_id: int, bits: set[int]) -> tuple[int, bytes]:
        digest = flipped(bytes(32), list(bits))
        self.index.add(signal_id, digest)
        self.known.add((signal_id, digest))
        return signal_id, digest

    @rule(start=st.integers(0, 40), count=st.integers(0, 500), seed=st.integers(0, 9))
    def extend(self, start: int, count: int, seed: int) -> None:
        some = digests(count, seed=seed)
        ids = range(start, start + count)
        self.index.extend(ids, b"".join(some))
        self.known |= set(zip(ids, some, strict=True))

    @rule(pair=pairs)
    def remove(self, pair: tuple[int, bytes]) -> None:
        self.index.remove(*pair)
        self.known.discard(pair)

    @precondition(lambda self: self.known)
    @rule(every=st.integers(1, 5))
    def discard(self, every: int) -> None:
        gone = sorted(self.known)[::every]
        self.index.discard([it[0] for it in gone], b"".join(it[1] for it in gone))
        self.known -= set(gone)

    @rule()
    def merge(self) -> None:
        self.index.settle()

    @invariant()
    def finds_what_a_set_would(self) -> None:
        assert len(self.index) == len(self.known)
        for max_distance in (31, 110):
            hits = self.index.search(bytes(32), max_distance, limit=EVERYTHING).hits
            assert hits == sorted(hits, key=lambda it: it[:2])
            expected = sorted(
                Hit(int.from_bytes(digest).bit_count(), signal_id, digest)
                for signal_id, digest in self.known
            )
            wanted = [it for it in expected if it.distance <= max_distance]
            assert sorted(hits) == wanted

    @override
    def teardown(self) -> None:
        self.index.close()


class CompiledChanges(Changes):
    """The same with the compiled kernel."""

    name = "c"


Changes.TestCase.settings = settings(max_examples=15, stateful_step_count=15)
CompiledChanges.TestCase.settings = Changes.TestCase.settings
TestChanges = Changes.TestCase
TestCompiledChanges = CompiledChanges.TestCase


def test_readers_never_miss_what_stays_while_a_writer_works(
    gated: GatedKernel,
) -> None:
    stays = dict(enumerate(digests(2000, seed=4)))
    index = filled(stays, kernel=gated, sizes=Sizes(delta_rows=500, bulk_rows=1500))
    stopped = threading.Event()
    wrong: list[str] = []

    def read(offset: int) -> None:
        at = offset
        while not stopped.is_set():
            at = (at + 997) % len(stays)
            some = b"".join(stays[(at + step) % len(stays)] for step in range(8))
            for step, found in enumerate(index.search_many(some, 31, limit=9)):
                wanted = (at + step) % len(stays)
                if found != ([Hit(0, wanted, stays[wanted])], False):
                    wrong.append(f"{wanted}: {found}")

    readers = [threading.Thread(target=read, args=(at,)) for at in range(2)]
    for reader in readers:
        reader.start()
    for turn in range(8):
        passing = range(10_000, 10_000 + 1400)
        hashes = b"".join(digests(1400, seed=100 + turn))
        index.extend(passing, hashes)
        index.discard(passing, hashes)
    stopped.set()
    for reader in readers:
        reader.join()
    index.close()
    assert wrong == []
    assert len(index) == 2000


def test_a_fork_during_a_merge_keeps_nothing_that_was_removed(
    gated: GatedKernel,
) -> None:
    known = dict(enumerate(digests(60, seed=22)))
    index = PdqIndex(kernel=gated, sizes=Sizes(delta_rows=50, bulk_rows=EVERYTHING))
    gated.gate.clear()
    index.extend(list(known), b"".join(known.values()))
    assert gated.is_building.wait(60)
    index.remove(7, known[7])
    child = os.fork()
    if child == 0:
        # Nothing of pytest's may run here, whatever happens.
        try:
            index.remove(8, known[8])
            kept = any(known[7] in it.tobytes() for it in memory_of(index))
            os._exit(1 if kept else 0)
        finally:
            os._exit(2)
    gated.gate.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    index.close()


def in_child(index: PdqIndex, known: dict[int, bytes]) -> bool:
    """Use an index that came with a fork: search, change and merge."""
    passing = digests(100, seed=21)
    index.remove(1, known[1])
    index.extend(range(5000, 5100), b"".join(passing))
    index.settle()
    return (
        index.search(known[1], 31, limit=9).hits == []
        and index.search(known[2], 31, limit=9).hits == [Hit(0, 2, known[2])]
        and index.search(passing[3], 0, limit=9).hits == [Hit(0, 5003, passing[3])]
        and index.stats().merges > 0
    )


def test_a_forked_process_has_an_index_of_its_own(gated: GatedKernel) -> None:
    known = dict(enumerate(digests(400, seed=20)))
    sizes = Sizes(delta_rows=50, bulk_rows=300)
    index = filled(known, kernel=gated, sizes=sizes)
    child = os.fork()
    if child == 0:
        # Nothing of pytest's may run here, whatever happens.
        try:
            os._exit(0 if in_child(index, known) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert index.search(known[1], 31, limit=9).hits == [Hit(0, 1, known[1])]
    assert len(index) == 400
