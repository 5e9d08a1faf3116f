"""How long ago a copy of a list was confirmed, and what it may still be used for.

A checkpoint has no time, so whoever stands between us and a peer, or a peer that is
away, can hold us at a state before a withdrawal. A copy that was not confirmed for long
is therefore first spoken of, then not passed on, and in the end not matched.

The clock may be wrong. One that goes back makes no copy younger: a copy whose
confirmation lies in the future ages from when that was noticed, and one that is stale
stays so until a sync confirms it. One that was back and is right again has changed
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from hashlight_node.model import LogState, Role
from hashlight_node.store import logs, staleness

if TYPE_CHECKING:
    from hashlight_node.model import Clock, Log
    from hashlight_node.store.database import Connection, Database


class Freshness(IntEnum):
    """What a copy of a list may still be used for; each step forbids more."""

    FRESH = 0
    WARN = 1
    """An operator should look; everything goes on."""

    NO_RELAY = 2
    """It matches here, and is not passed on to others."""

    STALE = 3
    """It matches no more."""


@dataclass(frozen=True, slots=True)
class FreshnessRules:
    """After how many seconds without confirmation each step is reached."""

    warn_after_seconds: int = 24 * 3600
    relay_until_seconds: int = 7 * 24 * 3600
    serve_until_seconds: int = 30 * 24 * 3600


DEFAULT_FRESHNESS: Final = FreshnessRules()


def age_seconds(log: Log, now: int) -> int:
    """Tell how long ago a copy was known to be complete.

    0 for our own logs, and for those that ended: nothing of them matches.

    A copy that never was ages from when it was begun: what of it is here matches.

    Args:
        log: The log as the store has it.
        now: Unix seconds.
    """
    if log.role is Role.OWN or log.counts_until is not None:
        return 0
    confirmed_at = _confirmed_at(log)
    if confirmed_at > now and log.doubted_at is not None:
        confirmed_at = log.doubted_at
    return max(0, now - confirmed_at)


def _confirmed_at(log: Log) -> int:
    return log.created_at if log.verified_at is None else log.verified_at


def _is_doubt_new(log: Log, now: int) -> bool:
    """Tell whether the store does not know yet what this clock makes of a copy."""
    if _confirmed_at(log) <= now:
        return log.doubted_at is not None
    return log.doubted_at is None or log.doubted_at > now


def freshness(log: Log, now: int, rules: FreshnessRules) -> Freshness:
    """Tell what a log may be used for.

    Args:
        log: The log as the store has it; one of our own is always fresh.
        now: Unix seconds.
        rules: The operator's.
    """
    if log.state is LogState.STALE:
        return Freshness.STALE
    age = age_seconds(log, now)
    if age > rules.serve_until_seconds:
        return Freshness.STALE
    if age > rules.relay_until_seconds:
        return Freshness.NO_RELAY
    return Freshness.WARN if age > rules.warn_after_seconds else Freshness.FRESH


class FreshnessKeeper:
    """Takes copies out of use that were not confirmed for too long.

    Args:
        database: The store.
        rules: The operator's.
        clock: Unix seconds.
    """

    def __init__(
        self, *, database: Database, rules: FreshnessRules, clock: Clock
    ) -> None:
        self._database = database
        self._rules = rules
        self._clock = clock

    async def check(self) -> None:
        """Look at every copy once; before the first lookup, and every minute after."""
        if await self._database.read(self._has_work):
            await self._database.write(self._write)

    def _has_work(self, conn: Connection) -> bool:
        """Spare the store a commit, and the lookups a look at it, when all is well."""
        now = self._clock()
        return any(
            _is_doubt_new(log, now) or self._has_become_stale(log, now)
            for log in logs.list_logs(conn, Role.FOLLOWED)
        )

    def _write(self, conn: Connection) -> None:
        now = self._clock()
        staleness.note_doubts(conn, now)
        # Read again in this transaction: a sync may have confirmed one meanwhile.
        for log in logs.list_logs(conn, Role.FOLLOWED):
            if self._has_become_stale(log, now):
                staleness.mark_stale(conn, log, now)

    def _has_become_stale(self, log: Log, now: int) -> bool:
        match log.state:
            case LogState.ACTIVE | LogState.QUARANTINED:
                return freshness(log, now, self._rules) is Freshness.STALE
            case LogState.ABANDONED:
                # Until another log takes its place it matches, and nothing that its
                # owner takes back can reach it.
                return freshness(log, now, self._rules) is Freshness.STALE
            case (
                LogState.FROZEN
                | LogState.STALE
                | LogState.ROLLED_BACK
                | LogState.UNCONFIRMED
            ):
                return False


def state_when_taken_up(log: Log) -> LogState:
    """Give the state of a copy that is to be copied on after it was left alone.

    What is frozen or stale matches again when a sync has confirmed it, not before.
    """
    match log.state:
        case LogState.FROZEN | LogState.STALE:
            return LogState.STALE
        case LogState.ACTIVE | LogState.ABANDONED | LogState.QUARANTINED:
            return LogState.ACTIVE
        case LogState.ROLLED_BACK | LogState.UNCONFIRMED:
            return log.state  # Only our own logs are.
