"""What a node says about itself to everybody.

Source: SPEC.md#descriptor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashlight_node.api.errors import DescriptorUnsignedError

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
    raw = request.app[PARTS].descriptor()
    if raw is None:
        # The identity key is on another machine, and has not signed yet.
        raise DescriptorUnsignedError
    # Public: a cache between us and the world may keep it for a little while.
    return note_response(raw, cache_control="public, max-age=60")
