"""A peer without a grant learns nothing; a stranger learns less."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node.store import peers as peer_store
from hashlight_protocol import encode_timestamp, origin_hash
from support.clock import START
from support.made_records import indicator

if TYPE_CHECKING:
    from support.federation import World

SECRET, ABSENT = "ncii", "none"  # Of one length, so that only their being differs.

PATHS = [
    "/hsf/v1/lists/{name}",
    "/hsf/v1/log/{name}/1/checkpoint",
    "/hsf/v1/log/{name}/1/tile/0/000.p/2",
    "/hsf/v1/log/{name}/1/tile/entries/000.p/2",
    "/hsf/v1/log/{name}/1/bodies/000.p/2",
    "/hsf/v1/log/{name}/1/receipt/1",
    "/hsf/v1/log/{name}/1/receipt/0",
    # Not even what does not exist is told apart.
    "/hsf/v1/log/{name}/2/checkpoint",
    "/hsf/v1/log/{name}/1/tile/0/000",
    "/hsf/v1/log/{name}/1/receipt/99",
]


async def publish(world: World) -> None:
    publisher = world.running.use_cases.publisher
    await publisher.create_list(SECRET, {})
    await publisher.publish(SECRET, [indicator(1)])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_no_such_list_and_not_granted_are_one_answer(
    world: World, method: str
) -> None:
    await publish(world)
    for path in PATHS:
        secret = await world.ask(path.format(name=SECRET), method=method)
        absent = await world.ask(path.format(name=ABSENT), method=method)
        assert (path, secret.status) == (path, 404)
        assert secret.said == absent.said
        if method == "GET":
            assert secret.problem == "unknown-log"
            assert SECRET.encode() not in secret.body


async def test_waiting_for_a_list_that_is_not_granted_ends_at_once(
    world: World,
) -> None:
    await publish(world)
    for name in (SECRET, ABSENT):
        answer = await world.ask(
            f"/hsf/v1/log/{name}/1/checkpoint",
            Prefer="wait=30",
            If_None_Match='"00000000000000000000000000000000"',
        )
        assert (answer.status, answer.problem) == (404, "unknown-log")


@pytest.mark.parametrize("part", ["witness", "mirror"])
async def test_other_nodes_logs_are_not_gossiped_about(world: World, part: str) -> None:
    await publish(world)
    answers = [
        await world.ask(f"/hsf/v1/{part}/{origin_hash(origin)}/checkpoint")
        for origin in (
            f"shield.example/hsf/v1/log/{SECRET}/1",
            f"shield.example/hsf/v1/log/{ABSENT}/1",
            "beta.example/hsf/v1/log/own/1",
        )
    ]
    assert {answer.status for answer in answers} == {404}
    assert answers[0].said == answers[1].said == answers[2].said


async def test_a_grant_for_one_list_opens_no_other(world: World) -> None:
    await publish(world)
    await world.running.use_cases.publisher.create_list("open", {})
    await world.running.use_cases.peering.grant("beta.example", "open")
    assert (await world.ask("/hsf/v1/lists/open")).status == 200
    secret = await world.ask(f"/hsf/v1/lists/{SECRET}")
    assert secret.said == (await world.ask(f"/hsf/v1/lists/{ABSENT}")).said


async def test_a_grant_taken_back_closes_the_list_again(world: World) -> None:
    await publish(world)
    peering = world.running.use_cases.peering
    await peering.grant("beta.example", SECRET)
    path = f"/hsf/v1/log/{SECRET}/1/checkpoint"
    assert (await world.ask(path)).status == 200
    await peering.revoke("beta.example", SECRET)
    absent = await world.ask(f"/hsf/v1/log/{ABSENT}/1/checkpoint")
    assert (await world.ask(path)).said == absent.said


async def test_a_peer_sees_its_own_grants_only(world: World) -> None:
    await publish(world)
    empty = await world.ask("/hsf/v1/grants")
    assert empty.json() == {"version": 0, "grants": []}
    await world.running.use_cases.peering.grant("beta.example", SECRET)
    other = await world.pinned(world.stranger)
    database = world.running.foundation.database
    await database.write(
        lambda conn: peer_store.insert_grant(conn, other.peer_id, SECRET, 1)
    )
    mine = await world.ask("/hsf/v1/grants")
    assert mine.json() == {
        "version": 1,
        "grants": [
            {
                "list": SECRET,
                "id": f"shield.example/hsf/v1/log/{SECRET}",
                "granted": encode_timestamp(START),
            }
        ],
    }
    assert mine.headers["Cache-Control"] == "private, no-store"


async def test_strangers_get_one_answer_for_every_path(world: World) -> None:
    await publish(world)
    signed, unsigned = [], []
    for path in (*PATHS, "/hsf/v1/grants", "/hsf/v1/nothing", "/"):
        for name in (SECRET, ABSENT):
            target = path.format(name=name)
            headers = world.stranger.headers("GET", target)
            signed.append((await world.send("GET", target, headers)).said)
            unsigned.append((await world.send("GET", target)).said)
    assert {status for status, _, _ in signed + unsigned} == {403}
    assert all(said == signed[0] for said in signed)
    assert all(said == unsigned[0] for said in unsigned)
