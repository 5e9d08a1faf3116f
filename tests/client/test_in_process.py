"""A copy of all live signals in the client's own process, and a real node."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np
import orjson
import pytest
import pytest_asyncio
from aiohttp import web

from hashlight_client import (
    AsyncInProcessClient,
    BadAnswerError,
    Change,
    InProcessClient,
    NodeUnreachableError,
    ProblemError,
    Retries,
    Signal,
    clocks,
)
from hashlight_client import following as client_following
from hashlight_client.local_index import LocalIndex
from hashlight_node.app import start_node
from hashlight_node.exchange.looking_up import changes as exchange_changes
from hashlight_node.matching.exact import ExactIndex
from hashlight_node.matching.index import PdqIndex
from hashlight_node.matching.matcher import Rows
from hashlight_node.matching.snapshot import decode, encode, head_of
from hashlight_node.model import FeedMark, Scope
from support.clock import ManualClock
from support.local_api import Contract, LocalApi, add_token
from support.made_records import md5_of, pdq_of
from support.nodes import free_port, make_settings, until
from support.processes import python_path
from support.scripted_server import answer, chunks, scripted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from hashlight_node.app import RunningNode
    from hashlight_node.demo.company import Company

TOKEN = "hlt_" + "x" * 43
QUICK = Retries(patience_seconds=5, first_pause_seconds=0.01, longest_pause_seconds=0.1)


def record(number: int) -> dict[str, Any]:
    return {
        "type": "indicator",
        "kind": "image",
        "source": "hotline",
        "created": "2025-06-15T00:00:00Z",
        "signals": [
            {"type": "pdq", "value": pdq_of(number)},
            {"type": "md5", "value": md5_of(number)},
        ],
    }


def near(pdq: str, bits: int) -> str:
    """Change the last bits of a hash."""
    return f"{int(pdq, 16) ^ ((1 << bits) - 1):064x}"


def current(event_id: str, clock_ms: int = 0) -> bytes:
    """Write what a node says to those who know everything."""
    data = b'{"pdq_threshold":31,"clock_ms":%d}' % clock_ms
    return b"event: current\nid: %b\ndata: %b\n\n" % (event_id.encode(), data)


async def requests_of(api: LocalApi, route: str = "/v1/lookup") -> float:
    """Count what the node was asked."""
    metrics = (await api.get("/metrics")).content.decode()
    return sum(
        float(line.split()[-1])
        for line in metrics.splitlines()
        if "_count{" in line and f'route="{route}"' in line
    )


@pytest_asyncio.fixture
async def local(api: LocalApi) -> AsyncIterator[AsyncInProcessClient]:
    """Give a client with a copy of a node that knows ten records."""
    await api.create_list()
    await api.publish("ncii", *(record(number) for number in range(10)))
    assert api.token is not None
    async with AsyncInProcessClient(api.base, token=api.token) as client:
        yield client


async def test_what_is_not_known_is_answered_without_the_node(
    api: LocalApi, local: AsyncInProcessClient
) -> None:
    assert local.signal_count == 20
    assert 0 <= local.staleness_seconds < 30
    before = await requests_of(api)
    for number in range(100, 200):
        for signal in (f"md5:{md5_of(number)}", f"pdq:{pdq_of(number)}"):
            assert local.is_certainly_unknown(signal)
            kind, _, value = signal.partition(":")
            result = await local.lookup(Signal(kind, value.upper()))
            assert (result.is_known, result.handling) == (False, "ignore")
            assert result.query == Signal.parse(signal)
    assert await requests_of(api) == before


async def test_what_may_be_known_is_confirmed_by_the_node(
    api: LocalApi, local: AsyncInProcessClient
) -> None:
    for bits in (0, 1, 16, 31):
        query = f"pdq:{near(pdq_of(3), bits)}"
        assert not local.is_certainly_unknown(query)
        result = await local.lookup(query)
        assert result.matches[0].distance == bits
        assert result.matches[0].records
    far = f"pdq:{near(pdq_of(3), 32)}"
    assert local.is_certainly_unknown(far)
    close = f"pdq:{near(pdq_of(3), 5)}"
    assert local.is_certainly_unknown(close, max_distance=4)
    assert not local.is_certainly_unknown(close, max_distance=5)
    before = await requests_of(api)
    mixed = [f"md5:{md5_of(number)}" for number in range(5, 15)]
    answer_ = await local.lookup_many(mixed)
    assert [it.is_known for it in answer_.results] == [True] * 5 + [False] * 5
    assert [it.query.value for it in answer_.results] == [it[4:] for it in mixed]
    assert await requests_of(api) == before + 1
    with pytest.raises(ProblemError, match="body"):
        await local.lookup("md5:bad")


async def test_a_batch_of_hashes_sends_only_what_may_match(
    api: LocalApi, local: AsyncInProcessClient
) -> None:
    hashes = b"".join(
        bytes.fromhex(near(pdq_of(number), number % 8)) for number in range(300)
    )
    found = await local.lookup_pdq(hashes)
    assert [it.index for it in found] == list(range(10))
    assert [it.matches[0].distance for it in found] == [n % 8 for n in range(10)]
    before = await requests_of(api, "/v1/lookup/pdq")
    assert await local.lookup_pdq(hashes[32 * 10 :]) == []
    assert await requests_of(api, "/v1/lookup/pdq") == before


async def test_it_follows_what_is_published_and_withdrawn(
    api: LocalApi, local: AsyncInProcessClient
) -> None:
    new = f"md5:{md5_of(77)}"
    assert local.is_certainly_unknown(new)
    (ref,) = await api.publish("ncii", record(77))
    await until(lambda: not local.is_certainly_unknown(new))
    assert (await local.lookup(new)).is_known
    await local.retract(ref)
    # Never again, also in the moment in which the copy still has it.
    assert not (await local.lookup(new)).is_known
    await until(lambda: local.is_certainly_unknown(new))
    assert local.is_certainly_unknown(f"pdq:{pdq_of(77)}")
    await api.publish("ncii", record(77))
    await until(lambda: not local.is_certainly_unknown(new))
    assert (await local.lookup(new)).is_known


async def test_what_was_erased_leaves_the_copy(
    api: LocalApi, local: AsyncInProcessClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_following, "_FORGET_SECONDS", 0)
    refs = [
        match["records"][0]["ref"]
        for number in range(5)
        for match in await api.matches("md5", md5_of(number))
    ]
    for ref in refs:
        await local.erase(ref)
    await until(lambda: local.signal_count == 10)
    assert local.is_certainly_unknown(f"pdq:{pdq_of(0)}")
    assert not local.is_certainly_unknown(f"pdq:{pdq_of(7)}")


async def test_a_copy_that_is_too_old_is_not_used(
    node: RunningNode, api: LocalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_changes, "HEARTBEAT_SECONDS", 3600)
    await api.create_list()
    assert api.token is not None
    async with AsyncInProcessClient(
        api.base, token=api.token, max_staleness_seconds=0.05
    ) as client:
        await asyncio.sleep(0.1)
        unknown = f"md5:{md5_of(1)}"
        assert client.staleness_seconds > 0.05
        assert not client.is_certainly_unknown(unknown)
        before = await requests_of(api)
        assert not (await client.lookup(unknown)).is_known
        assert await client.lookup_pdq(bytes.fromhex(pdq_of(1))) == []
        assert await requests_of(api) == before + 1
        assert node.foundation.feed is not None


async def test_changes_that_are_lost_mean_a_new_copy(api: LocalApi) -> None:
    await api.create_list()
    early = (await api.get("/v1/snapshot")).content
    await api.publish("ncii", record(1))
    late = (await api.get("/v1/snapshot")).content
    lost = b"event: reset\nid: 900-1-1\ndata: {}\n\n"
    beginning, mark = (decode(raw)[0].mark.event_id for raw in (early, late))
    async with scripted(
        answer(200, early),
        chunks(current(mark), is_whole=True),
        chunks(lost, is_whole=True),
        answer(200, late),
        chunks(current(mark), is_whole=False),
    ) as script:
        async with AsyncInProcessClient(
            script.base, token=TOKEN, retries=QUICK
        ) as client:
            assert client.signal_count == 0
            await until(lambda: client.signal_count == 2)
            assert not client.is_certainly_unknown(f"md5:{md5_of(1)}")
        asked = [script.header(number, "Last-Event-ID") for number in range(5)]
        assert asked == [None, beginning, mark, None, mark]


@pytest.mark.sqlite
async def test_a_node_with_another_history_means_a_new_copy(tmp_path: Path) -> None:
    clock, settings = ManualClock(), make_settings(tmp_path, "alpha.example")
    database = tmp_path / "alpha.example" / "hashlight.db"
    backup = tmp_path / "backup.db"
    client = None
    try:
        async with start_node(settings, clock=clock) as node, session_of(node) as api:
            await api.create_list()
            await api.publish("ncii", record(1))
            with (
                closing(sqlite3.connect(database)) as there,
                closing(sqlite3.connect(backup)) as here,
            ):
                there.backup(here)
            # All of the machine, as a snapshot of it is: what was signed last, too.
            signed = shutil.copytree(settings.keys.last_signed, tmp_path / "signed")
            assert api.token is not None
            client = AsyncInProcessClient(api.base, token=api.token, retries=QUICK)
            await client.start()
            await api.publish("ncii", record(2))
            await until(lambda: client.signal_count == 4)
        clock.advance(60)
        restore(backup, database)
        shutil.rmtree(settings.keys.last_signed)
        shutil.copytree(signed, settings.keys.last_signed)
        # It counts on from the backup, beyond where the client stopped.
        async with start_node(settings, clock=clock) as node, session_of(node) as again:
            api = replace(again, token=api.token)
            await api.publish("ncii", record(3), record(4))
            await until(lambda: client.signal_count == 6, seconds=30)
            for number in (1, 3, 4):
                assert not client.is_certainly_unknown(f"md5:{md5_of(number)}")
            assert client.is_certainly_unknown(f"md5:{md5_of(2)}")
    finally:
        if client is not None:
            await client.close()


def restore(backup: Path, database: Path) -> None:
    for file in database.parent.glob(f"{database.name}*"):
        file.unlink()
    shutil.copy(backup, database)


@asynccontextmanager
async def session_of(node: RunningNode) -> AsyncIterator[LocalApi]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        base = f"http://127.0.0.1:{node.local_port}"
        async with session.get(f"{base}/v1/openapi.json") as said:
            contract = Contract(orjson.loads(await said.read()))
        token = await add_token(node.foundation.database, Scope.ADMIN)
        yield LocalApi(session, base, contract, token)


class Told:
    """A node whose feed says what a test says, when it does."""

    def __init__(self) -> None:
        self.streams: asyncio.Queue[web.StreamResponse] = asyncio.Queue()
        self.asked: list[str | None] = []

    async def snapshot(self, request: web.Request) -> web.Response:
        del request
        matcher_rows = Rows(
            np.empty(0, np.int64),
            np.empty((0, 32), np.uint8),
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            {},
        )
        head = head_of(matcher_rows, FeedMark(1, 1, 1), written_at=0)
        return web.Response(body=b"".join(encode(head, matcher_rows)))

    async def changes(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.headers.get("Last-Event-ID"))
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        await self.streams.put(stream)
        await asyncio.Event().wait()
        return stream


@asynccontextmanager
async def telling() -> AsyncIterator[tuple[Told, str]]:
    told = Told()
    app = web.Application()
    app.router.add_get("/v1/snapshot", told.snapshot)
    app.router.add_get("/v1/changes", told.changes)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield told, f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


def live_md5(number: int) -> bytes:
    data = b'{"signal_id":%d,"type":"md5","value":"%032x"}' % (number, number)
    return b"event: live\nid: %d-1-1\ndata: %b\n\n" % (number, data)


@pytest.fixture
def pause(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Give what lets our clock go on while nothing is read."""
    real, paused = clocks.now, [0.0]
    monkeypatch.setattr(clocks, "now", lambda: real() + paused[0])

    def go_on(seconds: float) -> None:
        paused[0] += seconds

    return go_on


