"""The listener itself, over real sockets."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from hashlight_node.api.server import FIRST, duplicates, port_of, start_server

if TYPE_CHECKING:
    from pathlib import Path


def _listening(kind: str, directory: Path) -> socket.socket:
    """Give a socket as workers and the node behind them have it."""
    if kind == "unix":
        made = socket.socket(socket.AF_UNIX)
        made.bind(str(directory / "s"))
    else:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(("127.0.0.1", 0))
    made.listen()
    return made


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("kind", ["port", "shared port", "unix"])
async def test_a_connection_accepted_while_the_server_stops_is_closed(
    turns: int, kind: str, tmp_path: Path
) -> None:
    given = None if kind == "port" else _listening(kind, tmp_path)
    runner = await start_server(
        web.Application(),
        ("127.0.0.1", 0) if given is None else [given],
        shutdown_seconds=1,
        hang_up_cancels=False,
    )
    if given is None:
        caller = socket.create_connection(("127.0.0.1", port_of(runner)))
    else:
        caller = socket.socket(given.family)
        caller.connect(given.getsockname())
    for _ in range(turns):  # accepting takes some turns of the loop
        await asyncio.sleep(0)
    with warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always")
        await runner.cleanup()
        del given
        gc.collect()
    caller.settimeout(5)
    try:
        assert caller.recv(1) == b""
    except ConnectionResetError:
        pass  # never accepted: the listening socket closed over it
    finally:
        caller.close()
    assert left_open == []


async def test_what_is_answered_first_does_not_reach_the_application() -> None:
    app = web.Application()
    app[FIRST] = lambda request: (
        web.Response(text="first") if request.raw_path == "/quick" else None
    )
    runner = await start_server(
        app, ("127.0.0.1", 0), shutdown_seconds=1, hang_up_cancels=False
    )
    for path, status in ((b"/quick", b"200"), (b"/slow", b"404")):
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(runner))
        writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).split()[1] == status
        writer.close()
        await writer.wait_closed()
    await runner.cleanup()


async def test_who_was_connected_when_the_server_stops_is_answered() -> None:
    app = web.Application()

    async def answer(request: web.Request) -> web.Response:
        del request
        return web.Response(text="answered")

    app.router.add_get("/", answer)
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    runner = await start_server(
        app, duplicates([listening]), shutdown_seconds=1, hang_up_cancels=False
    )
    listening.close()
    # Nobody has accepted them: the loop did not turn meanwhile.
    callers = [socket.create_connection(address) for _ in range(20)]
    for caller in callers:
        caller.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await runner.cleanup()
    for caller in callers:
        with caller:
            caller.settimeout(5)
            assert caller.recv(12) == b"HTTP/1.1 200"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_what_two_servers_share_goes_on_when_one_stops() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    first, second = [
        await start_server(
            web.Application(),
            duplicates([listening]),
            shutdown_seconds=1,
            hang_up_cancels=False,
        )
        for _ in range(2)
    ]
    await first.cleanup()
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await reader.read(12)) == b"HTTP/1.1 404"
    writer.close()
    await second.cleanup()
    listening.close()
