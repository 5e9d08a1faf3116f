"""What workers and the node say to each other, and what happens if one is away."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from hashlight_node.api import build_application
from hashlight_node.api.errors import NodeUnavailableError, TokenMissingError
from hashlight_node.api.local import forwarding
from hashlight_node.api.local.bearer import Bearers, generate_secret
from hashlight_node.api.local.counts import collect_counts
from hashlight_node.api.local.forwarding import (
    CALLER,
    HOPS,
    open_forwarder,
    open_leader_forwarder,
)
from hashlight_node.api.local.match_events import MatchSender, accept_match_events
from hashlight_node.api.local.parts import BEARERS
from hashlight_node.api.local.reading import expect_later
from hashlight_node.api.server import port_of, start_server
from hashlight_node.exchange.looking_up import match_log
from hashlight_node.exchange.looking_up.match_log import MAX_EVENT_BYTES, MatchBuffer
from hashlight_node.metrics import Metrics
from hashlight_node.store.database import Reader
from hashlight_node.store.matches import MatchEvent
from hashlight_protocol import MalformedError
from support.stores import make_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp.typedefs import Handler

EVENTS = [MatchEvent(number, "review", "{}") for number in range(1200)]


class Log:
    """As much of a match log as is told of events."""

    def __init__(self) -> None:
        self.buffer = buffer()


def buffer() -> MatchBuffer:
    return MatchBuffer(clock=lambda: 1, on_dropped=lambda _: None)


async def listen(app: web.Application, path: Path) -> web.AppRunner:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    return runner


async def test_events_wait_until_the_node_takes_them(tmp_path: Path) -> None:
    waiting, log = buffer(), Log()
    waiting.add_events(EVENTS)
    async with open_forwarder(tmp_path / "node", most=9) as forwarder:
        sender = MatchSender(waiting, forwarder.session)
        await sender.flush()
        assert len(waiting) == len(EVENTS)
        app = web.Application()
        accept_match_events(app, log)  # type: ignore[arg-type]
        runner = await listen(app, tmp_path / "node")
        await sender.flush()
        assert len(waiting) == 0
        assert sorted(log.buffer.take(9999, 1 << 30)) == EVENTS
        async with forwarder.session.post(
            "http://node/internal/matches", json=[], headers={CALLER: "127.0.0.1"}
        ) as answer:
            assert answer.status == 500  # The frame, which words it, is not here.
        await runner.cleanup()


def counting(dropped: list[int]) -> MatchBuffer:
    return MatchBuffer(clock=lambda: 1, on_dropped=dropped.append)


async def test_large_events_are_sent_in_small_batches(tmp_path: Path) -> None:
    dropped: list[int] = []
    waiting, log = counting(dropped), Log()
    large = MatchEvent(1, "block", '"' * 85_000)
    waiting.add_events([large] * 60)
    waiting.add_events([large._replace(event="x" * (MAX_EVENT_BYTES + 1))])
    assert dropped == [1]
    app = web.Application(client_max_size=1 << 30)
    accept_match_events(app, log)  # type: ignore[arg-type]
    runner = await listen(app, tmp_path / "node")
    async with open_forwarder(tmp_path / "node", most=9) as forwarder:
        await MatchSender(waiting, forwarder.session).flush()
    assert len(waiting) == 0
    assert log.buffer.take(9999, 1 << 30) == [large] * 60
    await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "left", "lost"), [(413, 0, 1200), (429, 1200, 0), (500, 1200, 0)]
)
async def test_events_that_are_refused_for_good_are_dropped_and_counted(
    tmp_path: Path, status: int, left: int, lost: int
) -> None:
    dropped: list[int] = []
    waiting = counting(dropped)
    waiting.add_events(EVENTS)
    app = web.Application()

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=status)

    app.router.add_post("/internal/matches", refuse)
    runner = await listen(app, tmp_path / "node")
    async with open_forwarder(tmp_path / "node", most=9) as forwarder:
        await MatchSender(waiting, forwarder.session).flush()
    assert (len(waiting), sum(dropped)) == (left, lost)
    await runner.cleanup()


async def test_events_on_their_way_are_neither_lost_nor_sent_twice(
    tmp_path: Path,
) -> None:
    waiting, log = buffer(), Log()
    waiting.add_events(EVENTS)
    app = web.Application()
    came, go_on = asyncio.Event(), asyncio.Event()

    @web.middleware
    async def slowly(request: web.Request, handler: Handler) -> web.StreamResponse:
        came.set()
        await go_on.wait()
        return await handler(request)

    app.middlewares.append(slowly)
    accept_match_events(app, log)  # type: ignore[arg-type]
    runner = await listen(app, tmp_path / "node")
    async with open_forwarder(tmp_path / "node", most=9) as forwarder:
        sender = MatchSender(waiting, forwarder.session)
        sending = asyncio.create_task(sender.run())
        await came.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        go_on.set()
        await sender.flush()
    assert sorted(log.buffer.take(9999, 1 << 30)) == EVENTS
    await runner.cleanup()


def test_the_queue_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match_log, "MAX_WAITING_BYTES", 100)
    dropped: list[int] = []
    waiting = counting(dropped)
    event = MatchEvent(1, "block", "x" * 40)
    waiting.add_events([event] * 3)
    assert (len(waiting), dropped) == (2, [1])
    assert waiting.take(9, 50) == [event]
    waiting.add_events([event])
    assert (len(waiting), dropped) == (2, [1])


async def test_a_body_of_a_stranger_is_neither_invited_nor_read(tmp_path: Path) -> None:
    class Nobody:
        async def authenticate(self, _: object) -> None:
            raise TokenMissingError

    asked: list[str] = []

    async def note(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    node_app = web.Application()
    node_app.router.add_route("*", "/{path:.*}", note)
    node = await listen(node_app, tmp_path / "node")
    app = build_application(
        "local",
        metrics=Metrics(version="1", spec_version="1"),
        request_bytes=1 << 20,
        log_requests=False,
    )
    app[BEARERS] = Nobody()  # type: ignore[misc]
    async with open_forwarder(tmp_path / "node", most=9) as forwarder:
        app.router.add_route(
            "*", "/{path:.*}", forwarder.forward, expect_handler=expect_later
        )
        worker = await listen(app, tmp_path / "worker")
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "worker"))
        writer.write(
            b"POST /v1/lists HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
        writer.close()
        await writer.wait_closed()
        await worker.cleanup()
    assert asked == []
    await node.cleanup()


@pytest.mark.parametrize(("path", "most"), [("/v1/changes", 2), ("/v1/export", 4)])
async def test_a_worker_passes_on_no_more_than_its_share(
    tmp_path: Path, path: str, most: int
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        await ended.wait()
        return response

    ended = asyncio.Event()
    node_app = web.Application()
    node_app.router.add_get(path, answer)
    node = await listen(node_app, tmp_path / "node")
    app = build_application(
        "local",
        metrics=Metrics(version="1", spec_version="1"),
        request_bytes=1 << 20,
        log_requests=False,
    )
    connector = aiohttp.UnixConnector(str(tmp_path / "worker"))
    async with (
        open_forwarder(tmp_path / "node", most=4) as forwarder,
        aiohttp.ClientSession("http://worker", connector=connector) as session,
    ):
        app.router.add_get(path, forwarder.forward)
        worker = await listen(app, tmp_path / "worker")
        taken = [await session.get(path) for _ in range(most)]
        assert {it.status for it in taken} == {200}
        async with session.get(path) as refused:
            assert refused.status == 429
            assert int(refused.headers["Retry-After"]) > 0
        ended.set()
        for one in taken:
            await one.read()
        async with session.get(path) as again:
            assert again.status == 200
        await worker.cleanup()
    await node.cleanup()


async def test_a_node_that_hangs_does_not_hang_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "SILENT_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "node"))
        listening.listen()
        async with open_forwarder(tmp_path / "node", most=9) as forwarder:
            with pytest.raises(NodeUnavailableError):
                await forwarder.forward(make_mocked_request("GET", "/v1/status"))


async def test_a_worker_that_does_not_answer_is_left_out(tmp_path: Path) -> None:
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b"counts")

    app.router.add_get("/metrics", answer)
    runner = await listen(app, tmp_path / "1")
    counters = {"1": tmp_path / "1", "2": tmp_path / "2"}
    assert await collect_counts(counters) == {"1": b"counts"}
    assert await collect_counts({}) == {}
    await runner.cleanup()


@pytest.mark.parametrize("target", ["*", "http://elsewhere.example/"])
async def test_a_target_that_is_no_path_is_not_passed_on(
    tmp_path: Path, target: str
) -> None:
    async with open_forwarder(tmp_path / "node", most=9) as forwarder:
        with pytest.raises(MalformedError):
            await forwarder.forward(make_mocked_request("GET", target))
        with pytest.raises(NodeUnavailableError):
            await forwarder.forward(make_mocked_request("GET", "/v1/status"))


class Somewhere:
    """Where the leader is; not always known at first."""

    def __init__(self, *found: str | None) -> None:
        self.found = list(found)
        self.asked = 0

    async def find(self) -> str | None:
        self.asked += 1
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]


async def ask_standby(
    somewhere: Somewhere,
    headers: dict[str, str] | None = None,
    bearers: Bearers | None = None,
) -> tuple[int, bytes]:
    """Ask a process that stands by; give what it answers.

    Args:
        somewhere: Where the leader is.
        headers: Of the request.
        bearers: Who may ask; anybody if None.
    """
    async with open_leader_forwarder(somewhere.find, patience_seconds=0.4) as forwarder:
        app = build_application(
            "local",
            metrics=Metrics(version="0", spec_version="0"),
            request_bytes=1000,
            log_requests=False,
        )
        handler = forwarder.forward
        if bearers is not None:
            app[BEARERS] = bearers
            handler = forwarder.forward_with_token
        app.router.add_route("*", "/{path:.*}", handler)
        runner = await start_server(
            app, ("127.0.0.1", 0), shutdown_seconds=1, hang_up_cancels=True
        )
        url = f"http://127.0.0.1:{port_of(runner)}/v1/lists"
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, headers=headers) as answer,
        ):
            told = answer.status, await answer.read()
        await runner.cleanup()
        return told


@pytest.fixture
async def leader() -> AsyncIterator[str]:
    """Give where a leader is that tells how often a request was passed on."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=request.headers[HOPS])

    app = web.Application()
    app.router.add_get("/v1/lists", answer)
    runner = await start_server(
        app, ("127.0.0.1", 0), shutdown_seconds=1, hang_up_cancels=True
    )
    yield f"http://127.0.0.1:{port_of(runner)}"
    await runner.cleanup()


async def test_a_leader_is_looked_for_until_there_is_one(leader: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        somewhere = Somewhere(None, closed, leader)
        assert await ask_standby(somewhere) == (200, b"1")
        assert somewhere.asked == 3
        for nowhere in (None, closed):
            status, told = await ask_standby(Somewhere(nowhere))
            assert (status, b"hsf:unavailable" in told) == (503, True)


async def test_strangers_do_not_wait_for_a_leader(tmp_path: Path) -> None:
    database = Reader.open_reader(make_store(tmp_path))
    somewhere = Somewhere(None)
    unknown = {"Authorization": f"Bearer {generate_secret()}"}
    for headers in ({}, unknown):
        status, _ = await ask_standby(somewhere, headers, Bearers(database))
        assert status == 401
    assert somewhere.asked == 0
    await database.close()


async def test_a_request_is_not_passed_on_for_ever(leader: str) -> None:
    assert await ask_standby(Somewhere(leader), {HOPS: "7"}) == (200, b"8")
    status, _ = await ask_standby(Somewhere(leader), {HOPS: "8"})
    assert status == 503
    for odd in ("-1", "x", "99999999999999999999"):
        assert await ask_standby(Somewhere(leader), {HOPS: odd}) == (200, b"1")
