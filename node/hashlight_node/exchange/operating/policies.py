"""The operator's own word: the allow list, and trying a policy before it counts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hashlight_node.exchange.looking_up.confirming import confirm
from hashlight_node.matching.judging import assemble
from hashlight_node.store import allowed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashlight_node.matching.judging import Criteria, LookupResult
    from hashlight_node.matching.matcher import Matcher
    from hashlight_node.matching.policy import Policy
    from hashlight_node.model import AllowedSignal, Clock
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import Signal

    _Allowed = tuple[AllowedSignal, list[AllowedSignal]]
    _Removed = tuple[bool, list[AllowedSignal]]


@dataclass(frozen=True, slots=True)
class Trial:
    """What one query leads to under the policy that counts, and under another one.

    Attributes:
        now: With the policy that counts.
        then: With the one that was tried; the same matches, judged again.
    """

    now: LookupResult
    then: LookupResult


class Policies:
    """Changes the allow list and tries policies.

    Args:
        database: The store.
        matcher: All live signals.
        criteria: What counts now; its allow list follows the store's.
        clock: Unix seconds.
    """

    def __init__(
        self, *, database: Database, matcher: Matcher, criteria: Criteria, clock: Clock
    ) -> None:
        self._database = database
        self._matcher = matcher
        self._criteria = criteria
        self._clock = clock

    async def allow(
        self, signal: Signal, *, max_distance: int, note: str
    ) -> AllowedSignal:
        """Say that a signal is harmless; an entry that it has already is replaced.

        Args:
            signal: In canonical form.
            max_distance: For PDQ how far a query may be from it, in bits; else 0.
            note: Why.
        """
        now = self._clock()

        def insert(conn: Connection) -> _Allowed:
            entry = allowed.insert_allowed(
                conn, signal, max_distance=max_distance, note=note, now=now
            )
            return entry, allowed.list_allowed(conn)

        entry, _ = await self._database.write(
            insert, after_commit=lambda it: self._criteria.allowed.replace(it[1])
        )
        return entry

    async def disallow(self, allowed_id: int) -> bool:
        """Take an entry back; tell whether there was one."""

        def delete(conn: Connection) -> _Removed:
            found = allowed.delete_allowed(conn, allowed_id)
            return found, allowed.list_allowed(conn)

        found, _ = await self._database.write(
            delete, after_commit=lambda it: self._criteria.allowed.replace(it[1])
        )
        return found

    async def allowed(self) -> list[AllowedSignal]:
        """List the entries, oldest first."""
        return await self._database.read(allowed.list_allowed)

    async def try_policy(
        self, queries: Sequence[Signal], policy: Policy
    ) -> list[Trial]:
        """Tell what another policy would say of what is live now.

        Nothing changes, and nothing is counted as a match.

        Args:
            queries: Canonical signals.
            policy: The one to try.
        """
        candidates = await asyncio.to_thread(
            self._matcher.candidates, queries, max_distance=None
        )
        now = self._clock()
        confirmed = await self._database.read(
            lambda conn: confirm(conn, candidates, now=now)
        )

        def judged(criteria: Criteria) -> tuple[LookupResult, ...]:
            return assemble(
                queries,
                confirmed.candidates,
                confirmed.evidence,
                confirmed.opinions,
                criteria=criteria,
                cut=confirmed.cut,
            )

        counting = self._criteria.uncounted()
        before = await asyncio.to_thread(judged, counting)
        after = await asyncio.to_thread(judged, replace(counting, policy=policy))
        return list(map(Trial, before, after))
