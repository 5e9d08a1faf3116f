"""Looking up: what is known about signals or a picture, and what policy says to do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from hashlight_node.exchange.looking_up.as_of import PastLookups
from hashlight_node.exchange.looking_up.confirming import Confirmed, confirm
from hashlight_node.exchange.looking_up.live import ListState, read_lists
from hashlight_node.matching.candidates import PDQ
from hashlight_node.matching.image import hash_image
from hashlight_node.matching.judging import assemble
from hashlight_node.matching.pdq import DIGEST_BYTES
from hashlight_node.model import Purpose
from hashlight_protocol import Signal, parse_signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashlight_node.exchange.looking_up.live import LiveView
    from hashlight_node.exchange.looking_up.match_log import MatchBuffer
    from hashlight_node.matching.candidates import Candidates
    from hashlight_node.matching.image import ImageSignals
    from hashlight_node.matching.judging import Criteria, LookupResult
    from hashlight_node.matching.matcher import Matcher
    from hashlight_node.model import Clock
    from hashlight_node.store.database import Connection, Reader
    from hashlight_node.store.matches import MatchEvent

__all__ = ["ListState", "Lookup", "LookupAnswer", "Numbered"]

_INLINE_QUERIES: Final = 1
"""Queries answered without a thread of their own: handing over costs more."""


@dataclass(frozen=True, slots=True)
class LookupAnswer:
    """What is known.

    Attributes:
        results: One for each query, in order.
        lists: Everything that was searched.
    """

    results: tuple[LookupResult, ...]
    lists: tuple[ListState, ...]


class Numbered(NamedTuple):
    """What is known about one of many.

    Attributes:
        position: Its place among them, from 0.
        result: What is known.
    """

    position: int
    result: LookupResult


class Lookup:
    """Answers local services.

    Candidates come from memory; what is answered comes from one read transaction, so
    a record that is withdrawn is never in an answer, however late memory is. Where
    there are no candidates there is nothing to confirm, and memory is enough.

    Args:
        database: The store.
        matcher: All live signals.
        view: Keeps the matcher and the lists' state as of the last commit.
        criteria: What to judge a match by.
        clock: Unix seconds.
        match_log: Told of every match of an upload; None to write none down.

    Attributes:
        past: Answers what was known at some time.
    """

    def __init__(
        self,
        *,
        database: Reader,
        matcher: Matcher,
        view: LiveView,
        criteria: Criteria,
        clock: Clock,
        match_log: MatchBuffer | None = None,
    ) -> None:
        self._database = database
        self._matcher = matcher
        self._view = view
        self._criteria = {
            Purpose.UPLOAD: criteria,
            Purpose.SCAN: criteria.uncounted(),
        }
        self._clock = clock
        self._match_log = match_log
        self.past = PastLookups(
            database=database, matcher=matcher, view=view, criteria=criteria
        )

    async def lookup(
        self,
        queries: Sequence[Signal],
        *,
        max_distance: int | None,
        purpose: Purpose = Purpose.UPLOAD,
    ) -> LookupAnswer:
        """Tell what is known about signals.

        Args:
            queries: Canonical signals.
            max_distance: Where near matches end, in bits; None for the setting, and
                never beyond it.
            purpose: Whether matches count.
        """
        lists = await self._view.lists()
        if len(queries) > _INLINE_QUERIES:
            candidates = await asyncio.to_thread(
                self._matcher.candidates, queries, max_distance=max_distance
            )
        else:
            candidates = self._matcher.candidates(queries, max_distance=max_distance)
        if not any(candidates):
            nothing = Confirmed(candidates, {}, ())
            return LookupAnswer(self._assemble(queries, nothing, purpose), lists)
        return await self._judge(queries, candidates, purpose)

    async def lookup_hashes(
        self,
        digests: bytes,
        *,
        max_distance: int | None,
        purpose: Purpose = Purpose.UPLOAD,
    ) -> list[Numbered]:
        """Tell what is known about PDQ hashes, of those about which anything is.

        Args:
            digests: 32 bytes each, some hundreds of them.
            max_distance: As for `lookup`.
            purpose: As for `lookup`.

        Returns:
            In the order of the hashes.
        """
        await self._view.lists()  # So that the matcher is as of the last commit.
        found = await asyncio.to_thread(
            self._matcher.near, digests, max_distance=max_distance
        )
        known = [(at, it) for at, it in enumerate(found) if it or it.truncated]
        if not known:
            return []
        queries = [_hash_at(digests, at) for at, _ in known]
        answer = await self._judge(queries, [it for _, it in known], purpose)
        return [
            Numbered(at, result)
            for (at, _), result in zip(known, answer.results, strict=True)
            if result.matches or result.truncated
        ]

    async def _judge(
        self,
        queries: Sequence[Signal],
        candidates: Sequence[Candidates],
        purpose: Purpose,
    ) -> LookupAnswer:
        """Have the store confirm what memory proposes, and judge that."""
        confirmed, lists = await self._confirm_at_once(candidates)
        is_much = (
            len(queries) > _INLINE_QUERIES
            or len(confirmed.evidence) > _INLINE_QUERIES
            or confirmed.opinions
        )
        if is_much:
            results, events = await asyncio.to_thread(
                self._conclude, queries, confirmed, lists, purpose
            )
        else:
            results, events = self._conclude(queries, confirmed, lists, purpose)
        if self._match_log is not None and events:
            self._match_log.add_events(events)
        return LookupAnswer(results, lists)

    def _conclude(
        self,
        queries: Sequence[Signal],
        confirmed: Confirmed,
        lists: Sequence[ListState],
        purpose: Purpose,
    ) -> tuple[tuple[LookupResult, ...], Sequence[MatchEvent]]:
        """Judge, and write down what is to enter the match log."""
        results = self._assemble(queries, confirmed, purpose)
        if self._match_log is None or purpose is not Purpose.UPLOAD:
            return results, ()
        return results, self._match_log.events_of(results, lists)

    async def _confirm_at_once(
        self, candidates: Sequence[Candidates]
    ) -> tuple[Confirmed, tuple[ListState, ...]]:
        """Read what there is to candidates, and the lists of that very moment.

        The lists are in memory already, unless something is committed meanwhile.
        """
        version = self._database.version()
        lists = self._view.known_lists()
        if lists is not None:
            confirmed = await self._database.read_settled(
                lambda conn: confirm(conn, candidates, now=self._clock())
            )
            if version == self._database.version():
                return confirmed, lists
        return await self._database.read(lambda conn: self._confirm(conn, candidates))

    def nothing_known(self, query: Signal) -> tuple[ListState, ...] | None:
        """Tell at once that nothing is known about a signal.

        Returns:
            The state of the lists for which that is so; None if there may be
            something, or if only the store can tell: `lookup` then does.
        """
        lists = self._view.known_lists()
        if lists is None:
            return None
        (found,) = self._matcher.candidates([query], max_distance=None)
        return None if found or found.truncated else lists

    async def lookup_image(self, data: bytes) -> tuple[ImageSignals, LookupAnswer]:
        """Tell what is known about a picture; nothing of it is kept.

        Args:
            data: The file.

        Returns:
            Its hashes, and what is known about each of them: a result for PDQ, then
            one for each exact hash of the file.

        Raises:
            ImageRefusedError: It is no picture that can be hashed.
        """
        found = await asyncio.to_thread(hash_image, data)
        queries = [
            parse_signal("pdq", found.pdq),
            parse_signal("md5", found.md5),
            parse_signal("sha1", found.sha1),
            parse_signal("sha256", found.sha256),
        ]
        return found, await self.lookup(queries, max_distance=None)

    def _assemble(
        self, queries: Sequence[Signal], confirmed: Confirmed, purpose: Purpose
    ) -> tuple[LookupResult, ...]:
        return assemble(
            queries,
            confirmed.candidates,
            confirmed.evidence,
            confirmed.opinions,
            criteria=self._criteria[purpose],
            cut=confirmed.cut,
        )

    def _confirm(
        self, conn: Connection, candidates: Sequence[Candidates]
    ) -> tuple[Confirmed, tuple[ListState, ...]]:
        now = self._clock()
        return confirm(conn, candidates, now=now), read_lists(conn, now=now)


def _hash_at(digests: bytes, index: int) -> Signal:
    start = index * DIGEST_BYTES
    return Signal(PDQ, digests[start : start + DIGEST_BYTES].hex())
