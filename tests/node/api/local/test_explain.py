"""Why something was answered: the log of matches, and explanations."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from sqlalchemy import text

from hashlight_node.exchange.looking_up import explain as exchange_explain
from hashlight_node.exchange.looking_up import match_log
from hashlight_node.metrics import render_metrics
from hashlight_node.model import Scope
from hashlight_node.store import logs, matches
from hashlight_protocol import (
    encode_timestamp,
    leaf_hash,
    parse_receipt,
    verify_inclusion,
)
from support.clock import START, ManualClock
from support.local_api import add_token, run_node
from support.made_records import md5_of, pdq_of
from support.stores import reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hashlight_node.app import RunningNode
    from support.local_api import Json, LocalApi

LOGGING = """
[matching]
log_matches = true
[[policy.rules]]
list = "other"
handling = "ignore"
[[policy.rules]]
list = "ncii"
review = "none"
handling = "block"
"""


def record(number: int, **members: Any) -> Json:  # noqa: ANN401
    return {
        "type": "indicator",
        "kind": "image",
        "source": "hotline",
        "created": encode_timestamp(START),
        "signals": [
            {"type": "pdq", "value": pdq_of(number)},
            {"type": "md5", "value": md5_of(number)},
        ],
        **members,
    }


def md5_query(*numbers: int) -> Json:
    return {"queries": [{"type": "md5", "value": md5_of(it)} for it in numbers]}


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[tuple[RunningNode, LocalApi]]:
    async with run_node(tmp_path, LOGGING) as both:
        await both[1].create_list()
        yield both


@pytest.fixture
def clock(node: RunningNode) -> ManualClock:
    clock = node.foundation.clock
    assert isinstance(clock, ManualClock)
    return clock


async def flush(node: RunningNode) -> None:
    assert node.foundation.match_log is not None
    await node.foundation.match_log.flush()


async def logged(node: RunningNode, api: LocalApi) -> list[Json]:
    await flush(node)
    reply = await api.get("/v1/matches")
    assert reply.status == 200, reply
    found: list[Json] = reply.json["matches"]
    return found


async def test_what_matched_is_written_down_without_its_value(
    node: RunningNode, api: LocalApi, tmp_path: Path
) -> None:
    refs = await api.publish("ncii", record(1), record(1))
    reply = await api.post("/v1/lookup", md5_query(1, 2))
    found = await logged(node, api)
    assert found == [
        {
            "id": 1,
            "matched_at": encode_timestamp(START),
            "request_id": reply.headers["X-Request-Id"],
            "type": "md5",
            "handling": "block",
            "matches": [
                {
                    "signal_id": found[0]["matches"][0]["signal_id"],
                    "distance": 0,
                    "threshold": 0,
                    "opinion": "seed",
                    "handling": "block",
                    "allowed": False,
                    "flooded": False,
                    "rule": 1,
                    "because": "rule",
                    "decided_by": refs[0],
                    "records": refs,
                    "more_records": 0,
                }
            ],
            "more_matches": 0,
            "truncated": False,
        }
    ]
    with reading(tmp_path / "alpha.example") as rows:
        (event,) = rows.execute(text("SELECT event FROM matches")).one()
    assert md5_of(1) not in event


async def test_every_way_to_look_up_is_written_down(
    node: RunningNode, api: LocalApi
) -> None:
    await api.publish("ncii", record(1))
    await api.post("/v1/lookup", md5_query(1))
    pdq = bytes.fromhex(pdq_of(1))
    octets = {"Content-Type": "application/octet-stream"}
    reply = await api.send(
        "POST", "/v1/lookup/pdq", data=bytes(32) + pdq, headers=octets
    )
    assert reply.status == 200
    found = await logged(node, api)
    assert [it["type"] for it in found] == ["md5", "pdq"]
    # Neither what does not match nor what is asked to explain is a match.
    await api.post("/v1/lookup", md5_query(2))
    await api.post("/v1/explain", {"type": "md5", "value": md5_of(1)})
    await api.post("/v1/lookup", {**md5_query(1), "as_of": encode_timestamp(START)})
    assert await logged(node, api) == found


async def test_matches_come_in_pages(node: RunningNode, api: LocalApi) -> None:
    await api.publish("ncii", record(1))
    for _ in range(5):
        await api.post("/v1/lookup", md5_query(1))
    await flush(node)
    ids: list[int] = []
    # The id of an event, which `after` may be elsewhere.
    assert (await api.get("/v1/matches?after=1-2-3")).code == "invalid-parameter"
    path = "/v1/matches?limit=2"
    while path:
        page = (await api.get(path)).json
        ids += [it["id"] for it in page["matches"]]
        cursor = page["next_cursor"]
        path = f"/v1/matches?limit=2&cursor={cursor}" if cursor else ""
    assert ids == [1, 2, 3, 4, 5]


async def test_a_match_is_explained_months_later(
    node: RunningNode, api: LocalApi, clock: ManualClock
) -> None:
    refs = await api.publish("ncii", record(1), record(2), record(3))
    await api.post("/v1/lookup", {"queries": [{"type": "pdq", "value": pdq_of(1)}]})
    (then,) = (await api.post("/v1/lookup", md5_query(1))).json["lists"]
    await flush(node)
    clock.advance(90 * 86_400)
    await api.publish("ncii", *(record(n) for n in range(10, 30)))
    body = {"ref": refs[0], "reason": "withdrawn"}
    await api.post("/v1/lists/ncii/retract", body)
    explained = (await api.get("/v1/matches/1")).json
    assert explained["match"]["id"] == 1
    assert explained["policy"]["rules"][1] == {
        "list": "ncii",
        "review": "none",
        "handling": "block",
    }
    (signal,) = explained["signals"]
    assert signal["signal"] == {"type": "pdq", "value": pdq_of(1)}
    assert signal["rule_text"] == explained["policy"]["rules"][1]
    (state,) = explained["lists"]
    assert state == {
        "origin": then["origin"],
        "tree_size": then["tree_size"],
        "root_hash": then["root_hash"],
        "applied_at": encode_timestamp(START),
    }
    (proven,) = explained["records"]
    assert (proven["ref"], proven["state"]) == (refs[0], "retracted")
    assert proven["withdrawn_at"] == encode_timestamp(clock.now)
    assert proven["proof"]["tree_size"] == then["tree_size"]
    assert proven["proof"]["root_hash"] == then["root_hash"]
    await verify_proof(node, proven)
    assert explained["more_records"] == 0


async def verify_proof(node: RunningNode, proven: Json) -> None:
    """Check that the record's entry was in the tree of then."""
    origin, _, index = proven["ref"].rpartition("#")
    proof = proven["proof"]
    assert proof["leaf_index"] == int(index)
    receipt = parse_receipt(proven["receipt"].encode())
    assert receipt.leaf_index == int(index)
    log = await node.foundation.database.read(lambda conn: logs.find_log(conn, origin))
    assert log is not None
    entry = await node.foundation.database.read(
        lambda conn: logs.read_entry(conn, log.log_id, int(index))
    )
    assert entry is not None
    verify_inclusion(
        leaf_hash(entry),
        [bytes.fromhex(it) for it in proof["hashes"]],
        leaf_index=int(index),
        tree_size=proof["tree_size"],
        root_hash=bytes.fromhex(proof["root_hash"]),
    )


