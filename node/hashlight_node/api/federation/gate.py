"""The one way into the federation listener."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from hashlight_node.api.authentication import (
    BODY,
    CONCURRENT_REQUESTS,
    PEER,
    Authenticator,
    ConcurrencyLimit,
    verify_plain_target,
)
from hashlight_protocol import MAX_ADD_CHECKPOINT_BYTES, MalformedError

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

DESCRIPTOR_PATH: Final = "/.well-known/hsf"
"""The only resource that a request without a signature gets."""

_STRANGERS: Final = "strangers"


def build_gate(authenticator: Authenticator) -> Middleware:
    """Make the middleware that authenticates and bounds every request.

    Fail closed: a path that no route knows needs a signature too, so a forgotten
    route or a wrong pattern cannot become an open one, and strangers cannot map what
    there is.
    """
    limit = ConcurrencyLimit(CONCURRENT_REQUESTS)

    @web.middleware
    async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.raw_path == DESCRIPTOR_PATH:
            if request.can_read_body:
                raise MalformedError("request", "this operation takes no body")
            with limit.enter(_STRANGERS):
                return await handler(request)
        verify_plain_target(request)
        peer, body = await authenticator.authenticate(
            request, body_bytes=_body_bytes(request)
        )
        request[PEER] = peer
        request[BODY] = body
        with limit.enter(peer.peer_id):
            return await handler(request)

    return gate


def _body_bytes(request: web.Request) -> int:
    """Give the largest body of a request; its route is found, its sender is not."""
    return MAX_ADD_CHECKPOINT_BYTES if request.method == "POST" else 0
