"""Writing down what matched, so that it can be explained months later.

A lookup only puts an event into a queue; what is in the queue is stored together, about
once a second. If more matches than the disk can take, events are dropped and counted,
and no lookup waits. A process that is killed loses what is in its queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import orjson

from hashlight_node.observability import REQUEST_ID
from hashlight_node.store import matches
from hashlight_node.store.matches import MatchEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hashlight_node.exchange.looking_up.live import ListState
    from hashlight_node.matching.judging import Criteria, LookupResult, Match
    from hashlight_node.matching.policy import Rule
    from hashlight_node.model import Clock
    from hashlight_node.store.database import Database

FLUSH_SECONDS: Final = 1
"""How long an event waits for others before they are stored together."""

MAX_WAITING: Final = 20_000
"""Events in the queue of one process; most have some hundred bytes."""

MAX_WAITING_BYTES: Final = 33_554_432
"""Of all of them: one that matched much in a node with many lists has a hundred times
as many."""

MAX_EVENT_BYTES: Final = 262_144
"""Of one event: tens of kilobytes, and some ten more for each hundred lists of ours."""

MATCHES_LOGGED: Final = 50
"""Signals in one event, the nearest; it says how many there are besides."""

RECORDS_LOGGED: Final = 20
"""Records of a signal in one event; it says how many there are besides."""

REFERENCES_LOGGED: Final = 200
"""Records of all signals in one event together, those of the nearest first; each signal
has one at least, and says how many there are besides."""

_STORED_TOGETHER: Final = 1000
_STORED_TOGETHER_BYTES: Final = 8_388_608
_DAY_SECONDS: Final = 86_400


class MatchBuffer:
    """Events that wait to be stored, or to be sent to where they are.

    Lookups add from one event loop; nothing here waits.

    Args:
        clock: Unix seconds.
        on_dropped: Told how many events were dropped, because the queue is full or
            because nobody takes them.
    """

    def __init__(self, *, clock: Clock, on_dropped: Callable[[int], None]) -> None:
        self._clock = clock
        self._on_dropped = on_dropped
        self._waiting: deque[MatchEvent] = deque()
        self._waiting_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, results: Iterable[LookupResult], lists: Sequence[ListState]) -> None:
        """Note what an answer said, as far as anything matched."""
        self.add_events(self.events_of(results, lists))

    def events_of(
        self, results: Iterable[LookupResult], lists: Sequence[ListState]
    ) -> list[MatchEvent]:
        """Write down what an answer said, for `add_events`; any thread may."""
        found = [it for it in results if it.matches]
        if not found:
            return []
        at = self._clock()
        sizes = {it.origin: it.tree_size for it in lists}
        return [_event_of(it, sizes, at) for it in found]

    def add_events(self, events: Sequence[MatchEvent]) -> None:
        """Take over events, as far as there is room."""
        dropped = 0
        for event in events:
            size = _size_of(event)
            if (
                size > MAX_EVENT_BYTES
                or len(self._waiting) >= MAX_WAITING
                or self._waiting_bytes + size > MAX_WAITING_BYTES
            ):
                dropped += 1
                continue
            self._waiting.append(event)
            self._waiting_bytes += size
        if dropped:
            self._on_dropped(dropped)

    def take(self, most: int, most_bytes: int) -> list[MatchEvent]:
        """Remove the oldest events.

        Args:
            most: How many.
            most_bytes: Of all together; a single one may have more.
        """
        taken: list[MatchEvent] = []
        taken_bytes = 0
        while self._waiting and len(taken) < most:
            size = _size_of(self._waiting[0])
            if taken and taken_bytes + size > most_bytes:
                break
            taken.append(self._waiting.popleft())
            taken_bytes += size
        self._waiting_bytes -= taken_bytes
        return taken

    def drop(self, events: Sequence[MatchEvent]) -> None:
        """Count events that were taken and that nobody will ever store."""
        self._on_dropped(len(events))


class MatchLog:
    """Stores events.

    Args:
        buffer: Where they wait.
        database: The store.
        criteria: What matches are judged by.
        clock: Unix seconds.
        kept_days: How long events are kept.
    """

    def __init__(
        self,
        buffer: MatchBuffer,
        *,
        database: Database,
        criteria: Criteria,
        clock: Clock,
        kept_days: int,
    ) -> None:
        self.buffer = buffer
        self._database = database
        self._policy = describe_policy(criteria)
        self._clock = clock
        self._kept_seconds = kept_days * _DAY_SECONDS
        self._storing = asyncio.Lock()

    async def flush(self) -> None:
        """Store everything that waits.

        Once begun it goes on even if the caller is cancelled: a write that has begun
        commits all the same, and its events must not be stored again.
        """
        await asyncio.shield(asyncio.ensure_future(self._flush()))

    async def prune(self) -> None:
        """Forget matches that are too old."""
        before = self._clock() - self._kept_seconds
        while await self._database.write(
            lambda conn: matches.prune_matches(conn, before)
        ):
            pass

    async def _flush(self) -> None:
        async with self._storing:
            while events := self.buffer.take(_STORED_TOGETHER, _STORED_TOGETHER_BYTES):
                try:
                    await self._store(events)
                except Exception:
                    # Not stored: they wait again, behind those that came meanwhile.
                    self.buffer.add_events(events)
                    raise

    async def _store(self, events: Sequence[MatchEvent]) -> None:
        now = self._clock()
        await self._database.write(
            lambda conn: matches.insert_matches(conn, self._policy, events, now=now)
        )


def describe_policy(criteria: Criteria) -> str:
    """Write down what matches are judged by, as JSON; the same for the same."""
    thresholds = criteria.thresholds
    document: dict[str, Any] = {
        "default": criteria.policy.default,
        "rules": [describe_rule(rule) for rule in criteria.policy.rules],
    }
    if thresholds is not None:
        document["pdq_threshold"] = thresholds.default
        document["thresholds"] = [list(it) for it in thresholds.by_list]
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS).decode()


def describe_rule(rule: Rule) -> dict[str, str]:
    """Write a rule as it stands in the settings."""
    members = {
        "list": rule.list,
        "label": rule.label,
        "review": rule.review,
        "opinion": rule.opinion,
        "match": rule.match,
        "handling": rule.handling,
    }
    return {name: str(value) for name, value in members.items() if value is not None}


def _size_of(event: MatchEvent) -> int:
    """Give an event's size in bytes: ids and names in it are ASCII."""
    return len(event.event)