async def test_what_lay_in_a_buffer_makes_no_copy_current(
    pause: Callable[[float], None],
) -> None:
    async with telling() as (told, base):
        client = AsyncInProcessClient(base, token=TOKEN, retries=QUICK)
        starting = asyncio.create_task(client.start())
        stream = await told.streams.get()
        await stream.write(current("1-1-1", 1_000))
        await starting
        assert client.is_certainly_unknown("md5:" + "5" * 32)
        pause(600)
        assert client.staleness_seconds > 590
        # Said long ago, read now; what became live meanwhile is still unread.
        await stream.write(current("1-1-1", 16_000))
        stream = await told.streams.get()
        assert not client.is_certainly_unknown(f"md5:{2:032x}")
        assert told.asked == ["1-1-1", "1-1-1"]
        await stream.write(live_md5(2) + current("2-1-1", 610_000))
        await until(lambda: client.is_certainly_unknown("md5:" + "5" * 32))
        assert not client.is_certainly_unknown(f"md5:{2:032x}")
        # Within one stream the node's clock tells how old the copy is.
        pause(15)
        await stream.write(current("2-1-1", 625_000))
        await until(lambda: client.staleness_seconds < 10)
        assert len(told.asked) == 2
        await client.close()


async def test_a_first_word_that_was_late_is_asked_for_again(
    pause: Callable[[float], None],
) -> None:
    async with telling() as (told, base):
        client = AsyncInProcessClient(base, token=TOKEN, retries=QUICK)
        starting = asyncio.create_task(client.start())
        stream = await told.streams.get()
        pause(600)
        await stream.write(current("1-1-1", 1_000))
        await starting
        assert not client.is_certainly_unknown("md5:" + "5" * 32)
        stream = await told.streams.get()
        await stream.write(current("1-1-1", 2_000))
        await until(lambda: client.is_certainly_unknown("md5:" + "5" * 32))
        # Ours stood still: nobody knows for how long what comes now was on its way.
        await stream.write(current("1-1-1", 602_000))
        stream = await told.streams.get()
        assert client.staleness_seconds >= 0
        await stream.write(live_md5(2) + current("2-1-1", 603_000))
        await until(lambda: not client.is_certainly_unknown(f"md5:{2:032x}"))
        await client.close()


