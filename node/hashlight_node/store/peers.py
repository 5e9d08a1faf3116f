"""Peers, what they may fetch of ours, and what we copy of theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, Unpack

from sqlalchemy import delete, select, update

from hashlight_node.model import Follow, FollowState, Grant, Peer, PeerState
from hashlight_node.store import tables
from hashlight_node.store.errors import PeerExistsError
from hashlight_node.store.statements import has_changed, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row, Select

_peers = tables.peers
_grants = tables.grants
_versions = tables.grant_versions
_follows = tables.follows

_GRANT_COLUMNS = (_peers.c.name, _grants.c.list_name, _grants.c.granted_at)
_FOLLOW_COLUMNS = (*_follows.c, _peers.c.name)


class NewPeer(TypedDict):
    """What is known of a peer when it is pinned.

    Attributes:
        name: Its node name.
        base: Its base URL.
        identity_vkey: The key that the operators exchanged.
        descriptor: Its signed descriptor, verified with that key.
        descriptor_version: Version of the descriptor.
        added_at: Now.
        is_dialable: Whether this node may connect to it; so if it is left out.
    """

    name: str
    base: str
    identity_vkey: str
    descriptor: bytes
    descriptor_version: int
    added_at: int
    is_dialable: NotRequired[bool]


def insert_peer(connection: Connection, **peer: Unpack[NewPeer]) -> Peer:
    """Pin a peer.

    Raises:
        PeerExistsError: A peer of that name is pinned already, with whatever key.
    """
    values = {
        **peer,
        "state": PeerState.ACTIVE.value,
        "is_dialable": int(peer.get("is_dialable", True)),
    }
    statement = upsert(connection, _peers).values(values).on_conflict_do_nothing()
    if not has_changed(connection, statement):
        raise PeerExistsError(peer["name"])
    query = select(_peers).where(_peers.c.name == peer["name"])
    return _peer_of(connection.execute(query).one())


def find_peer(connection: Connection, name: str) -> Peer | None:
    """Look a peer up by its node name."""
    row = connection.execute(select(_peers).where(_peers.c.name == name)).one_or_none()
    return None if row is None else _peer_of(row)


def list_peers(connection: Connection) -> list[Peer]:
    """List all peers by name."""
    query = select(_peers).order_by(_peers.c.name)
    return [_peer_of(row) for row in connection.execute(query)]


def update_descriptor(
    connection: Connection, peer_id: int, descriptor: bytes, version: int, base: str
) -> None:
    """Replace a peer's descriptor, unless a newer one is already there."""
    connection.execute(
        update(_peers)
        .where(_peers.c.peer_id == peer_id, _peers.c.descriptor_version <= version)
        .values(descriptor=descriptor, descriptor_version=version, base=base)
    )


def set_peer_state(connection: Connection, peer_id: int, state: PeerState) -> None:
    """Set whether we talk to a peer."""
    connection.execute(
        update(_peers).where(_peers.c.peer_id == peer_id).values(state=state.value)
    )


def set_dialable(connection: Connection, peer_id: int, *, is_dialable: bool) -> None:
    """Set whether this node may connect to a peer."""
    connection.execute(
        update(_peers)
        .where(_peers.c.peer_id == peer_id)
        .values(is_dialable=int(is_dialable))
    )


def touch_peer(connection: Connection, peer_id: int, now: int) -> None:
    """Note that a peer answered or asked something just now."""
    connection.execute(
        update(_peers).where(_peers.c.peer_id == peer_id).values(contacted_at=now)
    )


def insert_grant(
    connection: Connection, peer_id: int, list_name: str, now: int
) -> Grant:
    """Give a peer the right to fetch one of our lists; giving it twice is once."""
    statement = upsert(connection, _grants).values(
        peer_id=peer_id, list_name=list_name, granted_at=now
    )
    if has_changed(connection, statement.on_conflict_do_nothing()):
        _count_up(connection, peer_id)
    query = _select_grants().where(
        _grants.c.peer_id == peer_id, _grants.c.list_name == list_name
    )
    return Grant(*connection.execute(query).one())


def delete_grant(connection: Connection, peer_id: int, list_name: str) -> bool:
    """Take a right back; tell whether the peer had it."""
    statement = delete(_grants).where(
        _grants.c.peer_id == peer_id, _grants.c.list_name == list_name
    )
    found = connection.execute(statement).rowcount > 0
    if found:
        _count_up(connection, peer_id)
    return found


