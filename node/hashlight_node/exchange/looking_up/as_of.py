"""Looking up what was known at a time in the past, to explain what was done then.

Memory has what is live now, so what died since is compared one by one, in a thread and
for one caller at a time: this is for a person who asks, not for a platform's uploads.
The policy, the thresholds and the allow list are today's.

Much may have died, and a read that lasts keeps an ERASE from being scrubbed: so all of
it is read page by page, each a short transaction, and compared in between.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from hashlight_node.matching.candidates import (
    NO_CANDIDATES,
    PDQ,
    Candidate,
    Candidates,
    candidate_limit,
)
from hashlight_node.matching.judging import assemble
from hashlight_node.store import changes, history, past
from hashlight_node.store.past import Deceased

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from hashlight_node.exchange.looking_up.live import LiveView
    from hashlight_node.matching.judging import Criteria, LookupResult
    from hashlight_node.matching.matcher import Matcher
    from hashlight_node.model import StoredOpinion
    from hashlight_node.store.database import Reader
    from hashlight_node.store.history import PastState
    from hashlight_node.store.signals import SignalEvidence
    from hashlight_protocol import Signal

MAX_QUERIES: Final = 10
"""Signals of one lookup in the past; each is compared with all that died."""

_PAGE: Final = 10_000
_REFS_TOGETHER: Final = 100
"""Records whose opinions are read in one transaction."""

_LANES: Final = 4
"""Words of 64 bits in a PDQ hash."""


@dataclass(frozen=True, slots=True)
class PastAnswer:
    """What was known.

    Attributes:
        results: One for each query, in order.
        lists: The state of every list that was here by then.
    """

    results: tuple[LookupResult, ...]
    lists: tuple[PastState, ...]


class PastLookups:
    """Answers what was known. For one event loop.

    Args:
        database: The store.
        matcher: All signals that are live now.
        view: Keeps the matcher as of the last commit.
        criteria: What to judge a match by.
    """

    def __init__(
        self,
        *,
        database: Reader,
        matcher: Matcher,
        view: LiveView,
        criteria: Criteria,
    ) -> None:
        self._database = database
        self._matcher = matcher
        self._view = view
        self._criteria = criteria.uncounted()
        self._turn = asyncio.Semaphore(1)

    async def lookup(
        self, queries: Sequence[Signal], *, at: int, max_distance: int | None
    ) -> PastAnswer:
        """Tell what was known about signals.

        Args:
            queries: Canonical signals, at most `MAX_QUERIES`.
            at: Unix seconds; not in the future.
            max_distance: Where near matches end, in bits; None for the setting.
        """
        async with self._turn:
            # What changes after the search in memory is in the feed after this row.
            seq = await self._database.read(changes.newest_seq)
            await self._view.lists()  # So that the matcher is as of that row, or later.
            found = await asyncio.to_thread(
                self._matcher.candidates, queries, max_distance=max_distance
            )
            reach = self._matcher.reach(max_distance)
            nearest = {
                place: _Nearest(it, reach, candidate_limit(len(queries)))
                for place, it in enumerate(queries)
                if it.type == PDQ
            }
            if nearest:
                async for page in self._others(seq):
                    await asyncio.to_thread(_compare, list(nearest.values()), page)
            equal = await self._database.read(
                lambda conn: past.find_signals(
                    conn, [it for it in queries if it.type != PDQ]
                )
            )
            candidates = [
                nearest[place].merged(found[place])
                if place in nearest
                else _equal(query, equal.get(query))
                for place, query in enumerate(queries)
            ]
            return await self._answer(queries, candidates, at)

    async def _others(self, seq: int) -> AsyncIterator[Sequence[Deceased]]:
        """Read the PDQ signals that are dead, and those that changed since a row."""
        after: int | None = 0
        while after is not None:
            dead, after = await self._database.read(
                partial(past.page_dead, type=PDQ, after=after)
            )
            yield dead
        while rows := await self._database.read(
            partial(changes.changes_after, seq=seq, limit=_PAGE)
        ):
            seq = rows[-1][0]
            yield [Deceased(it.signal_id, it.value) for _, it in rows if it.type == PDQ]

    async def _answer(
        self, queries: Sequence[Signal], candidates: Sequence[Candidates], at: int
    ) -> PastAnswer:
        lists = await self._database.read(partial(history.states_at, at=at))
        evidence, cut = await self._evidence(
            sorted({one.signal_id for found in candidates for one in found}),
            at,
            {it.log_id: it.tree_size for it in lists},
        )
        refs = {one.ref for found in evidence.values() for one in found}
        opinions: list[StoredOpinion] = []
        ordered = iter(sorted(refs, key=str))
        while some := list(islice(ordered, _REFS_TOGETHER)):
            opinions += await self._database.read(
                partial(past.opinions_at, refs=some, at=at)
            )
        results = await asyncio.to_thread(
            assemble,
            queries,
            candidates,
            evidence,
            opinions,
            criteria=self._criteria,
            cut=cut,
        )
        return PastAnswer(results, tuple(lists))

    async def _evidence(
        self, signal_ids: Sequence[int], at: int, sizes: Mapping[int, int]
    ) -> SignalEvidence:
        found = past.PastEvidence(signal_ids, at=at, sizes=sizes)
        while await self._database.read(found.read_page):
            pass
        return found.evidence()


class _Nearest:
    """The nearest of many signals to a PDQ query.

    Args:
        query: The query.
        reach: Where matches end, in bits.
        limit: How many are kept.
    """

    def __init__(self, query: Signal, reach: int, limit: int) -> None:
        self._lanes = _lanes([query.value])[0]
        self._reach = reach
        self._limit = limit
        self._kept: list[Candidate] = []
        self._is_cut = False

    def compare(self, page: Sequence[Deceased], lanes: NDArray[np.uint64]) -> None:
        """Look at more signals.

        Args:
            page: The signals.
            lanes: Their hashes, n x 4 words.
        """
        distances = np.bitwise_count(lanes ^ self._lanes).sum(axis=1, dtype=np.int64)
        rows = np.flatnonzero(distances <= self._reach)
        if not rows.size:
            return
        nearest = rows[np.argsort(distances[rows], kind="stable")]
        self._is_cut |= len(nearest) > self._limit
        self._keep(
            Candidate(
                page[row].signal_id,
                PDQ,
                page[row].value,
                int(distances[row]),
                self._reach,
            )
            for row in nearest[: self._limit].tolist()
        )

    def merged(self, live: Candidates) -> Candidates:
        """Give the nearest of these and of what memory found."""
        self._limit = max(self._limit, len(live))  # It may have had more than a share.
        self._keep(live)
        return Candidates(self._kept, live.truncated or self._is_cut)

    def _keep(self, more: Iterable[Candidate]) -> None:
        every = {one.signal_id: one for one in (*self._kept, *more)}
        ordered = sorted(every.values(), key=lambda it: (it.distance, it.signal_id))
        self._is_cut |= len(ordered) > self._limit
        self._kept = ordered[: self._limit]


def _compare(queries: Sequence[_Nearest], page: Sequence[Deceased]) -> None:
    lanes = _lanes([it.value for it in page])
    for query in queries:
        query.compare(page, lanes)


def _lanes(values: Sequence[str]) -> NDArray[np.uint64]:
    digests = bytes.fromhex("".join(values))
    return np.frombuffer(digests, dtype=np.uint64).reshape(-1, _LANES)


def _equal(query: Signal, signal_id: int | None) -> Candidates:
    if signal_id is None:
        return NO_CANDIDATES
    return Candidates([Candidate(signal_id, query.type, query.value, 0, 0)])
