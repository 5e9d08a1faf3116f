"""Peers, what they may fetch of ours, and what we copy of theirs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NotRequired, TypedDict, Unpack

from sqlalchemy import bindparam, delete, or_, select, update

from hashlight_node.model import Follow, FollowState, Grant, Peer, PeerState
from hashlight_node.store import tables
from hashlight_node.store.errors import PeerExistsError
from hashlight_node.store.scopes import scope_of_text, scope_text
from hashlight_node.store.statements import has_changed, upsert
from hashlight_protocol import WHOLE_LIST, parse_scope

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row, Select

    from hashlight_protocol import GrantScope

_peers = tables.peers
_grants = tables.grants
_versions = tables.grant_versions
_follows = tables.follows
_past = tables.past_descriptors

_GRANT_COLUMNS = (
    _peers.c.name,
    _grants.c.list_name,
    _grants.c.granted_at,
    _grants.c.scope,
    _grants.c.may_relay,
)
_FOLLOW_COLUMNS = (*_follows.c, _peers.c.name)

# Constants: what every request asks costs a quarter so of what it costs built anew.
_BY_NAME: Final = select(_peers).where(_peers.c.name == bindparam("wanted"))
_HAS_GRANT: Final = select(_grants.c.grant_id).where(
    _grants.c.peer_id == bindparam("peer"), _grants.c.list_name == bindparam("list")
)
_VERSION: Final = select(_versions.c.version).where(
    _versions.c.peer_id == bindparam("peer")
)
_GRANTS: Final[Select[Any]] = select(*_GRANT_COLUMNS).join(
    _peers, _peers.c.peer_id == _grants.c.peer_id
)
_GRANT: Final[Select[Any]] = _GRANTS.where(
    _grants.c.peer_id == bindparam("peer"), _grants.c.list_name == bindparam("list")
)
_FOLLOWS: Final[Select[Any]] = select(*_FOLLOW_COLUMNS).join(
    _peers, _peers.c.peer_id == _follows.c.peer_id
)
_FOLLOW: Final[Select[Any]] = _FOLLOWS.where(
    _follows.c.peer_id == bindparam("peer"), _follows.c.list_name == bindparam("list")
)


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
    return peer_of_row(connection.execute(_BY_NAME, {"wanted": peer["name"]}).one())


def find_peer(connection: Connection, name: str) -> Peer | None:
    """Look a peer up by its node name."""
    row = connection.execute(_BY_NAME, {"wanted": name}).one_or_none()
    return None if row is None else peer_of_row(row)


def list_peers(connection: Connection) -> list[Peer]:
    """List all peers by name."""
    query = select(_peers).order_by(_peers.c.name)
    return [peer_of_row(row) for row in connection.execute(query)]


def update_descriptor(
    connection: Connection, peer_id: int, descriptor: bytes, version: int, base: str
) -> None:
    """Replace a peer's descriptor, unless a newer one is already there."""
    connection.execute(
        update(_peers)
        .where(_peers.c.peer_id == peer_id, _peers.c.descriptor_version <= version)
        .values(descriptor=descriptor, descriptor_version=version, base=base)
    )


def keep_descriptor(connection: Connection, peer: Peer) -> None:
    """Keep the descriptor that a peer has now, when its keys are about to change."""
    statement = upsert(connection, _past).values(
        peer_id=peer.peer_id,
        version=peer.descriptor_version,
        descriptor=peer.descriptor,
    )
    connection.execute(statement.on_conflict_do_nothing())


def past_descriptors(connection: Connection, peer_id: int) -> list[bytes]:
    """List the descriptors whose keys a peer had before, newest first."""
    query = select(_past.c.descriptor).where(_past.c.peer_id == peer_id)
    rows = connection.execute(query.order_by(_past.c.version.desc()))
    return [row.descriptor for row in rows]


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
    connection: Connection,
    peer_id: int,
    list_name: str,
    now: int,
    *,
    scope: GrantScope = WHOLE_LIST,
    may_relay: bool = False,
) -> Grant:
    """Give a peer the right to fetch one of our lists; giving it twice is once.

    Given again with another scope, or another permission to relay, it is as it was
    given last, and the version of the peer's rights grows.
    """
    text = scope_text(scope)
    statement = upsert(connection, _grants).values(
        peer_id=peer_id,
        list_name=list_name,
        granted_at=now,
        scope=text,
        may_relay=int(may_relay),
    )
    replacing = statement.on_conflict_do_update(
        index_elements=[_grants.c.peer_id, _grants.c.list_name],
        set_={"scope": text, "may_relay": int(may_relay)},
        where=or_(
            _grants.c.scope.is_distinct_from(text),
            _grants.c.may_relay != int(may_relay),
        ),
    )
    if has_changed(connection, replacing):
        _count_up(connection, peer_id)
    wanted = {"peer": peer_id, "list": list_name}
    return _grant_of(connection.execute(_GRANT, wanted).one())


def delete_grant(connection: Connection, peer_id: int, list_name: str) -> bool:
    """Take a right back; tell whether the peer had it."""
    statement = delete(_grants).where(
        _grants.c.peer_id == peer_id, _grants.c.list_name == list_name
    )
    found = connection.execute(statement).rowcount > 0
    if found:
        _count_up(connection, peer_id)
    return found


