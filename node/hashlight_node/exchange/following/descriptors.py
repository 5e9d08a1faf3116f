"""Descriptors of peers: read again when a key is not in the one that we have."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

from hashlight_node.exchange.errors import PeerPinnedError, UnknownPeerError
from hashlight_node.exchange.logs.evidence import keep_evidence
from hashlight_node.peers.errors import (
    PeerMisbehavedError,
    PeerUnavailableError,
    blaming,
)
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    UnknownKeyError,
    encode_vkey,
    open_descriptor,
    parse_vkey,
    verify_cosignature,
    verify_successor,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashlight_node.model import Clock, Peer
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import Descriptor, VerifierKey

_T = TypeVar("_T")

_RENEW_SECONDS: Final = 60
"""At most one descriptor of a peer in this time, whatever keys it signs with."""


def descriptor_of(peer: Peer) -> Descriptor:
    """Read the descriptor that we hold of a peer; it was verified when it came.

    Raises:
        PeerUnavailableError: None is known yet.
    """
    if not peer.descriptor:
        raise PeerUnavailableError(peer.name, "its descriptor is not known yet")
    return _opened(peer.descriptor, peer.identity_vkey)


@lru_cache(maxsize=256)
def _opened(raw: bytes, identity_vkey: str) -> Descriptor:
    # The same bytes say the same, and every request of a peer asks for its keys.
    return open_descriptor(raw, parse_vkey(identity_vkey))


class PeerDescriptors:
    """Fetches the descriptors of pinned peers.

    Args:
        database: The store.
        client: Fetches them.
        clock: Unix seconds.
    """

    def __init__(self, *, database: Database, client: PeerClient, clock: Clock) -> None:
        self._database = database
        self._client = client
        self._clock = clock
        self._renewed_at: dict[str, int] = {}
        self._renewing: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def read_as_now(
        self, peer: Peer, read: Callable[[Peer], _T]
    ) -> tuple[Peer, _T]:
        """Read what a peer signed, perhaps by a key that we do not know yet.

        Returns:
            The peer, renewed if it had to be, and what was read.

        Raises:
            UnknownKeyError: It is by no key of the renewed descriptor either.
            PeerError: As `renew` does.
            UnknownPeerError: As `renew` does.
        """
        try:
            return peer, read(peer)
        except UnknownKeyError:
            peer = await self.renew(peer)
            return peer, read(peer)

    async def renew(self, peer: Peer) -> Peer:
        """Give a peer as of now: one of its signatures is by no key that we know.

        Fetches its descriptor, unless a newer one than the caller's is there.

        Raises:
            PeerError: As `refresh` does.
            PeerUnavailableError: This was done within the last minute, too.
            UnknownPeerError: The peer is pinned no more.
        """
        # One at a time: who waited may find what another one fetched.
        async with self._renewing[peer.name]:
            known = await self._database.read(lambda conn: pinned(conn, peer.name))
            if known.descriptor_version > peer.descriptor_version:
                return known
            passed_seconds = self._clock() - self._renewed_at.get(peer.name, 0)
            if 0 <= passed_seconds < _RENEW_SECONDS:
                # Not a lie yet: it may have changed its keys since.
                raise PeerUnavailableError(peer.name, "its keys were just read")
            fresh = await self.refresh(peer.name)
            self._renewed_at[peer.name] = self._clock()
        return fresh

    async def refresh(self, peer_name: str) -> Peer:
        """Fetch a peer's descriptor again: its operational keys may have changed.

        Raises:
            UnknownPeerError: No such peer is pinned.
            PeerUnavailableError: It does not answer; what we have stays.
            PeerRefusedError: It does not give one; what we have stays.
            PeerMisbehavedError: What it gives is not a newer one of its own; evidence
                is kept, and what we have stays.
        """
        peer = await self._database.read(lambda conn: pinned(conn, peer_name))
        identity = parse_vkey(peer.identity_vkey)
        raw = await self._client.fetch_newer_descriptor(peer)

        def save(conn: Connection) -> Peer:
            known = pinned(conn, peer_name)
            return replace_descriptor(
                conn, known, identity, descriptor, raw, now=self._clock()
            )

        try:
            descriptor = open_as(identity, raw)
            return await self._database.write(save)
        except PeerMisbehavedError as error:
            await self._keep(peer, error)
            raise

    async def _keep(self, peer: Peer, error: PeerMisbehavedError) -> None:
        await self._database.write(
            lambda conn: keep_evidence(conn, peer, "", error, now=self._clock())
        )


def pinned(conn: Connection, peer_name: str) -> Peer:
    """Look a peer up.

    Raises:
        UnknownPeerError: No such peer is pinned.
    """
    peer = peer_store.find_peer(conn, peer_name)
    if peer is None:
        raise UnknownPeerError(peer_name)
    return peer


def descriptor_behind(
    conn: Connection, peer: Peer, note: bytes
) -> tuple[bytes, VerifierKey]:
    """Find what proves by which key a peer cosigned a note that we kept.

    Args:
        conn: In a transaction.
        peer: Who cosigned.
        note: A checkpoint with the peer's cosignature.

    Returns:
        The signed descriptor that names the key, the newest of several, and the key.

    Raises:
        UnknownKeyError: No witness or mirror key that we ever knew of the peer did.
    """
    identity = parse_vkey(peer.identity_vkey)
    for raw in (peer.descriptor, *peer_store.past_descriptors(conn, peer.peer_id)):
        if not raw:
            continue  # A peer that was pinned without one.
        said = open_descriptor(raw, identity)
        for key in (said.mirror, said.witness):
            try:
                verify_cosignature(note, key)
            except UnknownKeyError:
                continue
            return raw, key
    raise UnknownKeyError("cosignature")


def mirror_keys(conn: Connection, peer: Peer) -> list[VerifierKey]:
    """Give every mirror key that we know a peer to have, or to have had."""
    identity = parse_vkey(peer.identity_vkey)
    kept = (peer.descriptor, *peer_store.past_descriptors(conn, peer.peer_id))
    return [open_descriptor(raw, identity).mirror for raw in kept if raw]


def cosigner_of(conn: Connection, peer: Peer, note: bytes) -> str:
    """Name the key by which a peer cosigned a note that we kept, as a vkey.

    Empty if no key that we ever knew of the peer did.
    """
    try:
        return encode_vkey(descriptor_behind(conn, peer, note)[1])
    except UnknownKeyError:
        return ""


def open_as(identity: VerifierKey, raw: bytes) -> Descriptor:
    """Read a descriptor that came from a peer.

    Raises:
        PeerMisbehavedError: It is not one by this key.
    """
    with blaming(identity.name, "descriptor", raw):
        return open_descriptor(raw, identity)


def replace_descriptor(
    conn: Connection,
    known: Peer,
    identity: VerifierKey,
    descriptor: Descriptor,
    raw: bytes,
    *,
    now: int,
) -> Peer:
    """Let a newer descriptor of a peer take the place of the one we have.

    Raises:
        PeerPinnedError: The peer is pinned with another identity key.
        PeerMisbehavedError: It is not newer.
    """
    # Either document alone is harmless; only both together show the lie.
    with blaming(known.name, "descriptor", known.descriptor + b"\n" + raw):
        put_descriptor(conn, known, identity, descriptor, raw)
    peer_store.touch_peer(conn, known.peer_id, now)
    return pinned(conn, known.name)


def put_descriptor(
    conn: Connection,
    known: Peer,
    identity: VerifierKey,
    descriptor: Descriptor,
    raw: bytes,
) -> None:
    """Store a descriptor of a peer, whoever brought it, if it is newer than ours.

    Raises:
        PeerPinnedError: The peer is pinned with another identity key.
        ProtocolError: It is not newer.
    """
    if known.identity_vkey != encode_vkey(identity):
        raise PeerPinnedError(known.name)
    if known.descriptor:
        before = open_descriptor(known.descriptor, identity)
        verify_successor(before, descriptor)
        if (before.witness, before.mirror) != (descriptor.witness, descriptor.mirror):
            # What the old keys cosigned stays proof, and this binds them to a name.
            peer_store.keep_descriptor(conn, known)
    peer_store.update_descriptor(
        conn, known.peer_id, raw, descriptor.version, descriptor.base
    )
