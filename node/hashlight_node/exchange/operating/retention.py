"""Forgetting what is old, in ways that break no proof.

A log is append-only, so its owner forgets with an ERASE, with the reason `expired`:
that destroys the content here and at everybody who has it, and every proof goes on
verifying. Of a copy we may only drop our own content. Its records are then withheld, as
they are at any follower that was never given them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from hashlight_node.exchange.errors import ExchangeError
from hashlight_node.exchange.logs.scrubbing import scrub
from hashlight_node.model import Role
from hashlight_node.store import logs, retention
from hashlight_protocol import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hashlight_node.exchange.logs.applied import FollowsCommits
    from hashlight_node.exchange.publishing.publish import Publisher
    from hashlight_node.model import Clock
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import Ref


_DAY_SECONDS: Final = 86_400

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """How many days something is kept; 0: for ever.

    Attributes:
        expired_days: Content of records after they expired.
        sightings_days: Sightings after what they tell of.
        audit_days: Evidence, and what is remembered of earlier sizes of logs.
    """

    expired_days: int = 0
    sightings_days: int = 0
    audit_days: int = 0


class _Find(Protocol):
    def __call__(
        self, connection: Connection, before: int, role: Role
    ) -> Sequence[Ref]: ...


class Retention:
    """Forgets what the operator wants to be forgotten.

    Args:
        database: The store.
        publisher: Erases what is ours.
        matcher: Learns what dies, right after each commit.
        clock: Unix seconds.
        rules: The operator's.
    """

    def __init__(
        self,
        *,
        database: Database,
        publisher: Publisher,
        matcher: FollowsCommits,
        clock: Clock,
        rules: RetentionRules,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._matcher = matcher
        self._clock = clock
        self._rules = rules

    async def prune(self) -> None:
        """Forget what is old by now."""
        rules = self._rules
        await self._forget(rules.expired_days, retention.find_expired)
        await self._forget(rules.sightings_days, retention.find_old_sightings)
        if rules.audit_days:
            await self._prune_audit(self._before(rules.audit_days))

    async def _forget(self, days: int, find: _Find) -> None:
        if not days:
            return
        before = self._before(days)
        await self._erase_own(partial(find, before=before, role=Role.OWN))
        await self._drop_copied(partial(find, before=before, role=Role.FOLLOWED))

    async def _erase_own(self, find: Callable[[Connection], Sequence[Ref]]) -> None:
        tried: set[Ref] = set()
        while found := [
            it for it in await self._database.read(find) if it not in tried
        ]:
            for ref in found:
                tried.add(ref)
                try:
                    await self._publisher.withdraw(ref, "erase", Reason.EXPIRED)
                except ExchangeError as error:
                    # Its list takes no entries now; the next time, perhaps.
                    _log.info("job had nothing to do", job="retention", code=error.code)
            _log.info("old records of ours are erased", count=len(found))

    async def _drop_copied(self, find: Callable[[Connection], Sequence[Ref]]) -> None:
        is_any = False
        while found := await self._database.read(find):
            now = self._clock()
            await self._database.write(
                partial(retention.drop_contents, refs=found, now=now),
                after_commit=self._matcher.apply,
                then=self._matcher.tidy,
            )
            is_any = True
            _log.info("old records of copies are dropped", count=len(found))
        if is_any:
            await scrub(self._database)

    async def _prune_audit(self, before: int) -> None:
        while await self._database.write(
            partial(retention.prune_evidence, before=before)
        ):
            pass
        for log in await self._database.read(logs.list_logs):
            prune = partial(
                retention.prune_checkpoints, log_id=log.log_id, before=before
            )
            while await self._database.write(prune):
                pass

    def _before(self, days: int) -> int:
        return self._clock() - days * _DAY_SECONDS
