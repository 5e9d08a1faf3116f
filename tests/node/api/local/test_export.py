"""Everything that is live, as lines of JSON."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from hashlight_node.exchange.looking_up.exporting import export_live
from hashlight_node.store.exporting import Wanted
from support.local_api import NDJSON_TYPE, LocalApi

if TYPE_CHECKING:
    from hashlight_node.app import RunningNode

Json = dict[str, Any]

PAST, EXPIRED = "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"


def record(*signals: tuple[str, str], **more: object) -> Json:
    claims = [{"type": kind, "value": value} for kind, value in signals]
    return {
        "type": "indicator",
        "signals": claims,
        "kind": "image",
        "source": "person",
        "created": "2026-11-01T00:00:00Z",
        **more,
    }


def md5(number: int) -> tuple[str, str]:
    return "md5", f"{number:032x}"


def pdq(number: int) -> tuple[str, str]:
    return "pdq", f"{number:064x}"


async def export(api: LocalApi, query: str = "") -> list[Json]:
    reply = await api.get(f"/v1/export{query}")
    assert reply.status == 200, reply
    assert reply.headers["Content-Type"] == NDJSON_TYPE
    return [orjson.loads(line) for line in reply.content.splitlines()]


async def test_an_empty_node_exports_nothing(api: LocalApi) -> None:
    assert await export(api) == []


async def test_every_live_signal_comes_with_its_records(api: LocalApi) -> None:
    await api.create_list("ncii")
    refs = await api.publish(
        "ncii",
        record(md5(1), pdq(1), labels=[{"scheme": "ncii", "value": "adult"}]),
        record(md5(1), expires="2999-01-01T00:00:00Z"),
        record(md5(2)),
    )
    lines = {line["signal"]["value"]: line for line in await export(api)}
    assert len(lines) == 3
    shared = lines[md5(1)[1]]["records"]
    assert [it["ref"] for it in shared] == refs[:2]
    assert shared[0]["labels"] == [{"scheme": "ncii", "value": "adult"}]
    assert [it["expires"] for it in shared] == [None, "2999-01-01T00:00:00Z"]
    assert shared[0] == {
        "ref": refs[0],
        "list": "ncii",
        "origin_node": "alpha.example",
        "tree_size": 4,
        "labels": [{"scheme": "ncii", "value": "adult"}],
        "source": "person",
        "review": "none",
        "created": "2026-11-01T00:00:00Z",
        "quality": None,
        "expires": None,
    }


async def test_what_is_withdrawn_erased_or_expired_is_not_exported(
    api: LocalApi,
) -> None:
    await api.create_list("ncii")
    retracted, erased, _, _ = await api.publish(
        "ncii",
        record(md5(1)),
        record(md5(2)),
        record(md5(3), created=PAST, expires=EXPIRED),
        record(md5(4)),
    )
    await api.post("/v1/lists/ncii/retract", {"ref": retracted, "reason": "withdrawn"})
    await api.post("/v1/lists/ncii/erase", {"ref": erased, "reason": "withdrawn"})
    (line,) = await export(api)
    assert line["signal"]["value"] == md5(4)[1]


async def test_types_and_lists_can_be_chosen(api: LocalApi) -> None:
    for name, first in (("ncii", 10), ("csam", 20)):
        await api.create_list(name)
        await api.publish(name, record(md5(first), pdq(first)), record(md5(1)))

    async def found(query: str) -> list[tuple[str, int]]:
        lines = await export(api, query)
        return sorted((it["signal"]["value"], len(it["records"])) for it in lines)

    one, ten, twenty = md5(1)[1], md5(10)[1], md5(20)[1]
    assert await found("?type=md5") == [(one, 2), (ten, 1), (twenty, 1)]
    assert await found("?type=pdq&list=ncii") == [(pdq(10)[1], 1)]
    assert await found("?list=csam&type=md5") == [(one, 1), (twenty, 1)]
    assert await found("?list=alpha.example%2Fcsam&type=md5") == await found(
        "?list=csam&type=md5"
    )
    assert await found("?list=beta.example%2Fcsam") == []
    assert await found("?type=sha1") == []


@pytest.mark.parametrize(
    "query", ["?type=", "?type=UPPER", "?list=a/b/c", "?type=a&type=a", "?limit=3"]
)
async def test_other_parameters_are_refused(api: LocalApi, query: str) -> None:
    reply = await api.get(f"/v1/export{query}")
    assert (reply.status, reply.code) == (400, "invalid-parameter")


async def test_pages_of_any_size_give_the_same(
    node: RunningNode, api: LocalApi
) -> None:
    await api.create_list("ncii")
    crowd = [record(md5(number % 7), md5(100 + number)) for number in range(40)]
    await api.publish("ncii", *crowd)
    on = node.foundation

    async def pages(size: int) -> list[list[tuple[str, int]]]:
        found = export_live(
            on.database, clock=on.clock, wanted=Wanted(), page_pairs=size
        )
        async with aclosing(found):
            return [
                [(it.signal.value, it.record.ref.leaf_index) for it in page]
                async for page in found
            ]

    (whole,) = await pages(1000)
    assert len(whole) == 80
    for size in (1, 3, 40, 80):
        some = await pages(size)
        assert max(map(len, some)) <= size
        assert list(chain.from_iterable(some)) == whole


async def test_a_caller_that_hangs_up_ends_the_export(
    node: RunningNode, api: LocalApi
) -> None:
    await api.create_list("ncii")
    for first in range(0, 5000, 500):
        await api.publish(
            "ncii", *(record(md5(first + number)) for number in range(500))
        )
    headers = {"Authorization": f"Bearer {api.token}"}
    for _ in range(3):
        answer = await api.session.get(f"{api.base}/v1/export", headers=headers)
        assert await answer.content.readany()
        answer.close()
    # Nothing is left behind that would keep the store, or the node, from going on.
    async with asyncio.timeout(10):
        await node.foundation.database.scrub()
        assert len(await export(api)) == 5000
