"""Whom we give our copies of other nodes' lists, and whether their owners let us."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select

from hashlight_node.model import FollowState, PeerState, Permission, RelayGrant
from hashlight_node.store import tables
from hashlight_node.store.statements import upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

_relay_grants = tables.relay_grants
_peers = tables.peers
_follows = tables.follows
_logs = tables.logs


def insert_relay_grant(
    connection: Connection, peer_id: int, *, node: str, list_name: str, now: int
) -> RelayGrant:
    """Let a peer fetch our copy of a list; letting it twice is once."""
    statement = upsert(connection, _relay_grants).values(
        peer_id=peer_id, node=node, list_name=list_name, granted_at=now
    )
    connection.execute(statement.on_conflict_do_nothing())
    query = _select_grants().where(
        _relay_grants.c.peer_id == peer_id,
        _relay_grants.c.node == node,
        _relay_grants.c.list_name == list_name,
    )
    return RelayGrant(*connection.execute(query).one())


def delete_relay_grant(
    connection: Connection, peer_id: int, *, node: str, list_name: str
) -> None:
    """Take it back; what was not there is not missed."""
    connection.execute(
        delete(_relay_grants).where(
            _relay_grants.c.peer_id == peer_id,
            _relay_grants.c.node == node,
            _relay_grants.c.list_name == list_name,
        )
    )


def list_relay_grants(connection: Connection) -> list[RelayGrant]:
    """List who may fetch which copy, by owner, list and peer."""
    query = _select_grants().order_by(
        _relay_grants.c.node, _relay_grants.c.list_name, _peers.c.name
    )
    return [RelayGrant(*row) for row in connection.execute(query)]


def find_permission(
    connection: Connection, peer_id: int, *, node: str, list_name: str
) -> Permission | None:
    """Look up whether a peer may fetch our copy of a list now.

    It may if we let it and the owner lets us; and if we hear of what is withdrawn,
    which we do not of a list that is in quarantine.

    Args:
        connection: In a transaction.
        peer_id: Who asks.
        node: Whose list it is.
        list_name: Its name.

    Returns:
        What we ourselves may see of the list.
    """
    owner = _peers.alias()
    query = (
        select(_follows.c.scope)
        .join(owner, owner.c.peer_id == _follows.c.peer_id)
        .join(
            _relay_grants,
            (_relay_grants.c.node == owner.c.name)
            & (_relay_grants.c.list_name == _follows.c.list_name),
        )
        .where(
            owner.c.name == node,
            owner.c.state == PeerState.ACTIVE.value,
            _follows.c.list_name == list_name,
            _follows.c.may_relay == 1,
            _follows.c.state != FollowState.QUARANTINED.value,
            _relay_grants.c.peer_id == peer_id,
        )
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else Permission(row.scope)


def lists_relayed_to(connection: Connection, peer_id: int) -> list[tuple[str, str]]:
    """List (owner, list name) of the copies that we let a peer fetch."""
    query = select(_relay_grants.c.node, _relay_grants.c.list_name).where(
        _relay_grants.c.peer_id == peer_id
    )
    return [(row.node, row.list_name) for row in connection.execute(query)]


def lists_held_of(connection: Connection, node: str) -> list[tuple[str, str]]:
    """List (owner, list name) of the copies that we hold of one node's lists."""
    query = select(_logs.c.list_name).where(_logs.c.node == node).distinct()
    return [(node, row.list_name) for row in connection.execute(query)]


def _select_grants() -> Select[Any]:
    return select(
        _peers.c.name,
        _relay_grants.c.node,
        _relay_grants.c.list_name,
        _relay_grants.c.granted_at,
    ).join(_peers, _peers.c.peer_id == _relay_grants.c.peer_id)
