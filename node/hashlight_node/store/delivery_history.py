"""Every signed word of peers about our logs: page by page, and how it is thinned out.

Each answer to a push is kept for a while, so that an operator can show what a peer had
seen at any time. Two kinds stay for ever: the newest of each peer, and of every RETRACT
and ERASE the first answer that covers it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import delete, exists, literal, select, tuple_

from hashlight_node.store import tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Row

_deliveries = tables.deliveries
_acknowledgements = tables.acknowledgements
_withdrawals = tables.withdrawals

_BATCH: Final = 500
"""Rows looked at in one transaction."""


class Signed(StrEnum):
    """What a peer said with a cosignature over our checkpoint."""

    DELIVERED = "delivered"
    """With its witness key: it has seen the checkpoint."""

    APPLIED = "applied"
    """With its mirror key: everything up to there is stored and applied."""


class Moment(NamedTuple):
    """Where a page of the history ends; the history's order, the newest last.

    Attributes:
        at: When it was signed, Unix seconds.
        tree_size: Size of the tree.
        said: What.
    """

    at: int
    tree_size: int
    said: str


class SignedNote(NamedTuple):
    """One checkpoint of ours with one cosignature of a peer.

    Attributes:
        moment: What it says, and when it was signed.
        note: The checkpoint with the cosignature: proof to anybody with both keys.
    """

    moment: Moment
    note: bytes


class Streak(NamedTuple):
    """The deliveries of one log to one peer."""

    log_id: int
    peer_id: int


def page_history(
    connection: Connection, streak: Streak, *, before: Moment | None, limit: int
) -> list[SignedNote]:
    """Read what a peer has signed about a log of ours, the newest first.

    Args:
        connection: In a transaction.
        streak: Which log and peer.
        before: Where the page before ended, None for the first.
        limit: Most rows.
    """
    seen = select(
        _deliveries.c.cosigned_at.label("at"),
        _deliveries.c.tree_size,
        literal(Signed.DELIVERED.value).label("said"),
        _deliveries.c.note,
    ).where(
        _deliveries.c.log_id == streak.log_id, _deliveries.c.peer_id == streak.peer_id
    )
    applied = select(
        _acknowledgements.c.acknowledged_at,
        _acknowledgements.c.tree_size,
        literal(Signed.APPLIED.value),
        _acknowledgements.c.note,
    ).where(
        _acknowledgements.c.log_id == streak.log_id,
        _acknowledgements.c.peer_id == streak.peer_id,
    )
    all_of_them = seen.union_all(applied).subquery()
    columns = all_of_them.c
    query = (
        select(all_of_them)
        .order_by(columns.at.desc(), columns.tree_size.desc(), columns.said.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(
            tuple_(columns.at, columns.tree_size, columns.said) < before
        )
    return [
        SignedNote(Moment(row.at, row.tree_size, row.said), row.note)
        for row in connection.execute(query)
    ]


def list_streaks(connection: Connection) -> list[Streak]:
    """List which logs were delivered to which peers."""
    logs, peers = tables.logs, tables.peers
    is_there = exists().where(
        _deliveries.c.log_id == logs.c.log_id, _deliveries.c.peer_id == peers.c.peer_id
    )
    query = (
        select(logs.c.log_id, peers.c.peer_id)
        .select_from(logs.join(peers, is_there))
        .order_by(logs.c.log_id, peers.c.peer_id)
    )
    return [Streak(*row) for row in connection.execute(query)]


def prune_page(
    connection: Connection, streak: Streak, *, before: int, after: tuple[int, int]
) -> tuple[int, int] | None:
    """Forget old deliveries, some hundreds at most.

    Args:
        connection: In a write transaction.
        streak: Which log and peer.
        before: What was signed at this time or later stays; Unix seconds.
        after: Where the page before ended, (0, -1) for the first.

    Returns:
        Where this page ended: size and time of its last row. None if there is nothing
        old behind it.
    """
    key = (_deliveries.c.tree_size, _deliveries.c.cosigned_at)
    of_streak = (
        _deliveries.c.log_id == streak.log_id,
        _deliveries.c.peer_id == streak.peer_id,
    )
    query = select(*key).where(*of_streak, tuple_(*key) > after)
    rows = connection.execute(query.order_by(*key).limit(_BATCH)).all()
    newest = connection.execute(
        select(*key)
        .where(*of_streak)
        .order_by(*(column.desc() for column in key))
        .limit(1)
    ).one_or_none()
    doomed = _doomed(connection, streak.log_id, rows, before=before, size=after[0])
    doomed = [it for it in doomed if it != newest]
    if doomed:
        connection.execute(
            delete(_deliveries).where(*of_streak, tuple_(*key).in_(doomed))
        )
    # Sizes grow with time, so behind a page without anything old there is none.
    is_old = any(row.cosigned_at < before for row in rows)
    if len(rows) < _BATCH or not is_old:
        return None
    return rows[-1].tree_size, rows[-1].cosigned_at


def _doomed(
    connection: Connection,
    log_id: int,
    rows: Sequence[Row[*tuple[Any, ...]]],
    *,
    before: int,
    size: int,
) -> list[tuple[int, int]]:
    """Choose the old rows that are not the first to cover a withdrawal.

    Args:
        connection: In a transaction.
        log_id: The log.
        rows: By size and time.
        before: What is older than this is old.
        size: That of the row before them. It may be deleted by now: then no withdrawal
            lies between it and the one before it.
    """
    doomed: list[tuple[int, int]] = []
    for row in rows:
        if row.cosigned_at < before and not (
            row.tree_size > size
            and has_withdrawal(connection, log_id, size, row.tree_size)
        ):
            doomed.append((row.tree_size, row.cosigned_at))
        size = row.tree_size
    return doomed


def has_withdrawal(connection: Connection, log_id: int, first: int, end: int) -> bool:
    """Tell whether a RETRACT or ERASE lies in a range of a log's entries."""
    index = _withdrawals.c.leaf_index
    is_there = exists().where(
        _withdrawals.c.log_id == log_id, index >= first, index < end
    )
    return bool(connection.execute(select(is_there)).scalar())
