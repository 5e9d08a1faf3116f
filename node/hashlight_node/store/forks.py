"""Logs that forked, each with evidence that anybody can check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from hashlight_node.model import Fork
from hashlight_node.store import tables
from hashlight_node.store.statements import has_changed, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

_forks = tables.forks
_witnessed = tables.witnessed
_deliveries = tables.deliveries


def save_fork(
    connection: Connection, origin: str, evidence: bytes, found_at: int
) -> bool:
    """Keep the evidence that a log forked; the first is enough and stays.

    Returns:
        Whether nothing was known yet.
    """
    statement = upsert(connection, _forks).values(
        origin=origin, evidence=evidence, found_at=found_at
    )
    return has_changed(connection, statement.on_conflict_do_nothing())


def find_fork(connection: Connection, origin: str) -> Fork | None:
    """Look up the evidence that a log forked."""
    query = select(_forks).where(_forks.c.origin == origin)
    row = connection.execute(query).one_or_none()
    return None if row is None else Fork(*row)


def is_forked(connection: Connection, origin: str) -> bool:
    """Tell whether a log forked; it is not to be followed or cosigned any more."""
    query = select(_forks.c.origin).where(_forks.c.origin == origin)
    return connection.execute(query).first() is not None


def list_forks(connection: Connection) -> list[Fork]:
    """List the logs that forked, by origin."""
    rows = connection.execute(select(_forks).order_by(_forks.c.origin))
    return [Fork(*row) for row in rows]


def list_witnessed(connection: Connection) -> list[str]:
    """List the logs of peers of which we cosigned a checkpoint, by origin."""
    query = select(_witnessed.c.origin).order_by(_witnessed.c.origin)
    return list(connection.execute(query).scalars())


def newest_cosigned(connection: Connection, log_id: int, tree_size: int) -> list[bytes]:
    """Read one log of ours with the newest cosignature of each peer over one size.

    Returns:
        Notes, one for each peer that cosigned this size, by peer.
    """
    newest = (
        select(
            _deliveries.c.peer_id,
            func.max(_deliveries.c.cosigned_at).label("cosigned_at"),
        )
        .where(_deliveries.c.log_id == log_id, _deliveries.c.tree_size == tree_size)
        .group_by(_deliveries.c.peer_id)
        .subquery()
    )
    query = (
        select(_deliveries.c.note)
        .join(
            newest,
            (newest.c.peer_id == _deliveries.c.peer_id)
            & (newest.c.cosigned_at == _deliveries.c.cosigned_at),
        )
        .where(_deliveries.c.log_id == log_id, _deliveries.c.tree_size == tree_size)
        .order_by(_deliveries.c.peer_id)
    )
    return list(connection.execute(query).scalars())