def _event_of(result: LookupResult, sizes: dict[str, int], at: int) -> MatchEvent:
    shown = result.matches[:MATCHES_LOGGED]
    described: list[dict[str, object]] = []
    room = REFERENCES_LOGGED
    for match in shown:
        most = max(1, min(RECORDS_LOGGED, room))
        described.append(_describe(match, most))
        room -= min(most, len(match.records))
    event = {
        "request": REQUEST_ID.get(),
        "type": result.query.type,
        "matches": described,
        "more_matches": len(result.matches) - len(shown),
        "truncated": result.truncated,
        "lists": sizes,
    }
    return MatchEvent(at, result.handling.value, orjson.dumps(event).decode())


def _describe(match: Match, most_records: int) -> dict[str, object]:
    records = match.records[:most_records]
    decided = match.decided_by
    return {
        "signal": match.signal_id,
        "distance": match.distance,
        "threshold": match.threshold,
        "opinion": match.opinion,
        "handling": match.handling,
        "allowed": match.allowed,
        "flooded": match.flooded,
        "rule": decided.rule,
        "because": decided.because,
        "decided_by": [decided.ref.origin, decided.ref.leaf_index],
        "records": [[it.ref.origin, it.ref.leaf_index] for it in records],
        "more_records": len(match.records) - len(records),
    }
