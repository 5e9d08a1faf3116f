"""Following what becomes live or dead, and the snapshot to begin with."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import pytest

from hashlight_node.exchange.looking_up import changes as exchange_changes
from hashlight_node.matching.snapshot import decode
from hashlight_node.model import FeedMark, Scope, signal_digest
from hashlight_node.store import changes as feed
from support.clock import ManualClock
from support.local_api import add_token
from support.made_records import md5_of, pdq_of
from support.nodes import until
from support.stores import INDEX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp

    from hashlight_node.app import RunningNode
    from support.local_api import Json, LocalApi


def record(number: int) -> Json:
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


class Event(NamedTuple):
    name: str
    seq: int
    data: Any
    id: str = ""


class Stream:
    """Reads events the way a browser does."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def block(self) -> dict[str, str] | None:
        """Read up to an empty line; None at the end."""
        fields: dict[str, str] = {}
        async for raw in self.answer.content:
            line = raw.decode().rstrip("\n")
            if not line:
                return fields
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        return None

    async def event(self) -> Event:
        while (fields := await self.block()) is not None:
            if fields.get("event", "current") != "current":
                data = orjson.loads(fields["data"])
                mark = FeedMark.parse(fields["id"])
                return Event(fields["event"], mark.seq, data, mark.event_id)
        message = "the stream has ended"
        raise AssertionError(message)

    async def events(self, count: int) -> list[Event]:
        async with asyncio.timeout(10):
            return [await self.event() for _ in range(count)]


@asynccontextmanager
async def following(
    api: LocalApi, query: str = "", **headers: str
) -> AsyncIterator[Stream]:
    sent = {"Authorization": f"Bearer {api.token}", **headers}
    url = f"{api.base}/v1/changes{query}"
    async with api.session.get(url, headers=sent) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/event-stream"
        yield Stream(answer)


async def test_a_reader_hears_of_everything_that_changes(api: LocalApi) -> None:
    await api.create_list()
    async with following(api) as stream:
        beginning = await stream.block()
        assert beginning == {"": "nothing new", "id": "0-0-0"}
        (ref,) = await api.publish("ncii", record(1))
        came = await stream.events(2)
        assert [(it.name, it.seq) for it in came] == [("live", 1), ("live", 2)]
        values = {it.data["type"]: it.data["value"] for it in came}
        assert values == {"pdq": pdq_of(1), "md5": md5_of(1)}
        await api.post("/v1/lists/ncii/retract", {"ref": ref, "reason": "withdrawn"})
        went = await stream.events(2)
        assert {(it.name, it.data["signal_id"]) for it in went} == {
            ("dead", it.data["signal_id"]) for it in came
        }
        assert all(set(it.data) == {"signal_id"} for it in went)


async def test_a_reader_goes_on_where_it_stopped(api: LocalApi) -> None:
    await api.create_list()
    await api.publish("ncii", *(record(n) for n in range(3)))
    async with following(api, "?after=0") as stream:
        everything = await stream.events(6)
    async with following(api, f"?after={everything[3].id}") as stream:
        assert await stream.events(2) == everything[4:]
    # The header is what a browser sends by itself, to the same address as before.
    async with following(
        api, "?after=0", **{"Last-Event-ID": everything[4].id}
    ) as stream:
        assert await stream.events(1) == everything[5:]


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?after=x", {}),
        ("?after=-1", {}),
        ("?after=1&after=2", {}),
        ("?after=1-2", {}),
        ("?after=1-2-3-4", {}),
        ("?since=1", {}),
        ("", {"Last-Event-ID": "one"}),
    ],
)
async def test_where_to_go_on_is_an_id(
    api: LocalApi, query: str, headers: dict[str, str]
) -> None:
    reply = await api.send("GET", f"/v1/changes{query}", headers=headers)
    assert (reply.status, reply.code) == (400, "invalid-parameter")


async def test_a_reader_that_was_away_too_long_is_told_to_begin_anew(
    node: RunningNode, api: LocalApi
) -> None:
    clock = node.foundation.clock
    assert isinstance(clock, ManualClock)
    await api.create_list()
    await api.publish("ncii", record(1))
    async with following(api, "?after=0") as stream:
        known = await stream.events(2)
    clock.advance(8 * 86_400)
    await api.publish("ncii", record(2))
    await node.foundation.feed.prune()
    async with following(api, f"?after={known[0].id}") as stream:
        (reset,) = await stream.events(1)
        assert (reset.name, reset.seq, reset.data) == ("reset", 4, {})
        await api.publish("ncii", record(3))
        assert [it.seq for it in await stream.events(2)] == [5, 6]
    async with following(api, f"?after={reset.id}") as stream:
        assert [it.seq for it in await stream.events(2)] == [5, 6]


async def test_a_reader_of_another_history_begins_anew(api: LocalApi) -> None:
    await api.create_list()
    await api.publish("ncii", *(record(n) for n in range(2)))
    async with following(api, "?after=0") as stream:
        everything = await stream.events(4)
    mark = FeedMark.parse(everything[1].id)
    others = (
        # From the future, and as long as ours but otherwise than ours: of a database
        # that came back from a backup since.
        mark._replace(seq=7).event_id,
        mark._replace(signal_id=mark.signal_id + 1).event_id,
        mark._replace(changed_at=mark.changed_at - 1).event_id,
        FeedMark(0, 1, 1).event_id,
        # A number alone does not say of which history it is.
        "2",
    )
    for other in others:
        async with following(api, f"?after={other}") as stream:
            assert [it.name for it in await stream.events(1)] == ["reset"]


