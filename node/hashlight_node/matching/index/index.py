"""The index: what is in it at each moment, how rows enter, leave and move."""

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashlight_node.matching.index.delta import MAX_ROWS, Delta
from hashlight_node.matching.index.found import Found, Hit
from hashlight_node.matching.index.kernel import (
    Kernel,
    View,
    chosen_kernel,
    kernel_name,
)
from hashlight_node.matching.index.layout import DEAD, DIGEST_BYTES
from hashlight_node.matching.index.merging import Part, Sizes, is_worn, merge, plan
from hashlight_node.matching.index.rows import checked_rows, rows_in, shares
from hashlight_node.matching.index.segment import Segment, build_segment

MERGING: Final = "pdq-merge"
"""Name of the thread that merges."""


@dataclass(frozen=True, slots=True)
class IndexStats:
    """What an index is made of.

    Attributes:
        kernel: What searches, `c` or `numpy`.
        hashes: Those that can be found.
        removed: Rows that were removed and still take their place.
        segments: Large parts; a query reads each.
        deltas: Small ones, where new rows are.
        merges: How often parts were written anew as one.
        size_bytes: Memory of all arrays.
    """

    kernel: str
    hashes: int
    removed: int
    segments: int
    deltas: int
    merges: int
    size_bytes: int


