"""Peers that may fetch our copies of other nodes' lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.errors import UnknownFollowError, UnknownPeerError
from hashlight_node.model import Scope
from hashlight_node.store import peers as peer_store
from hashlight_node.store import relaying as store
from hashlight_protocol import encode_timestamp

from .answers import JsonAnswer, NoAnswer
from .bodies import JsonBody
from .models.peering import NewRelay, RelayDetail, RelayPage
from .operations import NO_BODY, Call, operation

if TYPE_CHECKING:
    from hashlight_node.model import RelayGrant
    from hashlight_node.store.database import Connection


@operation(
    "POST",
    "/v1/relays",
    scope=Scope.ADMIN,
    takes=JsonBody(NewRelay),
    gives=JsonAnswer(RelayDetail, status=201),
    raises=(UnknownPeerError, UnknownFollowError),
)
async def create_relay(call: Call[NewRelay]) -> RelayDetail:
    """Let a peer fetch our copy of another node's list.

    Nothing is shown to it while the owner of the list does not let us, and of the
    records only those whose `share` is `peers`.
    """
    body = call.body
    granted = await call.parts.relaying.relay(body.peer, body.owner, body.list)
    allowed = await call.parts.database.read(_allowed)
    return _show(granted, allowed)


@operation(
    "GET",
    "/v1/relays",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(RelayPage, page_of="relays"),
)
async def list_relays(call: Call[None]) -> RelayPage:
    """List who may fetch which copy."""
    granted = await call.parts.database.read(store.list_relay_grants)
    allowed = await call.parts.database.read(_allowed)
    rows, cursor = call.page.cut(
        granted, lambda one: f"{one.node}/{one.list_name}/{one.peer_name}"
    )
    return {"relays": [_show(one, allowed) for one in rows], "next_cursor": cursor}


@operation(
    "DELETE",
    "/v1/relays/{peer}/{owner}/{list}",
    scope=Scope.ADMIN,
    takes=NO_BODY,
    gives=NoAnswer(),
    raises=(UnknownPeerError,),
)
async def delete_relay(call: Call[None]) -> None:
    """Let a peer fetch a copy no more. What it has, it has."""
    path = call.path
    await call.parts.relaying.stop(path["peer"], path["owner"], path["list"])


def _allowed(conn: Connection) -> frozenset[tuple[str, str]]:
    follows = peer_store.list_follows(conn)
    return frozenset((one.peer_name, one.list_name) for one in follows if one.may_relay)


def _show(granted: RelayGrant, allowed: frozenset[tuple[str, str]]) -> RelayDetail:
    return {
        "peer": granted.peer_name,
        "owner": granted.node,
        "list": granted.list_name,
        "granted_at": encode_timestamp(granted.granted_at),
        "is_allowed": (granted.node, granted.list_name) in allowed,
    }


OPERATIONS: Final = (create_relay, list_relays, delete_relay)
