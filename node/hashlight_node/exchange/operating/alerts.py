"""What an operator has to be told: withdrawals nobody confirms, copies nobody does."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from hashlight_node.exchange.following.freshness import (
    Freshness,
    FreshnessRules,
    age_seconds,
    freshness,
)
from hashlight_node.exchange.telling.standing import standings
from hashlight_node.model import LogState, Role
from hashlight_node.store import logs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hashlight_node.exchange.telling.standing import Standing
    from hashlight_node.model import Clock, Log
    from hashlight_node.store.database import Connection, Database

_log = structlog.get_logger()


class Severity(StrEnum):
    """Whether somebody should look soon or has to now."""

    WARNING = "warning"
    ERROR = "error"


class AlertCode(StrEnum):
    """What is wrong."""

    WITHDRAWAL_UNACKNOWLEDGED = "withdrawal-unacknowledged"
    COPY_UNCONFIRMED = "copy-unconfirmed"
    COPY_NOT_RELAYED = "copy-not-relayed"
    COPY_STALE = "copy-stale"


@dataclass(frozen=True, slots=True)
class AlertRules:
    """When an operator is told.

    Attributes:
        freshness: What becomes of copies that are not confirmed.
        withdrawal_seconds: How long a peer may take to confirm a withdrawal.
    """

    freshness: FreshnessRules = field(default_factory=FreshnessRules)
    withdrawal_seconds: int = 24 * 3600


DEFAULT_RULES: Final = AlertRules()
"""Those of a node whose operator has not decided otherwise."""


class _Topic(NamedTuple):
    """What an alert is about; one topic is told once."""

    code: AlertCode
    peer_name: str
    origin: str


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that is wrong.

    Attributes:
        severity: How urgent it is.
        code: What it is.
        peer_name: The peer that it is about.
        list_name: The list.
        origin: The list's log.
        age_seconds: How long it has been so.
    """

    severity: Severity
    code: AlertCode
    peer_name: str
    list_name: str
    origin: str
    age_seconds: int

    @property
    def detail(self) -> str:
        """Say it in a sentence."""
        return _DETAILS[self.code]


_DETAILS: Final = {
    AlertCode.WITHDRAWAL_UNACKNOWLEDGED: (
        "the peer has not confirmed a retraction or an erasure"
    ),
    AlertCode.COPY_UNCONFIRMED: "the copy was not confirmed for long",
    AlertCode.COPY_NOT_RELAYED: (
        "the copy was not confirmed for so long that it is not passed on"
    ),
    AlertCode.COPY_STALE: (
        "the copy was not confirmed for so long that its records match no more"
    ),
}


def unacknowledged(standing: Standing, log: Log, rules: AlertRules) -> Alert | None:
    """Tell of a peer that takes too long to confirm a withdrawal."""
    overdue = standing.overdue
    if overdue is None or overdue.age_seconds <= rules.withdrawal_seconds:
        return None
    return Alert(
        Severity.ERROR,
        AlertCode.WITHDRAWAL_UNACKNOWLEDGED,
        standing.peer_name,
        log.list_name,
        log.origin,
        overdue.age_seconds,
    )


def unconfirmed(log: Log, now: int, rules: AlertRules) -> Alert | None:
    """Tell of a copy that was not confirmed for too long."""
    if log.role is Role.OWN or log.state in {LogState.FROZEN, LogState.ABANDONED}:
        return None
    said = _SAID[freshness(log, now, rules.freshness)]
    if said is None:
        return None
    age = age_seconds(log, now)
    return Alert(*said, log.node, log.list_name, log.origin, age)


_SAID: Final[Mapping[Freshness, tuple[Severity, AlertCode] | None]] = {
    Freshness.FRESH: None,
    Freshness.WARN: (Severity.WARNING, AlertCode.COPY_UNCONFIRMED),
    Freshness.NO_RELAY: (Severity.ERROR, AlertCode.COPY_NOT_RELAYED),
    Freshness.STALE: (Severity.ERROR, AlertCode.COPY_STALE),
}


def find_alerts(
    listed: Sequence[Log],
    standing: Mapping[str, Sequence[Standing]],
    now: int,
    rules: AlertRules,
) -> tuple[Alert, ...]:
    """Find everything that is wrong now.

    Args:
        listed: All logs.
        standing: By origin of a log of ours, where everybody stands with it.
        now: Unix seconds.
        rules: The operator's.

    Returns:
        In the order of `listed`.
    """
    found: list[Alert | None] = []
    for log in listed:
        found.append(unconfirmed(log, now, rules))
        found += [
            unacknowledged(one, log, rules) for one in standing.get(log.origin, ())
        ]
    return tuple(one for one in found if one is not None)


def _read_alerts(conn: Connection, now: int, rules: AlertRules) -> tuple[Alert, ...]:
    listed = logs.list_logs(conn)
    standing = {
        log.origin: standings(conn, log, now=now)
        for log in listed
        if log.role is Role.OWN
    }
    return find_alerts(listed, standing, now, rules)


class Watch:
    """Writes a line into the log when something begins to be wrong, and not again.

    Args:
        database: The store.
        rules: The operator's.
        clock: Unix seconds.
    """

    def __init__(self, *, database: Database, rules: AlertRules, clock: Clock) -> None:
        self._database = database
        self._rules = rules
        self._clock = clock
        self._told: set[_Topic] = set()

    async def look(self) -> None:
        """Look once."""
        alerts = await self._database.read(
            lambda conn: _read_alerts(conn, self._clock(), self._rules)
        )
        topics = {_Topic(one.code, one.peer_name, one.origin): one for one in alerts}
        for topic in topics.keys() - self._told:
            _tell(topics[topic])
        self._told = set(topics)


def _tell(alert: Alert) -> None:
    tell = _log.error if alert.severity is Severity.ERROR else _log.warning
    tell(
        alert.detail,
        code=alert.code.value,
        peer=alert.peer_name,
        list=alert.list_name,
        duration_seconds=alert.age_seconds,
    )
