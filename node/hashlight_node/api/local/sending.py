"""Writing an answer that is long to a caller who may not be reading it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiohttp import web

STALL_SECONDS: Final = 30
"""Time for a caller to take `PIECE_BYTES`, of which the system buffers more at once."""

PIECE_BYTES: Final = 262_144


async def write_in_time(
    request: web.Request, response: web.StreamResponse, data: bytes
) -> None:
    """Send a part of an answer; a caller who does not take it loses the connection.

    Otherwise callers who stop reading would hold what answers are made from, of which
    there is little, for as long as they like.

    Args:
        request: Of the caller.
        response: Was prepared.
        data: Of any size.

    Raises:
        ConnectionResetError: The caller is gone, or has taken less than `PIECE_BYTES`
            within `STALL_SECONDS`.
    """
    for start in range(0, len(data), PIECE_BYTES):
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await response.write(data[start : start + PIECE_BYTES])
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            message = "the caller does not read its answer"
            raise ConnectionResetError(message) from None
