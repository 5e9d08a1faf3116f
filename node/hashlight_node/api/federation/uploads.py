"""What the owners of logs bring, because nobody can fetch it from them.

Source: C2SP tlog-mirror; SPEC.md#uploads.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from aiohttp import web

from hashlight_node.api.authentication import PEER, ConcurrencyLimit
from hashlight_node.api.errors import (
    NotFoundError,
    SlowBodyError,
    UnsupportedMediaError,
)
from hashlight_node.exchange.answering.receiving import Mirrored, Missing, Unfit
from hashlight_protocol import (
    MAX_BODY_BUNDLE_BYTES,
    MAX_DESCRIPTOR_BYTES,
    MAX_ENTRY_BYTES,
    MAX_PROOF_HASHES,
    MAX_TICKET_BYTES,
    MAX_UPLOAD_PACKAGES,
    TILE_WIDTH,
    MalformedError,
    encode_mirror_info,
    parse_add_bodies_path,
)

from .content import ACCEPTED_CODINGS, read_decoded, read_pieces
from .parts import PARTS
from .responses import BYTES, NOT_KEPT, TEXT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hashlight_protocol import BodyBundleId, MirrorInfo

PREFIX: Final = "/hsf/v1/mirror/"

_INFO: Final = "text/x.tlog.mirror-info"
_HASH: Final = "{hash:[0-9a-f]{64}}"

_PACKAGE_BYTES: Final = TILE_WIDTH * (2 + MAX_ENTRY_BYTES) + 1 + MAX_PROOF_HASHES * 32
_ENTRIES_BYTES: Final = 1024 + MAX_TICKET_BYTES + MAX_UPLOAD_PACKAGES * _PACKAGE_BYTES
"""Bytes of the longest request that is worth its while."""

_SECONDS: Final = 120
"""For one request, all included. What was stored stays, and the next one goes on."""

_AT_ONCE: Final = 4
"""Uploads of one peer at a time; each holds a package or a bundle of bodies."""

_LIMIT: Final = web.AppKey("uploads_under_way", ConcurrencyLimit)


def is_upload(request: web.Request) -> bool:
    """Tell whether a request's content is read by its handler, piece by piece."""
    return request.method == "POST" and request.path.startswith(PREFIX)


def add_upload_routes(app: web.Application) -> None:
    """Take uploads."""
    app[_LIMIT] = ConcurrencyLimit(_AT_ONCE)
    for path, work in (
        ("add-entries", add_entries),
        ("add-note", add_note),
        (f"{_HASH}/{{resource:add-bodies/.+}}", add_bodies),
    ):
        app.router.add_post(PREFIX + path, _bounded(work))


def _bounded(
    work: Callable[[web.Request], Awaitable[web.Response]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        with request.app[_LIMIT].enter(request[PEER].peer_id):
            try:
                async with asyncio.timeout(_SECONDS):
                    response = await work(request)
            except TimeoutError:
                raise SlowBodyError(_SECONDS) from None
        response.headers["Accept-Encoding"] = ACCEPTED_CODINGS
        response.headers["Cache-Control"] = NOT_KEPT
        return response

    return handle


async def add_entries(request: web.Request) -> web.Response:
    """Store the entries of a log of the caller, as far as they come.

    Source: C2SP tlog-mirror; SPEC.md#uploads.
    """
    _check_type(request, BYTES)
    receiver = request.app[PARTS].receiver
    pieces = read_pieces(request, limit_bytes=_ENTRIES_BYTES)
    async with aclosing(pieces):
        answer = await receiver.add_entries(request[PEER], pieces)
    match answer:
        case Mirrored(lines):
            return web.Response(body=lines, headers={"Content-Type": TEXT})
        case Missing(info):
            return _info_response(202, info)
        case Unfit(info):
            return _info_response(409, info)


async def add_bodies(request: web.Request) -> web.Response:
    """Store bodies of entries that are here.

    Source: SPEC.md#uploads.
    """
    _check_type(request, BYTES)
    bundle = _bundle(request)
    raw = await read_decoded(request, limit_bytes=MAX_BODY_BUNDLE_BYTES)
    receiver = request.app[PARTS].receiver
    origin_hash = request.match_info["hash"]
    info = await receiver.add_bodies(request[PEER], origin_hash, bundle, raw)
    return web.Response(status=204) if info is None else _info_response(409, info)


async def add_note(request: web.Request) -> web.Response:
    """Take a newer descriptor or list note of the caller.

    Source: SPEC.md#uploads.
    """
    _check_type(request, TEXT)
    raw = await read_decoded(request, limit_bytes=MAX_DESCRIPTOR_BYTES)
    await request.app[PARTS].note_receiver.add_note(request[PEER], raw)
    return web.Response(status=204)


def _check_type(request: web.Request, expected: str) -> None:
    if request.content_type != expected.partition(";")[0]:
        raise UnsupportedMediaError(expected)


def _bundle(request: web.Request) -> BodyBundleId:
    try:
        return parse_add_bodies_path(request.match_info["resource"])
    except MalformedError:
        # As for any other path that nothing has: the form of it is no news.
        raise NotFoundError from None


def _info_response(status: int, info: MirrorInfo) -> web.Response:
    return web.Response(
        status=status,
        body=encode_mirror_info(info),
        headers={"Content-Type": _INFO},
    )
