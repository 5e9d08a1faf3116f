"""What a node says about itself to everybody.

Source: SPEC.md#descriptor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .gate import DESCRIPTOR_PATH
from .parts import PARTS
from .responses import note_response

if TYPE_CHECKING:
    from aiohttp.web import Application, Request, Response


def add_descriptor_route(app: Application) -> None:
    """Serve the descriptor."""
    app.router.add_get(DESCRIPTOR_PATH, get_descriptor)


async def get_descriptor(request: Request) -> Response:
    """Give the signed descriptor."""
    # Public: a cache between us and the world may keep it for a little while.
    return note_response(
        request.app[PARTS].descriptor, cache_control="public, max-age=60"
    )