async def test_what_was_erased_is_explained_no_more(
    node: RunningNode, api: LocalApi
) -> None:
    refs = await api.publish("ncii", record(1))
    await api.post("/v1/lookup", md5_query(1))
    await flush(node)
    body = {"ref": refs[0], "reason": "withdrawn"}
    await api.post("/v1/lists/ncii/erase", body)
    reply = await api.get("/v1/matches/1")
    assert md5_of(1).encode() not in reply.content
    (signal,) = reply.json["signals"]
    assert signal["signal"] is None
    (proven,) = reply.json["records"]
    assert (proven["state"], proven["receipt"]) == ("erased", None)
    assert proven["problem"] == "erased"
    # That it was there, whatever it said, can be proven still.
    assert proven["proof"] is not None


async def test_a_signal_is_explained_now(api: LocalApi) -> None:
    (ref,) = await api.publish("ncii", record(1))
    reply = await api.post("/v1/explain", {"type": "md5", "value": md5_of(1)})
    assert reply.status == 200, reply
    explained = reply.json
    looked_up = (await api.post("/v1/lookup", md5_query(1))).json
    assert explained["result"] == looked_up["results"][0]
    assert explained["lists"] == looked_up["lists"]
    (decision,) = explained["decisions"]
    assert decision == {
        "signal": {"type": "md5", "value": md5_of(1)},
        "handling": "block",
        "rule": 1,
        "rule_text": {"list": "ncii", "review": "none", "handling": "block"},
        "because": "rule",
        "ref": ref,
    }
    (proven,) = explained["records"]
    assert (proven["ref"], proven["state"], proven["proof"]) == (ref, "live", None)
    assert parse_receipt(proven["receipt"].encode()).leaf_index == 1


async def test_a_signal_is_explained_as_of_then(
    node: RunningNode, api: LocalApi, clock: ManualClock
) -> None:
    (ref,) = await api.publish("ncii", record(1))
    clock.advance(10)
    body = {"ref": ref, "reason": "withdrawn"}
    await api.post("/v1/lists/ncii/retract", body)
    asked = {"type": "pdq", "value": pdq_of(1), "as_of": encode_timestamp(START)}
    explained = (await api.post("/v1/explain", asked)).json
    (state,) = explained["lists"]
    assert (state["tree_size"], state["erased_since"]) == (2, 0)
    (proven,) = explained["records"]
    assert (proven["state"], proven["proof"]["tree_size"]) == ("retracted", 2)
    await verify_proof(node, proven)
    asked = {**asked, "as_of": encode_timestamp(clock.now + 1)}
    assert (await api.post("/v1/explain", asked)).code == "invalid-body"
    del asked["as_of"]
    now = (await api.post("/v1/explain", asked)).json
    assert (now["result"]["matches"], now["records"]) == ([], [])


