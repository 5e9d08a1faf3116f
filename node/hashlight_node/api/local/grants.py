"""What peers may fetch of our lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.errors import UnknownListError, UnknownPeerError
from hashlight_node.model import Scope
from hashlight_node.store import peers as store
from hashlight_protocol import encode_timestamp

from .answers import JsonAnswer, NoAnswer
from .bodies import JsonBody
from .models.peering import GrantDetail, GrantPage, NewGrant
from .operations import NO_BODY, Call, operation

if TYPE_CHECKING:
    from hashlight_node.model import Grant


@operation(
    "POST",
    "/v1/grants",
    scope=Scope.ADMIN,
    takes=JsonBody(NewGrant),
    gives=JsonAnswer(GrantDetail, status=201),
    raises=(UnknownPeerError, UnknownListError),
)
async def create_grant(call: Call[NewGrant]) -> GrantDetail:
    """Let a peer fetch one of our lists, whole.

    Granting what is granted already changes nothing.
    """
    return _show(await call.parts.peering.grant(call.body.peer, call.body.list))


@operation(
    "GET",
    "/v1/grants",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(GrantPage, page_of="grants"),
)
async def list_grants(call: Call[None]) -> GrantPage:
    """List what is granted to whom."""
    grants = await call.parts.database.read(store.list_grants)
    rows, cursor = call.page.cut(
        grants, lambda grant: f"{grant.peer_name}/{grant.list_name}"
    )
    return {"grants": [_show(grant) for grant in rows], "next_cursor": cursor}


@operation(
    "DELETE",
    "/v1/grants/{peer}/{list}",
    scope=Scope.ADMIN,
    takes=NO_BODY,
    gives=NoAnswer(),
    raises=(UnknownPeerError,),
)
async def delete_grant(call: Call[None]) -> None:
    """Take a grant back.

    The peer can fetch nothing more of the list. What it has already, it has: erase
    records that it must not keep, before the grant is gone.
    """
    await call.parts.peering.revoke(call.path["peer"], call.path["list"])


def _show(grant: Grant) -> GrantDetail:
    return {
        "peer": grant.peer_name,
        "list": grant.list_name,
        "granted_at": encode_timestamp(grant.granted_at),
    }


OPERATIONS: Final = (create_grant, list_grants, delete_grant)