def granted_scope(
    connection: Connection, peer_id: int, list_name: str
) -> GrantScope | None:
    """Tell which records of a list a peer may have; None without a grant."""
    row = connection.execute(
        select(_grants.c.scope).where(
            _grants.c.peer_id == peer_id, _grants.c.list_name == list_name
        )
    ).one_or_none()
    if row is None:
        return None
    return WHOLE_LIST if row.scope is None else parse_scope(json.loads(row.scope))


def has_grant(connection: Connection, peer_id: int, list_name: str) -> bool:
    """Tell whether a peer may fetch one of our lists."""
    wanted = {"peer": peer_id, "list": list_name}
    return connection.execute(_HAS_GRANT, wanted).first() is not None


def find_grant(connection: Connection, peer_id: int, list_name: str) -> Grant | None:
    """Look up a peer's right to fetch one of our lists, and how far it goes."""
    wanted = {"peer": peer_id, "list": list_name}
    row = connection.execute(_GRANT, wanted).one_or_none()
    return None if row is None else _grant_of(row)


def list_grants(connection: Connection) -> list[Grant]:
    """List all rights that we have given, by peer and list."""
    query = _GRANTS.order_by(_peers.c.name, _grants.c.list_name)
    return [_grant_of(row) for row in connection.execute(query)]


def grants_of(connection: Connection, peer_id: int) -> tuple[int, list[Grant]]:
    """List a peer's rights.

    Returns:
        A version that grows with each change, 0 before the first, and the rights.
    """
    version = grants_version(connection, peer_id)
    grants = _GRANTS.where(_grants.c.peer_id == peer_id)
    rows = connection.execute(grants.order_by(_grants.c.list_name))
    return version, [_grant_of(row) for row in rows]


def grants_version(connection: Connection, peer_id: int) -> int:
    """Give the version of a peer's rights; 0 before the first."""
    version: int | None = connection.execute(_VERSION, {"peer": peer_id}).scalar()
    return version or 0


def granted_peers(connection: Connection, list_name: str) -> list[Peer]:
    """List the peers that may fetch one of our lists, quarantined ones as well."""
    query = (
        select(_peers)
        .join(_grants, _grants.c.peer_id == _peers.c.peer_id)
        .where(_grants.c.list_name == list_name)
        .order_by(_peers.c.name)
    )
    return [peer_of_row(row) for row in connection.execute(query)]


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
    wanted = {"peer": peer_id, "list": list_name}
    return _follow_of(connection.execute(_FOLLOW, wanted).one())


def find_follow(connection: Connection, peer_id: int, list_name: str) -> Follow | None:
    """Look up whether we copy a peer's list, and where that stands."""
    wanted = {"peer": peer_id, "list": list_name}
    row = connection.execute(_FOLLOW, wanted).one_or_none()
    return None if row is None else _follow_of(row)


def list_follows(connection: Connection) -> list[Follow]:
    """List what we copy, by peer and list."""
    query = _FOLLOWS.order_by(_peers.c.name, _follows.c.list_name)
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


def set_via(connection: Connection, follow_id: int, via: str | None) -> None:
    """Set which peer relays a list; None to ask its owner.

    What is withheld here is to be asked for again, of whoever that is now, and what
    somebody else let us do with the list no longer counts.
    """
    connection.execute(
        update(_follows)
        .where(_follows.c.follow_id == follow_id)
        .values(via=via, may_relay=0, grants_version=0)
    )


def set_rights(
    connection: Connection, follow: Follow, *, scope: GrantScope, may_relay: bool
) -> None:
    """Note what the owner of a list lets us have of it.

    Args:
        connection: In a write transaction.
        follow: The follow, as it is now.
        scope: Which records. With another scope than before, the bodies that are
            withheld here are to be asked for again, whatever the version says: the
            owner may have been restored from a backup.
        may_relay: Whether we may pass them on.
    """
    values: dict[str, object] = {
        "scope": scope_text(scope),
        "may_relay": int(may_relay),
    }
    if scope != follow.scope:
        values["grants_version"] = 0
    connection.execute(
        update(_follows).where(_follows.c.follow_id == follow.follow_id).values(values)
    )


def set_grants_version(connection: Connection, follow_id: int, version: int) -> None:
    """Note that bodies that were withheld were asked for again under these rights."""
    connection.execute(
        update(_follows)
        .where(_follows.c.follow_id == follow_id)
        .values(grants_version=version)
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


def peer_of_row(row: Row[Any]) -> Peer:
    """Make a peer out of a whole row of its table."""
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


def _grant_of(row: Row[Any]) -> Grant:
    return Grant(
        peer_name=row.name,
        list_name=row.list_name,
        granted_at=row.granted_at,
        scope=scope_of_text(row.scope),
        may_relay=bool(row.may_relay),
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
        via=row.via,
        scope=scope_of_text(row.scope),
        may_relay=bool(row.may_relay),
        grants_version=row.grants_version,
    )
