from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest_asyncio
from aiohttp import web

from support.clock import ManualClock
from support.local_api import Json, LocalApi, names_of, record_path
from support.log_simulator import spoiled
from support.made_records import indicator, indicators, md5_of
from support.peer_simulator import PeerSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hashlight_node.app import RunningNode


@pytest_asyncio.fixture
async def shield() -> AsyncIterator[PeerSimulator]:
    """Give another company's node."""
    simulator = PeerSimulator("shield.example", ManualClock())
    async with simulator.running():
        yield simulator


async def add(api: LocalApi, peer: PeerSimulator) -> None:
    reply = await api.post("/v1/peers", {"base": peer.base, "vkey": peer.vkey})
    assert reply.status == 201, reply


async def test_a_peer_is_pinned_shown_and_listed(
    api: LocalApi, shield: PeerSimulator
) -> None:
    body = {"base": shield.base, "vkey": shield.vkey}
    made = await api.post("/v1/peers", body)
    assert made.json["name"] == "shield.example"
    assert (made.json["vkey"], made.json["state"]) == (shield.vkey, "active")
    shown = await api.get("/v1/peers/shield.example")
    assert shown.json["base"] == shield.base
    page = (await api.get("/v1/peers")).json
    assert names_of(page["peers"], "name") == ["shield.example"]


async def test_a_peer_that_is_not_there_or_not_itself_is_not_pinned(
    api: LocalApi, shield: PeerSimulator
) -> None:
    away = {"base": "http://127.0.0.1:1", "vkey": shield.vkey}
    reply = await api.post("/v1/peers", away)
    assert (reply.status, reply.code) == (503, "unavailable")
    other = PeerSimulator("other.example", shield.clock)
    wrong = {"base": shield.base, "vkey": other.vkey}
    reply = await api.post("/v1/peers", wrong)
    assert (reply.status, reply.code) == (424, "peer-misbehaved")
    assert (await api.get("/v1/peers")).json["peers"] == []


async def test_bases_and_keys_that_are_none_are_refused(
    api: LocalApi, shield: PeerSimulator
) -> None:
    for body in (
        {"base": "file:///etc/passwd", "vkey": shield.vkey},
        {"base": "http://user@127.0.0.1", "vkey": shield.vkey},
        {"base": shield.base, "vkey": "x"},
        {"base": shield.base, "vkey": shield.vkey[:-4] + "AAA="},
        {"base": "http://192.0.2.1", "vkey": shield.vkey},
        {"base": "http://127.0.0.1:99999", "vkey": shield.vkey},
    ):
        reply = await api.post("/v1/peers", body)
        assert reply.status in (400, 422), body
        assert reply.code in ("invalid-body", "bad-key", "malformed")


async def test_an_unknown_peer_is_not_found_by_any_operation(api: LocalApi) -> None:
    wish = {"peer": "no.example", "list": "ncii"}
    await api.create_list()
    for reply in (
        await api.get("/v1/peers/no.example"),
        await api.post("/v1/peers/no.example/quarantine", {}),
        await api.send("POST", "/v1/peers/no.example/release"),
        await api.post("/v1/grants", wish),
        await api.post("/v1/follows", wish),
        await api.delete("/v1/grants/no.example/ncii"),
        await api.delete("/v1/follows/no.example/ncii"),
        await api.post("/v1/sync", wish),
    ):
        assert (reply.status, reply.code) == (404, "unknown-peer")


async def test_a_quarantined_peer_can_be_released(
    api: LocalApi, shield: PeerSimulator
) -> None:
    await add(api, shield)
    reply = await api.post("/v1/peers/shield.example/quarantine", {})
    assert reply.json["state"] == "quarantined"
    reply = await api.send("POST", "/v1/peers/shield.example/release")
    assert reply.json["state"] == "active"


