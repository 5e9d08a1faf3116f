"""Our own lists, for the peers that hold a grant.

Source: C2SP tlog-tiles; SPEC.md#endpoints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from hashlight_node.api.authentication import PEER
from hashlight_node.api.errors import NotFoundError
from hashlight_protocol import (
    BodyBundleId,
    EntryBundleId,
    MalformedError,
    TileId,
    encode_grants,
    parse_tile_path,
)

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

_LOG: Final = "/hsf/v1/log/{list:[a-z0-9-]+}/{epoch:[1-9][0-9]*}"
# More digits are no position in any tree; the parser of paths has its own bound.
INDEX: Final = "{index:0|[1-9][0-9]{0,18}}"


def add_log_routes(app: Application) -> None:
    """Serve lists, their logs and the caller's rights."""
    app.router.add_get("/hsf/v1/lists/{list:[a-z0-9-]+}", get_list_note)
    app.router.add_get("/hsf/v1/grants", get_grants)
    app.router.add_get(f"{_LOG}/checkpoint", get_checkpoint)
    app.router.add_get(f"{_LOG}/receipt/{INDEX}", get_receipt)
    app.router.add_get(f"{_LOG}/{{resource:(?:tile|bodies)/.+}}", get_resource)


async def get_list_note(request: Request) -> web.Response:
    """Give the signed note about a list.

    Source: SPEC.md#list-note.
    """
    serving = request.app[PARTS].serving
    note = await serving.list_note(request[PEER], request.match_info["list"])
    return note_response(note)


async def get_grants(request: Request) -> web.Response:
    """Give the caller's own rights.

    Source: SPEC.md#grants.
    """
    grants = await request.app[PARTS].serving.grants(request[PEER])
    return web.Response(
        body=encode_grants(grants),
        content_type="application/json",
        headers={"Cache-Control": NOT_KEPT},
    )


async def get_checkpoint(request: Request) -> web.Response:
    """Give a log's newest checkpoint, now or when there is a newer one.

    Source: SPEC.md#long-poll.
    """
    serving = request.app[PARTS].serving
    list_name, epoch = _log(request)
    return await poll_response(
        request,
        lambda known, seconds: serving.wait_checkpoint(
            request[PEER], list_name, epoch, etag=known, seconds=seconds
        ),
    )


async def get_resource(request: Request) -> web.Response:
    """Give a tile, an entry bundle or a body bundle.

    Source: C2SP tlog-tiles; SPEC.md#tiles and SPEC.md#body-bundles.
    """
    serving = request.app[PARTS].serving
    where = (request[PEER], *_log(request))
    resource = parse_resource(request)
    if is_file_wanted(request):
        file = await serving.file(*where, resource, choose_coding(request))
        if file is not None:
            return file_response(request, file)
    match resource:
        case TileId() as tile:
            return immutable_response(await serving.tile(*where, tile))
        case EntryBundleId() as bundle:
            return immutable_response(await serving.entries(*where, bundle))
        case BodyBundleId() as bundle:
            content = await serving.bodies(*where, bundle)
            return await revalidated_response(request, content)


async def get_receipt(request: Request) -> web.Response:
    """Give one record with its proof.

    Source: C2SP tlog-proof; SPEC.md#receipts.
    """
    serving = request.app[PARTS].serving
    index = int(request.match_info["index"])
    receipt = await serving.receipt(request[PEER], *_log(request), index)
    return note_response(receipt, cache_control=NOT_KEPT)


def _log(request: Request) -> tuple[str, int]:
    return request.match_info["list"], int(request.match_info["epoch"])


def parse_resource(request: Request) -> TileId | EntryBundleId | BodyBundleId:
    """Read which tile or bundle is asked for.

    Raises:
        NotFoundError: The path is that of none.
    """
    try:
        return parse_tile_path(request.match_info["resource"])
    except MalformedError:
        # As for any other path that nothing has: the form of it is no news.
        raise NotFoundError from None
