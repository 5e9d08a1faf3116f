"""Signals that match by equality: from a digest to the ids that have it.

Two numbers a signal and nothing else: 12 bytes, where a dictionary of values takes
hundreds. Most rows lie in sorted arrays, segments, that are never changed; what came
or went since is in a small dictionary and a small set beside them. When these are
full they become a segment, and segments of about one size become one, so that a row is
copied a few times in its life and a question asks a few segments.

Digests may collide, so what is found here is a candidate: whoever asks compares type
and value with the store's.

One thread writes, any number read. A reader works on the view that it took. A reader
that started before a change may or may not see it; whoever starts afterwards does.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Digests = NDArray[np.int64]
Ids = NDArray[np.integer[Any]]

_CHANGES: Final = 32_768
"""Changes kept beside the segments; as dictionary entries they take some 6 MB."""

_AT_ONCE: Final = 4096
"""Rows from which making a segment costs less than adding one by one."""

_NARROW: Final = 2**32
"""Ids below this, which is all that any node has had, take 4 bytes and not 8."""

_RATIO: Final = 4
"""A segment is this much larger than the next, or they become one."""


class _Segment(NamedTuple):
    """Rows that do not change, by digest.

    Attributes:
        digests: Sorted.
        ids: The signal of each.
    """

    digests: Digests
    ids: Ids


class _View(NamedTuple):
    """What readers see; the last two change in place, in steps that are each whole.

    Attributes:
        segments: The largest first.
        added: Ids by digest of rows that are in no segment.
        removed: Digest and id of rows that are in a segment and count no more.
    """

    segments: tuple[_Segment, ...]
    added: dict[int, tuple[int, ...]]
    removed: set[tuple[int, int]]


class ExactIndex:
    """Which signals have a digest."""

    def __init__(self) -> None:
        self._view = _View((), {}, set())
        self._count = 0

    @classmethod
    def from_rows(cls, digests: Digests, ids: Ids) -> Self:
        """Make an index of many rows at once.

        Args:
            digests: As `signal_digest` gives them, in any order.
            ids: The signal of each, 0 or more; a pair of both at most once.
        """
        index = cls()
        if len(digests):
            if int(ids.max()) < _NARROW:
                ids = ids.astype(np.uint32, copy=False)
            index._view = _View((_sorted(digests, ids),), {}, set())
            index._count = len(digests)
        return index

    def __len__(self) -> int:
        return self._count

    @property
    def size_bytes(self) -> int:
        """Memory of all segments; what lies beside them is bounded and small."""
        return sum(it.digests.nbytes + it.ids.nbytes for it in self._view.segments)

    def export(self) -> tuple[Digests, Ids]:
        """Give all rows, sorted by digest; to be called by the thread that writes."""
        segment = _merged(_flushed(self._view))
        return segment.digests, segment.ids

    def add(self, digest: int, signal_id: int) -> bool:
        """Make a signal findable; tell whether it was not before."""
        view = self._view
        if signal_id in _find(view, digest):
            return False
        if (digest, signal_id) in view.removed:
            view.removed.discard((digest, signal_id))
        else:
            view.added[digest] = (*view.added.get(digest, ()), signal_id)
        self._changed(view, 1)
        return True

    def remove(self, digest: int, signal_id: int) -> bool:
        """Make a signal unfindable; tell whether it was findable before."""
        view = self._view
        if signal_id not in _find(view, digest):
            return False
        ids = view.added.get(digest, ())
        if signal_id not in ids:
            view.removed.add((digest, signal_id))
        elif len(ids) == 1:
            del view.added[digest]
        else:
            view.added[digest] = tuple(it for it in ids if it != signal_id)
        self._changed(view, -1)
        return True

    def extend(self, digests: Sequence[int], ids: Sequence[int]) -> list[bool]:
        """Make signals findable.

        Returns:
            For each, whether it was not before.
        """
        if len(ids) < _AT_ONCE:
            return [self.add(*row) for row in zip(digests, ids, strict=True)]
        segments = _flushed(self._view)
        known = _find_many(_View(segments, {}, set()), _digests(digests))
        seen: set[tuple[int, int]] = set()
        is_new: list[bool] = []
        for row, found in zip(zip(digests, ids, strict=True), known, strict=True):
            is_new.append(row[1] not in found and row not in seen)
            seen.add(row)
        rows = np.array(is_new, dtype=np.bool_)
        added = _sorted(_digests(digests)[rows], _ids(ids)[rows])
        self._view = _View(_compacted((*segments, added)), {}, set())
        self._count += len(added.ids)
        return is_new

    def find(self, digest: int) -> Sequence[int]:
        """Find the ids of the signals that have a digest: none, one, rarely more."""
        return _find(self._view, digest)

    def find_many(self, digests: Sequence[int]) -> list[Sequence[int]]:
        """Find what `find` gives for each of several digests, in one pass."""
        return _find_many(self._view, _digests(digests))

    def _changed(self, view: _View, more: int) -> None:
        self._count += more
        if len(view.added) + len(view.removed) >= _CHANGES:
            self._view = _View(_flushed(view), {}, set())


def _digests(digests: Sequence[int]) -> Digests:
    return np.array(digests, dtype=np.int64)


def _ids(ids: Sequence[int]) -> Ids:
    largest = max(ids, default=0)
    return np.array(ids, dtype=np.uint32 if largest < _NARROW else np.int64)


def _find(view: _View, digest: int) -> Sequence[int]:
    found = view.added.get(digest, ())
    for segment in view.segments:
        at = int(segment.digests.searchsorted(digest))
        found = (*found, *_ids_at(segment, at, digest, view.removed))
    return found


def _find_many(view: _View, digests: Digests) -> list[Sequence[int]]:
    added = view.added
    found: list[Sequence[int]] = [added.get(it, ()) for it in digests.tolist()]
    for segment in view.segments:
        at = segment.digests.searchsorted(digests)
        inside = np.minimum(at, len(segment.digests) - 1)
        for place in np.flatnonzero(segment.digests[inside] == digests).tolist():
            ids = _ids_at(segment, int(at[place]), int(digests[place]), view.removed)
            found[place] = (*found[place], *ids)
    return found


def _ids_at(
    segment: _Segment, at: int, digest: int, removed: set[tuple[int, int]]
) -> tuple[int, ...]:
    """Collect the rows of one digest; nearly always there is one."""
    ids: tuple[int, ...] = ()
    while at < len(segment.digests) and segment.digests[at] == digest:
        signal_id = int(segment.ids[at])
        if (digest, signal_id) not in removed:
            ids = (*ids, signal_id)
        at += 1
    return ids


def _flushed(view: _View) -> tuple[_Segment, ...]:
    """Give segments that hold what a view does, by themselves."""
    segments = tuple(_without(it, view.removed) for it in view.segments)
    rows = [(digest, it) for digest, ids in view.added.items() for it in ids]
    if rows:
        digests, ids = zip(*rows, strict=True)
        segments = (*segments, _sorted(_digests(digests), _ids(ids)))
    return _compacted(segments)


def _without(segment: _Segment, removed: set[tuple[int, int]]) -> _Segment:
    if not removed:
        return segment
    digests = _digests([digest for digest, _ in removed])
    places = segment.digests.searchsorted(digests).tolist()
    kept = np.ones(len(segment.ids), dtype=np.bool_)
    for (digest, signal_id), at in zip(removed, places, strict=True):
        ids = _ids_at(segment, at, digest, set())
        if signal_id in ids:
            kept[at + ids.index(signal_id)] = False
    return _Segment(segment.digests[kept], segment.ids[kept])


def _compacted(segments: tuple[_Segment, ...]) -> tuple[_Segment, ...]:
    """Join segments until each is several times as large as the next."""
    kept: list[_Segment] = []
    for segment in sorted(segments, key=lambda it: -len(it.ids)):
        kept.append(segment)
        while len(kept) > 1 and len(kept[-2].ids) < _RATIO * len(kept[-1].ids):
            last = kept.pop()
            kept[-1] = _joined(kept[-1], last)
    return tuple(it for it in kept if len(it.ids))


def _merged(segments: tuple[_Segment, ...]) -> _Segment:
    whole = _Segment(_digests([]), _ids([]))
    for segment in segments:
        whole = _joined(segment, whole)
    return whole


def _joined(large: _Segment, small: _Segment) -> _Segment:
    at = large.digests.searchsorted(small.digests)
    ids = large.ids.astype(np.result_type(large.ids, small.ids), copy=False)
    return _Segment(
        np.insert(large.digests, at, small.digests), np.insert(ids, at, small.ids)
    )


def _sorted(digests: Digests, ids: Ids) -> _Segment:
    order = np.argsort(digests, kind="stable")
    return _Segment(digests[order], ids[order])
