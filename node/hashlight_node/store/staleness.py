"""Copies that nobody confirmed for long: which are so, as the store remembers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import case, func, or_, update

from hashlight_node.model import LogState, Role
from hashlight_node.store import tables

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hashlight_node.model import Log

_logs = tables.logs


def note_doubts(connection: Connection, now: int) -> None:
    """Remember of which copies the clock says that they will be confirmed in future.

    Their age is counted from when that was noticed. A clock that is right again ends
    the doubt, and the next confirmation does.

    Args:
        connection: In a write transaction.
        now: Unix seconds.
    """
    followed = update(_logs).where(_logs.c.role == Role.FOLLOWED.value)
    confirmed_at = func.coalesce(_logs.c.verified_at, _logs.c.created_at)
    connection.execute(
        followed.where(
            confirmed_at > now,
            # A mark in the future is one of a clock that has gone back once more.
            or_(_logs.c.doubted_at.is_(None), _logs.c.doubted_at > now),
        ).values(doubted_at=now)
    )
    connection.execute(
        followed.where(confirmed_at <= now, _logs.c.doubted_at.is_not(None)).values(
            doubted_at=None
        )
    )


def mark_stale(connection: Connection, log: Log, now: int) -> None:
    """Let the records of a copy match no more, until a sync confirms it again.

    Args:
        connection: In the write transaction in which `log` was read.
        log: A followed log.
        now: Unix seconds.
    """
    connection.execute(
        update(_logs)
        .where(_logs.c.log_id == log.log_id)
        .values(state=LogState.STALE.value, stale_at=now)
    )


def end_doubts(connection: Connection, log_id: int) -> None:
    """Let a copy match again, from this commit on, if it is stale; it is confirmed.

    Args:
        connection: In the write transaction that says how fresh it is.
        log_id: A followed log.
    """
    is_stale = _logs.c.state == LogState.STALE.value
    connection.execute(
        update(_logs)
        .where(_logs.c.log_id == log_id)
        .values(
            state=case((is_stale, LogState.ACTIVE.value), else_=_logs.c.state),
            doubted_at=None,
            stale_at=None,
        )
    )
