"""Who has what: deliveries, signed notes, reports of erasures, alerts, metrics."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from hashlight_node.api.local.paging import encode_cursor
from hashlight_node.store import peers
from hashlight_protocol import (
    open_checkpoint,
    parse_vkey,
    verify_cosignature,
)
from support.clock import START, ManualClock
from support.local_api import record_path
from support.made_records import indicator
from support.peer_simulator import PeerSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hashlight_node.app import RunningNode
    from support.local_api import Json, LocalApi

DELIVERIES = "/v1/lists/ncii/deliveries"
DAY = 86_400


@pytest_asyncio.fixture
async def shield(api: LocalApi, node: RunningNode) -> AsyncIterator[PeerSimulator]:
    """Run a peer that may fetch the node's list."""
    clock = clock_of(node)
    async with PeerSimulator("shield.example", clock).running() as simulator:
        await api.create_list()
        await api.post("/v1/peers", {"base": simulator.base, "vkey": simulator.vkey})
        await api.post("/v1/grants", {"peer": "shield.example", "list": "ncii"})
        yield simulator


def clock_of(node: RunningNode) -> ManualClock:
    clock = node.foundation.clock
    assert isinstance(clock, ManualClock)
    return clock


async def acknowledge(api: LocalApi, node: RunningNode, shield: PeerSimulator) -> None:
    listed = (await api.get("/v1/lists/ncii")).json
    shield.acknowledge(listed["checkpoint"].encode())
    pusher, database = node.use_cases.pusher, node.foundation.database
    peer = await database.read(lambda conn: peers.find_peer(conn, shield.name))
    assert peer is not None
    await pusher.push(listed["origin"])
    await pusher.collect_acknowledgement(listed["origin"], peer, wait_seconds=0)


async def publish(api: LocalApi, number: int) -> str:
    (ref,) = await api.publish("ncii", json.loads(indicator(number)))
    return ref


async def test_a_list_shows_who_has_it_and_who_lags(
    api: LocalApi, node: RunningNode, shield: PeerSimulator
) -> None:
    ref = await publish(api, 1)
    await acknowledge(api, node, shield)
    shield.mirrored.clear()
    await api.post("/v1/lists/ncii/retract", {"ref": ref, "reason": "expired"})
    clock_of(node).advance(5)
    (row,) = (await api.get(DELIVERIES)).json["deliveries"]
    assert (row["peer"], row["via"], row["is_granted"]) == (
        "shield.example",
        None,
        True,
    )
    assert row["applied"]["tree_size"] == 2
    assert (row["lag_records"], row["lag_seconds"]) == (1, 5)
    assert row["heartbeat_at"] is not None
    assert row["unacknowledged"] == {
        "entry": ref[:-1] + "2",
        "kind": "retract",
        "age_seconds": 5,
    }
    status = (await api.get("/v1/status")).json
    (peer,) = status["peers"]
    assert peer["lists"] == [row]
    assert (status["behind_relays"], status["alerts"]) == ([], [])
    assert status["lists"][0]["freshness"] == "fresh"


async def test_signed_notes_come_in_pages_and_prove_themselves(
    api: LocalApi, node: RunningNode, shield: PeerSimulator
) -> None:
    for number in range(3):
        await publish(api, number)
        clock_of(node).advance(60)
        await acknowledge(api, node, shield)
    rows: list[Json] = []
    path = f"{DELIVERIES}/shield.example?limit=2"
    cursor = None
    while True:
        answer = await api.get(path + (f"&cursor={cursor}" if cursor else ""))
        assert answer.json["origin"] == "alpha.example/hsf/v1/log/ncii/1"
        assert len(answer.json["notes"]) <= 2
        rows += answer.json["notes"]
        cursor = answer.json["next_cursor"]
        if cursor is None:
            break
    everything = (await api.get(f"{DELIVERIES}/shield.example")).json
    assert (everything["notes"], everything["next_cursor"]) == (rows, None)
    assert rows == sorted(rows, key=lambda row: row["at"], reverse=True)
    assert {row["kind"] for row in rows} == {"delivered", "applied"}
    applied = [row["tree_size"] for row in rows if row["kind"] == "applied"]
    assert applied == [4, 3, 2]
    log_key = parse_vkey((await api.get("/v1/lists/ncii")).json["vkey"])
    for row in rows:
        note = row["note"].encode()
        signed = open_checkpoint(note, [log_key], origin=log_key.name)
        assert signed.head.tree_size == row["tree_size"]
        assert verify_cosignature(note, parse_vkey(row["cosigner"])) >= START


