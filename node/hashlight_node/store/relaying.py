"""Whom we give our copies of other nodes' lists, and whether their owners let us."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from hashlight_node.model import FollowState, PeerState, Permission, RelayGrant
from hashlight_node.store import tables
from hashlight_node.store.peers import peer_of_row
from hashlight_node.store.scopes import scope_of_text
from hashlight_node.store.statements import upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

    from hashlight_node.model import Peer

_relay_grants = tables.relay_grants
_peers = tables.peers
_follows = tables.follows
_logs = tables.logs

_IS_GIVEN = _relay_grants.c.ended_at.is_(None)


def insert_relay_grant(
    connection: Connection, peer_id: int, *, node: str, list_name: str, now: int
) -> RelayGrant:
    """Let a peer fetch our copy of a list; letting it twice is once."""
    statement = upsert(connection, _relay_grants).values(
        peer_id=peer_id, node=node, list_name=list_name, granted_at=now
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[
                _relay_grants.c.peer_id,
                _relay_grants.c.node,
                _relay_grants.c.list_name,
            ],
            set_={"granted_at": now, "ended_at": None},
            where=_relay_grants.c.ended_at.is_not(None),
        )
    )
    query = _select_grants().where(
        _relay_grants.c.peer_id == peer_id,
        _relay_grants.c.node == node,
        _relay_grants.c.list_name == list_name,
    )
    return RelayGrant(*connection.execute(query).one())


def end_relay_grant(
    connection: Connection, peer_id: int, *, node: str, list_name: str, now: int
) -> None:
    """Take it back, and remember that it was given; what was not is not missed."""
    connection.execute(
        update(_relay_grants)
        .where(
            _relay_grants.c.peer_id == peer_id,
            _relay_grants.c.node == node,
            _relay_grants.c.list_name == list_name,
            _IS_GIVEN,
        )
        .values(ended_at=now)
    )


def list_relay_grants(connection: Connection) -> list[RelayGrant]:
    """List who may fetch which copy, by owner, list and peer."""
    query = (
        _select_grants()
        .where(_IS_GIVEN)
        .order_by(_relay_grants.c.node, _relay_grants.c.list_name, _peers.c.name)
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
            _IS_GIVEN,
        )
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else Permission(scope_of_text(row.scope))


def relayed_peers(connection: Connection, node: str, list_name: str) -> list[Peer]:
    """List the peers that may fetch our copy of a list, whatever its owner says."""
    query = (
        select(_peers)
        .join(_relay_grants, _relay_grants.c.peer_id == _peers.c.peer_id)
        .where(
            _relay_grants.c.node == node,
            _relay_grants.c.list_name == list_name,
            _IS_GIVEN,
        )
        .order_by(_peers.c.name)
    )
    return [peer_of_row(row) for row in connection.execute(query)]


def third_parties(connection: Connection, node: str, list_name: str) -> list[Peer]:
    """List the peers that may or ever might fetch our copy of a list."""
    query = (
        select(_peers)
        .join(_relay_grants, _relay_grants.c.peer_id == _peers.c.peer_id)
        .where(_relay_grants.c.node == node, _relay_grants.c.list_name == list_name)
        .order_by(_peers.c.name)
    )
    return [peer_of_row(row) for row in connection.execute(query)]


def lists_relayed_to(connection: Connection, peer_id: int) -> list[tuple[str, str]]:
    """List (owner, list name) of the copies that we let a peer fetch."""
    query = select(_relay_grants.c.node, _relay_grants.c.list_name).where(
        _relay_grants.c.peer_id == peer_id, _IS_GIVEN
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
