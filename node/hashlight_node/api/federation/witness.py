"""Peers' logs as we have seen them: announcing and gossip.

Source: C2SP tlog-witness; SPEC.md#witnessing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from hashlight_node.api.authentication import BODY, PEER
from hashlight_protocol import ConflictError

from .parts import PARTS
from .responses import NOT_KEPT, TEXT, note_response

if TYPE_CHECKING:
    from aiohttp.web import Application, Request

UNFINISHED: Final = web.AppKey("unfinished", set[asyncio.Task[bytes]])
"""Submissions that are being worked on; the node waits for them when it stops."""

_HASH: Final = "{hash:[0-9a-f]{64}}"
_CONFLICT: Final = 409

_FINISH_SECONDS: Final = 5
# What is on its way to disk by then will get there; fetching from a peer may stop.


def add_witness_routes(app: Application) -> None:
    """Serve what concerns the callers' logs."""
    app[UNFINISHED] = set()
    app.on_cleanup.append(_finish)
    app.router.add_post("/hsf/v1/witness/add-checkpoint", add_checkpoint)
    app.router.add_get(f"/hsf/v1/witness/{_HASH}/checkpoint", get_witnessed)


async def add_checkpoint(request: Request) -> web.Response:
    """Cosign a checkpoint that a peer announces.

    Source: C2SP tlog-witness; SPEC.md#witnessing.
    """
    witness = request.app[PARTS].witness
    work = asyncio.create_task(witness.add_checkpoint(request[PEER], request[BODY]))
    unfinished = request.app[UNFINISHED]
    unfinished.add(work)
    work.add_done_callback(unfinished.discard)
    try:
        # A caller that hangs up must not stop what is half done.
        lines = await asyncio.shield(work)
    except asyncio.CancelledError:
        # Nor may it begin more in its place: the work counts for it until it ends.
        await asyncio.wait((work,))
        raise
    except ConflictError as error:
        return _size_response(error.known_size)
    headers = {"Content-Type": TEXT, "Cache-Control": NOT_KEPT}
    return web.Response(body=lines, headers=headers)


async def get_witnessed(request: Request) -> web.Response:
    """Give the largest checkpoint of a log that we have cosigned.

    Source: SPEC.md#witnessing.
    """
    serving = request.app[PARTS].serving
    note = await serving.witness_checkpoint(request[PEER], request.match_info["hash"])
    return note_response(note)


async def _finish(app: Application) -> None:
    # Whoever asked has been told or has gone; an error here is nobody's news.
    unfinished = app[UNFINISHED]
    left = list(unfinished)
    if left:
        _, late = await asyncio.wait(left, timeout=_FINISH_SECONDS)
        for work in late:
            work.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _size_response(tree_size: int) -> web.Response:
    """Say from which size the next proof has to start, in the form of tlog-witness."""
    return web.Response(
        status=_CONFLICT,
        body=f"{tree_size}\n".encode(),
        headers={"Content-Type": "text/x.tlog.size", "Cache-Control": NOT_KEPT},
    )