class _State:
    """All parts at one moment; replaced as a whole, so that readers need no lock."""

    __slots__ = ("deltas", "segments", "view")

    def __init__(
        self, kernel: Kernel, segments: tuple[Segment, ...], deltas: tuple[Delta, ...]
    ) -> None:
        self.segments = segments
        self.deltas = deltas
        self.view: View = kernel.View(
            tuple(it.arrays for it in segments),
            tuple(it.arrays for it in deltas),
            Hit,
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        return (*reversed(self.deltas), *self.segments)


class PdqIndex:
    """Which signals have a PDQ hash within some distance of a query, and all of them.

    What counts is the pair of signal id and hash. One thread writes; any number
    read, at any time, and wait for nobody: a search sees every change that
    returned before it began.

    Merges run in a thread of the index's own, which exists only while there is one
    to do. A process may be forked at any time that no other thread writes; both go
    on with an index of their own.
    """

    def __init__(
        self, *, kernel: Kernel | None = None, sizes: Sizes | None = None
    ) -> None:
        """Begin empty.

        Args:
            kernel: What searches; the one of this process by default.
            sizes: When rows move; other than the defaults only for tests.
        """
        self._kernel = kernel or chosen_kernel()
        self._sizes = sizes or Sizes()
        if not 0 < self._sizes.delta_rows <= MAX_ROWS:
            raise ValueError(f"a delta has 1 to {MAX_ROWS} rows")
        self._live = 0
        self._merges = 0
        self._is_closed = False
        self._forget_threads()
        self._install((), (Delta(self._sizes.delta_rows),))

    @classmethod
    def from_rows(
        cls,
        signal_ids: ArrayLike,
        digests: NDArray[np.uint8],
        *,
        kernel: Kernel | None = None,
        sizes: Sizes | None = None,
    ) -> Self:
        """Make an index of many hashes at once, at 2 to 3 million a second.

        Args:
            signal_ids: n of them, from 0 to 2**32 - 2.
            digests: n x 32 bytes; a pair that is there twice counts once.
            kernel: As for an empty one.
            sizes: As for an empty one.

        Raises:
            ValueError: Wrong shape or type, or an id outside its range.
        """
        index = cls(kernel=kernel, sizes=sizes)
        ids, rows = checked_rows(signal_ids, digests)
        index._load(ids, rows)
        return index

    def __len__(self) -> int:
        return self._live

    # Reading

    def search(self, query: bytes, max_distance: int, *, limit: int) -> Found:
        """Find the signals whose hash differs in at most so many bits.

        Args:
            query: 32 bytes.
            max_distance: 0 to 256. Up to 31 the tables lead to the hits; beyond, every
                hash is compared, about 1.5 ms per million.
            limit: Hits to give at most, at least 1: the nearest ones. The work is
                bounded by what comparing all hashes would cost, whatever they are.

        Raises:
            ValueError: An argument is outside its range.
        """
        return Found(*self._state.view.search(query, max_distance, limit))

    def search_many(
        self, queries: bytes, max_distance: int, *, limit: int
    ) -> list[Found]:
        """Search for several hashes, while other threads may run.

        Args:
            queries: 32 bytes each, one after the other.
            max_distance: As for `search`, for all of them.
            limit: As for `search`, for each of them.

        Returns:
            What `search` gives, for each query in its order.

        Raises:
            ValueError: An argument is outside its range.
        """
        answers = self._state.view.search_many(queries, max_distance, limit)
        return [Found(*answer) for answer in answers]

    def stats(self) -> IndexStats:
        """Tell what the index is made of."""
        state = self._state
        return IndexStats(
            kernel=kernel_name(self._kernel),
            hashes=self._live,
            removed=sum(part.dead for part in state.parts),
            segments=len(state.segments),
            deltas=len(state.deltas),
            merges=self._merges,
            size_bytes=sum(part.size_bytes for part in state.parts),
        )

    def export(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Copy what is in the index at one moment, in no particular order.

        What is removed while this copies may be missing. Call it from the thread
        that writes if the moment matters.

        Returns:
            Signal ids, and their hashes, n x 32; what `from_rows` takes.
        """
        with self._writing():
            # Only ids are copied now, so that no removal waits for the rest.
            state = self._state
            taken = [
                (part, np.flatnonzero(part.arrays[1] != DEAD)) for part in state.parts
            ]
        count = sum(len(at) for _, at in taken)
        ids = np.empty(count, np.int64)
        digests = np.empty((count, DIGEST_BYTES), np.uint8)
        start = 0
        for part, at in taken:
            end = start + len(at)
            np.take(
                part.arrays[0][:, :DIGEST_BYTES], at, axis=0, out=digests[start:end]
            )
            ids[start:end] = part.arrays[1][at]  # last: it tells what was wiped
            start = end
        kept = ids != DEAD
        return (ids, digests) if kept.all() else (ids[kept], digests[kept])

    # Writing

    def add(self, signal_id: int, digest: bytes) -> None:
        """Make one hash findable; nothing happens if the signal already is by it.

        Args:
            signal_id: 0 to 2**32 - 2.
            digest: 32 bytes.

        Raises:
            ValueError: The id or the length is another.
        """
        if not 0 <= signal_id < DEAD or len(digest) != DIGEST_BYTES:
            raise ValueError("a row is an id of 32 bits and a hash of 32 bytes")
        with self._writing():
            self._add(signal_id, digest)

    def extend(self, signal_ids: Sequence[int], digests: bytes) -> None:
        """Make hashes findable; signals that already are by them stay as they are.

        Args:
            signal_ids: 0 to 2**32 - 2.
            digests: 32 bytes for each of them, one after the other.

        Raises:
            ValueError: An id or the length is another; nothing was added.
        """
        ids, rows = checked_rows(signal_ids, rows_in(digests))
        if len(ids) < self._sizes.bulk_rows:
            with self._writing():
                for at, signal_id in enumerate(ids.tolist()):
                    self._add(signal_id, _digest_at(digests, at))
            return
        is_new = self._known(ids, rows) == 0
        self._load(ids[is_new], rows[is_new])

    def remove(self, signal_id: int, digest: bytes) -> None:
        """Make one hash unfindable, and zero it; nothing happens if it was."""
        with self._writing():
            place = self._find(signal_id, digest)
            if place is None:
                return
            part, row = place
            part.kill(row)
            self._live -= 1
            if part in self._merging:
                self._removed_meanwhile.append((signal_id, digest, part, row))
            else:
                part.wipe(row)
            if isinstance(part, Segment) and is_worn(part, self._sizes):
                self._merge_if_needed()

    def discard(self, signal_ids: Iterable[int], digests: bytes) -> None:
        """Make hashes unfindable; those that were stay so.

        Args:
            signal_ids: Any.
            digests: 32 bytes for each of them, one after the other.

        Raises:
            ValueError: The length is another.
        """
        ids = list(signal_ids)
        if len(digests) != DIGEST_BYTES * len(ids):
            raise ValueError("every id needs a hash of 32 bytes")
        for at, signal_id in enumerate(ids):
            self.remove(signal_id, _digest_at(digests, at))

    def settle(self) -> None:
        """Wait until nothing is left to merge; for measuring, a search needs it not."""
        while (thread := self._thread) is not None:
            thread.join()

    def hashes_of(
        self, signal_ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Find the hashes of signals of which only the id is known, by a walk over all.

        Returns:
            Those ids that are here, and their hashes, n x 32; what `discard` takes.
        """
        ids: list[NDArray[np.int64]] = []
        digests: list[NDArray[np.uint8]] = []
        for part in self._state.parts:
            records, known = part.arrays[:2]
            at = np.flatnonzero(np.isin(known, signal_ids.astype(known.dtype)))
            ids.append(known[at].astype(np.int64))
            digests.append(records[at, :DIGEST_BYTES])
        return np.concatenate(ids), np.concatenate(digests)

    def close(self) -> None:
        """Wait for the merge under way and begin no other; searching goes on."""
        with self._writing():
            self._is_closed = True
            thread = self._thread
        if thread is not None:
            thread.join()

    def _writing(self) -> threading.Lock:
        """Give the lock to write under."""
        if self._process != os.getpid():
            # They stayed in the process that was forked, and so did the merge.
            self._wipe_removed()
            self._forget_threads()
        return self._lock

    def _forget_threads(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._merging: frozenset[Part] = frozenset()
        self._removed_meanwhile: list[tuple[int, bytes, Part, int]] = []

    def _find(self, signal_id: int, digest: bytes) -> tuple[Part, int] | None:
        for part in self._state.parts:
            row = part.find(self._kernel, signal_id, digest)
            if row >= 0:
                return part, row
        return None

    def _add(self, signal_id: int, digest: bytes) -> None:
        if self._find(signal_id, digest) is None:
            self._append(signal_id, digest)

    def _append(self, signal_id: int, digest: bytes) -> None:
        active = self._state.deltas[-1]
        active.add(self._kernel, signal_id, digest)
        self._live += 1
        if active.is_full:
            state = self._state
            fresh = Delta(self._sizes.delta_rows)
            self._install(state.segments, (*state.deltas, fresh))
            self._merge_if_needed()

    def _known(
        self, ids: NDArray[np.uint32], rows: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """Mark with 1 which of these pairs are in the index."""
        state = self._state
        known = np.zeros(len(ids), np.uint8)
        for segment in state.segments:
            segment.mark_known(self._kernel, rows, ids, known)
        for delta in state.deltas:
            if delta.live:
                pairs = zip(ids.tolist(), rows, strict=True)
                known |= np.fromiter(
                    ((it, row.tobytes()) in delta.row_of for it, row in pairs),
                    dtype=np.uint8,
                    count=len(ids),
                )
        return known

    def _load(self, ids: NDArray[np.uint32], rows: NDArray[np.uint8]) -> None:
        """Add pairs that are not in the index as segments of their own."""
        for at in shares(rows, self._sizes.segment_rows):
            segment = build_segment(self._kernel, rows[at], ids[at])
            with self._writing():
                state = self._state
                self._install((*state.segments, segment), state.deltas)
                self._live += segment.live
                self._merge_if_needed()

    # Merging

    def _install(
        self, segments: tuple[Segment, ...], deltas: tuple[Delta, ...]
    ) -> None:
        self._state = _State(self._kernel, segments, deltas)

    def _merge_if_needed(self) -> None:
        """Begin a merge if there is one to do; called with the lock held."""
        full = self._state.deltas[:-1]
        free = tuple(it for it in full if it not in self._merging)
        if self._thread is not None or self._is_closed:
            if len(free) > self._sizes.waiting_deltas:
                self._replace(free, merge(self._kernel, free))
            return
        if plan(self._state.segments, full, self._sizes):
            self._thread = threading.Thread(target=self._merge_all, name=MERGING)
            self._thread.start()

    def _merge_all(self) -> None:
        """Merge until nothing is left to do, without holding up anybody."""
        parts: list[Part] = []
        try:
            while parts := self._begin_merge():
                merged = merge(self._kernel, parts)
                with self._lock:
                    self._end_merge(parts, merged)
                parts = []
        finally:
            if parts:  # out of memory: all is as it was, and the next one may work
                with self._lock:
                    self._thread = None
                    self._wipe_removed()

    def _begin_merge(self) -> list[Part]:
        with self._lock:
            state = self._state
            parts = plan(state.segments, state.deltas[:-1], self._sizes)
            if self._is_closed:
                parts = []
            if not parts:
                self._thread = None
            self._merging = frozenset(parts)
            return parts

    def _end_merge(self, parts: Sequence[Part], merged: Segment | None) -> None:
        """Put a merged segment in place of its parts, less what was removed since."""
        for signal_id, digest, _, _ in self._removed_meanwhile:
            new_row = merged.find(self._kernel, signal_id, digest) if merged else -1
            if merged and new_row >= 0:
                merged.kill(new_row)
                merged.wipe(new_row)
        self._wipe_removed()
        self._replace(parts, merged)

    def _wipe_removed(self) -> None:
        """Zero what was removed during the merge that ended, with a segment or none."""
        for _, _, part, row in self._removed_meanwhile:
            part.wipe(row)
        self._removed_meanwhile = []
        self._merging = frozenset()

    def _replace(self, parts: Sequence[Part], merged: Segment | None) -> None:
        state = self._state
        segments = [it for it in state.segments if it not in parts]
        deltas = tuple(it for it in state.deltas if it not in parts)
        if merged is not None:
            segments.append(merged)
        self._install(tuple(segments), deltas)
        self._merges += 1


def _digest_at(digests: bytes, at: int) -> bytes:
    return digests[DIGEST_BYTES * at : DIGEST_BYTES * (at + 1)]
