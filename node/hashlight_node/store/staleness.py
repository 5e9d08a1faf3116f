"""Copies that nobody confirmed for long: which are so, as the store remembers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, or_, update

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
