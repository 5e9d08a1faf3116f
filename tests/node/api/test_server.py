"""The listener itself, over real sockets."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings

import pytest
from aiohttp import web

from hashlight_node.api.server import port_of, start_server


@pytest.mark.parametrize("turns", range(6))
async def test_a_connection_accepted_while_the_server_stops_is_closed(
    turns: int,
) -> None:
    runner = await start_server(
        web.Application(), "127.0.0.1", 0, shutdown_seconds=1, hang_up_cancels=False
    )
    caller = socket.create_connection(("127.0.0.1", port_of(runner)))
    for _ in range(turns):  # accepting takes some turns of the loop
        await asyncio.sleep(0)
    with warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always")
        await runner.cleanup()
        gc.collect()
    caller.settimeout(5)
    try:
        assert caller.recv(1) == b""
    except ConnectionResetError:
        pass  # never accepted: the listening socket closed over it
    finally:
        caller.close()
    assert left_open == []