async def test_grants_are_made_listed_and_taken_back(
    api: LocalApi, shield: PeerSimulator
) -> None:
    await add(api, shield)
    wish = {"peer": "shield.example", "list": "ncii"}
    assert (await api.post("/v1/grants", wish)).code == "unknown-list"
    await api.create_list()
    made = await api.post("/v1/grants", wish)
    assert (made.status, made.json["peer"], made.json["list"]) == (
        201,
        "shield.example",
        "ncii",
    )
    assert (await api.get("/v1/grants")).json["grants"] == [made.json]
    assert (await api.delete("/v1/grants/shield.example/ncii")).status == 204
    assert (await api.get("/v1/grants")).json["grants"] == []


async def test_a_followed_list_is_copied_shown_and_found(
    api: LocalApi, shield: PeerSimulator
) -> None:
    log = shield.create_list("ncii")
    log.publish(indicators(3))
    await add(api, shield)
    wish = {"peer": "shield.example", "list": "ncii"}
    made = await api.post("/v1/follows", wish)
    assert made.status == 201
    synced = (await api.post("/v1/sync", wish)).json
    assert synced["errors"] == []
    assert synced["synced"][0]["new_size"] == 4
    (row,) = (await api.get("/v1/follows")).json["follows"]
    assert (row["state"], row["error"]) == ("active", None)
    shown = (await api.get("/v1/lists/shield.example%2Fncii")).json
    assert (shown["role"], shown["size"]) == ("followed", 4)
    assert shown["vkey"].startswith(log.origin)
    (match,) = await api.matches("md5", md5_of(1))
    assert match["records"][0]["origin_node"] == "shield.example"


async def test_what_cannot_be_pulled_is_told_list_by_list(
    api: LocalApi, shield: PeerSimulator
) -> None:
    shield.create_list("ncii")
    await add(api, shield)
    for name in ("ncii", "secret"):
        await api.post("/v1/follows", {"peer": "shield.example", "list": name})
    for body in ({}, {"peer": "shield.example"}):
        answer = (await api.post("/v1/sync", body)).json
        assert names_of(answer["synced"], "list") == ["ncii"]
        (error,) = answer["errors"]
        assert (error["peer"], error["list"]) == ("shield.example", "secret")
    assert (await api.send("POST", "/v1/sync")).status == 200
    answer = (await api.post("/v1/sync", {"list": "none"})).json
    assert answer == {"synced": [], "errors": []}
    assert (await api.post("/v1/sync", {"peer": "no.example"})).status == 404


async def test_a_followed_list_can_be_let_go(
    api: LocalApi, shield: PeerSimulator
) -> None:
    await add(api, shield)
    await api.post("/v1/follows", {"peer": "shield.example", "list": "ncii"})
    assert (await api.delete("/v1/follows/shield.example/ncii")).status == 204
    reply = await api.delete("/v1/follows/shield.example/ncii")
    assert (reply.status, reply.code) == (404, "unknown-follow")


async def test_evidence_of_a_lying_peer_is_listed_and_given_as_it_came(
    api: LocalApi, shield: PeerSimulator, node: RunningNode
) -> None:
    shield.create_list("ncii").publish(indicators(3))
    await add(api, shield)
    shield.tamper_body("entries", spoiled)
    wish = {"peer": "shield.example", "list": "ncii"}
    await api.post("/v1/follows", wish)
    await asyncio.sleep(0)
    reply = await api.post("/v1/sync", wish)
    assert reply.status in (409, 424)
    assert reply.code in ("peer-misbehaved", "follow-quarantined")
    (row,) = (await api.get("/v1/evidence")).json["evidence"]
    assert (row["peer"], row["list"]) == ("shield.example", "ncii")
    payload = await api.get(f"/v1/evidence/{row['id']}")
    assert payload.headers["Content-Type"] == "application/octet-stream"
    assert len(payload.content) == row["size_bytes"]
    assert (await api.get("/v1/evidence/999")).code == "not-found"
    assert node.jobs.done() is False


