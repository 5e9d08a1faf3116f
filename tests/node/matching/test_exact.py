"""The index of exact types against a dictionary that does the same."""

from __future__ import annotations

import random
import threading
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from typing_extensions import override

from hashlight_node.matching import exact
from hashlight_node.matching.exact import ExactIndex
from hashlight_node.model import signal_digest

SMALLEST, LARGEST = -(2**63), 2**63 - 1

# Few and close, so that digests collide and ids come again; and the ends of the range.
digests = st.sampled_from([SMALLEST, -1, 0, 7, LARGEST])
ids = st.integers(0, 3)


class ExactIndexMachine(RuleBasedStateMachine):
    """Adds, removes and merges in any order; small limits make every path common."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(exact, "_CHANGES", 4)
        self.patch.setattr(exact, "_AT_ONCE", 3)
        self.index = ExactIndex()
        self.model: set[tuple[int, int]] = set()

    @override
    def teardown(self) -> None:
        self.patch.undo()

    @rule(digest=digests, signal_id=ids)
    def add(self, digest: int, signal_id: int) -> None:
        is_new = (digest, signal_id) not in self.model
        assert self.index.add(digest, signal_id) is is_new
        self.model.add((digest, signal_id))

    @rule(digest=digests, signal_id=ids)
    def remove(self, digest: int, signal_id: int) -> None:
        was_there = (digest, signal_id) in self.model
        assert self.index.remove(digest, signal_id) is was_there
        self.model.discard((digest, signal_id))

    @rule(rows=st.lists(st.tuples(digests, ids), max_size=8))
    def extend(self, rows: list[tuple[int, int]]) -> None:
        is_new = self.index.extend([d for d, _ in rows], [i for _, i in rows])
        for row, new in zip(rows, is_new, strict=True):
            assert new is (row not in self.model)
            self.model.add(row)

    @rule()
    def store_and_load(self) -> None:
        stored, their_ids = self.index.export()
        assert (np.diff(stored.astype(object)) >= 0).all()
        self.index = ExactIndex.from_rows(stored, their_ids)

    @invariant()
    def finds_what_the_model_has(self) -> None:
        expected: defaultdict[int, set[int]] = defaultdict(set)
        for digest, signal_id in self.model:
            expected[digest].add(signal_id)
        asked = [*expected, 4, -4]
        for digest, found in zip(asked, self.index.find_many(asked), strict=True):
            assert sorted(found) == sorted(expected[digest])
            assert sorted(self.index.find(digest)) == sorted(expected[digest])
        assert len(self.index) == len(self.model)


TestExactIndex = ExactIndexMachine.TestCase
TestExactIndex.settings = settings(max_examples=60, stateful_step_count=40)


def test_rows_take_twelve_bytes_each_and_are_all_found() -> None:
    count = 200_000
    rng = np.random.default_rng(7)
    stored = rng.integers(SMALLEST, LARGEST, size=count, dtype=np.int64)
    index = ExactIndex()
    some = stored.tolist()
    for start in range(0, count, 50_000):
        part = some[start : start + 50_000]
        assert all(index.extend(part, range(start, start + len(part))))
    assert len(index) == count
    assert sum(it.nbytes for it in index.export()) == index.size_bytes == 12 * count
    found = index.find_many(some)
    assert [list(it) for it in found] == [[at] for at in range(count)]
    assert index.find_many([0, 1, 2]) == [(), (), ()]


def test_ids_beyond_four_bytes_are_kept_whole() -> None:
    index = ExactIndex.from_rows(
        np.array([5, 3], dtype=np.int64), np.array([2**40, 1], dtype=np.int64)
    )
    index.extend(list(range(10, 6000)), list(range(10, 6000)))
    assert index.find(5) == (2**40,)
    assert index.find(3) == (1,)
    assert index.find(77) == (77,)
    index.extend(list(range(10_000, 16_000)), [2**41 + it for it in range(6000)])
    assert index.find(10_007) == (2**41 + 7,)


def test_an_empty_index_finds_nothing_and_exports_nothing() -> None:
    index = ExactIndex.from_rows(np.array([], dtype=np.int64), np.array([], dtype=int))
    assert index.find(1) == ()
    assert index.find_many([]) == []
    assert [len(it) for it in index.export()] == [0, 0]


def test_readers_see_every_row_that_stays_while_a_writer_changes_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exact, "_CHANGES", 64)
    index = ExactIndex()
    staying = [signal_digest("md5", str(number)) for number in range(500)]
    index.extend(staying, range(500))
    missed: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            at = random.randrange(500)  # noqa: S311 -- any will do
            if index.find(staying[at]) != (at,):
                missed.append(at)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1000, 6000):
        digest = signal_digest("md5", str(number))
        assert index.add(digest, number)
        assert index.find(digest) == (number,)
        if number % 2:
            assert index.remove(digest, number)
            assert index.find(digest) == ()
    done.set()
    for reader in readers:
        reader.join()
    assert missed == []
    assert len(index) == 500 + 2500


def test_the_digest_of_a_signal_keeps_type_and_value_apart() -> None:
    assert signal_digest("md5", "ab") != signal_digest("md5a", "b")
    assert SMALLEST <= signal_digest("url", "https://example.org/ü") <= LARGEST
