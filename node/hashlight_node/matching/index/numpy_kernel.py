"""Exact search for PDQ hashes within a Hamming distance, where nothing was compiled.

The same algorithm over the same arrays as `_kernel.c`; both are described in
`layout`. It differs in one thing: a delta is compared row by row.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hashlight_node.matching.index.found import Hit
from hashlight_node.matching.index.layout import (
    BANDS,
    DEAD,
    DIGEST_BYTES,
    KEYS,
    MAX_INDEXED,
    band_keys,
)

SegmentArrays = tuple[
    NDArray[np.uint8],
    NDArray[np.uint32],
    NDArray[np.uint32],
    NDArray[np.uint16],
    NDArray[np.uint32],
]
"""Rows (n x 32), ids (n), offsets (16 x 65537), next bands (16 * n + padding),
postings (15 * n)."""

DeltaArrays = tuple[
    NDArray[np.uint8], NDArray[np.uint32], NDArray[np.uint16], NDArray[np.uint32]
]
"""Records (capacity x 64), ids (capacity), heads (16 x 65536), count (1)."""

Answer = tuple[list[Hit], bool]
"""The nearest, and whether there are more."""

# Rows compared at a time: with all temporary results they stay in the cache.
_BLOCK: Final = 32768
# Postings of several queries filtered at a time, for the same reason.
_POSTINGS: Final = 1 << 17
# Queries whose hits are collected together: bounds what a batch holds meanwhile.
_SLICE: Final = 256
_FARTHEST: Final = np.iinfo(np.int64).max
_ID_BITS: Final = 32
_FLIPS: Final = np.array([0, *(1 << bit for bit in range(16))], dtype=np.uint16)


class _Hits(NamedTuple):
    """Of one query or several: whose, how far and which, the hash; of one length.

    A hit's key is its distance, then its signal id: the order of an answer.
    """

    queries: NDArray[np.int64]
    keys: NDArray[np.int64]
    digests: NDArray[np.uint8]

    def at(self, places: NDArray[np.int64] | NDArray[np.bool_]) -> "_Hits":
        """Give some of them, in this order."""
        return _Hits(self.queries[places], self.keys[places], self.digests[places])


class _Nearest:
    """The nearest hits of some queries, as far as they are known.

    However many hits there are, no more are held than belong in the answers, the same
    again, and what one block brings.

    Attributes:
        radii: Per query, the distance beyond which nothing can be in the answer.
    """

    def __init__(self, count: int, max_distance: int, limit: int) -> None:
        self.radii = np.full(count, max_distance, np.int64)
        self._limit = limit
        self._cutoffs = np.full(count, _FARTHEST)
        self._truncated = np.zeros(count, bool)
        self._hits: list[_Hits] = []
        self._held = 0
        self._room = _BLOCK

    def add(self, hits: _Hits) -> None:
        """Keep of these hits what may be in an answer."""
        is_near = hits.keys < self._cutoffs[hits.queries]
        if not is_near.all():  # its answer is cut short already
            hits = hits.at(is_near)
        if not len(hits.keys):
            return
        self._hits.append(hits)
        self._held += len(hits.keys)
        if self._held > self._room:
            self._reduce()

    def answers(self) -> list[Answer]:
        """Sort out whose hits are whose, nearest first, then by id."""
        count = len(self.radii)
        if not self._hits:
            return [([], False) for _ in range(count)]
        hits, starts = self._reduce()
        found = zip(
            (hits.keys >> _ID_BITS).tolist(),
            (hits.keys & DEAD).tolist(),
            (row.tobytes() for row in hits.digests),
            strict=True,
        )
        every = [Hit._make(it) for it in found]
        bounds = [*starts.tolist(), len(every)]
        return [
            (every[start:end], cut)
            for start, end, cut in zip(
                bounds, bounds[1:], self._truncated.tolist(), strict=False
            )
        ]

    def _reduce(self) -> tuple[_Hits, NDArray[np.int64]]:
        """Forget all but the nearest, and look no farther from now on.

        Returns:
            What is left, in the order of answers, and where each query's begin.
        """
        queries, keys, digests = zip(*self._hits, strict=True)
        hits = _Hits(*map(np.concatenate, (queries, keys, digests)))
        order = np.lexsort((hits.keys, hits.queries))
        whose = hits.queries[order]
        numbers = np.arange(len(self.radii))
        ends = np.searchsorted(whose, numbers, side="right")
        starts = np.concatenate(([0], ends[:-1]))
        kept = np.arange(len(whose)) - starts[whose] < self._limit
        hits = hits.at(order[kept])
        is_cut = ends - starts > self._limit
        sizes = np.minimum(ends - starts, self._limit)
        starts = np.cumsum(sizes) - sizes
        last = hits.keys[(starts + sizes - 1)[is_cut]]
        self._cutoffs[is_cut] = last
        self.radii[is_cut] = last >> _ID_BITS
        self._truncated |= is_cut
        self._hits, self._held = [hits], len(hits.keys)
        self._room = max(2 * self._held, _BLOCK)
        return hits, starts


def sort(
    digests: NDArray[np.uint8],
    ids: NDArray[np.uint32],
    sorted_digests: NDArray[np.uint8],
    sorted_ids: NDArray[np.uint32],
) -> int:
    """Sort rows by hash, then id, into other arrays; what is twice is kept once.

    Returns:
        How many rows were kept, at the front.
    """
    lanes = digests.view(">u8")
    order = np.lexsort((ids, *(lanes[:, at] for at in (3, 2, 1, 0))))
    rows, numbers = digests[order], ids[order]
    lanes = rows.view(np.uint64)
    differs = np.ones(len(rows), dtype=bool)
    differs[1:] = (lanes[1:] != lanes[:-1]).any(axis=1) | (numbers[1:] != numbers[:-1])
    kept = int(np.count_nonzero(differs))
    sorted_digests[:kept] = rows[differs]
    sorted_ids[:kept] = numbers[differs]
    return kept


def build(
    rows: NDArray[np.uint8],
    offsets: NDArray[np.uint32],
    following: NDArray[np.uint16],
    postings: NDArray[np.uint32],
) -> None:
    """Fill the tables of a segment from its sorted rows."""
    count = len(rows)
    keys = np.ascontiguousarray(band_keys(rows).T)
    for band in range(BANDS):
        order = np.argsort(keys[band], kind="stable")
        sizes = np.bincount(keys[band], minlength=KEYS)
        offsets[band, 0] = 0
        np.cumsum(sizes, out=offsets[band, 1:])
        following[band * count : (band + 1) * count] = keys[(band + 1) % BANDS][order]
        if band:
            postings[(band - 1) * count : band * count] = order
    following[BANDS * count :] = 0


def insert(
    records: NDArray[np.uint8],
    ids: NDArray[np.uint32],
    heads: NDArray[np.uint16],
    count: NDArray[np.uint32],
    signal_id: int,
    digest: bytes,
) -> None:
    """Append a row to a delta; it is findable once `count` covers it."""
    del heads  # only the compiled kernel looks rows up
    row = int(count[0])
    records[row, :DIGEST_BYTES] = np.frombuffer(digest, np.uint8)
    ids[row] = signal_id
    count[0] = row + 1


def find(
    rows: NDArray[np.uint8],
    ids: NDArray[np.uint32],
    skips: NDArray[np.uint32],
    signal_id: int,
    digest: bytes,
) -> int:
    """Find a live row of a segment by its hash and id.

    Removed rows are no longer in order and are passed over.

    Args:
        rows: All, n x 32.
        ids: Theirs.
        skips: n of them or none, changed: see `_next_live`.
        signal_id: The id.
        digest: The hash.

    Returns:
        The row, or -1 if there is none.
    """
    wanted = (digest, signal_id)
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        row = _next_live(ids, skips, middle, high)
        if row >= high:
            high = middle
            continue
        here = (rows[row].tobytes(), int(ids[row]))
        if here == wanted:
            return row
        if here < wanted:
            low = row + 1
        else:
            high = middle
    return -1


def _next_live(
    ids: NDArray[np.uint32], skips: NDArray[np.uint32], start: int, high: int
) -> int:
    """Pass over dead rows, and remember it for the next time.

    A row's skip leads over dead rows only, to where somebody got before. Each row on
    the way is told how far it is from here, so that rows that were removed in order
    are not passed over one by one again and again.

    Returns:
        The first live row, or one from `high` on.
    """
    end = start
    passed: list[int] = []
    while end < high and ids[end] == DEAD:
        passed.append(end)
        end = min(end + max(int(skips[end]) if skips.size else 1, 1), len(ids))
    if skips.size:
        for row in passed:
            skips[row] = end - row
    return end


def mark_known(
    rows: NDArray[np.uint8],
    ids: NDArray[np.uint32],
    skips: NDArray[np.uint32],
    digests: NDArray[np.uint8],
    signal_ids: NDArray[np.uint32],
    known: NDArray[np.uint8],
) -> None:
    """Set `known` to 1 for each hash and id that is a live row of a segment."""
    for at, (digest, signal_id) in enumerate(zip(digests, signal_ids, strict=True)):
        if find(rows, ids, skips, int(signal_id), digest.tobytes()) >= 0:
            known[at] = 1


class View:
    """The segments and deltas of one moment, for searching."""

    def __init__(
        self,
        segments: Sequence[SegmentArrays],
        deltas: Sequence[DeltaArrays],
        hit: type[Hit],
    ) -> None:
        del hit  # the compiled kernel imports nothing and is told
        self._segments = segments
        self._deltas = deltas

    def search(self, query: bytes, max_distance: int, limit: int) -> Answer:
        """Search for one hash."""
        if len(query) != DIGEST_BYTES:
            raise ValueError("a query is 32 bytes")
        return self.search_many(query, max_distance, limit)[0]

    def search_many(
        self, queries: bytes, max_distance: int, limit: int
    ) -> list[Answer]:
        """Search for several hashes, 32 bytes each, one after the other."""
        if len(queries) % DIGEST_BYTES:
            raise ValueError("a query is 32 bytes")
        if not 0 <= max_distance <= 8 * DIGEST_BYTES:
            raise ValueError("a distance is 0 to 256 bits")
        if limit < 1:
            raise ValueError("a limit is at least 1")
        digests = np.frombuffer(queries, np.uint8).reshape(-1, DIGEST_BYTES)
        answers: list[Answer] = []
        for start in range(0, len(digests), _SLICE):
            some = digests[start : start + _SLICE]
            answers += self._search_slice(some, max_distance, limit)
        return answers

    def _search_slice(
        self, digests: NDArray[np.uint8], max_distance: int, limit: int
    ) -> list[Answer]:
        nearest = _Nearest(len(digests), max_distance, limit)
        every = range(len(digests))
        for segment in self._segments:
            if max_distance <= MAX_INDEXED:
                _search_segment(segment, digests, max_distance, nearest)
            else:
                _compare_all(segment[0], segment[1], digests, every, nearest)
        for records, ids, _, count in self._deltas:
            filled = int(count[0])
            rows = records[:filled, :DIGEST_BYTES]
            _compare_all(rows, ids[:filled], digests, every, nearest)
        return nearest.answers()


def _lanes(digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """View hashes as four lanes of 64 bits; only equality of bits matters."""
    return digests.view(np.uint64)


def _compare_all(
    rows: NDArray[np.uint8],
    ids: NDArray[np.uint32],
    digests: NDArray[np.uint8],
    queries: Iterable[int],
    nearest: _Nearest,
) -> None:
    """Compare every row with some queries, the second half only where it matters."""
    lanes = _lanes(digests)
    for at in queries:
        query = lanes[at]
        for start in range(0, len(rows), _BLOCK):
            block = _lanes(rows[start : start + _BLOCK])
            half = np.bitwise_count(block[:, 0] ^ query[0])
            half += np.bitwise_count(block[:, 1] ^ query[1])
            found = np.flatnonzero(half <= nearest.radii[at])
            if found.size:
                whose = np.full(len(found), at)
                _compare(rows, ids, found + start, digests, whose, nearest)


def _compare(
    rows: NDArray[np.uint8],
    ids: NDArray[np.uint32],
    found: NDArray[np.int64],
    digests: NDArray[np.uint8],
    queries: NDArray[np.int64],
    nearest: _Nearest,
) -> None:
    """Keep of these pairs of row and query the live ones that are near enough."""
    near = rows[found]
    differing = _lanes(near) ^ _lanes(digests)[queries]
    distances = np.bitwise_count(differing).sum(axis=1, dtype=np.int64)
    # After the rows: one that was removed and zeroed meanwhile is marked by now.
    signal_ids = ids[found]
    kept = (distances <= nearest.radii[queries]) & (signal_ids != DEAD)
    keys = distances[kept] << _ID_BITS | signal_ids[kept]
    nearest.add(_Hits(queries[kept], keys, near[kept]))


def _search_segment(
    segment: SegmentArrays,
    digests: NDArray[np.uint8],
    max_distance: int,
    nearest: _Nearest,
) -> None:
    rows, ids, offsets, _, _ = segment
    keys = band_keys(digests)
    reach = max_distance // BANDS
    flips = _FLIPS if reach else _FLIPS[:1]
    # Per query, band and value that is near enough: where its postings lie.
    values = keys[:, :, np.newaxis] ^ flips
    bands = np.arange(BANDS)[:, np.newaxis]
    starts = offsets[bands, values].reshape(len(digests), -1).astype(np.int64)
    ends = offsets[bands, values.astype(np.int64) + 1].reshape(starts.shape)
    sizes = ends - starts
    totals = sizes.sum(axis=1)
    # Reading a posting costs as much as comparing a row.
    is_crowded = totals > max(len(rows), _POSTINGS)
    _compare_all(rows, ids, digests, np.flatnonzero(is_crowded).tolist(), nearest)
    for some in _groups(np.flatnonzero(~is_crowded), totals):
        runs = _Runs(keys[some], starts[some], sizes[some], len(flips))
        found, queries = runs.candidates(segment, max_distance)
        for at in range(0, len(found), _BLOCK):
            block = slice(at, at + _BLOCK)
            _compare(rows, ids, found[block], digests, some[queries[block]], nearest)


def _groups(
    queries: NDArray[np.int64], totals: NDArray[np.int64]
) -> Iterable[NDArray[np.int64]]:
    """Split queries into groups that read about `_POSTINGS` postings together."""
    ahead = np.cumsum(totals[queries]) // _POSTINGS
    return np.split(queries, np.flatnonzero(np.diff(ahead)) + 1) if ahead.size else ()


class _Runs(NamedTuple):
    """Stretches of postings to read: per query, 16 bands times 1 or 17 values."""

    keys: NDArray[np.uint16]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    values: int

    def candidates(
        self, segment: SegmentArrays, max_distance: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give rows, and the query of each, whose next band is near enough too."""
        count = len(segment[0])
        sizes = self.sizes.ravel()
        ends = np.cumsum(sizes)
        total = int(ends[-1])
        # In steps, because one query in a crowd may read as many as there are rows.
        # Near neighbours come up in most bands: each counts once.
        pairs = np.empty(0, np.int64)
        for start in range(0, total, _POSTINGS):
            shares = np.clip(ends - start, 0, _POSTINGS)
            shares[1:] -= shares[:-1].copy()
            found, queries = self._step(segment, max_distance, start, shares)
            pairs = np.union1d(pairs, queries * count + found)
        return pairs % count, pairs // count

    def _step(
        self,
        segment: SegmentArrays,
        max_distance: int,
        start: int,
        shares: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Read so many postings of each run, of all numbered through from one on."""
        rows, _, _, following, postings = segment
        count = len(rows)
        sizes = self.sizes.ravel()
        bands = np.tile(np.repeat(np.arange(BANDS), self.values), len(self.keys))
        # Number the postings of all runs through: shift each run to where it lies.
        shifts = self.starts.ravel() + bands * count
        shifts[1:] -= np.cumsum(sizes)[:-1]
        places = np.repeat(shifts + start, shares)
        places += np.arange(len(places))
        wanted = np.repeat(np.roll(self.keys, -1, axis=1).ravel(), self.values)
        limits = np.full(self.values, max_distance * 2 // BANDS - 1, dtype=np.int8)
        limits[0] += 1
        allowed = np.repeat(np.tile(limits, BANDS * len(self.keys)), shares)
        differing = np.bitwise_count(following[places] ^ np.repeat(wanted, shares))
        near = np.flatnonzero(differing <= allowed)
        places = places[near]
        run = np.searchsorted(np.cumsum(shares), near, side="right")
        # The postings of the first band are the rows in order.
        found, later = places.copy(), places >= count
        found[later] = postings[places[later] - count]
        return found, run // (BANDS * self.values)