async def test_the_status_shows_lists_and_peers(
    api: LocalApi, shield: PeerSimulator
) -> None:
    shield.create_list("ncii").publish(indicators(2))
    await add(api, shield)
    await api.create_list("own")
    wish = {"peer": "shield.example", "list": "ncii"}
    await api.post("/v1/follows", wish)
    await api.post("/v1/sync", wish)
    status = (await api.get("/v1/status")).json
    assert status["node"] == "alpha.example"
    rows = {row["name"]: row for row in status["lists"]}
    assert (rows["own"]["role"], rows["own"]["lag_seconds"]) == ("own", 0)
    assert (rows["ncii"]["size"], rows["ncii"]["follow_state"]) == (3, "active")
    (peer,) = status["peers"]
    assert (peer["name"], peer["follows"]) == ("shield.example", ["ncii"])
    assert status["signals"] == {"pdq": 2, "md5": 2}


async def test_an_erasure_is_complete_once_every_peer_has_signed_for_it(
    api: LocalApi, shield: PeerSimulator, node: RunningNode
) -> None:
    await add(api, shield)
    made = await api.create_list()
    await api.post("/v1/grants", {"peer": "shield.example", "list": "ncii"})
    (ref,) = await api.publish("ncii", json.loads(indicator(1)))
    unerased = (await api.get(record_path(ref, "erasure"))).json
    assert (unerased["erased_by"], unerased["is_complete"]) == (None, False)
    await api.post("/v1/lists/ncii/erase", {"ref": ref})
    waiting = (await api.get(record_path(ref, "erasure"))).json
    assert (waiting["erased_by"], waiting["is_complete"]) == (ref[:-1] + "2", False)
    (row,) = waiting["peers"]
    assert (row["peer"], row["state"]) == ("shield.example", "missing")
    checkpoint = (await api.get("/v1/lists/ncii")).json["checkpoint"]
    shield.acknowledge(checkpoint.encode())
    await node.use_cases.pusher.push(made["origin"])
    (row,) = await until_acknowledged(api, ref)
    assert (row["tree_size"], row["is_granted"]) == (3, True)
    assert row["note"].startswith(checkpoint)


async def until_acknowledged(api: LocalApi, ref: str) -> list[Json]:
    for _ in range(200):
        answer = (await api.get(record_path(ref, "erasure"))).json
        if answer["is_complete"]:
            rows: list[Json] = answer["peers"]
            return rows
        await asyncio.sleep(0.05)
    raise AssertionError


async def test_a_peer_that_does_not_answer_is_told_among_the_errors(
    api: LocalApi, shield: PeerSimulator
) -> None:
    await add(api, shield)
    await api.post("/v1/follows", {"peer": "shield.example", "list": "ncii"})

    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    shield.create_list("ncii")
    shield.play("checkpoint", hang_up)
    answer = (await api.post("/v1/sync", {"list": "ncii"})).json
    (error,) = answer["errors"]
    assert (error["peer"], error["list"]) == ("shield.example", "ncii")
    reply = await api.post("/v1/sync", {"peer": "shield.example", "list": "ncii"})
    assert (reply.status, reply.code) == (503, "unavailable")


async def test_a_node_that_cannot_be_dialled_is_pinned_by_its_key(
    api: LocalApi, shield: PeerSimulator
) -> None:
    made = await api.post("/v1/pinned-peers", {"vkey": shield.vkey})
    assert made.status == 201, made
    assert (made.json["base"], made.json["is_dialable"]) == ("", False)
    note = shield.descriptor().decode()
    body = {"vkey": shield.vkey, "descriptor": note}
    made = await api.post("/v1/pinned-peers", body)
    assert (made.json["base"], made.json["is_dialable"]) == (shield.base, False)
    broken = {"vkey": shield.vkey, "descriptor": note.replace("version", "versiom")}
    reply = await api.post("/v1/pinned-peers", broken)
    assert (reply.status, reply.code) == (403, "bad-signature")
    await add(api, shield)
    assert (await api.get("/v1/peers/shield.example")).json["is_dialable"]