async def test_a_reader_that_is_overtaken_by_forgetting_begins_anew(
    node: RunningNode, api: LocalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_changes, "_PAGE", 1)
    clock = node.foundation.clock
    assert isinstance(clock, ManualClock)
    await api.create_list()
    await api.publish("ncii", record(1), record(2))
    stream = node.foundation.feed.read(FeedMark())
    assert (await anext(stream)).mark.seq == 0
    assert (await anext(stream)).mark.seq == 1
    clock.advance(8 * 86_400)
    await node.foundation.feed.prune()
    news = await anext(stream)
    assert (news.mark.seq, news.changes, news.is_reset) == (4, (), True)
    await stream.aclose()


async def test_silence_is_filled(
    api: LocalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_changes, "HEARTBEAT_SECONDS", 0.01)
    async with following(api) as stream:
        assert await stream.block() == {"": "nothing new", "id": "0-0-0"}
        times: list[int] = []
        for _ in range(3):
            block = await stream.block()
            assert block is not None
            data = orjson.loads(block.pop("data"))
            assert block == {"event": "current", "id": "0-0-0"}
            times.append(data.pop("clock_ms"))
            assert data == {"pdq_threshold": 31}
        assert times == sorted(times)
        assert times[0] < times[-1] <= time.monotonic() * 1000


async def test_a_reader_is_told_when_it_knows_everything(
    api: LocalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_changes, "_PAGE", 4)
    await api.create_list()
    await api.publish("ncii", *(record(n) for n in range(3)))
    async with following(api, "?after=0") as stream:
        blocks = [await stream.block() for _ in range(8)]
        told = [
            block and (block.get("event"), FeedMark.parse(block["id"]).seq)
            for block in blocks
        ]
        assert told == [
            (None, 0),
            *(("live", seq) for seq in range(1, 7)),
            ("current", 6),
        ]


async def test_a_stream_ends_with_its_token(
    node: RunningNode, api: LocalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_changes, "HEARTBEAT_SECONDS", 0.01)
    secret = await add_token(node.foundation.database, Scope.LOOKUP)
    tokens = (await api.get("/v1/tokens")).json["tokens"]
    async with following(api.with_token(secret)) as stream:
        assert await stream.block() is not None
        await api.delete(f"/v1/tokens/{tokens[-1]['id']}")
        async with asyncio.timeout(10):
            while await stream.block() is not None:
                pass


async def test_streams_end_when_the_node_stops(
    node: RunningNode, api: LocalApi
) -> None:
    async with following(api) as stream:
        assert await stream.block() is not None
        assert await stream.block() is not None
        node.foundation.feed.close()
        assert await stream.block() is None
    async with following(api) as stream:
        assert await stream.block() is not None
        assert await stream.block() is None


async def test_many_readers_hear_of_the_same_change(api: LocalApi) -> None:
    await api.create_list()

    async def read() -> list[Event]:
        async with following(api, "?after=0") as stream:
            return await stream.events(2)

    readers = [asyncio.create_task(read()) for _ in range(30)]
    await asyncio.sleep(0)
    await api.publish("ncii", record(1))
    assert len({str(it) for it in await asyncio.gather(*readers)}) == 1


async def test_a_reader_that_hangs_up_leaves_nothing_behind(
    api: LocalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_changes, "HEARTBEAT_SECONDS", 0.01)
    running = len(asyncio.all_tasks())
    async with following(api) as stream:
        assert await stream.block() is not None
    await until(lambda: len(asyncio.all_tasks()) <= running)


async def test_the_snapshot_is_what_is_live(node: RunningNode, api: LocalApi) -> None:
    await api.create_list()
    refs = await api.publish("ncii", *(record(n) for n in range(5)))
    await api.post("/v1/lists/ncii/erase", {"ref": refs[2], "reason": "withdrawn"})
    reply = await api.get("/v1/snapshot")
    assert reply.status == 200
    head, rows = decode(reply.content)
    live = [0, 1, 3, 4]
    assert {it.tobytes().hex() for it in rows.pdq_hashes} == {pdq_of(n) for n in live}
    assert set(rows.exact_digests.tolist()) == {
        signal_digest("md5", md5_of(n)) for n in live
    }
    assert bytes.fromhex(pdq_of(2)) not in reply.content
    newest = await node.foundation.database.read(feed.newest_mark)
    assert head.mark == newest
    await api.publish("ncii", record(7))
    async with following(api, f"?after={head.mark.event_id}") as stream:
        values = {it.data["value"] for it in await stream.events(2)}
        assert values == {pdq_of(7), md5_of(7)}


async def test_both_need_the_scope_of_lookups(node: RunningNode, api: LocalApi) -> None:
    secret = await add_token(node.foundation.database, Scope.AUDIT)
    for path in ("/v1/changes", "/v1/snapshot"):
        assert (await api.with_token(secret).get(path)).code == "scope-missing"
        assert (await api.without_token().get(path)).code == "token-missing"


async def test_what_is_erased_is_in_no_file(
    node: RunningNode, api: LocalApi, tmp_path: Path
) -> None:
    await api.create_list()
    refs = await api.publish("ncii", *(record(n) for n in range(4)))
    await node.foundation.snapshots.save()
    assert find_in_files(tmp_path, 1)
    await api.post("/v1/lists/ncii/erase", {"ref": refs[1], "reason": "withdrawn"})
    assert find_in_files(tmp_path, 1) == []
    assert INDEX in find_in_files(tmp_path, 2)


def find_in_files(directory: Path, number: int) -> list[str]:
    """Name the files in which a value of a record stands."""
    raw = bytes.fromhex(pdq_of(number))
    values = (raw, raw.hex().encode(), md5_of(number).encode())
    files = [it for it in directory.rglob("*") if it.is_file()]
    return [it.name for it in files if any(one in it.read_bytes() for one in values)]
