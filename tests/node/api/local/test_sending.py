"""Answers to callers who do not read them, and lines that nobody can keep full."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from hashlight_node.api.errors import RateLimitedError
from hashlight_node.api.local import answers, pressure, reading, sending
from hashlight_node.api.local.pressure import Pressure
from hashlight_node.api.local.sending import write_in_time
from hashlight_node.api.server import start_server
from support.local_api import run_node
from support.nodes import until
from support.pictures import PHOTOS

if TYPE_CHECKING:
    from pathlib import Path

    from support.local_api import LocalApi

MUCH = bytes(8_000_000)


def listening(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    return made


async def test_a_caller_who_stops_reading_loses_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "STALL_SECONDS", 0.2)
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            await write_in_time(request, response, MUCH)
        except ConnectionResetError as error:
            failed.set_result(error)
            raise
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_get("/", answer)
    runner = await start_server(
        app,
        [listening(tmp_path / "s")],
        shutdown_seconds=1,
        hang_up_cancels=False,
    )
    ask = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    reads, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    writer.write(ask)
    read = 0
    while read < len(MUCH):
        read += len(await reads.read(1_000_000))
    writer.close()
    await writer.wait_closed()
    assert not failed.done()
    stalled, writer = await asyncio.open_unix_connection(str(tmp_path / "s"), limit=1)
    writer.write(ask)
    assert "does not read" in str(await asyncio.wait_for(failed, 10))
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await stalled.readexactly(len(MUCH))
    writer.close()
    await runner.cleanup()


async def test_nobody_waits_for_ever_behind_others() -> None:
    line = Pressure(at_once=1, in_line=3, patience_seconds=0.05, retry_seconds=7)
    async with line.turn():
        with pytest.raises(RateLimitedError) as refused:
            async with line.turn():
                pytest.fail("there is no place")
        assert refused.value.retry_after_seconds == 7
    async with line.turn():
        pass


async def hold(api: LocalApi, head: str, body: bytes = b"") -> asyncio.StreamWriter:
    """Begin a request, and read nothing of its answer."""
    host, _, port = api.base.removeprefix("http://").rpartition(":")
    # With room for so little that the answer never is on its way whole.
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(0)
    await asyncio.get_running_loop().sock_connect(made, (host, int(port)))
    _, writer = await asyncio.open_connection(sock=made, limit=1)
    authorization = f"Host: x\r\nAuthorization: Bearer {api.token}\r\n"
    writer.write(f"{head} HTTP/1.1\r\n{authorization}".encode() + b"%b\r\n" % body)
    await writer.drain()
    return writer


async def test_readers_of_events_are_no_more_than_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pressure, "_EVENT_STREAMS", 2)
    async with run_node(tmp_path) as (_, api):
        sent = {"Authorization": f"Bearer {api.token}"}
        url = f"{api.base}/v1/changes"
        streams = [await api.session.get(url, headers=sent) for _ in range(2)]
        assert {it.status for it in streams} == {200}
        reply = await api.get("/v1/changes")
        assert (reply.status, reply.code) == (429, "rate-limited")
        assert reply.headers["Retry-After"] == "10"
        for one in streams:
            one.close()
        await api.create_list()


async def test_who_holds_snapshots_does_not_make_others_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pressure, "_PATIENCE_SECONDS", 0.1)
    async with run_node(tmp_path) as (_, api):
        await api.create_list()
        made = await api.get("/v1/snapshot")
        assert made.status == 200
        never = asyncio.Event()
        stalled: list[None] = []

        async def stall(*_: object) -> None:
            stalled.append(None)
            await never.wait()

        with monkeypatch.context() as patch:
            patch.setattr(answers, "write_in_time", stall)
            held = [await hold(api, "GET /v1/snapshot") for _ in range(2)]
            await until(lambda: len(stalled) == 2)
        reply = await api.get("/v1/snapshot")
        assert (reply.status, reply.code) == (429, "rate-limited")
        assert reply.headers["Retry-After"] == "10"
        never.set()
        for writer in held:
            writer.close()
        assert (await api.get("/v1/snapshot")).status == 200


async def test_slow_uploads_do_not_stop_lookups_of_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PACE_SECONDS", 0.3)
    monkeypatch.setattr(reading, "BODY_SECONDS", 3600)
    begun = b"Content-Type: image/jpeg\r\nContent-Length: 100000\r\n"
    async with run_node(tmp_path) as (_, api):
        held = [await hold(api, "POST /v1/lookup/image", begun) for _ in range(8)]
        reply = await api.send(
            "POST",
            "/v1/lookup/image",
            data=PHOTOS[0].read_bytes(),
            headers={"Content-Type": "image/jpeg"},
        )
        assert reply.status == 200
        for writer in held:
            writer.close()


async def test_a_line_of_pictures_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pressure, "_PICTURES_IN_LINE", 0)
    async with run_node(tmp_path) as (_, api):
        reply = await api.send(
            "POST", "/v1/lookup/image", headers={"Content-Type": "image/jpeg"}
        )
        assert (reply.status, reply.code) == (429, "rate-limited")