async def test_without_a_copy_it_is_a_client_like_others(api: LocalApi) -> None:
    await api.create_list()
    await api.publish("ncii", record(1))
    assert api.token is not None
    client = AsyncInProcessClient(api.base, token=api.token)
    try:
        assert client.staleness_seconds == float("inf")
        assert client.signal_count == 0
        assert not client.is_certainly_unknown(f"md5:{md5_of(9)}")
        assert (await client.lookup(f"md5:{md5_of(1)}")).is_known
        assert not (await client.lookup(f"md5:{md5_of(9)}")).is_known
    finally:
        await client.close()


async def test_a_copy_that_cannot_be_loaded_is_an_error() -> None:
    once = Retries(patience_seconds=0)
    client = AsyncInProcessClient(
        f"http://127.0.0.1:{free_port()}", token=TOKEN, retries=once
    )
    with pytest.raises(NodeUnreachableError):
        await client.start()
    with pytest.raises(NodeUnreachableError):
        await client.start()
    await client.close()
    async with scripted(answer(200, b"not a snapshot")) as script:
        broken = AsyncInProcessClient(script.base, token=TOKEN, retries=once)
        with pytest.raises(BadAnswerError, match="snapshot"):
            async with broken:
                pass


def index_of(count: int) -> LocalIndex:
    """Make an index of PDQ hashes with the ids 1 to `count`."""
    hashes = b"".join(bytes.fromhex(pdq_of(it)) for it in range(count))
    rows = np.frombuffer(hashes, np.uint8).reshape(count, 32)
    return LocalIndex(
        PdqIndex.from_rows(np.arange(1, count + 1), rows), ExactIndex(), after="7-1-1"
    )


