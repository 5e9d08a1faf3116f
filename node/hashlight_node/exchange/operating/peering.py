"""Peers: who we exchange with, what they may have of ours, what we copy of theirs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from hashlight_node.exchange.answering.serve import granted_rights
from hashlight_node.exchange.errors import (
    OwnNodeError,
    PeerPinnedError,
    UnknownFollowError,
    UnknownListError,
)
from hashlight_node.exchange.following.descriptors import (
    PeerDescriptors,
    open_as,
    pinned,
    put_descriptor,
    replace_descriptor,
)
from hashlight_node.exchange.following.freshness import state_when_taken_up
from hashlight_node.model import FollowState, LogState, PeerState
from hashlight_node.peers.errors import blaming
from hashlight_node.store import logs, past_grants
from hashlight_node.store import peers as peer_store
from hashlight_node.store.forks import is_forked
from hashlight_protocol import (
    ED25519,
    WHOLE_LIST,
    BadKeyError,
    MalformedError,
    encode_grants,
    is_node_name,
    list_id,
    open_descriptor,
    parse_vkey,
)

if TYPE_CHECKING:
    from hashlight_node.exchange.notices import Notices
    from hashlight_node.model import Clock, Follow, Grant, Peer
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import GrantScope, VerifierKey

_log = structlog.get_logger()


class Peering:
    """What an operator decides about other nodes.

    Args:
        database: The store.
        client: Fetches descriptors.
        clock: Unix seconds.
        node_name: This node.
        notices: Where pushes and syncs that a decision causes are queued.
    """

    def __init__(
        self,
        *,
        database: Database,
        client: PeerClient,
        clock: Clock,
        node_name: str,
        notices: Notices,
    ) -> None:
        self._database = database
        self._client = client
        self._clock = clock
        self._node_name = node_name
        self._notices = notices
        self._descriptors = PeerDescriptors(
            database=database, client=client, clock=clock
        )

    async def add_peer(self, base: str, vkey: str) -> Peer:
        """Pin a node by its identity key, and read its other keys from it.

        Adding a peer again fetches its descriptor again.

        Args:
            base: Its base URL, as its operator gave it.
            vkey: Its identity key, as its operator gave it; the one thing that is
                trusted because a person said so.

        Raises:
            BadKeyError: `vkey` is not the identity key of a node.
            MalformedError: `base` is not a base URL.
            OwnNodeError: It is this node.
            PeerPinnedError: A node of that name is pinned with another key.
            PeerError: The descriptor cannot be had, is not signed by that key, or is
                not that of the node at that URL.
        """
        identity = _parse_identity(vkey)
        if identity.name == self._node_name:
            raise OwnNodeError
        raw = await self._client.fetch_descriptor(base)
        descriptor = open_as(identity, raw)
        with blaming(identity.name, "descriptor", raw):
            if descriptor.base != base:
                raise MalformedError("descriptor", "it names another base URL")

        def save(conn: Connection) -> Peer:
            known = peer_store.find_peer(conn, identity.name)
            if known is not None:
                known = replace_descriptor(
                    conn, known, identity, descriptor, raw, now=self._clock()
                )
                peer_store.set_dialable(conn, known.peer_id, is_dialable=True)
                return pinned(conn, known.name)
            return peer_store.insert_peer(
                conn,
                name=identity.name,
                base=base,
                identity_vkey=vkey,
                descriptor=raw,
                descriptor_version=descriptor.version,
                added_at=self._clock(),
            )

        return await self._database.write(save)

    async def pin(self, vkey: str, descriptor: bytes | None) -> Peer:
        """Pin a node that this one never connects to.

        It may call us, once its descriptor is known, or others may bring its lists.
        Pinning a peer that was added ends our calls to it; adding one that was pinned
        begins them.

        Args:
            vkey: Its identity key, as its operator gave it.
            descriptor: Its signed descriptor, as its operator gave it; None if there
                is none. What is known already then stays.

        Raises:
            BadKeyError: `vkey` is not the identity key of a node.
            OwnNodeError: It is this node.
            PeerPinnedError: A node of that name is pinned with another key.
            ProtocolError: The descriptor is not signed by that key, or older than the
                one that is known.
        """
        identity = _parse_identity(vkey)
        if identity.name == self._node_name:
            raise OwnNodeError
        opened = None if descriptor is None else open_descriptor(descriptor, identity)

        def save(conn: Connection) -> Peer:
            known = peer_store.find_peer(conn, identity.name)
            if known is None:
                known = peer_store.insert_peer(
                    conn,
                    name=identity.name,
                    base="",
                    identity_vkey=vkey,
                    descriptor=b"",
                    descriptor_version=0,
                    added_at=self._clock(),
                )
            if known.identity_vkey != vkey:
                raise PeerPinnedError(known.name)
            if opened is not None:
                put_descriptor(conn, known, identity, opened, descriptor or b"")
            peer_store.set_dialable(conn, known.peer_id, is_dialable=False)
            return pinned(conn, known.name)

        return await self._database.write(save)

    async def refresh_descriptor(self, peer_name: str) -> Peer:
        """Fetch a peer's descriptor again: its operational keys may have changed.

        Raises:
            UnknownPeerError: No such peer is pinned.
            PeerUnavailableError: It does not answer; what we have stays.
            PeerRefusedError: It does not give one; what we have stays.
            PeerMisbehavedError: What it gives is not a newer one of its own; evidence
                is kept, and what we have stays.
        """
        return await self._descriptors.refresh(peer_name)

    async def quarantine(self, peer_name: str) -> Peer:
        """Stop talking to a peer. What was copied from it goes on serving lookups.

        Raises:
            UnknownPeerError: No such peer is pinned.
        """

        def write(conn: Connection) -> Peer:
            peer = pinned(conn, peer_name)
            peer_store.set_peer_state(conn, peer.peer_id, PeerState.QUARANTINED)
            return pinned(conn, peer_name)

        return await self._database.write(write)

    async def release(self, peer_name: str) -> Peer:
        """Talk to a peer again, and copy its lists again from where we stopped.

        The evidence stays. Whatever put a list into quarantine does so again if it is
        still there.

        Raises:
            UnknownPeerError: No such peer is pinned.
        """

        def write(conn: Connection) -> tuple[Peer, list[Follow]]:
            peer = pinned(conn, peer_name)
            peer_store.set_peer_state(conn, peer.peer_id, PeerState.ACTIVE)
            follows = [
                follow
                for follow in peer_store.list_follows(conn)
                if follow.peer_id == peer.peer_id
            ]
            for follow in follows:
                _start_again(conn, follow)
            return pinned(conn, peer_name), follows

        peer, follows = await self._database.write(write)
        for follow in follows:
            self._notices.announced(peer_name, follow.list_name)
        return peer

    async def grant(
        self,
        peer_name: str,
        list_name: str,
        *,
        scope: GrantScope = WHOLE_LIST,
        may_relay: bool = False,
    ) -> Grant:
        """Let a peer fetch one of our lists, whole or in part.

        Granting again replaces the scope. A wider one is fetched by the peer by itself;
        with a narrower one it fetches less from now on, and keeps what it has.

        Args:
            peer_name: The peer.
            list_name: One of our lists.
            scope: Which of its records.
            may_relay: Whether it may pass on the records that say so themselves.

        Raises:
            UnknownPeerError: No such peer is pinned.
            UnknownListError: This node has no such list.
            MalformedError: The scope is about the records of a third node, or the peer
                has as many rights as it can be told of.
            TooLargeError: What it would be told is too long.
        """
        if scope.about not in {None, peer_name}:
            raise MalformedError("scope", "it is about records of another node")

        def write(conn: Connection) -> tuple[Grant, str]:
            peer = pinned(conn, peer_name)
            log = logs.find_own_log(conn, self._node_name, list_name)
            if log is None:
                raise UnknownListError(list_name)
            grant = peer_store.insert_grant(
                conn,
                peer.peer_id,
                list_name,
                self._clock(),
                scope=scope,
                may_relay=may_relay,
            )
            self._check_size(conn, peer)
            return grant, log.origin

        grant, origin = await self._database.write(write)
        _log.info("list is granted", peer=peer_name, list=list_name)
        # The peer learns from a push that there is something for it now.
        self._notices.pushes.add(origin)
        return grant

    async def revoke(self, peer_name: str, list_name: str) -> None:
        """Take a grant back; revoking what was not granted changes nothing.

        What the peer has it has. It learns of no further retraction either, so an
        operator may want to erase first.

        Raises:
            UnknownPeerError: No such peer is pinned.
        """

        def write(conn: Connection) -> None:
            peer = pinned(conn, peer_name)
            if peer_store.delete_grant(conn, peer.peer_id, list_name):
                past_grants.remember(conn, peer.peer_id, list_name, self._clock())

        await self._database.write(write)
        _log.info("grant is taken back", peer=peer_name, list=list_name)

    async def follow(
        self, peer_name: str, list_name: str, *, via: str | None = None
    ) -> Follow:
        """Copy a list of a peer from now on; before its grant, wait for that.

        Following a list that is in quarantine takes it up again from where we stopped,
        and so does following it through somebody else.

        Args:
            peer_name: The owner.
            list_name: Its list.
            via: The peer that relays it; None to ask the owner itself.

        Raises:
            UnknownPeerError: No such peer is pinned, or not the relay.
            MalformedError: `list_name` is no list name.
        """
        list_id(peer_name, list_name)
        relay_name = None if via == peer_name else via

        def write(conn: Connection) -> Follow:
            peer = pinned(conn, peer_name)
            if relay_name is not None:
                pinned(conn, relay_name)
            known = peer_store.find_follow(conn, peer.peer_id, list_name)
            if known is None:
                known = peer_store.insert_follow(
                    conn, peer.peer_id, list_name, self._clock()
                )
            if known.via != relay_name:
                peer_store.set_via(conn, known.follow_id, relay_name)
                known = replace(known, via=relay_name)
            return _start_again(conn, known)

        followed = await self._database.write(write)
        self._notices.announced(peer_name, list_name)
        return followed

    async def unfollow(self, peer_name: str, list_name: str) -> None:
        """Copy a list no further.

        What was copied stays, marked as frozen, so that following again goes on from
        there. It matches nothing meanwhile: nobody tells us what is withdrawn.

        Raises:
            UnknownPeerError: No such peer is pinned.
            UnknownFollowError: The list is not followed.
        """

        def write(conn: Connection) -> None:
            peer = pinned(conn, peer_name)
            follow = peer_store.find_follow(conn, peer.peer_id, list_name)
            if follow is None:
                raise UnknownFollowError(peer_name, list_name)
            peer_store.delete_follow(conn, follow.follow_id)
            logs.set_list_state(
                conn, peer_name, list_name, LogState.FROZEN, "no longer followed"
            )

        await self._database.write(write)

    def _check_size(self, conn: Connection, peer: Peer) -> None:
        """Refuse a right with which the peer could no longer be told its rights."""
        version, grants = peer_store.grants_of(conn, peer.peer_id)
        encode_grants(granted_rights(self._node_name, version, grants))


def _parse_identity(vkey: str) -> VerifierKey:
    identity = parse_vkey(vkey)
    if identity.key_type != ED25519 or not is_node_name(identity.name):
        reason = "it is not the identity key of a node"
        raise BadKeyError(reason)
    return identity


def _start_again(conn: Connection, follow: Follow) -> Follow:
    """Let a list be copied again, from where its copy stopped."""
    for log in logs.logs_of_list(conn, follow.peer_name, follow.list_name):
        # One that ended, and another took its place; one that forked stays where it is.
        if log.counts_until is not None or is_forked(conn, log.origin):
            continue
        logs.set_log_state(conn, log.log_id, state_when_taken_up(log), None)
    if follow.state is not FollowState.QUARANTINED:
        return follow
    peer_store.set_follow(
        conn,
        follow.follow_id,
        state=FollowState.WAITING,
        synced_at=follow.synced_at,
        error=None,
    )
    return replace(follow, state=FollowState.WAITING, error=None)
