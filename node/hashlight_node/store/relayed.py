"""What nodes that got a log of ours from a relay have acknowledged, or have not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select

from hashlight_node.model import RelayedAcknowledgement
from hashlight_node.store import tables
from hashlight_node.store.delivery_history import has_withdrawal
from hashlight_node.store.statements import upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

_relayed = tables.relayed_acknowledgements
_peers = tables.peers


def save_relayed(
    connection: Connection, log_id: int, via_peer_id: int, said: RelayedAcknowledgement
) -> None:
    """Keep what a node acknowledged, or that it exists; of each size, the first.

    What was not the first word about any withdrawal goes when a newer one comes: a
    node that acknowledges every size would otherwise fill our disk.
    """
    statement = upsert(connection, _relayed).values(
        log_id=log_id,
        node=said.node,
        tree_size=said.tree_size,
        via_peer_id=via_peer_id,
        acknowledged_at=said.acknowledged_at or 0,
        note=said.note,
        identity_vkey=said.identity_vkey,
        descriptor=said.descriptor,
    )
    connection.execute(statement.on_conflict_do_nothing())
    _forget_needless(connection, log_id, said.node)


def _forget_needless(connection: Connection, log_id: int, node: str) -> None:
    """Delete words that are neither the newest nor the first about a withdrawal."""
    of_node = (_relayed.c.log_id == log_id, _relayed.c.node == node)
    query = select(_relayed.c.tree_size).where(*of_node)
    sizes = connection.execute(query.order_by(_relayed.c.tree_size)).scalars().all()
    start, doomed = 0, []
    for size in sizes[:-1]:
        if has_withdrawal(connection, log_id, start, size):
            start = size
        else:
            doomed.append(size)
    if doomed:
        connection.execute(
            delete(_relayed).where(*of_node, _relayed.c.tree_size.in_(doomed))
        )


def list_relayed(connection: Connection, log_id: int) -> list[RelayedAcknowledgement]:
    """List the nodes that have a log of ours from a relay, each with its newest word.

    Args:
        connection: In a transaction.
        log_id: One of our logs.

    Returns:
        By node. One that has not acknowledged anything has size 0 and no time.
    """
    newest = (
        select(_relayed.c.node, func.max(_relayed.c.tree_size).label("tree_size"))
        .where(_relayed.c.log_id == log_id)
        .group_by(_relayed.c.node)
        .subquery()
    )
    query = (
        select(_relayed, _peers.c.name)
        .join(_peers, _peers.c.peer_id == _relayed.c.via_peer_id)
        .join(
            newest,
            (newest.c.node == _relayed.c.node)
            & (newest.c.tree_size == _relayed.c.tree_size),
        )
        .where(_relayed.c.log_id == log_id)
        .order_by(_relayed.c.node)
    )
    return [
        RelayedAcknowledgement(
            node=row.node,
            via=row.name,
            tree_size=row.tree_size,
            acknowledged_at=row.acknowledged_at if row.tree_size else None,
            note=row.note,
            identity_vkey=row.identity_vkey,
            descriptor=row.descriptor,
        )
        for row in connection.execute(query)
    ]