async def test_an_explanation_proves_no_more_than_it_says(
    node: RunningNode, api: LocalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_explain, "MAX_PROVEN", 3)
    monkeypatch.setattr(match_log, "RECORDS_LOGGED", 4)
    monkeypatch.setattr(match_log, "MATCHES_LOGGED", 1)
    await api.publish("ncii", *(record(1) for _ in range(6)))
    near = {**record(2)}
    near["signals"] = [{"type": "pdq", "value": f"{int(pdq_of(1), 16) ^ 1:064x}"}]
    await api.publish("ncii", near)
    await api.post("/v1/lookup", {"queries": [{"type": "pdq", "value": pdq_of(1)}]})
    explained = (await api.post("/v1/explain", record(1)["signals"][0])).json
    assert (len(explained["records"]), explained["more_records"]) == (3, 4)
    await flush(node)
    found = (await api.get("/v1/matches/1")).json
    assert found["match"]["more_matches"] == 1
    assert found["match"]["matches"][0]["more_records"] == 2
    assert (len(found["records"]), found["more_records"]) == (3, 3)


async def test_a_match_that_does_not_exist_is_not_found(api: LocalApi) -> None:
    assert (await api.get("/v1/matches/7")).code == "not-found"
    assert (await api.get("/v1/matches")).json == {"matches": [], "next_cursor": None}


async def test_explaining_needs_the_scope_of_auditors(
    node: RunningNode, api: LocalApi
) -> None:
    secret = await add_token(node.foundation.database, Scope.LOOKUP)
    caller = api.with_token(secret)
    body = {"type": "md5", "value": md5_of(1)}
    assert (await caller.post("/v1/explain", body)).code == "scope-missing"
    for path in ("/v1/matches", "/v1/matches/1"):
        assert (await caller.get(path)).code == "scope-missing"


async def test_what_does_not_fit_is_dropped_and_counted(
    node: RunningNode, api: LocalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(match_log, "MAX_WAITING", 2)
    await api.publish("ncii", record(1))
    log = node.foundation.match_log
    assert log is not None
    await flush(node)
    async with log._storing:  # noqa: SLF001 - as if the disk were busy
        await api.post("/v1/lookup", md5_query(1, 1, 1, 1, 1))
        assert len(log.buffer) == 2
    assert len(await logged(node, api)) == 2
    metrics = render_metrics(node.foundation.metrics).decode()
    assert "hashlight_unlogged_matches_total 3.0" in metrics


async def test_what_cannot_be_stored_waits(
    node: RunningNode, api: LocalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.publish("ncii", record(1))
    log = node.foundation.match_log
    assert log is not None
    await flush(node)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patched:
        patched.setattr(matches, "insert_matches", refuse)
        # Held, so that the node's own flush does not meet the refusal.
        log.buffer.add_events([matches.MatchEvent(START, "block", "{}")])
        with pytest.raises(OSError, match="broken"):
            await log.flush()
        assert len(log.buffer) == 1
    log.buffer.take(1, 9999)


async def test_old_matches_are_forgotten_and_numbers_never_used_again(
    node: RunningNode, api: LocalApi, clock: ManualClock
) -> None:
    await api.publish("ncii", record(1))
    for _ in range(3):
        await api.post("/v1/lookup", md5_query(1))
        await flush(node)
        clock.advance(200 * 86_400)
    log = node.foundation.match_log
    assert log is not None
    await log.prune()
    assert [it["id"] for it in await logged(node, api)] == [3]
    clock.advance(9000 * 86_400)
    await log.prune()
    assert [it["id"] for it in await logged(node, api)] == [3]
    await api.post("/v1/lookup", md5_query(1))
    assert [it["id"] for it in await logged(node, api)] == [3, 4]


async def test_a_node_that_stops_stores_what_waits(tmp_path: Path) -> None:
    async with run_node(tmp_path, LOGGING) as (_, api):
        await api.create_list()
        await api.publish("ncii", record(1))
        await api.post("/v1/lookup", md5_query(1))
    with reading(tmp_path / "alpha.example") as rows:
        assert rows.execute(text("SELECT count(*) FROM matches")).scalar() == 1


async def test_by_default_nothing_is_written_down(tmp_path: Path) -> None:
    async with run_node(tmp_path) as (node, api):
        assert node.foundation.match_log is None
        await api.create_list()
        await api.publish("ncii", record(1))
        await api.post("/v1/lookup", md5_query(1))
        assert (await api.get("/v1/matches")).json["matches"] == []
