"""Passing on to the node what a worker process cannot answer itself.

Both ways are streams: a body is read from the caller as the node takes it, and an
answer reaches the caller as the node gives it, events of a stream included. When the
caller hangs up, the node's connection ends too; what it has begun to publish it
finishes, as it would for callers of its own.

All workers together open no more connections than the node takes. Each has its share,
of which event streams get half: they last for hours, and must leave room for what is
published meanwhile. What workers say on their own behalf has a connection besides.

The node may be on another machine: a process that stands by passes on what only the one
that leads can do. Who that is can change at any moment, so a connection that cannot be
made is tried again for a while; what was once sent is never sent again.

A stranger's body is not even invited: who sends one shows a token first.

The node hears of its callers only what a worker says, on a socket that only this user's
processes can open: so the caller's address travels in a header that is taken out of
every request that comes from elsewhere.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from hashlight_node.api.errors import NodeUnavailableError, RateLimitedError
from hashlight_node.api.server import MOST_INSIDE
from hashlight_protocol import MalformedError

from .parts import BEARERS
from .reading import invite_body
from .sending import write_in_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

CALLER: Final = "X-Hashlight-Caller"
"""Header in which a worker tells the node the address of who asked."""

HOPS: Final = "X-Hashlight-Hops"
"""Header in which processes of one node count how often they passed a request on."""

_MOST_HOPS: Final = 8
"""Two for each process that has workers, and while the lead changes hands a request may
pass more than two of them."""

_HOP_BY_HOP: Final = frozenset(
    name.lower()
    for name in (
        *("Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization"),
        *("TE", "Trailer", "Transfer-Encoding", "Upgrade", "Expect", CALLER, HOPS),
    )
)
"""Of one connection only. Source: RFC 9110, section 7.6.1."""

_EVENTS: Final = "/v1/changes"
"""Path of the answers that never end."""

_IDLE_SECONDS: Final = 15
"""How long a connection to the node is kept: less than the node keeps it."""

_CONNECT_SECONDS: Final = 5

SILENT_SECONDS: Final = 60
"""How long the node may say nothing, before an answer or within one. Bodies have half
of it to arrive, and event streams say something four times as often."""

_OWN_CONNECTIONS: Final = 2
"""Of a worker, for what is not passed on; one that just closes may overlap the next."""

_AGAIN_SECONDS: Final = 0.05
"""Pause before a connection is tried again."""

_BUSY_RETRY_SECONDS: Final = 1
_STREAM_RETRY_SECONDS: Final = 10


MOST_PASSED_ON: Final = 200
"""Requests that a process passes on to the one that leads, at the same time: fewer than
that one takes connections."""


def share_of(workers: int) -> int:
    """Give how many requests one of so many workers passes on at the same time."""
    return MOST_INSIDE // workers - _OWN_CONNECTIONS


class Forwarder:
    """Passes requests on over a socket of the node.

    Args:
        session: Connects to the node, whatever the host of a URL.
        most: Requests that are passed on at the same time; half of them event streams.
        find: Gives where the node is, as `http://HOST:PORT`; None while it is nowhere.
        patience_seconds: How long to look for it.

    Attributes:
        session: The same, also for what a worker says on its own behalf.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        most: int,
        find: Callable[[], Awaitable[str | None]],
        patience_seconds: float = 0,
    ) -> None:
        self.session = session
        self._most = most
        self._find = find
        self._patience_seconds = patience_seconds
        self._under_way = 0
        self._event_streams: set[asyncio.Task[object]] = set()

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Answer with what the node answers.

        Raises:
            MalformedError: The target is no path.
            TokenMissingError: There is a body, and no token.
            TokenInvalidError: There is a body, and no token of this node.
            RateLimitedError: As many requests as may are passed on already.
            NodeUnavailableError: The node does not answer.
        """
        if not request.raw_path.startswith("/"):
            raise MalformedError("request", "its target is no path")
        if request.body_exists:
            await request.app[BEARERS].authenticate(request.headers)
        return await self.forward_known(request)

    async def forward_with_token(self, request: web.Request) -> web.StreamResponse:
        """Answer with what another machine answers, to callers with a token of ours.

        Strangers are refused here: while nobody leads each would hold one of the places
        of those who wait for a leader.

        Raises:
            TokenMissingError: There is no token.
            TokenInvalidError: It is none of this node.
            NodeUnavailableError: As `forward`, and so on.
        """
        await request.app[BEARERS].authenticate(request.headers)
        return await self.forward(request)

    async def forward_known(
        self, request: web.Request, body: bytes | None = None
    ) -> web.StreamResponse:
        """Answer with what the node answers to a caller who was authenticated.

        Args:
            request: The request.
            body: Its body, if that was read.

        Raises:
            RateLimitedError: As many requests as may are passed on already.
            NodeUnavailableError: The node does not answer.
        """
        if self._under_way >= self._most:
            raise RateLimitedError(_BUSY_RETRY_SECONDS)
        self._under_way += 1
        try:
            if request.path == _EVENTS:
                return await self._pass_on_events(request)
            return await self._pass_on(request, body)
        finally:
            self._under_way -= 1

    async def _pass_on_events(self, request: web.Request) -> web.StreamResponse:
        if len(self._event_streams) >= self._most // 2:
            raise RateLimitedError(_STREAM_RETRY_SECONDS)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- a coroutine is run by a task
        self._event_streams.add(task)
        try:
            return await self._pass_on(request)
        finally:
            self._event_streams.discard(task)

    async def _pass_on(
        self, request: web.Request, body: bytes | None = None
    ) -> web.StreamResponse:
        headers = _end_to_end(request.headers)
        headers[CALLER] = request.remote or ""
        headers[HOPS] = str(_hops_of(request) + 1)
        data = await _body_of(request) if body is None else body
        try:
            asked = await self._ask(request, headers, data)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NodeUnavailableError from error
        async with asked:
            return await self._pass_back(request, asked)

    async def _ask(
        self,
        request: web.Request,
        headers: CIMultiDict[str],
        data: aiohttp.StreamReader | bytes | None,
    ) -> aiohttp.ClientResponse:
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + self._patience_seconds
        while True:
            base = await self._find()
            if base is not None:
                try:
                    return await self.session.request(
                        request.method,
                        URL(f"{base}{request.raw_path}", encoded=True),
                        headers=headers,
                        data=data,
                        allow_redirects=False,
                        skip_auto_headers=_NOT_OURS,
                    )
                except aiohttp.ClientConnectorError:
                    # Nothing was sent.
                    if clock() >= give_up_at:
                        raise
            elif clock() >= give_up_at:
                raise NodeUnavailableError
            await asyncio.sleep(_AGAIN_SECONDS)

    def close_event_streams(self) -> None:
        """End the streams that would never end, so that a worker can stop."""
        for task in self._event_streams:
            task.cancel()

    async def _pass_back(
        self, request: web.Request, asked: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            status=asked.status,
            reason=asked.reason,
            headers=_end_to_end(asked.headers),
        )
        await response.prepare(request)
        async for piece in asked.content.iter_any():
            await write_in_time(request, response, piece)
        await response.write_eof()
        return response


_NOT_OURS: Final = (
    *(hdrs.USER_AGENT, hdrs.ACCEPT),
    *(hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE),
)
"""Headers that would be added: the caller's own are sent, and none that were not."""


