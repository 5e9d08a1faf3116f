"""A listener: an application, an address, and limits on what connections may do.

The limits keep a caller from holding memory or a connection with little: header lines
of 8 KiB, 64 of them, 20 s for a whole header and as long between requests (aiohttp's
time-out for idle connections runs from the connection's first moment). Bodies are
bounded where they are read, and an answer counts as sent when the system has taken
all of it. One listener has so many connections that the files of the process last for
the other one and for the database.

What is not HTTP is answered like everything else, with a problem document; aiohttp
would answer in plain text and say which versions it is made of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from socket import AF_UNIX, socket
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
from aiohttp import web
from typing_extensions import override

from .problems import INTERNAL, status_problem_response

if TYPE_CHECKING:
    from aiohttp.web_protocol import _RequestFactory, _RequestHandler

_IDLE_SECONDS: Final = 20
# More than the 15 s after which our own client closes, so that it never sends on a
# connection that this side is just closing.

_LINGERING_SECONDS: Final = 2
# How long to read on after a body was refused, so that the caller sees why.

_MOST_CONNECTIONS: Final = 400
# Of the 1,024 files that a process may usually have open, for each of two listeners.

MOST_INSIDE: Final = 500
"""Connections to a unix socket, on which no strangers are: only our own processes,
which share them out among themselves so that none is ever turned away."""

_FIRST_WORD_SECONDS: Final = 0.25
# How long who was connected when we stopped to listen has to say what is wanted.

_BACKLOG: Final = MOST_INSIDE
"""Connections that wait to be accepted. One more to a unix socket is refused at once,
and it may be that of a worker that was just asked by everybody."""

_LIMITS: Final[dict[str, Any]] = {
    "access_log": None,
    "auto_decompress": False,
    "keepalive_timeout": _IDLE_SECONDS,
    "lingering_time": _LINGERING_SECONDS,
    "max_field_size": 8190,
    "max_headers": 64,
    "max_line_size": 8190,
}

_First = Callable[[web.BaseRequest], web.Response | None]

FIRST: Final[web.AppKey[_First]] = web.AppKey("first")
"""What every request is offered to before the application sees it; must be quick. The
frame around requests is not around it, so it counts and adds headers itself."""

_log = structlog.get_logger()


async def start_server(
    app: web.Application,
    address: tuple[str, int] | list[socket],
    *,
    shutdown_seconds: float,
    hang_up_cancels: bool,
) -> web.AppRunner:
    """Listen; requests are answered when this returns.

    Args:
        app: What answers them.
        address: Host and port to bind, port 0 for any; or sockets that are bound.
        shutdown_seconds: How long `cleanup` of the runner waits for requests that are
            under way.
        hang_up_cancels: Whether a handler ends with its connection. Right for long
            polls, wrong for what must be finished once begun.

    Raises:
        OSError: The address cannot be bound.
    """
    runner = _Runner(
        app,
        handler_cancellation=hang_up_cancels,
        shutdown_timeout=shutdown_seconds,
        **_LIMITS,
    )
    await runner.setup()
    try:
        if isinstance(address, tuple):
            await _PortSite(runner, *address).start()
        else:
            for each in address:
                await _SocketSite(runner, each, backlog=_BACKLOG).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner


def duplicates(listening: Sequence[socket]) -> list[socket]:
    """Give sockets that share what waits to be accepted: whoever closes one drops none.

    Args:
        listening: Bound, and kept open by the caller for as long as anybody is to take
            over from who is given these.
    """
    return [each.dup() for each in listening]


def port_of(runner: web.AppRunner) -> int:
    """Tell on which port a server listens."""
    port: int = runner.addresses[0][1]
    return port


class _Connection(web.RequestHandler):
    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        manager = self._manager
        is_inside = transport.get_extra_info("socket").family == AF_UNIX
        most = MOST_INSIDE if is_inside else _MOST_CONNECTIONS
        if manager is None or len(manager.connections) >= most:
            cast("asyncio.Transport", transport).abort()
            return
        # An answer then waits until it is sent whole; by default the last 64 KiB of it
        # would stay behind in our memory, for as long as the caller likes.
        cast("asyncio.Transport", transport).set_write_buffer_limits(high=0)
        super().connection_made(transport)

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = INTERNAL.status,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        # Only what comes before and after our own frame gets here: bytes that are no
        # HTTP, and mistakes in writing an answer.
        if status >= INTERNAL.status:
            _log.error("answer could not be made", exc_info=exc)
        if request.writer.output_size > 0:
            # Half an answer has left; a second one behind it would be read as its rest.
            raise ConnectionError
        response = status_problem_response(status)
        response.force_close()
        return response


class _Server(web.Server):
    def __init__(
        self,
        handler: _RequestHandler,
        *,
        request_factory: _RequestFactory,
        handler_cancellation: bool,
        limits: dict[str, Any],
    ) -> None:
        super().__init__(
            handler,
            request_factory=request_factory,
            handler_cancellation=handler_cancellation,
        )
        self._limits = limits

    @override
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **self._limits)


class _Site(web.BaseSite):
    @override
    async def stop(self) -> None:
        # CPython drops a connection, open, that it accepted just before its server
        # closes: no more are accepted first, and those that were get their handler.
        # Source: https://github.com/python/cpython/issues/109564
        if isinstance(self._server, asyncio.Server):
            loop = asyncio.get_running_loop()
            for listening in self._server.sockets:
                loop.remove_reader(listening)
            await asyncio.sleep(0)
        await super().stop()


def _offered(first: _First, handler: _RequestHandler) -> _RequestHandler:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        response = first(request)
        return await handler(request) if response is None else response

    return handle


class _PortSite(_Site, web.TCPSite):
    pass


class _SocketSite(_Site, web.SockSite):
    @override
    async def start(self) -> None:
        if self._sock.family != AF_UNIX:
            await super().start()
            return
        # uvloop tells the two kinds of socket apart, so it must be told which.
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None  # noqa: S101 -- the runner is set up
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            server, sock=self._sock, backlog=self._backlog
        )

    @override
    async def stop(self) -> None:
        if self._sock.family == AF_UNIX:
            await super().stop()
            return
        # Who is connected and not yet accepted would be cut off when the last socket
        # that shares the queue is closed.
        with self._sock.dup() as queue:
            await super().stop()
            await self._accept_all(queue)
        await asyncio.sleep(_FIRST_WORD_SECONDS)

    async def _accept_all(self, queue: socket) -> None:
        server = self._runner.server
        assert server is not None  # noqa: S101 -- the runner is set up
        queue.setblocking(False)  # noqa: FBT003 -- as the standard library has it
        while True:
            try:
                accepted, _ = queue.accept()
            except ConnectionAbortedError:
                continue  # That one hung up; others wait behind it.
            except OSError:
                return
            await asyncio.get_running_loop().connect_accepted_socket(server, accepted)


class _Runner(web.AppRunner):
    @override
    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        handler, first = made.request_handler, self.app.get(FIRST)
        return _Server(
            handler if first is None else _offered(first, handler),
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            limits=_LIMITS,
        )