def has_grant(connection: Connection, peer_id: int, list_name: str) -> bool:
    """Tell whether a peer may fetch one of our lists."""
    query = select(_grants.c.grant_id).where(
        _grants.c.peer_id == peer_id, _grants.c.list_name == list_name
    )
    return connection.execute(query).first() is not None


def list_grants(connection: Connection) -> list[Grant]:
    """List all rights that we have given, by peer and list."""
    query = _select_grants().order_by(_peers.c.name, _grants.c.list_name)
    return [Grant(*row) for row in connection.execute(query)]


def grants_of(connection: Connection, peer_id: int) -> tuple[int, list[Grant]]:
    """List a peer's rights.

    Returns:
        A version that grows with each change, 0 before the first, and the rights.
    """
    query = select(_versions.c.version).where(_versions.c.peer_id == peer_id)
    version: int = connection.execute(query).scalar() or 0
    grants = _select_grants().where(_grants.c.peer_id == peer_id)
    rows = connection.execute(grants.order_by(_grants.c.list_name))
    return version, [Grant(*row) for row in rows]


def granted_peers(connection: Connection, list_name: str) -> list[Peer]:
    """List the peers that may fetch one of our lists, quarantined ones as well."""
    query = (
        select(_peers)
        .join(_grants, _grants.c.peer_id == _peers.c.peer_id)
        .where(_grants.c.list_name == list_name)
        .order_by(_peers.c.name)
    )
    return [_peer_of(row) for row in connection.execute(query)]


def insert_follow(
    connection: Connection, peer_id: int, list_name: str, now: int
) -> Follow:
    """Wish to copy a peer's list; wishing twice is once."""
    statement = upsert(connection, _follows).values(
        peer_id=peer_id,
        list_name=list_name,
        state=FollowState.WAITING.value,
        followed_at=now,
    )
    connection.execute(statement.on_conflict_do_nothing())
    query = _select_follows().where(
        _follows.c.peer_id == peer_id, _follows.c.list_name == list_name
    )
    return _follow_of(connection.execute(query).one())


def find_follow(connection: Connection, peer_id: int, list_name: str) -> Follow | None:
    """Look up whether we copy a peer's list, and where that stands."""
    query = _select_follows().where(
        _follows.c.peer_id == peer_id, _follows.c.list_name == list_name
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _follow_of(row)


def list_follows(connection: Connection) -> list[Follow]:
    """List what we copy, by peer and list."""
    query = _select_follows().order_by(_peers.c.name, _follows.c.list_name)
    return [_follow_of(row) for row in connection.execute(query)]


def set_follow(
    connection: Connection,
    follow_id: int,
    state: FollowState,
    synced_at: int | None,
    error: str | None,
) -> None:
    """Note where copying a list stands.

    Args:
        connection: In a write transaction.
        follow_id: The follow.
        state: Where it stands.
        synced_at: When the copy was last known to be complete.
        error: Why it is not, for the operator.
    """
    connection.execute(
        update(_follows)
        .where(_follows.c.follow_id == follow_id)
        .values(state=state.value, synced_at=synced_at, error=error)
    )


def delete_follow(connection: Connection, follow_id: int) -> None:
    """Stop copying a list; what was copied stays."""
    connection.execute(delete(_follows).where(_follows.c.follow_id == follow_id))


def _count_up(connection: Connection, peer_id: int) -> None:
    statement = upsert(connection, _versions).values(peer_id=peer_id, version=1)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[_versions.c.peer_id],
            set_={"version": _versions.c.version + 1},
        )
    )


def _select_grants() -> Select[Any]:
    return select(*_GRANT_COLUMNS).join(_peers, _peers.c.peer_id == _grants.c.peer_id)


def _select_follows() -> Select[Any]:
    return select(*_FOLLOW_COLUMNS).join(_peers, _peers.c.peer_id == _follows.c.peer_id)


def _peer_of(row: Row[Any]) -> Peer:
    return Peer(
        peer_id=row.peer_id,
        name=row.name,
        base=row.base,
        identity_vkey=row.identity_vkey,
        descriptor=row.descriptor,
        descriptor_version=row.descriptor_version,
        state=PeerState(row.state),
        added_at=row.added_at,
        contacted_at=row.contacted_at,
        is_dialable=bool(row.is_dialable),
    )


def _follow_of(row: Row[Any]) -> Follow:
    return Follow(
        follow_id=row.follow_id,
        peer_id=row.peer_id,
        peer_name=row.name,
        list_name=row.list_name,
        state=FollowState(row.state),
        followed_at=row.followed_at,
        synced_at=row.synced_at,
        error=row.error,
    )
