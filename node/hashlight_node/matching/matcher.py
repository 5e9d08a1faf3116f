"""Looking signals up: candidates from memory, answers from what the store confirms.

The matcher holds every live signal and hears of changes right after the commit that
made them. It is fast and may be a moment behind, so what it finds are candidates:
the caller reads their evidence in one transaction, and `judging.assemble` builds the
answer from that alone. A withdrawn record can therefore never be answered.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hashlight_node.matching.candidates import (
    MAX_CANDIDATES,
    MAX_CANDIDATES_A_CALL,
    NO_CANDIDATES,
    PDQ,
    Candidate,
    Candidates,
    candidate_limit,
)
from hashlight_node.matching.clusters import Cluster, find_cluster
from hashlight_node.matching.exact import ExactIndex
from hashlight_node.matching.index import Found, IndexStats, PdqIndex
from hashlight_node.matching.pdq import DIGEST_BYTES
from hashlight_node.model import SignalChange, signal_digest
from hashlight_protocol import Signal

_LOADED_AT_ONCE: Final = 65536

Changed = tuple[int, str, str]
"""Id, type and canonical value of a signal."""


class Rows(NamedTuple):
    """All that a matcher holds, of one moment, as arrays that can be kept on disk.

    Attributes:
        pdq_ids: Signal ids of n PDQ hashes.
        pdq_hashes: Those hashes, n x 32 bytes.
        exact_digests: `signal_digest` of all signals of other types.
        exact_ids: The ids of these.
        exact_sizes: How many of them each type has.
    """

    pdq_ids: NDArray[np.integer[Any]]
    pdq_hashes: NDArray[np.uint8]
    exact_digests: NDArray[np.int64]
    exact_ids: NDArray[np.integer[Any]]
    exact_sizes: Mapping[str, int]


class MatcherStats(NamedTuple):
    """What a matcher is made of.

    Attributes:
        pdq: The index of PDQ hashes.
        exact_count: Signals of other types.
        exact_bytes: Memory that they take.
    """

    pdq: IndexStats
    exact_count: int
    exact_bytes: int


class Matcher:
    """Every live signal, in memory.

    One thread changes it: the store's writer, right after each commit and in the
    order of commits. Any thread may ask at any time.
    """

    def __init__(self, *, pdq_threshold: int) -> None:
        """Begin empty.

        Args:
            pdq_threshold: Largest distance at which PDQ hashes of any list match, 0
                to 256.
        """
        self._pdq_threshold = pdq_threshold
        self._pdq = PdqIndex()
        self._exact = ExactIndex()
        self._exact_sizes: Counter[str] = Counter()

    @property
    def pdq_threshold(self) -> int:
        """Largest distance at which PDQ hashes of any list match."""
        return self._pdq_threshold

    def load(self, signals: Iterable[tuple[int, str, str]]) -> None:
        """Take over the live signals of the store, once, before the first `apply`.

        Args:
            signals: Id, type and canonical value; consumed as a stream.
        """
        stream = iter(signals)
        while some := list(islice(stream, _LOADED_AT_ONCE)):
            self._add(some)

    def export(self) -> Rows:
        """Give everything; to be called by the thread that applies changes."""
        return self.with_pdq(self.export_exact())

    def export_exact(self) -> Rows:
        """Give all but the PDQ hashes; from the thread that applies changes.

        Together with `with_pdq` this holds up changes for less time than `export`.
        """
        sizes = {name: size for name, size in self._exact_sizes.items() if size}
        none = np.empty(0, dtype=np.int64), np.empty((0, DIGEST_BYTES), dtype=np.uint8)
        return Rows(*none, *self._exact.export(), sizes)

    def with_pdq(self, rows: Rows) -> Rows:
        """Add the PDQ hashes as they are now; any thread may ask.

        What is added or removed meanwhile may or may not be among them.
        """
        pdq_ids, pdq_hashes = self._pdq.export()
        return rows._replace(pdq_ids=pdq_ids, pdq_hashes=pdq_hashes)

    def restore(self, rows: Rows) -> None:
        """Take over what another matcher exported, instead of `load`."""
        self._pdq.close()
        self._pdq = PdqIndex.from_rows(rows.pdq_ids, rows.pdq_hashes)
        self._exact = ExactIndex.from_rows(rows.exact_digests, rows.exact_ids)
        self._exact_sizes = Counter(rows.exact_sizes)

    def apply(self, changes: Iterable[SignalChange]) -> None:
        """Follow a commit: what became live matches from now on, what died does not.

        Applying a change again alters nothing.
        """
        # What died and revived in one commit was live all the time. An id is never
        # given anew; the value is in the key because removing takes both.
        last = {(it.signal_id, it.type, it.value): it.live for it in changes}
        self._remove([key for key, is_live in last.items() if not is_live])
        self._add([key for key, is_live in last.items() if is_live])

    def forget(self, signal_ids: Sequence[int]) -> None:
        """Drop signals of which only the id is known any more, because of an erase.

        Takes a walk over everything, however few they are. `sizes` does not notice,
        because it is not known of which types they were.
        """
        ids = np.unique(np.asarray(signal_ids, dtype=np.int64))
        if not ids.size:
            return
        found, digests = self._pdq.hashes_of(ids)
        self._pdq.discard(found.tolist(), digests.tobytes())
        exact_digests, exact_ids = self._exact.export()
        for at in np.flatnonzero(np.isin(exact_ids, ids)).tolist():
            self._exact.remove(int(exact_digests[at]), int(exact_ids[at]))

    def close(self) -> None:
        """End what runs in the background; what was asked for is answered before."""
        self._pdq.close()

    def reach(self, max_distance: int | None) -> int:
        """Tell how far PDQ matches are looked for, in bits.

        Args:
            max_distance: What a caller wants; None for our threshold, and never beyond
                it, because the operator answers for what is a match.
        """
        if max_distance is None:
            return self._pdq_threshold
        return min(max_distance, self._pdq_threshold)

    def sizes(self) -> Mapping[str, int]:
        """Count the live signals of each type that has had any."""
        return {PDQ: len(self._pdq), **self._exact_sizes}

    def stats(self) -> MatcherStats:
        """Tell what memory is used for, and what searches."""
        exact = self._exact
        return MatcherStats(self._pdq.stats(), len(exact), exact.size_bytes)

    def candidates(
        self, queries: Sequence[Signal], *, max_distance: int | None
    ) -> list[Candidates]:
        """Find what may match.

        More than a few queries belong in a thread.

        Args:
            queries: Canonical signals of any type.
            max_distance: Where PDQ matches end; None for our threshold, and never
                beyond it, because the operator answers for what is a match.

        Returns:
            For each query, in order, the nearest ones, nearest first, at most
            `MAX_CANDIDATES`; of all PDQ hashes together `MAX_CANDIDATES_A_CALL`.
        """
        threshold = self.reach(max_distance)
        if len(queries) == 1:
            return [self._candidates_of(queries[0], threshold)]
        hashes = b"".join(bytes.fromhex(it.value) for it in queries if it.type == PDQ)
        near = iter(self._search_shared(hashes, threshold))
        equal = self._equal_many([it for it in queries if it.type != PDQ])
        return [
            _near(next(near), threshold) if it.type == PDQ else next(equal)
            for it in queries
        ]

    def cluster(self, query: Signal, *, max_distance: int) -> Cluster:
        """Find the known hashes that hang together with a PDQ hash.

        Up to a thousand searches, which belong in a thread.

        Args:
            query: A PDQ hash; need not be known.
            max_distance: Between neighbours, in bits.
        """
        return find_cluster(
            lambda hashes, limit: self._pdq.search_many(
                hashes, max_distance, limit=limit
            ),
            bytes.fromhex(query.value),
        )

    def near(self, digests: bytes, *, max_distance: int | None) -> list[Candidates]:
        """Find what may match PDQ hashes that are given as bare bytes.

        Args:
            digests: 32 bytes each.
            max_distance: As for `candidates`.

        Returns:
            For each hash, in order, as `candidates` would.
        """
        threshold = self.reach(max_distance)
        return [_near(it, threshold) for it in self._search_shared(digests, threshold)]

    def _candidates_of(self, query: Signal, threshold: int) -> Candidates:
        """Find what one query may match, without the detour over batches."""
        if query.type != PDQ:
            ids = self._exact.find(signal_digest(query.type, query.value))
            return _equal(query, ids)
        digest = bytes.fromhex(query.value)
        found = self._pdq.search(digest, threshold, limit=candidate_limit(1))
        return _near(found, threshold)

    def _search_shared(self, hashes: bytes, threshold: int) -> list[Found]:
        """Search for several hashes within what one call may find.

        A fair share is enough for nearly all. Those for which it is not are searched
        again while there is something left, so that a list that plants a few signals
        near a query cannot make a batch miss what a single lookup would find.
        """
        count = len(hashes) // DIGEST_BYTES
        share = candidate_limit(count)
        found = self._pdq.search_many(hashes, threshold, limit=share)
        cut = [at for at, it in enumerate(found) if it.truncated]
        left = MAX_CANDIDATES_A_CALL - sum(len(it.hits) for it in found)
        while cut and left > 0 and share < MAX_CANDIDATES:
            # As many at once as can all have the most; the last ones have the rest.
            together = max(1, left // (MAX_CANDIDATES - share))
            again, cut = cut[:together], cut[together:]
            some = b"".join(
                hashes[DIGEST_BYTES * at : DIGEST_BYTES * (at + 1)] for at in again
            )
            limit = min(MAX_CANDIDATES, share + left)
            more = self._pdq.search_many(some, threshold, limit=limit)
            for at, it in zip(again, more, strict=True):
                left -= len(it.hits) - len(found[at].hits)
                found[at] = it
        return found

    def _equal_many(self, queries: Sequence[Signal]) -> Iterator[Candidates]:
        digests = [signal_digest(it.type, it.value) for it in queries]
        found = self._exact.find_many(digests)
        return map(_equal, queries, found)

    def _add(self, signals: Sequence[Changed]) -> None:
        hashes = [it for it in signals if it[1] == PDQ]
        digests = bytes.fromhex("".join(value for _, _, value in hashes))
        self._pdq.extend([signal_id for signal_id, _, _ in hashes], digests)
        exact = [it for it in signals if it[1] != PDQ]
        is_new = self._exact.extend(
            [signal_digest(name, value) for _, name, value in exact],
            [signal_id for signal_id, _, _ in exact],
        )
        for (_, name, _), new in zip(exact, is_new, strict=True):
            self._exact_sizes[name] += new

    def _remove(self, signals: Sequence[Changed]) -> None:
        hashes = [it for it in signals if it[1] == PDQ]
        digests = bytes.fromhex("".join(value for _, _, value in hashes))
        self._pdq.discard([signal_id for signal_id, _, _ in hashes], digests)
        for signal_id, name, value in signals:
            if name != PDQ:
                digest = signal_digest(name, value)
                self._exact_sizes[name] -= self._exact.remove(digest, signal_id)


def _near(found: Found, threshold: int) -> Candidates:
    if not found.hits:
        return Candidates((), found.truncated) if found.truncated else NO_CANDIDATES
    return Candidates(
        [
            Candidate(hit.signal_id, PDQ, hit.digest.hex(), hit.distance, threshold)
            for hit in found.hits
        ],
        found.truncated,
    )


def _equal(query: Signal, signal_ids: Sequence[int]) -> Candidates:
    if not signal_ids:
        return NO_CANDIDATES
    return Candidates(
        [Candidate(it, query.type, query.value, 0, 0) for it in signal_ids]
    )
