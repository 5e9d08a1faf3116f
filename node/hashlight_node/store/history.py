"""What was known when: every checkpoint whose whole tree was applied here.

A list is at one state at a time, and a later answer must be able to say which one it
was. Rows are added by `logs.set_checkpoint` alone and never changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, select

from hashlight_node.store import tables
from hashlight_node.store.statements import total, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

_checkpoints = tables.checkpoints
_logs = tables.logs
_withdrawals = tables.withdrawals


class PastState(NamedTuple):
    """The state that a list was in.

    Attributes:
        log_id: The log.
        origin: Its name.
        tree_size: Entries that its newest checkpoint covered then.
        root_hash: Root of that tree, 32 bytes.
        applied_at: Since when it was in this state, Unix seconds.
        erased_since: Leaves that entries after this state erased: what was known about
            them then is not known any more.
    """

    log_id: int
    origin: str
    tree_size: int
    root_hash: bytes
    applied_at: int
    erased_since: int


def record_checkpoint(
    connection: Connection,
    log_id: int,
    tree_size: int,
    root_hash: bytes,
    *,
    now: int,
) -> None:
    """Remember that a log reached a state; one that it is in already stays as it is.

    Args:
        connection: In a write transaction.
        log_id: The log.
        tree_size: Entries that the checkpoint covers.
        root_hash: Root of that tree.
        now: Unix seconds.
    """
    statement = upsert(connection, _checkpoints).values(
        log_id=log_id, tree_size=tree_size, root_hash=root_hash, applied_at=now
    )
    connection.execute(statement.on_conflict_do_nothing())


def states_at(connection: Connection, at: int) -> list[PastState]:
    """Read the state that every list was in at a time.

    Args:
        connection: In a transaction.
        at: Unix seconds.

    Returns:
        By origin; lists that were not here yet are missing.
    """
    # The largest tree is the newest: a checkpoint never goes back, a clock may.
    newest = (
        select(
            _checkpoints.c.log_id, func.max(_checkpoints.c.tree_size).label("tree_size")
        )
        .where(_checkpoints.c.applied_at <= at)
        .group_by(_checkpoints.c.log_id)
        .subquery()
    )
    erased = (
        select(total(_withdrawals.c.range_count))
        .where(
            _withdrawals.c.log_id == newest.c.log_id,
            _withdrawals.c.leaf_index >= newest.c.tree_size,
            _withdrawals.c.kind == "erase",
        )
        .scalar_subquery()
    )
    query = (
        select(
            _logs.c.log_id,
            _logs.c.origin,
            _checkpoints.c.tree_size,
            _checkpoints.c.root_hash,
            _checkpoints.c.applied_at,
            erased,
        )
        .join(newest, newest.c.log_id == _logs.c.log_id)
        .join(
            _checkpoints,
            (_checkpoints.c.log_id == newest.c.log_id)
            & (_checkpoints.c.tree_size == newest.c.tree_size),
        )
        .order_by(_logs.c.origin)
    )
    return [PastState(*row) for row in connection.execute(query)]


def find_state(connection: Connection, log_id: int, tree_size: int) -> PastState | None:
    """Read one state that a log was in; None if it never was, or not on this node."""
    query = (
        select(_logs.c.origin, _checkpoints.c.root_hash, _checkpoints.c.applied_at)
        .join(_checkpoints, _checkpoints.c.log_id == _logs.c.log_id)
        .where(_logs.c.log_id == log_id, _checkpoints.c.tree_size == tree_size)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return PastState(log_id, row.origin, tree_size, row.root_hash, row.applied_at, 0)
