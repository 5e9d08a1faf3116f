"""The one way into the federation listener."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from hashlight_node.api.authentication import (
    BODY,
    CONCURRENT_REQUESTS,
    PEER,
    Authenticator,
    ConcurrencyLimit,
    read_body,
)
from hashlight_node.api.errors import RequestError
from hashlight_protocol import (
    MAX_ADD_CHECKPOINT_BYTES,
    MAX_EVIDENCE_BYTES,
    MalformedError,
    ProtocolError,
)

from .gossip import EVIDENCE_PATH
from .responses import SENT_BY_PROXY
from .uploads import is_upload

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

    from .quota import Quotas

DESCRIPTOR_PATH: Final = "/.well-known/hsf"
"""The only resource that a request without a signature gets."""

_STRANGERS: Final = "strangers"

_WRITE_SECONDS: Final = 20
# The largest answer is a few megabytes; who reads it slower than that cannot follow.


def build_gate(authenticator: Authenticator, quotas: Quotas) -> Middleware:
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
            quotas.admit_stranger("descriptor")
            with limit.enter(_STRANGERS):
                return await handler(request)
        try:
            peer = await authenticator.authenticate(request)
        except (ProtocolError, RequestError):
            quotas.admit_stranger("refusal")
            raise
        quotas.admit_peer(peer.name)
        with limit.enter(peer.peer_id):
            request[PEER] = peer
            if not is_upload(request):
                request[BODY] = await read_body(request, _body_bytes(request))
            response = await handler(request)
            # An answer that nobody reads takes memory as long as it is not sent.
            try:
                await _send(request, response)
            finally:
                sent_bytes = request.writer.output_size + request.get(SENT_BY_PROXY, 0)
                quotas.charge_peer(peer.name, sent_bytes)
            return response

    return gate


async def _send(request: web.Request, response: web.StreamResponse) -> None:
    try:
        async with asyncio.timeout(_WRITE_SECONDS):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError from None


def _body_bytes(request: web.Request) -> int:
    """Give the largest body that a request may have."""
    if request.method != "POST":
        return 0
    if request.raw_path == EVIDENCE_PATH:
        return MAX_EVIDENCE_BYTES
    return MAX_ADD_CHECKPOINT_BYTES