def _hops_of(request: web.Request) -> int:
    """Tell how often a request was passed on.

    Raises:
        NodeUnavailableError: So often that those who did so do not know who leads.
    """
    # What is not a number comes from a stranger, and means nothing.
    hops = request.headers.get(HOPS, "0")
    count = int(hops) if hops in _COUNTS else 0
    if count >= _MOST_HOPS:
        raise NodeUnavailableError
    return count


_COUNTS: Final = frozenset(str(number) for number in range(_MOST_HOPS + 1))


async def _body_of(request: web.Request) -> aiohttp.StreamReader | None:
    if not request.body_exists:
        return None
    await invite_body(request)
    return request.content


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if name.lower() not in _HOP_BY_HOP
    )


@asynccontextmanager
async def open_forwarder(socket: Path, *, most: int) -> AsyncIterator[Forwarder]:
    """Make a forwarder for as long as the block lasts.

    Args:
        socket: Where the node listens for its workers.
        most: As of `Forwarder`.
    """
    session = aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(
            path=str(socket),
            limit=0,  # Bounded by who uses it.
            keepalive_timeout=_IDLE_SECONDS,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=SILENT_SECONDS
        ),
        auto_decompress=False,
    )

    async def find() -> str:
        return "http://node"

    async with session:
        yield Forwarder(session, most=most, find=find)


@asynccontextmanager
async def open_leader_forwarder(
    find: Callable[[], Awaitable[str | None]], *, patience_seconds: float
) -> AsyncIterator[Forwarder]:
    """Make a forwarder to whichever process leads, for as long as the block lasts.

    Args:
        find: As of `Forwarder`.
        patience_seconds: As of `Forwarder`.
    """
    session = aiohttp.ClientSession(
        # Kept connections would be those of a process that is just ending.
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=SILENT_SECONDS
        ),
        auto_decompress=False,
    )
    async with session:
        yield Forwarder(
            session, most=MOST_PASSED_ON, find=find, patience_seconds=patience_seconds
        )