@pytest.mark.parametrize(
    "after", ["x", "1-2", "1-2-erased", "1-2-applied ", f"{'9' * 30}-1-applied"]
)
async def test_a_cursor_that_is_none_of_ours_is_refused(
    api: LocalApi, shield: PeerSimulator, after: str
) -> None:
    cursor = encode_cursor("notes", after)
    reply = await api.get(f"{DELIVERIES}/{shield.name}?cursor={cursor}")
    assert (reply.status, reply.code) == (400, "invalid-parameter")


async def test_only_lists_and_peers_that_there_are_have_deliveries(
    api: LocalApi, shield: PeerSimulator
) -> None:
    assert (await api.get("/v1/lists/other/deliveries")).code == "unknown-list"
    reply = await api.get(f"/v1/lists/other/deliveries/{shield.name}")
    assert reply.code == "unknown-list"
    assert (await api.get(f"{DELIVERIES}/x.example")).code == "unknown-peer"


@pytest.mark.parametrize("verb", ["retract", "erase"])
async def test_whoever_withdraws_is_told_who_has_the_record(
    api: LocalApi, node: RunningNode, shield: PeerSimulator, verb: str
) -> None:
    ref = await publish(api, 1)
    body = {"ref": ref, "reason": "withdrawn"}
    done = await api.post(f"/v1/lists/ncii/{verb}", body)
    assert (done.status, done.json["is_complete"]) == (201, False)
    (row,) = done.json["peers"]
    assert (row["peer"], row["state"], row["missing_seconds"]) == (
        "shield.example",
        "missing",
        0,
    )
    await acknowledge(api, node, shield)
    again = (await api.post(f"/v1/lists/ncii/{verb}", body)).json
    assert (again["ref"], again["is_complete"]) == (done.json["ref"], True)
    (row,) = again["peers"]
    assert (row["state"], row["missing_seconds"]) == ("acknowledged", None)
    assert (row["retraction"] is None) is (verb == "erase")
    report = (await api.get(record_path(ref, "erasure"))).json
    assert report["peers"] == again["peers"]
    entry = report["erased_by" if verb == "erase" else "retracted_by"]
    assert entry == done.json["ref"]
    mirror = parse_vkey(row["cosigner"])
    assert verify_cosignature(row["note"].encode(), mirror) >= START


async def test_an_old_withdrawal_is_an_alert_and_a_metric(
    api: LocalApi, node: RunningNode, shield: PeerSimulator
) -> None:
    ref = await publish(api, 1)
    await acknowledge(api, node, shield)
    shield.mirrored.clear()
    await api.post("/v1/lists/ncii/erase", {"ref": ref})
    clock_of(node).advance(DAY + 1)
    (alert,) = (await api.get("/v1/status")).json["alerts"]
    assert (alert["severity"], alert["code"], alert["peer"], alert["list"]) == (
        "error",
        "withdrawal-unacknowledged",
        "shield.example",
        "ncii",
    )
    assert alert["age_seconds"] == DAY + 1
    text = (await api.get("/metrics")).content.decode()
    labels = '{list="ncii",peer="shield.example"}'
    assert f"hashlight_unacknowledged_withdrawal_seconds{labels} 86401.0" in text
    assert f"hashlight_delivery_lag_seconds{labels} 86401.0" in text
    assert "hashlight_copy_freshness{" not in text


async def test_the_freshness_of_a_copy_is_a_metric_while_it_is_followed(
    api: LocalApi, node: RunningNode, shield: PeerSimulator
) -> None:
    shield.create_list("theirs").publish([indicator(1)])
    await api.post("/v1/follows", {"peer": "shield.example", "list": "theirs"})
    await api.post("/v1/sync", {"peer": "shield.example", "list": "theirs"})
    shield.tamper("checkpoint", lambda answer: replace(answer, status=503))
    labels = '{list="theirs",peer="shield.example"}'
    for passed_seconds, step in ((0, 0), (DAY + 1, 1), (7 * DAY, 2), (30 * DAY, 3)):
        clock_of(node).advance(passed_seconds)
        text = (await api.get("/metrics")).content.decode()
        assert f"hashlight_copy_freshness{labels} {step}.0" in text
    await api.delete("/v1/follows/shield.example/theirs")
    text = (await api.get("/metrics")).content.decode()
    assert "hashlight_copy_freshness{" not in text