def test_an_index_forgets_only_what_is_dead() -> None:
    index = index_of(50)
    assert (len(index), index.after) == (50, "7-1-1")
    md5 = Signal("md5", md5_of(1))
    index.apply(
        [
            Change("8-1-1", "dead", 3, None),
            Change("9-1-1", "dead", 4, None),
            Change("10-1-1", "live", 4, Signal("pdq", pdq_of(3))),
            Change("11-1-1", "live", 99, md5),
            Change("12-1-1", "live", 100, Signal("url", "http://a.example/")),
            Change("13-1-1", "dead", 99, None),
        ]
    )
    assert index.after == "13-1-1"
    for _ in range(2):
        assert not index.may_match(Signal("pdq", pdq_of(2)), 31)
        assert index.may_match(Signal("pdq", pdq_of(3)), 31)
        assert not index.may_match(md5, 31)
        assert index.may_match(Signal("url", "http://a.example/"), 31)
        hashes = b"".join(bytes.fromhex(pdq_of(it)) for it in (2, 3, 60))
        assert index.may_match_hashes(hashes, 31) == [False, True, False]
        index.forget_dead()
        assert index.dead == 0
    assert len(index) == 50
    index.close()


def test_a_crowd_of_hits_is_never_denied() -> None:
    index = index_of(1)
    crowd = [
        Change(
            f"{number}-1-1", "live", number, Signal("pdq", near(pdq_of(0), number % 30))
        )
        for number in range(2, 60)
    ]
    index.apply(crowd)
    index.apply([Change(f"{70 + it}-1-1", "dead", it, None) for it in range(1, 59)])
    # One of them is left, behind more dead ones than are looked at.
    assert index.may_match(Signal("pdq", pdq_of(0)), 31)
    index.close()


