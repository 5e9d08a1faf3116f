"""The feed of changes: resumed wherever it breaks, without a gap."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from hashlight_client import (
    AsyncClient,
    BadAnswerError,
    Change,
    ChangesLostError,
    Client,
    NodeUnreachableError,
    ProblemError,
    Retries,
    Signal,
)
from support.made_records import md5_of
from support.nodes import free_port
from support.scripted_server import HANG_UP, answer, chunks, scripted

if TYPE_CHECKING:
    from hashlight_node.demo.company import Company
    from support.local_api import LocalApi

TOKEN = "hlt_" + "x" * 43
QUICK = Retries(
    patience_seconds=20, first_pause_seconds=0.001, longest_pause_seconds=0.01
)


def record(number: int) -> dict[str, Any]:
    return {
        "type": "indicator",
        "kind": "image",
        "source": "hotline",
        "created": "2025-06-15T00:00:00Z",
        "signals": [{"type": "md5", "value": md5_of(number)}],
    }


def live(seq: int) -> bytes:
    data = b'{"signal_id":%d,"type":"md5","value":"%d"}' % (seq, seq)
    return b"event: live\nid: %d-1-1\ndata: %b\n\n" % (seq, data)


async def first(client: AsyncClient, count: int, after: str | None) -> list[Change]:
    found: list[Change] = []
    async with aclosing(client.changes(after=after)) as changes:
        async for change in changes:
            found.append(change)
            if len(found) == count:
                break
    return found


async def test_what_is_published_and_withdrawn_is_told(
    api: LocalApi, client: AsyncClient
) -> None:
    await api.create_list()
    (ref,) = await api.publish("ncii", record(1))
    await client.retract(ref)
    await api.publish("ncii", record(2))
    found = await first(client, 3, after="0")
    assert [(it.id.split("-")[0], it.kind) for it in found] == [
        ("1", "dead"),
        ("2", "dead"),
        ("3", "live"),
    ]
    assert await first(client, 1, after=found[1].id) == found[2:]
    other_history = f"{found[1].id}0"
    with pytest.raises(ChangesLostError) as lost:
        await first(client, 1, after=other_history)
    assert lost.value.after == other_history
    assert found[2].signal == Signal("md5", md5_of(2))
    assert found[0].signal_id == found[1].signal_id
    following = asyncio.create_task(first(client, 1, after=None))
    while not following.done():
        await api.publish("ncii", record(3))
        await asyncio.sleep(0.05)
    assert (await following)[0].signal == Signal("md5", md5_of(3))


async def test_a_feed_goes_on_behind_the_last_change_that_was_given() -> None:
    half = live(13)[:20]
    async with scripted(
        chunks(b": nothing new\nid: 10-1-1\n\n", is_whole=True),
        answer(503),
        chunks(live(11), live(12), half, is_whole=False),
        HANG_UP,
        chunks(live(13), is_whole=True),
    ) as script:
        async with AsyncClient(script.base, token=TOKEN, retries=QUICK) as client:
            found = await first(client, 3, None)
            assert [it.id for it in found] == ["11-1-1", "12-1-1", "13-1-1"]
        asked = [script.header(number, "Last-Event-ID") for number in range(5)]
        assert asked == [None, "10-1-1", "10-1-1", "12-1-1", "12-1-1"]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"event: reset\nid: 9\ndata: {}\n\n", ChangesLostError),
        (b"event: other\nid: 9-1-1\ndata: {}\n\n", BadAnswerError),
        (b"event: live\nid: 9-1-1\ndata: {}\n\n", BadAnswerError),
        (live(9).replace(b"9-1-1", b"9"), BadAnswerError),
        (b"event: live\nid: x\ndata: {}\n\n", BadAnswerError),
        (b"event: live\nid: 9-1-1\ndata: [\n\n", BadAnswerError),
    ],
)
async def test_what_is_lost_or_unknown_is_an_error(
    said: bytes, error: type[Exception]
) -> None:
    async with (
        scripted(chunks(said, is_whole=True)) as script,
        AsyncClient(script.base, token=TOKEN, retries=QUICK) as client,
    ):
        with pytest.raises(error):
            await first(client, 1, "3-1-1")


async def test_patience_with_a_node_that_is_away_ends() -> None:
    once = Retries(patience_seconds=0)
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with AsyncClient(nowhere, token=TOKEN, retries=once) as client:
        with pytest.raises(NodeUnreachableError):
            await first(client, 1, None)
    async with (
        scripted(answer(401)) as script,
        AsyncClient(script.base, token=TOKEN, retries=QUICK) as client,
    ):
        with pytest.raises(ProblemError):
            await first(client, 1, None)


def test_programs_without_asyncio_follow_too(
    company: Company, sync_client: Client
) -> None:
    company.client.post("/v1/lists/ncii/records", {"records": [record(1), record(2)]})
    changes = sync_client.changes(after="0")
    assert [next(changes).kind for _ in range(2)] == ["live", "live"]
    changes.close()
