"""Pinned nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.errors import (
    OwnNodeError,
    PeerPinnedError,
    UnknownPeerError,
)
from hashlight_node.model import Scope
from hashlight_node.peers.errors import (
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnavailableError,
)
from hashlight_node.store import peers as store
from hashlight_protocol import (
    BadKeyError,
    BadSignatureError,
    MalformedError,
    StaleVersionError,
    UnknownKeyError,
    encode_timestamp,
)

from .answers import JsonAnswer
from .bodies import JsonBody
from .instants import optional_instant
from .models.peering import NewPeer, NewPin, PeerDetail, PeerPage
from .models.wire import Nothing
from .operations import NO_BODY, Call, operation

if TYPE_CHECKING:
    from hashlight_node.model import Peer

_NO_MEMBERS: Final = JsonBody(Nothing, is_required=False)


@operation(
    "POST",
    "/v1/peers",
    scope=Scope.ADMIN,
    takes=JsonBody(NewPeer),
    gives=JsonAnswer(PeerDetail, status=201),
    raises=(
        BadKeyError,
        OwnNodeError,
        PeerPinnedError,
        PeerUnavailableError,
        PeerRefusedError,
        PeerMisbehavedError,
    ),
)
async def add_peer(call: Call[NewPeer]) -> PeerDetail:
    """Pin a peer's identity key and fetch its descriptor.

    The operators exchange address and key by hand. Both sides must do this before
    either can fetch anything of the other.
    """
    return show_peer(await call.parts.peering.add_peer(call.body.base, call.body.vkey))


@operation(
    "POST",
    "/v1/peers/pin",
    scope=Scope.ADMIN,
    takes=JsonBody(NewPin),
    gives=JsonAnswer(PeerDetail, status=201),
    raises=(
        BadKeyError,
        BadSignatureError,
        MalformedError,
        OwnNodeError,
        PeerPinnedError,
        StaleVersionError,
        UnknownKeyError,
    ),
)
async def pin_peer(call: Call[NewPin]) -> PeerDetail:
    """Pin the identity key of a node that this one never connects to.

    For one that nobody can dial and that uploads its lists to us, or one whose lists
    come through a relay. Adding it later with its address makes it a peer like others.
    """
    text = call.body.descriptor
    descriptor = None if text is None else text.encode()
    return show_peer(await call.parts.peering.pin(call.body.vkey, descriptor))


@operation(
    "GET",
    "/v1/peers",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(PeerPage, page_of="peers"),
)
async def list_peers(call: Call[None]) -> PeerPage:
    """List the pinned peers."""
    peers = await call.parts.database.read(store.list_peers)
    rows, cursor = call.page.cut(peers, lambda peer: peer.name)
    return {"peers": [show_peer(peer) for peer in rows], "next_cursor": cursor}


@operation(
    "GET",
    "/v1/peers/{peer}",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(PeerDetail),
    raises=(UnknownPeerError,),
)
async def get_peer(call: Call[None]) -> PeerDetail:
    """Show one peer."""
    name = call.path["peer"]
    peer = await call.parts.database.read(lambda conn: store.find_peer(conn, name))
    if peer is None:
        raise UnknownPeerError(name)
    return show_peer(peer)


@operation(
    "POST",
    "/v1/peers/{peer}/quarantine",
    scope=Scope.ADMIN,
    takes=_NO_MEMBERS,
    gives=JsonAnswer(PeerDetail),
    raises=(UnknownPeerError,),
)
async def quarantine_peer(call: Call[Nothing]) -> PeerDetail:
    """Stop talking to a peer.

    Nothing is fetched from it and nothing given to it. What was verified before goes
    on serving lookups.
    """
    return show_peer(await call.parts.peering.quarantine(call.path["peer"]))


@operation(
    "POST",
    "/v1/peers/{peer}/release",
    scope=Scope.ADMIN,
    takes=_NO_MEMBERS,
    gives=JsonAnswer(PeerDetail),
    raises=(UnknownPeerError,),
)
async def release_peer(call: Call[Nothing]) -> PeerDetail:
    """Talk to a quarantined peer again, and follow its lists again."""
    return show_peer(await call.parts.peering.release(call.path["peer"]))


def show_peer(peer: Peer) -> PeerDetail:
    """Describe a peer in an answer."""
    return {
        "name": peer.name,
        "base": peer.base,
        "vkey": peer.identity_vkey,
        "state": peer.state,
        "is_dialable": peer.is_dialable,
        "added_at": encode_timestamp(peer.added_at),
        "contacted_at": optional_instant(peer.contacted_at),
    }


OPERATIONS: Final = (
    add_peer,
    pin_peer,
    list_peers,
    get_peer,
    quarantine_peer,
    release_peer,
)