def test_programs_without_asyncio_have_it_too(company: Company) -> None:
    company.client.post("/v1/lists/ncii/records", {"records": [record(1)]})
    base = f"http://{company.client.address}"
    with InProcessClient(base, token=company.client.token) as client:
        assert client.signal_count >= 2
        assert client.staleness_seconds < 30
        assert client.is_certainly_unknown(f"pdq:{pdq_of(5)}")
        assert not client.lookup(f"md5:{md5_of(5)}").is_known
        assert client.lookup(f"md5:{md5_of(1)}").is_known
        found = client.lookup_many([f"md5:{md5_of(1)}", f"md5:{md5_of(5)}"]).results
        assert [it.is_known for it in found] == [True, False]


def test_it_survives_a_node_that_is_killed_and_comes_back(company: Company) -> None:
    base = f"http://{company.client.address}"
    with InProcessClient(
        base, token=company.client.token, retries=QUICK, max_staleness_seconds=3600
    ) as client:
        company.kill()
        # What it knows by itself, it knows without the node, as long as it may.
        assert not client.lookup(f"md5:{md5_of(800)}").is_known
        company.start()
        company.client.post("/v1/lists/ncii/records", {"records": [record(801)]})

        async def follows() -> None:
            await until(
                lambda: not client.is_certainly_unknown(f"md5:{md5_of(801)}"),
                seconds=30,
            )

        asyncio.run(follows())
        assert client.lookup(f"md5:{md5_of(801)}").is_known


def test_importing_the_client_is_light() -> None:
    code = (
        "import sys, hashlight_client as it; assert it.Client and it.AsyncClient;"
        "heavy = {'sqlalchemy', 'pydantic', 'numpy', 'hashlight_node', 'structlog'};"
        "found = heavy & {name.partition('.')[0] for name in sys.modules};"
        "assert not found, found; it.InProcessClient;"
        "assert 'sqlalchemy' not in sys.modules;"
        "from hashlight_client import local_index;"
        "found = {'sqlalchemy', 'pydantic'} & set(sys.modules); assert not found, found"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=python_path(), check=False, cwd=Path("/")
    )
    assert done.returncode == 0
