"""Comparing notes with peers, and evidence of forks.

Source: SPEC.md#gossip and SPEC.md#fork-evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from hashlight_node.api.authentication import BODY, PEER
from hashlight_node.api.errors import UnsupportedMediaError

from .parts import PARTS
from .responses import NOT_KEPT, TEXT

if TYPE_CHECKING:
    from aiohttp.web import Application, Request

EVIDENCE_PATH: Final = "/hsf/v1/evidence"
_JSON: Final = "application/json"


def add_gossip_routes(app: Application) -> None:
    """Serve what nodes that know the same log have to say to each other."""
    app.router.add_post("/hsf/v1/witness/compare", compare)
    app.router.add_post(EVIDENCE_PATH, take_evidence)


async def compare(request: Request) -> web.Response:
    """Answer a checkpoint with the largest one that we have of the same log.

    Source: SPEC.md#gossip.
    """
    gossip = request.app[PARTS].gossip
    note = await gossip.answer(request[PEER], request[BODY])
    headers = {"Content-Type": TEXT, "Cache-Control": NOT_KEPT}
    return web.Response(body=note, headers=headers)


async def take_evidence(request: Request) -> web.Response:
    """Take evidence that a log forked.

    Source: SPEC.md#fork-evidence.
    """
    if request.content_type != _JSON:
        raise UnsupportedMediaError(_JSON)
    await request.app[PARTS].gossip.accept(request[PEER], request[BODY])
    return web.Response(status=204, headers={"Cache-Control": NOT_KEPT})
