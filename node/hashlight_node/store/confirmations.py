"""What others have confirmed of one of our logs, and what they have not.

A peer confirms with its witness key that it has seen a size, and with its mirror key
that it has stored and applied one. Nodes that got the list from a relay confirm the
latter through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import exists, func, or_, select

from hashlight_node.model import Acknowledgement, PeerState
from hashlight_node.store import tables
from hashlight_node.store.deliveries import select_acknowledgements
from hashlight_node.store.peers import peer_of_row

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row, Select

    from hashlight_node.model import Peer

_logs = tables.logs
_peers = tables.peers
_grants = tables.grants
_past_grants = tables.past_grants
_deliveries = tables.deliveries
_acknowledgements = tables.acknowledgements
_relayed = tables.relayed_acknowledgements
_withdrawals = tables.withdrawals
_checkpoints = tables.checkpoints


class Seen(NamedTuple):
    """How much of a log somebody has confirmed.

    Attributes:
        tree_size: The largest size.
        at: When it was confirmed first, Unix seconds.
        last_at: When it was confirmed last.
    """

    tree_size: int
    at: int
    last_at: int


class Relayed(NamedTuple):
    """What a node that got our log from a relay has signed about it.

    Attributes:
        node: Its name.
        via: The peer that relays.
        via_state: Whether we talk to that.
        acknowledgement: Its signed word, with its name as `peer_name`.
        identity_vkey: The node's identity key, by which its mirror key is known.
        descriptor: The signed descriptor that names the mirror key.
    """

    node: str
    via: str
    via_state: PeerState
    acknowledgement: Acknowledgement
    identity_vkey: str
    descriptor: bytes


class Withdrawn(NamedTuple):
    """A RETRACT or ERASE entry of a log.

    Attributes:
        leaf_index: Its position.
        kind: `retract` or `erase`.
        signed_at: When the checkpoint that first covered it was signed, Unix seconds.
    """

    leaf_index: int
    kind: str
    signed_at: int


def known_peers(connection: Connection, log_id: int, list_name: str) -> list[Peer]:
    """List the peers that may fetch a log, ever could, or confirmed anything of it."""
    # From peer to peer through each table's key: there are few peers and many rows.
    of_peer = [
        exists().where(table.c.log_id == log_id, table.c.peer_id == _peers.c.peer_id)
        for table in (_past_grants, _deliveries, _acknowledgements)
    ]
    granted = exists().where(
        _grants.c.list_name == list_name, _grants.c.peer_id == _peers.c.peer_id
    )
    query = select(_peers).where(or_(granted, *of_peer)).order_by(_peers.c.name)
    return [peer_of_row(row) for row in connection.execute(query)]


def granted_at(connection: Connection, peer_id: int, list_name: str) -> int | None:
    """Tell since when a peer may fetch a list; None if it may not."""
    query = select(_grants.c.granted_at).where(
        _grants.c.peer_id == peer_id, _grants.c.list_name == list_name
    )
    found: int | None = connection.execute(query).scalar()
    return found


def newest_delivery(connection: Connection, log_id: int, peer_id: int) -> Seen | None:
    """Tell how much of a log a peer has seen, and when it said so last."""
    of_peer = (_deliveries.c.log_id == log_id, _deliveries.c.peer_id == peer_id)
    size: int | None = connection.execute(
        select(func.max(_deliveries.c.tree_size)).where(*of_peer)
    ).scalar()
    if size is None:
        return None
    at = _deliveries.c.cosigned_at
    query = select(func.min(at), func.max(at)).where(
        *of_peer, _deliveries.c.tree_size == size
    )
    return Seen(size, *connection.execute(query).one())


def first_covering(
    connection: Connection, log_id: int, peer_id: int, leaf_index: int
) -> Acknowledgement | None:
    """Find a peer's first acknowledgement of a tree that holds a leaf."""
    query = (
        select_acknowledgements()
        .where(
            _acknowledgements.c.log_id == log_id,
            _acknowledgements.c.peer_id == peer_id,
            # A tree of n entries holds indexes below n.
            _acknowledgements.c.tree_size > leaf_index,
        )
        .order_by(_acknowledgements.c.tree_size)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else Acknowledgement(*row)


def newest_relayed(connection: Connection, log_id: int) -> list[Relayed]:
    """List the nodes that got a log from relays, with what each confirmed last."""
    newest = (
        select(_relayed.c.node, func.max(_relayed.c.tree_size).label("tree_size"))
        .where(_relayed.c.log_id == log_id)
        .group_by(_relayed.c.node)
        .subquery()
    )
    query = (
        _select_relayed(log_id)
        .join(
            newest,
            (newest.c.node == _relayed.c.node)
            & (newest.c.tree_size == _relayed.c.tree_size),
        )
        .order_by(_relayed.c.node)
    )
    return [_relayed_of(row) for row in connection.execute(query)]


def first_relayed_covering(
    connection: Connection, log_id: int, node: str, leaf_index: int
) -> Relayed | None:
    """Find what a node first confirmed, through a relay, of a tree with a leaf."""
    query = (
        _select_relayed(log_id)
        .where(_relayed.c.node == node, _relayed.c.tree_size > leaf_index)
        .order_by(_relayed.c.tree_size)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _relayed_of(row)


def signed_at(connection: Connection, log_id: int, leaf_index: int) -> int | None:
    """Tell when the checkpoint that first covered a leaf of ours was signed.

    Returns:
        Unix seconds; None if no checkpoint covers the leaf.
    """
    query = (
        select(_checkpoints.c.applied_at)
        .where(_checkpoints.c.log_id == log_id, _checkpoints.c.tree_size > leaf_index)
        .order_by(_checkpoints.c.tree_size)
        .limit(1)
    )
    found: int | None = connection.execute(query).scalar()
    return found


def oldest_withdrawal(
    connection: Connection, log_id: int, *, since: int, below: int
) -> Withdrawn | None:
    """Find the oldest RETRACT or ERASE that somebody has not confirmed.

    Args:
        connection: In a transaction.
        log_id: A log of ours.
        since: Size up to which everything is confirmed.
        below: Size up to which it may have got the log: what withdraws only records
            beyond that does not concern it.
    """
    query = (
        select(_withdrawals.c.leaf_index, _withdrawals.c.kind)
        .where(
            _withdrawals.c.log_id == log_id,
            _withdrawals.c.leaf_index >= since,
            _withdrawals.c.first_index < below,
        )
        .order_by(_withdrawals.c.leaf_index)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _withdrawn(connection, log_id, row)


def withdrawal_at(
    connection: Connection, log_id: int, leaf_index: int
) -> Withdrawn | None:
    """Read a RETRACT or ERASE entry; None if the entry is none."""
    query = select(_withdrawals.c.leaf_index, _withdrawals.c.kind).where(
        _withdrawals.c.log_id == log_id, _withdrawals.c.leaf_index == leaf_index
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _withdrawn(connection, log_id, row)


def retraction_of(
    connection: Connection, log_id: int, leaf_index: int
) -> Withdrawn | None:
    """Find the first RETRACT that begins with a record.

    One of a range that begins before it is not found: that would mean to look at every
    withdrawal of the log.
    """
    query = (
        select(_withdrawals.c.leaf_index, _withdrawals.c.kind)
        .where(
            _withdrawals.c.log_id == log_id,
            _withdrawals.c.first_index == leaf_index,
            _withdrawals.c.kind == "retract",
        )
        .order_by(_withdrawals.c.leaf_index)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _withdrawn(connection, log_id, row)


def _withdrawn(
    connection: Connection, log_id: int, row: Row[*tuple[Any, ...]]
) -> Withdrawn:
    # A log is signed in the transaction that extends it, so there is a checkpoint.
    at = signed_at(connection, log_id, row.leaf_index) or 0
    return Withdrawn(row.leaf_index, row.kind, at)


def _select_relayed(log_id: int) -> Select[Any]:
    return (
        select(_relayed, _logs.c.origin, _peers.c.name, _peers.c.state)
        .join(_logs, _logs.c.log_id == _relayed.c.log_id)
        .join(_peers, _peers.c.peer_id == _relayed.c.via_peer_id)
        .where(_relayed.c.log_id == log_id)
    )


def _relayed_of(row: Row[Any]) -> Relayed:
    said = Acknowledgement(
        row.origin, row.node, row.tree_size, row.acknowledged_at, row.note
    )
    return Relayed(
        row.node,
        row.name,
        PeerState(row.state),
        said,
        row.identity_vkey,
        row.descriptor,
    )
