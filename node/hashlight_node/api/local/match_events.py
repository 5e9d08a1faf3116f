"""Matches that worker processes saw, on their way to the node, which logs them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import aiohttp
import orjson
from aiohttp import web

from hashlight_node.api.errors import NotFoundError
from hashlight_node.exchange.looking_up.match_log import (
    FLUSH_SECONDS,
    MAX_EVENT_BYTES,
    MatchBuffer,
)
from hashlight_node.store.matches import MatchEvent

from .bodies import JSON
from .forwarding import CALLER
from .reading import read_body

if TYPE_CHECKING:
    from hashlight_node.exchange.looking_up.match_log import MatchLog

PATH: Final = "/internal/matches"

_SENT_TOGETHER: Final = 500
_SENT_TOGETHER_BYTES: Final = MAX_EVENT_BYTES
"""So small that reading them holds up the node's other callers for milliseconds."""

_MAX_BYTES: Final = 4 * _SENT_TOGETHER_BYTES
"""Of a body: an event is JSON in a JSON string, where quotation marks take two bytes,
and what is written around it takes some ten."""

_SEND_SECONDS: Final = 10

_REFUSED: Final = 400
_OURS: Final = 500
_LATER: Final = frozenset({408, 429})
"""Refusals that are about the moment."""

MATCH_BUFFER: Final = web.AppKey("match_buffer", MatchBuffer)


def accept_match_events(app: web.Application, log: MatchLog) -> None:
    """Let a node's application take events from its workers."""
    app[MATCH_BUFFER] = log.buffer
    app.router.add_post(PATH, _accept)


async def _accept(request: web.Request) -> web.Response:
    """Take events over; as with events of our own, what there is no room for is lost.

    Raises:
        NotFoundError: Somebody else asks, through a worker.
    """
    if CALLER in request.headers:
        raise NotFoundError
    given = orjson.loads(await read_body(request, max_bytes=_MAX_BYTES))
    request.app[MATCH_BUFFER].add_events([MatchEvent(*each) for each in given])
    return web.Response(status=204)


class MatchSender:
    """Sends a worker's events to the node, about once a second.

    Args:
        buffer: Where they wait.
        session: Connects to the node.
    """

    def __init__(self, buffer: MatchBuffer, session: aiohttp.ClientSession) -> None:
        self._buffer = buffer
        self._session = session
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Send for ever."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Send what waits; if the node does not answer, it goes on waiting.

        Once begun it goes on even if the caller is cancelled: the node may have taken
        what was sent, so it can be neither forgotten nor sent again. What the node
        refuses it would refuse again; that is dropped, and counted.
        """
        await asyncio.shield(asyncio.ensure_future(self._flush()))

    async def _flush(self) -> None:
        async with self._sending:
            while events := self._buffer.take(_SENT_TOGETHER, _SENT_TOGETHER_BYTES):
                status = await self._send(events)
                if status is None or status in _LATER or status >= _OURS:
                    self._buffer.add_events(events)
                    return
                if status >= _REFUSED:
                    self._buffer.drop(events)

    async def _send(self, events: list[MatchEvent]) -> int | None:
        """Give the status of the node's answer, None if there is none."""
        try:
            async with self._session.post(
                f"http://node{PATH}",
                data=orjson.dumps([tuple(event) for event in events]),
                headers={"Content-Type": JSON},
                timeout=aiohttp.ClientTimeout(total=_SEND_SECONDS),
            ) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return None
