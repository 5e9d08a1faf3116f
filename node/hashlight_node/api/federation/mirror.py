"""Our copies of peers' logs: for their owners, and for those whom we relay them to.

Source: C2SP tlog-mirror; SPEC.md#mirroring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from hashlight_node.api.authentication import PEER
from hashlight_protocol import BodyBundleId, EntryBundleId, TileId

from .logs import INDEX, parse_resource
from .negotiation import choose_coding
from .parts import PARTS
from .responses import (
    NOT_KEPT,
    file_response,
    immutable_response,
    is_file_wanted,
    note_response,
    poll_response,
    revalidated_response,
)

if TYPE_CHECKING:
    from aiohttp.web import Application, Request

_COPY: Final = "/hsf/v1/mirror/{hash:[0-9a-f]{64}}"


def add_mirror_routes(app: Application) -> None:
    """Serve copies."""
    app.router.add_get(f"{_COPY}/checkpoint", get_checkpoint)
    app.router.add_get(f"{_COPY}/list-note", get_list_note)
    app.router.add_get(f"{_COPY}/owner", get_owner)
    app.router.add_get(f"{_COPY}/acknowledgements", get_acknowledgements)
    app.router.add_get(f"{_COPY}/receipt/{INDEX}", get_receipt)
    app.router.add_get(f"{_COPY}/{{resource:(?:tile|bodies)/.+}}", get_resource)


async def get_checkpoint(request: Request) -> web.Response:
    """Give the checkpoint up to which we have stored and applied a log.

    Source: SPEC.md#acknowledgements.
    """
    mirroring = request.app[PARTS].mirroring
    return await poll_response(
        request,
        lambda known, seconds: mirroring.checkpoint(
            request[PEER], request.match_info["hash"], etag=known, seconds=seconds
        ),
    )


async def get_list_note(request: Request) -> web.Response:
    """Give the note about a list as its owner signed it.

    Source: SPEC.md#relays.
    """
    mirroring = request.app[PARTS].mirroring
    note = await mirroring.list_note(request[PEER], request.match_info["hash"])
    return note_response(note)


async def get_acknowledgements(request: Request) -> web.Response:
    """Say who else got a log from us, and what each of them has signed for it.

    Source: SPEC.md#relayed-acknowledgements.
    """
    mirroring = request.app[PARTS].mirroring
    where = (request[PEER], request.match_info["hash"])
    return web.Response(
        body=await mirroring.acknowledgements(*where),
        content_type="application/json",
        headers={"Cache-Control": NOT_KEPT},
    )


async def get_owner(request: Request) -> web.Response:
    """Give the descriptor of the owner of a list as the owner signed it.

    Source: SPEC.md#relays.
    """
    mirroring = request.app[PARTS].mirroring
    note = await mirroring.owner(request[PEER], request.match_info["hash"])
    return note_response(note)


async def get_resource(request: Request) -> web.Response:
    """Give a tile, an entry bundle or a body bundle.

    Source: C2SP tlog-mirror; SPEC.md#relays.
    """
    mirroring = request.app[PARTS].mirroring
    where = (request[PEER], request.match_info["hash"])
    resource = parse_resource(request)
    if is_file_wanted(request):
        file = await mirroring.file(*where, resource, choose_coding(request))
        if file is not None:
            return file_response(request, file)
    match resource:
        case TileId() as tile:
            return immutable_response(await mirroring.tile(*where, tile))
        case EntryBundleId() as bundle:
            return immutable_response(await mirroring.entries(*where, bundle))
        case BodyBundleId() as bundle:
            content = await mirroring.bodies(*where, bundle)
            return await revalidated_response(request, content)


async def get_receipt(request: Request) -> web.Response:
    """Give one record with its proof.

    Source: C2SP tlog-proof; SPEC.md#relays.
    """
    mirroring = request.app[PARTS].mirroring
    index = int(request.match_info["index"])
    where = (request[PEER], request.match_info["hash"])
    receipt = await mirroring.receipt(*where, index)
    return note_response(receipt, cache_control=NOT_KEPT)
