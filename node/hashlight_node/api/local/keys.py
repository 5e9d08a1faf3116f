"""The node's own keys: listed, replaced while it runs, signed on another machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.errors import UnknownListError
from hashlight_node.keys import IdentityOfflineError, SignerUnavailableError
from hashlight_node.model import Scope
from hashlight_protocol import BadKeyError, MalformedError, encode_vkey

from .answers import JsonAnswer
from .bodies import JsonBody
from .instants import optional_instant
from .models.keys import (
    KeyChoice,
    KeyDetail,
    KeyList,
    NewKey,
    SignedDocuments,
    SigningRequest,
)
from .operations import NO_BODY, Call, operation

if TYPE_CHECKING:
    from hashlight_node.exchange.publishing.rotation import KeyView

_SIGNED_BYTES: Final = 17 * 1024 * 1024


@operation(
    "GET",
    "/v1/keys",
    scope=Scope.ADMIN,
    takes=NO_BODY,
    gives=JsonAnswer(KeyList),
)
async def list_keys(call: Call[None]) -> KeyList:
    """List this node's keys, without their secrets."""
    return _show(await call.parts.rotation.keys())


@operation(
    "POST",
    "/v1/keys/rotate",
    scope=Scope.ADMIN,
    takes=JsonBody(NewKey),
    gives=JsonAnswer(KeyList),
    raises=(
        UnknownListError,
        BadKeyError,
        IdentityOfflineError,
        SignerUnavailableError,
    ),
)
async def rotate_key(call: Call[NewKey]) -> KeyList:
    """Make a new key and let it count beside the old one.

    The old one is retired by itself when `[keys] overlap_days` are over.
    """
    body = call.body
    return _show(await call.parts.rotation.rotate(body.use, body.list, body.agent))


@operation(
    "POST",
    "/v1/keys/retire",
    scope=Scope.ADMIN,
    takes=JsonBody(KeyChoice),
    gives=JsonAnswer(KeyList),
    raises=(UnknownListError, IdentityOfflineError, SignerUnavailableError),
)
async def retire_key(call: Call[KeyChoice]) -> KeyList:
    """Remove what the newest key of a use replaces, before its time.

    Peers that have not read the newest document refuse this node until they do.
    """
    return _show(await call.parts.rotation.retire(call.body.use, call.body.list))


@operation(
    "GET",
    "/v1/keys/request",
    scope=Scope.ADMIN,
    takes=NO_BODY,
    gives=JsonAnswer(SigningRequest),
    raises=(MalformedError,),
)
async def export_key_request(call: Call[None]) -> SigningRequest:
    """Write down what has to be signed on the machine with the identity key."""
    return {"request": (await call.parts.rotation.request()).decode()}


@operation(
    "POST",
    "/v1/keys/import",
    scope=Scope.ADMIN,
    takes=JsonBody(SignedDocuments, max_bytes=_SIGNED_BYTES),
    gives=JsonAnswer(KeyList),
    raises=(MalformedError, SignerUnavailableError),
)
async def import_signed(call: Call[SignedDocuments]) -> KeyList:
    """Take documents into effect that were signed on another machine."""
    return _show(await call.parts.rotation.accept(call.body.signed.encode()))


def _show(views: tuple[KeyView, ...]) -> KeyList:
    return {"keys": [_detail(view) for view in views]}


def _detail(view: KeyView) -> KeyDetail:
    return {
        "use": view.use,
        "vkey": encode_vkey(view.key),
        "storage": view.storage,
        "state": view.state,
        "published_at": optional_instant(view.published_at),
        "retires_at": optional_instant(view.retires_at),
    }


OPERATIONS: Final = (
    list_keys,
    rotate_key,
    retire_key,
    export_key_request,
    import_signed,
)
