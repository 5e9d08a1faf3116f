"""Exact search for PDQ hashes within a Hamming distance.

A search compares the first 128 bits of every hash with the query, and the rest only
where these alone do not already exceed the distance: of unrelated hashes that is
practically none. Recall is 1 at every distance, because no hash is skipped.

One thread writes, any number read. Readers work on a snapshot: rows are only ever
appended behind what a snapshot covers, or whole arrays replaced, and a removed row
is marked. A reader that started before a change may or may not see it; whoever
starts afterwards does.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hashlight_node.matching.pdq import DIGEST_BYTES

_LANES: Final = DIGEST_BYTES // 8
_ABSENT: Final = -1
_FIRST_CAPACITY: Final = 1024

# Rows compared at a time: their lanes and all temporary results together stay in a
# core's second-level cache.
_BLOCK: Final = 32768

# Dead rows are dropped when they are this many and more than a quarter, so that
# the cost of dropping is spread over as many removals.
_MIN_DEAD: Final = 4096


class Hit(NamedTuple):
    """A signal near the query.

    Attributes:
        distance: Differing bits, 0 to 256.
        signal_id: Its id.
        digest: Its hash, 32 bytes.
    """

    distance: int
    signal_id: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class _Rows:
    """Arrays of equal capacity, of which `count` rows are filled.

    Attributes:
        lanes: 4 x capacity; each lane holds 64 bits of every hash side by side, so
            that comparing one lane reads memory in a straight line.
        ids: Signal id per row; `_ABSENT` once removed.
    """

    lanes: NDArray[np.uint64]
    ids: NDArray[np.int64]
    count: int


def _empty(capacity: int) -> _Rows:
    return _Rows(
        lanes=np.empty((_LANES, capacity), dtype=np.uint64),
        ids=np.full(capacity, _ABSENT, dtype=np.int64),
        count=0,
    )


class PdqIndex:
    """Which signals have a PDQ hash within some distance of a query.

    Signal ids are the small integers that a database counts up; memory grows with
    the largest: 4 bytes for each, besides 40 for each hash.
    """

    def __init__(self) -> None:
        self._rows = _empty(_FIRST_CAPACITY)
        self._row_of = np.full(_FIRST_CAPACITY, _ABSENT, dtype=np.int32)  # by id
        self._dead = 0

    def __len__(self) -> int:
        return self._rows.count - self._dead

    def add(self, signal_id: int, digest: bytes) -> None:
        """Make one hash findable; nothing happens if the signal already is."""
        self.extend([signal_id], digest)

    def extend(self, signal_ids: Sequence[int], digests: bytes) -> None:
        """Make hashes findable; signals that already are stay as they are.

        Args:
            signal_ids: At least 0 and below 2**31.
            digests: 32 bytes for each of them, one after the other.
        """
        ids = np.asarray(signal_ids, dtype=np.int64)
        lanes = _lanes(digests)
        ids, chosen = np.unique(ids, return_index=True)
        self._cover(ids)
        new = self._row_of[ids] == _ABSENT
        ids, lanes = ids[new], lanes[chosen[new]]
        start, end = self._rows.count, self._rows.count + len(ids)
        if end > len(self._rows.ids):
            self._replace(slice(start), capacity=max(end, 2 * start))
        rows = self._rows
        rows.lanes[:, start:end] = lanes.T
        rows.ids[start:end] = ids
        self._row_of[ids] = np.arange(start, end, dtype=np.int32)
        # Last: from here on a search covers the new rows.
        self._rows = _Rows(rows.lanes, rows.ids, end)

    def remove(self, signal_id: int) -> None:
        """Make one hash unfindable; nothing happens if it was."""
        self.discard([signal_id])

    def discard(self, signal_ids: Iterable[int]) -> None:
        """Make hashes unfindable; those that were stay so."""
        ids = np.unique(np.fromiter(signal_ids, dtype=np.int64))
        self._cover(ids)
        found = self._row_of[ids]
        found = found[found != _ABSENT]
        self._rows.ids[found] = _ABSENT
        self._row_of[ids] = _ABSENT
        self._dead += len(found)
        if self._dead >= _MIN_DEAD and 4 * self._dead > self._rows.count:
            live = np.flatnonzero(self._rows.ids[: self._rows.count] != _ABSENT)
            self._replace(live, capacity=max(_FIRST_CAPACITY, 2 * len(live)))

    def search(self, query: bytes, max_distance: int, *, limit: int) -> list[Hit]:
        """Find the signals whose hash differs in at most so many bits.

        Args:
            query: 32 bytes.
            max_distance: 0 to 256.
            limit: Hits to give at most: the nearest ones. A flood of near hashes
                then costs the time of a search and no memory.

        Returns:
            Nearest first, then by signal id.
        """
        return self.search_many(query, max_distance, limit=limit)[0]

    def search_many(
        self, queries: bytes, max_distance: int, *, limit: int
    ) -> list[list[Hit]]:
        """Search for several hashes in one walk over the index.

        Args:
            queries: 32 bytes each, one after the other.
            max_distance: 0 to 256, for all of them.
            limit: Hits to give at most for each of them.

        Returns:
            What `search` gives, for each query in its order.
        """
        rows = self._rows
        comparison = _Comparison(max_distance)
        lanes = _lanes(queries)
        nearest = [_Nearest(limit) for _ in lanes]
        for block in _blocks(rows):
            for query, found in zip(lanes, nearest, strict=True):
                found.add(comparison.within(block, query))
        return [found.hits() for found in nearest]

    def _cover(self, ids: NDArray[np.int64]) -> None:
        """Grow the table of rows by id until it has a place for each of these."""
        largest = int(ids.max(initial=0))
        if largest >= len(self._row_of):
            grown = np.full(2 * largest, _ABSENT, dtype=np.int32)
            grown[: len(self._row_of)] = self._row_of
            self._row_of = grown

    def _replace(self, kept: NDArray[np.intp] | slice, *, capacity: int) -> None:
        """Copy some rows into new arrays; searches under way keep the old ones."""
        old, new = self._rows, _empty(capacity)
        ids = old.ids[kept]
        count = len(ids)
        new.lanes[:, :count] = old.lanes[:, kept]
        new.ids[:count] = ids
        live = np.flatnonzero(ids != _ABSENT)
        self._row_of[ids[live]] = live
        self._dead = count - len(live)
        self._rows = _Rows(new.lanes, new.ids, count)


def _lanes(digests: bytes) -> NDArray[np.uint64]:
    """View hashes as rows of four lanes; only equality of bits matters, not order."""
    return np.frombuffer(digests, dtype=np.uint64).reshape(-1, DIGEST_BYTES // 8)


def _blocks(rows: _Rows) -> Iterator[_Rows]:
    for start in range(0, rows.count, _BLOCK):
        end = min(start + _BLOCK, rows.count)
        yield _Rows(rows.lanes[:, start:end], rows.ids[start:end], end - start)


class _Found(NamedTuple):
    """Hits as arrays of equal length; `lanes` is n x 4."""

    distances: NDArray[np.int64]
    ids: NDArray[np.int64]
    lanes: NDArray[np.uint64]


_NOTHING: Final = _Found(
    np.empty(0, dtype=np.int64),
    np.empty(0, dtype=np.int64),
    np.empty((0, _LANES), dtype=np.uint64),
)


class _Comparison:
    """Compares blocks with queries in buffers that stay in the cache."""

    def __init__(self, max_distance: int) -> None:
        self._max_distance = max_distance
        self._differing = np.empty(_BLOCK, dtype=np.uint64)
        # Two lanes differ in 128 bits at most, which eight bits can hold.
        self._counts = np.empty(_BLOCK, dtype=np.uint8)
        self._total = np.empty(_BLOCK, dtype=np.uint8)

    def within(self, block: _Rows, query: NDArray[np.uint64]) -> _Found:
        """Find the live rows that are near enough."""
        differing = self._differing[: block.count]
        counts, total = self._counts[: block.count], self._total[: block.count]
        np.bitwise_xor(block.lanes[0], query[0], out=differing)
        np.bitwise_count(differing, out=total)
        np.bitwise_xor(block.lanes[1], query[1], out=differing)
        np.bitwise_count(differing, out=counts)
        np.add(total, counts, out=total)
        at = np.flatnonzero(total <= self._max_distance)
        lanes = block.lanes[:, at]
        rest = np.bitwise_count(lanes[2:] ^ query[2:, np.newaxis])
        distances = total[at] + rest.sum(axis=0, dtype=np.int64)
        ids = block.ids[at]
        kept = (distances <= self._max_distance) & (ids != _ABSENT)
        return _Found(distances[kept], ids[kept], lanes[:, kept].T)


class _Nearest:
    """Collects hits of one query and forgets all but the nearest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._found = _NOTHING

    def add(self, found: _Found) -> None:
        if not found.ids.size:
            return
        both = zip(self._found, found, strict=True)
        distances, ids, lanes = (np.concatenate(pair) for pair in both)
        nearest = np.lexsort((ids, distances))[: self._limit]
        self._found = _Found(distances[nearest], ids[nearest], lanes[nearest])

    def hits(self) -> list[Hit]:
        distances, ids, lanes = self._found
        digests = (row.tobytes() for row in lanes)
        found = zip(distances.tolist(), ids.tolist(), digests, strict=True)
        return [Hit(*hit) for hit in found]
