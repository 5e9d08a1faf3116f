from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from hashlight_node.api.errors import RateLimitedError
from hashlight_node.api.local import bulk
from hashlight_node.api.local.pressure import Pressure
from support.local_api import LocalApi

if TYPE_CHECKING:
    from support.local_api import Reply

OCTETS = {"Content-Type": "application/octet-stream"}
KNOWN = bytes(range(32))
NEAR = bytes([KNOWN[0] ^ 0b1111111, *KNOWN[1:]])  # 7 bits away
UNKNOWN = bytes(0xAA ^ byte for byte in KNOWN)


async def publish(api: LocalApi, *digests: bytes) -> list[str]:
    await api.create_list()
    refs: list[str] = []
    for digest in digests:
        record = {
            "type": "indicator",
            "kind": "image",
            "source": "person",
            "created": "2026-11-21T09:30:00Z",
            "signals": [{"type": "pdq", "value": digest.hex()}],
        }
        refs += await api.publish("ncii", record)
    return refs


async def ask(api: LocalApi, body: bytes, query: str = "") -> Reply:
    return await api.send("POST", f"/v1/lookup/pdq{query}", data=body, headers=OCTETS)


def lines_of(reply: Reply) -> list[dict[str, Any]]:
    assert reply.status == 200, reply
    assert reply.headers["Content-Type"] == "application/x-ndjson"
    return [orjson.loads(line) for line in reply.content.splitlines()]


async def test_each_hash_that_matches_has_a_line(api: LocalApi) -> None:
    await publish(api, KNOWN)
    lines = lines_of(await ask(api, UNKNOWN + KNOWN + UNKNOWN + NEAR))
    assert [line["index"] for line in lines] == [1, 3]
    assert [line["matches"][0]["distance"] for line in lines] == [0, 7]
    assert [line["truncated"] for line in lines] == [False, False]
    assert {line["handling"] for line in lines} == {"review"}


async def test_a_line_says_what_a_lookup_of_the_hash_says(api: LocalApi) -> None:
    await publish(api, KNOWN, NEAR)
    (line,) = lines_of(await ask(api, KNOWN))
    query = {"type": "pdq", "value": KNOWN.hex()}
    reply = await api.post("/v1/lookup", {"queries": [query]})
    (result,) = reply.json["results"]
    assert result.pop("query") == query
    assert line == {"index": 0, **result}


async def test_hashes_that_match_nothing_give_an_empty_answer(api: LocalApi) -> None:
    assert lines_of(await ask(api, UNKNOWN * 3)) == []


async def test_indexes_count_through_all_slices(
    api: LocalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_SLICE", 4)
    monkeypatch.setattr(bulk, "_FEW", 2)
    await publish(api, KNOWN)
    lines = lines_of(await ask(api, KNOWN * 10 + UNKNOWN * 5 + KNOWN))
    assert [line["index"] for line in lines] == [*range(10), 15]


async def test_what_is_withdrawn_matches_no_more(api: LocalApi) -> None:
    (ref,) = await publish(api, KNOWN)
    assert len(lines_of(await ask(api, KNOWN))) == 1
    body = {"ref": ref, "reason": "withdrawn"}
    await api.post("/v1/lists/ncii/retract", body)
    assert lines_of(await ask(api, KNOWN)) == []


@pytest.mark.parametrize(
    ("query", "found"), [("", 1), ("?max_distance=6", 0), ("?max_distance=7", 1)]
)
async def test_the_distance_can_be_narrowed(
    api: LocalApi, query: str, found: int
) -> None:
    await publish(api, KNOWN)
    assert len(lines_of(await ask(api, NEAR, query))) == found


@pytest.mark.parametrize(
    "query", ["?max_distance=32", "?max_distance=-1", "?max_distance=", "?more=1"]
)
async def test_parameters_are_checked(api: LocalApi, query: str) -> None:
    assert (await ask(api, KNOWN, query)).code == "invalid-parameter"


@pytest.mark.parametrize("body", [b"", KNOWN[:31], KNOWN + b"\0"])
async def test_what_are_no_hashes_is_refused(api: LocalApi, body: bytes) -> None:
    assert (await ask(api, body)).code == "invalid-body"


async def test_bodies_of_another_type_are_refused(api: LocalApi) -> None:
    reply = await api.post("/v1/lookup/pdq", {})
    assert reply.code == "unsupported-media"


async def test_a_limit_is_told(api: LocalApi) -> None:
    most = bulk.MAX_HASHES * bulk.HASH_BYTES
    assert lines_of(await ask(api, bytes(most))) == []
    reply = await ask(api, bytes(most + 32))
    assert (reply.code, reply.json["limit"]) == ("too-large", most)


async def test_batches_are_counted(api: LocalApi) -> None:
    await publish(api, KNOWN)
    await ask(api, KNOWN + UNKNOWN * 4)
    text = (await api.get("/metrics")).content.decode()
    assert 'hashlight_lookups_total{outcome="matched"} 1.0' in text
    assert 'hashlight_lookups_total{outcome="unmatched"} 4.0' in text


# ------------------------------------------------------------------------- overload


async def test_a_full_line_refuses_batches_and_never_singles(
    api: LocalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = RateLimitedError(1)

    def refuse(_: Pressure) -> None:
        raise full

    monkeypatch.setattr(Pressure, "check", refuse)
    query = {"type": "md5", "value": "00" * 16}
    for reply in (
        await ask(api, KNOWN),
        await api.post("/v1/lookup", {"queries": [query, query]}),
    ):
        assert (reply.status, reply.code) == (429, "rate-limited")
        assert reply.headers["Retry-After"] == "1"
    for _ in range(2):
        assert (await api.post("/v1/lookup", {"queries": [query]})).status == 200


async def test_turns_are_taken_in_order_and_only_so_many_at_once() -> None:
    pressure = Pressure(at_once=2, in_line=5)
    running: list[int] = []
    most: list[int] = []
    release = asyncio.Event()

    async def work(number: int) -> None:
        async with pressure.turn():
            running.append(number)
            most.append(len(running))
            await release.wait()
            running.remove(number)

    tasks = [asyncio.create_task(work(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert running == [0, 1]
    with pytest.raises(RateLimitedError) as refused:
        await work(5)
    assert refused.value.retry_after_seconds == 1
    release.set()
    await asyncio.gather(*tasks)
    assert max(most) == 2
    await work(6)


async def test_a_request_that_was_let_in_is_not_refused_half_way() -> None:
    pressure = Pressure(at_once=1, in_line=1)
    async with pressure.turn():
        with pytest.raises(RateLimitedError):
            pressure.check()
        waiting = asyncio.create_task(_take(pressure))
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting
    pressure.check()


async def _take(pressure: Pressure) -> None:
    async with pressure.turn(is_new=False):
        pass
